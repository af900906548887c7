/** Taking a mapping out of a tree (ocfs2_remove_extent). */
import type { Op } from "../op.ts";
import { extentAt, part, placeOf, replaceRecords } from "./edit.ts";
import type { Extent, ExtentTree } from "./extent_tree.ts";
import { rightBoundary } from "./path.ts";
import { addClusters } from "./shape.ts";

/**
 * Unmaps [cpos, cpos + clusters), which may span records and holes; subtracts from the tree's cluster count and frees
 * extent blocks that became empty. The data clusters stay allocated: the caller frees them. One operation should take
 * a few leaves' worth at most.
 */
export function removeExtent(op: Op, et: ExtentTree, cpos: number, clusters: number): void {
  const end = cpos + clusters;
  let removed = 0;
  for (let pos = cpos; pos < end; ) {
    const place = placeOf(op, et, pos);
    let first = place.idx;
    if (first < place.from || endOf(extentAt(et, place, first)) <= pos) first++;
    // Where the search goes on after this leaf.
    let next = rightBoundary(et, place.path, end);
    const recs: Extent[] = [];
    let last = first;
    for (; last < place.used; last++) {
      const e = extentAt(et, place, last);
      if (e.cpos >= end) {
        next = end;
        break;
      }
      const from = Math.max(e.cpos, pos);
      const to = Math.min(endOf(e), end);
      if (e.cpos < from) recs.push(part(et, e, e.cpos, from));
      if (to < endOf(e)) recs.push(part(et, e, to, endOf(e)));
      removed += to - from;
    }
    if (last > first) replaceRecords(op, et, place, first, last - first, recs);
    pos = next;
  }
  addClusters(op, et, -removed);
}

const endOf = (e: Extent): number => e.cpos + e.clusters;
