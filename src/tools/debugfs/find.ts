/** Who uses a block (icheck), and what the names of an inode are (locate, findpath). */
import {
  type Dinode,
  DT,
  DYN_FEATURES,
  fileTypeToDt,
  groupBitmapSize,
  hasSignature,
  I_FLAGS,
  isDir,
  isLnk,
  OCFS2_SUPER_BLOCK_BLKNO,
  SIG_INODE,
  SYSTEM_INODE,
  systemInodeName,
} from "../../format/disk/index.ts";
import { DebugfsError, type DebugVolume, type Entry, textOf, viewOf } from "./image.ts";
import { left, type Out } from "./print.ts";

interface Wanted {
  readonly blkno: number;
  state: "unknown" | "unused" | "used";
  inode: number;
  /** Block of the file, when it is data. */
  offset: number | undefined;
}

/** Whether the global bitmap has the cluster of a block in use. */
function clusterIsUsed(v: DebugVolume, bitmap: Dinode, blkno: number): boolean {
  const cluster = Math.floor(blkno / v.blocks_per_cluster);
  const per_group = bitmap.i_chain.cl_cpg;
  const first = Math.floor(cluster / per_group) * per_group;
  const group_blkno = first === 0 ? v.sb.s_first_cluster_group : first * v.blocks_per_cluster;
  const bit = cluster - first;
  const byte = v.group(group_blkno).bg_bitmap.get(bit >> 3);
  return (byte & (1 << (bit & 7))) !== 0;
}

/** Inodes of all inode allocators, the system files' too (ocfs2_open_inode_scan). */
function* allInodes(v: DebugVolume): Generator<Dinode> {
  const names = [systemInodeName(SYSTEM_INODE.GLOBAL_INODE_ALLOC)];
  for (let slot = 0; slot < v.sb.s_max_slots; slot++) names.push(systemInodeName(SYSTEM_INODE.INODE_ALLOC, slot));
  for (const name of names) {
    const alloc = v.inode(v.systemFile(name));
    for (let i = 0; i < alloc.i_chain.cl_next_free_rec; i++) {
      for (const group of v.chain(alloc.i_chain.cl_recs.at(i).c_blkno)) {
        for (let bit = 0; bit < group.bg_bits; bit++) {
          if ((group.bg_bitmap.get(bit >> 3) & (1 << (bit & 7))) === 0) continue;
          const block = v.read(blockOfBit(v, group, bit));
          if (!hasSignature(viewOf(block), 0, SIG_INODE)) continue;
          const di = v.inode(blockOfBit(v, group, bit));
          if ((di.i_flags & I_FLAGS.VALID) !== 0 && di.i_fs_generation === v.super_di.i_fs_generation) yield di;
        }
      }
    }
  }
}

/** A bit of a suballocator's group as a block; a discontiguous group has its blocks in several extents. */
function blockOfBit(v: DebugVolume, group: ReturnType<DebugVolume["group"]>, bit: number): number {
  const discontig = group.bg_size === groupBitmapSize(v.blocksize, true, v.sb.s_feature_incompat);
  const list = group.bg_list;
  if (!discontig || list.l_next_free_rec === 0 || v.blocksize < 1024) return group.bg_blkno + bit;
  let left_bits = bit;
  for (let i = 0; i < list.l_next_free_rec; i++) {
    const rec = list.l_recs.at(i);
    const blocks = rec.e_leaf_clusters * v.blocks_per_cluster;
    if (left_bits < blocks) return rec.e_blkno + left_bits;
    left_bits -= blocks;
  }
  return group.bg_blkno + bit;
}

