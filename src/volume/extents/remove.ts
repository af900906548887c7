/** Taking a mapping out of a tree (ocfs2_remove_extent). */
import { unreachable } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import type { ExtentTree } from "./extent_tree.ts";

/**
 * Unmaps [cpos, cpos + clusters), which may span records and holes; subtracts from the tree's cluster count and frees
 * extent blocks that became empty. The data clusters stay allocated: the caller frees them. Bounded work is the
 * caller's care: a few records in one operation.
 */
export function removeExtent(_op: Op, _et: ExtentTree, _cpos: number, _clusters: number): void {
  unreachable("removeExtent is not there yet");
}
