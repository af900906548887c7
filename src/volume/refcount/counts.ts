/**
 * Reading and changing the counts in a refcount tree (refcounttree.c: ocfs2_get_refcount_rec, __ocfs2_increase_refcount,
 * __ocfs2_decrease_refcount, ocfs2_expand_refcount_tree).
 *
 *     root, few records:   [records]
 *     root, TREE in rf_flags:   extent tree, one record of length 1 a leaf; its e_blkno is the leaf, its e_cpos where the
 *                               leaf's clusters begin  ->  leaf [records]   leaf [records]   …
 *
 * r_cpos has 64 bits and e_cpos 32. A volume has at most 2^32 clusters, so the upper half is always zero (readRecs
 * checks it) and what the kernel does for intersecting lower halves is not needed.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { extentRecsPerRb, REFCOUNT_FLAGS, RefcountBlock, refcountRecsPerRb } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { waitOn } from "../../lib/wait.ts";
import { claimMetadata, freeClusters, freeMetadataBlock } from "../alloc/suballoc.ts";
import { blknoOf, cposOf, emptyRecs, lastAtOrBefore, recAt, usedOf } from "../extents/extent_list.ts";
import { insertExtent, refcountExtentTree, removeExtent } from "../extents/extent_tree.ts";
import { findPath, leafOf, rightBoundary } from "../extents/path.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { changeRecs, type Rec, readRecs, writeRecs } from "./records.ts";
import { initRefcountBlock, isTree, type LockedTree, rbOf } from "./tree.ts";

/** A block with records, and up to which cluster what it does not hold is not shared either. */
interface Leaf {
  readonly bh: Bh;
  /** e_cpos of its extent record; 0 for a root with records. */
  readonly e_cpos: number;
  readonly end: number;
}

const END_OF_VOLUMES = 2 ** 32;

function findLeaf(op: Op, t: LockedTree, cpos: number): Leaf {
  const { root_bh, tree } = t;
  if (!isTree(rbOf(op, root_bh))) return { bh: root_bh, e_cpos: 0, end: END_OF_VOLUMES };
  const { dv } = op.osb.cache;
  const et = refcountExtentTree(op, tree, root_bh);
  const path = findPath(op, et, cpos);
  const { el, bh } = leafOf(path);
  const from = emptyRecs(dv, el);
  const idx = Math.max(from, lastAtOrBefore(dv, el, from, cpos));
  if (idx >= usedOf(dv, el))
    throw new Corruption("refcount.leaf", { root: root_bh.blkno, blkno: bh.blkno, found: "a tree without leaves" });
  const rec = recAt(el, idx);
  const end = idx + 1 < usedOf(dv, el) ? cposOf(dv, recAt(el, idx + 1)) : rightBoundary(et, path, END_OF_VOLUMES);
  const leaf_bh = op.read(tree, blknoOf(dv, rec), op.osb.kinds.refcount_block);
  const rb = rbOf(op, leaf_bh);
  if ((rb.rf_flags & REFCOUNT_FLAGS.LEAF) === 0 || rb.rf_parent !== root_bh.blkno)
    throw new Corruption("refcount.leaf", { root: root_bh.blkno, blkno: leaf_bh.blkno, rf_parent: rb.rf_parent });
  return { bh: leaf_bh, e_cpos: cposOf(dv, rec), end };
}

/**
 * The count of `cpos`, and how many clusters from there on, at most `clusters`, have the same by one record: refcount 0
 * for clusters without a record (ocfs2_get_refcount_rec).
 */
export function refcountOf(op: Op, t: LockedTree, cpos: number, clusters: number): Rec {
  const leaf = findLeaf(op, t, cpos);
  const stop = Math.min(cpos + clusters, leaf.end);
  for (const r of readRecs(op, rbOf(op, leaf.bh))) {
    const end = r.cpos + r.clusters;
    if (end <= cpos) continue;
    if (r.cpos > cpos) return { cpos, clusters: Math.min(r.cpos, stop) - cpos, refcount: 0 };
    return { cpos, clusters: Math.min(end, cpos + clusters) - cpos, refcount: r.refcount };
  }
  return { cpos, clusters: stop - cpos, refcount: 0 };
}

