/**
 * FITRIM: tells the device which clusters are free (alloc.c: ocfs2_trim_fs). A cluster that was free when the device was told may
 * not be given to anybody before the device has answered: it would discard what was written meanwhile. So nobody takes from
 * the global bitmap while a group's free runs are on their way; between two groups everybody may.
 *
 * What is free in the bitmap is free for good: clusters come there only when no journal can touch them any more (truncate_log.ts).
 */

import { EX } from "../../dlmglue/lock_res.ts";
import { LockSet } from "../../dlmglue/lock_set.ts";
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import { OCFS2_TRIMFS_LVB_VERSION, TrimFsLvb } from "../../format/wire/lvb.ts";
import { Errno } from "../../lib/errno.ts";
import { einval, erofs, FsError } from "../../lib/fs_error.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { type Task, wait } from "../../lib/task.ts";
import { dinodeOf } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { type AllocState, allocState } from "./alloc_state.ts";
import { clusterToGroup, groupFirstCluster, groupOf, openAllocator, readGroup } from "./chain.ts";
import { lookForEnd } from "./volume_end.ts";

/** Bytes of the volume; `min_bytes`: shorter free runs are left alone. */
export interface TrimRange {
  readonly start: number;
  readonly len: number;
  readonly min_bytes: number;
}

interface FreeRun {
  readonly cluster: number;
  readonly clusters: number;
}

/** Free runs of the group that has `first`, within [first, last); and the cluster behind the group. */
function freeRuns(op: Op, first: number, last: number, min: number): { runs: FreeRun[]; next: number } {
  const { osb } = op;
  const ca = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP, 0, true);
  const end = Math.min(last, dinodeOf(op, ca.bh).i_clusters);
  if (first >= end) return { runs: [], next: last };
  const { group, left } = clusterToGroup(op, ca, first);
  const gd = groupOf(op, readGroup(op, ca, group));
  const base = groupFirstCluster(op, group);
  const stop = Math.min(end, base + gd.bg_bits);
  const bitmap = osb.cache.u8.subarray(gd.bg_bitmap_off(0), gd.bg_bitmap_off(0) + Math.ceil(gd.bg_bits / 8));
  const isFree = (cluster: number): boolean => (bitmap[(cluster - base) >> 3]! & (1 << ((cluster - base) & 7))) === 0;
  const runs: FreeRun[] = [];
  for (let at = first; at < stop; ) {
    const from = at;
    while (at < stop && isFree(at)) at++;
    if (at > from && at - from >= min) runs.push({ cluster: from, clusters: at - from });
    if (at === from) at++;
  }
  return { runs, next: first + left };
}

/** Keeps this node's other operations off the bitmap; its lock keeps other nodes off. */
function holdBitmap(op: Op, st: AllocState): void {
  const { osb } = op;
  if (osb.readonly_reason !== null) throw erofs("trim", { reason: osb.readonly_reason });
  op.onSuccess(() => {
    st.trimming = op.locks;
  });
}

/** How a trim is asked for, as its lock's value block has it: what a kernel node was asked for reads the same. */
function asked({ start, len, min_bytes }: TrimRange): { start: bigint; len: bigint; min: bigint } {
  const whole = start + len >= Number.MAX_SAFE_INTEGER;
  return { start: BigInt(start), len: whole ? 2n ** 64n - 1n : BigInt(len), min: BigInt(min_bytes) };
}

const lvbOf = (osb: Osb): TrimFsLvb => {
  const { lvb } = osb.glue.trim_fs_lockres;
  return TrimFsLvb.at(new DataView(lvb.buffer, lvb.byteOffset, lvb.byteLength), 0);
};

/** Bytes that another node has just trimmed, if it was asked for the same and all went well. */
function justDone(osb: Osb, range: TrimRange): { node: number; bytes: number } | undefined {
  const v = lvbOf(osb);
  const a = asked(range);
  if (osb.glue.trim_fs_lockres.dl?.lvb_valid !== true || v.lvb_version !== OCFS2_TRIMFS_LVB_VERSION) return undefined;
  if (v.lvb_success !== 1 || v.lvb_start !== a.start || v.lvb_len !== a.len || v.lvb_minlen !== a.min) return undefined;
  return { node: v.lvb_nodenum, bytes: Number(v.lvb_trimlen) };
}

