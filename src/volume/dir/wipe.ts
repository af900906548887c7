/**
 * The end of an inode: what an unlink left in the orphan directory is given back when nobody uses it any more
 * (inode.c: ocfs2_delete_inode, ocfs2_wipe_inode; journal.c: ocfs2_recover_orphans).
 *
 * It takes many operations: data, index, attributes, refcount tree, and last the entry in the orphan directory together with the inode itself.
 * A crash in between leaves an orphan with less in it, which the next mount goes on with. Until the last step the inode
 * stays valid; so every step must leave a dinode that says no more than is there.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { PR } from "../../dlmglue/lock_res.ts";
import { LockSet } from "../../dlmglue/lock_set.ts";
import { DYN_FEATURES, I_FLAGS, isDir, SYSTEM_INODE } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, FsError } from "../../lib/fs_error.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { spawn, type Task, wait } from "../../lib/task.ts";
import { WaitQueue } from "../../lib/wait.ts";
import { freeClusters, freeInodeBit, freeMetadataBlock } from "../alloc/suballoc.ts";
import { dxRootExtentTree, removeExtent } from "../extents/extent_tree.ts";
import { type Inode, inodeChanged, inodeExclusive, inodeLock, inodeRelease } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { linksOf } from "./attr.ts";
import { findEntry, openDir } from "./dir.ts";
import { dxLookupExtent, dxRootIsInline, dxRootOf, readDxRoot } from "./dx_dir.ts";
import { iget, lockInode } from "./iget.ts";
import { inode_hooks } from "./inode_hooks.ts";
import { isDots } from "./name.ts";
import { dioOrphanDelete, isDioOrphan, orphanDelete, orphanIsNamed, orphanName } from "./orphan.ts";
import { readAll } from "./readdir.ts";

/** Extents of an index that one operation takes out. */
const DX_EXTENTS_PER_STEP = 4;

/** Takes some extents out of an index, from the last hash down; true when none is left (ocfs2_dx_dir_truncate). */
function dxTruncateStep(op: Op, inode: Inode): boolean {
  const { osb } = op;
  const di_bh = inodeLock(op, inode, true);
  const dir = openDir(op, inode, di_bh);
  if (!dir.indexed) return true;
  const root_bh = readDxRoot(dir);
  const dr = dxRootOf(dir, root_bh);
  if (dxRootIsInline(dr)) return true;
  for (let n = 0; dr.dr_clusters > 0; n++) {
    if (n === DX_EXTENTS_PER_STEP) return false;
    const ext = dxLookupExtent(dir, root_bh, 0xffffffff);
    op.modify(root_bh);
    removeExtent(op, dxRootExtentTree(op, inode, root_bh), ext.cpos, ext.clusters);
    freeClusters(op, osb.blocksToClusters(ext.blkno), ext.clusters);
    op.onSuccess(() => osb.cache.forget(ext.blkno, osb.clustersToBlocks(ext.clusters)));
  }
  return true;
}

/** Frees the root of an empty index: the directory has none any more (ocfs2_dx_dir_remove_index). */
function dxRemoveRoot(op: Op, inode: Inode): void {
  const di_bh = inodeLock(op, inode, true);
  const dir = openDir(op, inode, di_bh);
  if (!dir.indexed) return;
  const dr = dxRootOf(dir, readDxRoot(dir));
  op.modify(di_bh);
  inodeChanged(op, inode);
  dir.di.i_dyn_features &= ~DYN_FEATURES.INDEXED_DIR;
  dir.di.i_dx_root = 0;
  freeMetadataBlock(op, {
    slot: dr.dr_suballoc_slot,
    bit: dr.dr_suballoc_bit,
    loc: dr.dr_suballoc_loc,
    blkno: dr.dr_blkno,
  });
}

/** Gives back the whole index of a directory (ocfs2_dx_dir_truncate). The caller holds `locks` and the exclusive flag. */
export function* dxTruncate(osb: Osb, inode: Inode, locks: LockSet): Task<void> {
  while (!(yield* wait(osb.step((op) => dxTruncateStep(op, inode), locks))));
  yield* wait(osb.step((op) => dxRemoveRoot(op, inode), locks));
}

