/**
 * Where a directory keeps its entries: in the inode, or in the blocks of a file; and how it grows from the one to the
 * other and by one block more (dir.c: ocfs2_read_dir_block, ocfs2_expand_inline_dir, ocfs2_do_extend_dir).
 *
 * A directory never shrinks. A new block is made whole before i_size covers it, in the same operation.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  type Dinode,
  DYN_FEATURES,
  type ExtentList,
  extentRecsPerInodeWithXattr,
  FEATURE_INCOMPAT,
  ID2_OFF,
  InlineData,
  maxInlineData,
} from "../../format/disk/index.ts";
import { assert, Corruption } from "../../lib/fs_error.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import { getBlocks, getClusters, readVirtBlock } from "../extents/extent_map.ts";
import { dinodeExtentTree, insertExtent } from "../extents/extent_tree.ts";
import { dinodeOf, type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { checkTrailer, fillUnused, initTrailer, type Region, stretchLastEntry, trailerOff } from "./dirblock.ts";

/** Blocks that a scan asks for ahead (NAMEI_RA_SIZE). */
const READ_AHEAD_BLOCKS = 16;

/** A directory within one run of an operation: its inode, its dinode's block, and what that says of its shape. */
export interface Dir {
  readonly op: Op;
  readonly osb: Osb;
  readonly inode: Inode;
  readonly di_bh: Bh;
  readonly di: Dinode;
  readonly inline: boolean;
  readonly indexed: boolean;
  /** Its blocks end in trailers (ocfs2_supports_dir_trailer). */
  readonly trailer: boolean;
  /** Bytes of the directory, whole blocks where it is not inline. */
  readonly size: number;
  /** Blocks, 0 when inline. */
  readonly blocks: number;
}

/** Looks at a directory. The caller holds its meta lock. Throws Corruption for sizes that cannot be. */
export function openDir(op: Op, inode: Inode, di_bh: Bh): Dir {
  const { osb } = op;
  const di = dinodeOf(op, di_bh);
  const dyn = di.i_dyn_features;
  const inline = (dyn & DYN_FEATURES.INLINE_DATA) !== 0;
  const indexed = !inline && (dyn & DYN_FEATURES.INDEXED_DIR) !== 0;
  const { blocksize } = osb.geo;
  const trailer = !inline && (indexed || osb.incompat(FEATURE_INCOMPAT.META_ECC));
  let size = di.i_size;
  // libocfs2 counts no trailer in a directory that it makes outside of its inode (lost+found).
  if (trailer && size % blocksize === trailerOff(blocksize)) size += blocksize - trailerOff(blocksize);
  const sound = inline
    ? size <= di.i_data.id_count && di.i_data.id_count <= maxInlineData(blocksize)
    : size % blocksize === 0 && size <= di.i_clusters * osb.geo.clustersize;
  if (!sound)
    throw new Corruption("dir.open", { dir: inode.ino, i_size: size, i_clusters: di.i_clusters, dyn_features: dyn });
  return {
    op,
    osb,
    inode,
    di_bh,
    di,
    inline,
    indexed,
    trailer,
    size,
    blocks: inline ? 0 : size / blocksize,
  };
}

/** Blocks that a directory made now would get end in trailers (ocfs2_new_dir_wants_trailer). */
export const newDirWantsTrailer = (osb: Osb): boolean =>
  osb.incompat(FEATURE_INCOMPAT.META_ECC) || osb.incompat(FEATURE_INCOMPAT.INDEXED_DIRS);

const INLINE_OFF = ID2_OFF + InlineData.fields.id_data.off;

/** The entries of an inline directory. */
export function inlineRegion(dir: Dir): Region {
  return { addr: dir.di_bh.addr + INLINE_OFF, size: dir.size, blkno: dir.di_bh.blkno };
}

/** Bytes of entries in a directory block. */
const entriesSize = (osb: Osb, trailer: boolean): number =>
  trailer ? trailerOff(osb.geo.blocksize) : osb.geo.blocksize;

/** The entries of a block of the directory. */
export const blockRegion = (dir: Dir, bh: Bh): Region => ({
  addr: bh.addr,
  size: entriesSize(dir.osb, dir.trailer),
  blkno: bh.blkno,
});

/** Block `v_blkno` of the directory (ocfs2_read_dir_block). */
export function readDirBlock(dir: Dir, v_blkno: number): Bh {
  const bh = readVirtBlock(dir.op, dir.inode, v_blkno, dir.osb.kinds.dir_block);
  if (dir.trailer) checkTrailer(dir.osb, bh, dir.inode.ino);
  return bh;
}

/** A block of the directory by its place on the disk (ocfs2_read_dir_block_direct). */
export function readDirBlockDirect(dir: Dir, blkno: number): Bh {
  const bh = dir.op.read(dir.inode, blkno, dir.osb.kinds.dir_block);
  if (dir.trailer) checkTrailer(dir.osb, bh, dir.inode.ino);
  return bh;
}

/** Starts reading what a scan wants after `v_blkno`, in time for it to be there. */
export function readAhead(dir: Dir, v_blkno: number, blocks = READ_AHEAD_BLOCKS): void {
  const end = Math.min(v_blkno + blocks, dir.blocks);
  for (let v = v_blkno; v < end; ) {
    const map = getBlocks(dir.op, dir.inode, v);
    const n = Math.min(map.blocks, end - v);
    if (map.p_blkno !== 0) dir.osb.cache.prefetch(dir.inode, map.p_blkno, n);
    v += n;
  }
}

