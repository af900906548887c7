/**
 * Changing a file's size, and taking clusters out of it (file.c: ocfs2_truncate_file, ocfs2_extend_file,
 * ocfs2_remove_inode_range). The size changes in the first operation; the clusters behind it go in bounded operations after
 * it. A crash in between leaves a file of the right size with clusters too many, which the next truncation frees.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { PAGE_BYTES } from "../../block/data_cache.ts";
import { EX } from "../../dlmglue/lock_res.ts";
import { LockSet } from "../../dlmglue/lock_set.ts";
import { EXT_FLAGS, FEATURE_INCOMPAT } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { assert, Corruption, FsError } from "../../lib/fs_error.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { spawn, type Task, wait } from "../../lib/task.ts";
import { freeClusters } from "../alloc/suballoc.ts";
import { inVolume } from "../alloc/volume_end.ts";
import { getClusters, voidExtentMap } from "../extents/extent_map.ts";
import { dinodeExtentTree, lastExtent, removeExtent } from "../extents/extent_tree.ts";
import { END_OF_FILES } from "../extents/lookup.ts";
import { dinodeOf, type Inode, inodeChanged, inodeExclusive, inodeLock, inodeRelease, rwLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import {
  checkChangeable,
  clusterOffset,
  inlineRoom,
  isInline,
  maxFileBytes,
  pnoOf,
  staysInline,
  touch,
  waitIoIdle,
} from "./file_io.ts";
import { convertInlineToExtents } from "./inline_data.ts";
import { cow_hooks } from "./refcount_hooks.ts";
import { extendNoHoles, type Fill, fillPages, shortenGap, zeroExtend } from "./write.ts";

/** Records that one operation takes out. */
const RECORDS_PER_STEP = 8;
/** Clusters that one operation takes out of one record, so that forgetting their blocks stays short. */
const CLUSTERS_PER_STEP = 1 << 18;

/** Zeroes bytes [from, to) of the file where they are mapped, page by page through the data cache; 1 MiB at most. */
export function zeroRange(op: Op, inode: Inode, bh: Bh, from: number, to: number): void {
  const fills: Fill[] = [];
  if (from >= to) return;
  const reached = zeroExtend(op, inode, bh, fills, from, to);
  assert(reached === to, `bytes from ${from} to ${to} were zeroed up to ${reached}`);
  if (fills.length === 0) return;
  op.orderData(inode);
  op.onSuccess(() => fillPages(op.osb, fills));
}

/** True when nothing is mapped from `cpos` on. */
function nothingFrom(op: Op, inode: Inode, cpos: number): boolean {
  if (cpos >= END_OF_FILES) return true;
  const ext = getClusters(op, inode, cpos);
  return ext.p_cluster === 0 && cpos + ext.clusters >= END_OF_FILES;
}

/** Takes some of the `clusters` at `at`, which lie in one record, out of the file and frees them; how many. */
function removeRun(
  op: Op,
  inode: Inode,
  bh: Bh,
  at: number,
  run: { p_cluster: number; clusters: number; flags: number },
): number {
  const { osb } = op;
  const { p_cluster } = run;
  const shared = (run.flags & EXT_FLAGS.REFCOUNTED) !== 0;
  const n = shared ? cow_hooks.refcountedRun(op, inode, bh, p_cluster, run.clusters) : run.clusters;
  const pno = pnoOf(clusterOffset(osb, p_cluster));
  const pages = (n * osb.geo.clustersize) / PAGE_BYTES;
  osb.data.waitIdle(pno, pages);
  op.modify(bh);
  removeExtent(op, dinodeExtentTree(op, inode, bh), at, n);
  voidExtentMap(op, inode);
  if (shared) cow_hooks.freeRefcounted(op, inode, bh, p_cluster, n);
  else freeClusters(op, p_cluster, n);
  op.onSuccess(() => osb.data.invalidate(pno, pages));
  return n;
}

