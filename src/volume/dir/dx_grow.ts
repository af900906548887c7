/**
 * How an index comes into being and makes room (dir.c): a root for a directory that got its first block, entries moved
 * out of the root into a cluster of leaves, and a full cluster split at a hash.
 *
 * A split moves every entry whose major hash is at or above the split value into a new cluster, block by block: the minor
 * hash keeps an entry at the same block of its cluster. The tree then sends the upper hashes to the new cluster.
 * All of it is one operation; no name is ever in neither cluster.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  DX_FLAGS,
  DxEntry,
  type DxEntryList,
  DxLeaf,
  DxRootBlock,
  DYN_FEATURES,
  dxEntriesPerLeaf,
  dxEntriesPerRoot,
  extentRecsPerDxRoot,
  OCFS2_DX_LEAF_SIGNATURE,
  OCFS2_DX_ROOT_SIGNATURE,
} from "../../format/disk/index.ts";
import { assert, Corruption, enospc } from "../../lib/fs_error.ts";
import { claimClusters, claimMetadata } from "../alloc/suballoc.ts";
import { dxRootExtentTree, insertExtent } from "../extents/extent_tree.ts";
import type { Osb } from "../osb.ts";
import { type Dir, modifyDir } from "./dir_data.ts";
import { countEntriesIn, entryAt, largestRoomIn, trailerOf, trailerOff } from "./dirblock.ts";
import {
  type DxList,
  type DxPlace,
  dxBlockInCluster,
  dxListAppend,
  dxLookupExtent,
  dxLookupLeaf,
  dxRootIsInline,
  dxRootOf,
  readDxLeaf,
} from "./dx_dir.ts";
import { type DxHash, dxHash, putName } from "./name.ts";

const ENTRY_BYTES = DxEntry.size;

/** A cluster of empty leaves, not yet in the tree (__ocfs2_dx_dir_new_cluster). */
function newLeafCluster(dir: Dir): { blkno: number; leaves: DxList[] } {
  const { op, osb, inode } = dir;
  const got = claimClusters(op, 1, 1, 0, null);
  const blkno = osb.clustersToBlocks(got.p_cluster);
  const leaves: DxList[] = [];
  for (let i = 0; i < osb.geo.blocks_per_cluster; i++) {
    const bh = op.create(inode, blkno + i, osb.kinds.dx_leaf);
    const leaf = DxLeaf.at(osb.cache.dv, bh.addr);
    leaf.dl_signature = OCFS2_DX_LEAF_SIGNATURE;
    leaf.dl_blkno = bh.blkno;
    leaf.dl_fs_generation = osb.geo.fs_generation;
    leaf.dl_list.de_count = dxEntriesPerLeaf(osb.geo.blocksize);
    leaves.push({ bh, list: leaf.dl_list });
  }
  return { blkno, leaves };
}

/** Adds to the leaf of its cluster that the entry's minor hash names. */
function appendToCluster(dir: Dir, leaves: readonly DxList[], hash: DxHash, dirent_blk: number): void {
  dxListAppend(dir, leaves[dxBlockInCluster(dir, hash.minor)]!.list, hash, dirent_blk);
}

/** Makes the root's body an empty extent list with one cluster of leaves in it. */
function giveRootExtents(dir: Dir, root_bh: Bh, blkno: number): void {
  const { op, osb, inode } = dir;
  const dr = dxRootOf(dir, root_bh);
  const body = root_bh.addr + DxRootBlock.fields.dr_list.off;
  dr.dr_flags &= ~DX_FLAGS.INLINE;
  osb.cache.u8.fill(0, body, root_bh.addr + osb.geo.blocksize);
  dr.dr_list.l_count = extentRecsPerDxRoot(osb.geo.blocksize);
  insertExtent(op, dxRootExtentTree(op, inode, root_bh), 0, blkno, 1, 0);
}

/** Moves the entries of a full root into a cluster of leaves (ocfs2_expand_inline_dx_root). */
export function dxExpandRoot(dir: Dir, root_bh: Bh): void {
  dir.op.modify(root_bh);
  const list = dxRootOf(dir, root_bh).dr_entries;
  const cluster = newLeafCluster(dir);
  const e = DxEntry.at(dir.osb.cache.dv, list.de_entries_off(0));
  for (let i = 0; i < list.de_num_used; i++) {
    e.seek(list.de_entries_off(i));
    appendToCluster(dir, cluster.leaves, { major: e.dx_major_hash, minor: e.dx_minor_hash }, e.dx_dirent_blk);
  }
  giveRootExtents(dir, root_bh, cluster.blkno);
}

