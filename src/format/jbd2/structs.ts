/** The journal's structures, all big-endian. Mirrors include/linux/jbd2.h. */
import { array, bytes, reserved, s32, struct, sub, tail, u8, u16, u32, u64, type ViewOf } from "../struct.ts";
import { JBD2_CHECKSUM_BYTES, JBD2_FEATURE_COMPAT, JBD2_FEATURE_INCOMPAT, JBD2_TAG_FLAGS } from "./constants.ts";

/** Heads every block of the log that is not a copy of a file system block. */
export const JournalHeader = struct("journal_header_s", 0x0c, "be", {
  h_magic: u32(0x00, "JBD2_MAGIC_NUMBER"),
  h_blocktype: u32(0x04, "descriptor, commit, super block or revoke"),
  h_sequence: u32(0x08, "number of the transaction"),
});
export type JournalHeader = ViewOf<typeof JournalHeader>;

export const CommitHeader = struct("commit_header", 0x40, "be", {
  h_magic: u32(0x00, "JBD2_MAGIC_NUMBER"),
  h_blocktype: u32(0x04, "JBD2_COMMIT_BLOCK"),
  h_sequence: u32(0x08, "number of the transaction"),
  h_chksum_type: u8(0x0c, "kind of the checksum, with the CHECKSUM feature"),
  h_chksum_size: u8(0x0d, "its size in bytes"),
  h_padding: reserved(0x0e, 2),
  h_chksum: array(0x10, "u32", JBD2_CHECKSUM_BYTES, "checksums; with csum v2 and v3 only the first word"),
  h_commit_sec: u64(0x30, "time of the commit, seconds"),
  h_commit_nsec: u32(0x38, "nanoseconds"),
  _pad: reserved(0x3c, 4, "the compiler's"),
});
export type CommitHeader = ViewOf<typeof CommitHeader>;

/** A tag with csum v3. */
export const JournalBlockTag3 = struct("journal_block_tag3_s", 0x10, "be", {
  t_blocknr: u32(0x00, "where the block belongs, low word"),
  t_flags: u32(0x04, "flags", { flags: JBD2_TAG_FLAGS }),
  t_blocknr_high: u32(0x08, "high word, with the 64BIT feature"),
  t_checksum: u32(0x0c, "crc32c of uuid, sequence and block"),
});
export type JournalBlockTag3 = ViewOf<typeof JournalBlockTag3>;

/** A tag without csum v3; how much of it is in the log is tagBytes()'s knowledge, not this size. */
export const JournalBlockTag = struct("journal_block_tag_s", 0x0c, "be", {
  t_blocknr: u32(0x00, "where the block belongs, low word"),
  t_checksum: u16(0x04, "low half of the crc32c, with csum v2"),
  t_flags: u16(0x06, "flags", { flags: JBD2_TAG_FLAGS }),
  t_blocknr_high: u32(0x08, "high word, with the 64BIT feature"),
});
export type JournalBlockTag = ViewOf<typeof JournalBlockTag>;

/** Ends descriptor and revoke blocks with csum v2 and v3. */
export const JournalBlockTail = struct("jbd2_journal_block_tail", 0x04, "be", {
  t_checksum: u32(0x00, "crc32c of uuid and block"),
});
export type JournalBlockTail = ViewOf<typeof JournalBlockTail>;

export const JournalRevokeHeader = struct("jbd2_journal_revoke_header_s", 0x10, "be", {
  r_header: sub(0x00, JournalHeader, "type is JBD2_REVOKE_BLOCK"),
  r_count: u32(0x0c, "bytes used in the block, this header included"),
});
export type JournalRevokeHeader = ViewOf<typeof JournalRevokeHeader>;

export const JournalSuperblock = struct("journal_superblock_s", 0x400, "be", {
  s_header: sub(0x00, JournalHeader, "type is JBD2_SUPERBLOCK_V1 or V2"),
  s_blocksize: u32(0x0c, "block size, in bytes"),
  s_maxlen: u32(0x10, "blocks of the journal"),
  s_first: u32(0x14, "first block of the log"),
  s_sequence: u32(0x18, "first transaction expected in the log"),
  s_start: u32(0x1c, "block where the log starts, 0: nothing to replay"),
  s_errno: s32(0x20, "error that aborted the journal, negative"),
  s_feature_compat: u32(0x24, "features, only in version 2", { flags: JBD2_FEATURE_COMPAT }),
  s_feature_incompat: u32(0x28, "features that must be known", { flags: JBD2_FEATURE_INCOMPAT }),
  s_feature_ro_compat: u32(0x2c, "features that must be known for writing"),
  s_uuid: bytes(0x30, 16, "uuid of the journal"),
  s_nr_users: u32(0x40, "file systems that share the log"),
  s_dynsuper: u32(0x44, "block of the dynamic super block copy, unused"),
  s_max_transaction: u32(0x48, "limit of blocks per transaction, unused"),
  s_max_trans_data: u32(0x4c, "limit of data blocks per transaction, unused"),
  s_checksum_type: u8(0x50, "kind of the checksum"),
  s_padding2: reserved(0x51, 3),
  s_num_fc_blks: u32(0x54, "fast commit blocks"),
  s_padding: reserved(0x58, 164, "its first word is s_head in Linux 6.3 and newer"),
  s_checksum: u32(0xfc, "crc32c of the super block with this field zeroed"),
  s_users: bytes(0x100, 768, "uuids of the file systems that share the log"),
});
export type JournalSuperblock = ViewOf<typeof JournalSuperblock>;

/** Entries of a revoke block, 4 bytes each without the 64BIT feature. */
export const RevokeRecords32 = struct("revoke_records32", 0x00, "be", {
  blocknr: tail(0x00, "u32", "revoked block numbers"),
});
/** The same with the 64BIT feature. */
export const RevokeRecords64 = struct("revoke_records64", 0x00, "be", {
  blocknr: tail(0x00, "u64", "revoked block numbers"),
});