/** One bounded operation of taking everything from `cpos` on out of the file, from its end to the front; true when all is gone. */
function truncateStep(op: Op, inode: Inode, bh: Bh, cpos: number): boolean {
  const { osb } = op;
  for (let records = 0; records < RECORDS_PER_STEP; records++) {
    const e = lastExtent(op, dinodeExtentTree(op, inode, bh));
    if (e === undefined || e.cpos + e.clusters <= cpos) return true;
    const e_end = e.cpos + e.clusters;
    const from = Math.max(cpos, e.cpos, e_end - CLUSTERS_PER_STEP);
    const p_cluster = osb.blocksToClusters(e.blkno) + (from - e.cpos);
    if (e.blkno === 0 || !inVolume(op, p_cluster, e_end - from))
      throw new Corruption("file.truncate", { ino: inode.ino, cpos: e.cpos, e_blkno: e.blkno, clusters: e.clusters });
    removeRun(op, inode, bh, from, { p_cluster, clusters: e_end - from, flags: e.flags });
    if (records === 0) inodeChanged(op, inode);
  }
  return false;
}

/**
 * One bounded operation of taking [cpos, end) out of the file: data pages forgotten, mapping removed, clusters freed. To the end of
 * the file it goes backwards: that way nothing in the tree moves. Returns the cluster from which on to continue, undefined when
 * there is nothing left.
 */
export function removeStep(op: Op, inode: Inode, bh: Bh, cpos: number, end: number): number | undefined {
  waitIoIdle(inode);
  if (end >= END_OF_FILES) return truncateStep(op, inode, bh, cpos) ? undefined : cpos;
  let records = 0;
  let at = cpos;
  while (at < end && records < RECORDS_PER_STEP) {
    const { p_cluster, clusters, flags } = getClusters(op, inode, at);
    if (p_cluster === 0) {
      at += clusters;
      if (at >= END_OF_FILES) return undefined;
      continue;
    }
    at += removeRun(op, inode, bh, at, { p_cluster, clusters: Math.min(clusters, end - at, CLUSTERS_PER_STEP), flags });
    records++;
  }
  if (records > 0) inodeChanged(op, inode);
  return at < end ? at : undefined;
}

/** Takes all clusters of [cpos, end) out of the file, in as many operations as it needs. The caller holds `locks` and the exclusive flag. */
export function* removeClusters(osb: Osb, inode: Inode, cpos: number, end: number, locks: LockSet): Task<void> {
  let next: number | undefined = cpos;
  while (next !== undefined && next < end) {
    const from: number = next;
    next = yield* wait(osb.step((op) => removeStep(op, inode, inodeLock(op, inode, true), from, end), locks));
  }
}

/**
 * The rw lock at EX, before the meta lock. False: on without it, until the task's end. The kernel here writes no page of the file while it waits for our
 * answer (fuse_set_nowrite); the meta lock's downconvert waits for these pages; and who has the rw lock may wait for
 * the meta lock. Without it only the size may change: what is behind the end stays for direct I/O of other nodes that is under way.
 */
function orderLock(op: Op, inode: Inode): boolean {
  const { glue } = op.osb;
  const { locks } = op;
  if (!glue.domain.clustered) return true;
  const meta = glue.metaLock(inode);
  if (locks.level(glue.rwLock(inode)) === undefined) {
    if (locks.level(meta) !== undefined) return false;
    if (locks.exempt && meta.serving && meta.level === EX) return false;
  }
  rwLock(op, inode, true);
  return true;
}

/** Takes what a truncation had to leave behind the file's end, once the locks can be had in their order. */
function* dropTail(osb: Osb, inode: Inode): Task<void> {
  const locks = new LockSet();
  try {
    const cpos = yield* wait(
      osb.step((op) => {
        rwLock(op, inode, true);
        const di = dinodeOf(op, inodeLock(op, inode, true));
        if (isInline(di)) return undefined;
        inodeExclusive(inode, locks);
        waitIoIdle(inode);
        const from = osb.clustersForBytes(di.i_size);
        return nothingFrom(op, inode, from) ? undefined : from;
      }, locks),
    );
    if (cpos !== undefined) yield* removeClusters(osb, inode, cpos, END_OF_FILES, locks);
  } finally {
    inodeRelease(inode, locks);
    locks.releaseAll();
  }
}

