/**
 * An inode that this node knows: its locks, its open counts and the keys to its cached blocks. It holds no copy of what
 * is on the disk: size, mode, links and the rest are read from its dinode block, which the buffer cache holds and the
 * inode's cluster lock covers (inode.c, inode.h: struct ocfs2_inode_info).
 */
import { type Bh, type CachingInfo, NO_TID } from "../block/buffer_cache.ts";
import type { DataOwner, Page } from "../block/data_cache.ts";
import { EX, type LockRes, PR } from "../dlmglue/lock_res.ts";
import type { LockSet } from "../dlmglue/lock_set.ts";
import { Dinode, I_FLAGS } from "../format/disk/index.ts";
import { isUntold } from "../lib/errseq.ts";
import { estale } from "../lib/fs_error.ts";
import { WaitQueue, waitOn } from "../lib/wait.ts";
import { settleLvb } from "./meta_lvb.ts";
import type { Op } from "./op.ts";
import type { Osb } from "./osb.ts";

export class Inode implements CachingInfo, DataOwner {
  readonly osb: Osb;
  /** Block number of the dinode; the inode number. */
  readonly ino: number;
  /** Moves whenever the meta lock was given up below PR: cached blocks and the extent map are then void. */
  epoch = 0;
  cached_blocks = 0;
  /** i_generation seen when the inode was looked up; a dinode with another one is another file (ESTALE). */
  generation = 0;
  /** Times the kernel was told of this inode and has not yet forgotten it. */
  nlookup = 0;
  /** Open files and directories. */
  open_count = 0;
  /** Open files that may write. */
  writer_count = 0;
  /** References by tasks at work on it; an inode with one stays in the cache. */
  task_count = 0;
  /** Of these, such as only look whether its deletion was left to us (unusedInode): it may be another file's block by then. */
  look_count = 0;
  /** Tasks that know it by its number alone: it must not be deleted and its block used again under them. */
  pins = 0;
  /** Reads and writes of file data in flight straight between the disk and a request (direct I/O, page reads). */
  io_in_flight = 0;
  /** Of these, direct writes to clusters that were mapped for them, or behind the end of the file: nobody reads it meanwhile. */
  alloc_ios = 0;
  data_written = 0;
  /** Another node may have written its data, and only handed it to the device, since this node made that durable last. */
  others_wrote = false;
  #io_idle: WaitQueue | null = null;
  /** Newest transaction that changed this inode's metadata; of these, what fdatasync must wait for. */
  sync_tid = NO_TID;
  datasync_tid = NO_TID;
  /** When it was written last it had chattr +S: who writes waits until that is durable. */
  sync_writes = false;
  /** Set when nlink fell to 0 here; the inode is wiped when the last user is gone. */
  orphaned = false;
  /** Used again since the cache's hand came by; its locks are being given back (InodeCache). */
  referenced = false;
  dropping = false;
  /** Another node may have taken the last name away: whoever uses it last looks (OCFS2_INODE_MAYBE_ORPHANED). */
  maybe_orphaned = false;
  /** The meta lock's LVB says what the dinode says: nothing was changed here since it came. */
  lvb_fresh = false;
  /** The directory that alone tells of it: its locks are ours without the cluster (unshared.ts). */
  cover: Inode | null = null;
  meta_lockres: LockRes | null = null;
  rw_lockres: LockRes | null = null;
  open_lockres: LockRes | null = null;
  /** The task that works on this inode in several steps; other operations wait (VFS's i_rwsem and ip_alloc_sem). */
  exclusive: LockSet | null = null;
  #exclusive_free: WaitQueue | null = null;
  /** Pages of this file in the data cache, how many are dirty or being written, and which write-backs failed. */
  pages: Set<Page> | null = null;
  dirty_pages = 0;
  pages_in_flight = 0;
  wb_err = 0;
  /** Caches of the layers above (extent map, directory hints, reservations), each valid for one epoch. */
  extent_map: unknown = null;
  dir_hints: unknown = null;
  reservation: unknown = null;
  xattr_hints: unknown = null;

  constructor(osb: Osb, ino: number) {
    this.osb = osb;
    this.ino = ino;
  }

