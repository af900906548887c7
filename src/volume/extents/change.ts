/** Changing what is mapped already: flags (ocfs2_change_extent_flag) and place (ocfs2_split_extent for copy on write). */
import { Corruption } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import { extentAt, part, placeOf, replaceRecords } from "./edit.ts";
import type { Extent, ExtentTree } from "./extent_tree.ts";

/**
 * Replaces the mapping of [cpos, cpos + clusters), record by record, by what `change` makes of each piece. The range may
 * span records but no holes.
 */
function rewrite(op: Op, et: ExtentTree, cpos: number, clusters: number, change: (piece: Extent) => Extent): void {
  const end = cpos + clusters;
  for (let pos = cpos; pos < end; ) {
    const place = placeOf(op, et, pos);
    const e = place.idx >= place.from ? extentAt(et, place, place.idx) : null;
    if (e === null || e.cpos + e.clusters <= pos)
      throw new Corruption("extents.change", { owner: et.ci.ci_blkno, cpos: pos, found: "a hole" });
    const e_end = e.cpos + e.clusters;
    const stop = Math.min(end, e_end);
    const piece = part(et, e, pos, stop);
    const changed = change(piece);
    if (changed.flags !== piece.flags || changed.blkno !== piece.blkno) {
      const recs: Extent[] = [];
      if (e.cpos < pos) recs.push(part(et, e, e.cpos, pos));
      recs.push(changed);
      if (stop < e_end) recs.push(part(et, e, stop, e_end));
      replaceRecords(op, et, place, place.idx, 1, recs);
    }
    pos = stop;
  }
}

/**
 * Sets and clears e_flags of [cpos, cpos + clusters), which may span several records but no hole, splitting and merging
 * as needed. Throws ENOSPC when a split needs an extent block and there is none.
 */
export function changeExtentFlag(
  op: Op,
  et: ExtentTree,
  cpos: number,
  clusters: number,
  set_flags: number,
  clear_flags: number,
): void {
  rewrite(op, et, cpos, clusters, (e) => ({ ...e, flags: (e.flags | set_flags) & ~clear_flags & 0xff }));
}

/**
 * Maps [cpos, cpos + clusters) to the run at `blkno` with `flags` instead of what it is mapped to (copy on write). The
 * old clusters stay allocated: the caller drops its reference to them.
 */
export function replaceExtent(
  op: Op,
  et: ExtentTree,
  cpos: number,
  clusters: number,
  blkno: number,
  flags: number,
): void {
  rewrite(op, et, cpos, clusters, (e) => ({ ...e, blkno: blkno + et.osb.clustersToBlocks(e.cpos - cpos), flags }));
}
