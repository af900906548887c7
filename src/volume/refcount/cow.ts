/**
 * Copy on write: before shared clusters of a file are written to, the file gets clusters of its own
 * (refcounttree.c: ocfs2_refcount_cow, ocfs2_make_clusters_writable). Without it a write to a reflink would change its origin.
 *
 * The old bytes are copied through the data cache, in the operation that changes the mapping: new pages become dirty when
 * it succeeds, and data=ordered has them on the disk before it commits.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { PAGE_BYTES, type Page } from "../../block/data_cache.ts";
import { EXT_FLAGS } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import {
  changeExtentFlag,
  dinodeExtentTree,
  type Extent,
  lookupExtent,
  replaceExtent,
} from "../extents/extent_tree.ts";
import { clusterOffset, pnoOf } from "../file/file_io.ts";
import { dinodeOf, type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { countOf, isLocal } from "../xattr/area.ts";
import { inlinePlace } from "../xattr/place.ts";
import { boundedRun, decreaseRefcount, refcountOf, waitUntilSole } from "./counts.ts";
import { type LockedTree, leaveRefcountTree, lockRefcountTree, refcountLoc } from "./tree.ts";

/** The kernel copies in pieces of so many bytes, so that files do not fall to pieces (MAX_CONTIG_BYTES). */
const CONTIG_BYTES = 1 << 20;
/** Runs on the disk that one operation copies to, once it has what it must. */
const MAX_PIECES = 32;

/** Clusters that one operation copies: bounded, so that it fits the smallest journal however scattered free space is. */
function maxClusters(osb: Osb): number {
  return Math.max(1, Math.min(Math.floor(CONTIG_BYTES / osb.geo.clustersize), osb.journal.max_transaction_blocks >> 3));
}

/**
 * Which clusters of the extent to copy when `want` from `cpos` on are written: the extent is broken at multiples of
 * CONTIG_BYTES from its start (ocfs2_refcount_cal_cow_clusters). The rest of the write, in the next extents, is the caller's.
 */
export function cowRange(e: Extent, cpos: number, want: number, contig: number): { start: number; end: number } {
  const e_end = e.cpos + e.clusters;
  const stop = Math.min(e_end, cpos + Math.max(want, 1));
  const aligned = (n: number): number => Math.ceil(n / contig) * contig;
  if (e.clusters <= contig) return { start: e.cpos, end: e_end };
  if (e.cpos + contig >= stop) return { start: e.cpos, end: e.cpos + contig };
  if (e_end - cpos <= contig) return { start: e_end - contig, end: e_end };
  const start = e.cpos + Math.floor((cpos - e.cpos) / contig) * contig;
  return { start, end: Math.min(e_end, start + aligned(stop - start)) };
}

/** Clusters whose contents move. */
interface Copy {
  readonly cpos: number;
  readonly from: number;
  readonly to: number;
  readonly clusters: number;
}

/** CowHooks.refcountCow. With keep_from === keep_to no more than was asked for is copied: the rest may be about to go. */
export function refcountCow(
  op: Op,
  inode: Inode,
  di_bh: Bh,
  cpos: number,
  clusters: number,
  keep_from: number,
  keep_to: number,
): void {
  const { osb } = op;
  const et = dinodeExtentTree(op, inode, di_bh);
  const e = lookupExtent(op, et, cpos);
  const limit = maxClusters(osb);
  const contig = Math.max(1, Math.floor(CONTIG_BYTES / osb.geo.clustersize));
  let { start, end } =
    keep_from === keep_to
      ? { start: cpos, end: Math.min(cpos + clusters, e.cpos + e.clusters) }
      : cowRange(e, cpos, clusters, contig);
  if (end - start > limit) {
    if (cpos >= start + limit || cpos + clusters > start + limit) start = cpos;
    end = Math.min(end, start + limit);
  }
  const t = lockRefcountTree(op, refcountLoc(op, di_bh));
  const copies: Copy[] = [];
  let pieces = 0;
  for (let at = start; at < end && (at <= cpos || pieces < MAX_PIECES); pieces++)
    at += cowPiece(op, inode, di_bh, t, at, end - at, copies);
  inodeChanged(op, inode);
  if (copies.length === 0) return;
  copyPages(op, inode, di_bh, copies, keep_from, keep_to);
  op.orderData(inode);
}

