/**
 * Growing the tree of buckets: the block that becomes a tree, buckets that are cut in two, extents that get a cluster or
 * give half of their buckets to a new one (xattr.c: ocfs2_xattr_create_index_block, ocfs2_add_new_xattr_bucket and what
 * they call).
 *
 * Buckets of an extent lie side by side, so a new one in the middle moves all behind it. With clusters of 1 MiB an extent
 * has up to 256 buckets, more than an operation may change; then an operation of its own first moves the end of the
 * extent to a new one (`makeMovable`), and the one that needs the room runs again. The kernel moves them all under one handle
 * that it restarts.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  ExtentRec,
  OCFS2_XATTR_BUCKET_SIZE,
  XATTR_BLOCK_FLAGS,
  XattrBlock,
  xattrRecsPerXb,
} from "../../format/disk/index.ts";
import { Corruption, enospc } from "../../lib/fs_error.ts";
import { WaitQueue, waitOn } from "../../lib/wait.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import { insertExtent, xattrTreeExtentTree } from "../extents/extent_tree.ts";
import { type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import {
  byHash,
  countOf,
  cutOf,
  fillBucket,
  fits,
  hashOf,
  insertEntry,
  type Lifted,
  liftAll,
  setNumBuckets,
} from "./area.ts";
import { nameHash, type XattrKey } from "./name.ts";
import {
  blockPlace,
  blocksPerBucket,
  bucketPlace,
  bucketsPerCluster,
  createBucket,
  isIndexed,
  Place,
  readBucket,
  readXattrBlock,
} from "./place.ts";
import { type BucketAt, bucketBlkno, bucketRoom, type Found, findBucket, type HashExtent } from "./tree.ts";

/** Most bytes of buckets in one extent, unless a cluster is larger (OCFS2_MAX_XATTR_TREE_LEAF_SIZE). */
const MAX_LEAF_BYTES = 65536;

/** A bucket is cut at most so often for one attribute: each cut leaves half of it. */
const MAX_CUTS = 8;

/** Buckets that one operation may move. */
const moveLimit = (osb: Osb): number =>
  Math.floor(Math.min(osb.journal.max_transaction_blocks, osb.undo_slots) / 2 / blocksPerBucket(osb));

/** A bucket that was just made or is to be filled anew; nothing in it is checked. */
const freshPlace = (op: Op, bhs: readonly Bh[]): Place => new Place(op.osb, bhs, 0, OCFS2_XATTR_BUCKET_SIZE, true);

const enospcCollisions = (inode: Inode, hash: number): Error =>
  enospc("xattr.tree", { ino: inode.ino, hash, found: "a bucket full of names with one hash" });

/** Turns an xattr block with attributes into the root of a tree of one bucket (ocfs2_xattr_create_index_block). */
export function createIndex(op: Op, inode: Inode, xb_bh: Bh): void {
  const { osb } = op;
  const { cache } = osb;
  const list = liftAll(blockPlace(op, xb_bh).area);
  op.modify(xb_bh);
  const { p_cluster } = claimClusters(op, 1, 1);
  const blkno = osb.clustersToBlocks(p_cluster);
  const bucket = freshPlace(op, createBucket(op, inode, blkno));
  fillBucket(bucket.area, list);
  setNumBuckets(bucket.area, 1);
  bucket.store(osb);

  const xb = XattrBlock.at(cache.dv, xb_bh.addr);
  cache.u8.fill(0, xb_bh.addr + XattrBlock.fields.xb_root.off, xb_bh.addr + cache.block_bytes);
  xb.xb_flags |= XATTR_BLOCK_FLAGS.INDEXED;
  const root = xb.xb_root;
  root.xt_clusters = 1;
  root.xt_list.l_count = xattrRecsPerXb(cache.block_bytes);
  root.xt_list.l_next_free_rec = 1;
  const rec = ExtentRec.at(cache.dv, root.xt_list.l_recs_off(0));
  rec.e_cpos = 0;
  rec.e_leaf_clusters = 1;
  rec.e_blkno = blkno;
}

/**
 * A new entry in the tree, its value zeros or an empty root; the name is not there. The place has joined the operation and
 * is stored. Throws ENOSPC (ocfs2_xattr_set_entry_index_block).
 */