interface WipePlan {
  readonly is_dir: boolean;
  readonly clusters: number;
}

/**
 * Whether the inode is to be wiped, and by us, now (ocfs2_query_inode_wipe). Keeps others off it if so.
 *
 * A kernel node gives up the locks of an inode that it has wiped before its journal is on the disk (ocfs2_clear_inode: what was the inode's belongs
 * to the allocators by then). So the block that we read under them may be that of before: an orphan with all its clusters, which are somebody else's
 * already. But the orphan directory's lock is given up in order, and the entry goes in the transaction in which the inode does: no entry, no inode.
 */
function mayWipe(op: Op, inode: Inode): WipePlan | undefined {
  if (inode.nlookup > 0 || inode.open_count > 0) return undefined;
  const { glue } = op.osb;
  // Nobody looks inodes up by file handle meanwhile (ocfs2_nfs_sync_lock).
  if (glue.domain.clustered) glue.lock(op.locks, glue.nfs_sync_lockres, PR);
  const { di } = lockInode(op, inode, true);
  if (linksOf(di) !== 0 || (di.i_flags & I_FLAGS.ORPHANED) === 0 || di.i_dtime !== 0) return undefined;
  // The direct write that extends it, or the recovery of that, comes first.
  if ((di.i_flags & (I_FLAGS.DIO_ORPHANED | I_FLAGS.SYSTEM)) !== 0) return undefined;
  if (!inode_hooks.tryOpenLock(op, inode)) return undefined;
  // Held to the end, so that no other node's recovery begins to wipe the same inode.
  if (!orphanIsNamed(op, di.i_orphaned_slot, inode.ino)) {
    if (!glue.domain.clustered)
      throw new Corruption("orphan.wipe", { ino: inode.ino, found: "no entry in the orphan directory" });
    op.onSuccess(() => {
      op.osb.cache.forget(inode.ino, 1);
      inode.forget();
      inode.orphaned = false;
      inode.maybe_orphaned = false;
    });
    return undefined;
  }
  inodeExclusive(inode, op.locks);
  return { is_dir: isDir(di.i_mode), clusters: di.i_clusters };
}

/** The size goes first, so that a crash leaves no size without clusters (ocfs2_truncate_for_delete). */
function zeroSize(op: Op, inode: Inode): void {
  const { di_bh, di } = lockInode(op, inode, true);
  op.modify(di_bh);
  inodeChanged(op, inode);
  di.i_size = 0;
}

/** Out of the orphan directory, invalid, and its block free: the one step that ends it (ocfs2_remove_inode). */
function removeInode(op: Op, inode: Inode): void {
  const { osb } = op;
  const child = lockInode(op, inode, true);
  const { di } = child;
  orphanDelete(op, child);
  op.modify(child.di_bh);
  di.i_dtime = op.now.sec;
  di.i_flags &= ~(I_FLAGS.VALID | I_FLAGS.ORPHANED);
  freeInodeBit(op, { slot: di.i_suballoc_slot, bit: di.i_suballoc_bit, loc: di.i_suballoc_loc, blkno: inode.ino });
  op.onSuccess(() => {
    osb.cache.forget(inode.ino, 1);
    // Of one that nobody else knew of no lock goes, and with it what we know of its block.
    inode.forget();
    inode.orphaned = false;
    osb.unshared.remove(inode);
    if (osb.inodes.peek(inode.ino) === inode) osb.inodes.delete(inode.ino);
  });
}

/** The cluster forgets the locks of an inode that is no more, once nobody here asks for them any more and is told ESTALE. */
function dropLocks(osb: Osb, inode: Inode): void {
  // Each stays the inode's until it is gone: who holds it must not make itself another of the same name.
  for (const key of ["open_lockres", "meta_lockres", "rw_lockres"] as const) {
    const res = inode[key];
    if (res === null) continue;
    spawn(osb.glue.dropWhenFree(res), (err) => {
      if (err) osb.journal.abort(err);
      else if (inode[key] === res) inode[key] = null;
    });
  }
}

