/** Adding an extent to a tree (ocfs2_insert_extent). */
import { assert, Corruption } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import { extentAt, placeOf, replaceRecords } from "./edit.ts";
import type { ExtentTree } from "./extent_tree.ts";
import { rightBoundary } from "./path.ts";
import { addClusters } from "./shape.ts";

/** What one leaf record can count. */
const MAX_REC_CLUSTERS = 0xffff;

/**
 * Maps the hole [cpos, cpos + clusters) to `blkno`. Merges with contiguous neighbours of the same flags and grows the
 * tree; adds to the tree's cluster count. Throws ENOSPC when an extent block is needed and there is none, Corruption when
 * the range is mapped already.
 */
export function insertExtent(
  op: Op,
  et: ExtentTree,
  cpos: number,
  blkno: number,
  clusters: number,
  flags: number,
): void {
  assert(clusters > 0 && blkno > 0, `insert of ${clusters} clusters at block ${blkno}`);
  for (let done = 0; done < clusters; ) {
    const n = Math.min(clusters - done, MAX_REC_CLUSTERS);
    insertOne(op, et, cpos + done, blkno + et.osb.clustersToBlocks(done), n, flags);
    done += n;
  }
  addClusters(op, et, clusters);
}

function insertOne(op: Op, et: ExtentTree, cpos: number, blkno: number, clusters: number, flags: number): void {
  const place = placeOf(op, et, cpos);
  const { idx, from, used } = place;
  const left = idx >= from ? extentAt(et, place, idx) : null;
  const next = idx + 1 < used ? extentAt(et, place, idx + 1).cpos : rightBoundary(et, place.path, 0x1_0000_0000);
  if ((left !== null && left.cpos + left.clusters > cpos) || next < cpos + clusters)
    throw new Corruption("extents.insert", { owner: et.ci.ci_blkno, cpos, clusters, found: "a mapping in the way" });
  replaceRecords(op, et, place, idx + 1, 0, [{ cpos, clusters, blkno, flags }]);
}
