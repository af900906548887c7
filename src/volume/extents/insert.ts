/** Adding an extent to a tree (ocfs2_insert_extent). */
import { unreachable } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import type { ExtentTree } from "./extent_tree.ts";

/**
 * Maps the hole [cpos, cpos + clusters) to `blkno`. Merges with contiguous neighbours of the same flags and grows the
 * tree; adds to the tree's cluster count. Throws ENOSPC when an extent block is needed and there is none.
 */
export function insertExtent(
  _op: Op,
  _et: ExtentTree,
  _cpos: number,
  _blkno: number,
  _clusters: number,
  _flags: number,
): void {
  unreachable("insertExtent is not there yet");
}
