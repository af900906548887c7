/**
 * What reads, writes and truncation of file data share: the counting of I/O that goes straight between the disk and a
 * request, limits, and the state of a file's head (aops.c, file.c).
 */
import { PAGE_BYTES } from "../../block/data_cache.ts";
import { type Dinode, DYN_FEATURES, I_ATTR, isReg, maxInlineDataWithXattr } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, FsError } from "../../lib/fs_error.ts";
import { waitOn } from "../../lib/wait.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

/** A stretch of a request that lies contiguously on the disk. */
export interface IoRun {
  readonly addr: number;
  len: number;
  readonly offset: number;
}

/** Adds a stretch to the list, joined to the last one where both memory and disk go on. */
export function pushRun(runs: IoRun[], addr: number, len: number, offset: number): void {
  const last = runs[runs.length - 1];
  if (last !== undefined && last.addr + last.len === addr && last.offset + last.len === offset) last.len += len;
  else runs.push({ addr, len, offset });
}

/** I/O past the data cache begins: truncation and freeing wait until `ioEnded` (inode_dio_begin). */
export function ioStarted(inode: Inode): void {
  inode.io_in_flight++;
}

export function ioEnded(inode: Inode): void {
  if (--inode.io_in_flight === 0) inode.io_idle.wakeAll();
}

/** Throws Wait while such I/O is in flight; before clusters of the file are freed or replaced (inode_dio_wait). */
export function waitIoIdle(inode: Inode): void {
  if (inode.io_in_flight > 0) waitOn(inode.io_idle);
}

export const isInline = (di: Dinode): boolean => (di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0;

/** Largest file: one cluster less than 32 bits can name, or the end of the last extent would be 0 (ocfs2_max_file_offset). */
export function maxFileBytes(osb: Osb): number {
  return (2 ** 32 - 1) * osb.geo.clustersize;
}

/** The page number on the disk of a byte offset. */
export const pnoOf = (disk_offset: number): number => Math.floor(disk_offset / PAGE_BYTES);

/** Byte offset on the disk of a cluster. */
export const clusterOffset = (osb: Osb, p_cluster: number): number => p_cluster * osb.geo.clustersize;

/** Refuses to change files that chattr made immutable or append-only, and what is not a regular file. */
export function checkChangeable(inode: Inode, di: Dinode): void {
  if (!isReg(di.i_mode)) throw new FsError(Errno.EINVAL, "file.change", { ino: inode.ino, mode: di.i_mode });
  if ((di.i_attr & (I_ATTR.IMMUTABLE | I_ATTR.APPEND)) !== 0)
    throw new FsError(Errno.EPERM, "file.change", { ino: inode.ino, attr: di.i_attr });
}

/** mtime and ctime of a change of contents. */
export function touch(op: Op, di: Dinode): void {
  const { sec, nsec } = op.now;
  di.i_mtime = sec;
  di.i_mtime_nsec = nsec;
  di.i_ctime = sec;
  di.i_ctime_nsec = nsec;
}

/** Where inline data lies, and how much fits. Throws Corruption for more than the dinode's block has room for (ocfs2_read_inline_data). */
export function inlineRoom(osb: Osb, di: Dinode): { addr: number; bytes: number } {
  const { id_count: bytes } = di.i_data;
  if (bytes > maxInlineDataWithXattr(osb.geo.blocksize, di) || di.i_size > bytes)
    throw new Corruption("file.inline", { ino: di.i_blkno, i_size: di.i_size, id_count: bytes });
  return { addr: di.i_data.id_data_off(0), bytes };
}

/** True when the file's data is in its dinode and still fits there up to `end`. */
export const staysInline = (osb: Osb, di: Dinode, end: number): boolean =>
  isInline(di) && end <= inlineRoom(osb, di).bytes;
