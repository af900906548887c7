/**
 * Refcount trees as a whole: which one an inode shares with its reflinks, the tree's cluster lock, making and freeing it
 * (refcounttree.c: ocfs2_lock_refcount_tree, ocfs2_create_refcount_tree, ocfs2_set_refcount_tree,
 * ocfs2_remove_refcount_tree). A tree counts for clusters how many extent records refer to them; without the lock two files
 * on two nodes would each take the other's reference for the last one.
 *
 * Lock order: the inodes' meta locks, the tree's, then the allocators'.
 */
import type { Bh, CachingInfo } from "../../block/buffer_cache.ts";
import { EX, LOCK_TYPES, type LockLevel, type LockRes, lockName, PR } from "../../dlmglue/lock_res.ts";
import {
  DYN_FEATURES,
  FEATURE_INCOMPAT,
  OCFS2_REFCOUNT_BLOCK_SIGNATURE,
  REFCOUNT_FLAGS,
  RefcountBlock,
  refcountRecsPerRb,
} from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { assert, Corruption, FsError } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import { WAIT } from "../../lib/wait.ts";
import { dropAllocatorLocks } from "../alloc/alloc_locks.ts";
import { allocState } from "../alloc/alloc_state.ts";
import { claimMetadata, freeMetadataBlock, type SuballocResult } from "../alloc/suballoc.ts";
import { dinodeOf, type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

/** A tree that this node knows, as the owner of its blocks. Holds nothing of what is in them but the generation. */
export class RefcountTree implements CachingInfo {
  /** Block number of the root. */
  readonly ci_blkno: number;
  /** rf_generation: the block may be freed and become another tree's root. */
  readonly generation: number;
  readonly lockres: LockRes;
  /** By this node. What is in the log of it belongs to the allocators, whose locks do not go before it is on the disk: the tree's own need not wait for that. */
  freed = false;
  epoch = 0;
  cached_blocks = 0;

  constructor(osb: Osb, blkno: number, generation: number) {
    this.ci_blkno = blkno;
    this.generation = generation;
    const ops = {
      ...LOCK_TYPES.refcount,
      downconvert: (res: LockRes, to: LockLevel): Task<void> => downconvert(osb, this, res, to),
    };
    this.lockres = osb.glue.newLockRes(lockName("T", blkno, generation), ops, this);
  }
}

function* downconvert(osb: Osb, tree: RefcountTree, res: LockRes, to: LockLevel): Task<void> {
  if (res.level === EX && !tree.freed) yield* wait(osb.journal.flush);
  if (to < PR) {
    tree.epoch++;
    osb.cache.purge(tree);
  }
}

/** A tree under its lock, within one run. */
export interface LockedTree {
  readonly tree: RefcountTree;
  readonly root_bh: Bh;
}

const known = new WeakMap<Osb, Map<number, RefcountTree>>();

function treesOf(osb: Osb): Map<number, RefcountTree> {
  let trees = known.get(osb);
  if (trees === undefined) {
    trees = new Map();
    known.set(osb, trees);
  }
  return trees;
}

export const rbOf = (op: Op, bh: Bh): RefcountBlock => RefcountBlock.at(op.osb.cache.dv, bh.addr);

export const isTree = (rb: RefcountBlock): boolean => (rb.rf_flags & REFCOUNT_FLAGS.TREE) !== 0;

/** Throws EOPNOTSUPP on a volume without the feature. */
export function checkRefcountFeature(osb: Osb): void {
  if (!osb.incompat(FEATURE_INCOMPAT.REFCOUNT_TREE))
    throw new FsError(Errno.EOPNOTSUPP, "refcount", { found: "the volume lacks the feature refcount" });
}

/** The lock's name needs the tree's generation, which is read without the lock: it stays for the tree's life. */
function learn(op: Op, blkno: number): RefcountTree {
  const { osb } = op;
  // Under an owner of its own: whoever has the lock must not take what was read without it for its own.
  const bh = op.read({ epoch: 0, cached_blocks: 0, ci_blkno: -1 }, blkno, osb.kinds.refcount_block);
  const tree = new RefcountTree(osb, blkno, rbOf(op, bh).rf_generation);
  treesOf(osb).set(blkno, tree);
  return tree;
}

function forget(osb: Osb, tree: RefcountTree): void {
  const trees = treesOf(osb);
  if (trees.get(tree.ci_blkno) === tree) trees.delete(tree.ci_blkno);
  osb.ready(() => osb.background(osb.glue.dropWhenFree(tree.lockres)));
}

function lockTree(op: Op, tree: RefcountTree): void {
  try {
    op.osb.glue.lock(op.locks, tree.lockres, EX);
  } catch (err) {
    // Allocators come after the tree; this operation may have come across them first.
    if (err === WAIT) dropAllocatorLocks(op, allocState(op.osb), -1);
    throw err;
  }
}

/** The tree whose root is at `blkno`, locked at EX until the operation's locks go. Throws Wait, Corruption. */
export function lockRefcountTree(op: Op, blkno: number): LockedTree {
  const { osb } = op;
  checkRefcountFeature(osb);
  if (blkno === 0) throw new Corruption("refcount.tree", { found: "a shared extent in an inode without a tree" });
  for (;;) {
    const tree = treesOf(osb).get(blkno) ?? learn(op, blkno);
    lockTree(op, tree);
    const root_bh = op.read(tree, blkno, osb.kinds.refcount_block);
    const rb = rbOf(op, root_bh);
    if ((rb.rf_flags & REFCOUNT_FLAGS.LEAF) !== 0)
      throw new Corruption("refcount.tree", { blkno, found: "a leaf in place of a root", rf_parent: rb.rf_parent });
    if (rb.rf_generation === tree.generation) return { tree, root_bh };
    // Another node freed the tree that we knew, and a new one began in its place.
    op.locks.release(tree.lockres);
    forget(osb, tree);
  }
}

const hasTree = (di: { i_dyn_features: number }): boolean => (di.i_dyn_features & DYN_FEATURES.HAS_REFCOUNT) !== 0;

/** Block number of the root of the inode's tree, 0 when it shares with nobody. */
export function refcountLoc(op: Op, di_bh: Bh): number {
  const di = dinodeOf(op, di_bh);
  return hasTree(di) ? di.i_refcount_loc : 0;
}

/** The fields that a new root and a new leaf have in common; the block was just created, and so is zero. */
export function initRefcountBlock(op: Op, bh: Bh, got: SuballocResult, generation: number): RefcountBlock {
  const { geo } = op.osb;
  const rb = rbOf(op, bh);
  rb.rf_signature = OCFS2_REFCOUNT_BLOCK_SIGNATURE;
  rb.rf_suballoc_slot = got.suballoc_slot;
  rb.rf_suballoc_bit = got.suballoc_bit;
  rb.rf_suballoc_loc = got.suballoc_loc;
  rb.rf_fs_generation = geo.fs_generation;
  rb.rf_blkno = got.blkno;
  rb.rf_generation = generation;
  rb.rf_records.rl_count = refcountRecsPerRb(geo.blocksize);
  return rb;
}

function setTree(op: Op, inode: Inode, di_bh: Bh, blkno: number): void {
  op.modify(di_bh);
  const di = dinodeOf(op, di_bh);
  if (blkno === 0) di.i_dyn_features &= ~DYN_FEATURES.HAS_REFCOUNT;
  else di.i_dyn_features |= DYN_FEATURES.HAS_REFCOUNT;
  di.i_refcount_loc = blkno;
  inodeChanged(op, inode);
}

/** Trees that operations are about to make, by block number. */
const fresh = new WeakMap<Osb, Map<number, RefcountTree>>();

/**
 * The object for a tree that is to begin at `blkno`. A run that waits for the tree's lock is undone and comes here
 * again: it must find the lock that it asked for, so the generation in the lock's name is drawn once.
 */
function freshTree(op: Op, blkno: number): RefcountTree {
  const { osb } = op;
  const drawn = fresh.get(osb) ?? new Map<number, RefcountTree>();
  fresh.set(osb, drawn);
  const tree = drawn.get(blkno) ?? new RefcountTree(osb, blkno, osb.random.u32());
  drawn.set(blkno, tree);
  op.onSuccess(() => drawn.delete(blkno));
  return tree;
}

/** The lock of the tree that the operation made, or waits for, in its last run. */
const new_locks = new WeakMap<Op, LockRes>();

/**
 * The new tree's lock at EX. Nobody else wants it, but it may have to be asked for; and the next run may get another
 * block from the allocator. So it is not kept when the run is undone: two operations would wait for each other's blocks.
 */
function lockFreshTree(op: Op, { lockres }: RefcountTree): void {
  const last = new_locks.get(op);
  if (last !== undefined && last !== lockres && op.locks.level(last) !== undefined) op.locks.release(last);
  new_locks.set(op, lockres);
  op.osb.glue.lock(op.locks, lockres, EX);
  op.onUndo(() => {
    if (op.locks.level(lockres) !== undefined) op.locks.release(lockres);
  });
}

/** A new, empty tree with this inode as its only user. Throws ENOSPC. */
export function createRefcountTree(op: Op, inode: Inode, di_bh: Bh): LockedTree {
  const { osb } = op;
  checkRefcountFeature(osb);
  assert(refcountLoc(op, di_bh) === 0, `inode ${inode.ino} has a refcount tree already`);
  const got = claimMetadata(op)[0]!;
  const tree = freshTree(op, got.blkno);
  const trees = treesOf(osb);
  const old = trees.get(got.blkno);
  trees.set(got.blkno, tree);
  op.onUndo(() => {
    if (old === undefined) trees.delete(got.blkno);
    else trees.set(got.blkno, old);
  });
  lockFreshTree(op, tree);
  const root_bh = op.create(tree, got.blkno, osb.kinds.refcount_block);
  initRefcountBlock(op, root_bh, got, tree.generation).rf_count = 1;
  setTree(op, inode, di_bh, got.blkno);
  return { tree, root_bh };
}

/** One more inode shares the tree. */
export function joinRefcountTree(op: Op, inode: Inode, di_bh: Bh, { tree, root_bh }: LockedTree): void {
  assert(refcountLoc(op, di_bh) === 0, `inode ${inode.ino} has a refcount tree already`);
  op.modify(root_bh);
  const rb = rbOf(op, root_bh);
  rb.rf_count = rb.rf_count + 1;
  setTree(op, inode, di_bh, tree.ci_blkno);
}

/** The inode, which has no shared cluster any more, leaves its tree; after the last one the tree is freed. */
export function leaveRefcountTree(op: Op, inode: Inode, di_bh: Bh): void {
  const { osb } = op;
  const blkno = refcountLoc(op, di_bh);
  if (blkno === 0) return;
  const { tree, root_bh } = lockRefcountTree(op, blkno);
  const rb = rbOf(op, root_bh);
  const { rf_count } = rb;
  if (rf_count === 0) throw new Corruption("refcount.tree", { blkno, ino: inode.ino, found: "a tree without users" });
  op.modify(root_bh);
  rb.rf_count = rf_count - 1;
  setTree(op, inode, di_bh, 0);
  // A task that keeps its locks may go on to another tree.
  op.onSuccess(() => {
    if (op.locks.level(tree.lockres) !== undefined) op.locks.release(tree.lockres);
  });
  if (rf_count > 1) return;
  freeMetadataBlock(op, { slot: rb.rf_suballoc_slot, bit: rb.rf_suballoc_bit, loc: rb.rf_suballoc_loc, blkno });
  op.onSuccess(() => {
    tree.freed = true;
    forget(osb, tree);
  });
}