  /** Woken when io_in_flight or alloc_ios falls to zero. */
  get io_idle(): WaitQueue {
    return (this.#io_idle ??= new WaitQueue());
  }

  get exclusive_free(): WaitQueue {
    return (this.#exclusive_free ??= new WaitQueue());
  }

  get ci_blkno(): number {
    return this.ino;
  }

  /** Held by name for the whole mount. */
  is_system = false;

  /** Programs know it or have it open: no node may delete it (what the open lock says to the others). */
  get inUse(): boolean {
    return this.nlookup > 0 || this.open_count > 0;
  }

  /** Nobody knows of it, works on it or holds its locks, and what is in memory of its data is on the disk. */
  get isIdle(): boolean {
    return (
      !this.inUse &&
      this.task_count === 0 &&
      this.pins === 0 &&
      this.dirty_pages === 0 &&
      this.pages_in_flight === 0 &&
      this.io_in_flight === 0 &&
      !this.orphaned &&
      this.exclusive === null &&
      !isUntold(this.wb_err) &&
      isFree(this.meta_lockres) &&
      isFree(this.rw_lockres) &&
      isFree(this.open_lockres)
    );
  }

  /** The parts of the cache that an operation filled from this inode's blocks are void. */
  dropCaches(): void {
    this.extent_map = null;
    this.dir_hints = null;
    this.xattr_hints = null;
  }

  /** So are its blocks: another node may have written them, under a lock that is not this inode's, or they are no longer its own. */
  forget(): void {
    this.epoch++;
    this.dropCaches();
  }
}

/** One that is on its way out is waited for by whoever wants it gone. */
const isFree = (res: LockRes | null): boolean => res === null || (res.isFree && !res.freeing);

/** The dinode's block, under whatever lock the caller holds (system files under their allocator's lock, mount code). */
export function readDinode(op: Op, inode: Inode): Bh {
  return op.read(inode, inode.ino, op.osb.kinds.dinode);
}

/** The dinode as a view; short-lived. */
export function dinodeOf(op: Op, bh: Bh): Dinode {
  return Dinode.at(op.osb.cache.dv, bh.addr);
}

/**
 * Takes the inode's cluster lock at PR, or at EX for changes, and returns its dinode's block (ocfs2_inode_lock_full).
 * Held until the operation ends. Throws Wait until granted and read, ESTALE when the block is another file by now.
 */
export function inodeLock(op: Op, inode: Inode, ex = false): Bh {
  inodeLockOnly(op, inode, ex);
  const bh = readDinode(op, inode);
  const di = dinodeOf(op, bh);
  if ((di.i_flags & I_FLAGS.VALID) === 0 || (inode.generation !== 0 && di.i_generation !== inode.generation)) {
    const { i_generation } = di;
    dropStale(op.osb, inode);
    throw estale("inode.lock", { ino: inode.ino, generation: i_generation });
  }
  if (ex) settleLvb(op, inode, bh);
  return bh;
}

/**
 * We came too late: the inode was deleted before we got its lock. The lock goes, and with it what we have read: whoever makes the next file in this block
 * may do so without a word to us, and be gone before anybody asks (unshared.ts). A kernel node drops it with the inode, too (ocfs2_clear_inode).
 */
function dropStale(osb: Osb, inode: Inode): void {
  const res = inode.meta_lockres;
  if (!osb.glue.domain.clustered || res === null || osb.sabotage.has("drop_stale")) return;
  osb.ready(() => osb.background(osb.glue.dropWhenFree(res)));
}

/** The cluster lock alone, nothing read: for what the lock's value block may answer. */
export function inodeLockOnly(op: Op, inode: Inode, ex = false): void {
  if (inode.exclusive !== null && inode.exclusive !== op.locks) {
    // An earlier run may have got locks that come after this inode's, and that the task needs to come to its end.
    if (op.locks.exclusives === 0) op.onUndo(() => op.locks.releaseAll());
    waitOn(inode.exclusive_free);
  }
  op.osb.glue.lock(op.locks, op.osb.glue.metaLock(inode), ex ? EX : PR);
}

/**
 * The order of writes and direct I/O to a file in the cluster (ocfs2_rw_lock): before the meta lock, and at EX for whatever changes
 * data or size. Held until the operation ends.
 */
export function rwLock(op: Op, inode: Inode, ex: boolean): void {
  const { glue } = op.osb;
  if (glue.domain.clustered) glue.lock(op.locks, glue.rwLock(inode), ex ? EX : PR);
}

/** Other nodes must not delete the inode while the operation, or a use that begins in it, lasts (ocfs2_open_lock). Before the meta lock. */
export function openLock(op: Op, inode: Inode): void {
  const { glue } = op.osb;
  if (glue.domain.clustered && !inode.is_system) glue.lock(op.locks, glue.openLock(inode), PR);
}

/** As inodeLock at EX, and joins the dinode's block to the operation, about to be changed. */
export function inodeLockModify(op: Op, inode: Inode): Bh {
  const bh = inodeLock(op, inode, true);
  op.modify(bh);
  inodeChanged(op, inode);
  return bh;
}

/** Remembers, when the operation succeeds, that fsync of this inode must wait for the transaction that it joined. */
export function inodeChanged(op: Op, inode: Inode, datasync = true): void {
  op.onSuccess(() => {
    inode.sync_tid = op.osb.journal.running_tid;
    if (datasync) inode.datasync_tid = inode.sync_tid;
  });
}

/**
 * Keeps other operations off the inode while a task works on it in several steps. Throws Wait while another task does.
 * Free it with `inodeRelease` in the task's finally.
 */
export function inodeExclusive(inode: Inode, locks: LockSet): void {
  if (inode.exclusive === locks) return;
  if (inode.exclusive !== null) waitOn(inode.exclusive_free);
  inode.exclusive = locks;
  locks.exclusives++;
}

export function inodeRelease(inode: Inode, locks: LockSet): void {
  if (inode.exclusive !== locks) return;
  inode.exclusive = null;
  locks.exclusives--;
  inode.exclusive_free.wakeAll();
}
