/**
 * What stat(2) says of an inode, and the small changes to a dinode that all namespace operations share: link counts and
 * timestamps (ocfs2_getattr, ocfs2_refresh_inode, ocfs2_set_links_count).
 */
import {
  type Dinode,
  DYN_FEATURES,
  FEATURE_INCOMPAT,
  I_ATTR,
  isBlk,
  isChr,
  isDir,
  isLnk,
  OCFS2_DX_LINK_MAX,
  OCFS2_FL_VISIBLE,
  OCFS2_LINK_MAX,
  OCFS2_LINKS_HI_SHIFT,
  S_ISGID,
  S_ISUID,
  S_IXGRP,
} from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, FsError } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode, inodeLock, inodeLockOnly } from "../inode.ts";
import { attrFromLvb, timesFromLvb } from "../meta_lvb.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

/** An inode's attributes. Times are seconds since 1970 and nanoseconds; `blocks` counts 512 bytes. */
export interface Attr {
  ino: number;
  generation: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  blocks: number;
  blksize: number;
  atime: number;
  atime_nsec: number;
  mtime: number;
  mtime_nsec: number;
  ctime: number;
  ctime_nsec: number;
  /** chattr's flags, FS_*_FL. */
  flags: number;
}

const SECTOR_BITS = 9;

/** What st_blocks and st_blksize say (ocfs2_inode_sector_count). */
function spaceOf(
  osb: Osb,
  f: { mode: number; size: number; clusters: number; dyn_features: number },
): Pick<Attr, "blocks" | "blksize"> {
  const inline = (f.dyn_features & DYN_FEATURES.INLINE_DATA) !== 0;
  let blocks = f.clusters * (osb.geo.clustersize >> SECTOR_BITS);
  // Data in the inode takes no cluster; tools take a file without blocks for a hole.
  if (inline) blocks += Math.ceil(f.size / 512);
  return { blocks: isLnk(f.mode) && f.clusters === 0 ? 0 : blocks, blksize: osb.geo.clustersize };
}

/** FIFO, character device, folder, block device, file, symlink, socket: what S_IFMT may hold. */
const TYPES: ReadonlySet<number> = new Set([1, 2, 4, 6, 8, 10, 12]);
const TYPE_BITS = 12;

/**
 * An answer with others the kernel refuses with EIO (fuse_invalid_attr), and never forgets the lookup that was counted for it: a lock that is called off would
 * wait for ever for the inode to be there or forgotten (fuse/kernel_caches.ts).
 */
function checked(attr: Attr): Attr {
  const { ino, mode, size } = attr;
  // No file of OCFS2 is longer than a number holds exactly.
  if (!TYPES.has(mode >> TYPE_BITS) || !Number.isSafeInteger(size))
    throw new Corruption("inode.attr", { blkno: ino, i_mode: mode, i_size: size });
  return attr;
}

/** Seconds of a time that somebody has set. Those beyond what a number holds exactly, in 285 million years, are cut there. */
export const secondsOf = (sec: number): number =>
  Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, sec));

/** Reads the attributes out of a dinode whose lock is held. Throws Corruption. */
export function attrOf(osb: Osb, di: Dinode): Attr {
  const { i_mode: mode, i_size: size, i_clusters: clusters, i_dyn_features: dyn_features } = di;
  const inode = osb.glue.domain.clustered ? osb.inodes.peek(di.i_blkno) : undefined;
  return checked({
    ino: di.i_blkno,
    generation: di.i_generation,
    mode,
    nlink: linksOf(di),
    uid: di.i_uid,
    gid: di.i_gid,
    // huge_decode_dev takes no more.
    rdev: isChr(mode) || isBlk(mode) ? di.i_rdev >>> 0 : 0,
    size,
    ...spaceOf(osb, { mode, size, clusters, dyn_features }),
    atime: secondsOf(di.i_atime),
    atime_nsec: di.i_atime_nsec,
    mtime: secondsOf(di.i_mtime),
    mtime_nsec: di.i_mtime_nsec,
    ctime: secondsOf(di.i_ctime),
    ctime_nsec: di.i_ctime_nsec,
    ...(inode && timesFromLvb(inode)),
    flags: di.i_attr & OCFS2_FL_VISIBLE,
  });
}

