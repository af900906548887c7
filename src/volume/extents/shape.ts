/**
 * The interior of an extent tree: adding and dropping nodes, and keeping the separators true. The rules that kernels
 * and fsck.ocfs2 hold a tree to:
 *
 * - All leaves are at the same depth; l_tree_depth says it at every level.
 * - Interior records have no holes: each reaches from its child's first cluster to the next record's; the first one of
 *   each level begins at 0, the last one ends where the last extent ends.
 * - The leaves are chained by h_next_leaf_blk, and the root's last_eb_blk names the last one.
 * - Every leaf but the last is full: l_next_free_rec equals l_count (see leaves.ts).
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
  countOf,
  cposOf,
  depthOf,
  emptyRecs,
  intClustersOf,
  LIST_OFF,
  leafEnd,
  putInterior,
  REC_BYTES,
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
  leafOf,
  MAX_PATH_DEPTH,
  type Path,
  type PathNode,
  prevLeaf,
  readChild,
  rightBoundary,
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

/** A child that is being put into a node: it covers [cpos, end). */
interface Child {
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

/**
 * Adds `child` to the node at `level`, right behind the record that `path` goes by. Full nodes are split, the root gets
 * another level. `path` is of no use afterwards.
 */
export function insertChild(op: Op, et: ExtentTree, path: Path, level: number, child: Child): void {
  const { dv, u8 } = et.osb.cache;
  if (level === 0 && usedOf(dv, path[0]!.el) === countOf(dv, path[0]!.el)) {
    shiftTreeDepth(op, et, path);
    level = 1;
  }
  const node = path[level]!;
  const used = usedOf(dv, node.el);
  const at = node.idx + 1;
  if (used < countOf(dv, node.el)) {
    putChild(op, et, node.bh, node.el, at, child);
    return;
  }
  const bh = newExtentBlock(op, et, depthOf(dv, node.el));
  const el = bh.addr + LIST_OFF;
  // An append starts a node of its own and leaves full ones behind it; anything else splits in the middle.
  const keep = at === used ? used : used >> 1;
  op.modify(node.bh);
  u8.copyWithin(recAt(el, 0), recAt(node.el, keep), recAt(node.el, used));
  u8.fill(0, recAt(node.el, keep), recAt(node.el, used));
  setUsed(dv, el, used - keep);
  setUsed(dv, node.el, keep);
  if (at > keep || keep === used) {
    putChild(op, et, bh, el, at - keep, child);
    if (at === keep) setEnd(op, node.bh, recAt(node.el, keep - 1), child.cpos);
  } else putChild(op, et, node.bh, node.el, at, child);
  const n = usedOf(dv, el);
  insertChild(op, et, path, level - 1, {
    cpos: cposOf(dv, recAt(el, 0)),
    end: endOf(dv, recAt(el, n - 1)),
    blkno: bh.blkno,
  });
}

function removeChild(op: Op, et: ExtentTree, path: Path, level: number): void {
  const { dv, u8 } = et.osb.cache;
  const { bh, el, idx } = path[level]!;
  const used = usedOf(dv, el);
  op.modify(bh);
  u8.copyWithin(recAt(el, idx), recAt(el, idx + 1), recAt(el, used));
  u8.fill(0, recAt(el, used - 1), recAt(el, used - 1) + REC_BYTES);
  setUsed(dv, el, used - 1);
  if (used > 1) return;
  if (level === 0) {
    setDepth(dv, el, 0);
    setLastEbBlk(op, et, 0);
    return;
  }
  freeExtentBlock(op, bh);
  removeChild(op, et, path, level - 1);
}

/** Takes the leaf of `path`, which has no extents left, out of the tree and frees it (ocfs2_unlink_path). */
export function removeLeaf(op: Op, et: ExtentTree, path: Path): void {
  const { dv } = et.osb.cache;
  const leaf = leafOf(path);
  assert(path.length > 1, "the root is no leaf to be removed");
  const next_blkno = ebOf(op, leaf.bh).h_next_leaf_blk;
  const next_cpos = rightBoundary(et, path, -1);
  const prev = clonePath(path);
  if (prevLeaf(op, et, prev)) {
    const { bh, el } = leafOf(prev);
    op.modify(bh);
    ebOf(op, bh).h_next_leaf_blk = next_blkno;
    // The last leaf has room.
    if (next_cpos < 0) {
      setCount(dv, el, extentRecsPerEb(et.osb.geo.blocksize));
      setLastEbBlk(op, et, bh.blkno);
    }
  }
  freeExtentBlock(op, leaf.bh);
  removeChild(op, et, path, path.length - 2);
  if (depthOf(dv, et.el_addr) === 0) return;
  if (next_cpos >= 0) {
    const next = findPath(op, et, next_cpos);
    setLeafStart(op, et, next, firstCpos(op, leafOf(next)));
  } else setTreeEnd(op, et, findPath(op, et, 0xffffffff));
}

/** First cluster of a leaf's extents. */
export function firstCpos(op: Op, leaf: PathNode): number {
  const { dv } = op.osb.cache;
  return cposOf(dv, recAt(leaf.el, emptyRecs(dv, leaf.el)));
}
