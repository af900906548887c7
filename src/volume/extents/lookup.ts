/** Finding an extent (ocfs2_find_leaf, ocfs2_get_clusters_nocache). */
import { unreachable } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import type { Extent, ExtentTree } from "./extent_tree.ts";

/**
 * What is at logical cluster `cpos`: the extent that holds it, whole, or a hole (blkno 0) from `cpos` up to the next
 * extent, up to 0xffffffff clusters when there is none.
 */
export function lookupExtent(_op: Op, _et: ExtentTree, _cpos: number): Extent {
  return unreachable("lookupExtent is not there yet");
}

/** All records from `cpos` on, in order, leaf by leaf. Throws Wait between leaves; use it within one operation. */
// biome-ignore lint/correctness/useYield: not there yet
export function* extentRecords(_op: Op, _et: ExtentTree, _cpos = 0): Generator<Extent> {
  unreachable("extentRecords is not there yet");
}
