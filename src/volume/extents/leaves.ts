/**
 * Changing the records of a leaf, and what follows when they do not fit or no longer fill it.
 *
 * Every leaf but the last must be full (shape.ts has the rules and the reasons). So, like the kernel, an insert in
 * the middle hands one record on from leaf to leaf up to the end of the tree, and a removal draws one back. That costs as
 * many blocks as there are leaves on the right. Above `max_shift` leaves the leaf is split, or left short, instead,
 * and its l_count set to what it holds: full for everybody who looks, at the price of a few blocks, and it grows again with
 * the next insert. Only the last leaf under each interior node must have a full block's worth, and none but the last of the
 * tree may have fewer than two records: the kernel BUGs when it rotates through one (ocfs2_shift_records_right).
 */
import { extentRecsPerEb } from "../../format/disk/index.ts";
import { unreachable } from "../../lib/fs_error.ts";
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
import {
  clonePath,
  findPath,
  isLastLeaf,
  leafOf,
  nextLeaf,
  type Path,
  type PathNode,
  prefetchRight,
  prevLeaf,
  readChild,
} from "./path.ts";
import {
  ebOf,
  firstCpos,
  insertLeaf,
  newExtentBlock,
  removeLeaf,
  setLastEbBlk,
  setLeafStart,
  setTreeEnd,
  shiftTreeDepth,
} from "./shape.ts";

/** Leaves short of this many records are filled up or merged. Two would do for the kernel. */
const MIN_RECORDS = 4;

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
  if (now === 0 && last) {
    settleLastLeaves(op, et, removeLeaf(op, et, path));
    return;
  }
  if (at === 0 && now > 0) setLeafStart(op, et, path, firstCpos(op, leaf));
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
  const old = recAt(parent.el, parent.idx);
  const end = last ? leafEnd(dv, recAt(el, n - 1)) : cposOf(dv, old) + intClustersOf(dv, old);
  const touched = insertLeaf(op, et, path, { cpos, end, blkno: bh.blkno });
  if (last) {
    setLastEbBlk(op, et, bh.blkno);
    setTreeEnd(op, et, findPath(op, et, cpos));
  }
  settleLastLeaves(op, et, touched);
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
    if (used < room) return used - short >= MIN_RECORDS;
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
function refill(op: Op, et: ExtentTree, path: Path, short: number): void {
  const { dv } = op.osb.cache;
  if (!canRefill(op, et, path, short)) {
    leaveShort(op, et, path);
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
      settleLastLeaves(op, et, removeLeaf(op, et, walk));
      return;
    }
    if (used > n) setLeafStart(op, et, walk, firstCpos(op, right));
    if (last || used < room) {
      settleCount(op, et, walk, last);
      if (last) setTreeEnd(op, et, walk);
      return;
    }
    left = clonePath(walk);
  }
}

/** The leaf of `path`, not the last one, stays shorter than it was. */
function leaveShort(op: Op, et: ExtentTree, path: Path): void {
  const { dv } = op.osb.cache;
  const parent = path[path.length - 2]!;
  const last_here = parent.idx === usedOf(dv, parent.el) - 1;
  const p = path.slice(0, -1);
  if (last_here && p.length > 1 && !isLastLeaf(et, p)) settleLastLeaf(op, et, p);
  else if (usedOf(dv, leafOf(path).el) >= MIN_RECORDS) settleCount(op, et, path, false);
  else balance(op, et, path);
}

/** A leaf with hardly any records shares with a neighbour under the same parent, or becomes one with it. */
function balance(op: Op, et: ExtentTree, path: Path): void {
  const { dv } = op.osb.cache;
  const other = clonePath(path);
  const forward = path[path.length - 2]!.idx === 0;
  // A node that is not on the right edge has many children; so the neighbour is never the one that must stay full.
  if (forward) nextLeaf(op, et, other);
  else prevLeaf(op, et, other);
  const [left, right] = forward ? [path, other] : [other, path];
  const [l, r] = [leafOf(left), leafOf(right)];
  dropEmpty(op, forward ? r : l);
  const nl = usedOf(dv, l.el);
  const nr = usedOf(dv, r.el);
  const was_empty = nl === 0;
  const keep = nl + nr < 2 * MIN_RECORDS ? nl + nr : (nl + nr) >> 1;
  if (nl < keep) {
    appendRecs(op, l, recBytes(op, r.el, 0, keep - nl));
    replaceRecs(op, r, 0, keep - nl, []);
  } else {
    const moved = recBytes(op, l.el, keep, nl - keep);
    replaceRecs(op, l, keep, nl - keep, []);
    const { u8 } = op.osb.cache;
    op.modify(r.bh);
    u8.copyWithin(recAt(r.el, nl - keep), recAt(r.el, 0), recAt(r.el, nr));
    u8.set(moved, recAt(r.el, 0));
    setUsed(dv, r.el, nr + nl - keep);
  }
  if (was_empty) setLeafStart(op, et, left, firstCpos(op, l));
  settleCount(op, et, left, false);
  if (keep === nl + nr) {
    settleLastLeaves(op, et, removeLeaf(op, et, right));
    return;
  }
  setLeafStart(op, et, right, firstCpos(op, r));
  settleCount(op, et, right, isLastLeaf(et, right));
}

