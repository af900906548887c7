/**
 * The interior of an extent tree: adding and dropping nodes, and keeping the separators true. The rules that kernels
 * and fsck.ocfs2 hold a tree to:
 *
 * - All leaves are at the same depth; l_tree_depth says it at every level.
 * - Interior records have no holes: each reaches from its child's first cluster to the next record's; the first one of
 *   each level begins at 0, the last one ends where the last extent ends.
 * - The leaves are chained by h_next_leaf_blk, and the root's last_eb_blk names the last one.
 * - Every leaf but the last has l_next_free_rec equal to l_count ("non-full interior leaf node" otherwise, and the kernel
 *   stops writing: ocfs2_rotate_subtree_right). leaves.ts makes use of it that l_count may be small.
 * - Every interior node but those on the right edge is full, and so is the last leaf under it. Nobody says so, but
 *   ocfs2_complete_edge_insert takes the number of records of a child for that of its parent, and writes a separator to a
 *   wrong place where they differ. So a node is added in the middle by handing the last child of each node on to the next
 *   one, and only the right edge grows and shrinks.
 *
 * Mirrors ocfs2_add_branch, ocfs2_shift_tree_depth, ocfs2_complete_edge_insert and ocfs2_unlink_path in alloc.c.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { ExtentBlock, extentRecsPerEb, OCFS2_EXTENT_BLOCK_SIGNATURE } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { assert, FsError } from "../../lib/fs_error.ts";
import { claimMetadata, freeMetadataBlock } from "../alloc/metadata.ts";
import type { Op } from "../op.ts";
import {
  blknoOf,
  countOf,
  cposOf,
  depthOf,
  emptyRecs,
  intClustersOf,
  LIST_OFF,
  leafEnd,
  putInterior,
  recAt,
  setCount,
  setCpos,
  setDepth,
  setIntClusters,
  setU64,
  setUsed,
  usedOf,
} from "./extent_list.ts";
import type { ExtentTree } from "./extent_tree.ts";
import {
  clonePath,
  findPath,
  isLastLeaf,
  leafOf,
  MAX_PATH_DEPTH,
  nextLeaf,
  type Path,
  type PathNode,
  prevLeaf,
  readChild,
} from "./path.ts";

/** A new extent block, empty, at `depth`. Throws ENOSPC. */
export function newExtentBlock(op: Op, et: ExtentTree, depth: number): Bh {
  const { osb } = op;
  const got = claimMetadata(op)[0]!;
  const bh = op.create(et.ci, got.blkno, osb.kinds.extent_block);
  const eb = ExtentBlock.at(osb.cache.dv, bh.addr);
  eb.h_signature = OCFS2_EXTENT_BLOCK_SIGNATURE;
  eb.h_blkno = got.blkno;
  eb.h_fs_generation = osb.geo.fs_generation;
  eb.h_suballoc_slot = got.suballoc_slot;
  eb.h_suballoc_bit = got.suballoc_bit;
  eb.h_suballoc_loc = got.suballoc_loc;
  setDepth(osb.cache.dv, bh.addr + LIST_OFF, depth);
  setCount(osb.cache.dv, bh.addr + LIST_OFF, extentRecsPerEb(osb.geo.blocksize));
  return bh;
}

function freeExtentBlock(op: Op, bh: Bh): void {
  const eb = ExtentBlock.at(op.osb.cache.dv, bh.addr);
  freeMetadataBlock(op, {
    slot: eb.h_suballoc_slot,
    bit: eb.h_suballoc_bit,
    loc: eb.h_suballoc_loc,
    blkno: bh.blkno,
  });
}

export const ebOf = (op: Op, bh: Bh): ExtentBlock => ExtentBlock.at(op.osb.cache.dv, bh.addr);

export function setLastEbBlk(op: Op, et: ExtentTree, blkno: number): void {
  op.modify(et.root_bh);
  setU64(et.osb.cache.dv, et.last_eb_addr, blkno);
}

