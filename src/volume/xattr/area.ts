/**
 * An area: a header, its entries, and the heap of names and values that grows down towards them (struct
 * ocfs2_xattr_header; xattr.c: ocfs2_xa_block_loc_ops, ocfs2_xa_bucket_loc_ops). There is one at the end of an inode, one
 * in an xattr block, and each bucket is one.
 *
 *     | header | entry 0 | entry 1 | …   free   … | name+value | name+value |
 *                                                 ^ lowest offset      size ^
 *
 * In an inode and in a block entries stand in the order they came and the heap has no holes. In a bucket entries are
 * ordered by hash, what is removed leaves a hole until the bucket is packed, and no name with its value lies across two
 * blocks: the root of a value's tree must be in one block. Everything here is bytes; who journals them is place.ts.
 *
 * Differs from the kernel: xh_free_start and xh_name_value_len of a bucket are computed anew at each change. The kernel
 * lets them go stale when an entry is removed or shrinks, which fsck.ocfs2 complains about.
 */
import {
  ExtentRec,
  OCFS2_XATTR_ENTRY_LOCAL,
  OCFS2_XATTR_INLINE_SIZE,
  OCFS2_XATTR_TYPE_MASK,
  XattrEntry,
  XattrHeader,
  XattrValueRoot,
  xattrSize,
} from "../../format/disk/index.ts";
import { assert, Corruption } from "../../lib/fs_error.ts";
import type { XattrKey } from "./name.ts";

export interface Area {
  readonly dv: DataView<ArrayBufferLike>;
  readonly u8: Uint8Array<ArrayBufferLike>;
  /** Address of the header, and bytes from there to the end. */
  readonly base: number;
  readonly size: number;
  /** A bucket's: ordered by hash, holes allowed. */
  readonly bucket: boolean;
  /** Bytes of a block: no name and value of a bucket lies across a multiple of it. */
  readonly unit: number;
  /** First block, for messages. */
  readonly blkno: number;
}

const H = XattrHeader.fields;
const E = XattrEntry.fields;
export const HEADER_BYTES = XattrHeader.size;
export const ENTRY_BYTES = XattrEntry.size;
/** Zero bytes that stay between the entries and the heap (OCFS2_XATTR_HEADER_GAP): readers take them for the end. */
const GAP_BYTES = 4;
/** A value root with its one record (OCFS2_XATTR_ROOT_SIZE). */
export const ROOT_BYTES = XattrValueRoot.size + ExtentRec.size;

/** Values longer than this are in clusters of their own. */
export const isOutside = (value_len: number): boolean => value_len > OCFS2_XATTR_INLINE_SIZE;

/** Bytes of a name and its value (or its value's root) in the heap (namevalue_size). */
export const pairSize = (name_len: number, value_len: number): number =>
  xattrSize(name_len) + (isOutside(value_len) ? ROOT_BYTES : xattrSize(value_len));

export const countOf = (a: Area): number => a.dv.getUint16(a.base + H.xh_count.off, true);
const setCount = (a: Area, n: number): void => a.dv.setUint16(a.base + H.xh_count.off, n, true);

const entryAt = (a: Area, i: number): number => a.base + HEADER_BYTES + i * ENTRY_BYTES;
export const hashOf = (a: Area, i: number): number => a.dv.getUint32(entryAt(a, i) + E.xe_name_hash.off, true);
export const pairOffOf = (a: Area, i: number): number => a.dv.getUint16(entryAt(a, i) + E.xe_name_offset.off, true);
export const nameLenOf = (a: Area, i: number): number => a.dv.getUint8(entryAt(a, i) + E.xe_name_len.off);
const typeByte = (a: Area, i: number): number => a.dv.getUint8(entryAt(a, i) + E.xe_type.off);
export const indexOf = (a: Area, i: number): number => typeByte(a, i) & OCFS2_XATTR_TYPE_MASK;
export const isLocal = (a: Area, i: number): boolean => (typeByte(a, i) & OCFS2_XATTR_ENTRY_LOCAL) !== 0;
export const valueSizeOf = (a: Area, i: number): number => {
  const at = entryAt(a, i) + E.xe_value_size.off;
  return a.dv.getUint32(at, true) + a.dv.getUint32(at + 4, true) * 2 ** 32;
};
/** Offset of the value, or of its root, from the header. */
export const valueOffOf = (a: Area, i: number): number => pairOffOf(a, i) + xattrSize(nameLenOf(a, i));
export const nameOf = (a: Area, i: number): Uint8Array => {
  const at = a.base + pairOffOf(a, i);
  return a.u8.slice(at, at + nameLenOf(a, i));
};

