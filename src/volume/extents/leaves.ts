/**
 * Changing the records of a leaf, and what follows when they do not fit or no longer fill it.
 *
 * Every leaf but the last must be full: a kernel that rotates records through a leaf with room calls the tree corrupt
 * ("non-full interior leaf node", ocfs2_rotate_subtree_right) and stops writing. So, like the kernel, an insert in
 * the middle hands one record on from leaf to leaf up to the end of the tree, and a removal draws one back. That costs as
 * many blocks as there are leaves on the right. Above `max_shift` leaves the leaf is split, or left short, instead,
 * and its l_count set to what it holds: full for everybody who looks, at the price of one block, and it grows again with the
 * next insert.
 */
import { extentRecsPerEb } from "../../format/disk/index.ts";
import type { Op } from "../op.ts";
import {
  countOf,
  cposOf,
  emptyRecs,
  intClustersOf,
  LIST_OFF,
  leafEnd,
  putLeaf,
  REC_BYTES,
  recAt,
  setCount,
  setUsed,
  usedOf,
} from "./extent_list.ts";
import type { Extent, ExtentTree } from "./extent_tree.ts";
import { clonePath, findPath, isLastLeaf, leafOf, nextLeaf, type Path, type PathNode, prefetchRight } from "./path.ts";
import {
  ebOf,
  firstCpos,
  insertChild,
  newExtentBlock,
  removeLeaf,
  setLastEbBlk,
  setLeafStart,
  setTreeEnd,
  shiftTreeDepth,
} from "./shape.ts";

/** Records that a leaf has room for, whatever its l_count says. */
const roomOf = (et: ExtentTree, path: Path): number =>
  path.length === 1 ? countOf(et.osb.cache.dv, et.el_addr) : extentRecsPerEb(et.osb.geo.blocksize);

/** Drops the empty record that a kernel may have left in front. Returns how many there were. */
function dropEmpty(op: Op, node: PathNode): number {
  const { dv, u8 } = op.osb.cache;
  if (emptyRecs(dv, node.el) === 0) return 0;
  const used = usedOf(dv, node.el);
  op.modify(node.bh);
  u8.copyWithin(recAt(node.el, 0), recAt(node.el, 1), recAt(node.el, used));
  u8.fill(0, recAt(node.el, used - 1), recAt(node.el, used));
  setUsed(dv, node.el, used - 1);
  return 1;
}

/** Replaces `del` records from `at` on by `add` in a leaf that has room for the result. */
function replaceRecs(op: Op, node: PathNode, at: number, del: number, add: readonly Extent[]): void {
  const { dv, u8 } = op.osb.cache;
  const { el } = node;
  const used = usedOf(dv, el);
  const now = used - del + add.length;
  op.modify(node.bh);
  u8.copyWithin(recAt(el, at + add.length), recAt(el, at + del), recAt(el, used));
  for (let i = 0; i < add.length; i++) {
    const e = add[i]!;
    putLeaf(dv, recAt(el, at + i), e.cpos, e.clusters, e.blkno, e.flags);
  }
  if (now < used) u8.fill(0, recAt(el, now), recAt(el, used));
  setUsed(dv, el, now);
}

/** l_count as the place of the leaf wants it: the last one has its room, the others are full by definition. */
function settleCount(op: Op, et: ExtentTree, path: Path, last: boolean): void {
  if (path.length === 1) return;
  const { dv } = op.osb.cache;
  const { bh, el } = leafOf(path);
  const want = last ? roomOf(et, path) : usedOf(dv, el);
  if (countOf(dv, el) === want) return;
  op.modify(bh);
  setCount(dv, el, want);
}

/**
 * Replaces `del` records from index `at` on, in the leaf of `path`, by `add`, and puts the tree in order around it.
 * `path` is of no use afterwards.
 */
