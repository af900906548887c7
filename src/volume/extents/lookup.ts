/** Finding an extent (ocfs2_find_leaf, ocfs2_get_clusters_nocache). */
import { Corruption } from "../../lib/fs_error.ts";
import type { Op } from "../op.ts";
import {
  blknoOf,
  cposOf,
  emptyRecs,
  flagsOf,
  LIST_OFF,
  lastAtOrBefore,
  leafClustersOf,
  recAt,
  usedOf,
} from "./extent_list.ts";
import type { Extent, ExtentTree } from "./extent_tree.ts";
import { findPath, leafOf, nextLeaf, prefetchRight, readChild, rootDepth } from "./path.ts";

/** The end of every file, in clusters: what a hole behind the last extent reaches to. */
export const END_OF_FILES = 0xffffffff;

export function leafExtent(et: ExtentTree, rec: number): Extent {
  const { dv } = et.osb.cache;
  return {
    cpos: cposOf(dv, rec),
    clusters: leafClustersOf(dv, rec),
    blkno: blknoOf(dv, rec),
    flags: flagsOf(dv, rec),
  };
}

/**
 * What is at logical cluster `cpos`: the extent that holds it, whole, or a hole (blkno 0) from `cpos` up to the next
 * extent, or up to 0xffffffff when there is none. Throws Corruption for a tree that is none.
 */
export function lookupExtent(op: Op, et: ExtentTree, cpos: number): Extent {
  const { dv } = et.osb.cache;
  let bh = et.root_bh;
  let el = et.el_addr;
  let next = END_OF_FILES;
  for (let depth = rootDepth(et); depth > 0; depth--) {
    const idx = Math.max(0, lastAtOrBefore(dv, el, 0, cpos));
    // The separators say where the next leaf begins: a hole at a leaf's end needs no look into its neighbour.
    if (idx + 1 < usedOf(dv, el)) next = cposOf(dv, recAt(el, idx + 1));
    bh = readChild(op, et, bh, el, idx);
    el = bh.addr + LIST_OFF;
  }
  const from = emptyRecs(dv, el);
  const idx = lastAtOrBefore(dv, el, from, cpos);
  if (idx >= from) {
    const rec = recAt(el, idx);
    if (cpos < cposOf(dv, rec) + leafClustersOf(dv, rec)) {
      if (blknoOf(dv, rec) === 0)
        throw new Corruption("extents.lookup", {
          owner: et.ci.ci_blkno,
          blkno: bh.blkno,
          found: "an extent at block 0",
        });
      return leafExtent(et, rec);
    }
  }
  if (idx + 1 < usedOf(dv, el)) next = cposOf(dv, recAt(el, idx + 1));
  return { cpos, clusters: Math.max(0, next - cpos), blkno: 0, flags: 0 };
}

/** The last extent of the tree; undefined when it has none. A truncation goes from here to the front: it costs least. */
export function lastExtent(op: Op, et: ExtentTree): Extent | undefined {
  const { el } = leafOf(findPath(op, et, 0xffffffff));
  const { dv } = et.osb.cache;
  const used = usedOf(dv, el);
  return used > emptyRecs(dv, el) ? leafExtent(et, recAt(el, used - 1)) : undefined;
}

/** No node leaves more behind. */
const MAX_EMPTY_LEAVES = 8;

/** All extents from the one that holds or follows `cpos` on, in order. Reads leaf by leaf; the tree must not be changed meanwhile. */
export function* extentRecords(op: Op, et: ExtentTree, cpos = 0): Generator<Extent> {
  const { dv } = et.osb.cache;
  const path = findPath(op, et, cpos);
  let end = 0;
  let empty_leaves = 0;
  do {
    prefetchRight(et, path, 16);
    const { el, bh } = leafOf(path);
    const from = emptyRecs(dv, el);
    const bad = (): never => {
      throw new Corruption("extents.records", { owner: et.ci.ci_blkno, blkno: bh.blkno, found: "leaves out of order" });
    };
    // Or leaves that are their own neighbours would be walked through for ever.
    if (from === usedOf(dv, el) && ++empty_leaves > MAX_EMPTY_LEAVES) bad();
    for (let i = from; i < usedOf(dv, el); i++) {
      const e = leafExtent(et, recAt(el, i));
      if (e.cpos < end) bad();
      end = e.cpos + e.clusters;
      if (end > cpos) yield e;
    }
  } while (nextLeaf(op, et, path));
}