function dropTailLater(osb: Osb, inode: Inode): void {
  inode.task_count++;
  spawn(dropTail(osb, inode), (err) => {
    inode.task_count--;
    // Another node deleted the file, and its clusters with it.
    if (err && !(err instanceof FsError && err.errno === Errno.ESTALE))
      mlog(
        ML.ERROR,
        `clusters behind the end of inode ${inode.ino}: ${err instanceof Error ? err.message : String(err)}`,
      );
  });
}

/** One operation of growing a file; true when what is left fits one more. A file that may have no holes is then as long as wanted. */
function growStep(op: Op, inode: Inode, new_size: number): boolean {
  orderLock(op, inode);
  const bh = inodeLock(op, inode, true);
  const di = dinodeOf(op, bh);
  checkChangeable(inode, di);
  if (new_size > maxFileBytes(op.osb))
    throw new FsError(Errno.EFBIG, "file.truncate", { ino: inode.ino, size: new_size });
  if (di.i_size >= new_size || staysInline(op.osb, di, new_size)) return true;
  waitIoIdle(inode);
  if (op.osb.incompat(FEATURE_INCOMPAT.SPARSE_ALLOC)) return !shortenGap(op, inode, bh, new_size);
  extendNoHoles(op, inode, bh, new_size);
  return false;
}

/**
 * Sets the size (truncate(2)). One operation when the file grows or has no clusters to give back; else a task that keeps
 * other operations off the file. EFBIG, EPERM (immutable, append-only), EINVAL (not a regular file).
 * `extra` joins the first operation: the other attributes of one setattr.
 */
export function* truncateTask(
  osb: Osb,
  inode: Inode,
  new_size: number,
  locks: LockSet,
  extra: (op: Op, bh: Bh) => void = () => {},
): Task<void> {
  const cs = osb.geo.clustersize;
  while (!(yield* wait(osb.step((op) => growStep(op, inode, new_size), locks))));
  try {
    const first = yield* wait(
      osb.step((op) => {
        const in_order = orderLock(op, inode);
        const bh = inodeLock(op, inode, true);
        const di = dinodeOf(op, bh);
        checkChangeable(inode, di);
        if (new_size > maxFileBytes(osb))
          throw new FsError(Errno.EFBIG, "file.truncate", { ino: inode.ino, size: new_size });
        inodeExclusive(inode, locks);
        waitIoIdle(inode);
        op.modify(bh);
        const size = di.i_size;
        const inline = isInline(di);
        let from: number | undefined;
        if (staysInline(osb, di, new_size)) {
          const room = inlineRoom(osb, di);
          const lo = Math.min(size, new_size);
          op.osb.cache.u8.fill(0, room.addr + lo, room.addr + room.bytes);
        } else {
          if (inline) convertInlineToExtents(op, inode, bh);
          if (new_size > size) zeroRange(op, inode, bh, size, new_size);
          else {
            // What stays of the last cluster must read as zeros when the file grows again.
            const cluster_end = Math.min(Math.ceil(new_size / cs) * cs, Math.ceil(size / PAGE_BYTES) * PAGE_BYTES);
            if (new_size < cluster_end) zeroRange(op, inode, bh, new_size, cluster_end);
            const cpos = Math.ceil(new_size / cs);
            if (!nothingFrom(op, inode, cpos)) from = cpos;
          }
        }
        di.i_size = new_size;
        touch(op, di);
        inodeChanged(op, inode);
        extra(op, bh);
        if (from === undefined || in_order) return from;
        op.onSuccess(() => dropTailLater(osb, inode));
        return undefined;
      }, locks),
    );
    if (first !== undefined) yield* removeClusters(osb, inode, first, END_OF_FILES, locks);
  } finally {
    inodeRelease(inode, locks);
  }
}
