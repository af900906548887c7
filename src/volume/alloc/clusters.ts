/**
 * Clusters for data, directories and attribute trees: from the local alloc's window if the request is small against it,
 * else straight from the global bitmap (suballoc.c: ocfs2_reserve_clusters, __ocfs2_claim_clusters).
 */
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import { assert, enospc } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import { allocState } from "./alloc_state.ts";
import { claimBits, clusterToGroup, hintedGroup, openAllocator } from "./chain.ts";
import { claimInWindow, claimLocal, shouldUseLocal } from "./localalloc.ts";
import { waitForFrees } from "./truncate_log.ts";

export interface ClaimedClusters {
  p_cluster: number;
  clusters: number;
}

/**
 * One contiguous run of at most `max` clusters and at least `min`, near `goal_cluster` where that is given (0: no wish).
 * `inode`: whose reservation in the local alloc's window is used. Throws ENOSPC when there is no run of `min`; frees that wait in the
 * truncate log are made good before that. A caller that needs `n` clusters claims with min 1 until it has them.
 */
export function claimClusters(
  op: Op,
  min: number,
  max: number,
  goal_cluster = 0,
  inode: Inode | null = null,
): ClaimedClusters {
  assert(min > 0 && max >= min, `claim of ${min} to ${max} clusters`);
  if (shouldUseLocal(op, max)) {
    const got = claimLocal(op, min, max, inode, goal_cluster);
    if (got !== null) return got;
  }
  const bitmap = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
  // A group's first cluster holds its descriptor: no run is longer than the rest.
  const longest = dinodeOf(op, bitmap.bh).i_chain.cl_cpg - 1;
  if (min <= longest) {
    const st = allocState(op.osb);
    const in_volume = goal_cluster > 0 && goal_cluster < dinodeOf(op, bitmap.bh).i_clusters;
    const goal = in_volume ? clusterToGroup(op, bitmap, goal_cluster) : { group: hintedGroup(st, bitmap), bit: 0 };
    const got = claimBits(op, bitmap, Math.min(max, longest), min, goal.group, goal.bit);
    if (got !== null) return { p_cluster: got.start, clusters: got.bits };
    // The last free clusters may be those of our own window.
    const last = claimInWindow(op, min, max, inode, goal_cluster);
    if (last !== null) return last;
  }
  waitForFrees(op, min);
  throw enospc("alloc.clusters", { min, max });
}

/** Clusters of the volume, in all and free, by the global bitmap. Windows of local allocs count as used, as the kernel has it. */
export interface VolumeStat {
  total_clusters: number;
  free_clusters: number;
}

/** What statfs needs (ocfs2_statfs). Takes the global bitmap's lock at PR. */
export function volumeStat(op: Op): VolumeStat {
  const di = dinodeOf(op, inodeLock(op, op.osb.sysfile(SYSTEM_INODE.GLOBAL_BITMAP)));
  return { total_clusters: di.i_total, free_clusters: Math.max(0, di.i_total - di.i_used) };
}