const setEntry = (a: Area, i: number, hash: number, off: number, name_len: number, type: number): void => {
  const at = entryAt(a, i);
  a.dv.setUint32(at + E.xe_name_hash.off, hash, true);
  a.dv.setUint16(at + E.xe_name_offset.off, off, true);
  a.dv.setUint8(at + E.xe_name_len.off, name_len);
  a.dv.setUint8(at + E.xe_type.off, type);
};
const setValueSize = (a: Area, i: number, value_len: number): void => {
  const at = entryAt(a, i);
  a.dv.setUint32(at + E.xe_value_size.off, value_len, true);
  a.dv.setUint32(at + E.xe_value_size.off + 4, 0, true);
  const type = typeByte(a, i) & OCFS2_XATTR_TYPE_MASK;
  a.dv.setUint8(at + E.xe_type.off, isOutside(value_len) ? type : type | OCFS2_XATTR_ENTRY_LOCAL);
};

/** Bytes that entry `i` has in the heap. By its type, not its size: a removal that was cut short leaves size 0 with a root. */
const pairSizeOf = (a: Area, i: number): number =>
  xattrSize(nameLenOf(a, i)) + (isLocal(a, i) ? xattrSize(valueSizeOf(a, i)) : ROOT_BYTES);

/** Throws Corruption unless every entry, name and value is where it can be. */
export function checkArea(a: Area): void {
  const bad = (found: string, entry: number): never => {
    throw new Corruption("xattr.area", { blkno: a.blkno, entry, found, count: countOf(a), size: a.size });
  };
  const count = countOf(a);
  const end = HEADER_BYTES + count * ENTRY_BYTES;
  if (end > a.size) bad("more entries than fit", count);
  for (let i = 0; i < count; i++) {
    if (isLocal(a, i) && isOutside(valueSizeOf(a, i))) bad("a long value that claims to be local", i);
    const off = pairOffOf(a, i);
    const last = off + pairSizeOf(a, i) - 1;
    if (off < end || last >= a.size) bad(`a name at ${off}`, i);
    if (!a.bucket) continue;
    if (Math.floor(off / a.unit) !== Math.floor(last / a.unit)) bad("a value across two blocks", i);
    if (i > 0 && hashOf(a, i) < hashOf(a, i - 1)) bad("entries that are not in order", i);
  }
}

/** The entry of this name, -1 if there is none (ocfs2_xattr_find_entry, ocfs2_find_xe_in_bucket). */
export function findEntry(a: Area, key: XattrKey): number {
  const { name, index } = key;
  const count = countOf(a);
  next: for (let i = 0; i < count; i++) {
    if (nameLenOf(a, i) !== name.length || indexOf(a, i) !== index) continue;
    const at = a.base + pairOffOf(a, i);
    for (let n = 0; n < name.length; n++) if (a.u8[at + n] !== name[n]) continue next;
    return i;
  }
  return -1;
}

/** Where the heap begins; `size` when it is empty. */
function heapStart(a: Area): number {
  let start = a.size;
  for (let i = countOf(a) - 1; i >= 0; i--) start = Math.min(start, pairOffOf(a, i));
  return start;
}

/** Where a pair of `size` bytes ends that is put below `start` and lies in one block (ocfs2_bucket_align_free_start). */
function alignedEnd(a: Area, start: number, size: number): number {
  if (!a.bucket || Math.floor((start - size) / a.unit) === Math.floor((start - 1) / a.unit)) return start;
  return start - (start % a.unit);
}

/** Whether entry `i` can take another value in its place (xlo_can_reuse). */
export function canReuse(a: Area, i: number, value_len: number): boolean {
  const want = pairSize(nameLenOf(a, i), value_len);
  return a.bucket ? pairSizeOf(a, i) >= want : pairSizeOf(a, i) === want;
}

