/**
 * The sizes of a new volume: block, cluster, slots, journal, extent allocators, from what was asked and what the device has. A
 * volume whose sizes differ from what mkfs.ocfs2 takes surprises those who plan capacity by its rules of thumb, so every rule is
 * its own. Mirrors fill_defaults of mkfs.c and what it calls.
 */
import {
  groupBitmapSize,
  OCFS2_MAX_BLOCKSIZE,
  OCFS2_MAX_CLUSTERSIZE,
  OCFS2_MAX_SLOTS,
  OCFS2_MIN_BLOCKSIZE,
  OCFS2_MIN_CLUSTERSIZE,
  OCFS2_MIN_JOURNAL_SIZE,
  OCFS2_SUPER_BLOCK_BLKNO,
} from "../../format/disk/index.ts";
import { ceilDiv, type FsType, GIB, KIB, log2, MIB, MkfsError, type MkfsParams, type TargetShape } from "./params.ts";

export interface Geometry {
  readonly block_size: number;
  readonly block_bits: number;
  readonly cluster_size: number;
  readonly cluster_bits: number;
  /** Blocks in a cluster. */
  readonly bpc: number;
  readonly volume_bytes: number;
  readonly blocks: number;
  readonly clusters: number;
  /** Clusters in a group of the global bitmap, and in its last group. */
  readonly global_cpg: number;
  readonly tail_group_bits: number;
  readonly cluster_groups: number;
  /** The cluster and the block of the global bitmap's first group. */
  readonly first_cluster_group: number;
  readonly first_cluster_group_blkno: number;
  readonly slots: number;
  readonly journal_bytes: number;
  /** Clusters in a group of a suballocator. */
  readonly suballoc_cpg: number;
  /** Clusters that each slot's extent allocator starts with. */
  readonly extent_alloc_clusters: number;
}

const MAX_U32 = 2 ** 32 - 1;

/** Blocks of the journal that a volume of this use gets when none was asked for. */
function defaultJournalBlocks(fs_type: FsType, blocks: number, block_size: number): number {
  switch (fs_type) {
    case "datafiles":
      return 8192;
    case "mail":
      return blocks < 262144 ? 16384 : blocks < 524288 ? 32768 : 65536;
    case "vmstore":
      return blocks < 262144 ? 8192 : blocks < 524288 ? 16384 : 32768;
    case "default":
      if (blocks < 32768) return OCFS2_MIN_JOURNAL_SIZE / block_size;
      if (blocks < 262144) return 4096;
      return Math.min(Math.max(Math.floor(blocks / 160), 16384), 65536);
  }
}

function figureJournal(
  p: MkfsParams,
  v: { blocks: number; block_size: number; cluster_size: number; slots: number },
): number {
  const { blocks, block_size, cluster_size, slots } = v;
  if (p.heartbeat_device) return 0;
  if (blocks < 2048) {
    throw new MkfsError(
      `a volume of ${blocks} blocks is too small for a journal; it needs 2048 blocks at the very least`,
    );
  }
  // A transaction may take an eighth of the journal, and mkdir may dirty a cluster. The kernel's own limit is below what the rules
  // say for small volumes with blocks of 512 bytes; there mkfs.ocfs2 fails in the middle.
  const min_bytes = Math.max(cluster_size * 8 + cluster_size, OCFS2_MIN_JOURNAL_SIZE);
  const fits = (bytes: number): boolean => Math.floor(bytes / block_size) * slots + 1024 <= blocks;
  if (p.journal_bytes !== undefined) {
    const bytes = ceilDiv(p.journal_bytes, cluster_size) * cluster_size;
    if (!fits(p.journal_bytes)) {
      throw new MkfsError(`${slots} journals of ${p.journal_bytes} bytes do not fit the volume; lower -J size= or -N`);
    }
    if (bytes > MAX_U32) throw new MkfsError(`a journal of ${bytes} bytes is too big; -J size= must stay below 4G`);
    if (bytes < min_bytes) {
      throw new MkfsError(
        `a journal of ${bytes} bytes is too small for clusters of ${cluster_size}; -J size= must be at least ${min_bytes}`,
      );
    }
    return bytes;
  }
  const bytes = ceilDiv(defaultJournalBlocks(p.fs_type, blocks, block_size) * block_size, cluster_size) * cluster_size;
  if (bytes >= min_bytes) return bytes;
  if (!fits(min_bytes)) {
    throw new MkfsError(
      `the volume is too small for ${slots} journals of ${min_bytes} bytes, which clusters of ${cluster_size} need; enlarge it or lower -C`,
    );
  }
  return min_bytes;
}

function defaultClusterSize(p: MkfsParams, volume_bytes: number): number {
  if (p.fs_type === "datafiles" || p.fs_type === "vmstore") {
    const gigs = Math.floor(volume_bytes / GIB);
    if (gigs < 2)
      throw new MkfsError(`-T ${p.fs_type} needs a device of at least 2 gigabytes; leave -T out or give -C`);
    return (gigs < 64 ? 128 : gigs < 96 ? 256 : gigs < 128 ? 512 : 1024) * KIB;
  }
  let size = OCFS2_MIN_CLUSTERSIZE;
  while (size < OCFS2_MAX_CLUSTERSIZE && Math.floor(volume_bytes / size) > MAX_U32 - 1) size *= 2;
  return size;
}

