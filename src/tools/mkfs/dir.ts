/**
 * Directories of a new volume: entries packed into the inode or into blocks (their index: dx.ts). Mirrors add_entry_to_directory of
 * mkfs.c and ocfs2_init_dir_trailers of libocfs2, but for two things that libocfs2 leaves wrong: lost+found's size is whole blocks,
 * and a trailer tells the hole that is there after the last entry was added.
 */
import {
  DirBlockTrailer,
  DirEntry,
  dirRecLen,
  OCFS2_DIR_MIN_REC_LEN,
  OCFS2_DIR_TRAILER_SIGNATURE,
  OCFS2_FT_DIR,
} from "../../format/disk/index.ts";
import { dirBlockCheck, NO_CHECK, type Piece } from "./piece.ts";

export interface EntryPlan {
  readonly name: string;
  readonly blkno: number;
  readonly file_type: number;
}

/** "." and "..". */
export const dotEntries = (self_blkno: number, parent_blkno: number): EntryPlan[] => [
  { name: ".", blkno: self_blkno, file_type: OCFS2_FT_DIR },
  { name: "..", blkno: parent_blkno, file_type: OCFS2_FT_DIR },
];

const entryLen = (e: EntryPlan): number => dirRecLen(Buffer.byteLength(e.name));

/** Writes entries so that the last one reaches the end of the `len_bytes`. */
export function fillEntries(dv: DataView, off: number, len_bytes: number, entries: readonly EntryPlan[]): void {
  const end = off + len_bytes;
  entries.forEach((e, i) => {
    const de = DirEntry.at(dv, off);
    const name = Buffer.from(e.name);
    const len = i === entries.length - 1 ? end - off : entryLen(e);
    de.inode = e.blkno;
    de.rec_len = len;
    de.name_len = name.length;
    de.file_type = e.file_type;
    de.name.bytes(name.length).set(name);
    off += len;
  });
}

/** Bytes that inline entries take. */
export const inlineLen = (entries: readonly EntryPlan[]): number => entries.reduce((n, e) => n + entryLen(e), 0);

/** Deals entries out to blocks with room for `room_bytes` each. */
function packBlocks(entries: readonly EntryPlan[], room_bytes: number): EntryPlan[][] {
  const blocks: EntryPlan[][] = [];
  let left = 0;
  for (const e of entries) {
    const len = entryLen(e);
    if (len > left) {
      blocks.push([]);
      left = room_bytes;
    }
    blocks.at(-1)!.push(e);
    left -= len;
  }
  return blocks;
}

/** A block of a directory. */
export interface DirBlock {
  readonly blkno: number;
  readonly entries: readonly EntryPlan[];
  /** The room behind the last entry in bytes, 0 when no entry could use it. */
  readonly hole: number;
}

const roomOf = (block_size: number, trailer: boolean): number =>
  trailer ? block_size - DirBlockTrailer.size : block_size;

/** Lays entries out in blocks; `blockAt` tells where each logical block lies. With a trailer each block ends in one. */
export function layOutDir(
  entries: readonly EntryPlan[],
  trailer: boolean,
  blockAt: (v_blkno: number) => number,
  block_size: number,
): DirBlock[] {
  const room = roomOf(block_size, trailer);
  return packBlocks(entries, room).map((list, v) => {
    const hole = room - inlineLen(list);
    return { blkno: blockAt(v), entries: list, hole: hole >= OCFS2_DIR_MIN_REC_LEN ? hole : 0 };
  });
}

export interface DirShape {
  readonly self_blkno: number;
  /** Blocks end in a trailer: with metaecc or indexed-dirs. */
  readonly trailer: boolean;
  readonly indexed: boolean;
}

export function dirBlockPieces(dir: DirShape, blocks: readonly DirBlock[], block_size: number): Piece[] {
  const room = roomOf(block_size, dir.trailer);
  return blocks.map((block, i) => ({
    stage: "files",
    blkno: block.blkno,
    blocks: 1,
    check_off: dir.trailer ? dirBlockCheck(block_size) : NO_CHECK,
    render(dv, off) {
      fillEntries(dv, off, room, block.entries);
      if (!dir.trailer) return;
      const t = DirBlockTrailer.at(dv, off + room);
      t.db_compat_rec_len = DirBlockTrailer.size;
      t.db_signature = OCFS2_DIR_TRAILER_SIGNATURE;
      t.db_blkno = block.blkno;
      t.db_parent_dinode = dir.self_blkno;
      if (!dir.indexed || block.hole === 0) return;
      t.db_free_rec_len = block.hole;
      t.db_free_next = firstWithRoom(blocks.slice(0, i));
    },
  }));
}

/** Head of the list of blocks with room, which runs from the last block to the first; 0 if there is none. */
export const firstWithRoom = (blocks: readonly DirBlock[]): number => blocks.findLast((b) => b.hole > 0)?.blkno ?? 0;
