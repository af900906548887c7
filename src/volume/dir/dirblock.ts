/**
 * Directory entries in one region of memory: a directory block, or the inline data of a small directory's inode.
 *
 * A region is a chain of entries that covers it without gaps; each entry's rec_len leads to the next. Room is whatever
 * an entry has behind its name, or a whole entry whose inode is 0. Inserting splits an entry, deleting gives its
 * room to the one before, nothing ever moves: so a position in a directory stays good while others change it.
 *
 *   | . 16 | .. 12+pad | name rec_len ...... | unused inode 0 ... | trailer 64 |
 *
 * The trailer ends each block of an indexed directory, and of every directory on a volume with metaecc. To code that
 * does not know it, it is one more unused entry.
 *
 * A wrong rec_len makes names vanish or appear out of the bytes of others; so every walk checks each entry before it
 * relies on it (dir.c: ocfs2_check_dir_entry), and what fails is Corruption.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  DirBlockTrailer,
  DirEntry,
  dirRecLen,
  hasSignature,
  OCFS2_DIR_MIN_REC_LEN,
  OCFS2_DIR_TRAILER_SIGNATURE,
  OCFS2_FT_DIR,
  SIG_DIR_TRAILER,
} from "../../format/disk/index.ts";
import { assert, Corruption } from "../../lib/fs_error.ts";
import { NO_TRAILER } from "../../wasm/kernels.ts";
import type { Osb } from "../osb.ts";
import { DOT, DOT_DOT, type Name } from "./name.ts";

/** Entries in memory: `size` bytes from arena address `addr` on, without the trailer; `blkno` is for messages. */
export interface Region {
  readonly addr: number;
  readonly size: number;
  readonly blkno: number;
}

const bad = (r: Region, where: string): never => {
  throw new Corruption(where, { blkno: r.blkno, found: "a bad directory entry" });
};

/** Where the name starts in an entry. */
export const DE_NAME_OFF = DirEntry.fields.name.off;

/** Where the trailer of a directory block starts (ocfs2_dir_trailer_blk_off). */
export const trailerOff = (blocksize: number): number => blocksize - DirBlockTrailer.size;

/** The trailer of a directory block that has one. */
export const trailerOf = (osb: Osb, bh: Bh): DirBlockTrailer =>
  DirBlockTrailer.at(osb.cache.dv, bh.addr + trailerOff(osb.geo.blocksize));

/** The entry at byte `off` of the region, as a view; short-lived. */
export const entryAt = (osb: Osb, r: Region, off: number): DirEntry => DirEntry.at(osb.cache.dv, r.addr + off);

/** Offset of the entry with the name that lies in the arena at `name_addr`; -1: none (ocfs2_search_dirblock). */
export function findEntryIn(osb: Osb, r: Region, name_addr: number, len: number): number {
  const off = osb.k.dirFind(r.addr, r.size, name_addr, len, 0);
  return off === -2 ? bad(r, "dirblock.find") : off;
}

/** Offset of the first entry with room for `need` bytes; -1: none (ocfs2_dirent_would_fit over a block). */
export function findRoomIn(osb: Osb, r: Region, need: number): number {
  const off = osb.k.dirFindFree(r.addr, r.size, need, NO_TRAILER);
  return off === -2 ? bad(r, "dirblock.find_room") : off;
}

/** Entries in use. */
export function countEntriesIn(osb: Osb, r: Region): number {
  const used = osb.k.dirCheck(r.addr, r.size);
  return used === -2 ? bad(r, "dirblock.count") : used;
}

/**
 * The largest record that an insert could get out of the block, 0 when not even the smallest would fit: what
 * db_free_rec_len says of it (ocfs2_find_max_rec_len).
 */
export function largestRoomIn(osb: Osb, r: Region): number {
  const room = osb.k.dirMaxRecLen(r.addr, r.size, NO_TRAILER);
  return room === -2 ? bad(r, "dirblock.largest_room") : room;
}

/** Writes an entry's fields and name; rec_len is set by who splits. */
function fill(osb: Osb, de: DirEntry, name: Name, ino: number, file_type: number): void {
  de.inode = ino;
  de.name_len = name.length;
  de.file_type = file_type;
  osb.cache.u8.set(name, de.off + DE_NAME_OFF);
}

/**
 * Puts a name into the entry at `off`, which has room for it: behind the entry's own name, or in its place when it is
 * unused. Returns the new entry's offset. The block is already in the operation (__ocfs2_add_entry).
 */
export function insertEntryAt(osb: Osb, r: Region, off: number, name: Name, ino: number, file_type: number): number {
  const de = entryAt(osb, r, off);
  if (de.inode !== 0) {
    const own = dirRecLen(de.name_len);
    const rest = de.rec_len - own;
    assert(rest >= dirRecLen(name.length), `no room for ${name.length} bytes in entry ${off} of block ${r.blkno}`);
    de.rec_len = own;
    off += own;
    de.seek(r.addr + off);
    de.rec_len = rest;
  }
  fill(osb, de, name, ino, file_type);
  return off;
}