/**
 * Gives a directory with one block, which has a trailer, its index: a root with the block's entries, or with a cluster
 * of leaves when they are too many (ocfs2_dx_dir_attach_index with what its callers do around it). `dir` is out of date
 * afterwards.
 */
export function dxAttach(dir: Dir, first_bh: Bh): void {
  const { op, osb, inode, di } = dir;
  const region = { addr: first_bh.addr, size: trailerOff(osb.geo.blocksize), blkno: first_bh.blkno };
  const names = countEntriesIn(osb, region);
  // One entry of room is wanted for the name that the caller is about to add.
  const inline = names < dxEntriesPerRoot(osb.geo.blocksize);
  const cluster = inline ? null : newLeafCluster(dir);

  const [got] = claimMetadata(op, 1);
  assert(got !== undefined, "claimMetadata gave nothing");
  const root_bh = op.create(inode, got.blkno, osb.kinds.dx_root);
  const dr = dxRootOf(dir, root_bh);
  dr.dr_signature = OCFS2_DX_ROOT_SIGNATURE;
  dr.dr_suballoc_slot = got.suballoc_slot;
  dr.dr_suballoc_loc = got.suballoc_loc;
  dr.dr_suballoc_bit = got.suballoc_bit;
  dr.dr_fs_generation = osb.geo.fs_generation;
  dr.dr_blkno = got.blkno;
  dr.dr_dir_blkno = inode.ino;
  const room = largestRoomIn(osb, region);
  trailerOf(osb, first_bh).db_free_rec_len = room;
  dr.dr_free_blk = room > 0 ? first_bh.blkno : 0;
  if (cluster === null) {
    dr.dr_flags = DX_FLAGS.INLINE;
    dr.dr_entries.de_count = dxEntriesPerRoot(osb.geo.blocksize);
  } else giveRootExtents(dir, root_bh, cluster.blkno);

  const de = entryAt(osb, region, 0);
  for (let at = 0; at < region.size; at += de.rec_len) {
    de.seek(region.addr + at);
    if (de.inode === 0 || de.name_len === 0) continue;
    const hash = dxHash(osb, putName(osb, de.name.bytes(de.name_len)), de.name_len);
    if (cluster === null) dxListAppend(dir, dr.dr_entries, hash, first_bh.blkno);
    else appendToCluster(dir, cluster.leaves, hash, first_bh.blkno);
    dr.dr_num_entries++;
  }

  modifyDir(dir);
  di.i_dx_root = got.blkno;
  di.i_dyn_features |= DYN_FEATURES.INDEXED_DIR;
}

/** Sorts a leaf's entries by major, then minor hash (dx_leaf_sort_cmp). */
function sortList(dir: Dir, list: DxEntryList): void {
  const { dv, u8 } = dir.osb.cache;
  const used = list.de_num_used;
  const base = list.de_entries_off(0);
  const before = u8.slice(base, base + used * ENTRY_BYTES);
  const keys: { major: number; minor: number; from: number }[] = [];
  const e = DxEntry.at(dv, base);
  for (let i = 0; i < used; i++) {
    e.seek(list.de_entries_off(i));
    keys.push({ major: e.dx_major_hash, minor: e.dx_minor_hash, from: i * ENTRY_BYTES });
  }
  keys.sort((a, b) => a.major - b.major || a.minor - b.minor);
  keys.forEach((key, i) => {
    u8.set(before.subarray(key.from, key.from + ENTRY_BYTES), base + i * ENTRY_BYTES);
  });
}

/**
 * The hash to split a full, sorted leaf at so that `insert_hash` gets room: the median, unless all entries have one hash
 * (ocfs2_dx_dir_find_leaf_split). undefined: every split would leave the new entry in a full block.
 */
export function dxSplitHash(majors: readonly number[], leaf_cpos: number, insert_hash: number): number | undefined {
  const first = majors[0]!;
  const last = majors[majors.length - 1]!;
  if (first === last) {
    if (first === insert_hash) return undefined;
    // The leaf begins at the common hash: nothing can lie between them, so the next hash begins the new cluster.
    if (first === leaf_cpos) return leaf_cpos + 1;
    return Math.max(first, insert_hash);
  }
  for (let i = majors.length >> 1; i < majors.length; i++) if (majors[i]! > leaf_cpos) return majors[i]!;
  throw new Corruption("dx.split", { leaf_cpos, last, found: "entries below their leaf's first hash" });
}