/** How many of these clusters, at least one, lie in the first `max_recs` records: a bound for one operation. */
export function boundedRun(op: Op, t: LockedTree, cpos: number, clusters: number, max_recs: number): number {
  let n = 0;
  for (let recs = 0; recs < max_recs && n < clusters; recs++) n += refcountOf(op, t, cpos + n, clusters - n).clusters;
  return n;
}

/** One more extent record refers to these clusters; the first one counts them as 1. Throws ENOSPC. */
export function increaseRefcount(op: Op, t: LockedTree, cpos: number, clusters: number): void {
  change(op, t, cpos, clusters, 1, () => {});
}

/**
 * One extent record less refers to these clusters, which all have a count. What falls to none has no record any more; `free`: it is
 * freed as well. Throws ENOSPC when a record must be split and there is no room, Wait.
 */
export function decreaseRefcount(op: Op, t: LockedTree, cpos: number, clusters: number, free: boolean): void {
  const runs: { cpos: number; clusters: number }[] = [];
  change(op, t, cpos, clusters, -1, (at, n) => {
    const last = runs[runs.length - 1];
    if (last !== undefined && last.cpos + last.clusters === at) last.clusters += n;
    else runs.push({ cpos: at, clusters: n });
  });
  if (free) for (const r of runs) freeClusters(op, r.cpos, r.clusters);
  op.onSuccess(() => remember(op.osb, cpos, clusters));
}

/** Clusters that lost an owner in a transaction which is not committed. */
interface Given {
  readonly tid: number;
  readonly cpos: number;
  clusters: number;
}

const given = new WeakMap<Osb, Given[]>();

function remember(osb: Osb, cpos: number, clusters: number): void {
  const { journal } = osb;
  const tid = journal.running_tid;
  const list = given.get(osb) ?? [];
  const last = list[list.length - 1];
  if (last?.tid === tid && last.cpos + last.clusters === cpos) last.clusters += clusters;
  else if (last?.tid === tid) list.push({ tid, cpos, clusters });
  else given.set(osb, [...list.filter((g) => !journal.isCommitted(g.tid)), { tid, cpos, clusters }]);
}

/**
 * Before the last owner writes to these clusters in place, it must be the last one on the disk, too: after a crash the other file would
 * be back, with what was written here for its contents. Throws Wait until the transactions are committed in which others gave them up.
 */
export function waitUntilSole(op: Op, cpos: number, clusters: number): void {
  const { journal } = op.osb;
  const isOpen = (tid: number): boolean =>
    !journal.isCommitted(tid) && (tid !== journal.running_tid || journal.runningBlocks > 0);
  const open = given.get(op.osb)?.some((g) => g.cpos < cpos + clusters && cpos < g.cpos + g.clusters && isOpen(g.tid));
  if (open !== true) return;
  journal.startCommit();
  waitOn(journal.new_transaction);
}

function change(
  op: Op,
  t: LockedTree,
  cpos: number,
  clusters: number,
  delta: 1 | -1,
  freed: (cpos: number, clusters: number) => void,
): void {
  const end = cpos + clusters;
  for (let at = cpos; at < end; ) {
    const leaf = findLeaf(op, t, at);
    const stop = Math.min(end, leaf.end);
    const recs = changeRecs(readRecs(op, rbOf(op, leaf.bh)), at, stop, delta, freed);
    if (recs === null)
      throw new Corruption("refcount.decrease", {
        root: t.root_bh.blkno,
        cluster: at,
        clusters: stop - at,
        found: "shared clusters without a count",
      });
    store(op, t, leaf, recs);
    at = stop;
  }
}

/** Puts the changed records of a block back, in more blocks if need be, in none if there are none. */
function store(op: Op, t: LockedTree, leaf: Leaf, recs: Rec[]): void {
  const { osb } = op;
  const room = refcountRecsPerRb(osb.geo.blocksize);
  let { bh } = leaf;
  if (bh === t.root_bh) {
    if (recs.length <= room) {
      op.modify(bh);
      writeRecs(osb, rbOf(op, bh), recs);
      return;
    }
    bh = growRoot(op, t);
  } else if (recs.length === 0) {
    removeLeaf(op, t, leaf);
    return;
  } else if (recs[0]!.cpos < leaf.e_cpos) lowerLeaf(op, t, leaf, recs[0]!.cpos);
  op.modify(bh);
  const parts = Math.ceil(recs.length / room);
  const per = Math.ceil(recs.length / parts);
  writeRecs(osb, rbOf(op, bh), recs.slice(0, per));
  for (let i = per; i < recs.length; i += per) newLeaf(op, t, recs.slice(i, i + per));
}

