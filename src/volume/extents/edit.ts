/**
 * All changes of a tree come down to this: a few neighbouring records of one leaf are replaced by others. What becomes
 * contiguous by it is merged, within the leaf (ocfs2_try_to_merge_extent).
 */
import type { Op } from "../op.ts";
import { emptyRecs, lastAtOrBefore, recAt, usedOf } from "./extent_list.ts";
import { voidExtentMap } from "./extent_map.ts";
import type { Extent, ExtentTree } from "./extent_tree.ts";
import { spliceLeaf } from "./leaves.ts";
import { leafExtent } from "./lookup.ts";
import { findPath, leafOf, type Path } from "./path.ts";

/** A leaf and the record in it that holds or precedes a cluster. */
export interface Place {
  path: Path;
  /** Index of the first real record (an empty one may be in front). */
  from: number;
  used: number;
  /** Last record that begins at or before the cluster; from - 1 when there is none in this leaf. */
  idx: number;
}

export function placeOf(op: Op, et: ExtentTree, cpos: number): Place {
  const { dv } = et.osb.cache;
  const path = findPath(op, et, cpos);
  const { el } = leafOf(path);
  const from = emptyRecs(dv, el);
  return { path, from, used: usedOf(dv, el), idx: lastAtOrBefore(dv, el, from, cpos) };
}

export const extentAt = (et: ExtentTree, place: Place, i: number): Extent =>
  leafExtent(et, recAt(leafOf(place.path).el, i));

/** True when `b` goes on where `a` ends, in the file and on the disk, and one record may hold both. */
function contiguous(et: ExtentTree, a: Extent, b: Extent): boolean {
  return (
    et.merges &&
    a.flags === b.flags &&
    a.cpos + a.clusters === b.cpos &&
    a.blkno + et.osb.clustersToBlocks(a.clusters) === b.blkno &&
    a.clusters + b.clusters <= et.max_leaf_clusters
  );
}

/**
 * Replaces `del` records from index `at` on by `add`, merged with each other and with the records on both sides.
 * The place is of no use afterwards.
 */
export function replaceRecords(
  op: Op,
  et: ExtentTree,
  place: Place,
  at: number,
  del: number,
  add: readonly Extent[],
): void {
  const lo = Math.max(place.from, at - 1);
  const hi = Math.min(place.used, at + del + 1);
  const out: Extent[] = [];
  const push = (e: Extent): void => {
    const prev = out[out.length - 1];
    if (prev !== undefined && contiguous(et, prev, e)) prev.clusters += e.clusters;
    else out.push({ ...e });
  };
  for (let i = lo; i < at; i++) push(extentAt(et, place, i));
  for (const e of add) push(e);
  for (let i = at + del; i < hi; i++) push(extentAt(et, place, i));
  if (et.inode !== null) voidExtentMap(op, et.inode);
  spliceLeaf(op, et, place.path, lo, hi - lo, out);
}

/** The part [from, to) of an extent. */
export function part(et: ExtentTree, e: Extent, from: number, to: number): Extent {
  return {
    cpos: from,
    clusters: to - from,
    blkno: e.blkno + et.osb.clustersToBlocks(from - e.cpos),
    flags: e.flags,
  };
}
