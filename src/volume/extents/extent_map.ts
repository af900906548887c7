/**
 * From a file's clusters and blocks to the disk's, with a cache per inode (extent_map.c). Without the cache every read
 * walks the tree. The cache is valid for one epoch of the inode, and what an undone operation put in is dropped.
 */
import type { Bh, BlockKind } from "../../block/buffer_cache.ts";
import { unreachable } from "../../lib/fs_error.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";

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

/** Where logical cluster `v_cluster` is (ocfs2_get_clusters). The caller holds the inode's meta lock; not for inline data. */
export function getClusters(_op: Op, _inode: Inode, _v_cluster: number): Clusters {
  return unreachable("getClusters is not there yet");
}

/** Where logical block `v_blkno` is (ocfs2_extent_map_get_blocks). */
export function getBlocks(_op: Op, _inode: Inode, _v_blkno: number): Blocks {
  return unreachable("getBlocks is not there yet");
}

/** Metadata block `v_blkno` of a directory or quota file (ocfs2_read_virt_blocks). A hole is a corruption. */
export function readVirtBlock(_op: Op, _inode: Inode, _v_blkno: number, _kind: BlockKind): Bh {
  return unreachable("readVirtBlock is not there yet");
}

/** First byte at or behind `offset` that is data: mapped and written. undefined: none before i_size (SEEK_DATA). */
export function seekData(_op: Op, _inode: Inode, _offset: number): number | undefined {
  return unreachable("seekData is not there yet");
}

/** First byte at or behind `offset` that is a hole or unwritten; i_size at the latest. undefined: offset is behind it (SEEK_HOLE). */
export function seekHole(_op: Op, _inode: Inode, _offset: number): number | undefined {
  return unreachable("seekHole is not there yet");
}

/** Forgets what is cached of the inode's map (tree changed by other means than this directory's functions). */
export function voidExtentMap(_inode: Inode): void {}
