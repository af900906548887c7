/**
 * The extents of one file while a volume is being planned. Files only grow at their end here, so the tree is a list that spills from
 * the inode into leaves: what ocfs2_tree_insert_extent makes of the same appends.
 */
import { extentRecsPerEb, extentRecsPerInode } from "../../format/disk/index.ts";
import type { ClusterBitmap } from "./cluster_bitmap.ts";
import type { Geometry } from "./geometry.ts";
import { MkfsError } from "./params.ts";
import type { SubAllocator, SubBlock } from "./suballoc.ts";

export interface ExtentPlan {
  readonly cpos: number;
  clusters: number;
  readonly blkno: number;
}

export class ExtentTree {
  readonly recs: ExtentPlan[] = [];
  /** Extent blocks in the order of their records; empty while the inode holds all of them. */
  readonly leaves: SubBlock[] = [];
  clusters = 0;
  readonly #geometry: Geometry;

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
  }

  /** Adds clusters at the end. Extent blocks come from `alloc`, slot 0's extent allocator. */
  append(cluster: number, len: number, alloc: SubAllocator): void {
    const { bpc, block_size } = this.#geometry;
    const last = this.recs.at(-1);
    if (last && last.blkno + last.clusters * bpc === cluster * bpc) {
      last.clusters += len;
    } else {
      const n = this.recs.length;
      const in_root = extentRecsPerInode(block_size);
      const in_leaf = extentRecsPerEb(block_size);
      if (n >= in_root && n >= this.leaves.length * in_leaf) {
        if (this.leaves.length === in_root) {
          throw new MkfsError(
            "a journal is in too many pieces for blocks of this size; raise -b or -C, or lower -J size=",
          );
        }
        this.leaves.push(alloc.alloc());
      }
      this.recs.push({ cpos: this.clusters, clusters: len, blkno: cluster * bpc });
    }
    this.clusters += len;
  }

  /** Adds `len` clusters from where libocfs2 would take them. Mirrors ocfs2_cached_inode_extend_allocation. */
  grow(len: number, bitmap: ClusterBitmap, alloc: SubAllocator): void {
    while (len > 0) {
      const run = bitmap.allocRange(1, len);
      this.append(run.start, run.len, alloc);
      len -= run.len;
    }
  }

  /** The block that holds logical block `v_blkno`. */
  blockAt(v_blkno: number): number {
    const cpos = Math.floor(v_blkno / this.#geometry.bpc);
    const rec = this.recs.find((r) => cpos < r.cpos + r.clusters);
    if (!rec) throw new Error(`logical block ${v_blkno} is not allocated`);
    return rec.blkno + v_blkno - rec.cpos * this.#geometry.bpc;
  }
}