/** undefined, too, when another wipe of the same inode has just ended. */
function* planWipe(osb: Osb, inode: Inode, locks: LockSet): Task<WipePlan | undefined> {
  try {
    return yield* wait(osb.step((op) => mayWipe(op, inode), locks));
  } catch (err) {
    if (err instanceof FsError && err.errno === Errno.ESTALE) return undefined;
    throw err;
  }
}

/**
 * Deletes an orphaned inode with all that it has, if nobody uses it here or elsewhere: call it when an unlink set
 * `inode.orphaned` and the last user is gone. True when the inode is no more.
 */
export function* wipeInode(osb: Osb, inode: Inode): Task<boolean> {
  const locks = new LockSet();
  const running = wipesOf(osb);
  running.count++;
  inode.task_count++;
  try {
    const plan = yield* planWipe(osb, inode, locks);
    if (plan === undefined) return false;
    if (plan.clusters > 0) {
      yield* wait(osb.step((op) => zeroSize(op, inode), locks));
      yield* inode_hooks.removeClusters(osb, inode, 0, 0xffffffff, locks);
    }
    if (plan.is_dir) yield* dxTruncate(osb, inode, locks);
    yield* inode_hooks.removeXattrs(osb, inode, locks);
    yield* inode_hooks.removeRefcountTree(osb, inode, locks);
    yield* wait(osb.step((op) => removeInode(op, inode), locks));
    inodeRelease(inode, locks);
    locks.releaseAll();
    dropLocks(osb, inode);
    return true;
  } finally {
    inodeRelease(inode, locks);
    locks.releaseAll();
    taskEnded(osb, inode);
    if (--running.count === 0) running.idle.wakeAll();
  }
}

/**
 * The last user of an inode is gone, and another node may have taken its last name meanwhile: it left the deletion to us if we still
 * had the open lock when it tried. So that goes first; who looks afterwards, it or we, finds nobody in the way.
 */
export function* unusedInode(osb: Osb, inode: Inode): Task<void> {
  if (inode.inUse) return;
  if (osb.inodes.peek(inode.ino) !== inode) {
    // We have deleted it ourselves: locks of it would be locks of the next file in its block, beside that one's own.
    inode.maybe_orphaned = false;
    return;
  }
  const { glue } = osb;
  inode.task_count++;
  inode.look_count++;
  try {
    yield* glue.giveUpTask(inode.open_lockres);
    if (inode.inUse) return;
    const links = yield* wait(
      osb.step((op) => {
        const { di } = lockInode(op, inode);
        // Under the lock: from here on another node must come to us first.
        op.onSuccess(() => {
          inode.maybe_orphaned = false;
        });
        return linksOf(di);
      }),
    );
    if (links === 0 && !inode.inUse && osb.readonly_reason === null) yield* wipeInode(osb, inode);
  } catch (err) {
    // It is gone already.
    if (!(err instanceof FsError && err.errno === Errno.ESTALE)) throw err;
    inode.maybe_orphaned = false;
  } finally {
    inode.look_count--;
    taskEnded(osb, inode);
  }
}

/** As unusedInode, in the background. */
export function lookLater(osb: Osb, inode: Inode): void {
  const running = wipesOf(osb);
  running.count++;
  inode.task_count++;
  inode.look_count++;
  osb.ready(() =>
    spawn(unusedInode(osb, inode), (err) => {
      inode.look_count--;
      if (err) {
        inode.task_count--;
        mlog(ML.ERROR, `inode ${inode.ino}:`, err instanceof Error ? err.message : String(err));
      } else taskEnded(osb, inode);
      if (--running.count === 0) running.idle.wakeAll();
    }),
  );
}

/**
 * To be called when something ended that kept the open lock without being a use: an operation, a task, a pin. Whoever tried to delete the inode
 * meanwhile was refused and left it to us: `maybe_orphaned` since the open lock came or the meta lock went, until we see a link.
 */
export function lookIfUnused(osb: Osb, inode: Inode): void {
  if (!inode.maybe_orphaned || inode.inUse || inode.task_count > 0 || inode.pins > 0) return;
  if (osb.glue.domain.clustered) lookLater(osb, inode);
}

function taskEnded(osb: Osb, inode: Inode): void {
  inode.task_count--;
  lookIfUnused(osb, inode);
}

/** Wipes, and looks that may lead to one, under way, by volume. */
const wipes = new WeakMap<Osb, { count: number; readonly idle: WaitQueue }>();