/** Changes the tree's cluster count, i_clusters and its kin. */
export function addClusters(op: Op, et: ExtentTree, delta: number): void {
  if (delta === 0) return;
  const { dv } = et.osb.cache;
  op.modify(et.root_bh);
  const sum = dv.getUint32(et.clusters_addr, true) + delta;
  if (sum < 0 || sum > 0xffffffff)
    throw new FsError(sum < 0 ? Errno.EIO : Errno.EFBIG, "extents.clusters", { owner: et.ci.ci_blkno, clusters: sum });
  dv.setUint32(et.clusters_addr, sum, true);
}

const endOf = (dv: DataView<ArrayBufferLike>, rec: number): number => cposOf(dv, rec) + intClustersOf(dv, rec);

function setEnd(op: Op, bh: Bh, rec: number, end: number): void {
  const { dv } = op.osb.cache;
  const clusters = Math.max(0, end - cposOf(dv, rec));
  if (intClustersOf(dv, rec) === clusters) return;
  op.modify(bh);
  setIntClusters(dv, rec, clusters);
}

/** Moves a record's begin and leaves its end. */
function setStart(op: Op, bh: Bh, rec: number, start: number): void {
  const { dv } = op.osb.cache;
  if (cposOf(dv, rec) === start) return;
  const end = endOf(dv, rec);
  op.modify(bh);
  setCpos(dv, rec, start);
  setIntClusters(dv, rec, Math.max(0, end - start));
}

/** The leaf of `path` begins with cluster `cpos` now: the separators on its left side follow. */
export function setLeafStart(op: Op, et: ExtentTree, path: Path, cpos: number): void {
  const { dv } = et.osb.cache;
  let level = path.length - 2;
  for (; level >= 0 && path[level]!.idx === 0; level--) setStart(op, path[level]!.bh, recAt(path[level]!.el, 0), cpos);
  if (level < 0) {
    // The first leaf: everything before its first extent is its to insert to.
    for (let l = 0; l < path.length - 1; l++) setStart(op, path[l]!.bh, recAt(path[l]!.el, 0), 0);
    return;
  }
  const { bh, el, idx } = path[level]!;
  setStart(op, bh, recAt(el, idx), cpos);
  // The neighbour on the left reaches up to here, and so does the last record of each node on its right edge.
  setEnd(op, bh, recAt(el, idx - 1), cpos);
  let parent: PathNode = { bh, el, idx: idx - 1 };
  for (let l = level + 1; l < path.length - 1; l++) {
    const child = readChild(op, et, parent.bh, parent.el, parent.idx);
    parent = { bh: child, el: child.addr + LIST_OFF, idx: usedOf(dv, child.addr + LIST_OFF) - 1 };
    setEnd(op, parent.bh, recAt(parent.el, parent.idx), cpos);
  }
}

/** The node at the end of `path`, just above the leaves, has another first leaf now. */
function setFirstLeafStart(op: Op, et: ExtentTree, path: Path): void {
  const node = leafOf(path);
  const bh = readChild(op, et, node.bh, node.el, 0);
  const to_leaf = [...path.slice(0, -1), { ...node, idx: 0 }, { bh, el: bh.addr + LIST_OFF, idx: 0 }];
  setLeafStart(op, et, to_leaf, cposOf(et.osb.cache.dv, recAt(node.el, 0)));
}

/** The last records of all levels end where the last extent does. `path` leads to the last leaf. */
export function setTreeEnd(op: Op, et: ExtentTree, path: Path): void {
  const { dv } = et.osb.cache;
  const leaf = leafOf(path);
  const used = usedOf(dv, leaf.el);
  if (path.length === 1 || used === 0) return;
  const end = leafEnd(dv, recAt(leaf.el, used - 1));
  for (let level = path.length - 2; level >= 0; level--) {
    const { bh, el } = path[level]!;
    setEnd(op, bh, recAt(el, usedOf(dv, el) - 1), end);
  }
}

