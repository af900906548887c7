/** Extended attributes and refcount trees as debugfs.ocfs2 prints them. */
import {
  type Dinode,
  DYN_FEATURES,
  type ExtentList,
  REFCOUNT_FLAGS,
  RefcountBlock,
  SIG_REFCOUNT_BLOCK,
  SIG_XATTR_BLOCK,
  XATTR_BLOCK_FLAGS,
  XattrBlock,
  XattrHeader,
  XattrValueRoot,
} from "../../format/disk/index.ts";
import type { DebugVolume } from "./image.ts";
import { blockOf, flagText, hex, left, type Out, printCheck, printExtentList, printExtentTree } from "./print.ts";

const XATTR_ENTRY_LOCAL = 0x80;
const XATTR_TYPE_MASK = 0x7f;
const OCFS2_XATTR_BUCKET_SIZE = 4096;
/** Names and values start on multiples of this (OCFS2_XATTR_ROUND). */
const ROUND = 4;

/** The entries of one header; `limit` is where the memory that they lie in ends. */
export function printXattrEntries(out: Out, xh: XattrHeader): void {
  out(`\t###   ${left("Type", 4)}   ${left("Inline", 6)}  ${left("Name Length", 13)}  Value Length`);
  for (let i = 0; i < xh.xh_count; i++) {
    const xe = xh.xh_entries.at(i);
    const local = (xe.xe_type & XATTR_ENTRY_LOCAL) !== 0;
    const type = xe.xe_type & XATTR_TYPE_MASK;
    const columns = `${left(type, 4)}   ${left(local ? 1 : 0, 6)}  ${left(xe.xe_name_len, 13)}`;
    out(`\t#${left(i, 2)}   ${columns}  ${left(xe.xe_value_size, 13)}`);
    if (local) continue;
    const name_bytes = Math.ceil(xe.xe_name_len / ROUND) * ROUND;
    printExtentList(out, XattrValueRoot.at(xh.dv, xh.off + xe.xe_name_offset + name_bytes).xr_list);
  }
}

/** Buckets of one record of the tree; how many attributes they hold. */
function printBuckets(out: Out, v: DebugVolume, blkno: number, clusters: number, verbose: boolean): number {
  const blocks = Math.max(1, OCFS2_XATTR_BUCKET_SIZE / v.blocksize);
  const bucket = (i: number): XattrHeader => XattrHeader.from(v.read(blkno + i * blocks, blocks));
  const most = (clusters * v.clustersize) / OCFS2_XATTR_BUCKET_SIZE;
  const buckets = Math.min(bucket(0).xh_num_buckets, most);
  out(`\tExtended Attributes extent record start at #${blkno}  Has clusters: ${clusters}  Has buckets: ${buckets}`);
  let count = 0;
  for (let i = 0; i < buckets; i++) {
    const xh = bucket(i);
    out(`\t\tExtended Attributes in bucket #${i}: ${xh.xh_count}`);
    if (verbose) printXattrEntries(out, xh);
    count += xh.xh_count;
  }
  return count;
}

function printXattrTree(out: Out, v: DebugVolume, di: Dinode, list: ExtentList, verbose: boolean): number {
  const { l_tree_depth: depth, l_next_free_rec: used } = list;
  if (used === 0) return 0;
  out(`\tExtended Attributes extent tree in index block #${di.i_xattr_loc}  Depth: ${depth}  Records: ${used}`);
  if (verbose) printExtentList(out, list);
  let count = 0;
  // From the highest hash down.
  for (const e of [...v.extents(list)].reverse()) count += printBuckets(out, v, e.blkno, e.clusters, verbose);
  return count;
}

