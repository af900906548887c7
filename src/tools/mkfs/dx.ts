/**
 * The index of a directory: all entries in its root block while they fit, else in clusters of leaves by ranges of the major hash.
 * Mirrors ocfs2_dx_dir_build of libocfs2's dir_indexed.c, which splits one cluster after the other as entries come; here all entries
 * are known, and the ranges are cut beforehand.
 */
import {
  type DxEntryList,
  DxLeaf,
  DxRootBlock,
  dxEntriesPerLeaf,
  dxEntriesPerRoot,
  extentRecsPerDxRoot,
  OCFS2_DX_FLAG_INLINE,
  OCFS2_DX_LEAF_SIGNATURE,
  OCFS2_DX_ROOT_SIGNATURE,
} from "../../format/disk/index.ts";
import { dxHashBytes } from "../../wasm/twins/dirhash.ts";
import { type DirBlock, firstWithRoom } from "./dir.ts";
import type { Geometry } from "./geometry.ts";
import { DX_LEAF_CHECK, DX_ROOT_CHECK, type Identity, type Piece } from "./piece.ts";
import type { SubBlock } from "./suballoc.ts";

interface Hashed {
  readonly major: number;
  readonly minor: number;
  readonly dirent_blk: number;
}

/** A range of the major hash: from `cpos` to the next range's. */
export interface DxRange {
  readonly cpos: number;
  readonly entries: readonly Hashed[];
}

export interface DxPlan {
  readonly root: SubBlock;
  readonly entries: readonly Hashed[];
  /** With the first block of the cluster that each got; none while the root holds the entries. */
  readonly ranges: readonly (DxRange & { readonly blkno: number })[];
}

/** The entries of a directory as its index has them, in the directory's order. */
export function hashEntries(blocks: readonly DirBlock[], id: Identity): Hashed[] {
  return blocks.flatMap(({ blkno, entries }) =>
    entries.map((e) => {
      const [major, minor] = dxHashBytes(Buffer.from(e.name), id.dx_seed[0], id.dx_seed[1], true);
      return { major, minor, dirent_blk: blkno };
    }),
  );
}

/** Which block of its cluster an entry belongs to. */
const leafOf = (e: Hashed, g: Geometry): number => e.minor & (g.bpc - 1);

function fitsLeaves(entries: readonly Hashed[], g: Geometry): boolean {
  const counts = new Uint32Array(g.bpc);
  for (const e of entries) counts[leafOf(e, g)]!++;
  return counts.every((n) => n <= dxEntriesPerLeaf(g.block_size));
}

/** Ranges that the entries need: none if the root holds them. Undefined if no cut makes them fit. */
export function cutRanges(entries: readonly Hashed[], g: Geometry): DxRange[] | undefined {
  if (entries.length <= dxEntriesPerRoot(g.block_size)) return [];
  const done: DxRange[] = [];
  const open: DxRange[] = [{ cpos: 0, entries: entries.toSorted((a, b) => a.major - b.major) }];
  for (let range = open.pop(); range; range = open.pop()) {
    if (fitsLeaves(range.entries, g)) {
      done.push(range);
      continue;
    }
    const median = range.entries[range.entries.length >> 1]!.major;
    const cut = range.entries.find((e) => e.major >= median && e.major > range.cpos)?.major;
    if (cut === undefined || done.length + open.length + 2 > extentRecsPerDxRoot(g.block_size)) return undefined;
    open.push({ cpos: cut, entries: range.entries.filter((e) => e.major >= cut) });
    open.push({ cpos: range.cpos, entries: range.entries.filter((e) => e.major < cut) });
  }
  return done;
}

function fillList(list: ReturnType<typeof DxEntryList.at>, count: number, entries: readonly Hashed[]): void {
  list.de_count = count;
  list.de_num_used = entries.length;
  entries.forEach((e, i) => {
    const entry = list.de_entries.at(i);
    entry.dx_major_hash = e.major;
    entry.dx_minor_hash = e.minor;
    entry.dx_dirent_blk = e.dirent_blk;
  });
}

function rootPiece(dir_blkno: number, blocks: readonly DirBlock[], dx: DxPlan, g: Geometry, id: Identity): Piece {
  const render = (dv: DataView, off: number): void => {
    const dr = DxRootBlock.at(dv, off);
    dr.dr_signature = OCFS2_DX_ROOT_SIGNATURE;
    dr.dr_suballoc_bit = dx.root.bit;
    dr.dr_suballoc_loc = dx.root.group_blkno;
    dr.dr_fs_generation = id.generation;
    dr.dr_blkno = dx.root.blkno;
    dr.dr_dir_blkno = dir_blkno;
    dr.dr_num_entries = dx.entries.length;
    dr.dr_free_blk = firstWithRoom(blocks);
    if (dx.ranges.length === 0) {
      dr.dr_flags = OCFS2_DX_FLAG_INLINE;
      fillList(dr.dr_entries, dxEntriesPerRoot(g.block_size), dx.entries);
      return;
    }
    dr.dr_clusters = dx.ranges.length;
    dr.dr_list.l_count = extentRecsPerDxRoot(g.block_size);
    dr.dr_list.l_next_free_rec = dx.ranges.length;
    dx.ranges.forEach((range, i) => {
      const rec = dr.dr_list.l_recs.at(i);
      rec.e_cpos = range.cpos;
      rec.e_leaf_clusters = 1;
      rec.e_blkno = range.blkno;
    });
  };
  return { stage: "files", blkno: dx.root.blkno, blocks: 1, check_off: DX_ROOT_CHECK, render };
}

/** The root of a directory's index and its leaves. */
export function dxPieces(
  dir_blkno: number,
  blocks: readonly DirBlock[],
  dx: DxPlan,
  g: Geometry,
  id: Identity,
): Piece[] {
  const leaves = dx.ranges.flatMap((range) =>
    Array.from({ length: g.bpc }, (_, i): Piece => {
      const blkno = range.blkno + i;
      const render = (dv: DataView, off: number): void => {
        const dl = DxLeaf.at(dv, off);
        dl.dl_signature = OCFS2_DX_LEAF_SIGNATURE;
        dl.dl_blkno = blkno;
        dl.dl_fs_generation = id.generation;
        const entries = range.entries.filter((e) => leafOf(e, g) === i);
        fillList(dl.dl_list, dxEntriesPerLeaf(g.block_size), entries);
      };
      return { stage: "files", blkno, blocks: 1, check_off: DX_LEAF_CHECK, render };
    }),
  );
  return [rootPiece(dir_blkno, blocks, dx, g, id), ...leaves];
}