function stuffLvb(osb: Osb, range: TrimRange, bytes: number | undefined): void {
  const v = lvbOf(osb);
  const a = asked(range);
  v.lvb_version = OCFS2_TRIMFS_LVB_VERSION;
  v.lvb_success = bytes === undefined ? 0 : 1;
  v.lvb_nodenum = osb.glue.domain.node_num;
  v.lvb_start = a.start;
  v.lvb_len = a.len;
  v.lvb_minlen = a.min;
  v.lvb_trimlen = BigInt(bytes ?? 0);
}

/** One node at a time; who had to wait for the same trim of another node takes its result (ocfs2_trim_fs). */
function* clusterTrim(osb: Osb, range: TrimRange): Task<number> {
  const { glue, dev } = osb;
  const locks = new LockSet();
  const res = glue.trim_fs_lockres;
  try {
    if (!(yield* wait(osb.step((op) => glue.tryLock(op.locks, res, EX), locks)))) {
      mlog(ML.NOTICE, `${dev.name}: waiting for a trim to finish that runs on another node`);
      yield* wait(osb.step((op) => glue.lock(op.locks, res, EX), locks));
      const done = justDone(osb, range);
      if (done !== undefined) {
        mlog(ML.NOTICE, `${dev.name}: the same trim was just done by node ${done.node}`);
        return done.bytes;
      }
    }
    let bytes: number | undefined;
    try {
      bytes = yield* trimBitmap(osb, range);
      return bytes;
    } finally {
      stuffLvb(osb, range, bytes);
    }
  } finally {
    locks.releaseAll();
  }
}

/** Discards the free clusters of a range; how many bytes. EOPNOTSUPP when the device cannot, EINVAL, EROFS, EIO. */
export function* trimTask(osb: Osb, range: TrimRange): Task<number> {
  const cs = osb.geo.clustersize;
  if (osb.glue.domain.clustered) yield* wait(osb.step(lookForEnd));
  // Cluster 0 holds the super block, and its bit is set; whoever asks for less than a cluster asks for nothing.
  if (Math.ceil(range.start / cs) >= osb.geo.clusters || range.len < cs)
    throw einval("trim", { start: range.start, len: range.len });
  if (osb.readonly_reason !== null) throw erofs("trim", { reason: osb.readonly_reason });
  const st = allocState(osb);
  while (st.trim_running) yield* wait<void>((cb) => st.trim_over.add(() => osb.ready(() => cb(null))));
  st.trim_running = true;
  try {
    return yield* osb.glue.domain.clustered ? clusterTrim(osb, range) : trimBitmap(osb, range);
  } finally {
    st.trim_running = false;
    st.trim_over.wakeAll();
  }
}

/** ocfs2_trim_mainbm */
function* trimBitmap(osb: Osb, range: TrimRange): Task<number> {
  const cs = osb.geo.clustersize;
  const last = Math.min(osb.geo.clusters, Math.floor((range.start + range.len) / cs));
  let at = Math.ceil(range.start / cs);
  const min = Math.max(1, Math.ceil(range.min_bytes / cs));
  const st = allocState(osb);
  let trimmed = 0;
  while (at < last && !st.stopping) {
    const first = at;
    const keep = new LockSet();
    try {
      const { runs, next } = yield* wait(
        osb.step((op) => {
          holdBitmap(op, st);
          return freeRuns(op, first, last, min);
        }, keep),
      );
      for (const run of runs) {
        const res = yield* wait<number>((cb) =>
          osb.dev.discard(run.cluster * cs, run.clusters * cs, (n) => cb(null, n)),
        );
        if (res < 0) throw new FsError(res === -Errno.EOPNOTSUPP ? Errno.EOPNOTSUPP : Errno.EIO, "trim", { ...run });
        trimmed += run.clusters * cs;
      }
      at = next;
    } finally {
      if (st.trimming === keep) {
        st.trimming = null;
        st.trim_done.wakeAll();
      }
      keep.releaseAll();
    }
  }
  return trimmed;
}
