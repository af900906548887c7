/**
 * A volume as debugfs sees it: blocks as they are on the device, checked by their signature and no further, so that
 * damaged, dirty and mounted volumes can be looked at too. Nothing is cached, locked, replayed or written
 * (libocfs2's openfs.c, extents.c, namei.c, with OCFS2_FLAG_NO_ECC_CHECKS).
 */
import {
  type Dinode,
  Dinode as DinodeTable,
  DirBlockTrailer,
  DirEntry,
  DYN_FEATURES,
  ExtentBlock,
  type ExtentList,
  FEATURE_INCOMPAT,
  GroupDesc,
  hasSignature,
  isDir,
  isLnk,
  SIG_EXTENT_BLOCK,
  SIG_GROUP_DESC,
  SIG_INODE,
  SIG_SUPER_BLOCK,
  type Signature,
  type SuperBlock,
} from "../../format/disk/index.ts";
import { findSuper, type ReadAt } from "../read_super.ts";

/** A command cannot go on; the message is for the user. */
export class DebugfsError extends Error {}

/** A block that was to be an inode is none. */
export class NoInode extends DebugfsError {
  constructor(blkno: number) {
    super(`Bad magic number in inode while reading inode ${blkno}`);
  }
}

/** A stretch of a file: clusters from `cpos` on lie at block `blkno`; flags are those of the extent record. */
export interface Extent {
  readonly cpos: number;
  readonly clusters: number;
  readonly blkno: number;
  readonly flags: number;
}

export interface Entry {
  readonly ino: number;
  readonly rec_len: number;
  readonly name_len: number;
  readonly file_type: number;
  readonly name: Uint8Array;
}

const MAX_SYMLINKS = 20;
/** What is read into memory at once is small where it is sound: slot map, heartbeat blocks, targets of links. */
const WHOLE_BYTES_MAX = 16 << 20;

export const viewOf = (block: Uint8Array): DataView => new DataView(block.buffer, block.byteOffset, block.byteLength);

export const textOf = (name: Uint8Array): string =>
  Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString("utf8");

export class DebugVolume {
  readonly #readAt: ReadAt;
  readonly super_di: Dinode;
  readonly sb: SuperBlock;
  readonly blocksize: number;
  readonly clustersize: number;
  readonly blocks_per_cluster: number;
  readonly blocks: number;
  readonly root: number;
  readonly system_dir: number;

  /** `super_at`: block and block size of the super block to use, for a backup. */
  constructor(readAt: ReadAt, super_at?: { blkno: number; blocksize: number }) {
    this.#readAt = readAt;
    const di = super_at === undefined ? findSuper(readAt) : backupSuper(readAt, super_at);
    if (di === undefined) throw new DebugfsError('no OCFS2 super block found; "debugfs -s 1" tries a backup');
    this.super_di = di;
    this.sb = di.i_super;
    this.blocksize = 2 ** this.sb.s_blocksize_bits;
    this.clustersize = 2 ** this.sb.s_clustersize_bits;
    this.blocks_per_cluster = this.clustersize / this.blocksize;
    this.blocks = di.i_clusters * this.blocks_per_cluster;
    this.root = this.sb.s_root_blkno;
    this.system_dir = this.sb.s_system_dir_blkno;
  }

  incompat(bit: number): boolean {
    return (this.sb.s_feature_incompat & bit) !== 0;
  }

  /** Blocks from `blkno` on, in memory of their own. */
  read(blkno: number, count = 1): Uint8Array {
    if (!(blkno >= 0) || blkno + count > this.blocks) throw new DebugfsError(`block ${blkno} is out of range`);
    const bytes = this.#readAt(blkno * this.blocksize, count * this.blocksize).slice();
    if (bytes.length < count * this.blocksize)
      throw new DebugfsError(`block ${blkno} lies behind the end of the device`);
    return bytes;
  }

  /** A block that must begin with a signature. */
  readSigned(blkno: number, sig: Signature, what: string): Uint8Array {
    const block = this.read(blkno);
    if (!hasSignature(viewOf(block), 0, sig)) throw new DebugfsError(`block ${blkno} is no ${what}`);
    return block;
  }

