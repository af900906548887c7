/**
 * The index of a directory: from the hash of a name to the directory block that has its entry (dir.c, ocfs2_dx_*).
 *
 *   dinode.i_dx_root -> dx root --- few names: entries (hash, block) in the root itself
 *                                \- more: a tree of extents, keyed by major hash; each of its clusters holds
 *                                   dx leaves, and the minor hash says which of them
 *
 * A leaf covers the hashes from its cluster's cpos up to the next extent's cpos, so the tree has holes by design and a
 * search takes the record at or before the hash. Entries in a leaf are not sorted; hashes may be equal, the directory
 * block decides. The entries themselves are where a linear directory has them: reading a directory in order does not
 * need the index at all.
 *
 * An entry that is in the blocks but not in the index is a name that readdir shows and nobody can open; fsck.ocfs2
 * then rebuilds the index.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  DX_FLAGS,
  DxEntry,
  type DxEntryList,
  DxLeaf,
  DxRootBlock,
  dxEntriesPerLeaf,
  dxEntriesPerRoot,
  ExtentBlock,
  type ExtentList,
  ExtentRec,
  extentRecsPerDxRoot,
  OCFS2_DX_ENTRIES_MAX,
} from "../../format/disk/index.ts";
import { assert, Corruption, enospc } from "../../lib/fs_error.ts";
import { blockRegion, type Dir, readDirBlockDirect } from "./dir_data.ts";
import { findEntryIn } from "./dirblock.ts";
import type { DxHash } from "./name.ts";

/** The entries of a dx leaf, or of a root that holds them itself. */
export interface DxList {
  readonly bh: Bh;
  readonly list: DxEntryList;
}

/** An entry of the index, and the directory block and offset of the name that it leads to. */
export interface DxFound {
  readonly dx: DxList;
  readonly index: number;
  readonly bh: Bh;
  readonly off: number;
}

const ENTRY_BYTES = DxEntry.size;

export const dxRootOf = (dir: Dir, root_bh: Bh): DxRootBlock => DxRootBlock.at(dir.osb.cache.dv, root_bh.addr);

/** True while the root holds the entries itself. */
export const dxRootIsInline = (dr: DxRootBlock): boolean => (dr.dr_flags & DX_FLAGS.INLINE) !== 0;

/** The root of an indexed directory's index (ocfs2_read_dx_root, ocfs2_validate_dx_root). */
export function readDxRoot(dir: Dir): Bh {
  const { blocksize } = dir.osb.geo;
  const bh = dir.op.read(dir.inode, dir.di.i_dx_root, dir.osb.kinds.dx_root);
  const dr = dxRootOf(dir, bh);
  const inline = dxRootIsInline(dr);
  const count = inline ? dr.dr_entries.de_count : dr.dr_list.l_count;
  const used = inline ? dr.dr_entries.de_num_used : dr.dr_list.l_next_free_rec;
  const room = inline ? dxEntriesPerRoot(blocksize) : extentRecsPerDxRoot(blocksize);
  if (count !== room || used > count || dr.dr_dir_blkno !== dir.inode.ino)
    throw new Corruption("dx.root", { dir: dir.inode.ino, blkno: bh.blkno, count, used, room, owner: dr.dr_dir_blkno });
  return bh;
}

/** A leaf of the index (ocfs2_read_dx_leaf, ocfs2_validate_dx_leaf). */
export function readDxLeaf(dir: Dir, blkno: number): DxList {
  const bh = dir.op.read(dir.inode, blkno, dir.osb.kinds.dx_leaf);
  const list = DxLeaf.at(dir.osb.cache.dv, bh.addr).dl_list;
  const room = dxEntriesPerLeaf(dir.osb.geo.blocksize);
  if (list.de_count !== room || list.de_num_used > room)
    throw new Corruption("dx.leaf", { dir: dir.inode.ino, blkno, count: list.de_count, used: list.de_num_used, room });
  return { bh, list };
}

/** Which block of its cluster a hash belongs to (ocfs2_dx_dir_hash_idx). */
export const dxBlockInCluster = (dir: Dir, minor: number): number => minor & (dir.osb.geo.blocks_per_cluster - 1);

/** Index of the last record whose cpos is at most `hash`, -1 when all are behind it. */
function floorIndex(dir: Dir, el: ExtentList, hash: number): number {
  const rec = ExtentRec.at(dir.osb.cache.dv, el.off);
  let lo = 0;
  let hi = el.l_next_free_rec;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (rec.seek(el.l_recs_off(mid)).e_cpos <= hash) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}

/** One extent of the index. */
export interface DxExtent {
  cpos: number;
  blkno: number;
  clusters: number;
}

