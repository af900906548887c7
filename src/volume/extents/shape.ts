/**
 * The interior of an extent tree: adding and dropping nodes, and keeping the separators true. The rules that kernels
 * and fsck.ocfs2 hold a tree to:
 *
 * - All leaves are at the same depth; l_tree_depth says it at every level.
 * - Interior records have no holes: each reaches from its child's first cluster to the next record's; the first one of
 *   each level begins at 0, the last one ends where the last extent ends.
 * - The leaves are chained by h_next_leaf_blk, and the root's last_eb_blk names the last one.
 * - Every leaf but the last has l_next_free_rec equal to l_count ("non-full interior leaf node" otherwise, and the kernel
 *   stops writing: ocfs2_rotate_subtree_right), and two records or more (a BUG in ocfs2_shift_records_right).
 * - Every interior node off the right edge has as many records as its last child has. Nobody says so, but
 *   ocfs2_complete_edge_insert takes the one number for the other, and writes a separator to a wrong place where they
 *   differ. In the kernel's own trees all of these nodes are full; couple.ts keeps ours equal.
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
  isLastLeaf,
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

/** A node whose number of records has changed, by its depth and a cluster that it covers: couple.ts looks after it. */
export interface Loose {
  readonly depth: number;
  readonly cpos: number;
}

const looseAt = (op: Op, el: number): Loose => {
  const { dv } = op.osb.cache;
  return { depth: depthOf(dv, el), cpos: cposOf(dv, recAt(el, 0)) };
};

/**
 * Adds `child` to the node at `level`, right behind the record that `path` goes by. Full nodes are split, the root gets
 * another level. What has changed goes to `loose`; `path` is of no use afterwards.
 */
export function insertChild(op: Op, et: ExtentTree, path: Path, level: number, child: Child, loose: Loose[]): void {
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
    loose.push(looseAt(op, node.el));
    return;
  }
  const bh = newExtentBlock(op, et, depthOf(dv, node.el));
  const el = bh.addr + LIST_OFF;
  // An append starts a node of its own and leaves full ones behind it; anything else splits in the middle.
  const append = at === used && isLastLeaf(et, path.slice(0, level + 1));
  const keep = append ? used : used >> 1;
  op.modify(node.bh);
  u8.copyWithin(recAt(el, 0), recAt(node.el, keep), recAt(node.el, used));
  u8.fill(0, recAt(node.el, keep), recAt(node.el, used));
  setUsed(dv, el, used - keep);
  setUsed(dv, node.el, keep);
  if (at > keep || append) {
    putChild(op, et, bh, el, at - keep, child);
    if (at === keep) setEnd(op, node.bh, recAt(node.el, keep - 1), child.cpos);
  } else putChild(op, et, node.bh, node.el, at, child);
  loose.push(looseAt(op, node.el), looseAt(op, el));
  const end = endOf(dv, recAt(el, usedOf(dv, el) - 1));
  insertChild(op, et, path, level - 1, { cpos: cposOf(dv, recAt(el, 0)), end, blkno: bh.blkno }, loose);
}

/** Takes the record that `path` goes by out of the node at `level`; a node left without any goes too. */
function removeChild(op: Op, et: ExtentTree, path: Path, level: number, loose: Loose[]): void {
  const { dv, u8 } = et.osb.cache;
  const { bh, el, idx } = path[level]!;
  const used = usedOf(dv, el);
  op.modify(bh);
  u8.copyWithin(recAt(el, idx), recAt(el, idx + 1), recAt(el, used));
  u8.fill(0, recAt(el, used - 1), recAt(el, used));
  setUsed(dv, el, used - 1);
  if (used > 1) loose.push(looseAt(op, el));
  else if (level > 0) {
    freeExtentBlock(op, bh);
    removeChild(op, et, path, level - 1, loose);
  } else {
    setDepth(dv, el, 0);
    setLastEbBlk(op, et, 0);
  }
}

