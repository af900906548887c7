/**
 * Finding an attribute, and setting or removing one: in the inode if it fits there, else in the block, else in the tree
 * (xattr.c: ocfs2_xattr_set, __ocfs2_xattr_set_handle). An attribute is in one place only; set to another value it may move.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { DYN_FEATURES } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import { cow_hooks } from "../file/refcount_hooks.ts";
import { dinodeOf, type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import {
  canReuse,
  findEntry,
  fits,
  fitsInsteadOf,
  insertEntry,
  isLocal,
  isOutside,
  removeEntry,
  reuseEntry,
  valueOffOf,
} from "./area.ts";
import { nameHash, nameHashes, XATTR_CREATE, XATTR_REPLACE, type XattrKey } from "./name.ts";
import {
  blockPlace,
  createInline,
  createXattrBlock,
  inlinePlace,
  inlineRoom,
  isIndexed,
  type Place,
  readXattrBlock,
} from "./place.ts";
import { type Found, findInTree } from "./tree.ts";
import { createIndex, insertIntoTree } from "./tree_grow.ts";
import { isShared, readValue, resizeValue, valueTree, writeValue } from "./value.ts";

function findInBlock(op: Op, inode: Inode, di_bh: Bh, key: XattrKey): Found | undefined {
  const xb_bh = readXattrBlock(op, inode, di_bh);
  if (xb_bh === undefined) return undefined;
  if (isIndexed(op, xb_bh)) return findInTree(op, inode, xb_bh, key, nameHashes(op.osb, key.name));
  const place = blockPlace(op, xb_bh);
  const i = findEntry(place.area, key);
  return i < 0 ? undefined : { place, i };
}

function findInline(op: Op, di_bh: Bh, key: XattrKey): Found | undefined {
  const place = inlinePlace(op, di_bh);
  if (place === undefined) return undefined;
  const i = findEntry(place.area, key);
  return i < 0 ? undefined : { place, i };
}

/** The attribute, wherever it is; undefined when there is none of that name. The caller holds the inode's lock. */
export function findXattr(op: Op, inode: Inode, di_bh: Bh, key: XattrKey): Found | undefined {
  if ((dinodeOf(op, di_bh).i_dyn_features & DYN_FEATURES.HAS_XATTR) === 0) return undefined;
  return findInline(op, di_bh, key) ?? findInBlock(op, inode, di_bh, key);
}

/** Frees the clusters of entry `i`'s value, if it has any; its place has joined the operation. Returns the extents freed. */
export function dropValue(op: Op, inode: Inode, place: Place, i: number): number {
  if (isLocal(place.area, i)) return 0;
  const freed = resizeValue(op, inode, valueTree(op, inode, place, i), 0);
  place.load(op.osb);
  return freed;
}

/** Removes an attribute and its value. */
function removeFound(op: Op, inode: Inode, { place, i }: Found): void {
  place.modify(op);
  dropValue(op, inode, place, i);
  removeEntry(place.area, i);
  place.store(op.osb);
}

/** Writes the value of an entry that has room for it in the heap, or a root. */
function putValue(op: Op, inode: Inode, { place, i }: Found, value: Uint8Array): void {
  const { area } = place;
  if (!isOutside(value.length)) {
    area.u8.set(value, area.base + valueOffOf(area, i));
    place.store(op.osb);
    return;
  }
  const et = valueTree(op, inode, place, i);
  // Shared clusters are not written to: they go, and the value gets its own.
  if (isShared(op, et)) resizeValue(op, inode, et, 0);
  resizeValue(op, inode, et, op.osb.clustersForBytes(value.length));
  writeValue(op, inode, et, value);
  place.load(op.osb);
}

/** Gives entry `i`, for which `canReuse` said yes, another value. */
function reuse(op: Op, inode: Inode, { place, i }: Found, value: Uint8Array): void {
  place.modify(op);
  if (!isOutside(value.length)) dropValue(op, inode, place, i);
  reuseEntry(place.area, i, value.length);
  place.store(op.osb);
  putValue(op, inode, { place, i }, value);
}

/** Sets an attribute in an area of the inode or of a block, where it fits; `i` is its entry or -1. */
function setInPlace(op: Op, inode: Inode, place: Place, key: XattrKey, i: number, value: Uint8Array): void {
  const { area } = place;
  if (i >= 0 && canReuse(area, i, value.length)) {
    reuse(op, inode, { place, i }, value);
    return;
  }
  if (i >= 0) removeFound(op, inode, { place, i });
  place.modify(op);
  const at = insertEntry(area, key, nameHash(op.osb.geo.uuid_hash, key.name), value.length);
  place.store(op.osb);
  putValue(op, inode, { place, i: at }, value);
}

