/**
 * One directory, whatever its shape: find a name, add one, change or delete what was found, tell whether it is empty
 * (dir.c: ocfs2_find_entry, ocfs2_add_entry, ocfs2_delete_entry, ocfs2_update_entry, ocfs2_empty_dir).
 *
 *   inline    entries in the inode                               up to a few dozen names
 *   linear    entries in blocks, searched one by one             without the indexed-dirs feature
 *   indexed   entries in blocks, found by a hash (dx_dir.ts)     the rest
 *
 * The caller holds the directory's meta lock, at EX for changes. A `Dir` and an `Entry` describe one moment: after an
 * entry was added to a directory, look again.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { dirRecLen, FEATURE_INCOMPAT } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import { stamp } from "./attr.ts";
import {
  blockRegion,
  type Dir,
  expandInlineDir,
  extendDir,
  firstBlock,
  inlineRegion,
  modifyDir,
  newDirWantsTrailer,
  openDir,
  readDirBlock,
  scanBlocks,
} from "./dir_data.ts";
import {
  countEntriesIn,
  deleteEntryAt,
  entryAt,
  fillInitialEntries,
  findEntryIn,
  findRoomIn,
  initTrailer,
  insertEntryAt,
  largestRoomIn,
  type Region,
  trailerOf,
  trailerOff,
} from "./dirblock.ts";
import { type DxFound, dxInsert, dxRemove, dxRootOf, dxSearch, readDxRoot } from "./dx_dir.ts";
import { type FreePlace, findFree, gaveRoom, hintsOf, linkFree, usedFree } from "./dx_free_list.ts";
import { dxAttach, dxMakeRoom } from "./dx_grow.ts";
import { DOT, DOT_DOT, dxHash, hashIsAmbiguous, type Name, putName } from "./name.ts";

export { type Dir, openDir } from "./dir_data.ts";

/** A name that was found (struct ocfs2_dir_lookup_result). */
export interface Entry {
  readonly ino: number;
  /** FT of the entry. */
  readonly file_type: number;
  /** The block that holds it: a directory block, or the dinode. */
  readonly bh: Bh;
  readonly region: Region;
  readonly off: number;
  /** Where the index has it, with the index's root; null in other directories. */
  readonly dx: DxFound | null;
  readonly dx_root_bh: Bh | null;
}

function found(dir: Dir, bh: Bh, region: Region, off: number, dx: DxFound | null, dx_root_bh: Bh | null): Entry {
  const de = entryAt(dir.osb, region, off);
  return { ino: de.inode, file_type: de.file_type, bh, region, off, dx, dx_root_bh };
}

function findIndexed(dir: Dir, name: Name, name_addr: number): Entry | undefined {
  const root_bh = readDxRoot(dir);
  let dx = dxSearch(dir, root_bh, dxHash(dir.osb, name_addr, name.length), name_addr, name.length);
  if (dx === undefined && hashIsAmbiguous(name))
    dx = dxSearch(dir, root_bh, dxHash(dir.osb, name_addr, name.length, false), name_addr, name.length);
  return dx && found(dir, dx.bh, blockRegion(dir, dx.bh), dx.off, dx, root_bh);
}

/** All blocks, from the one that had the last name on (ocfs2_find_entry_el). */
function findLinear(dir: Dir, name: Name, name_addr: number): Entry | undefined {
  const hints = hintsOf(dir.inode);
  const start = hints.start_lookup < dir.blocks ? hints.start_lookup : 0;
  let hit: Entry | undefined;
  const visit = (bh: Bh, v_blkno: number): boolean => {
    const region = blockRegion(dir, bh);
    const off = findEntryIn(dir.osb, region, name_addr, name.length);
    if (off < 0) return false;
    hints.start_lookup = v_blkno;
    hit = found(dir, bh, region, off, null, null);
    return true;
  };
  if (!scanBlocks(dir, start, dir.blocks, visit)) scanBlocks(dir, 0, start, visit);
  return hit;
}

