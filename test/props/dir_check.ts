/**
 * What must hold between a directory's blocks, its index and its free list: the checks that fsck.ocfs2 makes of a
 * directory and some that it does not (free list, hash ranges). Throws with a sentence when one does not hold.
 */
import { expect } from "vitest";
import { DxEntry, DxLeaf } from "../../src/format/disk/index.ts";
import { blockRegion, type Dir, openDir, readDirBlock } from "../../src/volume/dir/dir_data.ts";
import { entryAt, largestRoomIn, trailerOf } from "../../src/volume/dir/dirblock.ts";
import { dxRootIsInline, dxRootOf, readDxRoot } from "../../src/volume/dir/dx_dir.ts";
import { dxHash, nameText, putName } from "../../src/volume/dir/name.ts";
import { readAll } from "../../src/volume/dir/readdir.ts";
import { dxRootExtentTree, extentRecords } from "../../src/volume/extents/extent_tree.ts";
import { inodeLock } from "../../src/volume/inode.ts";
import type { Osb } from "../../src/volume/osb.ts";

export interface DirShape {
  inline: boolean;
  indexed: boolean;
  root_inline: boolean;
  blocks: number;
  names: number;
  leaf_clusters: number;
}

const key = (major: number, minor: number, blkno: number): string => `${major}/${minor}/${blkno}`;

/** Entries of the blocks as the index should have them, and the blocks with room. */
function ofBlocks(dir: Dir): { keys: string[]; room: Map<number, number> } {
  const keys: string[] = [];
  const room = new Map<number, number>();
  for (let v = 0; v < dir.blocks; v++) {
    const bh = readDirBlock(dir, v);
    const r = blockRegion(dir, bh);
    for (let at = 0; at < r.size; ) {
      const de = entryAt(dir.osb, r, at);
      if (de.inode !== 0) {
        const hash = dxHash(dir.osb, putName(dir.osb, de.name.bytes(de.name_len)), de.name_len);
        keys.push(key(hash.major, hash.minor, bh.blkno));
      }
      at += de.rec_len;
    }
    const t = trailerOf(dir.osb, bh);
    expect(t.db_free_rec_len, `db_free_rec_len of block ${bh.blkno}`).toBe(largestRoomIn(dir.osb, r));
    if (t.db_free_rec_len > 0) room.set(bh.blkno, t.db_free_next);
  }
  return { keys, room };
}

function ofList(dir: Dir, list: DxLeaf["dl_list"], lo: number, hi: number, block: number | null): string[] {
  const keys: string[] = [];
  for (let i = 0; i < list.de_num_used; i++) {
    const e = DxEntry.at(dir.osb.cache.dv, list.de_entries_off(i));
    const { dx_major_hash: major, dx_minor_hash: minor } = e;
    expect(major >= lo && major < hi, `hash ${major} in the leaf of [${lo}, ${hi})`).toBe(true);
    if (block !== null) expect(minor & (dir.osb.geo.blocks_per_cluster - 1), "block in the cluster").toBe(block);
    keys.push(key(major, minor, e.dx_dirent_blk));
  }
  return keys;
}

/** Checks one directory, which must not be changing, and says what shape it has. */
export function checkDir(osb: Osb, ino: number): DirShape {
  return osb.runSync((op) => {
    const inode = osb.inodes.get(ino);
    const dir = openDir(op, inode, inodeLock(op, inode));
    const names = readAll(dir).map((r) => nameText(r.name));
    expect(new Set(names).size, "a name twice").toBe(names.length);
    const shape = { inline: dir.inline, indexed: dir.indexed, blocks: dir.blocks, names: names.length };
    if (!dir.indexed) return { ...shape, root_inline: false, leaf_clusters: 0 };

    const root_bh = readDxRoot(dir);
    const dr = dxRootOf(dir, root_bh);
    const root_inline = dxRootIsInline(dr);
    const indexed: string[] = [];
    let leaf_clusters = 0;
    if (root_inline) indexed.push(...ofList(dir, dr.dr_entries, 0, 2 ** 32, null));
    else {
      const extents = [...extentRecords(op, dxRootExtentTree(op, inode, root_bh))].filter((e) => e.blkno !== 0);
      expect(extents[0]?.cpos, "first hash").toBe(0);
      extents.forEach((e, i) => {
        for (let c = 0; c < e.clusters; c++, leaf_clusters++) {
          const lo = e.cpos + c;
          const hi = c + 1 < e.clusters ? lo + 1 : (extents[i + 1]?.cpos ?? 2 ** 32);
          for (let b = 0; b < osb.geo.blocks_per_cluster; b++) {
            const bh = op.read(inode, e.blkno + osb.clustersToBlocks(c) + b, osb.kinds.dx_leaf);
            indexed.push(...ofList(dir, DxLeaf.at(osb.cache.dv, bh.addr).dl_list, lo, hi, b));
          }
        }
      });
      expect(dr.dr_clusters, "dr_clusters").toBe(leaf_clusters);
    }
    const { keys, room } = ofBlocks(dir);
    expect(indexed.sort(), "index entries").toEqual(keys.sort());
    expect(dr.dr_num_entries, "dr_num_entries").toBe(names.length);
    for (let at = dr.dr_free_blk; at !== 0; ) {
      const next = room.get(at);
      expect(next, `block ${at} of the free list has room`).toBeDefined();
      room.delete(at);
      at = next!;
    }
    expect([...room.keys()], "blocks with room that are not on the free list").toEqual([]);
    return { ...shape, root_inline, leaf_clusters };
  });
}