export function spliceLeaf(op: Op, et: ExtentTree, path: Path, at: number, del: number, add: readonly Extent[]): void {
  const { dv } = op.osb.cache;
  const leaf = leafOf(path);
  at -= dropEmpty(op, leaf);
  const before = usedOf(dv, leaf.el);
  const now = before - del + add.length;
  const last = isLastLeaf(et, path);
  const room = roomOf(et, path);
  if (now > room) {
    if (path.length === 1) {
      shiftTreeDepth(op, et, path);
      spliceLeaf(op, et, path, at, del, add);
    } else overflow(op, et, path, at, del, add);
    return;
  }
  replaceRecs(op, leaf, at, del, add);
  if (path.length === 1) return;
  if (now === 0) {
    removeLeaf(op, et, path);
    return;
  }
  if (at === 0) setLeafStart(op, et, path, firstCpos(op, leaf));
  if (last) {
    settleCount(op, et, path, true);
    setTreeEnd(op, et, path);
  } else if (now < countOf(dv, leaf.el)) refill(op, et, path, countOf(dv, leaf.el) - now);
  else settleCount(op, et, path, false);
}

/** Bytes of `n` records. */
const recBytes = (op: Op, el: number, at: number, n: number): Uint8Array =>
  op.osb.cache.u8.slice(recAt(el, at), recAt(el, at + n));

// Too many records -----------------------------------------------------------------------------------------------------

/** How many leaves on the right a record may be handed on through: to the first with room for `n`, or to the last one. */
function shiftDistance(op: Op, et: ExtentTree, path: Path, n: number): number | null {
  const { dv } = op.osb.cache;
  const room = roomOf(et, path);
  const walk = clonePath(path);
  prefetchRight(et, walk, et.max_shift);
  for (let steps = 1; nextLeaf(op, et, walk); steps++) {
    if (steps > et.max_shift) return null;
    if (steps % 16 === 0) prefetchRight(et, walk, et.max_shift - steps);
    const { el } = leafOf(walk);
    if (usedOf(dv, el) - emptyRecs(dv, el) + n <= room) return steps;
  }
  // All are full up to the last one: a new leaf behind it takes what is left over.
  return et.max_shift;
}

function overflow(op: Op, et: ExtentTree, path: Path, at: number, del: number, add: readonly Extent[]): void {
  const { dv, u8 } = op.osb.cache;
  const leaf = leafOf(path);
  const room = roomOf(et, path);
  const used = usedOf(dv, leaf.el);
  const last = isLastLeaf(et, path);
  const spill = used - del + add.length - room;

  // The leaf's new records, as bytes: [kept in front][add][kept behind].
  const all = new Uint8Array((room + spill) * REC_BYTES);
  all.set(recBytes(op, leaf.el, 0, at), 0);
  const view = new DataView(all.buffer);
  add.forEach((e, i) => {
    putLeaf(view, (at + i) * REC_BYTES, e.cpos, e.clusters, e.blkno, e.flags);
  });
  all.set(recBytes(op, leaf.el, at + del, used - at - del), (at + add.length) * REC_BYTES);

  const split = !last && shiftDistance(op, et, path, spill) === null;
  const keep = split ? (room + spill) >> 1 : room;
  op.modify(leaf.bh);
  u8.fill(0, recAt(leaf.el, 0), recAt(leaf.el, room));
  u8.set(all.subarray(0, keep * REC_BYTES), recAt(leaf.el, 0));
  setUsed(dv, leaf.el, keep);
  setCount(dv, leaf.el, keep);
  if (at === 0) setLeafStart(op, et, path, firstCpos(op, leaf));
  let carry: Uint8Array = all.slice(keep * REC_BYTES);
  if (split || last) {
    newLeafBehind(op, et, path, carry, last);
    return;
  }
  while (nextLeaf(op, et, path)) {
    carry = handOn(op, et, path, carry);
    if (carry.length === 0) return;
    if (isLastLeaf(et, path)) break;
  }
  newLeafBehind(op, et, path, carry, true);
}