/** Whether a new entry fits, where the `count` and `start` of the heap are given. */
function roomFor(a: Area, count: number, start: number, size: number): boolean {
  const floor = HEADER_BYTES + (count + 1) * ENTRY_BYTES + GAP_BYTES;
  return start - floor >= size && alignedEnd(a, start, size) - floor >= size;
}

/** Whether a new entry fits as the area is (xlo_check_space). */
export const fits = (a: Area, name_len: number, value_len: number): boolean =>
  roomFor(a, countOf(a), heapStart(a), pairSize(name_len, value_len));

/** Whether the new value of entry `i` of an inode or a block fits once the old one is gone. */
export function fitsInsteadOf(a: Area, i: number, value_len: number): boolean {
  assert(!a.bucket, "only an area without holes knows what a removal gives back");
  if (canReuse(a, i, value_len)) return true;
  return roomFor(a, countOf(a) - 1, heapStart(a) + pairSizeOf(a, i), pairSize(nameLenOf(a, i), value_len));
}

/** The two sums of a bucket's header that fsck.ocfs2 checks. */
function finishBucket(a: Area): void {
  if (!a.bucket) return;
  let len = 0;
  for (let i = countOf(a) - 1; i >= 0; i--) len += pairSizeOf(a, i);
  a.dv.setUint16(a.base + H.xh_free_start.off, heapStart(a), true);
  a.dv.setUint16(a.base + H.xh_name_value_len.off, len, true);
}

/** A value root that maps nothing. */
function putEmptyRoot(a: Area, off: number): void {
  a.u8.fill(0, a.base + off, a.base + off + ROOT_BYTES);
  XattrValueRoot.at(a.dv, a.base + off).xr_list.l_count = 1;
}

/** There is less room than what the entries have told of it: some of them have the same bytes for theirs. */
const overlapping = (a: Area, entry: number): Corruption =>
  new Corruption("xattr.area", { blkno: a.blkno, entry, found: "attributes that lie over each other" });

/** Room for the name and value of entry `i`, whose place in the heap is not set yet: name written, value zero or an empty root. */
function placePair(a: Area, i: number, start: number, name: Uint8Array, value_len: number): void {
  const size = pairSize(name.length, value_len);
  const off = alignedEnd(a, start, size) - size;
  if (off < HEADER_BYTES + countOf(a) * ENTRY_BYTES + GAP_BYTES) throw overlapping(a, i);
  a.dv.setUint16(entryAt(a, i) + E.xe_name_offset.off, off, true);
  a.u8.fill(0, a.base + off, a.base + off + size);
  a.u8.set(name, a.base + off);
  if (isOutside(value_len)) putEmptyRoot(a, off + xattrSize(name.length));
}

/** A new entry with zeros for a value, or an empty root: it must fit. Returns its number (ocfs2_xa_add_entry, _add_namevalue). */
export function insertEntry(a: Area, key: XattrKey, hash: number, value_len: number): number {
  const count = countOf(a);
  const start = heapStart(a);
  let i = count;
  if (a.bucket) while (i > 0 && hashOf(a, i - 1) > hash) i--;
  const at = entryAt(a, i);
  a.u8.copyWithin(at + ENTRY_BYTES, at, entryAt(a, count));
  a.u8.fill(0, at, at + ENTRY_BYTES);
  setCount(a, count + 1);
  setEntry(a, i, hash, a.size, key.name.length, key.index);
  setValueSize(a, i, value_len);
  placePair(a, i, start, key.name, value_len);
  finishBucket(a);
  return i;
}

/**
 * Entry `i` gets room for another value in the place it has: zeros, or an empty root; a root stays when the old value is
 * outside too. A root that is lost must map nothing any more. `canReuse` was true (ocfs2_xa_reuse_entry).
 */
export function reuseEntry(a: Area, i: number, value_len: number): void {
  if (isLocal(a, i) || !isOutside(value_len)) {
    const off = valueOffOf(a, i);
    a.u8.fill(0, a.base + off, a.base + pairOffOf(a, i) + pairSizeOf(a, i));
    if (isOutside(value_len)) putEmptyRoot(a, off);
  }
  setValueSize(a, i, value_len);
  finishBucket(a);
}

