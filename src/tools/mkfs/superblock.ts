/** The super block of a new volume and its copies. Mirrors format_superblock of mkfs.c and ocfs2_write_backup_super of libocfs2. */

import { FEATURE_INCOMPAT } from "../../format/disk/constants.ts";
import {
  backupSuperBlkno,
  Dinode,
  I_FLAGS,
  OCFS2_CLASSIC_CLUSTER_STACK,
  OCFS2_HASH_SHIFT,
  OCFS2_INVALID_SLOT,
  OCFS2_MAJOR_REV_LEVEL,
  OCFS2_MAX_BACKUP_SUPERBLOCKS,
  OCFS2_MIN_XATTR_INLINE_SIZE,
  OCFS2_MINOR_REV_LEVEL,
  OCFS2_SUPER_BLOCK_BLKNO,
  OCFS2_SUPER_BLOCK_SIGNATURE,
} from "../../format/disk/index.ts";
import { addFeatures, NO_FEATURES, removeFeatures } from "./features.ts";
import type { Geometry } from "./geometry.ts";
import type { FeatureSet, MkfsParams } from "./params.ts";
import { type Identity, INODE_CHECK, type Piece, type Stage } from "./piece.ts";

const MAX_MNT_COUNT = 20;

/** The features that go to the disk: those chosen, with what the kind of mount and the cluster bring along. */
export function diskFeatures(p: MkfsParams): FeatureSet {
  if (p.heartbeat_device) return addFeatures(NO_FEATURES, ["heartbeat-device", "strict-journal-super"]);
  let set = p.features;
  if (p.local) set = addFeatures(set, ["local"]);
  if (p.cluster) {
    set = addFeatures(set, ["extended-slotmap"]);
    if ((set.incompat & FEATURE_INCOMPAT.CLUSTERINFO) === 0) {
      set = addFeatures(set, [p.cluster.stack === OCFS2_CLASSIC_CLUSTER_STACK ? "clusterinfo" : "userspace-stack"]);
    }
  }
  return p.backup_super ? addFeatures(set, ["backup-super"]) : removeFeatures(set, ["backup-super"]);
}

/** Mirrors ocfs2_xattr_uuid_hash. */
export function uuidHash(uuid: Uint8Array): number {
  return uuid.reduce((hash, byte) => (hash << OCFS2_HASH_SHIFT) ^ (hash >>> (32 - OCFS2_HASH_SHIFT)) ^ byte, 0) >>> 0;
}

/** Blocks of the backups that lie in the volume. */
export function backupBlocks(g: Geometry): number[] {
  const all = Array.from({ length: OCFS2_MAX_BACKUP_SUPERBLOCKS }, (_, i) => backupSuperBlkno(g.block_size, i));
  return all.filter((blkno) => blkno < g.blocks);
}

export interface SuperPlan {
  readonly features: FeatureSet;
  readonly root_blkno: number;
  readonly system_dir_blkno: number;
}

function superPiece(stage: Stage, blkno: number, p: MkfsParams, plan: SuperPlan, g: Geometry, id: Identity): Piece {
  const render = (dv: DataView, off: number): void => {
    const di = Dinode.at(dv, off);
    di.i_signature = OCFS2_SUPER_BLOCK_SIGNATURE;
    di.i_suballoc_slot = OCFS2_INVALID_SLOT;
    di.i_suballoc_bit = 0xffff;
    di.i_generation = id.generation;
    di.i_fs_generation = id.generation;
    di.i_ctime = id.time;
    di.i_mtime = id.time;
    di.i_blkno = blkno;
    di.i_flags = I_FLAGS.VALID | I_FLAGS.SYSTEM | I_FLAGS.SUPER_BLOCK;
    di.i_clusters = g.clusters;
    const sb = di.i_super;
    sb.s_major_rev_level = OCFS2_MAJOR_REV_LEVEL;
    sb.s_minor_rev_level = OCFS2_MINOR_REV_LEVEL;
    sb.s_max_mnt_count = MAX_MNT_COUNT;
    sb.s_lastcheck = id.time;
    sb.s_feature_compat = plan.features.compat;
    sb.s_feature_incompat = plan.features.incompat;
    sb.s_feature_ro_compat = plan.features.ro_compat;
    sb.s_root_blkno = plan.root_blkno;
    sb.s_system_dir_blkno = plan.system_dir_blkno;
    sb.s_blocksize_bits = g.block_bits;
    sb.s_clustersize_bits = g.cluster_bits;
    sb.s_max_slots = g.slots;
    sb.s_first_cluster_group = g.first_cluster_group_blkno;
    sb.s_label = p.label;
    sb.s_uuid = id.uuid;
    const { incompat } = plan.features;
    if (incompat & FEATURE_INCOMPAT.XATTR) sb.s_xattr_inline_size = OCFS2_MIN_XATTR_INLINE_SIZE;
    if (incompat & (FEATURE_INCOMPAT.XATTR | FEATURE_INCOMPAT.INDEXED_DIRS)) sb.s_uuid_hash = uuidHash(id.uuid);
    if (incompat & FEATURE_INCOMPAT.INDEXED_DIRS) id.dx_seed.forEach((seed, i) => void sb.s_dx_seed.set(i, seed));
    if (p.cluster) {
      sb.s_cluster_info.ci_stack = p.cluster.stack;
      sb.s_cluster_info.ci_cluster = p.cluster.name;
      sb.s_cluster_info.ci_stackflags = p.cluster.flags;
    }
  };
  return { stage, blkno, blocks: 1, check_off: INODE_CHECK, render };
}

/** The super block and, if the volume has them, its backups. */
export function superPieces(
  p: MkfsParams,
  plan: SuperPlan,
  backups: readonly number[],
  g: Geometry,
  id: Identity,
): Piece[] {
  return [
    ...backups.map((blkno) => superPiece("backups", blkno, p, plan, g, id)),
    superPiece("superblock", OCFS2_SUPER_BLOCK_BLKNO, p, plan, g, id),
  ];
}