  inode(blkno: number): Dinode {
    const block = this.read(blkno);
    if (!hasSignature(viewOf(block), 0, SIG_INODE)) throw new NoInode(blkno);
    return DinodeTable.from(block);
  }

  group(blkno: number): GroupDesc {
    return GroupDesc.from(this.readSigned(blkno, SIG_GROUP_DESC, "group descriptor"));
  }

  extentBlock(blkno: number): ExtentBlock {
    return ExtentBlock.from(this.readSigned(blkno, SIG_EXTENT_BLOCK, "extent block"));
  }

  // Extents -----------------------------------------------------------------------------------------------------------
  /** The extent block that record `i` of an inner list leads to. `seen`: those of the tree that were visited; a damaged tree may lead back to one. */
  child(list: ExtentList, i: number, seen: Set<number>): ExtentBlock {
    const blkno = list.l_recs.at(i).e_blkno;
    if (seen.has(blkno)) throw new DebugfsError(`extent block ${blkno} is in one tree twice`);
    seen.add(blkno);
    return this.extentBlock(blkno);
  }

  /** The leaf extents of a tree, in order; `block` hears of each extent block on the way. */
  *extents(
    list: ExtentList,
    block: (blkno: number) => void = () => {},
    seen: Set<number> = new Set(),
  ): Generator<Extent> {
    const used = Math.min(list.l_next_free_rec, list.l_count);
    for (let i = 0; i < used; i++) {
      const rec = list.l_recs.at(i);
      const clusters = list.l_tree_depth > 0 ? rec.e_int_clusters : rec.e_leaf_clusters;
      if (clusters === 0) continue;
      if (list.l_tree_depth > 0) {
        const eb = this.child(list, i, seen);
        if (eb.h_list.l_tree_depth >= list.l_tree_depth)
          throw new DebugfsError(`block ${rec.e_blkno} is at a wrong depth`);
        block(rec.e_blkno);
        yield* this.extents(eb.h_list, block, seen);
      } else yield { cpos: rec.e_cpos, clusters, blkno: rec.e_blkno, flags: rec.e_flags };
    }
  }

  /** The block of the disk that holds block `v_blkno` of the file, 0 for a hole. */
  bmap(di: Dinode, v_blkno: number): number {
    for (const e of this.extents(di.i_list)) {
      const first = e.cpos * this.blocks_per_cluster;
      if (v_blkno >= first && v_blkno < first + e.clusters * this.blocks_per_cluster)
        return e.blkno + (v_blkno - first);
    }
    return 0;
  }

