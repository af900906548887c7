/**
 * From a block number in a directory to an inode, and a new inode from nothing (ocfs2_iget, ocfs2_get_init_inode,
 * __ocfs2_mknod_locked).
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { EX, type LockRes } from "../../dlmglue/lock_res.ts";
import {
  type Dinode,
  DYN_FEATURES,
  extentRecsPerInode,
  FEATURE_INCOMPAT,
  I_FLAGS,
  isBlk,
  isChr,
  isDir,
  maxInlineDataWithXattr,
  OCFS2_INODE_SIGNATURE,
  S_ISGID,
} from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, FsError } from "../../lib/fs_error.ts";
import { claimInode } from "../alloc/suballoc.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock, openLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { linksOf, setLinks } from "./attr.ts";

/** Who asks: owner of what is made. `umask` takes effect where no default ACL does. */
export interface Cred {
  readonly uid: number;
  readonly gid: number;
  readonly umask: number;
}

/** An inode under its lock, within one run. */
export interface Locked {
  readonly inode: Inode;
  readonly di_bh: Bh;
  readonly di: Dinode;
}

/** Somebody works on the file that it stands for. Who only looks whether it was left to us takes what he finds: it may be the next one in its block. */
const inUse = (inode: Inode): boolean => inode.inUse || inode.task_count > inode.look_count;

/**
 * The inode that an entry of a locked directory leads to, locked. An inode that we knew under another generation was
 * deleted and its block used again by another node since; without users here, it simply becomes the new one.
 */
export function iget(op: Op, ino: number, ex = false): Locked {
  const inode = op.osb.inodes.get(ino);
  const was = inode.generation;
  let di_bh: Bh;
  try {
    if (!inUse(inode)) inode.generation = 0;
    openLock(op, inode);
    di_bh = inodeLock(op, inode, ex);
  } finally {
    inode.generation = was;
  }
  const di = dinodeOf(op, di_bh);
  if (di.i_generation !== was) {
    if (was !== 0) becomeAnother(op, inode);
    inode.generation = di.i_generation;
  }
  if ((di.i_flags & I_FLAGS.SYSTEM) !== 0) throw new Corruption("iget", { ino, found: "an entry for a system file" });
  // Who takes the last name takes the lock from us first.
  if (linksOf(di) > 0) inode.maybe_orphaned = false;
  return { inode, di_bh, di };
}

/** The object stands for another file now. Of its locks only the rw lock has the generation in its name. */
function becomeAnother(op: Op, inode: Inode): void {
  const { osb } = op;
  const rw = inode.rw_lockres;
  inode.rw_lockres = null;
  if (rw !== null && rw.dl !== null && rw.isFree) osb.ready(() => osb.background(osb.glue.dropTask(rw)));
  inode.orphaned = false;
}

/** As iget for an inode object in hand. Throws ESTALE when its block is another file by now. */
export function lockInode(op: Op, inode: Inode, ex = false): Locked {
  const di_bh = inodeLock(op, inode, ex);
  return { inode, di_bh, di: dinodeOf(op, di_bh) };
}

/** Locks a directory; ENOTDIR for anything else. */
export function lockDir(op: Op, inode: Inode, ex = false): Locked {
  const locked = lockInode(op, inode, ex);
  if (!isDir(locked.di.i_mode)) throw new FsError(Errno.ENOTDIR, "namei.dir", { ino: inode.ino });
  return locked;
}

/** Throws ENOENT for a directory that was removed: nothing may be made in it any more. */
export function checkAlive(dir: Locked): void {
  if (linksOf(dir.di) === 0) throw new FsError(Errno.ENOENT, "namei.dir", { ino: dir.inode.ino, found: "removed" });
}

/** i_generation of the next inode: counts from a random start, so that a block used again is never the same file. */
const generations = new WeakMap<Osb, { next: number }>();
/** The generation that an operation gives: the same in all its runs. */
const given = new WeakMap<Op, number>();

function newGeneration(op: Op): number {
  const known = given.get(op);
  if (known !== undefined) return known;
  let counter = generations.get(op.osb);
  if (counter === undefined) generations.set(op.osb, (counter = { next: op.osb.random.u32() }));
  // 0 means "not known" in Inode.generation.
  const generation = counter.next === 0 ? 1 : counter.next;
  counter.next = (generation + 1) >>> 0;
  given.set(op, generation);
  return generation;
}

