/**
 * The truncate log: clusters that were freed wait here until no record in any journal can touch them
 * (alloc.c, ocfs2_truncate_log_append and ocfs2_flush_truncate_log). OCFS2 writes no revoke records. So if a directory
 * block's cluster went to another file at once, a crash would replay the old directory over the new data. Between the
 * free and the bitmap lies a flush of the whole journal: committed, in place, tail moved.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { SYSTEM_INODE, TruncateRec, truncateRecsPerInode } from "../../format/disk/index.ts";
import { Corruption, erofs } from "../../lib/fs_error.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { spawn, type Task, wait } from "../../lib/task.ts";
import { waitOn } from "../../lib/wait.ts";
import { dinodeOf, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { dropAllocatorLocks } from "./alloc_locks.ts";
import { type AllocState, allocState, seenFreeBits } from "./alloc_state.ts";
import { freeToBitmap, openAllocator } from "./chain.ts";
import { inVolume } from "./volume_end.ts";

const FLUSH_DELAY_MS = 2000;
/** Records that one step of a flush returns to the bitmap: each may lie in another group. */
const RECORDS_PER_STEP = 48;
const PAGE_BITS = 12;

/** The truncate log of a slot, checked. */
function readLog(op: Op, slot: number): Bh {
  const { osb } = op;
  const bh = readDinode(op, osb.sysfile(SYSTEM_INODE.TRUNCATE_LOG, slot));
  const tl = dinodeOf(op, bh).i_dealloc;
  if (tl.tl_count === 0 || tl.tl_count > truncateRecsPerInode(osb.geo.blocksize) || tl.tl_used > tl.tl_count)
    throw new Corruption("truncate_log", { blkno: bh.blkno, tl_count: tl.tl_count, tl_used: tl.tl_used });
  return bh;
}

/** Records in the truncate log of a slot. */
export const recordsIn = (op: Op, slot: number): number => dinodeOf(op, readLog(op, slot)).i_dealloc.tl_used;

/**
 * Frees clusters that the operation's changes no longer refer to: into the truncate log now, to the bitmap once the
 * change is in its place on the disk. Throws Wait while the log is full.
 */
export function freeClusters(op: Op, p_cluster: number, clusters: number): void {
  const { osb } = op;
  if (clusters === 0) return;
  // What is no cluster must not get into the log: the flush could never get it out again.
  if (!inVolume(op, p_cluster, clusters))
    throw new Corruption("alloc.free", { p_cluster, clusters, found: "clusters that the volume does not have" });
  const st = allocState(osb);
  const bh = readLog(op, osb.slot_num);
  const tl = dinodeOf(op, bh).i_dealloc;
  const used = tl.tl_used;
  const last = used > st.tl_pinned ? tl.tl_recs.at(used - 1) : null;
  if (last !== null && last.t_start + last.t_clusters === p_cluster) {
    op.modify(bh);
    last.t_clusters += clusters;
  } else if (last !== null && p_cluster + clusters === last.t_start) {
    // A truncate works from the file's end to its front.
    op.modify(bh);
    last.t_start = p_cluster;
    last.t_clusters += clusters;
  } else if (used < tl.tl_count) {
    op.modify(bh);
    const rec = TruncateRec.at(osb.cache.dv, tl.tl_recs_off(used));
    rec.t_start = p_cluster;
    rec.t_clusters = clusters;
    tl.tl_used = used + 1;
    if (st.tl_added++ === 0) {
      const reset = (): void => {
        st.tl_added = 0;
      };
      op.onUndo(reset);
      op.onSuccess(reset);
    }
  } else {
    // An empty log would not help an operation that fills it alone: none of ours does, but for what a damaged tree leads it to.
    if (st.tl_added >= tl.tl_count)
      throw new Corruption("truncate_log", {
        tl_count: tl.tl_count,
        found: "more extents to free at once than it holds",
      });
    waitForFlush(op, st);
  }
  const half_full = used * 2 > tl.tl_count;
  op.onSuccess(() => {
    st.tl_clusters += clusters;
    if (half_full && !st.tl_flushing && !st.stopping) osb.ready(() => startFlush(osb, st));
    else scheduleFlush(osb, st);
  });
}

function scheduleFlush(osb: Osb, st: AllocState): void {
  if (st.tl_flushing || st.stopping || st.tl_cancel_timer !== null) return;
  st.tl_cancel_timer = osb.clock.after(FLUSH_DELAY_MS, () => {
    st.tl_cancel_timer = null;
    startFlush(osb, st);
    osb.wakeLoop();
  });
}

function cancelTimer(st: AllocState): void {
  st.tl_cancel_timer?.();
  st.tl_cancel_timer = null;
}

/** Starts a flush unless one runs; does not wait. Not inside an operation: its steps are operations of their own. */
function startFlush(osb: Osb, st: AllocState): void {
  if (st.tl_flushing) return;
  spawn(truncateLogFlush(osb), (err) => {
    if (!err) return;
    mlog(ML.ERROR, `truncate log: ${err instanceof Error ? err.message : String(err)}`);
    if (err instanceof Corruption) osb.onCorruption(err);
  });
}

