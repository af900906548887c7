/**
 * Plans a new volume: hands out every block in the order of mkfs.ocfs2, so that the layout is the same, and says what is to be
 * written. Nothing is written here, so a volume that cannot be made is refused before anything on the device is lost.
 *
 * Mirrors main() and finish_normal_format() of mkfs.c. The order of the steps is the layout: do not reorder them.
 */
import {
  dirRecLen,
  FEATURE_INCOMPAT,
  FEATURE_RO_COMPAT,
  groupBitmapSize,
  I_FLAGS,
  isDir,
  maxInlineData,
  OCFS2_FT_DIR,
  OCFS2_FT_REG_FILE,
  OCFS2_INDEXED_DIR_FL,
  OCFS2_INLINE_DATA_FL,
  OCFS2_INVALID_SLOT,
  OCFS2_MAX_SLOTS,
  S_IFDIR,
  SYSTEM_INODE,
  SYSTEM_INODES,
  type SystemInode,
  systemInodeIsGlobal,
  systemInodeName,
} from "../../format/disk/index.ts";
import { ClusterBitmap } from "./cluster_bitmap.ts";
import { type DirBlock, dirBlockPieces, dotEntries, type EntryPlan, fillEntries, inlineLen, layOutDir } from "./dir.ts";
import { cutRanges, type DxPlan, dxPieces, hashEntries } from "./dx.ts";
import { ExtentTree } from "./extents.ts";
import type { Geometry } from "./geometry.ts";
import { clusterGroupBlkno, clusterGroupPieces, subGroupPieces } from "./group.ts";
import { extentBlockPieces, type InodePlan, inodePiece } from "./inode.ts";
import { journalPiece } from "./journal.ts";
import { fillLeadingSpace } from "./ocfs1.ts";
import { ceilDiv, type FeatureSet, MIB, MkfsError, type MkfsParams } from "./params.ts";
import { type Identity, NO_CHECK, type Piece, type Stage, type ZeroRange } from "./piece.ts";
import { globalQuotaBlocks, globalQuotaPieces, localQuotaPieces, QUOTA_INIT_BLOCKS, type QuotaType } from "./quota.ts";
import { SubAllocator, type SubBlock } from "./suballoc.ts";
import { backupBlocks, diskFeatures, superPieces } from "./superblock.ts";

export interface StagePlan {
  readonly zeros: readonly ZeroRange[];
  /** In the order of their blocks. */
  readonly pieces: Iterable<Piece>;
  readonly piece_count: number;
}

export interface VolumePlan {
  readonly geometry: Geometry;
  /** What the super block will say. */
  readonly features: FeatureSet;
  readonly metaecc: boolean;
  readonly backups: number;
  readonly stages: Readonly<Record<Stage, StagePlan>>;
}

/** Longest name of a system file that room in the system directory is reckoned with. */
const SYSTEM_FILE_NAME_MAX = 40;
const HEARTBEAT_BLOCKS = OCFS2_MAX_SLOTS + 1;
/** Bytes at both ends of the volume that are wiped, so that nothing finds an older file system there. */
const CLEAR_BYTES = MIB;

const SYSTEM = I_FLAGS.VALID | I_FLAGS.SYSTEM;
/** The heartbeat device has no more system files than these. */
const HEARTBEAT_DEVICE_FILES: readonly number[] = [
  SYSTEM_INODE.GLOBAL_INODE_ALLOC,
  SYSTEM_INODE.HEARTBEAT,
  SYSTEM_INODE.GLOBAL_BITMAP,
];
const QUOTA_FILES = [
  {
    type: 0 as QuotaType,
    bit: FEATURE_RO_COMPAT.USRQUOTA,
    global: SYSTEM_INODE.USER_QUOTA,
    local: SYSTEM_INODE.LOCAL_USER_QUOTA,
  },
  {
    type: 1 as QuotaType,
    bit: FEATURE_RO_COMPAT.GRPQUOTA,
    global: SYSTEM_INODE.GROUP_QUOTA,
    local: SYSTEM_INODE.LOCAL_GROUP_QUOTA,
  },
];