/** Clusters in one group of a suballocator; mirrors ocfs2_clusters_per_group. */
export function suballocClustersPerGroup(block_size: number, cluster_size: number): number {
  const mib = block_size >= 2048 ? 4 : block_size === 1024 ? 2 : 1;
  return (mib * MIB) / cluster_size;
}

/** Enough groups for a tenth of a percent of the volume over all slots, three tenths where large files are expected; never above five percent. */
function figureExtentAlloc(
  p: MkfsParams,
  volume_bytes: number,
  cpg: number,
  cluster_size: number,
  slots: number,
): number {
  if (slots === 0) return 0;
  const target_percent = p.fs_type === "datafiles" || p.fs_type === "vmstore" ? 0.3 : 0.1;
  const unit_bytes = cpg * cluster_size * slots;
  const percent = (groups: number): number => (unit_bytes * groups * 100) / volume_bytes;
  let groups = Math.max(1, Math.floor((volume_bytes * target_percent) / 100 / unit_bytes) - 1);
  while (percent(groups) < target_percent) groups++;
  if (percent(groups) > 5) groups--;
  return cpg * groups;
}

function defaultSlots(volume_bytes: number): number {
  const gigs = Math.floor(volume_bytes / GIB);
  return gigs < 2 ? 2 : gigs < 10 ? 4 : gigs < 1024 ? 8 : 16;
}

function defaultBlockSize(volume_bytes: number): number {
  if (volume_bytes <= 3 * MIB) return OCFS2_MIN_BLOCKSIZE;
  if (volume_bytes >= GIB) return 4096;
  return volume_bytes >= GIB / 2 ? 2048 : 1024;
}

/** Blocks that a heartbeat device needs: root, system directory, region and bitmaps, up to a whole megabyte. */
const heartbeatDeviceBlocks = (block_size: number): number =>
  (ceilDiv((4 + OCFS2_MAX_SLOTS + 10) * block_size, MIB) * MIB) / block_size;

function figureBlocks(p: MkfsParams, t: TargetShape): { block_size: number; blocks: number } {
  // What was not asked for is guessed from the size in blocks of the largest kind, as BLOCKS counts them.
  const guess = p.block_size ?? (p.heartbeat_device ? t.sector_bytes : OCFS2_MAX_BLOCKSIZE);
  if (guess < t.sector_bytes) {
    throw new MkfsError(`${t.name} has sectors of ${t.sector_bytes} bytes; -b must be at least that`);
  }
  let available = Math.floor(t.size_bytes / guess);
  if (p.heartbeat_device) available = Math.min(available, heartbeatDeviceBlocks(guess));
  if (p.blocks !== undefined && p.blocks > available) {
    throw new MkfsError(`${p.blocks} blocks were asked for, but ${t.name} has only ${available} of ${guess} bytes`);
  }
  if (p.block_size !== undefined || p.heartbeat_device) return { block_size: guess, blocks: p.blocks ?? available };
  const block_size = Math.max(defaultBlockSize((p.blocks ?? available) * guess), t.sector_bytes);
  return { block_size, blocks: p.blocks ?? Math.floor(t.size_bytes / block_size) };
}

/** Figures out all sizes. Throws MkfsError when the request cannot be met. */
export function figureGeometry(p: MkfsParams, t: TargetShape): Geometry {
  const asked = figureBlocks(p, t);
  const { block_size } = asked;
  const cluster_size = p.cluster_size ?? defaultClusterSize(p, asked.blocks * block_size);
  const bpc = cluster_size / block_size;
  const clusters = Math.floor(asked.blocks / bpc);
  if (clusters > MAX_U32) {
    throw new MkfsError(`${t.name} would have ${clusters} clusters, more than ${MAX_U32}; raise -C`);
  }
  const volume_bytes = clusters * cluster_size;
  const blocks = clusters * bpc;
  if (clusters === 0) throw new MkfsError(`${t.name} (${t.size_bytes} bytes) is too small for a volume`);

  const global_cpg = Math.min(8 * groupBitmapSize(block_size, false, 0), clusters);
  const slots = p.heartbeat_device ? 0 : (p.slots ?? (p.local ? 1 : defaultSlots(volume_bytes)));
  const journal_bytes = figureJournal(p, { blocks, block_size, cluster_size, slots });
  if (!p.journal64 && blocks > MAX_U32) {
    throw new MkfsError(
      `${blocks} blocks are more than a journal with 32-bit block numbers can name; add -J block64, or raise -b`,
    );
  }
  const suballoc_cpg = suballocClustersPerGroup(block_size, cluster_size);
  const first_cluster_group = ceilDiv(OCFS2_SUPER_BLOCK_BLKNO + 1, bpc);
  return {
    block_size,
    block_bits: log2(block_size),
    cluster_size,
    cluster_bits: log2(cluster_size),
    bpc,
    volume_bytes,
    blocks,
    clusters,
    global_cpg,
    tail_group_bits: clusters % global_cpg || global_cpg,
    cluster_groups: ceilDiv(clusters, global_cpg),
    first_cluster_group,
    first_cluster_group_blkno: first_cluster_group * bpc,
    slots,
    journal_bytes,
    suballoc_cpg,
    extent_alloc_clusters: figureExtentAlloc(p, volume_bytes, suballoc_cpg, cluster_size, slots),
  };
}
