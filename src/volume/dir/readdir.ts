/**
 * Reading a directory in order (ocfs2_readdir, ocfs2_dir_foreach_blk).
 *
 * A position is a byte offset into the directory's entries, the same whether they are in the inode or in blocks, so it
 * survives the move from the one to the other. Entries never move; a position may only come to lie inside an entry
 * that has swallowed a deleted neighbour, and then stands for the next one. So who reads on while others create and
 * delete sees every name once that was there all the time.
 */
import { fileTypeToDt, OCFS2_DIR_MIN_REC_LEN } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { getBlocks } from "../extents/extent_map.ts";
import { type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import { blockRegion, type Dir, inlineRegion, openDir, readAhead, readDirBlock } from "./dir_data.ts";
import { DE_NAME_OFF, entryAt, entryIsSound, type Region, settleOffset } from "./dirblock.ts";

/**
 * Takes one entry: inode number, DT of its type, the name as `name_len` bytes at an arena address, and the position
 * behind it. False: no room for it, stop. The bytes are good only during the call.
 */
export type Emit = (ino: number, dt: number, name_addr: number, name_len: number, next: number) => boolean;

const SLASH = 0x2f;

/** A name that no path can hold would lead whoever believes it elsewhere (verify_dirent_name). */
function checkName(dir: Dir, r: Region, off: number, addr: number, len: number): void {
  const { u8 } = dir.osb.cache;
  let sound = len > 0;
  for (let at = addr; at < addr + len; at++) if (u8[at] === 0 || u8[at] === SLASH) sound = false;
  if (!sound)
    throw new Corruption("dir.read", { dir: dir.inode.ino, blkno: r.blkno, off, found: "a name that cannot be" });
}

/** Emits a region's entries from `offset` on; `base` is the region's position. Returns the offset where it stopped. */
function emitRegion(dir: Dir, r: Region, base: number, offset: number, emit: Emit): { off: number; full: boolean } {
  let off = settleOffset(dir.osb, r, offset);
  const de = entryAt(dir.osb, r, off);
  while (off < r.size) {
    de.seek(r.addr + off);
    if (r.size - off < OCFS2_DIR_MIN_REC_LEN || !entryIsSound(r, off, de))
      throw new Corruption("dir.read", { dir: dir.inode.ino, blkno: r.blkno, off, found: "a bad directory entry" });
    const { inode: ino, rec_len } = de;
    const next = base + off + rec_len;
    if (ino !== 0) checkName(dir, r, off, de.off + DE_NAME_OFF, de.name_len);
    if (ino !== 0 && !emit(ino, fileTypeToDt(de.file_type), de.off + DE_NAME_OFF, de.name_len, next))
      return { off, full: true };
    off += rec_len;
  }
  return { off, full: false };
}

/**
 * Emits the entries from position `offset` on, "." and ".." among them, until `emit` refuses one or the directory ends;
 * returns the position to go on from, which is at least the directory's size at its end. Blocks are read ahead; once
 * something was emitted, a block that is not in memory ends the call early instead of waiting (unless `all`).
 * `emit` must begin afresh in each run of the operation.
 */
export function readDirEntries(dir: Dir, offset: number, emit: Emit, all = false): number {
  if (dir.inline) {
    if (offset >= dir.size) return offset;
    const r = inlineRegion(dir);
    return emitRegion(dir, r, 0, offset, emit).off;
  }
  const { blocksize } = dir.osb.geo;
  let pos = offset;
  let emitted = false;
  const counted: Emit = (ino, dt, addr, len, next) => {
    const taken = emit(ino, dt, addr, len, next);
    emitted ||= taken;
    return taken;
  };
  for (let v = Math.floor(pos / blocksize), last_ahead = -1; v < dir.blocks; v++) {
    if (last_ahead < 0 || v - last_ahead >= 8) {
      readAhead(dir, v);
      last_ahead = v;
    }
    if (emitted && !all && !inMemory(dir, v)) return pos;
    const r = blockRegion(dir, readDirBlock(dir, v));
    const base = v * blocksize;
    const { off, full } = emitRegion(dir, r, base, pos - base, counted);
    if (full) return base + off;
    pos = base + blocksize;
  }
  return pos;
}

function inMemory(dir: Dir, v_blkno: number): boolean {
  const { p_blkno } = getBlocks(dir.op, dir.inode, v_blkno);
  return dir.osb.cache.peek(dir.inode, p_blkno) !== undefined;
}

/** Reads a directory under its lock at PR: see readDirEntries. Throws Wait, ESTALE, Corruption. */
export function readdir(op: Op, inode: Inode, offset: number, emit: Emit, all = false): number {
  return readDirEntries(openDir(op, inode, inodeLock(op, inode)), offset, emit, all);
}

/** One entry, copied: for tools, tests and recovery. */
export interface DirRecord {
  ino: number;
  dt: number;
  name: Uint8Array;
  /** Position behind it. */
  next: number;
}

/** All entries of a directory from `offset` on, copied. For directories that fit in memory. */
export function readAll(dir: Dir, offset = 0): DirRecord[] {
  const out: DirRecord[] = [];
  readDirEntries(
    dir,
    offset,
    (ino, dt, addr, len, next) => {
      out.push({ ino, dt, name: dir.osb.cache.u8.slice(addr, addr + len), next });
      return true;
    },
    true,
  );
  return out;
}
