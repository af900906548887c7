/**
 * Extent trees: the map from logical clusters to blocks, in the five places where OCFS2 keeps one (alloc.c,
 * struct ocfs2_extent_tree). An ExtentTree is made for one run of an operation and thrown away with it: it holds
 * arena addresses.
 *
 * Two files of one volume must never come to own the same cluster, and an interrupted change must never leave a leaf
 * that no parent knows. The first is the allocators' promise; the second comes free with operations that are undone
 * whole. What is left to this directory is the shape: shape.ts and leaves.ts list the rules that kernels and fsck.ocfs2
 * hold a tree to.
 */
import type { Bh, CachingInfo } from "../../block/buffer_cache.ts";
import {
  Dinode,
  DxRootBlock,
  RefcountBlock,
  XattrBlock,
  XattrTreeRoot,
  XattrValueRoot,
} from "../../format/disk/index.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

export { changeExtentFlag, replaceExtent } from "./change.ts";
export { insertExtent } from "./insert.ts";
export { extentRecords, lastExtent, lookupExtent } from "./lookup.ts";
export { removeExtent } from "./remove.ts";

/** One mapping: `clusters` from logical cluster `cpos` on lie at block `blkno`. blkno 0: a hole. */
export interface Extent {
  cpos: number;
  clusters: number;
  blkno: number;
  /** OCFS2_EXT_UNWRITTEN, OCFS2_EXT_REFCOUNTED. */
  flags: number;
}

/** The most clusters that a leaf record can count (e_leaf_clusters has 16 bits). */
export const MAX_LEAF_CLUSTERS = 0xffff;

/** A quarter of the smallest transaction. */
const MAX_SHIFT = 64;

export interface ExtentTree {
  readonly osb: Osb;
  /** Owner of the extent blocks. */
  readonly ci: CachingInfo;
  /** The file whose extent map the tree is, null for the other kinds. */
  readonly inode: Inode | null;
  /** The block that holds the root list. */
  readonly root_bh: Bh;
  /** Arena address of the root's ocfs2_extent_list. */
  readonly el_addr: number;
  /** Arena addresses of the tree's last_eb_blk (u64) and clusters (u32) fields, in root_bh. */
  readonly last_eb_addr: number;
  readonly clusters_addr: number;
  /** Longest record that inserts and merges may make. */
  readonly max_leaf_clusters: number;
  /** Leaves that an insert or removal in the middle may pass through; above that the leaf is split (leaves.ts). */
  readonly max_shift: number;
  /** False for refcount trees: their records stay apart even where they are contiguous. */
  readonly merges: boolean;
}

/** A file's or linear directory's data (ocfs2_init_dinode_extent_tree). */
export function dinodeExtentTree(op: Op, inode: Inode, di_bh: Bh): ExtentTree {
  const f = Dinode.fields;
  return {
    osb: op.osb,
    ci: inode,
    inode,
    root_bh: di_bh,
    el_addr: di_bh.addr + f.i_list.off,
    last_eb_addr: di_bh.addr + f.i_last_eb_blk.off,
    clusters_addr: di_bh.addr + f.i_clusters.off,
    max_leaf_clusters: MAX_LEAF_CLUSTERS,
    max_shift: MAX_SHIFT,
    merges: true,
  };
}

/** The value of one extended attribute: `value_root_addr` is the arena address of the ocfs2_xattr_value_root in `bh`. */
export function xattrValueExtentTree(op: Op, inode: Inode, bh: Bh, value_root_addr: number): ExtentTree {
  const f = XattrValueRoot.fields;
  return {
    osb: op.osb,
    ci: inode,
    inode: null,
    root_bh: bh,
    el_addr: value_root_addr + f.xr_list.off,
    last_eb_addr: value_root_addr + f.xr_last_eb_blk.off,
    clusters_addr: value_root_addr + f.xr_clusters.off,
    max_leaf_clusters: MAX_LEAF_CLUSTERS,
    max_shift: MAX_SHIFT,
    merges: true,
  };
}

/** The buckets of an inode's attributes; `blk_bh` is its indexed xattr block. */
export function xattrTreeExtentTree(op: Op, inode: Inode, blk_bh: Bh): ExtentTree {
  const root = blk_bh.addr + XattrBlock.fields.xb_root.off;
  const f = XattrTreeRoot.fields;
  return {
    osb: op.osb,
    ci: inode,
    inode: null,
    root_bh: blk_bh,
    el_addr: root + f.xt_list.off,
    last_eb_addr: root + f.xt_last_eb_blk.off,
    clusters_addr: root + f.xt_clusters.off,
    max_leaf_clusters: op.osb.clustersForBytes(XATTR_TREE_MAX_LEAF_BYTES),
    max_shift: MAX_SHIFT,
    merges: true,
  };
}

/** OCFS2_MAX_XATTR_TREE_LEAF_SIZE: so many bytes of buckets may one record of the tree hold. */
const XATTR_TREE_MAX_LEAF_BYTES = 65536;

/** The hash index of a directory. */
export function dxRootExtentTree(op: Op, inode: Inode, dx_root_bh: Bh): ExtentTree {
  const f = DxRootBlock.fields;
  return {
    osb: op.osb,
    ci: inode,
    inode: null,
    root_bh: dx_root_bh,
    el_addr: dx_root_bh.addr + f.dr_list.off,
    last_eb_addr: dx_root_bh.addr + f.dr_last_eb_blk.off,
    clusters_addr: dx_root_bh.addr + f.dr_clusters.off,
    max_leaf_clusters: MAX_LEAF_CLUSTERS,
    max_shift: MAX_SHIFT,
    merges: true,
  };
}

/** The leaves of a refcount tree, by physical cluster; `ci` is the tree. */
export function refcountExtentTree(op: Op, ci: CachingInfo, ref_root_bh: Bh): ExtentTree {
  const f = RefcountBlock.fields;
  return {
    osb: op.osb,
    ci,
    inode: null,
    root_bh: ref_root_bh,
    el_addr: ref_root_bh.addr + f.rf_list.off,
    last_eb_addr: ref_root_bh.addr + f.rf_last_eb_blk.off,
    clusters_addr: ref_root_bh.addr + f.rf_clusters.off,
    max_leaf_clusters: MAX_LEAF_CLUSTERS,
    max_shift: MAX_SHIFT,
    merges: false,
  };
}