/** The attributes of an inode, under its lock at PR (ocfs2_getattr). Throws Wait, ESTALE. */
export function getattr(op: Op, inode: Inode): Attr {
  const { osb } = op;
  if (osb.glue.domain.clustered) {
    inodeLockOnly(op, inode);
    const attr = attrFromLvb(osb, inode, (f) => spaceOf(osb, f), OCFS2_FL_VISIBLE);
    if (attr !== undefined) return checked(attr);
  }
  return attrOf(op.osb, dinodeOf(op, inodeLock(op, inode)));
}

/** Links; the upper half counts only for indexed directories (ocfs2_read_links_count). */
export function linksOf(di: Dinode): number {
  const hi = di.i_dyn_features & DYN_FEATURES.INDEXED_DIR ? di.i_links_count_hi : 0;
  return di.i_links_count + hi * 2 ** OCFS2_LINKS_HI_SHIFT;
}

/** ocfs2_set_links_count; the dinode is in the operation. */
export function setLinks(di: Dinode, links: number): void {
  di.i_links_count = links & 0xffff;
  di.i_links_count_hi = links >>> OCFS2_LINKS_HI_SHIFT;
}

/** Throws Corruption where a count would fall below zero. */
export function addLinks(di: Dinode, n: number): void {
  const links = linksOf(di) + n;
  if (links < 0) throw new Corruption("namei.links", { ino: di.i_blkno, nlink: linksOf(di), found: "too few links" });
  setLinks(di, links);
}

/**
 * The most links that the inode may have. The kernel's ocfs2_link_max lets every inode of a volume with indexed
 * directories go beyond 16 bits, but reads the upper bits back for indexed directories only: others would come to 0.
 */
export function linkMax(osb: Osb, di: Dinode): number {
  if (!osb.incompat(FEATURE_INCOMPAT.INDEXED_DIRS)) return OCFS2_LINK_MAX;
  return di.i_dyn_features & DYN_FEATURES.INDEXED_DIR ? OCFS2_DX_LINK_MAX : 0xffff;
}

/** Throws EMLINK when one link more would be too many. */
export function checkLinkRoom(osb: Osb, di: Dinode): void {
  if (linksOf(di) >= linkMax(osb, di))
    throw new FsError(Errno.EMLINK, "namei.links", { ino: di.i_blkno, nlink: linksOf(di) });
}

/** Sets ctime, and mtime with `modified`, to the operation's time. */
export function stamp(op: Op, di: Dinode, modified: boolean): void {
  const { sec, nsec } = op.now;
  di.i_ctime = sec;
  di.i_ctime_nsec = nsec;
  if (modified) {
    di.i_mtime = sec;
    di.i_mtime_nsec = nsec;
  }
}

/** Whether who makes a change is in a group, or may give setgid of any (in_group_or_capable). */
export type InGroup = (gid: number) => boolean;

/** What is left of a mode when somebody without CAP_FSETID changes the contents, or anybody the owner (setattr_should_drop_suidgid). */
export function withoutSuid(mode: number, gid: number, inGroup: InGroup): number {
  if (isDir(mode)) return mode;
  const keeps_sgid = (mode & (S_ISGID | S_IXGRP)) === S_ISGID && inGroup(gid);
  return mode & ~(keeps_sgid ? S_ISUID : S_ISUID | S_ISGID);
}

const attrIs = (di: Dinode, flags: number): boolean => (di.i_attr & flags) !== 0;

/** Throws EPERM for an immutable inode; with `removes`, for an append-only one too. */
export function checkMayChange(di: Dinode, removes: boolean): void {
  if (attrIs(di, I_ATTR.IMMUTABLE) || (removes && attrIs(di, I_ATTR.APPEND)))
    throw new FsError(Errno.EPERM, "namei.attr", { ino: di.i_blkno, i_attr: di.i_attr });
}

/** True when reading the inode ought to move its atime: atime_quantum seconds have passed since (ocfs2_should_update_atime). */
export function atimeIsDue(op: Op, di: Dinode): boolean {
  const { noatime, atime_quantum_s } = op.osb.options;
  if (noatime || op.osb.readonly_reason !== null || attrIs(di, I_ATTR.NOATIME)) return false;
  return op.now.sec - di.i_atime > atime_quantum_s;
}

/** Sets atime to the operation's time, under the lock at EX: an operation of its own (ocfs2_update_inode_atime). */
export function touchAtime(op: Op, inode: Inode): void {
  const bh = inodeLock(op, inode, true);
  const di = dinodeOf(op, bh);
  if (!atimeIsDue(op, di)) return;
  op.modify(bh);
  di.i_atime = op.now.sec;
  di.i_atime_nsec = op.now.nsec;
}
