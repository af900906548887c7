/**
 * The way from a tree's root to a leaf (struct ocfs2_path), and steps to the leaf on either side. Interior records are
 * checked while descending: what a walk passes is what a change will rely on.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { Corruption } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import { blknoOf, countOf, cposOf, depthOf, LIST_OFF, lastAtOrBefore, recAt, usedOf } from "./extent_list.ts";
import type { ExtentTree } from "./extent_tree.ts";

/** Levels of a tree, the root's included (OCFS2_MAX_PATH_DEPTH): the kernel refuses deeper ones. */
export const MAX_PATH_DEPTH = 5;

/** A node on the way. `idx`: the record that the way goes on by; unused in the leaf. */
export interface PathNode {
  bh: Bh;
  /** Arena address of the node's extent list. */
  el: number;
  idx: number;
}

/** path[0] is the root, the last one the leaf; both are the same in a tree of depth 0. */
export type Path = PathNode[];

export const leafOf = (path: Path): PathNode => path[path.length - 1]!;

function badList(et: ExtentTree, bh: Bh, what: string, el: number): Corruption {
  const { dv } = et.osb.cache;
  return new Corruption("extents.path", {
    owner: et.ci.ci_blkno,
    blkno: bh.blkno,
    found: what,
    l_tree_depth: depthOf(dv, el),
    l_next_free_rec: usedOf(dv, el),
    l_count: countOf(dv, el),
  });
}

/** The root's depth, checked. */
export function rootDepth(et: ExtentTree): number {
  const { dv } = et.osb.cache;
  const depth = depthOf(dv, et.el_addr);
  if (depth >= MAX_PATH_DEPTH) throw badList(et, et.root_bh, "a tree too deep", et.el_addr);
  const room = et.root_bh.addr + et.osb.geo.blocksize - recAt(et.el_addr, 0);
  const count = countOf(dv, et.el_addr);
  if (usedOf(dv, et.el_addr) > count || recAt(0, count) - recAt(0, 0) > room)
    throw badList(et, et.root_bh, "a list that does not fit", et.el_addr);
  return depth;
}

/** The child of interior node `el` by record `idx`, read and checked; returns its block. */
export function readChild(op: Op, et: ExtentTree, parent: Bh, el: number, idx: number): Bh {
  const { dv } = et.osb.cache;
  if (idx < 0 || idx >= usedOf(dv, el)) throw badList(et, parent, "an interior list without records", el);
  const blkno = blknoOf(dv, recAt(el, idx));
  if (blkno === 0) throw badList(et, parent, `record ${idx} points nowhere`, el);
  const bh = op.read(et.ci, blkno, et.osb.kinds.extent_block);
  const child = bh.addr + LIST_OFF;
  if (depthOf(dv, child) !== depthOf(dv, el) - 1) throw badList(et, bh, `a wrong depth under ${parent.blkno}`, child);
  return bh;
}

/** The way to the leaf that holds `cpos`, or would: the last one when cpos is behind everything. */
export function findPath(op: Op, et: ExtentTree, cpos: number): Path {
  const { dv } = et.osb.cache;
  const path: Path = [{ bh: et.root_bh, el: et.el_addr, idx: 0 }];
  for (let depth = rootDepth(et); depth > 0; depth--) {
    const node = leafOf(path);
    node.idx = Math.max(0, lastAtOrBefore(dv, node.el, 0, cpos));
    const bh = readChild(op, et, node.bh, node.el, node.idx);
    path.push({ bh, el: bh.addr + LIST_OFF, idx: 0 });
  }
  return path;
}

/** Below path[level], goes down by the first records (or the last ones) to the leaf. */
function descend(op: Op, et: ExtentTree, path: Path, level: number, first: boolean): void {
  const { dv } = et.osb.cache;
  const depth = path.length;
  path.length = level + 1;
  while (path.length < depth) {
    const node = leafOf(path);
    if (path.length > level + 1) node.idx = first ? 0 : usedOf(dv, node.el) - 1;
    const bh = readChild(op, et, node.bh, node.el, node.idx);
    path.push({ bh, el: bh.addr + LIST_OFF, idx: 0 });
  }
}

export const clonePath = (path: Path): Path => path.map((n) => ({ ...n }));

/** Moves `path` to the leaf on the right; false, and unchanged, when it is at the last one. */
export function nextLeaf(op: Op, et: ExtentTree, path: Path): boolean {
  const { dv } = et.osb.cache;
  for (let level = path.length - 2; level >= 0; level--) {
    const node = path[level]!;
    if (node.idx + 1 < usedOf(dv, node.el)) {
      node.idx++;
      descend(op, et, path, level, true);
      return true;
    }
  }
  return false;
}

/** Moves `path` to the leaf on the left; false, and unchanged, when it is at the first one. */
export function prevLeaf(op: Op, et: ExtentTree, path: Path): boolean {
  for (let level = path.length - 2; level >= 0; level--) {
    const node = path[level]!;
    if (node.idx > 0) {
      node.idx--;
      descend(op, et, path, level, false);
      return true;
    }
  }
  return false;
}

export function isLastLeaf(et: ExtentTree, path: Path): boolean {
  const { dv } = et.osb.cache;
  for (let level = path.length - 2; level >= 0; level--) {
    const node = path[level]!;
    if (node.idx + 1 < usedOf(dv, node.el)) return false;
  }
  return true;
}

/** How many leaves follow that of `path`, `limit` at most. Reads only the nodes above them. */
export function leavesBehind(op: Op, et: ExtentTree, path: Path, limit: number): number {
  const { dv } = et.osb.cache;
  const up = clonePath(path.slice(0, -1));
  if (up.length === 0) return 0;
  let n = usedOf(dv, leafOf(up).el) - leafOf(up).idx - 1;
  while (n < limit && nextLeaf(op, et, up)) n += usedOf(dv, leafOf(up).el);
  return Math.min(n, limit);
}

/** Where the leaf on the right begins, by the separators; `none` for the last leaf. */
export function rightBoundary(et: ExtentTree, path: Path, none: number): number {
  const { dv } = et.osb.cache;
  for (let level = path.length - 2; level >= 0; level--) {
    const node = path[level]!;
    if (node.idx + 1 < usedOf(dv, node.el)) return cposOf(dv, recAt(node.el, node.idx + 1));
  }
  return none;
}

/** Starts reading the leaves on the right of `path` under the same parent: a shift is about to pass through them. */
export function prefetchRight(et: ExtentTree, path: Path, max: number): void {
  if (path.length < 2) return;
  const { dv } = et.osb.cache;
  const parent = path[path.length - 2]!;
  const end = Math.min(usedOf(dv, parent.el), parent.idx + 1 + max);
  for (let i = parent.idx + 1; i < end; i++) {
    const blkno = blknoOf(dv, recAt(parent.el, i));
    if (blkno > 0) et.osb.cache.prefetch(et.ci, blkno);
  }
}