/** Puts another level under the root, which has one record then (ocfs2_shift_tree_depth). `path` gets the new node. */
export function shiftTreeDepth(op: Op, et: ExtentTree, path: Path): void {
  const { dv, u8 } = et.osb.cache;
  const root = path[0]!;
  const depth = depthOf(dv, root.el);
  if (depth + 2 > MAX_PATH_DEPTH)
    throw new FsError(Errno.EFBIG, "extents.grow", { owner: et.ci.ci_blkno, depth, found: "a tree of full depth" });
  const used = usedOf(dv, root.el);
  const bh = newExtentBlock(op, et, depth);
  const el = bh.addr + LIST_OFF;
  assert(used <= countOf(dv, el), "a root larger than an extent block");
  op.modify(et.root_bh);
  u8.copyWithin(recAt(el, 0), recAt(root.el, 0), recAt(root.el, used));
  setUsed(dv, el, used);
  u8.fill(0, recAt(root.el, 0), recAt(root.el, countOf(dv, root.el)));
  const last = recAt(el, used - 1);
  const end = used === 0 ? 0 : depth === 0 ? leafEnd(dv, last) : endOf(dv, last);
  setDepth(dv, root.el, depth + 1);
  setUsed(dv, root.el, 1);
  putInterior(dv, recAt(root.el, 0), 0, end, bh.blkno);
  if (depth === 0) setLastEbBlk(op, et, bh.blkno);
  path.splice(0, 1, { bh: root.bh, el: root.el, idx: 0 }, { bh, el, idx: root.idx });
}

/** A child of an interior node: it covers [cpos, end). */
export interface Child {
  cpos: number;
  end: number;
  blkno: number;
}

function putChild(op: Op, et: ExtentTree, bh: Bh, el: number, at: number, child: Child): void {
  const { dv, u8 } = et.osb.cache;
  op.modify(bh);
  const used = usedOf(dv, el);
  u8.copyWithin(recAt(el, at + 1), recAt(el, at), recAt(el, used));
  putInterior(dv, recAt(el, at), child.cpos, child.end - child.cpos, child.blkno);
  setUsed(dv, el, used + 1);
  if (at > 0) setEnd(op, bh, recAt(el, at - 1), child.cpos);
}

function takeChild(op: Op, bh: Bh, el: number, at: number): Child {
  const { dv, u8 } = op.osb.cache;
  const used = usedOf(dv, el);
  const rec = recAt(el, at);
  const child = { cpos: cposOf(dv, rec), end: endOf(dv, rec), blkno: blknoOf(dv, rec) };
  op.modify(bh);
  u8.copyWithin(rec, recAt(el, at + 1), recAt(el, used));
  u8.fill(0, recAt(el, used - 1), recAt(el, used));
  setUsed(dv, el, used - 1);
  return child;
}

/** Adds `child` at the right edge of the node at the end of `path`; full nodes get a sibling, the root another level. */
function appendChild(op: Op, et: ExtentTree, path: Path, child: Child): void {
  const { dv } = et.osb.cache;
  if (path.length === 1 && usedOf(dv, et.el_addr) === countOf(dv, et.el_addr)) shiftTreeDepth(op, et, path);
  const node = leafOf(path);
  const used = usedOf(dv, node.el);
  if (used < countOf(dv, node.el)) {
    putChild(op, et, node.bh, node.el, used, child);
    return;
  }
  const bh = newExtentBlock(op, et, depthOf(dv, node.el));
  setEnd(op, node.bh, recAt(node.el, used - 1), child.cpos);
  putChild(op, et, bh, bh.addr + LIST_OFF, 0, child);
  appendChild(op, et, path.slice(0, -1), { ...child, blkno: bh.blkno });
}

/** Nodes above the leaves that one insert may hand children on through; each costs three blocks. */
const MAX_TOUCHED_NODES = 128;

/**
 * Adds a leaf right behind that of `path`. Returns where the nodes begin that are not on the right edge and have got another last
 * leaf by it: settleLastLeaves must see to them. `path` is of no use afterwards.
 */
