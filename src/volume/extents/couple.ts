/**
 * Interior nodes off the right edge have as many records as their last child (shape.ts says why). Whoever changes the
 * number of either hands the node in here, when everything else about the tree is in order again. A few records move
 * between the node's last children, and where that cannot be, there is a child more or one less.
 */
import { extentRecsPerEb } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import { cposOf, depthOf, emptyRecs, LIST_OFF, recAt, usedOf } from "./extent_list.ts";
import type { ExtentTree } from "./extent_tree.ts";
import { findPath, isLastLeaf, leafOf, type Path, readChild } from "./path.ts";
import { type Loose, redistribute } from "./shape.ts";

/** Nodes with less than a quarter of their room share with a neighbour or become one with it. */
export const lowMark = (et: ExtentTree): number => extentRecsPerEb(et.osb.geo.blocksize) >> 2;
/** Where even that cannot be had. */
const MIN_RECORDS = 2;
/** One insert or removal loosens a handful of nodes. */
const MAX_ROUNDS = 200;

/** True when the leaf of `path` is one that must have as many records as its parent. */
export function isCoupled(et: ExtentTree, path: Path): boolean {
  const up = path.slice(0, -1);
  if (up.length < 2) return false;
  const parent = leafOf(up);
  return parent.idx === usedOf(et.osb.cache.dv, parent.el) - 1 && !isLastLeaf(et, up);
}

/** The parent of a leaf, for settle. */
export function looseParent(et: ExtentTree, path: Path): Loose {
  const { dv } = et.osb.cache;
  return { depth: 1, cpos: cposOf(dv, recAt(path[path.length - 2]!.el, 0)) };
}

/** Sees to these nodes, and to those that are changed by it, until all are as they should be. */
export function settle(op: Op, et: ExtentTree, loose: Loose[]): void {
  const { dv } = et.osb.cache;
  for (let round = 0; loose.length > 0; round++) {
    if (round === MAX_ROUNDS)
      throw new FsError(Errno.EFBIG, "extents.settle", {
        owner: et.ci.ci_blkno,
        found: "a tree that cannot be kept in order",
      });
    // The highest first: it deals out nodes that are looked at afterwards.
    let best = 0;
    for (let i = 1; i < loose.length; i++) if (loose[i]!.depth > loose[best]!.depth) best = i;
    const [{ depth, cpos }] = loose.splice(best, 1) as [Loose];
    const tree_depth = depthOf(dv, et.el_addr);
    // The root is on the right edge, so it is bound to nothing.
    if (depth >= tree_depth) continue;
    const path = findPath(op, et, cpos).slice(0, tree_depth - depth + 1);
    if (isLastLeaf(et, path)) continue;
    if (usedOf(dv, leafOf(path).el) < lowMark(et) && balance(op, et, path, loose)) continue;
    couple(op, et, path, loose);
  }
}

const childrenOf = (op: Op, et: ExtentTree, path: Path, i: number): number => {
  const { dv } = et.osb.cache;
  const { bh, el } = leafOf(path);
  const child = readChild(op, et, bh, el, i).addr + LIST_OFF;
  return usedOf(dv, child) - (depthOf(dv, child) === 0 ? emptyRecs(dv, child) : 0);
};

/** A node with few children and its neighbour share theirs, or become one. False when it has no neighbour under its parent. */
function balance(op: Op, et: ExtentTree, path: Path, loose: Loose[]): boolean {
  const { dv } = et.osb.cache;
  const up = path.slice(0, -1);
  const { el, idx } = leafOf(up);
  if (usedOf(dv, el) < 2) return false;
  const first = Math.max(0, idx - 1);
  const total = childrenOf(op, et, up, first) + childrenOf(op, et, up, first + 1);
  const room = extentRecsPerEb(et.osb.geo.blocksize);
  const sizes = total <= (room * 3) >> 2 ? [total] : [total >> 1, total - (total >> 1)];
  if (sizes.length === 2 && sizes[0]! < lowMark(et)) return false;
  redistribute(op, et, up, first, 2, sizes);
  const depth = depthOf(dv, el);
  for (let i = 0; i < sizes.length; i++) loose.push({ depth: depth - 1, cpos: cposOf(dv, recAt(el, first + i)) });
  loose.push({ depth, cpos: cposOf(dv, recAt(el, 0)) });
  return true;
}

/** Sizes for the last `m` children, such that the last one has as many as the node then has children. */
function plan(total: number, m: number, children: number, room: number, min: number): number[] | null {
  for (const now of [m, m + 1, m - 1]) {
    const last = children - m + now;
    if (now < 1 || last > room || last < MIN_RECORDS) continue;
    const rest = total - last;
    const others = now - 1;
    if (others === 0 ? rest !== 0 : rest < min * others || rest > room * others) continue;
    const sizes: number[] = [];
    for (let i = others, left = rest; i > 0; i--) {
      const n = Math.floor(left / i);
      sizes.push(n);
      left -= n;
    }
    sizes.push(last);
    return sizes;
  }
  return null;
}

function couple(op: Op, et: ExtentTree, path: Path, loose: Loose[]): void {
  const { dv } = et.osb.cache;
  const { el } = leafOf(path);
  const children = usedOf(dv, el);
  const room = extentRecsPerEb(et.osb.geo.blocksize);
  if (childrenOf(op, et, path, children - 1) === children) return;
  for (const min of [lowMark(et), MIN_RECORDS]) {
    let total = 0;
    for (let m = 1; m <= children; m++) {
      const first = children - m;
      total += childrenOf(op, et, path, first);
      const sizes = plan(total, m, children, room, min);
      if (sizes === null) continue;
      redistribute(op, et, path, first, m, sizes);
      const depth = depthOf(dv, el);
      if (depth > 1)
        for (let i = first; i < usedOf(dv, el); i++) loose.push({ depth: depth - 1, cpos: cposOf(dv, recAt(el, i)) });
      if (sizes.length !== m) {
        const cpos = cposOf(dv, recAt(el, 0));
        loose.push({ depth, cpos }, { depth: depth + 1, cpos });
      }
      return;
    }
  }
  throw new FsError(Errno.EFBIG, "extents.couple", {
    owner: et.ci.ci_blkno,
    children,
    found: "no way to share the records out",
  });
}
