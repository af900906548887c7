/**
 * Walks an extent tree and throws at the first thing that a kernel or fsck.ocfs2 would not have: depths, separators,
 * the chain of leaves, the last leaf's pointer, leaves that are not full, the cluster count.
 */
import {
  ExtentBlock,
  ExtentList,
  type ExtentRec,
  extentRecsPerEb,
  OCFS2_EXTENT_BLOCK_SIGNATURE,
} from "../../src/format/disk/index.ts";
import { getU64 } from "../../src/volume/extents/extent_list.ts";
import type { Extent, ExtentTree } from "../../src/volume/extents/extent_tree.ts";
import type { Op } from "../../src/volume/op.ts";

export interface TreeShape {
  readonly depth: number;
  readonly leaves: number;
  readonly nodes: number;
  readonly records: Extent[];
}

export function checkExtentTree(op: Op, et: ExtentTree): TreeShape {
  const { osb } = op;
  const { dv } = osb.cache;
  const fail = (what: string): never => {
    throw new Error(`extent tree of ${et.ci.ci_blkno}: ${what}`);
  };
  const leaves: { blkno: number; next: number; used: number; count: number }[] = [];
  const records: Extent[] = [];
  let nodes = 0;
  let tree_end = 0;
  const room = extentRecsPerEb(osb.geo.blocksize);

  /** Checks the node that is said to cover [from, to); `edge`: on the right edge, where `to` is where the extents end. */
  const node = (blkno: number, el: ReturnType<typeof ExtentList.at>, from: number, to: number): void => {
    nodes++;
    if (el.l_next_free_rec > el.l_count) fail(`block ${blkno}: ${el.l_next_free_rec} records of ${el.l_count}`);
    if (el.l_next_free_rec === 0 && blkno !== et.root_bh.blkno) fail(`block ${blkno} is empty`);
    if (el.l_tree_depth === 0) {
      for (let i = 0; i < el.l_next_free_rec; i++) {
        const r = el.l_recs.at(i);
        leafRecord(blkno, r, i, from, to);
      }
      return;
    }
    let at = from;
    // What kernels rely on without saying so: off the right edge a node has as many records as its last child.
    const edge = blkno === et.root_bh.blkno || to === tree_end;
    for (let i = 0; i < el.l_next_free_rec; i++) {
      const r = el.l_recs.at(i);
      if (r.e_cpos !== at) fail(`block ${blkno} record ${i} begins at ${r.e_cpos}, not at ${at}`);
      const end = r.e_cpos + r.e_int_clusters;
      const bh = op.read(et.ci, r.e_blkno, osb.kinds.extent_block);
      const eb = ExtentBlock.at(dv, bh.addr);
      if (eb.h_signature !== OCFS2_EXTENT_BLOCK_SIGNATURE || eb.h_blkno !== r.e_blkno)
        fail(`block ${r.e_blkno} is no extent block`);
      if (eb.h_list.l_tree_depth !== el.l_tree_depth - 1)
        fail(`block ${r.e_blkno} has depth ${eb.h_list.l_tree_depth}`);
      if (eb.h_list.l_count > room) fail(`block ${r.e_blkno} has l_count ${eb.h_list.l_count}`);
      if (eb.h_list.l_tree_depth > 0 && eb.h_list.l_count !== room)
        fail(`interior block ${r.e_blkno} has l_count ${eb.h_list.l_count}`);
      if (!edge && i === el.l_next_free_rec - 1 && eb.h_list.l_next_free_rec !== el.l_next_free_rec)
        fail(`${blkno} has ${el.l_next_free_rec} records, its last child ${r.e_blkno} ${eb.h_list.l_next_free_rec}`);
      if (eb.h_list.l_tree_depth === 0) {
        leaves.push({
          blkno: r.e_blkno,
          next: eb.h_next_leaf_blk,
          used: eb.h_list.l_next_free_rec,
          count: eb.h_list.l_count,
        });
        // A separator is the first cluster of the leaf; only the first leaf's is 0.
        if (leaves.length > 1 && eb.h_list.l_recs.at(0).e_cpos !== r.e_cpos)
          fail(`leaf ${r.e_blkno} begins at ${eb.h_list.l_recs.at(0).e_cpos}, its separator says ${r.e_cpos}`);
      }
      node(r.e_blkno, eb.h_list, r.e_cpos, end);
      at = end;
    }
    if (at !== to) fail(`block ${blkno} covers up to ${at}, its record says ${to}`);
  };

  const leafRecord = (blkno: number, r: ExtentRec, i: number, from: number, to: number): void => {
    const prev = records[records.length - 1];
    const e = { cpos: r.e_cpos, clusters: r.e_leaf_clusters, blkno: r.e_blkno, flags: r.e_flags };
    if (e.clusters === 0) fail(`leaf ${blkno} record ${i} is empty`);
    if (e.blkno === 0) fail(`leaf ${blkno} record ${i} is at block 0`);
    if (prev !== undefined && prev.cpos + prev.clusters > e.cpos)
      fail(`leaf ${blkno} record ${i} overlaps the one before`);
    if (e.cpos < from || e.cpos + e.clusters > to) fail(`leaf ${blkno} record ${i} lies outside of [${from}, ${to})`);
    if (
      et.merges &&
      i > 0 &&
      prev!.flags === e.flags &&
      prev!.cpos + prev!.clusters === e.cpos &&
      prev!.blkno + osb.clustersToBlocks(prev!.clusters) === e.blkno &&
      prev!.clusters + e.clusters <= et.max_leaf_clusters
    )
      fail(`leaf ${blkno} records ${i - 1} and ${i} are one`);
    records.push(e);
  };

  const root = ExtentList.at(dv, et.el_addr);
  let to = 2 ** 32;
  if (root.l_tree_depth > 0) {
    const last = root.l_recs.at(root.l_next_free_rec - 1);
    to = last.e_cpos + last.e_int_clusters;
  }
  tree_end = to;
  node(et.root_bh.blkno, root, 0, to);
  const last = records[records.length - 1];
  if (root.l_tree_depth > 0 && last!.cpos + last!.clusters !== to)
    fail(`ends at ${last!.cpos + last!.clusters}, the root says ${to}`);
  leaves.forEach((l, i) => {
    const next = leaves[i + 1]?.blkno ?? 0;
    if (l.next !== next) fail(`leaf ${l.blkno} is followed by ${next}, h_next_leaf_blk says ${l.next}`);
    if (next !== 0 && l.used !== l.count) fail(`leaf ${l.blkno} is not full: ${l.used} of ${l.count}`);
    if (next !== 0 && l.used < 2) fail(`leaf ${l.blkno} has ${l.used} records, and is not the last one`);
    if (next === 0 && l.count !== room) fail(`the last leaf has l_count ${l.count}`);
  });
  const last_eb = getU64(dv, et.last_eb_addr);
  const want = leaves[leaves.length - 1]?.blkno ?? 0;
  if (last_eb !== want) fail(`last_eb_blk is ${last_eb}, not ${want}`);
  const sum = records.reduce((n, e) => n + e.clusters, 0);
  const counted = dv.getUint32(et.clusters_addr, true);
  if (sum !== counted) fail(`${sum} clusters, ${counted} counted`);
  return { depth: root.l_tree_depth, leaves: leaves.length, nodes, records };
}