/** Marks the wanted blocks that belong to this inode. */
function claim(v: DebugVolume, di: Dinode, open: readonly Wanted[]): void {
  const use = (w: Wanted, offset?: number): void => {
    w.state = "used";
    w.inode = di.i_blkno;
    w.offset = offset;
  };
  for (const w of open) if (w.blkno === di.i_blkno) use(w);
  const unknown = (): Wanted[] => open.filter((w) => w.state === "unknown");
  if ((di.i_flags & I_FLAGS.CHAIN) !== 0) {
    for (let i = 0; i < di.i_chain.cl_next_free_rec; i++)
      for (const group of v.chain(di.i_chain.cl_recs.at(i).c_blkno))
        for (const w of unknown()) if (w.blkno === group.bg_blkno) use(w);
    return;
  }
  const no_extents = I_FLAGS.LOCAL_ALLOC | I_FLAGS.DEALLOC;
  if ((di.i_flags & no_extents) !== 0 || (di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) return;
  if (isLnk(di.i_mode) && di.i_clusters === 0) return;
  const extentBlock = (blkno: number): void => {
    for (const w of unknown()) if (w.blkno === blkno) use(w);
  };
  for (const e of v.extents(di.i_list, extentBlock)) {
    const blocks = e.clusters * v.blocks_per_cluster;
    for (const w of unknown())
      if (w.blkno >= e.blkno && w.blkno < e.blkno + blocks) use(w, e.cpos * v.blocks_per_cluster + w.blkno - e.blkno);
  }
}

/** Says for each block which inode it belongs to, at which of its blocks, or that it is unused. */
export function icheck(out: Out, v: DebugVolume, blocks: readonly number[]): void {
  const wanted: Wanted[] = blocks.map((blkno) => ({ blkno, state: "unknown", inode: 0, offset: undefined }));
  const bitmap_ino = v.systemFile(systemInodeName(SYSTEM_INODE.GLOBAL_BITMAP));
  const bitmap = v.inode(bitmap_ino);
  const group_blocks = bitmap.i_chain.cl_cpg * v.blocks_per_cluster;
  for (const w of wanted) {
    const in_group = w.blkno % group_blocks;
    const first_group =
      w.blkno >= v.sb.s_first_cluster_group && w.blkno < v.sb.s_first_cluster_group + v.blocks_per_cluster;
    if (first_group || (w.blkno >= group_blocks && in_group < v.blocks_per_cluster)) {
      w.state = "used";
      w.inode = bitmap_ino;
    } else if (w.blkno <= Math.max(v.blocks_per_cluster, OCFS2_SUPER_BLOCK_BLKNO)) {
      w.state = "used";
      w.inode = OCFS2_SUPER_BLOCK_BLKNO;
    } else if (!clusterIsUsed(v, bitmap, w.blkno)) w.state = "unused";
  }
  if (wanted.some((w) => w.state === "unknown")) {
    for (const di of allInodes(v)) {
      const open = wanted.filter((w) => w.state === "unknown");
      if (open.length === 0) break;
      if (di.i_blkno !== bitmap_ino) claim(v, di, open);
    }
  }
  out(`\t${left("Block#", 15)}   ${left("Inode", 15)}   ${left("Block Offset", 15)}`);
  for (const w of wanted) {
    const inode = w.state === "used" ? left(w.inode, 15) : w.state === "unused" ? "Unused" : "Unknown";
    const offset = w.offset === undefined ? " " : String(w.offset);
    out(`\t${left(w.blkno, 15)}   ${left(inode, 15)}   ${left(offset, 15)}`);
  }
}

/** Prints the names that lead to inodes; the first found of each only, unless `all`. */
export function locate(out: Out, v: DebugVolume, inodes: readonly number[], all: boolean): void {
  const wanted = new Set(inodes);
  let found = 0;
  const hit = (ino: number, path: string): void => {
    out(`\t${ino}\t${path}`);
    found++;
    if (!all) wanted.delete(ino);
  };
  if (wanted.has(v.root)) hit(v.root, "/");
  if (wanted.has(v.system_dir)) hit(v.system_dir, "//");
  const seen = new Set<number>();
  const isDots = (e: Entry): boolean => [".", ".."].includes(textOf(e.name));
  const walk = (dir: number, path: string): void => {
    if (seen.has(dir)) return;
    seen.add(dir);
    for (const e of v.entries(dir)) {
      if (wanted.size === 0) return;
      if (isDots(e)) continue;
      const is_dir = fileTypeToDt(e.file_type) === DT.DIR;
      const full = `${path}${textOf(e.name)}${is_dir ? "/" : ""}`;
      if (wanted.has(e.ino)) hit(e.ino, full);
      if (is_dir && isDir(v.inode(e.ino).i_mode)) walk(e.ino, full);
    }
  };
  walk(v.system_dir, "//");
  walk(v.root, "/");
  if (found === 0) throw new DebugfsError("Directory entry not found  ");
}