/** Inodes that system files take with so many slots, whether their feature is on or not. */
const systemInodeCount = (slots: number): number =>
  SYSTEM_INODES.reduce((n, _, type) => n + (systemInodeIsGlobal(type) ? 1 : slots), 0);

interface DirPlan {
  readonly inode: InodePlan;
  readonly entries: EntryPlan[];
  /** Undefined: the entries are in the inode. */
  readonly tree: ExtentTree | undefined;
  /** Allocated when the index is, filled in when the entries are complete. */
  dx: Pick<DxPlan, "root" | "ranges"> | undefined;
}

class Planner {
  readonly p: MkfsParams;
  readonly g: Geometry;
  readonly id: Identity;
  readonly inline: boolean;
  readonly indexed: boolean;
  readonly trailer: boolean;
  readonly bitmap: ClusterBitmap;
  /** global_inode_alloc, where all system inodes come from. */
  readonly system: SubAllocator;
  readonly extent_alloc: SubAllocator[];
  readonly inode_alloc: SubAllocator[];
  readonly files = new Map<string, InodePlan>();
  readonly trees = new Map<InodePlan, ExtentTree>();
  readonly dirs: DirPlan[] = [];
  readonly pieces: Piece[] = [];
  backups: number[] = [];

  constructor(p: MkfsParams, g: Geometry, id: Identity) {
    this.p = p;
    this.g = g;
    this.id = id;
    this.inline = (p.features.incompat & FEATURE_INCOMPAT.INLINE_DATA) !== 0;
    this.indexed = (p.features.incompat & FEATURE_INCOMPAT.INDEXED_DIRS) !== 0;
    this.trailer = this.indexed || (p.features.incompat & FEATURE_INCOMPAT.META_ECC) !== 0;
    this.bitmap = new ClusterBitmap(g);
    const per_slot = (): SubAllocator[] =>
      Array.from({ length: g.slots }, () => new SubAllocator(g, this.bitmap, g.suballoc_cpg));
    this.extent_alloc = per_slot();
    this.inode_alloc = per_slot();
    // Super block, root, system directory and lost+found are counted in as they always were, though not all are taken from here.
    const inodes = 6 + systemInodeCount(Math.max(32, g.slots));
    this.system = new SubAllocator(g, this.bitmap, ceilDiv(inodes, g.bpc));
    this.system.addGroupAt(this.bitmap.allocByChains(this.system.cpg));
  }

  // ---- inodes ----

