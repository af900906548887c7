/**
 * Changing the records of a leaf, and what follows when they do not fit or no longer fill it.
 *
 * Every leaf but the last must be full (shape.ts has the rules and the reasons). So, like the kernel, an insert in
 * the middle hands one record on from leaf to leaf up to the end of the tree, and a removal draws one back. That costs as
 * many blocks as there are leaves on the right. Above `max_shift` leaves the leaf is split, or left short, instead,
 * and its l_count set to what it holds: full for everybody who looks, at the price of a few blocks, and it grows again with
 * the next insert.
 */
import { extentRecsPerEb } from "../../format/disk/index.ts";
import type { Op } from "../op.ts";
import { isCoupled, looseParent, lowMark, settle } from "./couple.ts";
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
import {
  clonePath,
  findPath,
  isLastLeaf,
  leafOf,
  leavesBehind,
  nextLeaf,
  type Path,
  type PathNode,
  prefetchRight,
  readChild,
} from "./path.ts";
import {
  ebOf,
  firstCpos,
  insertChild,
  type Loose,
  newExtentBlock,
  redistribute,
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
  const loose: Loose[] = [];
  if (isCoupled(et, path)) loose.push(looseParent(et, path));
  splice(op, et, path, at, del, add, loose);
  settle(op, et, loose);
}

function splice(
  op: Op,
  et: ExtentTree,
  path: Path,
  at: number,
  del: number,
  add: readonly Extent[],
  loose: Loose[],
): void {
  const { dv } = op.osb.cache;
  const leaf = leafOf(path);
  at -= dropEmpty(op, leaf);
  const now = usedOf(dv, leaf.el) - del + add.length;
  const last = isLastLeaf(et, path);
  if (now > roomOf(et, path)) {
    if (path.length === 1) {
      shiftTreeDepth(op, et, path);
      splice(op, et, path, at, del, add, loose);
    } else overflow(op, et, path, at, del, add, loose);
    return;
  }
  replaceRecs(op, leaf, at, del, add);
  if (path.length === 1) return;
  if (now === 0 && last) {
    removeLeaf(op, et, path, loose);
    return;
  }
  if (at === 0 && now > 0) setLeafStart(op, et, path, firstCpos(op, leaf));
  if (last) {
    settleCount(op, et, path, true);
    setTreeEnd(op, et, path);
  } else if (now < countOf(dv, leaf.el)) refill(op, et, path, countOf(dv, leaf.el) - now, loose);
  else settleCount(op, et, path, false);
}

/** Bytes of `n` records. */
const recBytes = (op: Op, el: number, at: number, n: number): Uint8Array =>
  op.osb.cache.u8.slice(recAt(el, at), recAt(el, at + n));

// Too many records -----------------------------------------------------------------------------------------------------

/** Where the end of the tree is out of reach, only so many leaves are searched for one with room. */
const NEAR_LEAVES = 6;

function searchLeaves(op: Op, et: ExtentTree, path: Path): number {
  const behind = leavesBehind(op, et, path, et.max_shift + 1);
  return behind > et.max_shift ? Math.min(NEAR_LEAVES, et.max_shift) : et.max_shift;
}

/** How many leaves on the right a record may be handed on through: to the first with room for `n`, or to the last one. */
function shiftDistance(op: Op, et: ExtentTree, path: Path, n: number): number | null {
  const { dv } = op.osb.cache;
  const room = roomOf(et, path);
  const limit = searchLeaves(op, et, path);
  const walk = clonePath(path);
  prefetchRight(et, walk, limit);
  for (let steps = 1; nextLeaf(op, et, walk); steps++) {
    if (steps > limit) return null;
    if (steps % 16 === 0) prefetchRight(et, walk, limit - steps);
    const { el } = leafOf(walk);
    if (usedOf(dv, el) - emptyRecs(dv, el) + n <= room && !isCoupled(et, walk)) return steps;
  }
  // All are full up to the last one: a new leaf behind it takes what is left over.
  return et.max_shift;
}

function overflow(
  op: Op,
  et: ExtentTree,
  path: Path,
  at: number,
  del: number,
  add: readonly Extent[],
  loose: Loose[],
): void {
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
    newLeafBehind(op, et, path, carry, last, loose);
    return;
  }
  while (nextLeaf(op, et, path)) {
    carry = handOn(op, et, path, carry);
    if (carry.length === 0) return;
    if (isLastLeaf(et, path)) break;
  }
  newLeafBehind(op, et, path, carry, true, loose);
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
  // A leaf that is bound to its parent's size passes on as many as it gets.
  const stay = isCoupled(et, path) ? used - n : Math.min(used, room - n);
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
function newLeafBehind(op: Op, et: ExtentTree, path: Path, recs: Uint8Array, last: boolean, loose: Loose[]): void {
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
  const old = recAt(parent.el, parent.idx);
  const end = last ? leafEnd(dv, recAt(el, n - 1)) : cposOf(dv, old) + intClustersOf(dv, old);
  insertChild(op, et, path, path.length - 2, { cpos, end, blkno: bh.blkno }, loose);
  if (last) {
    setLastEbBlk(op, et, bh.blkno);
    setTreeEnd(op, et, findPath(op, et, cpos));
  }
}

