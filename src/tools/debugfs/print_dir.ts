/** Directories as debugfs.ocfs2 prints them: entries, blocks with their trailers, and the index. */
import {
  type Dinode,
  DirBlockTrailer,
  DX_FLAGS,
  type DxEntryList,
  DxLeaf,
  DxRootBlock,
  hasSignature,
  isBlk,
  isChr,
  isDir,
  isFifo,
  isLnk,
  isSock,
  OCFS2_INVALID_SLOT,
  S_ISGID,
  S_ISUID,
  S_ISVTX,
  SIG_DIR_TRAILER,
  SIG_DX_LEAF,
  SIG_DX_ROOT,
} from "../../format/disk/index.ts";
import { type DebugVolume, type Entry, textOf, viewOf } from "./image.ts";
import { blockOf, hex, left, lsTime, type Out, printCheck, printExtentTree, right } from "./print.ts";

export function permissions(mode: number): string {
  const type = isDir(mode)
    ? "d"
    : isLnk(mode)
      ? "l"
      : isChr(mode)
        ? "c"
        : isBlk(mode)
          ? "b"
          : isFifo(mode)
            ? "f"
            : isSock(mode)
              ? "s"
              : "-";
  const rwx = (shift: number, special: number, letter: string): string => {
    const bits = mode >> shift;
    const runs = (bits & 1) !== 0;
    const x = (mode & special) !== 0 ? (runs ? letter : letter.toUpperCase()) : runs ? "x" : "-";
    return `${(bits & 4) !== 0 ? "r" : "-"}${(bits & 2) !== 0 ? "w" : "-"}${x}`;
  };
  return `${type}${rwx(6, S_ISUID, "s")}${rwx(3, S_ISGID, "s")}${rwx(0, S_ISVTX, "t")}`;
}

export function printEntry(out: Out, e: Entry): void {
  out(`\t${left(e.ino, 15)} ${left(e.rec_len, 4)} ${left(e.name_len, 4)} ${left(e.file_type, 2)} ${textOf(e.name)}`);
}

export function printEntryLong(out: Out, v: DebugVolume, e: Entry): void {
  const di = v.inode(e.ino);
  const owner = `${right(di.i_links_count, 3)} ${right(di.i_uid, 5)} ${right(di.i_gid, 5)} ${right(di.i_size, 15)}`;
  out(`\t${left(e.ino, 15)} ${permissions(di.i_mode)} ${owner} ${lsTime(di.i_mtime)} ${textOf(e.name)}`);
}

export function printTrailer(out: Out, v: DebugVolume, trailer: DirBlockTrailer): void {
  const { db_compat_rec_len: len } = trailer;
  out(`\tTrailer Block: ${trailer.db_blkno}   Inode: ${trailer.db_parent_dinode}   Len: ${len}`);
  out(`\tLargest Hole: ${trailer.db_free_rec_len}   Next Block: ${trailer.db_free_next}`);
  printCheck(out, v, trailer.db_check, blockOf(trailer));
}

/** The trailer of a directory block, undefined when it has none. */
export function trailerOf(block: Uint8Array): DirBlockTrailer | undefined {
  const off = block.length - DirBlockTrailer.size;
  const dv = viewOf(block);
  const at = off + DirBlockTrailer.fields.db_signature.off;
  return hasSignature(dv, at, SIG_DIR_TRAILER) ? DirBlockTrailer.at(dv, off) : undefined;
}

export function printDirBlock(out: Out, v: DebugVolume, block: Uint8Array): void {
  const trailer = trailerOf(block);
  if (trailer !== undefined) printTrailer(out, v, trailer);
  out("\tEntries:");
  const room = trailer === undefined ? block.length : block.length - DirBlockTrailer.size;
  for (const e of v.entriesIn(block.subarray(0, room), true)) printEntry(out, e);
}

// The index -----------------------------------------------------------------------------------------------------------

export const dxRoot = (v: DebugVolume, blkno: number): DxRootBlock =>
  DxRootBlock.from(v.readSigned(blkno, SIG_DX_ROOT, "root of a directory index"));