/** The inode's own area with room for the attribute; undefined when it must go elsewhere. */
function inlineWithRoom(
  op: Op,
  di_bh: Bh,
  key: XattrKey,
  found: Found | undefined,
  value_len: number,
): Place | undefined {
  const place = inlinePlace(op, di_bh);
  if (place === undefined) {
    const room = inlineRoom(op, di_bh);
    if (room === 0 || !fitsEmpty(room, key.name.length, value_len)) return undefined;
    return createInline(op, di_bh);
  }
  const ok =
    found === undefined ? fits(place.area, key.name.length, value_len) : fitsInsteadOf(place.area, found.i, value_len);
  return ok ? place : undefined;
}

/** Whether an area of `size` bytes without entries can take the attribute. */
function fitsEmpty(size: number, name_len: number, value_len: number): boolean {
  const u8 = new Uint8Array(16);
  const empty = { dv: new DataView(u8.buffer), u8, base: 0, size, bucket: false, unit: size, blkno: 0 };
  return fits(empty, name_len, value_len);
}

/** Sets an attribute in the xattr block or its tree; makes them if need be. Throws ENOSPC (ocfs2_xattr_block_set). */
function setInBlock(op: Op, inode: Inode, di_bh: Bh, key: XattrKey, found: Found | undefined, value: Uint8Array): void {
  if (found !== undefined && canReuse(found.place.area, found.i, value.length)) {
    reuse(op, inode, found, value);
    return;
  }
  const xb_bh = readXattrBlock(op, inode, di_bh) ?? createXattrBlock(op, inode, di_bh);
  if (!isIndexed(op, xb_bh)) {
    const place = blockPlace(op, xb_bh);
    const ok =
      found === undefined
        ? fits(place.area, key.name.length, value.length)
        : fitsInsteadOf(place.area, found.i, value.length);
    if (ok) {
      setInPlace(op, inode, place, key, found?.i ?? -1, value);
      return;
    }
    if (found !== undefined) removeFound(op, inode, { place, i: found.i });
    createIndex(op, inode, xb_bh);
  } else if (found !== undefined) removeFound(op, inode, found);
  putValue(op, inode, insertIntoTree(op, inode, xb_bh, key, value.length), value);
}

/**
 * Sets the attribute, or removes it when `value` is null. `found`: what findXattr gave in this run. The dinode's block has
 * joined the operation.
 */
function changeXattr(
  op: Op,
  inode: Inode,
  di_bh: Bh,
  key: XattrKey,
  found: Found | undefined,
  value: Uint8Array | null,
): void {
  if (value === null) {
    if (found !== undefined) removeFound(op, inode, found);
    return;
  }
  const in_inode = found?.place.bhs[0] === di_bh ? found : undefined;
  const in_block = in_inode === undefined ? found : undefined;
  const inline = inlineWithRoom(op, di_bh, key, in_inode, value.length);
  if (inline !== undefined) {
    // The old one first: nothing of this lasts unless all of it does, and the refcount tree's lock comes before the allocators'.
    if (in_block !== undefined) removeFound(op, inode, in_block);
    setInPlace(op, inode, inline, key, in_inode?.i ?? -1, value);
    return;
  }
  if (in_inode !== undefined) removeFound(op, inode, in_inode);
  setInBlock(op, inode, di_bh, key, in_block, value);
}

/** The value as the disk has it; the caller holds the inode's lock (ocfs2_xattr_get_nolock). */
export function getNolock(op: Op, inode: Inode, di_bh: Bh, key: XattrKey): Uint8Array | undefined {
  const found = findXattr(op, inode, di_bh, key);
  return found === undefined ? undefined : readValue(op, inode, found.place, found.i);
}

/** Sets or removes (null) an attribute as it will be on the disk; the inode's lock is held at EX (ocfs2_xattr_set). */
export function setNolock(op: Op, inode: Inode, di_bh: Bh, key: XattrKey, value: Uint8Array | null, flags = 0): void {
  const found = findXattr(op, inode, di_bh, key);
  if (found === undefined) {
    if ((flags & XATTR_REPLACE) !== 0) throw new FsError(Errno.ENODATA, "xattr.set", { ino: inode.ino });
    if (value === null) return;
  } else if ((flags & XATTR_CREATE) !== 0) throw new FsError(Errno.EEXIST, "xattr.set", { ino: inode.ino });
  op.modify(di_bh);
  changeXattr(op, inode, di_bh, key, found, value);
  if (value === null) cow_hooks.tryLeave(op, inode, di_bh);
  const di = dinodeOf(op, di_bh);
  di.i_ctime = op.now.sec;
  di.i_ctime_nsec = op.now.nsec;
  inodeChanged(op, inode, false);
}