export function insertIntoTree(op: Op, inode: Inode, xb_bh: Bh, key: XattrKey, value_len: number): Found {
  const hash = nameHash(op.osb.geo.uuid_hash, key.name);
  for (let cuts = 0; ; ) {
    const at = findBucket(op, inode, xb_bh, hash);
    if (at === undefined)
      throw new Corruption("xattr.tree", { ino: inode.ino, blkno: xb_bh.blkno, found: "a tree without extents" });
    const place = bucketPlace(op, at.bhs);
    const { area } = place;
    if (!fits(area, key.name.length, value_len)) {
      place.modify(op);
      fillBucket(area, liftAll(area), countOf(area) === 0 ? hashOf(area, 0) : 0);
      place.store(op.osb);
    }
    if (fits(area, key.name.length, value_len)) {
      place.modify(op);
      const i = insertEntry(area, key, hash, value_len);
      place.store(op.osb);
      return { place, i };
    }
    if (hashOf(area, 0) === hash && hashOf(area, countOf(area) - 1) === hash) throw enospcCollisions(inode, hash);
    if (at.num_buckets === bucketRoom(op, at.extent)) addCluster(op, inode, xb_bh, at, hash);
    else {
      if (++cuts > MAX_CUTS) throw enospcCollisions(inode, hash);
      addBucket(op, inode, at, hash);
    }
  }
}

/** Cuts bucket `at.idx` in two; the buckets behind it move up by one (ocfs2_extend_xattr_bucket). */
function addBucket(op: Op, inode: Inode, at: BucketAt, hash: number): void {
  const { extent, idx, num_buckets } = at;
  const behind = num_buckets - 1 - idx;
  if (behind > moveLimit(op.osb)) makeMovable(op, inode, hash);
  op.osb.cache.prefetch(inode, bucketBlkno(op, extent, idx), (behind + 1) * blocksPerBucket(op.osb));
  for (let i = num_buckets - 1; i > idx; i--)
    copyBucket(op, inode, bucketBlkno(op, extent, i), bucketBlkno(op, extent, i + 1));
  cutBucket(op, inode, at.bhs, bucketBlkno(op, extent, idx + 1), hash, 0);
  setExtentBuckets(op, inode, extent.blkno, num_buckets + 1);
}

function setExtentBuckets(op: Op, inode: Inode, blkno: number, n: number): void {
  const first = bucketPlace(op, readBucket(op, inode, blkno));
  first.modify(op);
  setNumBuckets(first.area, n);
  first.store(op.osb);
}

function copyBucket(op: Op, inode: Inode, from: number, to: number): void {
  const { u8, block_bytes } = op.osb.cache;
  const src = readBucket(op, inode, from);
  const dst = createBucket(op, inode, to);
  src.forEach((bh, i) => {
    u8.copyWithin(dst[i]!.addr, bh.addr, bh.addr + block_bytes);
  });
}

/**
 * Moves the upper half of a bucket's attributes to a new bucket at `to`, whose header says `num_buckets`. Returns the
 * new bucket's first hash (ocfs2_divide_xattr_bucket). When all have one hash, one of the two becomes empty: the one where
 * `hash` belongs, for which the room is made.
 */
function cutBucket(
  op: Op,
  inode: Inode,
  src_bhs: readonly Bh[],
  to: number,
  hash: number,
  num_buckets: number,
): number {
  const src = bucketPlace(op, src_bhs);
  const list = liftAll(src.area);
  const sorted = [...list].sort(byHash);
  const cut = cutOf(sorted);
  let upper: ReadonlySet<Lifted>;
  let first_hash: number;
  if (cut > 0) {
    upper = new Set(sorted.slice(cut));
    first_hash = sorted[cut]!.hash;
  } else {
    const only = sorted[0]!.hash;
    upper = new Set(hash < only ? sorted : []);
    first_hash = hash < only ? only : only + 1;
  }
  src.modify(op);
  const dst = freshPlace(op, createBucket(op, inode, to));
  fillBucket(
    dst.area,
    list.filter((l) => upper.has(l)),
    first_hash,
  );
  setNumBuckets(dst.area, num_buckets);
  dst.store(op.osb);
  fillBucket(
    src.area,
    list.filter((l) => !upper.has(l)),
    hash,
  );
  src.store(op.osb);
  return first_hash;
}

/** Moves buckets from `from` to the extent's end into a new extent at `to`. Returns its first hash (ocfs2_mv_xattr_buckets). */
function moveBuckets(
  op: Op,
  inode: Inode,
  extent: HashExtent,
  num_buckets: number,
  from: number,
  to_blkno: number,
): number {
  const n = num_buckets - from;
  const step = blocksPerBucket(op.osb);
  op.osb.cache.prefetch(inode, bucketBlkno(op, extent, from), n * step);
  for (let i = 0; i < n; i++) copyBucket(op, inode, bucketBlkno(op, extent, from + i), to_blkno + i * step);
  setExtentBuckets(op, inode, to_blkno, n);
  setExtentBuckets(op, inode, extent.blkno, from);
  return hashOf(bucketPlace(op, readBucket(op, inode, to_blkno)).area, 0);
}