export function insertLeaf(op: Op, et: ExtentTree, path: Path, child: Child): number[] {
  const { dv } = et.osb.cache;
  if (path.length === 2 && usedOf(dv, et.el_addr) === countOf(dv, et.el_addr)) shiftTreeDepth(op, et, path);
  const p = path.slice(0, -1);
  const touched: number[] = [];
  let carry = child;
  let at = leafOf(p).idx + 1;
  for (;;) {
    const { bh, el } = leafOf(p);
    const used = usedOf(dv, el);
    const full = used === countOf(dv, el);
    const mine = carry;
    if (full && at < used) carry = takeChild(op, bh, el, used - 1);
    if (!full || at < used) {
      putChild(op, et, bh, el, at, mine);
      if (at === 0) setLeafStart(op, et, p, mine.cpos);
    } else setEnd(op, bh, recAt(el, used - 1), mine.cpos);
    if (!full) return touched;
    touched.push(cposOf(dv, recAt(el, 0)));
    if (touched.length > MAX_TOUCHED_NODES)
      throw new FsError(Errno.EFBIG, "extents.insert", { owner: et.ci.ci_blkno, found: "too many extents" });
    at = 0;
    if (!nextLeaf(op, et, p)) {
      const node = newExtentBlock(op, et, 1);
      putChild(op, et, node, node.addr + LIST_OFF, 0, carry);
      appendChild(op, et, p.slice(0, -1), { ...carry, blkno: node.blkno });
      return touched;
    }
  }
}

/** Drops the node at the end of `path`, on the right edge, which has no records left; and its parents, if it was their only child. */
function dropNode(op: Op, et: ExtentTree, path: Path): void {
  const { dv } = et.osb.cache;
  if (path.length === 1) {
    setDepth(dv, et.el_addr, 0);
    setLastEbBlk(op, et, 0);
    return;
  }
  freeExtentBlock(op, leafOf(path).bh);
  const up = path.slice(0, -1);
  const { bh, el } = leafOf(up);
  takeChild(op, bh, el, usedOf(dv, el) - 1);
  if (usedOf(dv, el) === 0) dropNode(op, et, up);
}

/**
 * Takes the leaf of `path`, whose extents are of no account any more, out of the tree and frees it (ocfs2_unlink_path).
 * Returns what insertLeaf does.
 */
export function removeLeaf(op: Op, et: ExtentTree, path: Path): number[] {
  const { dv } = et.osb.cache;
  const leaf = leafOf(path);
  assert(path.length > 1, "the root is no leaf to be removed");
  const next_blkno = ebOf(op, leaf.bh).h_next_leaf_blk;
  const prev = clonePath(path);
  if (prevLeaf(op, et, prev)) {
    const { bh, el } = leafOf(prev);
    op.modify(bh);
    ebOf(op, bh).h_next_leaf_blk = next_blkno;
    // The last leaf has room.
    if (isLastLeaf(et, path)) {
      setCount(dv, el, extentRecsPerEb(et.osb.geo.blocksize));
      setLastEbBlk(op, et, bh.blkno);
    }
  }
  freeExtentBlock(op, leaf.bh);
  const p = path.slice(0, -1);
  const touched: number[] = [];
  const { bh, el, idx } = leafOf(p);
  takeChild(op, bh, el, idx);
  const used = usedOf(dv, el);
  if (idx > 0 && idx < used) setEnd(op, bh, recAt(el, idx - 1), cposOf(dv, recAt(el, idx)));
  if (idx === 0 && used > 0) setFirstLeafStart(op, et, p);
  // Nodes that are not on the right edge stay full: each takes the first child of the next one.
  while (!isLastLeaf(et, p)) {
    const to = leafOf(p);
    touched.push(-1);
    const next = clonePath(p);
    nextLeaf(op, et, next);
    const from = leafOf(next);
    const child = takeChild(op, from.bh, from.el, 0);
    const first = usedOf(dv, to.el) === 0;
    putChild(op, et, to.bh, to.el, usedOf(dv, to.el), child);
    if (first) setFirstLeafStart(op, et, p);
    touched[touched.length - 1] = cposOf(dv, recAt(to.el, 0));
    if (usedOf(dv, from.el) > 0) setLeafStart(op, et, next, cposOf(dv, recAt(from.el, 0)));
    p.splice(0, p.length, ...next);
  }
  if (usedOf(dv, leafOf(p).el) === 0) dropNode(op, et, p);
  if (depthOf(dv, et.el_addr) > 0) setTreeEnd(op, et, findPath(op, et, 0xffffffff));
  return touched;
}

/** First cluster of a leaf's extents. */
export function firstCpos(op: Op, leaf: PathNode): number {
  const { dv } = op.osb.cache;
  return cposOf(dv, recAt(leaf.el, emptyRecs(dv, leaf.el)));
}