export const dxLeaf = (v: DebugVolume, blkno: number): DxLeaf =>
  DxLeaf.from(v.readSigned(blkno, SIG_DX_LEAF, "leaf of a directory index"));

function printDxEntries(out: Out, list: DxEntryList, all: boolean): void {
  out(`\tCount: ${list.de_count}  Num Used: ${list.de_num_used}`);
  if (!all) return;
  out(`\t## ${left("Hash (Major Minor)", 11)}         ${left("Dir Block#", 13)}`);
  for (let i = 0; i < Math.min(list.de_num_used, list.de_count); i++) {
    const e = list.de_entries.at(i);
    const hash = `(0x${hex(e.dx_major_hash, 8)} 0x${hex(e.dx_minor_hash, 8)})`;
    out(`\t ${left(i, 2)} ${hash}    ${left(e.dx_dirent_blk, 13)}`);
  }
}

export function printDxRoot(out: Out, v: DebugVolume, dr: DxRootBlock): void {
  const inline = (dr.dr_flags & DX_FLAGS.INLINE) !== 0;
  out(`\tDir Index Root: ${dr.dr_blkno}   FS Generation: ${dr.dr_fs_generation} (0x${hex(dr.dr_fs_generation)})`);
  out(`\tClusters: ${dr.dr_clusters}   Last Extblk: ${dr.dr_last_eb_blk}   Dir Inode: ${dr.dr_dir_blkno}`);
  const slot = dr.dr_suballoc_slot === OCFS2_INVALID_SLOT ? "Invalid Slot" : dr.dr_suballoc_slot;
  const loc = dr.dr_suballoc_loc === 0 ? "" : `   SubAlloc Group: ${dr.dr_suballoc_loc}`;
  out(`\tSub Alloc Slot: ${slot}   Sub Alloc Bit: ${dr.dr_suballoc_bit}${loc}`);
  out(`\tFlags: (0x${hex(dr.dr_flags)}) ${inline ? "Inline " : ""}`);
  out(`\tTotal Entry Count: ${dr.dr_num_entries | 0}`);
  printCheck(out, v, dr.dr_check, blockOf(dr));
  if (inline) printDxEntries(out, dr.dr_entries, false);
}

/** With its extents. */
export function printDxRootTree(out: Out, v: DebugVolume, dr: DxRootBlock): void {
  printDxRoot(out, v, dr);
  if ((dr.dr_flags & DX_FLAGS.INLINE) === 0) printExtentTree(out, v, dr.dr_list);
}

export function printDxLeaf(out: Out, v: DebugVolume, leaf: DxLeaf): void {
  out(`\tDir Index Leaf: ${leaf.dl_blkno}  FS Generation: ${leaf.dl_fs_generation} (0x${hex(leaf.dl_fs_generation)})`);
  printCheck(out, v, leaf.dl_check, blockOf(leaf));
  printDxEntries(out, leaf.dl_list, true);
}

/** The whole index of a directory. */
export function printDxIndex(out: Out, v: DebugVolume, di: Dinode): void {
  const dr = dxRoot(v, di.i_dx_root);
  printDxRoot(out, v, dr);
  if ((dr.dr_flags & DX_FLAGS.INLINE) !== 0) {
    printDxEntries(out, dr.dr_entries, true);
    return;
  }
  for (const e of v.extents(dr.dr_list))
    for (let b = 0; b < e.clusters * v.blocks_per_cluster; b++) printDxLeaf(out, v, dxLeaf(v, e.blkno + b));
}

/** The list of directory blocks with room. */
export function printDxSpace(out: Out, v: DebugVolume, di: Dinode): void {
  const seen = new Set<number>();
  for (let blkno = dxRoot(v, di.i_dx_root).dr_free_blk; blkno !== 0 && !seen.has(blkno); ) {
    seen.add(blkno);
    const trailer = trailerOf(v.read(blkno));
    if (trailer === undefined) break;
    printTrailer(out, v, trailer);
    blkno = trailer.db_free_next;
  }
}
