/** Quota files: the global ones with a radix tree of ids, and the per-slot ones with chunks of changes. */
import { reserved, s64, struct, sub, tail, u32, u64, type ViewOf } from "../struct.ts";
import { BlockCheck } from "./blockcheck.ts";
import { OLQF_FLAGS } from "./constants.ts";

export const DiskDqheader = struct("ocfs2_disk_dqheader", 0x08, "le", {
  dqh_magic: u32(0x00, "kind of quota file"),
  dqh_version: u32(0x04, "format version, 0"),
});
export type DiskDqheader = ViewOf<typeof DiskDqheader>;

export const GlobalDiskDqinfo = struct("ocfs2_global_disk_dqinfo", 0x18, "le", {
  dqi_bgrace: u32(0x00, "seconds that the space soft limit may be exceeded"),
  dqi_igrace: u32(0x04, "seconds that the inode soft limit may be exceeded"),
  dqi_syncms: u32(0x08, "ms after which local changes are written to the global file"),
  dqi_blocks: u32(0x0c, "blocks of the quota file"),
  dqi_free_blk: u32(0x10, "first free block of the file"),
  dqi_free_entry: u32(0x14, "first block with a free entry"),
});
export type GlobalDiskDqinfo = ViewOf<typeof GlobalDiskDqinfo>;

export const GlobalDiskDqblk = struct("ocfs2_global_disk_dqblk", 0x58, "le", {
  dqb_id: u32(0x00, "uid or gid"),
  dqb_use_count: u32(0x04, "nodes that have changes for this id"),
  dqb_ihardlimit: u64(0x08, "absolute limit of inodes"),
  dqb_isoftlimit: u64(0x10, "preferred limit of inodes"),
  dqb_curinodes: u64(0x18, "inodes in use"),
  dqb_bhardlimit: u64(0x20, "absolute limit of space, in bytes"),
  dqb_bsoftlimit: u64(0x28, "preferred limit of space, in bytes"),
  dqb_curspace: u64(0x30, "space in use, in bytes"),
  dqb_btime: u64(0x38, "when the space soft limit becomes hard"),
  dqb_itime: u64(0x40, "when the inode soft limit becomes hard"),
  dqb_pad1: reserved(0x48, 8),
  dqb_pad2: reserved(0x50, 8),
});
export type GlobalDiskDqblk = ViewOf<typeof GlobalDiskDqblk>;

export const LocalDiskDqinfo = struct("ocfs2_local_disk_dqinfo", 0x0c, "le", {
  dqi_flags: u32(0x00, "state", { flags: OLQF_FLAGS }),
  dqi_chunks: u32(0x04, "chunks in the file"),
  dqi_blocks: u32(0x08, "blocks of the file"),
});
export type LocalDiskDqinfo = ViewOf<typeof LocalDiskDqinfo>;

export const LocalDiskChunk = struct("ocfs2_local_disk_chunk", 0x04, "le", {
  dqc_free: u32(0x00, "free entries in the chunk"),
  dqc_bitmap: tail(0x04, "u8", "one bit per entry; up to the block's last 8 bytes"),
});
export type LocalDiskChunk = ViewOf<typeof LocalDiskChunk>;

export const LocalDiskDqblk = struct("ocfs2_local_disk_dqblk", 0x18, "le", {
  dqb_id: u64(0x00, "uid or gid"),
  dqb_spacemod: s64(0x08, "change of the space in use, in bytes; may be negative"),
  dqb_inodemod: s64(0x10, "change of the inodes in use; may be negative"),
});
export type LocalDiskDqblk = ViewOf<typeof LocalDiskDqblk>;

/** Ends every block of a quota file. */
export const DiskDqtrailer = struct("ocfs2_disk_dqtrailer", 0x08, "le", {
  dq_check: sub(0x00, BlockCheck, "checksum of the block"),
});
export type DiskDqtrailer = ViewOf<typeof DiskDqtrailer>;