/** Moves the entries at or above `split` from one leaf to its twin in the new cluster. */
function transfer(dir: Dir, from: DxList, to: DxList, split: number): void {
  const { dv, u8 } = dir.osb.cache;
  const used = from.list.de_num_used;
  const e = DxEntry.at(dv, from.list.de_entries_off(0));
  let keep = 0;
  let moved = 0;
  for (let i = 0; i < used; i++) {
    const at = from.list.de_entries_off(i);
    if (e.seek(at).dx_major_hash >= split) {
      u8.copyWithin(to.list.de_entries_off(moved++), at, at + ENTRY_BYTES);
    } else {
      if (keep !== i) u8.copyWithin(from.list.de_entries_off(keep), at, at + ENTRY_BYTES);
      keep++;
    }
  }
  u8.fill(0, from.list.de_entries_off(keep), from.list.de_entries_off(used));
  from.list.de_num_used = keep;
  to.list.de_num_used = moved;
}

/** Splits the cluster of a full leaf (ocfs2_dx_dir_rebalance). Throws ENOSPC when no split can help. */
function rebalance(dir: Dir, root_bh: Bh, place: DxPlace, hash: DxHash): void {
  const { op, osb, inode } = dir;
  const { blocks_per_cluster } = osb.geo;
  osb.cache.prefetch(inode, place.cluster_blkno, blocks_per_cluster);
  const old: DxList[] = [];
  for (let i = 0; i < blocks_per_cluster; i++) old.push(readDxLeaf(dir, place.cluster_blkno + i));

  op.modify(place.bh);
  sortList(dir, place.list);
  const majors: number[] = [];
  const e = DxEntry.at(osb.cache.dv, place.list.de_entries_off(0));
  for (let i = 0; i < place.list.de_num_used; i++) majors.push(e.seek(place.list.de_entries_off(i)).dx_major_hash);
  const split = dxSplitHash(majors, place.cpos, hash.major);
  if (split === undefined)
    throw enospc("dx.rebalance", { dir: inode.ino, hash: hash.major, found: "a leaf full of one hash" });

  const before = dxLookupExtent(dir, root_bh, split);
  if (before.cpos + before.clusters - 1 !== place.cpos)
    throw new Corruption("dx.rebalance", {
      dir: inode.ino,
      leaf_cpos: place.cpos,
      split,
      found: "a hash of another leaf",
    });

  op.modify(root_bh);
  const cluster = newLeafCluster(dir);
  for (let i = 0; i < blocks_per_cluster; i++) {
    const from = old[i]!;
    if (from.list.de_num_used === 0) continue;
    op.modify(from.bh);
    transfer(dir, from, cluster.leaves[i]!, split);
  }
  insertExtent(op, dxRootExtentTree(op, inode, root_bh), split, cluster.blkno, 1, 0);
}

/**
 * After one split the new entry's block may still be full (all that was in it had hashes above the split). The kernel
 * gives up there with ENOSPC and leaves the split behind for the next try; an operation that fails leaves nothing, so
 * we go on.
 */
const MAX_SPLITS = 4;
/** What else a transaction must hold: the entry's block, root, tree, allocators. */
const OTHER_BLOCKS = 48;

/** The first split changes the leaves of two clusters, each further one those of one more; not more than a transaction holds. */
function maxSplits(osb: Osb): number {
  const clusters = Math.floor((osb.journal.max_transaction_blocks - OTHER_BLOCKS) / osb.geo.blocks_per_cluster);
  return Math.min(MAX_SPLITS, clusters - 1);
}

/** A list with room for an entry of this hash, made if need be (ocfs2_find_dir_space_dx, ocfs2_inline_dx_has_space). */
export function dxMakeRoom(dir: Dir, root_bh: Bh, hash: DxHash): DxList {
  const dr = dxRootOf(dir, root_bh);
  if (dxRootIsInline(dr)) {
    const list = dr.dr_entries;
    if (list.de_num_used < list.de_count) return { bh: root_bh, list };
    dxExpandRoot(dir, root_bh);
  }
  for (let splits = 0; ; splits++) {
    const place = dxLookupLeaf(dir, root_bh, hash);
    if (place.list.de_num_used < place.list.de_count) return place;
    if (splits >= maxSplits(dir.osb)) throw enospc("dx.make_room", { dir: dir.inode.ino, hash: hash.major, splits });
    rebalance(dir, root_bh, place, hash);
  }
}
