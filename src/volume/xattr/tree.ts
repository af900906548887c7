/**
 * The tree of buckets: where an inode's attributes are once its xattr block is full (xattr.c:
 * ocfs2_xattr_index_block_find, ocfs2_xattr_bucket_find). Its extents are ordered by hash instead of file offset:
 *
 *     xattr block: root list   e_cpos 0 ──────┐        e_cpos 0x5a31… ──┐
 *     clusters:                [bucket][bucket][ free ]                 [bucket]…
 *                              xh_num_buckets 2                         xh_num_buckets 1
 *
 * e_cpos is the first hash that an extent may hold, e_leaf_clusters its size on the disk. Inside, buckets follow each other
 * in the order of their hashes; how many there are stands in the first one's header. All entries of one hash are in
 * one bucket. Nothing ever shrinks before the inode is wiped: an empty bucket keeps its place and its first hash.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { XattrEntry, XattrHeader } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { inVolume } from "../alloc/volume_end.ts";
import { blknoOf, cposOf, emptyRecs, lastAtOrBefore, leafClustersOf, recAt, usedOf } from "../extents/extent_list.ts";
import { xattrTreeExtentTree } from "../extents/extent_tree.ts";
import { findPath, leafOf, rightBoundary } from "../extents/path.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import { ENTRY_BYTES, findEntry, HEADER_BYTES } from "./area.ts";
import type { XattrKey } from "./name.ts";
import { blocksPerBucket, bucketPlace, bucketsPerCluster, type Place, readBucket } from "./place.ts";

/** Behind every hash. */
const NO_HASH = 2 ** 32;

/** An extent of the tree. */
export interface HashExtent {
  /** First hash that it may hold, and the first one of the next extent. */
  cpos: number;
  next_cpos: number;
  blkno: number;
  clusters: number;
}

/** The extent that may hold `hash`; undefined in a tree without extents (ocfs2_xattr_get_rec). */
export function findExtent(op: Op, inode: Inode, xb_bh: Bh, hash: number): HashExtent | undefined {
  const { dv } = op.osb.cache;
  const et = xattrTreeExtentTree(op, inode, xb_bh);
  const path = findPath(op, et, hash);
  const { el, bh } = leafOf(path);
  const from = emptyRecs(dv, el);
  const used = usedOf(dv, el);
  if (used <= from) return undefined;
  const i = lastAtOrBefore(dv, el, from, hash);
  if (i < from)
    throw new Corruption("xattr.tree", { ino: inode.ino, blkno: bh.blkno, hash, found: "no extent for it" });
  const rec = recAt(el, i);
  const extent = {
    cpos: cposOf(dv, rec),
    next_cpos: i + 1 < used ? cposOf(dv, recAt(el, i + 1)) : rightBoundary(et, path, NO_HASH),
    blkno: blknoOf(dv, rec),
    clusters: leafClustersOf(dv, rec),
  };
  if (!inVolume(op, op.osb.blocksToClusters(extent.blkno), extent.clusters))
    throw new Corruption("xattr.tree", { ino: inode.ino, blkno: bh.blkno, hash, found: "an extent that cannot be" });
  return extent;
}

/** Block of bucket `idx` of an extent. */
export const bucketBlkno = (op: Op, extent: HashExtent, idx: number): number =>
  extent.blkno + idx * blocksPerBucket(op.osb);

/** Buckets that an extent has room for. */
export const bucketRoom = (op: Op, extent: HashExtent): number => extent.clusters * bucketsPerCluster(op.osb);

/** Buckets in use in an extent, from the header of its first one. */
export function numBuckets(op: Op, inode: Inode, extent: HashExtent): number {
  const first = readBucket(op, inode, extent.blkno);
  const n = op.osb.cache.dv.getUint16(first[0]!.addr + XattrHeader.fields.xh_num_buckets.off, true);
  if (n === 0 || n > bucketRoom(op, extent))
    throw new Corruption("xattr.tree", { ino: inode.ino, blkno: extent.blkno, xh_num_buckets: n });
  return n;
}