/** The records of the root move to a leaf of their own (ocfs2_expand_inline_ref_root). Returns the leaf, which is still to be filled. */
function growRoot(op: Op, t: LockedTree): Bh {
  const { osb } = op;
  const { u8 } = osb.cache;
  op.modify(t.root_bh);
  const root = rbOf(op, t.root_bh);
  const bh = addLeaf(op, t);
  u8.fill(0, root.rf_records.off, t.root_bh.addr + osb.geo.blocksize);
  root.rf_flags = REFCOUNT_FLAGS.TREE;
  root.rf_clusters = 0;
  root.rf_last_eb_blk = 0;
  root.rf_list.l_count = extentRecsPerRb(osb.geo.blocksize);
  insertExtent(op, refcountExtentTree(op, t.tree, t.root_bh), 0, bh.blkno, 1, 0);
  return bh;
}

/** A block for records, not yet in the tree. Throws ENOSPC. */
function addLeaf(op: Op, t: LockedTree): Bh {
  const got = claimMetadata(op)[0]!;
  const bh = op.create(t.tree, got.blkno, op.osb.kinds.refcount_block);
  const rb = initRefcountBlock(op, bh, got, t.tree.generation);
  rb.rf_parent = t.root_bh.blkno;
  rb.rf_flags = REFCOUNT_FLAGS.LEAF;
  return bh;
}

/** A leaf with these records, which come from the one before it (ocfs2_new_leaf_refcount_block). */
function newLeaf(op: Op, t: LockedTree, recs: Rec[]): void {
  const bh = addLeaf(op, t);
  const rb = rbOf(op, bh);
  const { cpos } = recs[0]!;
  rb.rf_cpos = cpos;
  writeRecs(op.osb, rb, recs);
  insertExtent(op, refcountExtentTree(op, t.tree, t.root_bh), cpos, bh.blkno, 1, 0);
}

/** The leaf gets a record in front of what its extent record says (ocfs2_adjust_refcount_rec). */
function lowerLeaf(op: Op, t: LockedTree, leaf: Leaf, cpos: number): void {
  const et = refcountExtentTree(op, t.tree, t.root_bh);
  removeExtent(op, et, leaf.e_cpos, 1);
  insertExtent(op, et, cpos, leaf.bh.blkno, 1, 0);
  op.modify(leaf.bh);
  rbOf(op, leaf.bh).rf_cpos = cpos;
}

/** A leaf without records goes; the root, once it has no leaf, holds records again (ocfs2_remove_refcount_extent). */
function removeLeaf(op: Op, t: LockedTree, leaf: Leaf): void {
  const { osb } = op;
  const { dv, u8 } = osb.cache;
  const rb = rbOf(op, leaf.bh);
  const et = refcountExtentTree(op, t.tree, t.root_bh);
  removeExtent(op, et, leaf.e_cpos, 1);
  freeMetadataBlock(op, {
    slot: rb.rf_suballoc_slot,
    bit: rb.rf_suballoc_bit,
    loc: rb.rf_suballoc_loc,
    blkno: leaf.bh.blkno,
  });
  if (usedOf(dv, et.el_addr) > 0) return;
  op.modify(t.root_bh);
  const root = rbOf(op, t.root_bh);
  root.rf_flags = 0;
  root.rf_parent = 0;
  root.rf_cpos = 0;
  root.rf_clusters = 0;
  root.rf_last_eb_blk = 0;
  u8.fill(0, t.root_bh.addr + RefcountBlock.fields.rf_records.off, t.root_bh.addr + osb.geo.blocksize);
  root.rf_records.rl_count = refcountRecsPerRb(osb.geo.blocksize);
}