/** Walks blocks [from, to) with read-ahead; `visit` returns true to stop. */
export function scanBlocks(dir: Dir, from: number, to: number, visit: (bh: Bh, v_blkno: number) => boolean): boolean {
  for (let v = from; v < to; v++) {
    if ((v - from) % (READ_AHEAD_BLOCKS / 2) === 0) readAhead(dir, v);
    if (visit(readDirBlock(dir, v), v)) return true;
  }
  return false;
}

/** Joins the directory's dinode to the operation. */
export function modifyDir(dir: Dir): void {
  dir.op.modify(dir.di_bh);
  inodeChanged(dir.op, dir.inode);
}

/** Where new clusters of the directory go best: behind its last one. */
function clusterGoal(dir: Dir): number {
  const { i_clusters } = dir.di;
  return i_clusters === 0 ? 0 : getClusters(dir.op, dir.inode, i_clusters - 1).p_cluster + 1;
}

/**
 * Adds a block with nothing but room to a directory that is not inline, and returns it; db_free_rec_len says all of
 * it, and linking it to an index is the caller's (ocfs2_extend_dir, ocfs2_do_extend_dir). `dir` is out of date afterwards.
 */
export function extendDir(dir: Dir): Bh {
  const { op, osb, inode, di, di_bh } = dir;
  assert(!dir.inline, "an inline directory is expanded, not extended");
  modifyDir(dir);
  if (dir.size === di.i_clusters * osb.geo.clustersize) {
    const got = claimClusters(op, 1, 1, clusterGoal(dir), inode);
    const et = dinodeExtentTree(op, inode, di_bh);
    insertExtent(op, et, di.i_clusters, osb.clustersToBlocks(got.p_cluster), got.clusters, 0);
  }
  const { p_blkno } = getBlocks(op, inode, dir.blocks);
  if (p_blkno === 0) throw new Corruption("dir.extend", { dir: inode.ino, v_blkno: dir.blocks, p_blkno });
  const bh = op.create(inode, p_blkno, osb.kinds.dir_block);
  const region = blockRegion(dir, bh);
  fillUnused(osb, region);
  if (dir.trailer) initTrailer(osb, bh, inode.ino, region.size);
  di.i_size = dir.size + osb.geo.blocksize;
  return bh;
}

/** Empties the inode's body and makes it an extent list (ocfs2_dinode_new_extent_list). */
export function newExtentList(osb: Osb, di: Dinode): ExtentList {
  const { blocksize } = osb.geo;
  const inline_xattr = di.i_dyn_features & DYN_FEATURES.INLINE_XATTR ? di.i_xattr_inline_size : 0;
  if (inline_xattr > maxInlineData(blocksize))
    throw new Corruption("dir.new_extent_list", { ino: di.i_blkno, i_xattr_inline_size: inline_xattr });
  osb.cache.u8.fill(0, di.off + ID2_OFF, di.off + blocksize - inline_xattr);
  const el = di.i_list;
  el.l_count = extentRecsPerInodeWithXattr(blocksize, di);
  return el;
}

/**
 * Moves an inline directory's entries to a first block of its own, at the same offsets, and returns that block. Clusters
 * for `blocks_wanted` blocks are allocated, i_size is one block. The trailer's db_free_rec_len is left to the caller
 * (ocfs2_expand_inline_dir). `dir` is out of date afterwards.
 */
export function expandInlineDir(dir: Dir, blocks_wanted: number): Bh {
  const { op, osb, inode, di, di_bh } = dir;
  const { blocksize } = osb.geo;
  modifyDir(dir);
  const from = inlineRegion(dir);
  const want = osb.clustersForBytes(blocks_wanted * blocksize);
  const first = claimClusters(op, 1, want, 0, inode);
  const blkno = osb.clustersToBlocks(first.p_cluster);
  const bh = op.create(inode, blkno, osb.kinds.dir_block);
  osb.cache.u8.copyWithin(bh.addr, from.addr, from.addr + from.size);
  const trailer = newDirWantsTrailer(osb);
  stretchLastEntry(osb, { addr: bh.addr, size: entriesSize(osb, trailer), blkno }, from.size);
  if (trailer) initTrailer(osb, bh, inode.ino, 0);

  di.i_dyn_features &= ~DYN_FEATURES.INLINE_DATA;
  newExtentList(osb, di);
  di.i_size = blocksize;
  const et = dinodeExtentTree(op, inode, di_bh);
  insertExtent(op, et, 0, blkno, first.clusters, 0);
  if (first.clusters < want) {
    const second = claimClusters(op, 1, 1, first.p_cluster + first.clusters, inode);
    insertExtent(op, et, first.clusters, osb.clustersToBlocks(second.p_cluster), 1, 0);
  }
  return bh;
}

/** The first block of a new directory that does not begin inline: created, unfilled; i_size is one block. */
export function firstBlock(dir: Dir): Bh {
  const { op, osb, inode, di, di_bh } = dir;
  const got = claimClusters(op, 1, 1, 0, inode);
  const blkno = osb.clustersToBlocks(got.p_cluster);
  insertExtent(op, dinodeExtentTree(op, inode, di_bh), 0, blkno, got.clusters, 0);
  di.i_size = osb.geo.blocksize;
  return op.create(inode, blkno, osb.kinds.dir_block);
}