/**
 * Takes the entry at `off` out: its room goes to the entry before it, or it stays as an unused one at the region's
 * start (__ocfs2_delete_entry). Throws Corruption when no entry starts at `off`.
 */
export function deleteEntryAt(osb: Osb, r: Region, off: number): void {
  const de = DirEntry.at(osb.cache.dv, r.addr);
  let before = -1;
  for (let at = 0; at < off; ) {
    const len = de.seek(r.addr + at).rec_len;
    if (len < OCFS2_DIR_MIN_REC_LEN) bad(r, "dirblock.delete");
    before = at;
    at += len;
    if (at > off) bad(r, "dirblock.delete");
  }
  const rec_len = de.seek(r.addr + off).rec_len;
  de.inode = 0;
  if (before >= 0) {
    de.seek(r.addr + before);
    de.rec_len += rec_len;
  }
}

/**
 * First entry at or behind `offset`: the position that a reader of the directory had may lie inside an entry that has
 * since swallowed its neighbours (ocfs2_dir_foreach_blk_el). Returns `size` when there is none.
 */
export function settleOffset(osb: Osb, r: Region, offset: number): number {
  const de = DirEntry.at(osb.cache.dv, r.addr);
  let at = 0;
  while (at < offset && at < r.size) {
    const len = de.seek(r.addr + at).rec_len;
    if (len < OCFS2_DIR_MIN_REC_LEN) bad(r, "dirblock.settle");
    at += len;
  }
  return Math.min(at, r.size);
}

/** True when an entry of the region may be used: its lengths make sense here (ocfs2_check_dir_entry). */
export function entryIsSound(r: Region, off: number, de: DirEntry): boolean {
  const { rec_len } = de;
  const end = off + rec_len;
  return (
    rec_len >= OCFS2_DIR_MIN_REC_LEN &&
    rec_len % 4 === 0 &&
    rec_len >= dirRecLen(de.name_len) &&
    (end === r.size || end <= r.size - OCFS2_DIR_MIN_REC_LEN)
  );
}

/** "." and ".." of a new directory over the whole region; returns the room behind ".." (ocfs2_fill_initial_dirents). */
export function fillInitialEntries(osb: Osb, r: Region, self: number, parent: number): number {
  const de = entryAt(osb, r, 0);
  de.rec_len = dirRecLen(1);
  fill(osb, de, DOT, self, OCFS2_FT_DIR);
  de.seek(r.addr + dirRecLen(1));
  de.rec_len = r.size - dirRecLen(1);
  fill(osb, de, DOT_DOT, parent, OCFS2_FT_DIR);
  return r.size - dirRecLen(1) - dirRecLen(2);
}

/** One unused entry over the whole region: a block that was just added to a directory. */
export function fillUnused(osb: Osb, r: Region): void {
  const de = entryAt(osb, r, 0);
  de.inode = 0;
  de.name_len = 0;
  de.rec_len = r.size;
}

/**
 * Stretches the last entry when entries were moved to a larger region: `old_size` bytes are covered now
 * (ocfs2_expand_last_dirent).
 */
export function stretchLastEntry(osb: Osb, r: Region, old_size: number): void {
  const de = entryAt(osb, r, 0);
  let at = 0;
  for (;;) {
    const len = de.seek(r.addr + at).rec_len;
    if (len < OCFS2_DIR_MIN_REC_LEN || at + len > old_size) bad(r, "dirblock.stretch");
    if (at + len === old_size) break;
    at += len;
  }
  de.rec_len = r.size - at;
}

/** A trailer for a block of directory `dir_blkno` with that much room (ocfs2_init_dir_trailer). */
export function initTrailer(osb: Osb, bh: Bh, dir_blkno: number, free_rec_len: number): void {
  const t = trailerOf(osb, bh);
  t.db_signature = OCFS2_DIR_TRAILER_SIGNATURE;
  t.db_compat_rec_len = DirBlockTrailer.size;
  t.db_parent_dinode = dir_blkno;
  t.db_blkno = bh.blkno;
  t.db_free_rec_len = free_rec_len;
}

/** Throws Corruption unless the block ends in a trailer that names it and its directory (ocfs2_check_dir_trailer). */
export function checkTrailer(osb: Osb, bh: Bh, dir_blkno: number): void {
  const t = trailerOf(osb, bh);
  const signed = hasSignature(t.dv, t.off + DirBlockTrailer.fields.db_signature.off, SIG_DIR_TRAILER);
  if (signed && t.db_blkno === bh.blkno && t.db_parent_dinode === dir_blkno) return;
  throw new Corruption("dirblock.trailer", {
    dir: dir_blkno,
    blkno: bh.blkno,
    found: signed ? "a trailer of another block" : "no trailer",
    db_blkno: t.db_blkno,
    db_parent_dinode: t.db_parent_dinode,
  });
}
