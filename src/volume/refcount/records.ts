/**
 * The records of one refcount block as plain values, and what a change of counts makes of them
 * (refcounttree.c: ocfs2_split_refcount_rec, ocfs2_refcount_rec_merge). Clusters without a record are not shared.
 *
 * The kernel edits records in place, one split or merge at a time. A block holds at most 247 of them, so we take them all
 * out, change the list, and put it back: the same records result.
 */
import { type RefcountBlock, RefcountRec, refcountRecsPerRb } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { inVolume } from "../alloc/volume_end.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

/** `refcount` extent records refer to each of the clusters [cpos, cpos + clusters). */
export interface Rec {
  cpos: number;
  clusters: number;
  refcount: number;
}

const R = RefcountRec.fields;

/** All records of a block that is no tree, checked: in order, apart, within the volume. */
export function readRecs(op: Op, rb: RefcountBlock): Rec[] {
  const { osb } = op;
  const { dv } = osb.cache;
  const { rl_used, rl_count } = rb.rf_records;
  const base = rb.rf_records.rl_recs_off(0);
  const bad = (found: string, i: number): never => {
    throw new Corruption("refcount.records", { blkno: rb.rf_blkno, record: i, found, rl_used, rl_count });
  };
  if (rl_used > rl_count || rl_count > refcountRecsPerRb(osb.geo.blocksize)) bad("a list that does not fit", -1);
  const recs: Rec[] = [];
  let end = 0;
  for (let i = 0; i < rl_used; i++) {
    const at = base + i * RefcountRec.size;
    const cpos = dv.getUint32(at + R.r_cpos.off, true) + dv.getUint32(at + R.r_cpos.off + 4, true) * 2 ** 32;
    const clusters = dv.getUint32(at + R.r_clusters.off, true);
    const refcount = dv.getUint32(at + R.r_refcount.off, true);
    if (cpos < end || clusters === 0 || refcount === 0) bad("a record out of order, or of nothing", i);
    end = cpos + clusters;
    if (end > osb.geo.clusters && !inVolume(op, cpos, clusters)) bad("a record behind the end of the volume", i);
    recs.push({ cpos, clusters, refcount });
  }
  return recs;
}

/** Puts records into a block that has joined the operation; there must be room. */
export function writeRecs(osb: Osb, rb: RefcountBlock, recs: readonly Rec[]): void {
  const { dv, u8 } = osb.cache;
  const base = rb.rf_records.rl_recs_off(0);
  const before = rb.rf_records.rl_used;
  recs.forEach((r, i) => {
    const at = base + i * RefcountRec.size;
    dv.setUint32(at + R.r_cpos.off, r.cpos >>> 0, true);
    dv.setUint32(at + R.r_cpos.off + 4, Math.floor(r.cpos / 2 ** 32), true);
    dv.setUint32(at + R.r_clusters.off, r.clusters, true);
    dv.setUint32(at + R.r_refcount.off, r.refcount, true);
  });
  if (before > recs.length) u8.fill(0, base + recs.length * RefcountRec.size, base + before * RefcountRec.size);
  rb.rf_records.rl_used = recs.length;
}

/** Adds a record at the end, joined to the last one where it goes on with the same count. */
export function pushRec(out: Rec[], r: Rec): void {
  const last = out[out.length - 1];
  if (last !== undefined && last.cpos + last.clusters === r.cpos && last.refcount === r.refcount)
    last.clusters += r.clusters;
  else out.push({ ...r });
}

/**
 * The list after the counts of [from, to) went up or down by one. `freed` hears of what fell to none. Returns null when
 * a count would fall below none.
 */
export function changeRecs(
  recs: readonly Rec[],
  from: number,
  to: number,
  delta: 1 | -1,
  freed: (cpos: number, clusters: number) => void,
): Rec[] | null {
  const out: Rec[] = [];
  let pos = from;
  const unshared = (until: number): boolean => {
    if (pos >= until) return true;
    if (delta < 0) return false;
    pushRec(out, { cpos: pos, clusters: until - pos, refcount: 1 });
    pos = until;
    return true;
  };
  for (const r of recs) {
    const end = r.cpos + r.clusters;
    if (end <= from || r.cpos >= to) {
      if (r.cpos >= to && !unshared(to)) return null;
      pushRec(out, r);
      continue;
    }
    if (r.cpos < from) pushRec(out, { ...r, clusters: from - r.cpos });
    else if (!unshared(r.cpos)) return null;
    const a = Math.max(r.cpos, from);
    const b = Math.min(end, to);
    const refcount = r.refcount + delta;
    if (refcount > 0) pushRec(out, { cpos: a, clusters: b - a, refcount });
    else freed(a, b - a);
    pos = b;
    if (end > to) pushRec(out, { ...r, cpos: to, clusters: end - to });
  }
  return unshared(to) ? out : null;
}
