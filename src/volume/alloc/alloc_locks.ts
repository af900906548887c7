/**
 * Cluster locks of allocator inodes. Two nodes that steal from each other, or take clusters and metadata in different
 * orders, would wait for each other for ever. The kernel reserves everything up front in one order; here a claim may
 * come at any point of an operation. So the locks have ranks, and an operation that must wait for one gives back those
 * of higher rank once its changes are undone; when it is run again it already holds the lower one.
 */

import type { Bh } from "../../block/buffer_cache.ts";
import { EX, PR } from "../../dlmglue/lock_res.ts";
import { SYSTEM_INODE, type SystemInode } from "../../format/disk/index.ts";
import { WAIT, waitOn } from "../../lib/wait.ts";
import { type Inode, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import { type AllocState, allocState } from "./alloc_state.ts";

/** The kernel's order: inodes, metadata, clusters; among slots the lower number first. */
function rankOf(type: SystemInode, slot: number): number {
  switch (type) {
    case SYSTEM_INODE.INODE_ALLOC:
      return slot;
    case SYSTEM_INODE.EXTENT_ALLOC:
      return 0x1000 + slot;
    default:
      return 0x2000;
  }
}

/** When this run is undone, the allocator locks above `rank` are given back (-1: all). */
export function dropAllocatorLocks(op: Op, st: AllocState, rank: number): void {
  op.onUndo(() => {
    for (const [res, r] of st.lock_ranks) if (r > rank && op.locks.level(res) !== undefined) op.locks.release(res);
  });
}

/**
 * Locks an allocator at EX until the operation ends (also when a task's lock set would keep it, unless `keep`) and returns
 * its dinode's block, not yet joined to the operation. Throws Wait.
 */
export function lockAllocator(op: Op, type: SystemInode, slot: number, keep = false): { inode: Inode; bh: Bh } {
  const { osb } = op;
  const st = allocState(osb);
  if (st.trimming !== null && st.trimming !== op.locks && type === SYSTEM_INODE.GLOBAL_BITMAP) waitOn(st.trim_done);
  const inode = osb.sysfile(type, slot);
  const res = osb.glue.metaLock(inode);
  if (osb.glue.domain.clustered) {
    const rank = rankOf(type, slot);
    st.lock_ranks.set(res, rank);
    // An earlier run may have looked for the end of the volume.
    if (op.locks.level(res) === PR) op.locks.release(res);
    try {
      osb.glue.lock(op.locks, res, EX);
    } catch (err) {
      if (err === WAIT) dropAllocatorLocks(op, st, rank);
      throw err;
    }
    // What came with the lock may be true no more when it goes.
    inode.lvb_fresh = false;
    if (!keep)
      op.onSuccess(() => {
        if (op.locks.level(res) !== undefined) op.locks.release(res);
      });
  }
  return { inode, bh: readDinode(op, inode) };
}