  /** The contents of a file in pieces, holes as zeros; nothing beyond its size. */
  *data(di: Dinode): Generator<Uint8Array> {
    const size = di.i_size;
    if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) {
      yield di.i_data.id_data.bytes(Math.min(size, di.i_data.id_count));
      return;
    }
    let at = 0;
    const zeros = function* (until: number): Generator<Uint8Array> {
      const stop = Math.min(until, size);
      const piece = 1 << 20;
      for (; at < stop; at += piece) yield new Uint8Array(Math.min(piece, stop - at));
      at = Math.max(at, stop);
      if (at > stop) at = stop;
    };
    const unwritten = 1;
    for (const e of this.extents(di.i_list)) {
      const start = e.cpos * this.clustersize;
      const end = Math.min(size, start + e.clusters * this.clustersize);
      yield* zeros(start);
      if ((e.flags & unwritten) !== 0) {
        yield* zeros(end);
        continue;
      }
      const step = Math.max(1, Math.floor((1 << 20) / this.blocksize));
      for (let b = 0; at < end; b += step) {
        const blocks = Math.min(step, Math.ceil((end - at) / this.blocksize));
        const bytes = this.read(e.blkno + b, blocks).subarray(0, end - at);
        at += bytes.length;
        yield bytes;
      }
    }
    yield* zeros(size);
  }

  whole(di: Dinode): Uint8Array {
    if (di.i_size > WHOLE_BYTES_MAX) throw new DebugfsError(`inode ${di.i_blkno} cannot have ${di.i_size} bytes`);
    return Buffer.concat([...this.data(di)]);
  }

  symlinkTarget(di: Dinode): Uint8Array {
    if (di.i_clusters > 0 || (di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) return this.whole(di);
    return di.i_symlink.bytes(Math.min(di.i_size, this.blocksize - di.i_symlink_off(0)));
  }

  // Directories -------------------------------------------------------------------------------------------------------
  /** Whether blocks of this directory end in a trailer (ocfs2_dir_has_trailer). */
  hasTrailers(di: Dinode): boolean {
    if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) return false;
    return this.incompat(FEATURE_INCOMPAT.META_ECC) || (di.i_dyn_features & DYN_FEATURES.INDEXED_DIR) !== 0;
  }

  /** Block numbers of a directory's blocks, in order. */
  *dirBlocks(di: Dinode): Generator<number> {
    const blocks = Math.ceil(di.i_size / this.blocksize);
    for (const e of this.extents(di.i_list)) {
      const first = e.cpos * this.blocks_per_cluster;
      for (let b = 0; b < e.clusters * this.blocks_per_cluster && first + b < blocks; b++) yield e.blkno + b;
    }
  }

  /** Entries in `bytes`, up to a bad one; unused ones too when `all` says so. */
  *entriesIn(bytes: Uint8Array, all = false): Generator<Entry> {
    const dv = viewOf(bytes);
    for (let off = 0; off + DirEntry.size <= bytes.length; ) {
      const de = DirEntry.at(dv, off);
      const { rec_len, name_len } = de;
      if (rec_len < DirEntry.size || rec_len % 4 !== 0 || off + rec_len > bytes.length || name_len + 8 > rec_len)
        return;
      if (all || de.inode !== 0)
        yield { ino: de.inode, rec_len, name_len, file_type: de.file_type, name: de.name.bytes(name_len).slice() };
      off += rec_len;
    }
  }

  *entries(ino: number): Generator<Entry> {
    const di = this.directory(ino);
    if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) {
      yield* this.entriesIn(di.i_data.id_data.bytes(Math.min(di.i_size, di.i_data.id_count)));
      return;
    }
    const room = this.blocksize - (this.hasTrailers(di) ? DirBlockTrailer.size : 0);
    for (const blkno of this.dirBlocks(di)) yield* this.entriesIn(this.read(blkno).subarray(0, room));
  }

  directory(ino: number): Dinode {
    const di = this.inode(ino);
    if (!isDir(di.i_mode)) throw new DebugfsError(`inode ${ino} is not a directory`);
    return di;
  }

  lookup(dir: number, name: string): number {
    for (const e of this.entries(dir)) if (textOf(e.name) === name) return e.ino;
    throw new DebugfsError("Directory entry not found");
  }

  /** The inode that a path leads to; "//" before it stands for the system directory, symlinks on the way are followed. */
  namei(path: string, cwd: number, root: number, links = 0): number {
    let at = path.startsWith("/") ? root : cwd;
    const names = path.split("/").filter((n) => n !== "");
    for (const [i, name] of names.entries()) {
      const dir = at;
      at = this.lookup(dir, name);
      const di = this.inode(at);
      if (isLnk(di.i_mode) && i < names.length - 1) {
        if (links >= MAX_SYMLINKS) throw new DebugfsError("too many symbolic links");
        at = this.namei(textOf(this.symlinkTarget(di)), dir, root, links + 1);
      }
    }
    return at;
  }

  systemFile(name: string): number {
    return this.lookup(this.system_dir, name);
  }

  // Allocators --------------------------------------------------------------------------------------------------------
  /** The groups of one chain, first to last. */
  *chain(first: number): Generator<GroupDesc> {
    const seen = new Set<number>();
    for (let blkno = first; blkno !== 0; ) {
      if (seen.has(blkno)) throw new DebugfsError(`the chain from block ${first} comes back to block ${blkno}`);
      seen.add(blkno);
      const group = this.group(blkno);
      yield group;
      blkno = group.bg_next_group;
    }
  }
}

function backupSuper(readAt: ReadAt, at: { blkno: number; blocksize: number }): Dinode | undefined {
  const block = readAt(at.blkno * at.blocksize, at.blocksize).slice();
  if (block.length < at.blocksize || !hasSignature(viewOf(block), 0, SIG_SUPER_BLOCK)) return undefined;
  return DinodeTable.from(block);
}
