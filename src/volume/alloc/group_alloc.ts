/**
 * New groups for the suballocators (suballoc.c, ocfs2_block_group_alloc): a run of clusters from the global bitmap, or
 * with the discontig-bg feature several runs, becomes a bitmap of blocks. Without it a slot's inode_alloc stays as
 * small as mkfs made it.
 */
import {
  ExtentRec,
  extentRecsPerGd,
  FEATURE_INCOMPAT,
  groupBitmapSize,
  OCFS2_GROUP_DESC_SIGNATURE,
  SYSTEM_INODE,
} from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { dinodeOf } from "../inode.ts";
import type { Op } from "../op.ts";
import { allocState } from "./alloc_state.ts";
import { type ChainAllocator, claimBits, freeToBitmap, groupOf, hintedGroup, openAllocator } from "./chain.ts";
import { waitForFrees } from "./truncate_log.ts";

interface Piece {
  readonly cluster: number;
  readonly clusters: number;
}

/** The clusters of a new group: in one piece if there is such a run, else in as many as a descriptor can list. */
function claimPieces(op: Op, bitmap: ChainAllocator, cpg: number): Piece[] | null {
  const { osb } = op;
  const hint = hintedGroup(allocState(osb), bitmap);
  const whole = claimBits(op, bitmap, cpg, cpg, hint);
  if (whole !== null) return [{ cluster: whole.start, clusters: whole.bits }];
  if (!osb.incompat(FEATURE_INCOMPAT.DISCONTIG_BG)) return null;
  const pieces: Piece[] = [];
  const max = extentRecsPerGd(osb.geo.blocksize);
  let needed = cpg;
  let min = cpg >> 1;
  while (needed > 0 && min > 0 && pieces.length < max) {
    if (min > needed) min = needed;
    const got = claimBits(op, bitmap, needed, min);
    if (got === null) {
      min >>= 1;
      continue;
    }
    pieces.push({ cluster: got.start, clusters: got.bits });
    needed -= got.bits;
    min = got.bits;
  }
  if (needed === 0) return pieces;
  // What was taken was never used: it goes back at once, and the caller may look elsewhere in this same operation.
  for (const p of pieces) freeToBitmap(op, bitmap, p.cluster, p.clusters);
  return null;
}

/**
 * Adds a group to `ca`. False when the volume has no room for one; pending frees of the truncate log are waited for
 * before that.
 */
export function growAllocator(op: Op, ca: ChainAllocator): boolean {
  const { osb } = op;
  const { dv } = osb.cache;
  const bitmap = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
  const di = dinodeOf(op, ca.bh);
  const cl = di.i_chain;
  const cpg = cl.cl_cpg;
  const pieces = claimPieces(op, bitmap, cpg);
  if (pieces === null) {
    waitForFrees(op, 1);
    return false;
  }
  const chain = cl.cl_next_free_rec < cl.cl_count ? cl.cl_next_free_rec : smallestChain(op, ca);
  const rec = cl.cl_recs.at(chain);
  const bits = cpg * cl.cl_bpc;
  const bg_size = groupBitmapSize(osb.geo.blocksize, true, osb.geo.feature_incompat);
  if (bits > bg_size * 8)
    throw new Corruption("alloc.grow", { allocator: ca.inode.ino, cl_cpg: cpg, cl_bpc: cl.cl_bpc });

  const blkno = osb.clustersToBlocks(pieces[0]!.cluster);
  const bh = op.create(ca.inode, blkno, osb.kinds.group_desc);
  const gd = groupOf(op, bh);
  gd.bg_signature = OCFS2_GROUP_DESC_SIGNATURE;
  gd.bg_generation = osb.geo.fs_generation;
  gd.bg_size = bg_size;
  gd.bg_bits = bits;
  gd.bg_chain = chain;
  gd.bg_next_group = chain < cl.cl_next_free_rec ? rec.c_blkno : 0;
  gd.bg_parent_dinode = ca.inode.ino;
  gd.bg_blkno = blkno;
  gd.bg_free_bits_count = bits - 1;
  if (pieces.length > 1) {
    const el = gd.bg_list;
    el.l_count = extentRecsPerGd(osb.geo.blocksize);
    let cpos = 0;
    pieces.forEach((p, i) => {
      const r = ExtentRec.at(dv, el.l_recs_off(i));
      r.e_cpos = cpos;
      r.e_leaf_clusters = p.clusters;
      r.e_blkno = osb.clustersToBlocks(p.cluster);
      cpos += p.clusters;
    });
    el.l_next_free_rec = pieces.length;
  }
  // The descriptor is the group's first block.
  osb.k.setRange(gd.bg_bitmap_off(0), 0, 1);

  op.modify(ca.bh);
  if (chain === cl.cl_next_free_rec) {
    rec.c_free = 0;
    rec.c_total = 0;
    cl.cl_next_free_rec += 1;
  }
  rec.c_free += bits - 1;
  rec.c_total += bits;
  rec.c_blkno = blkno;
  di.i_used += 1;
  di.i_total += bits;
  di.i_clusters += cpg;
  di.i_size = di.i_clusters * osb.geo.clustersize;
  return true;
}

function smallestChain(op: Op, ca: ChainAllocator): number {
  const cl = dinodeOf(op, ca.bh).i_chain;
  let best = 0;
  for (let i = 1; i < cl.cl_next_free_rec; i++) if (cl.cl_recs.at(i).c_total < cl.cl_recs.at(best).c_total) best = i;
  return best;
}
