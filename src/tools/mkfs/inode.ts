/** The inodes of a new volume: as plan records while blocks are being handed out, then as disk blocks. Mirrors format_file of mkfs.c. */
import {
  chainRecsPerInode,
  Dinode,
  ExtentBlock,
  type ExtentList,
  extentRecsPerEb,
  extentRecsPerInode,
  localAllocSize,
  maxInlineData,
  OCFS2_EXTENT_BLOCK_SIGNATURE,
  OCFS2_INODE_SIGNATURE,
  truncateRecsPerInode,
} from "../../format/disk/index.ts";
import type { ExtentPlan, ExtentTree } from "./extents.ts";
import type { Geometry } from "./geometry.ts";
import { EXTENT_BLOCK_CHECK, type Identity, INODE_CHECK, type Piece } from "./piece.ts";
import type { ChainPlan } from "./suballoc.ts";

/** What fills the inode's type-dependent part. */
export type InodeBody =
  | { readonly kind: "extents"; readonly tree: ExtentTree }
  | { readonly kind: "inline"; fill(dv: DataView, off: number, len_bytes: number): void }
  | {
      readonly kind: "chains";
      readonly cpg: number;
      /** Bits in a cluster. */
      readonly bpc: number;
      readonly used: number;
      readonly total: number;
      readonly chains: readonly ChainPlan[];
    }
  | { readonly kind: "local_alloc" }
  | { readonly kind: "truncate_log" };

export interface InodePlan {
  readonly blkno: number;
  readonly suballoc_slot: number;
  readonly suballoc_bit: number;
  /** 0 in inodes that mkfs takes from its own group. */
  readonly suballoc_loc: number;
  readonly mode: number;
  readonly flags: number;
  links: number;
  size: number;
  clusters: number;
  dyn_features: number;
  dx_root: number;
  body: InodeBody;
}

type ListView = ReturnType<typeof ExtentList.at>;

function fillLeaf(list: ListView, recs: readonly ExtentPlan[]): void {
  list.l_next_free_rec = recs.length;
  recs.forEach((r, i) => {
    const rec = list.l_recs.at(i);
    rec.e_cpos = r.cpos;
    rec.e_leaf_clusters = r.clusters;
    rec.e_blkno = r.blkno;
  });
}

/** Records of the tree's leaf number `i`. */
function leafRecs(tree: ExtentTree, i: number, block_size: number): ExtentPlan[] {
  const n = extentRecsPerEb(block_size);
  return tree.recs.slice(i * n, (i + 1) * n);
}

function fillRoot(di: ReturnType<typeof Dinode.at>, tree: ExtentTree, block_size: number): void {
  const list = di.i_list;
  list.l_count = extentRecsPerInode(block_size);
  if (tree.leaves.length === 0) {
    fillLeaf(list, tree.recs);
    return;
  }
  list.l_tree_depth = 1;
  list.l_next_free_rec = tree.leaves.length;
  di.i_last_eb_blk = tree.leaves.at(-1)!.blkno;
  tree.leaves.forEach((leaf, i) => {
    const recs = leafRecs(tree, i, block_size);
    const rec = list.l_recs.at(i);
    rec.e_cpos = recs[0]!.cpos;
    rec.e_int_clusters = recs.reduce((n, r) => n + r.clusters, 0);
    rec.e_blkno = leaf.blkno;
  });
}

export function inodePiece(plan: InodePlan, g: Geometry, id: Identity): Piece {
  const render = (dv: DataView, off: number): void => {
    const di = Dinode.at(dv, off);
    di.i_signature = OCFS2_INODE_SIGNATURE;
    di.i_generation = id.generation;
    di.i_fs_generation = id.generation;
    di.i_blkno = plan.blkno;
    di.i_suballoc_slot = plan.suballoc_slot;
    di.i_suballoc_bit = plan.suballoc_bit;
    di.i_suballoc_loc = plan.suballoc_loc;
    di.i_mode = plan.mode;
    di.i_flags = plan.flags;
    di.i_links_count = plan.links;
    di.i_size = plan.size;
    di.i_clusters = plan.clusters;
    di.i_atime = di.i_ctime = di.i_mtime = id.time;
    di.i_dyn_features = plan.dyn_features;
    di.i_dx_root = plan.dx_root;
    fillBody(di, plan, g);
  };
  return { stage: "files", blkno: plan.blkno, blocks: 1, check_off: INODE_CHECK, render };
}

function fillBody(di: ReturnType<typeof Dinode.at>, plan: InodePlan, g: Geometry): void {
  const { body } = plan;
  switch (body.kind) {
    case "local_alloc":
      di.i_lab.la_size = localAllocSize(g.block_size);
      return;
    case "truncate_log":
      di.i_dealloc.tl_count = truncateRecsPerInode(g.block_size);
      return;
    case "inline": {
      const count = maxInlineData(g.block_size);
      di.i_data.id_count = count;
      body.fill(di.dv, di.i_data.id_data_off(0), count);
      return;
    }
    case "chains": {
      di.i_used = body.used;
      di.i_total = body.total;
      const cl = di.i_chain;
      cl.cl_cpg = body.cpg;
      cl.cl_bpc = body.bpc;
      cl.cl_count = chainRecsPerInode(g.block_size);
      cl.cl_next_free_rec = body.chains.length;
      body.chains.forEach((c, i) => {
        const rec = cl.cl_recs.at(i);
        rec.c_blkno = c.blkno;
        rec.c_total = c.total;
        rec.c_free = c.free;
      });
      return;
    }
    case "extents":
      fillRoot(di, body.tree, g.block_size);
  }
}

/** The extent blocks of a file whose records do not fit its inode. */
export function extentBlockPieces(tree: ExtentTree, g: Geometry, id: Identity): Piece[] {
  return tree.leaves.map((leaf, i) => ({
    stage: "files",
    blkno: leaf.blkno,
    blocks: 1,
    check_off: EXTENT_BLOCK_CHECK,
    render(dv, off) {
      const eb = ExtentBlock.at(dv, off);
      eb.h_signature = OCFS2_EXTENT_BLOCK_SIGNATURE;
      eb.h_fs_generation = id.generation;
      eb.h_blkno = leaf.blkno;
      eb.h_suballoc_bit = leaf.bit;
      eb.h_suballoc_loc = leaf.group_blkno;
      eb.h_next_leaf_blk = tree.leaves[i + 1]?.blkno ?? 0;
      eb.h_list.l_count = extentRecsPerEb(g.block_size);
      fillLeaf(eb.h_list, leafRecs(tree, i, g.block_size));
    },
  }));
}
