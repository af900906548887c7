/**
 * The allocators' front: blocks for metadata, inodes, and clusters for data (suballoc.c). What goes wrong without care
 * here is the worst that a file system knows: one block owned twice.
 */

import { unreachable } from "../../lib/fs_error.ts";
import type { Task } from "../../lib/task.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

/** A block out of a suballocator, with the address that a later free needs. */
export interface SuballocResult {
  blkno: number;
  suballoc_slot: number;
  suballoc_bit: number;
  /** Block number of the group that the bit is in. */
  suballoc_loc: number;
}

/** Where a block came from, as its own fields say (h_suballoc_*, i_suballoc_*…). loc 0: derived from blkno and bit. */
export interface SuballocOrigin {
  slot: number;
  bit: number;
  loc: number;
  blkno: number;
}

/**
 * `count` metadata blocks from our slot's extent_alloc, or another slot's when ours is full (ocfs2_claim_metadata).
 * They need not be contiguous. The caller fills each by op.create. Throws ENOSPC.
 */
export function claimMetadata(_op: Op, _count = 1): SuballocResult[] {
  return unreachable("claimMetadata is not there yet");
}

/** A block for a new inode, near those of `parent_dir` (ocfs2_claim_new_inode). Throws ENOSPC. */
export function claimInode(_op: Op, _parent_dir: Inode): SuballocResult {
  return unreachable("claimInode is not there yet");
}

/** Gives a metadata block back to extent_alloc:slot (xattr block, dx root, refcount block). Forgets its buffer. */
export function freeMetadataBlock(_op: Op, _origin: SuballocOrigin): void {
  unreachable("freeMetadataBlock is not there yet");
}

/** Gives an inode's block back to inode_alloc:slot (ocfs2_free_dinode). */
export function freeInodeBit(_op: Op, _origin: SuballocOrigin): void {
  unreachable("freeInodeBit is not there yet");
}

export interface ClaimedClusters {
  p_cluster: number;
  clusters: number;
}

/**
 * One contiguous run of clusters, at most `max`, at least `min`, near `goal_cluster` (ocfs2_claim_clusters). `inode`: whose reservation
 * window is used. ENOSPC when there is no run of `min`; pending frees of the truncate log are flushed before that.
 */
export function claimClusters(
  _op: Op,
  _min: number,
  _max: number,
  _goal_cluster = 0,
  _inode: Inode | null = null,
): ClaimedClusters {
  return unreachable("claimClusters is not there yet");
}

/**
 * Frees clusters that the operation's changes no longer refer to: they go to the truncate log now and to the bitmap
 * once the change is on the disk and out of the log (ocfs2_truncate_log_append). Throws Wait while the log is full.
 */
export function freeClusters(_op: Op, _p_cluster: number, _clusters: number): void {
  unreachable("freeClusters is not there yet");
}

/** Returns what is in our truncate log to the global bitmap, after a full journal flush (ocfs2_flush_truncate_log). */
// biome-ignore lint/correctness/useYield: not there yet
export function* truncateLogFlush(_osb: Osb): Task<void> {
  unreachable("truncateLogFlush is not there yet");
}

/** Clusters of the volume, in all and free, by the global bitmap (ocfs2_statfs). */
export interface VolumeStat {
  total_clusters: number;
  free_clusters: number;
}

export function volumeStat(_op: Op): VolumeStat {
  return unreachable("volumeStat is not there yet");
}

/** Mount: reads our local alloc and truncate log, and frees what a crash left in the log. */
// biome-ignore lint/correctness/useYield: not there yet
export function* allocStart(_osb: Osb): Task<void> {
  unreachable("allocStart is not there yet");
}

/** Unmount: the truncate log emptied, the local alloc's window given back. */
// biome-ignore lint/correctness/useYield: not there yet
export function* allocStop(_osb: Osb): Task<void> {
  unreachable("allocStop is not there yet");
}

/**
 * Recovery of a dead slot, after its journal was replayed: its local alloc's rest and its truncate log return to the bitmap
 * (ocfs2_begin_local_alloc_recovery, ocfs2_begin_truncate_log_recovery and their completions).
 */
// biome-ignore lint/correctness/useYield: not there yet
export function* allocRecoverSlot(_osb: Osb, _slot: number): Task<void> {
  unreachable("allocRecoverSlot is not there yet");
}