/** Takes entry `i` out; its value is no more in clusters (ocfs2_xa_remove_entry). */
export function removeEntry(a: Area, i: number): void {
  const count = countOf(a) - 1;
  const off = pairOffOf(a, i);
  const size = pairSizeOf(a, i);
  if (!a.bucket) {
    const start = heapStart(a);
    a.u8.copyWithin(a.base + start + size, a.base + start, a.base + off);
    a.u8.fill(0, a.base + start, a.base + start + size);
    for (let n = 0; n <= count; n++) {
      const o = pairOffOf(a, n);
      if (o < off) a.dv.setUint16(entryAt(a, n) + E.xe_name_offset.off, o + size, true);
    }
  }
  setCount(a, count);
  // The first entry of a bucket that becomes empty stays: its hash tells the search where the bucket belongs.
  if (count > 0) {
    a.u8.copyWithin(entryAt(a, i), entryAt(a, i + 1), entryAt(a, count + 1));
    a.u8.fill(0, entryAt(a, count), entryAt(a, count + 1));
  }
  finishBucket(a);
}

/** An attribute lifted out of an area, value or root with it. */
export interface Lifted {
  readonly hash: number;
  readonly entry: Uint8Array;
  readonly pair: Uint8Array;
}

/** Copies of all attributes, from the end of the heap down. */
export function liftAll(a: Area): Lifted[] {
  const order = Array.from({ length: countOf(a) }, (_, i) => i);
  order.sort((x, y) => pairOffOf(a, y) - pairOffOf(a, x));
  return order.map((i) => {
    const at = a.base + pairOffOf(a, i);
    return {
      hash: hashOf(a, i),
      entry: a.u8.slice(entryAt(a, i), entryAt(a, i + 1)),
      pair: a.u8.slice(at, at + pairSizeOf(a, i)),
    };
  });
}

/** The order of entries in a bucket. */
export const byHash = (x: Lifted, y: Lifted): number => x.hash - y.hash;

/**
 * Makes a bucket that holds `list`, packed against its end in that order; num_buckets and check in the header stay. An
 * empty one remembers `empty_hash` as where it belongs. In the order of liftAll a bucket's own attributes always fit again.
 */
export function fillBucket(a: Area, list: readonly Lifted[], empty_hash = 0): void {
  assert(a.bucket, "only a bucket is filled");
  a.u8.fill(0, a.base + HEADER_BYTES, a.base + a.size);
  const sorted = [...list].sort(byHash);
  const at = new Map(sorted.map((l, i) => [l, i]));
  sorted.forEach((l, i) => {
    a.u8.set(l.entry, entryAt(a, i));
  });
  setCount(a, list.length);
  let start = a.size;
  for (const l of list) {
    start = alignedEnd(a, start, l.pair.length) - l.pair.length;
    if (start < HEADER_BYTES + list.length * ENTRY_BYTES) throw overlapping(a, at.get(l)!);
    a.u8.set(l.pair, a.base + start);
    a.dv.setUint16(entryAt(a, at.get(l)!) + E.xe_name_offset.off, start, true);
  }
  if (list.length === 0) a.dv.setUint32(entryAt(a, 0) + E.xe_name_hash.off, empty_hash, true);
  finishBucket(a);
}

/** Buckets in the extent: only the header of its first bucket says so. */
export const setNumBuckets = (a: Area, n: number): void => a.dv.setUint16(a.base + H.xh_num_buckets.off, n, true);

/**
 * Where a list in the order of hashes is cut in two so that equal hashes stay together: the cut nearest to the middle, 0
 * when all are equal (ocfs2_xattr_find_divide_pos).
 */
export function cutOf(sorted: readonly Lifted[]): number {
  const middle = sorted.length >> 1;
  for (let d = 0; d <= middle; d++) {
    for (const at of [middle - d, middle + d])
      if (at > 0 && at < sorted.length && sorted[at - 1]!.hash !== sorted[at]!.hash) return at;
  }
  return 0;
}