/** Puts records in front of the leaf's own; returns those that fall off its end. */
function handOn(op: Op, et: ExtentTree, path: Path, carry: Uint8Array): Uint8Array {
  const { dv, u8 } = op.osb.cache;
  const leaf = leafOf(path);
  const { el } = leaf;
  dropEmpty(op, leaf);
  const room = roomOf(et, path);
  const n = carry.length / REC_BYTES;
  const used = usedOf(dv, el);
  const stay = Math.min(used, room - n);
  const out = recBytes(op, el, stay, used - stay);
  op.modify(leaf.bh);
  u8.copyWithin(recAt(el, n), recAt(el, 0), recAt(el, stay));
  u8.set(carry, recAt(el, 0));
  setUsed(dv, el, stay + n);
  setLeafStart(op, et, path, cposOf(dv, recAt(el, 0)));
  const last = isLastLeaf(et, path);
  settleCount(op, et, path, last && out.length === 0);
  if (last && out.length === 0) setTreeEnd(op, et, path);
  return out;
}

/** A new leaf with these records right behind the one of `path`, which is full for good now. */
function newLeafBehind(op: Op, et: ExtentTree, path: Path, recs: Uint8Array, last: boolean): void {
  const { dv, u8 } = op.osb.cache;
  const leaf = leafOf(path);
  const bh = newExtentBlock(op, et, 0);
  const el = bh.addr + LIST_OFF;
  const n = recs.length / REC_BYTES;
  u8.set(recs, recAt(el, 0));
  setUsed(dv, el, n);
  if (!last) setCount(dv, el, n);
  op.modify(leaf.bh);
  ebOf(op, bh).h_next_leaf_blk = ebOf(op, leaf.bh).h_next_leaf_blk;
  ebOf(op, leaf.bh).h_next_leaf_blk = bh.blkno;
  const parent = path[path.length - 2]!;
  const cpos = cposOf(dv, recAt(el, 0));
  const end = leafEnd(dv, recAt(el, n - 1));
  const old = recAt(parent.el, parent.idx);
  const old_end = cposOf(dv, old) + intClustersOf(dv, old);
  insertChild(op, et, path, path.length - 2, { cpos, end: last ? end : old_end, blkno: bh.blkno });
  const at = findPath(op, et, cpos);
  setLeafStart(op, et, at, cpos);
  if (last) {
    setLastEbBlk(op, et, bh.blkno);
    setTreeEnd(op, et, at);
  }
}

// Too few records ------------------------------------------------------------------------------------------------------

/** True when the leaves on the right can give `short` records, one to the other, without a leaf in between being left short. */
function canRefill(op: Op, et: ExtentTree, path: Path, short: number): boolean {
  const { dv } = op.osb.cache;
  const room = roomOf(et, path);
  const walk = clonePath(path);
  prefetchRight(et, walk, et.max_shift);
  for (let steps = 1; nextLeaf(op, et, walk); steps++) {
    if (steps > et.max_shift) return false;
    if (steps % 16 === 0) prefetchRight(et, walk, et.max_shift - steps);
    const used = usedOf(dv, leafOf(walk).el) - emptyRecs(dv, leafOf(walk).el);
    if (isLastLeaf(et, walk)) return true;
    if (used < room) return used > short;
  }
  return false;
}

/** The leaf of `path`, not the last one, lost `short` records: it takes as many from the next leaf, and so on. */
function refill(op: Op, et: ExtentTree, path: Path, short: number): void {
  const { dv, u8 } = op.osb.cache;
  if (!canRefill(op, et, path, short)) {
    settleCount(op, et, path, false);
    return;
  }
  const room = roomOf(et, path);
  let left = leafOf(path);
  const walk = clonePath(path);
  while (nextLeaf(op, et, walk)) {
    const right = leafOf(walk);
    dropEmpty(op, right);
    const used = usedOf(dv, right.el);
    const n = Math.min(short, used);
    const moved = recBytes(op, right.el, 0, n);
    const at = usedOf(dv, left.el);
    op.modify(left.bh);
    u8.set(moved, recAt(left.el, at));
    setUsed(dv, left.el, at + n);
    replaceRecs(op, right, 0, n, []);
    if (used === n) {
      removeLeaf(op, et, walk);
      return;
    }
    setLeafStart(op, et, walk, firstCpos(op, right));
    if (isLastLeaf(et, walk)) {
      settleCount(op, et, walk, true);
      setTreeEnd(op, et, walk);
      return;
    }
    if (used < room) {
      settleCount(op, et, walk, false);
      return;
    }
    left = right;
  }
}
