/** Directories: entries, the trailer that each block of an indexed or checksummed directory ends in, and the index. */
import { cstr, reserved, struct, sub, tail, u8, u16, u32, u64, union, type ViewOf } from "../struct.ts";
import { BlockCheck } from "./blockcheck.ts";
import { DX_FLAGS } from "./constants.ts";
import { ExtentList } from "./extent.ts";

/** Entries sit on 4-byte boundaries, so `inode` is not aligned in memory. C declares the name as 255 bytes. */
export const DirEntry = struct("ocfs2_dir_entry", 0x0c, "le", {
  inode: u64(0x00, "block number of the inode; 0: unused entry"),
  rec_len: u16(0x08, "bytes to the next entry"),
  name_len: u8(0x0a, "bytes of the name"),
  file_type: u8(0x0b, "FT"),
  name: tail(0x0c, "u8", "the name, not terminated", { used: "name_len" }),
});
export type DirEntry = ViewOf<typeof DirEntry>;

/** Looks like an unused entry to code that does not know it: the first fields mirror DirEntry. */
export const DirBlockTrailer = struct("ocfs2_dir_block_trailer", 0x40, "le", {
  db_compat_inode: u64(0x00, "always 0, as in an unused entry"),
  db_compat_rec_len: u16(0x08, "size of this trailer"),
  db_compat_name_len: u8(0x0a, "always 0"),
  db_reserved0: reserved(0x0b, 1),
  db_reserved1: reserved(0x0c, 2),
  db_free_rec_len: u16(0x0e, "largest hole in this block, in bytes"),
  db_signature: cstr(0x10, 8, "DIRTRL1"),
  db_reserved2: reserved(0x18, 8),
  db_free_next: u64(0x20, "block number of the next directory block with room, 0 at the end"),
  db_blkno: u64(0x28, "own block number"),
  db_parent_dinode: u64(0x30, "block number of the directory's inode"),
  db_check: sub(0x38, BlockCheck, "checksum of the block"),
});
export type DirBlockTrailer = ViewOf<typeof DirBlockTrailer>;

export const DxEntry = struct("ocfs2_dx_entry", 0x10, "le", {
  dx_major_hash: u32(0x00, "finds the cluster in the index"),
  dx_minor_hash: u32(0x04, "finds the block in the cluster"),
  dx_dirent_blk: u64(0x08, "block number of the directory block that has the entry"),
});
export type DxEntry = ViewOf<typeof DxEntry>;

export const DxEntryList = struct("ocfs2_dx_entry_list", 0x08, "le", {
  de_reserved: reserved(0x00, 4),
  de_count: u16(0x04, "entries there is room for"),
  de_num_used: u16(0x06, "entries in use"),
  de_entries: tail(0x08, DxEntry, "entries", { used: "de_num_used", cap: "de_count" }),
});
export type DxEntryList = ViewOf<typeof DxEntryList>;

export const DxRootBlock = struct("ocfs2_dx_root_block", 0xd0, "le", {
  dr_signature: cstr(0x00, 8, "DXDIR01"),
  dr_check: sub(0x08, BlockCheck, "checksum of the block"),
  dr_suballoc_slot: u16(0x10, "slot whose extent_alloc this block belongs to"),
  dr_suballoc_bit: u16(0x12, "bit offset in the suballocator's group"),
  dr_fs_generation: u32(0x14, "must match the super block's"),
  dr_blkno: u64(0x18, "own block number"),
  dr_last_eb_blk: u64(0x20, "block number of the last leaf extent block"),
  dr_clusters: u32(0x28, "clusters allocated to the index"),
  dr_flags: u8(0x2c, "flags", { flags: DX_FLAGS }),
  dr_reserved0: reserved(0x2d, 1),
  dr_reserved1: reserved(0x2e, 2),
  dr_dir_blkno: u64(0x30, "block number of the directory's inode"),
  dr_num_entries: u32(0x38, "names in the directory"),
  dr_reserved2: reserved(0x3c, 4),
  dr_free_blk: u64(0x40, "block number of the first directory block with room"),
  dr_suballoc_loc: u64(0x48, "suballocator group this block belongs to; only valid if that is discontiguous"),
  dr_reserved3: reserved(0x50, 112),
  ...union(
    "dr_body",
    {
      extents: { dr_list: sub(0xc0, ExtentList, "extents of the index's leaves") },
      inline: { dr_entries: sub(0xc0, DxEntryList, "the index itself, while it is small") },
    },
    (dr) => (dr["dr_flags"]! & DX_FLAGS.INLINE ? "inline" : "extents"),
  ),
});
export type DxRootBlock = ViewOf<typeof DxRootBlock>;

export const DxLeaf = struct("ocfs2_dx_leaf", 0x30, "le", {
  dl_signature: cstr(0x00, 8, "DXLEAF1"),
  dl_check: sub(0x08, BlockCheck, "checksum of the block"),
  dl_blkno: u64(0x10, "own block number"),
  dl_fs_generation: u32(0x18, "must match the super block's"),
  dl_reserved0: reserved(0x1c, 4),
  dl_reserved1: reserved(0x20, 8),
  dl_list: sub(0x28, DxEntryList, "entries"),
});
export type DxLeaf = ViewOf<typeof DxLeaf>;

/** The two words of a name's hash; only in memory, but the index is ordered by it. */
export const DxHinfo = struct("ocfs2_dx_hinfo", 0x08, "host", {
  major_hash: u32(0x00, "major hash"),
  minor_hash: u32(0x04, "minor hash"),
});
export type DxHinfo = ViewOf<typeof DxHinfo>;