/**
 * The object for a block that becomes an inode now. One that is there already is taken over with its meta lock, whether a
 * run before this one made it (and waits for that lock) or a file that was deleted left it.
 */
function newInodeObject(op: Op, blkno: number, generation: number): Inode {
  const inode = op.osb.inodes.get(blkno);
  // A task may still look at what was there before, and will find that it is gone.
  if (inode.inUse)
    throw new Corruption("iget.new", { blkno, found: "a free inode that is in use", nlookup: inode.nlookup });
  if (inode.generation !== generation) {
    becomeAnother(op, inode);
    inode.dropCaches();
    inode.generation = generation;
  }
  return inode;
}

/** The lock of the inode that the operation made, or waits for, in its last run. */
const new_locks = new WeakMap<Op, LockRes>();

/**
 * The new inode's locks. Whoever makes it may go on to use it: from the first moment nobody else may delete it (ocfs2_create_new_inode_locks). Its
 * meta lock comes at EX. Nobody else wants it, but it may have to be asked for; and the next run may get another
 * block from the allocator. So it is not kept when the run is undone: two operations would wait for each other's blocks.
 */
function lockNewInode(op: Op, inode: Inode): void {
  const { glue } = op.osb;
  openLock(op, inode);
  op.onUndo(() => {
    const open = inode.open_lockres;
    if (open !== null && op.locks.level(open) !== undefined) op.locks.release(open);
  });
  const res = glue.metaLock(inode);
  const last = new_locks.get(op);
  if (last !== undefined && last !== res && op.locks.level(last) !== undefined) op.locks.release(last);
  new_locks.set(op, res);
  glue.lock(op.locks, res, EX);
  op.onUndo(() => {
    if (op.locks.level(res) !== undefined) op.locks.release(res);
  });
}

/** What a new inode is to be. `nlink` as it goes to the disk: 2 for directories. */
export interface InodeSpec {
  readonly mode: number;
  readonly rdev: number;
  readonly nlink: number;
}

/**
 * A new inode in a block of our inode allocator, with an empty body: inline for directories where the volume has that,
 * an empty extent list for the rest (__ocfs2_mknod_locked). Group and setgid are inherited from a setgid directory
 * (inode_init_owner). Its lock is ours, at EX. Throws ENOSPC.
 */
export function newInode(op: Op, dir: Locked, cred: Cred, spec: InodeSpec): Locked {
  const { osb } = op;
  const got = claimInode(op, dir.inode);
  const generation = newGeneration(op);
  const inode = newInodeObject(op, got.blkno, generation);
  if (!osb.unshared.begin(op, inode, dir.inode, got.suballoc_slot)) lockNewInode(op, inode);
  const di_bh = op.create(inode, got.blkno, osb.kinds.dinode);
  const di = dinodeOf(op, di_bh);
  const setgid = (dir.di.i_mode & S_ISGID) !== 0;

  di.i_signature = OCFS2_INODE_SIGNATURE;
  di.i_generation = generation;
  di.i_fs_generation = osb.geo.fs_generation;
  di.i_blkno = got.blkno;
  di.i_suballoc_loc = got.suballoc_loc;
  di.i_suballoc_bit = got.suballoc_bit;
  di.i_suballoc_slot = got.suballoc_slot;
  di.i_uid = cred.uid;
  di.i_gid = setgid ? dir.di.i_gid : cred.gid;
  di.i_mode = setgid && isDir(spec.mode) ? spec.mode | S_ISGID : spec.mode;
  if (isChr(spec.mode) || isBlk(spec.mode)) di.i_rdev = spec.rdev;
  setLinks(di, spec.nlink);
  di.i_flags = I_FLAGS.VALID;
  const { sec, nsec } = op.now;
  di.i_atime = di.i_mtime = di.i_ctime = sec;
  di.i_atime_nsec = di.i_mtime_nsec = di.i_ctime_nsec = nsec;
  if (isDir(spec.mode) && osb.incompat(FEATURE_INCOMPAT.INLINE_DATA)) {
    di.i_dyn_features = DYN_FEATURES.INLINE_DATA;
    di.i_data.id_count = maxInlineDataWithXattr(osb.geo.blocksize, di);
  } else di.i_list.l_count = extentRecsPerInode(osb.geo.blocksize);
  inodeChanged(op, inode);
  if (spec.nlink > 0) op.onSuccess(() => (inode.maybe_orphaned = false));
  return { inode, di_bh, di };
}