/** Takes the leaf of `path`, whose extents are of no account any more, out of the tree and frees it (ocfs2_unlink_path). */
export function removeLeaf(op: Op, et: ExtentTree, path: Path, loose: Loose[]): void {
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
  removeChild(op, et, path, path.length - 2, loose);
  if (depthOf(dv, et.el_addr) === 0) return;
  if (next_cpos >= 0) setLeafStart(op, et, findPath(op, et, next_cpos), next_cpos);
  else setTreeEnd(op, et, findPath(op, et, 0xffffffff));
}

/**
 * Rewrites `m` neighbouring children of the node at the end of `path`, from index `first` on, as nodes of these sizes with the
 * same records in the same order. The node must have room for the difference.
 */
export function redistribute(
  op: Op,
  et: ExtentTree,
  path: Path,
  first: number,
  m: number,
  sizes: readonly number[],
): void {
  const { dv, u8 } = et.osb.cache;
  const parent = leafOf(path);
  const depth = depthOf(dv, parent.el) - 1;
  const room = extentRecsPerEb(et.osb.geo.blocksize);
  const old: Bh[] = [];
  const parts: Uint8Array[] = [];
  for (let i = 0; i < m; i++) {
    const bh = readChild(op, et, parent.bh, parent.el, first + i);
    const el = bh.addr + LIST_OFF;
    old.push(bh);
    parts.push(u8.slice(recAt(el, depth === 0 ? emptyRecs(dv, el) : 0), recAt(el, usedOf(dv, el))));
  }
  const all = Buffer.concat(parts);
  assert(all.length === sizes.reduce((a, b) => a + b, 0) * REC_BYTES, "records are lost in a redistribution");
  const start = cposOf(dv, recAt(parent.el, first));
  const end = endOf(dv, recAt(parent.el, first + m - 1));
  const next_blkno = ebOf(op, old[m - 1]!).h_next_leaf_blk;
  const last = depth === 0 && next_blkno === 0;

  const nodes = sizes.map((_, i) => old[i] ?? newExtentBlock(op, et, depth));
  let at = 0;
  nodes.forEach((bh, i) => {
    const el = bh.addr + LIST_OFF;
    const n = sizes[i]!;
    op.modify(bh);
    u8.fill(0, recAt(el, 0), recAt(el, room));
    u8.set(all.subarray(at * REC_BYTES, (at + n) * REC_BYTES), recAt(el, 0));
    setUsed(dv, el, n);
    if (depth === 0) {
      setCount(dv, el, last && i === nodes.length - 1 ? room : n);
      ebOf(op, bh).h_next_leaf_blk = nodes[i + 1]?.blkno ?? next_blkno;
    }
    at += n;
  });
  if (last) setLastEbBlk(op, et, nodes[nodes.length - 1]!.blkno);
  for (const bh of old.slice(nodes.length)) freeExtentBlock(op, bh);

  const used = usedOf(dv, parent.el);
  op.modify(parent.bh);
  u8.copyWithin(recAt(parent.el, first + nodes.length), recAt(parent.el, first + m), recAt(parent.el, used));
  const now = used + nodes.length - m;
  if (now < used) u8.fill(0, recAt(parent.el, now), recAt(parent.el, used));
  setUsed(dv, parent.el, now);
  const starts = nodes.map((bh, i) => (i === 0 ? start : cposOf(dv, recAt(bh.addr + LIST_OFF, 0))));
  nodes.forEach((bh, i) => {
    const from = starts[i]!;
    putInterior(dv, recAt(parent.el, first + i), from, (starts[i + 1] ?? end) - from, bh.blkno);
  });
}

/** First cluster of a leaf's extents. */
export function firstCpos(op: Op, leaf: PathNode): number {
  const { dv } = op.osb.cache;
  return cposOf(dv, recAt(leaf.el, emptyRecs(dv, leaf.el)));
}