// Too few records ------------------------------------------------------------------------------------------------------

/** True when the leaves on the right can give `short` records, one to the other, without a leaf in between being left short. */
function canRefill(op: Op, et: ExtentTree, path: Path, short: number): boolean {
  const { dv } = op.osb.cache;
  const room = roomOf(et, path);
  const limit = searchLeaves(op, et, path);
  const walk = clonePath(path);
  prefetchRight(et, walk, limit);
  for (let steps = 1; nextLeaf(op, et, walk); steps++) {
    if (steps > limit) return false;
    if (steps % 16 === 0) prefetchRight(et, walk, limit - steps);
    const used = usedOf(dv, leafOf(walk).el) - emptyRecs(dv, leafOf(walk).el);
    if (isLastLeaf(et, walk)) return true;
    if (isCoupled(et, walk)) {
      if (used < short) return false;
    } else if (used < room) return used - short >= lowMark(et);
  }
  return false;
}

/** Appends records to a leaf that has room for them. */
function appendRecs(op: Op, node: PathNode, recs: Uint8Array): void {
  const { dv, u8 } = op.osb.cache;
  const used = usedOf(dv, node.el);
  op.modify(node.bh);
  u8.set(recs, recAt(node.el, used));
  setUsed(dv, node.el, used + recs.length / REC_BYTES);
}

/** The leaf of `path`, not the last one, lost `short` records: it takes as many from the next leaf, and so on. */
function refill(op: Op, et: ExtentTree, path: Path, short: number, loose: Loose[]): void {
  const { dv } = op.osb.cache;
  if (!canRefill(op, et, path, short)) {
    leaveShort(op, et, path, loose);
    return;
  }
  const room = roomOf(et, path);
  let left = path;
  const walk = clonePath(path);
  while (nextLeaf(op, et, walk)) {
    const right = leafOf(walk);
    dropEmpty(op, right);
    const used = usedOf(dv, right.el);
    const n = Math.min(short, used);
    const was_empty = usedOf(dv, leafOf(left).el) === 0;
    appendRecs(op, leafOf(left), recBytes(op, right.el, 0, n));
    if (was_empty) setLeafStart(op, et, left, firstCpos(op, leafOf(left)));
    replaceRecs(op, right, 0, n, []);
    const last = isLastLeaf(et, walk);
    if (used === n && last) {
      removeLeaf(op, et, walk, loose);
      return;
    }
    if (used > n) setLeafStart(op, et, walk, firstCpos(op, right));
    if (last || (used < room && !isCoupled(et, walk))) {
      settleCount(op, et, walk, last);
      if (last) setTreeEnd(op, et, walk);
      return;
    }
    left = clonePath(walk);
  }
}

/** The leaf of `path`, not the last one, stays shorter than it was: very short ones share with a neighbour. */
function leaveShort(op: Op, et: ExtentTree, path: Path, loose: Loose[]): void {
  const { dv } = op.osb.cache;
  const up = path.slice(0, -1);
  const parent = leafOf(up);
  const children = usedOf(dv, parent.el);
  settleCount(op, et, path, false);
  // Its parent is loose already.
  if (isCoupled(et, path) && usedOf(dv, leafOf(path).el) > 0) return;
  const low = lowMark(et);
  if (usedOf(dv, leafOf(path).el) >= low) return;
  if (children === 1) {
    if (usedOf(dv, leafOf(path).el) === 0) removeLeaf(op, et, path, loose);
    else loose.push(looseParent(et, path));
    return;
  }
  const first = Math.max(0, parent.idx - 1);
  const used = [0, 1].map((i) => {
    const el = readChild(op, et, parent.bh, parent.el, first + i).addr + LIST_OFF;
    return usedOf(dv, el) - emptyRecs(dv, el);
  });
  const total = used[0]! + used[1]!;
  const sizes = total <= roomOf(et, path) >> 1 ? [total] : [total >> 1, total - (total >> 1)];
  redistribute(op, et, up, first, 2, sizes);
  const bh = readChild(op, et, parent.bh, parent.el, first);
  const left = { bh, el: bh.addr + LIST_OFF, idx: 0 };
  setLeafStart(op, et, [...path.slice(0, -2), { ...parent, idx: first }, left], firstCpos(op, left));
  loose.push(looseParent(et, path));
}