/** Hash of entry `i` of a bucket, without looking at the rest of it. */
function bucketHash(op: Op, bhs: readonly Bh[], i: number): number {
  const { blocksize } = op.osb.geo;
  const off = HEADER_BYTES + i * ENTRY_BYTES;
  const bh = bhs[Math.floor(off / blocksize)]!;
  return op.osb.cache.dv.getUint32(bh.addr + (off % blocksize) + XattrEntry.fields.xe_name_hash.off, true);
}

/** The last hash of a bucket; of an empty one the hash that says where it belongs. */
function lastHash(op: Op, bhs: readonly Bh[]): number {
  const n = op.osb.cache.dv.getUint16(bhs[0]!.addr + XattrHeader.fields.xh_count.off, true);
  if (HEADER_BYTES + n * ENTRY_BYTES > bhs.length * op.osb.geo.blocksize)
    throw new Corruption("xattr.bucket", { blkno: bhs[0]!.blkno, xh_count: n });
  return bucketHash(op, bhs, Math.max(0, n - 1));
}

/** A bucket in its extent. */
export interface BucketAt {
  extent: HashExtent;
  num_buckets: number;
  idx: number;
  bhs: readonly Bh[];
}

/** The bucket where entries of `hash` are or belong: in the gap between two it is the lower one (ocfs2_xattr_bucket_find). */
export function findBucket(op: Op, inode: Inode, xb_bh: Bh, hash: number): BucketAt | undefined {
  const extent = findExtent(op, inode, xb_bh, hash);
  if (extent === undefined) return undefined;
  const num_buckets = numBuckets(op, inode, extent);
  const { cache } = op.osb;
  let low = 0;
  let high = num_buckets - 1;
  let idx = 0;
  while (low <= high) {
    const mid = (low + high) >> 1;
    const blkno = bucketBlkno(op, extent, mid);
    // The first miss brings in what the rest of the search may look at.
    if (cache.peek(inode, blkno) === undefined)
      cache.prefetch(inode, bucketBlkno(op, extent, low), Math.min(high - low + 1, 16) * blocksPerBucket(op.osb));
    const bhs = readBucket(op, inode, blkno);
    if (hash < bucketHash(op, bhs, 0)) {
      high = mid - 1;
      continue;
    }
    idx = mid;
    if (hash <= lastHash(op, bhs)) break;
    low = mid + 1;
  }
  return { extent, num_buckets, idx, bhs: readBucket(op, inode, bucketBlkno(op, extent, idx)) };
}

/** An attribute in its place. */
export interface Found {
  place: Place;
  i: number;
}

/** The attribute in the tree under any of its hashes. */
export function findInTree(
  op: Op,
  inode: Inode,
  xb_bh: Bh,
  key: XattrKey,
  hashes: readonly number[],
): Found | undefined {
  for (const hash of hashes) {
    const at = findBucket(op, inode, xb_bh, hash);
    if (at === undefined) return undefined;
    const place = bucketPlace(op, at.bhs);
    const i = findEntry(place.area, key);
    if (i >= 0) return { place, i };
  }
  return undefined;
}

/** Calls `fn` with each bucket, from the last extent to the first as the kernel lists them. */
export function eachBucket(op: Op, inode: Inode, xb_bh: Bh, fn: (place: Place) => void): void {
  for (let hash = NO_HASH - 1; hash >= 0; ) {
    const extent = findExtent(op, inode, xb_bh, hash);
    if (extent === undefined) return;
    const n = numBuckets(op, inode, extent);
    op.osb.cache.prefetch(inode, extent.blkno, n * blocksPerBucket(op.osb));
    for (let idx = 0; idx < n; idx++) fn(bucketPlace(op, readBucket(op, inode, bucketBlkno(op, extent, idx))));
    hash = extent.cpos - 1;
  }
}