/** The entry with this name, undefined when there is none (ocfs2_find_entry). */
export function findEntry(dir: Dir, name: Name): Entry | undefined {
  const addr = putName(dir.osb, name);
  if (dir.indexed) return findIndexed(dir, name, addr);
  if (!dir.inline) return findLinear(dir, name, addr);
  const region = inlineRegion(dir);
  const off = findEntryIn(dir.osb, region, addr, name.length);
  return off < 0 ? undefined : found(dir, dir.di_bh, region, off, null, null);
}

function addIndexed(dir: Dir, name: Name, ino: number, file_type: number): void {
  const { op, osb } = dir;
  const need = dirRecLen(name.length);
  const root_bh = readDxRoot(dir);
  const hash = dxHash(osb, putName(osb, name), name.length);
  const dx = dxMakeRoom(dir, root_bh, hash);
  let place: FreePlace | undefined = findFree(dir, root_bh, need);
  if (place === undefined) {
    place = { bh: extendDir(dir), prev: null };
    linkFree(dir, root_bh, place.bh);
  }
  op.modify(place.bh);
  insertInto(dir, place.bh, blockRegion(dir, place.bh), name, ino, file_type);
  dxInsert(dir, root_bh, dx, hash, place.bh.blkno);
  usedFree(dir, root_bh, place);
}

/** Inserts into a block that is known to have room. */
function insertInto(dir: Dir, bh: Bh, region: Region, name: Name, ino: number, file_type: number): void {
  const off = findRoomIn(dir.osb, region, dirRecLen(name.length));
  if (off < 0)
    throw new Corruption("dir.add", { dir: dir.inode.ino, blkno: bh.blkno, found: "less room than db_free_rec_len" });
  insertEntryAt(dir.osb, region, off, name, ino, file_type);
}

/** The first block with room, else a new one (ocfs2_find_dir_space_el). */
function addLinear(dir: Dir, name: Name, ino: number, file_type: number): void {
  const need = dirRecLen(name.length);
  let bh: Bh | undefined;
  scanBlocks(dir, 0, dir.blocks, (b) => {
    if (findRoomIn(dir.osb, blockRegion(dir, b), need) < 0) return false;
    bh = b;
    return true;
  });
  bh ??= extendDir(dir);
  dir.op.modify(bh);
  insertInto(dir, bh, blockRegion(dir, bh), name, ino, file_type);
}

/** Blocks that an inline directory must become for `need` bytes more to fit (ocfs2_find_dir_space_id). */
function blocksWanted(dir: Dir, need: number): number {
  const { osb } = dir;
  const region = inlineRegion(dir);
  let last_len = 0;
  let last_own = 0;
  const de = entryAt(osb, region, 0);
  for (let at = 0; at < region.size; at += last_len) {
    de.seek(region.addr + at);
    last_len = de.rec_len;
    last_own = dirRecLen(de.name_len);
  }
  const { blocksize } = osb.geo;
  const grown = (newDirWantsTrailer(osb) ? trailerOff(blocksize) : blocksize) - region.size;
  return last_len + grown < need + last_own ? 2 : 1;
}

function addInline(dir: Dir, name: Name, ino: number, file_type: number): void {
  const { op, osb, inode, di_bh } = dir;
  const need = dirRecLen(name.length);
  const region = inlineRegion(dir);
  const off = findRoomIn(osb, region, need);
  if (off >= 0) {
    insertEntryAt(osb, region, off, name, ino, file_type);
    return;
  }
  const first_bh = expandInlineDir(dir, blocksWanted(dir, need));
  finishFirstBlock(openDir(op, inode, di_bh), first_bh);
  addTo(openDir(op, inode, di_bh), name, ino, file_type);
}

/** The first block's trailer, and the index of a directory that now has blocks. */
function finishFirstBlock(dir: Dir, first_bh: Bh): void {
  const { osb } = dir;
  if (osb.incompat(FEATURE_INCOMPAT.INDEXED_DIRS)) dxAttach(dir, first_bh);
  else if (dir.trailer) trailerOf(osb, first_bh).db_free_rec_len = largestRoomIn(osb, blockRegion(dir, first_bh));
}