/** Makes some of the clusters at `at` the file's own; returns how many (ocfs2_make_clusters_writable). */
function cowPiece(
  op: Op,
  inode: Inode,
  di_bh: Bh,
  t: LockedTree,
  at: number,
  clusters: number,
  copies: Copy[],
): number {
  const { osb } = op;
  const et = dinodeExtentTree(op, inode, di_bh);
  const e = lookupExtent(op, et, at);
  if (e.blkno === 0 || (e.flags & EXT_FLAGS.REFCOUNTED) === 0)
    throw new Corruption("refcount.cow", { ino: inode.ino, cpos: at, found: "an extent that is not shared" });
  const p_cluster = osb.blocksToClusters(e.blkno) + (at - e.cpos);
  const rec = refcountOf(op, t, p_cluster, Math.min(clusters, e.cpos + e.clusters - at));
  if (rec.refcount === 0)
    throw new Corruption("refcount.cow", { ino: inode.ino, cpos: at, p_cluster, found: "no count for it" });
  if (rec.refcount === 1) {
    // All others have gone: the clusters are ours as they are.
    waitUntilSole(op, p_cluster, rec.clusters);
    changeExtentFlag(op, et, at, rec.clusters, 0, EXT_FLAGS.REFCOUNTED);
    decreaseRefcount(op, t, p_cluster, rec.clusters, false);
    return rec.clusters;
  }
  const last = copies[copies.length - 1];
  const got = claimClusters(op, 1, rec.clusters, last === undefined ? 0 : last.to + last.clusters, inode);
  const flags = e.flags & ~EXT_FLAGS.REFCOUNTED;
  replaceExtent(op, et, at, got.clusters, osb.clustersToBlocks(got.p_cluster), flags);
  decreaseRefcount(op, t, p_cluster, got.clusters, false);
  if ((flags & EXT_FLAGS.UNWRITTEN) === 0)
    copies.push({ cpos: at, from: p_cluster, to: got.p_cluster, clusters: got.clusters });
  return got.clusters;
}

/** Fills the pages of the new clusters from the old ones, up to the end of the file, but for those that are written whole. */
function copyPages(op: Op, inode: Inode, di_bh: Bh, copies: readonly Copy[], keep_from: number, keep_to: number): void {
  const { data, geo, cache } = op.osb;
  const size = dinodeOf(op, di_bh).i_size;
  const pages_per_cluster = geo.clustersize / PAGE_BYTES;
  const wanted = (pos: number): boolean => pos < size && (pos < keep_from || pos + PAGE_BYTES > keep_to);
  const pages = copies.map((c) => ({
    from: pnoOf(clusterOffset(op.osb, c.from)),
    to: pnoOf(clusterOffset(op.osb, c.to)),
    pos: c.cpos * geo.clustersize,
    count: c.clusters * pages_per_cluster,
  }));
  for (const p of pages) {
    for (let i = 0; i < p.count; ) {
      let n = 0;
      while (i + n < p.count && wanted(p.pos + (i + n) * PAGE_BYTES)) n++;
      if (n > 0) data.prefetch(inode, p.from + i, n);
      i += Math.max(n, 1);
    }
  }
  for (const p of pages) {
    for (let i = 0; i < p.count; i++) {
      const pos = p.pos + i * PAGE_BYTES;
      if (wanted(pos)) {
        const source = data.readShared(inode, p.from + i);
        const page = stage(op, inode, p.to + i);
        cache.u8.copyWithin(page.addr, source.addr, source.addr + PAGE_BYTES);
        op.onSuccess(() => data.filled(page));
      } else if (pos >= size && keep_from === keep_to) {
        // Behind the end of the file, where zeroes are about to be put: what the new cluster held before is not read for it.
        const page = stage(op, inode, p.to + i);
        cache.u8.fill(0, page.addr, page.addr + PAGE_BYTES);
      }
    }
    // The file does not own the old place any more, so nobody would drop these pages with its lock.
    data.waitIdle(p.from, p.count);
    op.onSuccess(() => data.invalidate(p.from, p.count));
  }
}

function stage(op: Op, inode: Inode, pno: number): Page {
  const { data } = op.osb;
  const page = data.stage(inode, pno);
  op.onUndo(() => data.unstage(page));
  return page;
}

/** Counts that one operation lowers in one extent record. */
const RECS_PER_STEP = 4;

/** CowHooks.refcountedRun. */
export function refcountedRun(op: Op, _inode: Inode, di_bh: Bh, p_cluster: number, clusters: number): number {
  return boundedRun(op, lockRefcountTree(op, refcountLoc(op, di_bh)), p_cluster, clusters, RECS_PER_STEP);
}

/** True while an attribute's value may lie in clusters: in the inode's own area, or somewhere behind its xattr block. */
function hasOutsideValues(op: Op, di_bh: Bh): boolean {
  if (dinodeOf(op, di_bh).i_xattr_loc !== 0) return true;
  const area = inlinePlace(op, di_bh)?.area;
  if (area === undefined) return false;
  for (let i = 0; i < countOf(area); i++) if (!isLocal(area, i)) return true;
  return false;
}

/** CowHooks.tryLeave (ocfs2_try_remove_refcount_tree). */
export function tryLeave(op: Op, inode: Inode, di_bh: Bh): void {
  if (dinodeOf(op, di_bh).i_clusters === 0 && !hasOutsideValues(op, di_bh)) leaveRefcountTree(op, inode, di_bh);
}

/** CowHooks.freeRefcounted. */
export function freeRefcounted(op: Op, inode: Inode, di_bh: Bh, p_cluster: number, clusters: number): void {
  const t = lockRefcountTree(op, refcountLoc(op, di_bh));
  decreaseRefcount(op, t, p_cluster, clusters, true);
  tryLeave(op, inode, di_bh);
}
