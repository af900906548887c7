/**
 * From a file's clusters and blocks to the disk's, with a cache per inode (extent_map.c). Without the cache every read
 * walks the tree. A cached extent is good for one epoch of the inode; every change of the tree empties the cache, and
 * so does the undoing of that change.
 */
import type { Bh, BlockKind } from "../../block/buffer_cache.ts";
import { OCFS2_EXT_UNWRITTEN, OCFS2_INLINE_DATA_FL } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { inVolume } from "../alloc/volume_end.ts";
import { dinodeOf, type Inode, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import { dinodeExtentTree, type Extent, lookupExtent } from "./extent_tree.ts";
import { END_OF_FILES } from "./lookup.ts";

export interface Clusters {
  /** Physical cluster, 0 for a hole. */
  p_cluster: number;
  /** Clusters from the one asked for to the end of the extent or hole. */
  clusters: number;
  flags: number;
}

export interface Blocks {
  /** Physical block, 0 for a hole. */
  p_blkno: number;
  blocks: number;
  flags: number;
}

/** The last extents used, newest first (OCFS2_MAX_EXTENT_MAP_ITEMS is 3; a few more serve several readers of one file). */
class ExtentMap {
  readonly epoch: number;
  readonly items: Extent[] = [];

  constructor(epoch: number) {
    this.epoch = epoch;
  }

  find(cpos: number): Extent | undefined {
    const { items } = this;
    for (let i = 0; i < items.length; i++) {
      const e = items[i]!;
      if (cpos >= e.cpos && cpos < e.cpos + e.clusters) {
        if (i > 0) {
          items.copyWithin(1, 0, i);
          items[0] = e;
        }
        return e;
      }
    }
    return undefined;
  }

  add(e: Extent): void {
    if (this.items.length >= MAX_ITEMS) this.items.pop();
    this.items.unshift(e);
  }
}

const MAX_ITEMS = 8;

function extentAt(op: Op, inode: Inode, cpos: number): Extent {
  // Only a size that no file can have leads there; a hole of no clusters would be the answer, and nobody would get past it.
  if (cpos >= END_OF_FILES)
    throw new Corruption("extent_map", { ino: inode.ino, cpos, found: "no such place in a file" });
  let map = inode.extent_map as ExtentMap | null;
  if (map === null || map.epoch !== inode.epoch) inode.extent_map = map = new ExtentMap(inode.epoch);
  let e = map.find(cpos);
  if (e === undefined) {
    e = lookupExtent(op, dinodeExtentTree(op, inode, readDinode(op, inode)), cpos);
    // What the tree says goes straight to the device as an offset: it must lie in the volume.
    const { osb } = op;
    if (e.blkno !== 0 && !inVolume(op, osb.blocksToClusters(e.blkno), e.clusters))
      throw new Corruption("extent_map", { ino: inode.ino, cpos: e.cpos, e_blkno: e.blkno, clusters: e.clusters });
    if (e.clusters > 0) map.add(e);
  }
  return e;
}

/** Where logical cluster `v_cluster` is (ocfs2_get_clusters). The caller holds the inode's meta lock; not for inline data. */
export function getClusters(op: Op, inode: Inode, v_cluster: number): Clusters {
  const e = extentAt(op, inode, v_cluster);
  const skip = v_cluster - e.cpos;
  return {
    p_cluster: e.blkno === 0 ? 0 : op.osb.blocksToClusters(e.blkno) + skip,
    clusters: e.clusters - skip,
    flags: e.flags,
  };
}

/** Where logical block `v_blkno` is (ocfs2_extent_map_get_blocks); `blocks` up to the end of the extent or hole. */
export function getBlocks(op: Op, inode: Inode, v_blkno: number): Blocks {
  const { osb } = op;
  const e = extentAt(op, inode, osb.blocksToClusters(v_blkno));
  const skip = v_blkno - osb.clustersToBlocks(e.cpos);
  return {
    p_blkno: e.blkno === 0 ? 0 : e.blkno + skip,
    blocks: osb.clustersToBlocks(e.clusters) - skip,
    flags: e.flags,
  };
}

/** Metadata block `v_blkno` of a directory or system file (ocfs2_read_virt_blocks). A hole is a Corruption. */
export function readVirtBlock(op: Op, inode: Inode, v_blkno: number, kind: BlockKind): Bh {
  const { p_blkno } = getBlocks(op, inode, v_blkno);
  if (p_blkno === 0) throw new Corruption("extent_map.readVirtBlock", { ino: inode.ino, v_blkno, found: "a hole" });
  return op.read(inode, p_blkno, kind);
}

/** Starts reading the blocks behind `v_blkno`, up to `count` of them and the end of the extent: before a scan. */
export function prefetchVirtBlocks(op: Op, inode: Inode, v_blkno: number, count: number): void {
  const { p_blkno, blocks } = getBlocks(op, inode, v_blkno);
  if (p_blkno !== 0) op.osb.cache.prefetch(inode, p_blkno, Math.min(count, blocks));
}

/** The first byte from `offset` on whose state is `data`; i_size counts as a hole. undefined: offset is at or behind i_size. */
function seek(op: Op, inode: Inode, offset: number, data: boolean): number | undefined {
  const { osb } = op;
  const di = dinodeOf(op, readDinode(op, inode));
  const size = di.i_size;
  if (offset >= size) return undefined;
  if (di.i_dyn_features & OCFS2_INLINE_DATA_FL) return data ? offset : size;
  let pos = offset;
  while (pos < size) {
    const e = extentAt(op, inode, Math.floor(pos / osb.geo.clustersize));
    const is_data = e.blkno !== 0 && (e.flags & OCFS2_EXT_UNWRITTEN) === 0;
    if (is_data === data) return pos;
    const end = e.cpos + e.clusters;
    // Behind the last extent a hole goes on for ever.
    if (end >= END_OF_FILES) break;
    pos = end * osb.geo.clustersize;
  }
  return data ? undefined : size;
}

/** First byte at or behind `offset` that is data: mapped and written. undefined: none before i_size (SEEK_DATA's ENXIO). */
export function seekData(op: Op, inode: Inode, offset: number): number | undefined {
  return seek(op, inode, offset, true);
}

/** First byte at or behind `offset` that is a hole or unwritten, i_size at the latest. undefined: offset is not before i_size. */
export function seekHole(op: Op, inode: Inode, offset: number): number | undefined {
  return seek(op, inode, offset, false);
}

/** The inode's tree is about to change in `op`: forgets what is cached of it, now and again if the change is undone. */
export function voidExtentMap(op: Op, inode: Inode): void {
  inode.extent_map = null;
  op.onUndo(() => {
    inode.extent_map = null;
  });
}