function addTo(dir: Dir, name: Name, ino: number, file_type: number): void {
  if (dir.indexed) addIndexed(dir, name, ino, file_type);
  else if (dir.inline) addInline(dir, name, ino, file_type);
  else addLinear(dir, name, ino, file_type);
}

/**
 * Adds a name that is not there yet, and stamps the directory's mtime and ctime (ocfs2_prepare_dir_for_insert and
 * ocfs2_add_entry in one). Throws ENOSPC. `dir` and every Entry of it are out of date afterwards.
 */
export function addEntry(dir: Dir, name: Name, ino: number, file_type: number): void {
  modifyDir(dir);
  addTo(dir, name, ino, file_type);
  stamp(dir.op, dir.di, true);
}

/** Deletes a found name; the directory's timestamps are the caller's (ocfs2_delete_entry). */
export function deleteEntry(dir: Dir, entry: Entry): void {
  const { op, osb } = dir;
  op.modify(entry.bh);
  deleteEntryAt(osb, entry.region, entry.off);
  if (entry.dx !== null && entry.dx_root_bh !== null) {
    dxRemove(dir, entry.dx_root_bh, entry.dx);
    gaveRoom(dir, entry.dx_root_bh, entry.bh);
  }
}

/** Lets a found name lead to another inode (ocfs2_update_entry). */
export function updateEntry(dir: Dir, entry: Entry, ino: number, file_type: number): void {
  dir.op.modify(entry.bh);
  const de = entryAt(dir.osb, entry.region, entry.off);
  de.inode = ino;
  de.file_type = file_type;
}

/** True when "." and ".." are the first two entries. */
function startsWithDots(dir: Dir, region: Region): boolean {
  const { osb } = dir;
  return (
    findEntryIn(osb, region, putName(osb, DOT), 1) === 0 &&
    findEntryIn(osb, region, putName(osb, DOT_DOT), 2) === dirRecLen(1)
  );
}

/** True when there is nothing in it but "." and ".." (ocfs2_empty_dir). Throws Corruption when those are missing. */
export function isEmptyDir(dir: Dir): boolean {
  const { osb } = dir;
  if (!dir.inline && dir.blocks === 0) throw new Corruption("dir.empty", { dir: dir.inode.ino, found: "no block" });
  const first = dir.inline ? inlineRegion(dir) : blockRegion(dir, readDirBlock(dir, 0));
  if (!startsWithDots(dir, first)) throw new Corruption("dir.empty", { dir: dir.inode.ino, found: 'no "." or ".."' });
  if (countEntriesIn(osb, first) !== 2) return false;
  if (dir.inline) return true;
  if (dir.indexed) return dxRootOf(dir, readDxRoot(dir)).dr_num_entries === 2;
  return !scanBlocks(dir, 1, dir.blocks, (bh) => countEntriesIn(osb, blockRegion(dir, bh)) > 0);
}

/** Gives a new directory its body: inline, or a first block with an index if the volume has them (ocfs2_fill_new_dir). */
export function fillNewDir(op: Op, inode: Inode, di_bh: Bh, parent_ino: number): void {
  const { osb } = op;
  const dir = openDir(op, inode, di_bh);
  if (dir.inline) {
    dir.di.i_size = dir.di.i_data.id_count;
    fillInitialEntries(osb, inlineRegion(openDir(op, inode, di_bh)), inode.ino, parent_ino);
    return;
  }
  const bh = firstBlock(dir);
  const trailer = newDirWantsTrailer(osb);
  const size = trailer ? trailerOff(osb.geo.blocksize) : osb.geo.blocksize;
  const room = fillInitialEntries(osb, { addr: bh.addr, size, blkno: bh.blkno }, inode.ino, parent_ino);
  if (trailer) initTrailer(osb, bh, inode.ino, room);
  finishFirstBlock(openDir(op, inode, di_bh), bh);
}
