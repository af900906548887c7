/**
 * System files: the inodes of the system directory, by name (sysfile.c). Read once at mount: they never move while mounted.
 */
import { DirEntry, DYN_FEATURES } from "../format/disk/index.ts";
import { Corruption } from "../lib/fs_error.ts";
import { getBlocks, readVirtBlock } from "./extents/extent_map.ts";
import { dinodeOf, type Inode, readDinode } from "./inode.ts";
import type { Op } from "./op.ts";
import type { Osb } from "./osb.ts";

/** Fills osb.system_inodes from the system directory. Throws Corruption when an entry cannot be. */
export function loadSystemInodes(op: Op, osb: Osb): void {
  const dir = osb.inodes.get(osb.geo.system_dir_blkno);
  const found = new Map<string, number>();
  const di = dinodeOf(op, readDinode(op, dir));
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) {
    scan(osb, dir, di.i_data.off + 8, di.i_size, found);
  } else {
    const blocks = osb.blocksForBytes(di.i_size);
    for (let v = 0; v < blocks; v++) {
      const { p_blkno, blocks: run } = getBlocks(op, dir, v);
      if (p_blkno !== 0) osb.cache.prefetch(dir, p_blkno, Math.min(run, blocks - v, 64));
    }
    for (let v = 0; v < blocks; v++) {
      const bh = readVirtBlock(op, dir, v, osb.kinds.dir_block);
      scan(osb, dir, bh.addr, osb.geo.blocksize, found);
    }
  }
  for (const [name, ino] of found) {
    const inode = osb.inodes.get(ino);
    inode.is_system = true;
    osb.system_inodes.set(name, inode);
  }
}

function scan(osb: Osb, dir: Inode, addr: number, bytes: number, found: Map<string, number>): void {
  const { dv, u8 } = osb.cache;
  for (let at = 0; at + DirEntry.size <= bytes; ) {
    const de = DirEntry.at(dv, addr + at);
    if (de.rec_len < DirEntry.size || at + de.rec_len > bytes || DirEntry.size + de.name_len > de.rec_len)
      throw new Corruption("system_directory", { dir: dir.ino, offset: at, rec_len: de.rec_len });
    if (de.inode !== 0 && de.name_len > 0) {
      const start = de.off + DirEntry.size;
      const name = String.fromCharCode(...u8.subarray(start, start + de.name_len));
      if (name !== "." && name !== "..") found.set(name, de.inode);
    }
    at += de.rec_len;
  }
}