/**
 * A full extent gets a cluster: a contiguous one joins it, while it stays small enough to be searched; with any other a new
 * extent begins, to which the end of the old one moves (ocfs2_add_new_xattr_cluster, ocfs2_adjust_xattr_cross_cluster).
 */
function addCluster(op: Op, inode: Inode, xb_bh: Bh, at: BucketAt, hash: number): void {
  const { osb } = op;
  const { extent, idx, num_buckets } = at;
  const per_cluster = bucketsPerCluster(osb);
  if (per_cluster >> 1 > moveLimit(osb)) makeMovable(op, inode, hash);
  const et = xattrTreeExtentTree(op, inode, xb_bh);
  op.modify(xb_bh);
  const end_blkno = extent.blkno + osb.clustersToBlocks(extent.clusters);
  const { p_cluster } = claimClusters(op, 1, 1, osb.blocksToClusters(end_blkno));
  const blkno = osb.clustersToBlocks(p_cluster);
  const joins =
    blkno === end_blkno &&
    (extent.clusters + 1) * osb.geo.clustersize <= MAX_LEAF_BYTES &&
    extent.cpos + extent.clusters + 1 <= extent.next_cpos;
  if (joins) {
    insertExtent(op, et, extent.cpos + extent.clusters, blkno, 1, 0);
    return;
  }
  let first_hash: number;
  if (per_cluster > 1) {
    first_hash = moveBuckets(op, inode, extent, num_buckets, num_buckets - (per_cluster >> 1), blkno);
  } else if (idx < num_buckets - 1) {
    first_hash = moveBuckets(op, inode, extent, num_buckets, num_buckets - 1, blkno);
  } else {
    first_hash = cutBucket(op, inode, at.bhs, blkno, hash, 1);
  }
  insertHashExtent(op, inode, xb_bh, extent, first_hash, blkno);
}

/** Enters a new extent of one cluster behind `before`. */
function insertHashExtent(
  op: Op,
  inode: Inode,
  xb_bh: Bh,
  before: HashExtent,
  first_hash: number,
  blkno: number,
): void {
  // Buckets in order, each with a hash of its own, leave this much room: the record cannot lie over its neighbours.
  if (first_hash < before.cpos + before.clusters || first_hash >= before.next_cpos)
    throw new Corruption("xattr.tree", {
      ino: inode.ino,
      blkno: before.blkno,
      found: "buckets out of order",
      first_hash,
    });
  insertExtent(op, xattrTreeExtentTree(op, inode, xb_bh), first_hash, blkno, 1, 0);
}

/** What became of a preparation, for the run of the operation that asked for it. */
const failures = new WeakMap<Op, { error: unknown }>();

/** Gives the operation up until one of its own has moved the end of `hash`'s extent to a new extent. */
function makeMovable(op: Op, inode: Inode, hash: number): never {
  const failure = failures.get(op);
  if (failure !== undefined) {
    failures.delete(op);
    throw failure.error;
  }
  const { osb } = op;
  const queue = new WaitQueue();
  // Not before this run is undone, and not woken before it waits: both are what `ready` is for.
  osb.ready(() => {
    osb.exec(
      (own) => moveEnd(own, inode, hash),
      (error) => {
        if (error) failures.set(op, { error });
        osb.ready(() => queue.wakeAll());
      },
      op.locks,
    );
  });
  waitOn(queue);
}

function moveEnd(op: Op, inode: Inode, hash: number): void {
  const xb_bh = readXattrBlock(op, inode, inodeLock(op, inode, true));
  if (xb_bh === undefined || !isIndexed(op, xb_bh)) return;
  const at = findBucket(op, inode, xb_bh, hash);
  if (at === undefined) return;
  const { extent, num_buckets } = at;
  const moved = Math.min(moveLimit(op.osb), num_buckets >> 1);
  if (moved === 0) return;
  op.modify(xb_bh);
  const { p_cluster } = claimClusters(op, 1, 1);
  const blkno = op.osb.clustersToBlocks(p_cluster);
  const first_hash = moveBuckets(op, inode, extent, num_buckets, num_buckets - moved, blkno);
  insertHashExtent(op, inode, xb_bh, extent, first_hash, blkno);
}