/** All attributes of an inode, and how many there are. */
export function printXattrs(out: Out, v: DebugVolume, di: Dinode, verbose: boolean): void {
  if ((di.i_dyn_features & DYN_FEATURES.HAS_XATTR) === 0) return;
  let total = 0;
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_XATTR) !== 0) {
    const xh = XattrHeader.at(di.dv, di.off + v.blocksize - di.i_xattr_inline_size);
    out(`\tExtended Attributes inline: ${xh.xh_count}`);
    if (verbose) printXattrEntries(out, xh);
    total += xh.xh_count;
  } else out("\tExtended Attributes inline: 0");
  if (di.i_xattr_loc !== 0) {
    const xb = XattrBlock.from(v.readSigned(di.i_xattr_loc, SIG_XATTR_BLOCK, "xattr block"));
    if ((xb.xb_flags & XATTR_BLOCK_FLAGS.INDEXED) === 0) {
      out(`\tExtended Attributes in block #${di.i_xattr_loc}: ${xb.xb_header.xh_count}`);
      if (verbose) printXattrEntries(out, xb.xb_header);
      total += xb.xb_header.xh_count;
    } else total += printXattrTree(out, v, di, xb.xb_root.xt_list, verbose);
  }
  out("");
  out(`\tExtended attributes in total: ${total}`);
}

// Refcount trees ------------------------------------------------------------------------------------------------------

const REFCOUNT_FLAG_NAMES = [
  [REFCOUNT_FLAGS.LEAF, "Leaf"],
  [REFCOUNT_FLAGS.TREE, "Tree"],
] as const;

export const refcountBlock = (v: DebugVolume, blkno: number): RefcountBlock =>
  RefcountBlock.from(v.readSigned(blkno, SIG_REFCOUNT_BLOCK, "refcount block"));

export function printRefcountBlock(out: Out, v: DebugVolume, rb: RefcountBlock): void {
  const loc = rb.rf_suballoc_loc === 0 ? "" : `   SubAlloc Group: ${rb.rf_suballoc_loc}`;
  out(`\tSubAlloc Bit: ${rb.rf_suballoc_bit}   SubAlloc Slot: ${rb.rf_suballoc_slot}${loc}`);
  out(`\tFS Generation: ${rb.rf_fs_generation} (0x${hex(rb.rf_fs_generation)})`);
  out(`\tBlknum: ${rb.rf_blkno}   Parent: ${rb.rf_parent}`);
  out(`\tCpos: ${rb.rf_cpos}   Last Leaf block: ${rb.rf_last_eb_blk}`);
  out(`\tReftree Count: ${rb.rf_count}   Ref clusters: ${rb.rf_clusters}`);
  out(`\tFlags: 0x${hex(rb.rf_flags)} ${flagText(rb.rf_flags, REFCOUNT_FLAG_NAMES)}`);
  printCheck(out, v, rb.rf_check, blockOf(rb));
}

function printRefcountRecords(out: Out, rb: RefcountBlock): void {
  const list = rb.rf_records;
  out(`\tRefcount records: ${list.rl_count}   Used: ${list.rl_used}`);
  out(`\t### ${left("Physical cpos", 20)}   ${left("Clusters", 12)}   ${left("Reference count", 12)}`);
  for (let i = 0; i < Math.min(list.rl_used, list.rl_count); i++) {
    const rec = list.rl_recs.at(i);
    out(`\t${left(i, 3)} ${left(rec.r_cpos, 20)}   ${left(rec.r_clusters, 12)}   ${rec.r_refcount}`);
  }
}

/** A refcount tree from its root; `extent_tree`: with the extents that lead to its leaves. */
export function printRefcountTree(out: Out, v: DebugVolume, rb: RefcountBlock, extent_tree: boolean): void {
  printRefcountBlock(out, v, rb);
  if ((rb.rf_flags & REFCOUNT_FLAGS.TREE) === 0) {
    printRefcountRecords(out, rb);
    return;
  }
  if (extent_tree) {
    out(`\tExtent tree in refcount block ${rb.rf_blkno}`);
    out(`\tDepth: ${rb.rf_list.l_tree_depth}  Records: ${rb.rf_list.l_next_free_rec}`);
    printExtentTree(out, v, rb.rf_list);
  }
  for (const e of [...v.extents(rb.rf_list)].reverse()) {
    const leaf = refcountBlock(v, e.blkno);
    printRefcountBlock(out, v, leaf);
    if ((leaf.rf_flags & REFCOUNT_FLAGS.TREE) === 0) printRefcountRecords(out, leaf);
  }
}