/** Gives the operation up until the log was flushed. Its allocator locks go too: the flush may wait for the same. */
function waitForFlush(op: Op, st: AllocState): never {
  const { osb } = op;
  if (osb.readonly_reason !== null) throw erofs("truncate_log", { reason: osb.readonly_reason });
  if (st.tl_error !== null) {
    const err = st.tl_error;
    st.tl_error = null;
    throw err;
  }
  dropAllocatorLocks(op, st, -1);
  op.onUndo(() => osb.ready(() => startFlush(osb, st)));
  waitOn(st.tl_done);
}

/**
 * ENOSPC is near: if the truncate log holds `min` clusters or more, flushes it and has the operation run again
 * (ocfs2_try_to_free_truncate_log); else returns.
 */
export function waitForFrees(op: Op, min: number): void {
  const st = allocState(op.osb);
  if (st.tl_clusters >= min && st.tl_clusters > 0 && !st.stopping) waitForFlush(op, st);
}

/** Returns what is in our truncate log now to the global bitmap, after a flush of the journal. */
export function* truncateLogFlush(osb: Osb): Task<void> {
  const st = allocState(osb);
  while (st.tl_flushing) yield* wait<void>((cb) => st.tl_done.add(() => cb(null)));
  cancelTimer(st);
  st.tl_flushing = true;
  st.tl_error = null;
  try {
    st.tl_pinned = yield* wait(osb.step((op) => recordsIn(op, osb.slot_num)));
    if (st.tl_pinned === 0) {
      st.tl_clusters = 0;
      return;
    }
    yield* wait(osb.journal.flush);
    while (st.tl_pinned > 0) {
      yield* wait(
        osb.step((op) => {
          const done = replayRecords(op, osb.slot_num, Math.min(st.tl_pinned, RECORDS_PER_STEP));
          op.onSuccess(() => {
            st.tl_pinned -= done.records;
            st.tl_clusters = Math.max(0, st.tl_clusters - done.clusters);
          });
        }),
      );
    }
    // What was freed may make our own allocators useful again.
    st.steal.clear();
  } catch (err) {
    st.tl_error = err;
    throw err;
  } finally {
    st.tl_flushing = false;
    st.tl_pinned = 0;
    st.tl_done.wakeAll();
  }
}

/** Returns the first `count` records of a slot's log to the bitmap and takes them out of the log. */
function replayRecords(op: Op, slot: number, count: number): { records: number; clusters: number } {
  const { osb } = op;
  const bh = readLog(op, slot);
  const tl = dinodeOf(op, bh).i_dealloc;
  const n = Math.min(count, tl.tl_used);
  const bitmap = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
  let clusters = 0;
  for (let i = 0; i < n; i++) {
    const { t_start, t_clusters } = tl.tl_recs.at(i);
    // A record that begins at 0 was crossed out (ocfs2_replay_truncate_records).
    if (t_start === 0) continue;
    forgetFreed(op, t_start, t_clusters);
    freeToBitmap(op, bitmap, t_start, t_clusters);
    clusters += t_clusters;
    op.onSuccess(() => seenFreeBits(allocState(osb), t_clusters));
  }
  op.modify(bh);
  const { u8 } = osb.cache;
  const left = tl.tl_used - n;
  u8.copyWithin(tl.tl_recs_off(0), tl.tl_recs_off(n), tl.tl_recs_off(tl.tl_used));
  u8.fill(0, tl.tl_recs_off(left), tl.tl_recs_off(tl.tl_used));
  tl.tl_used = left;
  return { records: n, clusters };
}

/** Whatever is cached of freed clusters is void from the moment that others may have them. Throws Wait while it is under I/O. */
export function forgetFreed(op: Op, p_cluster: number, clusters: number): void {
  const { osb } = op;
  const page_shift = osb.geo.clustersize_bits - PAGE_BITS;
  const pno = p_cluster * 2 ** page_shift;
  const pages = clusters * 2 ** page_shift;
  osb.data.waitIdle(pno, pages);
  op.onSuccess(() => {
    osb.data.invalidate(pno, pages);
    osb.cache.forget(osb.clustersToBlocks(p_cluster), osb.clustersToBlocks(clusters));
  });
}

/** Empties the truncate log of a slot that is dead or was ours before, as long as it is ours: its journal was replayed and is in place. */
export function* truncateLogRecover(osb: Osb, slot: number, isOurs: () => boolean): Task<void> {
  for (;;) {
    const { records } = yield* wait(
      osb.step((op) =>
        !isOurs() || recordsIn(op, slot) === 0
          ? { records: 0, clusters: 0 }
          : replayRecords(op, slot, RECORDS_PER_STEP),
      ),
    );
    if (records === 0) return;
    mlog(ML.ALLOC, `truncate log of slot ${slot}: ${records} records returned`);
  }
}

/** Mount's end: no flush is started any more, and the log is empty when it returns. */
export function* truncateLogStop(osb: Osb): Task<void> {
  const st = allocState(osb);
  st.stopping = true;
  do {
    cancelTimer(st);
    yield* truncateLogFlush(osb);
  } while (st.tl_clusters > 0);
}
