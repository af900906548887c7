/**
 * An ocfs2_extent_list by its arena address: plain functions over numbers, because a walk down a tree must not make
 * an object for each record that it passes. Offsets come from the tables in format/disk.
 */
import { ExtentBlock, ExtentList, ExtentRec } from "../../format/disk/index.ts";

const L = ExtentList.fields;
const R = ExtentRec.fields;
const TWO32 = 2 ** 32;

export const REC_BYTES = ExtentRec.size;
export const LIST_OFF = ExtentBlock.fields.h_list.off;
const RECS_OFF = L.l_recs.off;

type Dv = DataView<ArrayBufferLike>;

export const depthOf = (dv: Dv, el: number): number => dv.getUint16(el + L.l_tree_depth.off, true);
export const countOf = (dv: Dv, el: number): number => dv.getUint16(el + L.l_count.off, true);
export const usedOf = (dv: Dv, el: number): number => dv.getUint16(el + L.l_next_free_rec.off, true);
export const setDepth = (dv: Dv, el: number, v: number): void => dv.setUint16(el + L.l_tree_depth.off, v, true);
export const setCount = (dv: Dv, el: number, v: number): void => dv.setUint16(el + L.l_count.off, v, true);
export const setUsed = (dv: Dv, el: number, v: number): void => dv.setUint16(el + L.l_next_free_rec.off, v, true);

/** Arena address of record `i`. */
export const recAt = (el: number, i: number): number => el + RECS_OFF + i * REC_BYTES;

export const cposOf = (dv: Dv, rec: number): number => dv.getUint32(rec + R.e_cpos.off, true);
export const setCpos = (dv: Dv, rec: number, v: number): void => dv.setUint32(rec + R.e_cpos.off, v, true);
export const blknoOf = (dv: Dv, rec: number): number =>
  dv.getUint32(rec + R.e_blkno.off, true) + dv.getUint32(rec + R.e_blkno.off + 4, true) * TWO32;

// Leaf records.
export const leafClustersOf = (dv: Dv, rec: number): number => dv.getUint16(rec + R.e_leaf_clusters.off, true);
export const flagsOf = (dv: Dv, rec: number): number => dv.getUint8(rec + R.e_flags.off);

// Interior records.
export const intClustersOf = (dv: Dv, rec: number): number => dv.getUint32(rec + R.e_int_clusters.off, true);
export const setIntClusters = (dv: Dv, rec: number, v: number): void =>
  dv.setUint32(rec + R.e_int_clusters.off, v, true);

export function setU64(dv: Dv, addr: number, v: number): void {
  dv.setUint32(addr, v >>> 0, true);
  dv.setUint32(addr + 4, Math.floor(v / TWO32), true);
}

export const getU64 = (dv: Dv, addr: number): number => dv.getUint32(addr, true) + dv.getUint32(addr + 4, true) * TWO32;

export function putInterior(dv: Dv, rec: number, cpos: number, clusters: number, blkno: number): void {
  setCpos(dv, rec, cpos);
  setIntClusters(dv, rec, clusters);
  setU64(dv, rec + R.e_blkno.off, blkno);
}

export function putLeaf(dv: Dv, rec: number, cpos: number, clusters: number, blkno: number, flags: number): void {
  setCpos(dv, rec, cpos);
  dv.setUint16(rec + R.e_leaf_clusters.off, clusters, true);
  dv.setUint8(rec + R.e_reserved1.off, 0);
  dv.setUint8(rec + R.e_flags.off, flags);
  setU64(dv, rec + R.e_blkno.off, blkno);
}

/** First cluster behind a leaf record. */
export const leafEnd = (dv: Dv, rec: number): number => cposOf(dv, rec) + leafClustersOf(dv, rec);

/** The number of records in front that hold nothing: 0, or 1 where a kernel left an empty one for an insert. */
export const emptyRecs = (dv: Dv, el: number): number =>
  usedOf(dv, el) > 0 && leafClustersOf(dv, recAt(el, 0)) === 0 ? 1 : 0;

/** Index of the last of the records [from, used) whose e_cpos is <= cpos, from - 1 when there is none. */
export function lastAtOrBefore(dv: Dv, el: number, from: number, cpos: number): number {
  let lo = from;
  let hi = usedOf(dv, el);
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (cposOf(dv, recAt(el, mid)) <= cpos) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}
