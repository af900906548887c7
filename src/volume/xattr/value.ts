/**
 * Values that are too long for the heap: clusters of their own, mapped by a tree whose root stands in the value's place
 * (struct ocfs2_xattr_value_root; xattr.c: ocfs2_xattr_value_truncate, __ocfs2_xattr_set_value_outside,
 * ocfs2_xattr_get_value_outside). Their blocks are metadata of the inode and go through the journal, as the kernel has it:
 * a crash leaves the old value or the new one.
 *
 * Clusters shared with a reflinked file are read like others and never written to. The kernel copies a shared value before it
 * overwrites it (ocfs2_prepare_refcount_xattr); since an attribute is always set whole, we let the shared clusters go and
 * write to new ones: nothing is copied, and the refcount tree ends up the same.
 */
import { OCFS2_EXT_REFCOUNTED } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { claimClusters, freeClusters } from "../alloc/suballoc.ts";
import { inVolume } from "../alloc/volume_end.ts";
import { countOf } from "../extents/extent_list.ts";
import {
  type Extent,
  type ExtentTree,
  insertExtent,
  lookupExtent,
  removeExtent,
  xattrValueExtentTree,
} from "../extents/extent_tree.ts";
import { cow_hooks } from "../file/refcount_hooks.ts";
import { type Inode, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import { isLocal, valueOffOf, valueSizeOf } from "./area.ts";
import { forgetBlocks, type Place } from "./place.ts";

/** The tree of entry `i`'s value, which is outside. */
export function valueTree(op: Op, inode: Inode, place: Place, i: number): ExtentTree {
  const { bh, addr } = place.at(op.osb, valueOffOf(place.area, i));
  const et = xattrValueExtentTree(op, inode, bh, addr);
  const count = countOf(op.osb.cache.dv, et.el_addr);
  if (count !== 1)
    throw new Corruption("xattr.value", { ino: inode.ino, blkno: bh.blkno, l_count: count, expected: 1 });
  return et;
}

const clustersOf = (op: Op, et: ExtentTree): number => op.osb.cache.dv.getUint32(et.clusters_addr, true);

/** The extent at `cpos` from there on; a value has no holes. */
function extentAt(op: Op, et: ExtentTree, cpos: number): Extent {
  const e = lookupExtent(op, et, cpos);
  if (e.blkno === 0)
    throw new Corruption("xattr.value", { owner: et.ci.ci_blkno, blkno: et.root_bh.blkno, hole_at: cpos });
  if (!inVolume(op, op.osb.blocksToClusters(e.blkno), e.clusters))
    throw new Corruption("xattr.value", { owner: et.ci.ci_blkno, blkno: et.root_bh.blkno, e_blkno: e.blkno });
  const skip = cpos - e.cpos;
  return {
    cpos,
    clusters: e.clusters - skip,
    blkno: e.blkno + op.osb.clustersToBlocks(skip),
    flags: e.flags,
  };
}

/** Calls `fn` with each block of the first `len` bytes of the value, and where those bytes begin. */
function eachBlock(op: Op, et: ExtentTree, len: number, fn: (blkno: number, at: number) => void): void {
  const { blocksize, clustersize } = op.osb.geo;
  for (let at = 0; at < len; ) {
    const e = extentAt(op, et, at / clustersize);
    const end = Math.min(len, at + e.clusters * clustersize);
    for (let blkno = e.blkno; at < end; blkno++, at += blocksize) fn(blkno, at);
    at = Math.ceil(end / clustersize) * clustersize;
  }
}

function checkClusters(op: Op, et: ExtentTree, len: number): void {
  const clusters = clustersOf(op, et);
  if (clusters < op.osb.clustersForBytes(len))
    throw new Corruption("xattr.value", { owner: et.ci.ci_blkno, blkno: et.root_bh.blkno, len, xr_clusters: clusters });
}

/** The value of an entry, from the heap or from its clusters. */
export function readValue(op: Op, inode: Inode, place: Place, i: number): Uint8Array {
  const { area } = place;
  const len = valueSizeOf(area, i);
  if (isLocal(area, i)) {
    const at = area.base + valueOffOf(area, i);
    return area.u8.slice(at, at + len);
  }
  const { cache, kinds, geo } = op.osb;
  const et = valueTree(op, inode, place, i);
  checkClusters(op, et, len);
  const out = new Uint8Array(len);
  eachBlock(op, et, len, (blkno) => cache.prefetch(inode, blkno));
  eachBlock(op, et, len, (blkno, at) => {
    const bh = op.read(inode, blkno, kinds.raw);
    out.set(cache.u8.subarray(bh.addr, bh.addr + Math.min(geo.blocksize, len - at)), at);
  });
  return out;
}

/** Writes the value into the clusters that it has; the last block is filled up with zeros. */
export function writeValue(op: Op, inode: Inode, et: ExtentTree, value: Uint8Array): void {
  const { cache, kinds, geo } = op.osb;
  checkClusters(op, et, value.length);
  eachBlock(op, et, value.length, (blkno, at) => {
    const bh = op.create(inode, blkno, kinds.raw);
    cache.u8.set(value.subarray(at, at + geo.blocksize), bh.addr);
  });
}

/** Whether any cluster of the value may be shared: the first extent tells, sharing is for a value as a whole. */
export function isShared(op: Op, et: ExtentTree): boolean {
  return clustersOf(op, et) > 0 && (extentAt(op, et, 0).flags & OCFS2_EXT_REFCOUNTED) !== 0;
}

/**
 * Gives the value `want` clusters: claims what is missing, frees what is too much. The root's block has joined the
 * operation. Returns how many extents were freed. Throws ENOSPC (ocfs2_xattr_value_truncate).
 */
export function resizeValue(op: Op, inode: Inode, et: ExtentTree, want: number): number {
  const { osb } = op;
  const have = clustersOf(op, et);
  let goal = 0;
  for (let cpos = have; cpos < want; ) {
    const got = claimClusters(op, 1, want - cpos, goal, null);
    insertExtent(op, et, cpos, osb.clustersToBlocks(got.p_cluster), got.clusters, 0);
    cpos += got.clusters;
    goal = got.p_cluster + got.clusters;
  }
  let freed = 0;
  for (let cpos = want; cpos < have; freed++) {
    const e = extentAt(op, et, cpos);
    const n = Math.min(e.clusters, have - cpos);
    const p_cluster = osb.blocksToClusters(e.blkno);
    const shared = (e.flags & OCFS2_EXT_REFCOUNTED) !== 0;
    // First, because it locks the refcount tree: that lock comes before the allocators'.
    if (shared) cow_hooks.freeRefcounted(op, inode, readDinode(op, inode), p_cluster, n);
    removeExtent(op, et, cpos, n);
    if (!shared) freeClusters(op, p_cluster, n);
    forgetBlocks(op, e.blkno, osb.clustersToBlocks(n));
    cpos += n;
  }
  return freed;
}
