/**
 * Symbolic links: a short target lies in the inode, a long one in the first blocks of a cluster, journaled like metadata
 * but without a checksum (ocfs2_symlink, ocfs2_create_symlink_data, symlink.c).
 */
import { DYN_FEATURES, fastSymlinkChars, ID2_OFF, isLnk, maxInlineData } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, einval, FsError } from "../../lib/fs_error.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import { getBlocks } from "../extents/extent_map.ts";
import { dinodeExtentTree, insertExtent } from "../extents/extent_tree.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import { type Locked, lockInode } from "./iget.ts";
import type { Name } from "./name.ts";

/** PATH_MAX, the NUL included. */
const PATH_MAX = 4096;

/** Gives a new symlink its target (ocfs2_symlink). ENAMETOOLONG, EINVAL (empty), ENOSPC. */
export function writeSymlink(op: Op, link: Locked, target: Name): void {
  const { osb } = op;
  const { inode, di, di_bh } = link;
  const { blocksize } = osb.geo;
  if (target.length === 0 || target.includes(0)) throw einval("namei.symlink", { ino: inode.ino });
  // One cluster holds the longest target, as the smallest cluster has PATH_MAX bytes.
  if (target.length >= PATH_MAX) throw new FsError(Errno.ENAMETOOLONG, "namei.symlink", { len: target.length });
  di.i_size = target.length;
  if (target.length + 1 <= fastSymlinkChars(blocksize)) {
    const body = di_bh.addr + ID2_OFF;
    osb.cache.u8.fill(0, body, di_bh.addr + blocksize);
    osb.cache.u8.set(target, body);
    return;
  }
  const got = claimClusters(op, 1, 1, 0, null);
  const first = osb.clustersToBlocks(got.p_cluster);
  insertExtent(op, dinodeExtentTree(op, inode, di_bh), 0, first, 1, 0);
  for (let at = 0, blkno = first; at <= target.length; at += blocksize, blkno++) {
    const bh = op.create(inode, blkno, osb.kinds.raw);
    osb.cache.u8.set(target.subarray(at, at + blocksize), bh.addr);
  }
}

/** The target of a symlink, copied (ocfs2_fast_symlink_read_folio, page_get_link). EINVAL for anything else. */
export function readlink(op: Op, inode: Inode): Name {
  const { osb } = op;
  const { di, di_bh } = lockInode(op, inode);
  if (!isLnk(di.i_mode)) throw einval("namei.readlink", { ino: inode.ino, mode: di.i_mode });
  const { i_size: size } = di;
  const { blocksize } = osb.geo;
  const bad = (found: string): never => {
    throw new Corruption("namei.readlink", { ino: inode.ino, i_size: size, found });
  };
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) {
    if (size > maxInlineData(blocksize)) bad("a target longer than its inode");
    const body = di.i_data.id_data_off(0);
    return osb.cache.u8.slice(body, body + size);
  }
  if (di.i_clusters === 0) {
    if (size >= fastSymlinkChars(blocksize)) bad("a target longer than its inode");
    const body = di_bh.addr + ID2_OFF;
    return osb.cache.u8.slice(body, body + size);
  }
  if (size >= PATH_MAX) bad("a target longer than PATH_MAX");
  const blocks = osb.blocksForBytes(size);
  const out = new Uint8Array(size);
  const map = getBlocks(op, inode, 0);
  if (map.p_blkno === 0 || map.blocks < blocks) bad("a hole in the target");
  osb.cache.prefetch(inode, map.p_blkno, blocks);
  for (let i = 0; i < blocks; i++) {
    const bh = op.read(inode, map.p_blkno + i, osb.kinds.raw);
    const at = i * blocksize;
    out.set(osb.cache.u8.subarray(bh.addr, bh.addr + Math.min(blocksize, size - at)), at);
  }
  return out;
}
