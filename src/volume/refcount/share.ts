/**
 * Giving one file's clusters to another as well: the part that whole reflinks and shared ranges have in common
 * (refcounttree.c: ocfs2_add_refcount_flag, ocfs2_add_refcounted_extent, ocfs2_reflink_remap_blocks).
 *
 * Clusters are shared as they are on the disk, so the source's dirty data is written first and the source kept from
 * writers until the end: a page of a shared cluster is never dirty.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { EXT_FLAGS } from "../../format/disk/index.ts";
import { errseqCheck, errseqSample } from "../../lib/errseq.ts";
import { FsError } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import { changeExtentFlag, dinodeExtentTree, insertExtent } from "../extents/extent_tree.ts";
import { type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { increaseRefcount } from "./counts.ts";
import { createRefcountTree, joinRefcountTree, type LockedTree, lockRefcountTree, refcountLoc } from "./tree.ts";

/** An inode and its dinode's block, under its lock at EX within one run. */
export interface Side {
  readonly inode: Inode;
  readonly bh: Bh;
}

/** True when the inodes are in one tree, or can be. */
export function mayShare(op: Op, a: Side, b: Side): boolean {
  const [x, y] = [refcountLoc(op, a.bh), refcountLoc(op, b.bh)];
  return x === 0 || y === 0 || x === y;
}

/** The tree of both inodes, made or joined where need be; `mayShare` was true. */
export function commonTree(op: Op, src: Side, dst: Side): LockedTree {
  const s = refcountLoc(op, src.bh);
  const d = refcountLoc(op, dst.bh);
  const t = s === 0 && d === 0 ? createRefcountTree(op, src.inode, src.bh) : lockRefcountTree(op, s === 0 ? d : s);
  if (s === 0 && d !== 0) joinRefcountTree(op, src.inode, src.bh, t);
  if (d === 0) joinRefcountTree(op, dst.inode, dst.bh, t);
  return t;
}

/**
 * Maps `clusters` clusters from the source's cpos on at the destination's, where there is a hole. They lie in one extent
 * of the source, of which `p_cluster` and `flags` tell.
 */
export function shareClusters(
  op: Op,
  t: LockedTree,
  src: Side,
  s_cpos: number,
  dst: Side,
  d_cpos: number,
  run: { p_cluster: number; clusters: number; flags: number },
): void {
  const { p_cluster, clusters, flags } = run;
  if ((flags & EXT_FLAGS.REFCOUNTED) === 0) {
    changeExtentFlag(op, dinodeExtentTree(op, src.inode, src.bh), s_cpos, clusters, EXT_FLAGS.REFCOUNTED, 0);
    increaseRefcount(op, t, p_cluster, clusters);
    inodeChanged(op, src.inode);
  }
  const blkno = op.osb.clustersToBlocks(p_cluster);
  const et = dinodeExtentTree(op, dst.inode, dst.bh);
  insertExtent(op, et, d_cpos, blkno, clusters, flags | EXT_FLAGS.REFCOUNTED);
  increaseRefcount(op, t, p_cluster, clusters);
  inodeChanged(op, dst.inode);
}

/** All data of a file that the task has for itself is on the disk. Throws what its write-back failed with. */
export function* flushSource(osb: Osb, inode: Inode, check: (op: Op) => void, locks: LockSet): Task<void> {
  const since = errseqSample(inode.wb_err);
  for (;;) {
    yield* wait(osb.step(check, locks));
    const errno = errseqCheck(inode.wb_err, since);
    if (errno !== 0) throw new FsError(errno, "refcount.flush", { ino: inode.ino });
    if (inode.dirty_pages === 0 && inode.pages_in_flight === 0) return;
    yield* wait(osb.data.flushOwner(inode));
  }
}