  #newSystemInode(mode: number, flags: number): InodePlan {
    const { blkno, bit } = this.system.alloc();
    return this.#newInode({ blkno, bit, group_blkno: 0 }, OCFS2_INVALID_SLOT, mode, SYSTEM | flags);
  }

  #newInode(at: SubBlock, slot: number, mode: number, flags: number): InodePlan {
    const tree = new ExtentTree(this.g);
    const inode: InodePlan = {
      blkno: at.blkno,
      suballoc_slot: slot,
      suballoc_bit: at.bit,
      suballoc_loc: at.group_blkno,
      mode,
      flags,
      links: 1,
      size: 0,
      clusters: 0,
      dyn_features: 0,
      dx_root: 0,
      body: { kind: "extents", tree },
    };
    this.trees.set(inode, tree);
    return inode;
  }

  #file(type: SystemInode, slot = 0): InodePlan {
    const inode = this.files.get(systemInodeName(type, slot));
    if (!inode) throw new Error(`no system file ${systemInodeName(type, slot)}`);
    return inode;
  }

  #treeOf(inode: InodePlan): ExtentTree {
    return this.trees.get(inode)!;
  }

  /** Grows a file's allocation the way libocfs2 does. */
  #grow(inode: InodePlan, clusters: number): ExtentTree {
    const tree = this.#treeOf(inode);
    tree.grow(clusters, this.bitmap, this.extent_alloc[0]!);
    return tree;
  }

  /** Gives a file its one extent the way mkfs itself does. */
  #allocExtent(inode: InodePlan, clusters: number): ExtentTree {
    const tree = this.#treeOf(inode);
    tree.append(this.bitmap.allocByChains(clusters), clusters, this.system);
    return tree;
  }

  #newDir(inode: InodePlan, parent_blkno: number, inline: boolean): DirPlan {
    const dir: DirPlan = {
      inode,
      entries: dotEntries(inode.blkno, parent_blkno),
      tree: inline ? undefined : this.#treeOf(inode),
      dx: undefined,
    };
    this.dirs.push(dir);
    return dir;
  }

  #wanted(type: SystemInode): boolean {
    const quota = QUOTA_FILES.find((q) => q.global === type || q.local === type);
    if (quota && (this.p.features.ro_compat & quota.bit) === 0) return false;
    return !this.p.heartbeat_device || HEARTBEAT_DEVICE_FILES.includes(type);
  }

  // ---- the steps ----

  rootAndSystemDir(): { root: DirPlan; system_dir: DirPlan } {
    const DIR_MODE = S_IFDIR | 0o755;
    // The cluster of a directory is taken before its inode; both come from different bitmaps, so only the clusters' order matters.
    const root_inode = this.#newSystemInode(DIR_MODE, 0);
    if (!this.inline) this.#allocExtent(root_inode, 1);
    const root = this.#newDir(root_inode, root_inode.blkno, this.inline);

    const count = systemInodeCount(this.g.slots);
    const each = dirRecLen(SYSTEM_FILE_NAME_MAX);
    const inline = this.inline && each * count <= maxInlineData(this.g.block_size);
    const dir_inode = this.#newSystemInode(DIR_MODE, 0);
    if (!inline) {
      const blocks = ceilDiv(count, Math.floor(this.g.block_size / each));
      this.#allocExtent(dir_inode, ceilDiv(blocks, this.g.bpc));
    }
    return { root, system_dir: this.#newDir(dir_inode, dir_inode.blkno, inline) };
  }

  systemFiles(system_dir: DirPlan): void {
    SYSTEM_INODES.forEach((info, i) => {
      const type = i as SystemInode;
      if (!this.#wanted(type)) return;
      const flags = type === SYSTEM_INODE.GLOBAL_BITMAP ? I_FLAGS.BITMAP | I_FLAGS.CHAIN : info.iflags;
      const count = systemInodeIsGlobal(type) ? 1 : this.g.slots;
      for (let slot = 0; slot < count; slot++) {
        const inode = this.#newSystemInode(info.mode, flags);
        const name = systemInodeName(type, slot);
        this.files.set(name, inode);
        const file_type = isDir(info.mode) ? OCFS2_FT_DIR : OCFS2_FT_REG_FILE;
        system_dir.entries.push({ name, blkno: inode.blkno, file_type });
      }
    });
  }

  heartbeat(): void {
    const inode = this.#file(SYSTEM_INODE.HEARTBEAT);
    inode.size = HEARTBEAT_BLOCKS * this.g.block_size;
    this.#allocExtent(inode, ceilDiv(HEARTBEAT_BLOCKS, this.g.bpc));
  }

  orphanDirs(system_dir: DirPlan): DirPlan[] {
    return Array.from({ length: this.g.slots }, (_, slot) => {
      const inode = this.#file(SYSTEM_INODE.ORPHAN_DIR, slot);
      if (!this.inline) this.#allocExtent(inode, 1);
      return this.#newDir(inode, system_dir.inode.blkno, this.inline);
    });
  }

  backupSupers(): void {
    if (!this.p.backup_super) return;
    this.backups = backupBlocks(this.g);
    for (const blkno of this.backups) {
      const cluster = Math.floor(blkno / this.g.bpc);
      if (this.bitmap.isSet(cluster)) {
        throw new MkfsError(
          `block ${blkno} is taken and cannot hold a backup super block; add --fs-features=nobackup-super`,
        );
      }
      this.bitmap.set(cluster);
    }
  }

  journals(): void {
    for (let slot = 0; slot < this.g.slots; slot++) {
      const inode = this.#file(SYSTEM_INODE.JOURNAL, slot);
      const tree = this.#grow(inode, this.g.journal_bytes / this.g.cluster_size);
      inode.size = this.g.journal_bytes;
      this.pieces.push(journalPiece(tree.blockAt(0), this.p.journal64, this.g, this.id));
    }
  }

  extentAllocators(): void {
    const groups = this.g.extent_alloc_clusters / this.g.suballoc_cpg;
    for (const alloc of this.extent_alloc) for (let i = 0; i < groups; i++) alloc.addGroup();
  }

  /** The map fills its clusters: zeros where an entry has a flag of its own, else the number of no slot. */
  slotMap(features: FeatureSet): void {
    const inode = this.#file(SYSTEM_INODE.SLOT_MAP);
    const extended =
      (features.incompat & (FEATURE_INCOMPAT.EXTENDED_SLOT_MAP | FEATURE_INCOMPAT.USERSPACE_STACK)) !== 0;
    const clusters = ceilDiv(this.g.slots * (extended ? 8 : 2), this.g.cluster_size);
    const tree = this.#grow(inode, clusters);
    inode.size = clusters * this.g.cluster_size;
    if (extended) return;
    for (const rec of tree.recs) {
      const blocks = rec.clusters * this.g.bpc;
      const render = (dv: DataView, off: number): void => {
        new Uint8Array(dv.buffer, dv.byteOffset + off, blocks * this.g.block_size).fill(0xff);
      };
      this.pieces.push({ stage: "files", blkno: rec.blkno, blocks, check_off: NO_CHECK, render });
    }
  }

  /** Both kinds of files first, then the rest of the global ones: a file grows by single clusters when usage is written. */
  quotaFiles(): void {
    const { block_size, bpc } = this.g;
    const kinds = QUOTA_FILES.filter((q) => this.#wanted(q.global));
    for (const q of kinds) {
      this.#grow(this.#file(q.global), ceilDiv(QUOTA_INIT_BLOCKS, bpc));
      for (let slot = 0; slot < this.g.slots; slot++) {
        const inode = this.#file(q.local, slot);
        const tree = this.#grow(inode, ceilDiv(QUOTA_INIT_BLOCKS, bpc));
        inode.size = QUOTA_INIT_BLOCKS * block_size;
        this.pieces.push(...localQuotaPieces(q.type, block_size, (v) => tree.blockAt(v)));
      }
    }
    for (const q of kinds) {
      const inode = this.#file(q.global);
      const tree = this.#treeOf(inode);
      const blocks = globalQuotaBlocks(block_size);
      while (tree.clusters * bpc < blocks) this.#grow(inode, 1);
      inode.size = blocks * block_size;
    }
  }

  indexDirs(dirs: readonly DirPlan[]): void {
    if (!this.indexed || this.inline) return;
    for (const dir of dirs) dir.dx = { root: this.extent_alloc[0]!.alloc(), ranges: [] };
  }

  /**
   * Indexes a system directory that does not fit its inode. mkfs.ocfs2 leaves it out, and fsck.ocfs2 then asks to rebuild the index. It
   * comes last, so that the layout of all else stays the same; left out where there is no room or no cut of the hashes.
   */
  indexSystemDir(dir: DirPlan): void {
    if (!this.indexed || dir.dx || !dir.tree || !this.p.index_system_dir) return;
    const ranges = cutRanges(hashEntries(this.#blocksOf(dir), this.id), this.g);
    const alloc = this.extent_alloc[0]!;
    if (!ranges || !this.bitmap.hasRange(ranges.length + (alloc.hasRoom ? 0 : alloc.cpg))) return;
    const root = alloc.alloc();
    dir.dx = {
      root,
      ranges: ranges.map((range) => ({ ...range, blkno: this.bitmap.allocRange(1, 1).start * this.g.bpc })),
    };
  }

  #blocksOf({ entries, tree }: DirPlan): DirBlock[] {
    return layOutDir(entries, this.trailer, (v) => tree!.blockAt(v), this.g.block_size);
  }

  lostAndFound(root: DirPlan): DirPlan {
    const inode = this.#newInode(this.inode_alloc[0]!.alloc(), 0, S_IFDIR | 0o755, I_FLAGS.VALID);
    const dir = this.#newDir(inode, root.inode.blkno, this.inline);
    if (!this.inline) this.#grow(inode, 1);
    this.indexDirs([dir]);
    root.entries.push({ name: "lost+found", blkno: inode.blkno, file_type: OCFS2_FT_DIR });
    return dir;
  }

  // ---- what came of it ----

  finishQuota(owned: readonly DirPlan[]): void {
    const clusters = owned.reduce((n, d) => n + (d.tree?.clusters ?? 0), 0);
    const usage = { inodes: owned.length, space_bytes: clusters * this.g.cluster_size };
    for (const q of QUOTA_FILES.filter((x) => this.#wanted(x.global))) {
      const tree = this.#treeOf(this.#file(q.global));
      this.pieces.push(...globalQuotaPieces(q.type, this.g.block_size, (v) => tree.blockAt(v), usage));
    }
  }

  finishDirs(): void {
    const { g } = this;
    for (const dir of this.dirs) {
      const { inode, entries, dx } = dir;
      inode.links = entries.filter((e) => e.file_type === OCFS2_FT_DIR).length;
      if (!dir.tree) {
        if (inlineLen(entries) > maxInlineData(g.block_size)) throw new Error("a directory does not fit its inode");
        inode.size = maxInlineData(g.block_size);
        inode.dyn_features |= OCFS2_INLINE_DATA_FL;
        inode.body = { kind: "inline", fill: (dv, off, len) => fillEntries(dv, off, len, entries) };
        continue;
      }
      const blocks = this.#blocksOf(dir);
      const shape = { self_blkno: inode.blkno, trailer: this.trailer, indexed: dx !== undefined };
      inode.size = blocks.length * g.block_size;
      this.pieces.push(...dirBlockPieces(shape, blocks, g.block_size));
      if (dx) {
        inode.dyn_features |= OCFS2_INDEXED_DIR_FL;
        inode.dx_root = dx.root.blkno;
        const plan = { ...dx, entries: hashEntries(blocks, this.id) };
        this.pieces.push(...dxPieces(inode.blkno, blocks, plan, g, this.id));
      }
    }
  }

  #finishChains(inode: InodePlan, alloc: SubAllocator, bitmap_bytes: number): void {
    const { total, used, chains, cpg } = alloc;
    inode.body = { kind: "chains", cpg, bpc: this.g.bpc, used, total, chains };
    inode.clusters = alloc.clusters;
    inode.size = alloc.clusters * this.g.cluster_size;
    this.pieces.push(...subGroupPieces(alloc, inode.blkno, bitmap_bytes, this.id));
  }

  finishAllocators(): void {
    const { g, bitmap } = this;
    const whole_block = groupBitmapSize(g.block_size, false, 0);
    const sub_bytes = groupBitmapSize(g.block_size, true, this.p.features.incompat);
    this.#finishChains(this.#file(SYSTEM_INODE.GLOBAL_INODE_ALLOC), this.system, whole_block);
    for (let slot = 0; slot < g.slots; slot++) {
      this.#finishChains(this.#file(SYSTEM_INODE.EXTENT_ALLOC, slot), this.extent_alloc[slot]!, sub_bytes);
      this.#finishChains(this.#file(SYSTEM_INODE.INODE_ALLOC, slot), this.inode_alloc[slot]!, sub_bytes);
      this.#file(SYSTEM_INODE.LOCAL_ALLOC, slot).body = { kind: "local_alloc" };
      this.#file(SYSTEM_INODE.TRUNCATE_LOG, slot).body = { kind: "truncate_log" };
    }
    const chains = Array.from({ length: bitmap.chain_count }, (_, chain) => {
      const rec = { blkno: clusterGroupBlkno(chain, g), total: 0, free: 0 };
      for (const group of bitmap.chain(chain)) {
        rec.total += bitmap.bits(group);
        rec.free += bitmap.free(group);
      }
      return rec;
    });
    const inode = this.#file(SYSTEM_INODE.GLOBAL_BITMAP);
    inode.body = { kind: "chains", cpg: whole_block * 8, bpc: 1, used: bitmap.used, total: g.clusters, chains };
    inode.clusters = g.clusters;
    inode.size = g.volume_bytes;
  }

  /** Writes inodes and extent blocks, and lists what of their clusters must be zeros. */
  finishInodes(): ZeroRange[] {
    const zeros: ZeroRange[] = [];
    for (const [inode, tree] of this.trees) {
      if (inode.body.kind === "extents") inode.clusters = tree.clusters;
      this.pieces.push(inodePiece(inode, this.g, this.id), ...extentBlockPieces(tree, this.g, this.id));
      const stage: Stage = inode.flags & I_FLAGS.JOURNAL ? "journals" : "files";
      for (const rec of tree.recs) zeros.push(this.#clusters(stage, rec.blkno, rec.clusters));
    }
    for (const blkno of this.backups) zeros.push(this.#clusters("backups", blkno - (blkno % this.g.bpc), 1));
    return zeros;
  }

  #clusters(stage: Stage, blkno: number, clusters: number): ZeroRange {
    return { stage, off_bytes: blkno * this.g.block_size, len_bytes: clusters * this.g.cluster_size };
  }

  bothEnds(): ZeroRange[] {
    const len_bytes = Math.min(CLEAR_BYTES, this.g.volume_bytes);
    return [0, this.g.volume_bytes - len_bytes].map((off_bytes) => ({ stage: "bitmaps", off_bytes, len_bytes }));
  }
}

/** Plans a volume of this geometry. Throws MkfsError when it has no room for what it needs. */
export function planVolume(p: MkfsParams, g: Geometry, id: Identity): VolumePlan {
  const planner = new Planner(p, g, id);
  const features = diskFeatures(p);
  const { root, system_dir } = planner.rootAndSystemDir();
  planner.systemFiles(system_dir);
  planner.heartbeat();
  if (!p.heartbeat_device) {
    const orphan_dirs = planner.orphanDirs(system_dir);
    planner.backupSupers();
    planner.journals();
    planner.extentAllocators();
    planner.slotMap(features);
    planner.quotaFiles();
    planner.indexDirs([root, ...orphan_dirs]);
    const lost_found = planner.lostAndFound(root);
    planner.indexSystemDir(system_dir);
    planner.finishQuota([root, lost_found]);
  }
  planner.finishDirs();
  planner.finishAllocators();
  const zeros = [...planner.bothEnds(), ...planner.finishInodes()];
  planner.pieces.push(
    ...superPieces(
      p,
      { features, root_blkno: root.inode.blkno, system_dir_blkno: system_dir.inode.blkno },
      planner.backups,
      g,
      id,
    ),
    leadingSpacePiece(g),
  );
  return {
    geometry: g,
    features,
    metaecc: (features.incompat & FEATURE_INCOMPAT.META_ECC) !== 0,
    backups: planner.backups.length,
    stages: byStage(planner, zeros),
  };
}

const LEADING_BLOCKS = 2;

function leadingSpacePiece(g: Geometry): Piece {
  const render = (dv: DataView, off: number): void => fillLeadingSpace(dv, off, LEADING_BLOCKS * g.block_size);
  return { stage: "superblock", blkno: 0, blocks: LEADING_BLOCKS, check_off: NO_CHECK, render };
}

function byStage(planner: Planner, zeros: readonly ZeroRange[]): Record<Stage, StagePlan> {
  const pick = (stage: Stage): StagePlan => {
    const pieces = planner.pieces.filter((x) => x.stage === stage).sort((a, b) => a.blkno - b.blkno);
    return { zeros: zeros.filter((z) => z.stage === stage), pieces, piece_count: pieces.length };
  };
  const { bitmap, g, id } = planner;
  const parent = planner.files.get(systemInodeName(SYSTEM_INODE.GLOBAL_BITMAP))!.blkno;
  return {
    bitmaps: {
      zeros: zeros.filter((z) => z.stage === "bitmaps"),
      // Made one by one: a large volume has a hundred thousand.
      pieces: { [Symbol.iterator]: () => clusterGroupPieces(bitmap, parent, g, id) },
      piece_count: bitmap.group_count,
    },
    files: pick("files"),
    journals: pick("journals"),
    backups: pick("backups"),
    superblock: pick("superblock"),
  };
}