// The last leaf under each node ----------------------------------------------------------------------------------------

/** Sees to the nodes just above the leaves that begin at these clusters: insertLeaf and removeLeaf changed them. */
function settleLastLeaves(op: Op, et: ExtentTree, touched: readonly number[]): void {
  for (const cpos of touched) {
    const path = findPath(op, et, cpos);
    if (path.length > 2) settleLastLeaf(op, et, path.slice(0, -1));
  }
}

/**
 * Fills the last leaf under a node that is not on the right edge, from the leaves before it. `path` leads to the node.
 */
function settleLastLeaf(op: Op, et: ExtentTree, path: Path): void {
  const { dv, u8 } = op.osb.cache;
  if (path.length === 1 || isLastLeaf(et, path)) return;
  const { bh, el } = leafOf(path);
  const children = usedOf(dv, el);
  const leaves: PathNode[] = [];
  let total = 0;
  const room = extentRecsPerEb(et.osb.geo.blocksize);
  let first = children;
  // Those before the last one keep enough to be leaves.
  while (total < room + MIN_RECORDS * (children - 1 - first)) {
    if (--first < 0) break;
    const child = readChild(op, et, bh, el, first);
    const node = { bh: child, el: child.addr + LIST_OFF, idx: 0 };
    dropEmpty(op, node);
    leaves.unshift(node);
    total += usedOf(dv, node.el);
    if (first === children - 1 && total === room) return;
  }
  if (first < 0) {
    mergeLeaves(op, et, path);
    return;
  }
  const all = new Uint8Array(total * REC_BYTES);
  let at = 0;
  for (const node of leaves) {
    const bytes = recBytes(op, node.el, 0, usedOf(dv, node.el));
    all.set(bytes, at);
    at += bytes.length;
  }
  at = 0;
  let rest = total - room;
  leaves.forEach((node, i) => {
    const left = leaves.length - 1 - i;
    const n = left === 0 ? room : Math.ceil(rest / left);
    rest -= left === 0 ? 0 : n;
    op.modify(node.bh);
    u8.fill(0, recAt(node.el, 0), recAt(node.el, room));
    u8.set(all.subarray(at * REC_BYTES, (at + n) * REC_BYTES), recAt(node.el, 0));
    setUsed(dv, node.el, n);
    setCount(dv, node.el, n);
    at += n;
    if (i > 0) setLeafStart(op, et, toLeaf(path, first + i, node), firstCpos(op, node));
  });
}

const toLeaf = (path: Path, idx: number, leaf: PathNode): Path => [
  ...path.slice(0, -1),
  { ...leafOf(path), idx },
  leaf,
];

/** All leaves under a node together cannot fill the last one: two of them become one, and the node takes a leaf from the next one. */
function mergeLeaves(op: Op, et: ExtentTree, path: Path): void {
  const { dv } = op.osb.cache;
  const { bh, el } = leafOf(path);
  const room = extentRecsPerEb(et.osb.geo.blocksize);
  for (let i = 0; i + 1 < usedOf(dv, el); i++) {
    const [a, b] = [readChild(op, et, bh, el, i), readChild(op, et, bh, el, i + 1)].map((child) => ({
      bh: child,
      el: child.addr + LIST_OFF,
      idx: 0,
    })) as [PathNode, PathNode];
    const n = usedOf(dv, b.el);
    if (usedOf(dv, a.el) + n > room) continue;
    appendRecs(op, a, recBytes(op, b.el, 0, n));
    setCount(dv, a.el, usedOf(dv, a.el));
    settleLastLeaves(op, et, removeLeaf(op, et, toLeaf(path, i + 1, b)));
    return;
  }
  unreachable("leaves that hold little are all nearly full");
}