/** The extent at or before `hash` (ocfs2_dx_dir_lookup_rec). */
export function dxLookupExtent(dir: Dir, root_bh: Bh, hash: number): DxExtent {
  const { dv } = dir.osb.cache;
  let el: ExtentList = dxRootOf(dir, root_bh).dr_list;
  let blkno = root_bh.blkno;
  const fail = (found: string): never => {
    throw new Corruption("dx.lookup", { dir: dir.inode.ino, blkno, hash, found });
  };
  for (let depth = el.l_tree_depth; depth > 0; depth--) {
    if (el.l_next_free_rec === 0) fail("an empty interior node");
    const i = Math.max(0, floorIndex(dir, el, hash));
    blkno = ExtentRec.at(dv, el.l_recs_off(i)).e_blkno;
    const bh = dir.op.read(dir.inode, blkno, dir.osb.kinds.extent_block);
    el = ExtentBlock.at(dv, bh.addr).h_list;
    if (el.l_tree_depth !== depth - 1) fail(`depth ${el.l_tree_depth} below ${depth}`);
  }
  const i = floorIndex(dir, el, hash);
  if (i < 0) fail("no extent for the hash");
  const rec = ExtentRec.at(dv, el.l_recs_off(i));
  if (rec.e_leaf_clusters === 0 || rec.e_blkno === 0) fail("an empty extent");
  return { cpos: rec.e_cpos, blkno: rec.e_blkno, clusters: rec.e_leaf_clusters };
}

/** The leaf that a hash belongs to (ocfs2_dx_dir_lookup). */
export interface DxPlace extends DxList {
  /** First hash of the leaf's cluster. */
  readonly cpos: number;
  /** First block of that cluster. */
  readonly cluster_blkno: number;
}

export function dxLookupLeaf(dir: Dir, root_bh: Bh, hash: DxHash): DxPlace {
  const ext = dxLookupExtent(dir, root_bh, hash.major);
  const into = Math.min(hash.major - ext.cpos, ext.clusters - 1);
  const cluster_blkno = ext.blkno + dir.osb.clustersToBlocks(into);
  const leaf = readDxLeaf(dir, cluster_blkno + dxBlockInCluster(dir, hash.minor));
  return { bh: leaf.bh, list: leaf.list, cpos: ext.cpos + into, cluster_blkno };
}

/** Where entries with this hash are, or would go to. */
export function dxListFor(dir: Dir, root_bh: Bh, hash: DxHash): DxList {
  const dr = dxRootOf(dir, root_bh);
  return dxRootIsInline(dr) ? { bh: root_bh, list: dr.dr_entries } : dxLookupLeaf(dir, root_bh, hash);
}

/** Finds the name that lies in the arena (ocfs2_dx_dir_search); undefined when the directory does not have it. */
export function dxSearch(
  dir: Dir,
  root_bh: Bh,
  hash: DxHash,
  name_addr: number,
  name_len: number,
): DxFound | undefined {
  const dx = dxListFor(dir, root_bh, hash);
  const { list } = dx;
  const entries = list.de_entries_off(0);
  const used = list.de_num_used;
  const { k, cache } = dir.osb;
  for (let from = 0; ; ) {
    const index = k.dxFind(entries, used, from, hash.major, hash.minor);
    if (index < 0) return undefined;
    const bh = readDirBlockDirect(dir, DxEntry.at(cache.dv, list.de_entries_off(index)).dx_dirent_blk);
    const off = findEntryIn(dir.osb, blockRegion(dir, bh), name_addr, name_len);
    if (off >= 0) return { dx, index, bh, off };
    from = index + 1;
  }
}

/** Appends an entry to a list that has room and whose block is in the operation (ocfs2_dx_entry_list_insert). */
export function dxListAppend(dir: Dir, list: DxEntryList, hash: DxHash, dirent_blk: number): void {
  const used = list.de_num_used;
  assert(used < list.de_count, "an index block without room");
  const e = DxEntry.at(dir.osb.cache.dv, list.de_entries_off(used));
  e.dx_major_hash = hash.major;
  e.dx_minor_hash = hash.minor;
  e.dx_dirent_blk = dirent_blk;
  list.de_num_used = used + 1;
}

/** Takes an entry out and closes the gap (ocfs2_dx_list_remove_entry). */
export function dxListRemove(dir: Dir, list: DxEntryList, index: number): void {
  const used = list.de_num_used;
  assert(index < used, "an index entry that is not there");
  const { u8 } = dir.osb.cache;
  const end = list.de_entries_off(used);
  u8.copyWithin(list.de_entries_off(index), list.de_entries_off(index + 1), end);
  u8.fill(0, end - ENTRY_BYTES, end);
  list.de_num_used = used - 1;
}

/** Adds a name's entry to the list that was prepared for it, and counts it in the root (ocfs2_dx_dir_insert). */
export function dxInsert(dir: Dir, root_bh: Bh, dx: DxList, hash: DxHash, dirent_blk: number): void {
  const { op } = dir;
  op.modify(root_bh);
  op.modify(dx.bh);
  const dr = dxRootOf(dir, root_bh);
  if (dr.dr_num_entries === OCFS2_DX_ENTRIES_MAX)
    throw enospc("dx.insert", { dir: dir.inode.ino, found: "2^32 names" });
  dxListAppend(dir, dx.list, hash, dirent_blk);
  dr.dr_num_entries++;
}

/** Takes a found name's entry out of the index (the index's half of ocfs2_delete_entry_dx). */
export function dxRemove(dir: Dir, root_bh: Bh, found: DxFound): void {
  const { op } = dir;
  op.modify(root_bh);
  op.modify(found.dx.bh);
  const dr = dxRootOf(dir, root_bh);
  dxListRemove(dir, found.dx.list, found.index);
  if (dr.dr_num_entries === 0)
    throw new Corruption("dx.remove", { dir: dir.inode.ino, blkno: root_bh.blkno, found: "an empty index" });
  dr.dr_num_entries--;
}
