/**
 * Lock value blocks: what the last holder at EX tells the next one, through the lock manager (dlmglue.h). Big-endian, in the
 * first bytes of the LVB's 64.
 */
import { hex64, reserved, struct, u8, u16, u32, u64, type ViewOf } from "../struct.ts";

export const OCFS2_LVB_VERSION = 5;
export const OCFS2_QINFO_LVB_VERSION = 1;
export const OCFS2_ORPHAN_LVB_VERSION = 1;
export const OCFS2_TRIMFS_LVB_VERSION = 1;

/** Packs a time as the LVB has room for it (ocfs2_pack_timespec). */
export const packTime = (sec: number, nsec: number): bigint =>
  (BigInt(Math.min(Math.max(sec, 0), 2 ** 34 - 1)) << 30n) | BigInt(nsec & 0x3fffffff);

/** Seconds and nanoseconds of a packed time (ocfs2_unpack_timespec). */
export const unpackTime = (packed: bigint): { sec: number; nsec: number } => ({
  sec: Number(packed >> 30n),
  nsec: Number(packed & 0x3fffffffn),
});

export const MetaLvb = struct("ocfs2_meta_lvb", 0x40, "be", {
  lvb_version: u8(0x00, "5; 0 after the inode was deleted"),
  lvb_reserved0: reserved(0x01, 1),
  lvb_idynfeatures: u16(0x02, "i_dyn_features"),
  lvb_iclusters: u32(0x04, "i_clusters"),
  lvb_iuid: u32(0x08, "i_uid"),
  lvb_igid: u32(0x0c, "i_gid"),
  lvb_iatime_packed: hex64(0x10, "i_atime: seconds in the upper 34 bits, nanoseconds in the lower 30"),
  lvb_ictime_packed: hex64(0x18, "i_ctime"),
  lvb_imtime_packed: hex64(0x20, "i_mtime"),
  lvb_isize: u64(0x28, "i_size"),
  lvb_imode: u16(0x30, "i_mode"),
  lvb_inlink: u16(0x32, "links, of which only 16 bits fit"),
  lvb_iattr: u32(0x34, "i_attr"),
  lvb_igeneration: u32(0x38, "i_generation: the LVB is void for another inode in the same block"),
  lvb_reserved2: reserved(0x3c, 4),
});
export type MetaLvb = ViewOf<typeof MetaLvb>;

export const QinfoLvb = struct("ocfs2_qinfo_lvb", 0x1c, "be", {
  lvb_version: u8(0x00, "1"),
  lvb_reserved: reserved(0x01, 3),
  lvb_bgrace: u32(0x04, "grace time for blocks, seconds"),
  lvb_igrace: u32(0x08, "grace time for inodes, seconds"),
  lvb_syncms: u32(0x0c, "interval of syncing usage to the global file, ms"),
  lvb_blocks: u32(0x10, "blocks of the global file"),
  lvb_free_blk: u32(0x14, "first free block"),
  lvb_free_entry: u32(0x18, "first block with a free entry"),
});
export type QinfoLvb = ViewOf<typeof QinfoLvb>;

export const OrphanScanLvb = struct("ocfs2_orphan_scan_lvb", 0x08, "be", {
  lvb_version: u8(0x00, "1"),
  lvb_reserved: reserved(0x01, 3),
  lvb_os_seqno: u32(0x04, "number of the last scan: it moved, so another node has scanned"),
});
export type OrphanScanLvb = ViewOf<typeof OrphanScanLvb>;

export const TrimFsLvb = struct("ocfs2_trim_fs_lvb", 0x28, "be", {
  lvb_version: u8(0x00, "1"),
  lvb_success: u8(0x01, "1: the trim that is described went well"),
  lvb_reserved: reserved(0x02, 2),
  lvb_nodenum: u32(0x04, "node that trimmed"),
  lvb_start: hex64(0x08, "first byte, as it was asked for"),
  lvb_len: hex64(0x10, "bytes, as they were asked for; all bits set for the whole volume"),
  lvb_minlen: hex64(0x18, "bytes: shorter free runs were left alone"),
  lvb_trimlen: hex64(0x20, "bytes that were trimmed"),
});
export type TrimFsLvb = ViewOf<typeof TrimFsLvb>;