function wipesOf(osb: Osb): { count: number; readonly idle: WaitQueue } {
  let w = wipes.get(osb);
  if (w === undefined) wipes.set(osb, (w = { count: 0, idle: new WaitQueue() }));
  return w;
}

/** Answers when no wipe is under way: before the journal is shut down. */
export function* wipesIdle(osb: Osb): Task<void> {
  const running = wipesOf(osb);
  while (running.count > 0) yield* wait<void>((cb) => running.idle.add(() => cb(null)));
}

/** A file that a direct write was extending when its node died: what is behind its size goes (append-dio). */
function* recoverDioOrphan(osb: Osb, ino: number): Task<void> {
  const locks = new LockSet();
  const inode = osb.inodes.get(ino);
  inode.task_count++;
  try {
    const cpos = yield* wait(
      osb.step((op) => {
        const { di } = lockInode(op, inode, true);
        if ((di.i_flags & I_FLAGS.DIO_ORPHANED) === 0) return undefined;
        inodeExclusive(inode, locks);
        return osb.clustersForBytes(di.i_size);
      }, locks),
    );
    if (cpos === undefined) return;
    yield* inode_hooks.removeClusters(osb, inode, cpos, 0xffffffff, locks);
    yield* wait(osb.step((op) => dioOrphanDelete(op, lockInode(op, inode, true)), locks));
  } finally {
    inode.task_count--;
    inodeRelease(inode, locks);
    locks.releaseAll();
  }
}

/**
 * Keeps what an entry of an orphan directory leads to from being deleted by others, under the directory's lock: its number alone might be another
 * inode's the next moment, and one that nobody knows of (unshared.ts). Undefined when it is gone, or is being deleted (ocfs2_read_locked_inode tries for the
 * open lock in the same way).
 */
function pinOrphan(op: Op, slot: number, ino: number, dio: boolean): Inode | undefined {
  const { glue } = op.osb;
  const dir = op.osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, slot);
  if (findEntry(openDir(op, dir, inodeLock(op, dir)), orphanName(ino, dio)) === undefined) return undefined;
  // Not before: an object that nobody has pinned may go while the directory's lock is waited for.
  const inode = op.osb.inodes.get(ino);
  if (glue.domain.clustered && !glue.tryLock(op.locks, glue.openLock(inode), PR)) return undefined;
  op.onSuccess(() => {
    inode.pins++;
  });
  return inode;
}

function unpin(osb: Osb, inode: Inode): void {
  inode.pins--;
  lookIfUnused(osb, inode);
}

/** What is in a slot's orphan directory: bounded by what was open when its node died. */
function listOrphans(op: Op, slot: number): { ino: number; dio: boolean }[] {
  const inode = op.osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, slot);
  const bh: Bh = inodeLock(op, inode);
  return readAll(openDir(op, inode, bh))
    .filter((r) => !isDots(r.name))
    .map((r) => ({ ino: r.ino, dio: isDioOrphan(r.name) }));
}

/**
 * Wipes what a slot's orphan directory holds and nobody uses: at mount, after a node died, and in the orphan scan
 * (ocfs2_recover_orphans). An orphan that cannot be wiped is logged and left there. Returns how many are gone.
 */
export function* recoverOrphans(osb: Osb, slot: number): Task<number> {
  const orphans = yield* wait(osb.step((op) => listOrphans(op, slot)));
  let gone = 0;
  for (const { ino, dio } of orphans) {
    const known = yield* wait(osb.step((op) => pinOrphan(op, slot, ino, dio)));
    if (known === undefined) continue;
    try {
      if (dio) yield* recoverDioOrphan(osb, ino);
      else {
        const inode = yield* wait(osb.step((op): Inode => iget(op, ino).inode));
        if (yield* wipeInode(osb, inode)) gone++;
      }
    } catch (err) {
      // Another node has just wiped it.
      if (err instanceof FsError && err.errno === Errno.ESTALE) continue;
      mlog(ML.ERROR, `orphan ${ino} of slot ${slot}:`, err instanceof Error ? err.message : String(err));
    } finally {
      unpin(osb, known);
    }
  }
  return gone;
}
