/**
 * Removing all attributes of an inode that is being deleted (ocfs2_xattr_remove). A file may have thousands of them in
 * hundreds of clusters, so this is a task of bounded operations. Each leaves a sound inode: after a crash the orphan is
 * wiped again and the task finds what is left.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { DYN_FEATURES, XattrBlock } from "../../format/disk/index.ts";
import { type Task, wait } from "../../lib/task.ts";
import { freeClusters, freeMetadataBlock } from "../alloc/suballoc.ts";
import { removeExtent, xattrTreeExtentTree } from "../extents/extent_tree.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { countOf, isLocal, removeEntry } from "./area.ts";
import { dropValue } from "./change.ts";
import {
  blockPlace,
  blocksPerBucket,
  bucketPlace,
  dropInline,
  forgetBlocks,
  inlinePlace,
  isIndexed,
  type Place,
  readBucket,
  readXattrBlock,
} from "./place.ts";
import { bucketBlkno, findExtent, numBuckets } from "./tree.ts";

/** Extents that one operation frees: the truncate log of the smallest block size has 39 records. */
const EXTENTS_PER_OP = 8;

/** Removes every attribute, the xattr block and the buckets. `locks` holds the inode's lock at EX and is kept. */
export function* wipeXattrs(osb: Osb, inode: Inode, locks: LockSet): Task<void> {
  while (yield* wait(osb.step((op) => wipeSome(op, inode), locks)));
}

/** Removes entries whose values are outside, as many as `budget` lets; false when some are left. */
function wipeValues(op: Op, inode: Inode, place: Place, budget: { extents: number }): boolean {
  const { area } = place;
  for (let i = countOf(area) - 1; i >= 0; i--) {
    if (isLocal(area, i)) continue;
    if (budget.extents <= 0) return false;
    place.modify(op);
    budget.extents -= 1 + dropValue(op, inode, place, i);
    removeEntry(area, i);
    place.store(op.osb);
  }
  return true;
}

/** One step; true while there is more to do. */
function wipeSome(op: Op, inode: Inode): boolean {
  const di_bh = inodeLock(op, inode, true);
  if ((dinodeOf(op, di_bh).i_dyn_features & DYN_FEATURES.HAS_XATTR) === 0) return false;
  const budget = { extents: EXTENTS_PER_OP };
  const inline = inlinePlace(op, di_bh);
  if (inline !== undefined && !wipeValues(op, inode, inline, budget)) return true;
  const xb_bh = readXattrBlock(op, inode, di_bh);
  if (xb_bh !== undefined) {
    if (isIndexed(op, xb_bh)) {
      if (!wipeTree(op, inode, xb_bh, budget)) return true;
    } else if (!wipeValues(op, inode, blockPlace(op, xb_bh), budget)) return true;
    freeXattrBlock(op, xb_bh);
  }
  op.modify(di_bh);
  dropInline(op, di_bh);
  const di = dinodeOf(op, di_bh);
  di.i_xattr_loc = 0;
  di.i_dyn_features &= ~DYN_FEATURES.HAS_XATTR;
  inodeChanged(op, inode, false);
  return false;
}

/** The last extent's values, or the extent itself when it has none; true when the tree is empty. */
function wipeTree(op: Op, inode: Inode, xb_bh: Bh, budget: { extents: number }): boolean {
  const { osb } = op;
  const extent = findExtent(op, inode, xb_bh, 0xffffffff);
  if (extent === undefined) return true;
  const n = numBuckets(op, inode, extent);
  osb.cache.prefetch(inode, extent.blkno, n * blocksPerBucket(osb));
  for (let idx = 0; idx < n; idx++) {
    const place = bucketPlace(op, readBucket(op, inode, bucketBlkno(op, extent, idx)));
    if (!wipeValues(op, inode, place, budget)) return false;
  }
  op.modify(xb_bh);
  removeExtent(op, xattrTreeExtentTree(op, inode, xb_bh), extent.cpos, extent.clusters);
  freeClusters(op, osb.blocksToClusters(extent.blkno), extent.clusters);
  forgetBlocks(op, extent.blkno, osb.clustersToBlocks(extent.clusters));
  return extent.cpos === 0;
}

function freeXattrBlock(op: Op, xb_bh: Bh): void {
  const xb = XattrBlock.at(op.osb.cache.dv, xb_bh.addr);
  freeMetadataBlock(op, {
    slot: xb.xb_suballoc_slot,
    bit: xb.xb_suballoc_bit,
    loc: xb.xb_suballoc_loc,
    blkno: xb_bh.blkno,
  });
}
