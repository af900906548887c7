/** Changing what is mapped already: flags (ocfs2_change_extent_flag) and place (ocfs2_split_extent for CoW). */
import { unreachable } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import type { ExtentTree } from "./extent_tree.ts";

/**
 * Sets and clears e_flags of [cpos, cpos + clusters), which may span several records but no hole, splitting and merging
 * as needed.
 */
export function changeExtentFlag(
  _op: Op,
  _et: ExtentTree,
  _cpos: number,
  _clusters: number,
  _set_flags: number,
  _clear_flags: number,
): void {
  unreachable("changeExtentFlag is not there yet");
}

/** Maps [cpos, cpos + clusters), which lies in one record, to `blkno` with `flags` (copy on write). */
export function replaceExtent(
  _op: Op,
  _et: ExtentTree,
  _cpos: number,
  _clusters: number,
  _blkno: number,
  _flags: number,
): void {
  unreachable("replaceExtent is not there yet");
}
