/**
 * Quota files of a new volume: the global one with its radix tree down to the one id that owns anything, root, and each slot's empty
 * local one. Mirrors ocfs2_init_global_quota_file, ocfs2_init_local_quota_file and ocfs2_write_dquot of libocfs2's quota.c, but
 * lost+found is counted too (libocfs2 counts before it makes it), as quotacheck would.
 */
import {
  DiskDqheader,
  dqtrailerOff,
  GlobalDiskDqblk,
  GlobalDiskDqinfo,
  LocalDiskDqinfo,
  OCFS2_GLOBAL_INFO_OFF,
  OCFS2_GLOBAL_QMAGICS,
  OCFS2_GLOBAL_QVERSIONS,
  OCFS2_LOCAL_INFO_OFF,
  OCFS2_LOCAL_QMAGICS,
  OCFS2_LOCAL_QVERSIONS,
  OLQF_CLEAN,
  QtDiskDqdbheader,
} from "../../format/disk/index.ts";
import { type Piece, quotaCheck } from "./piece.ts";

/** USRQUOTA or GRPQUOTA. */
export type QuotaType = 0 | 1;

/** Blocks that either kind of file starts with: the header and the tree's root, or the header and one chunk. */
export const QUOTA_INIT_BLOCKS = 2;

const GRACE_SEC = 7 * 24 * 60 * 60;
const SYNC_MS = 10_000;
/** Logical block of the tree's root. */
const TREE_BLOCK = 1;

/** Levels of the tree: blocks of references above the data block. Mirrors ocfs2_qtree_depth. */
export function qtreeDepth(block_size: number): number {
  const refs = dqtrailerOff(block_size) / 4;
  let depth = 1;
  for (let ids = refs; ids < 2 ** 32; ids *= refs) depth++;
  return depth;
}

/** Blocks of a global file with one id: header, one block for each level, one of data. */
export const globalQuotaBlocks = (block_size: number): number => QUOTA_INIT_BLOCKS + qtreeDepth(block_size);

export interface QuotaUsage {
  readonly inodes: number;
  readonly space_bytes: number;
}

type Locate = (v_blkno: number) => number;

function quotaPiece(blkno: number, block_size: number, render: Piece["render"]): Piece {
  return { stage: "files", blkno, blocks: 1, check_off: quotaCheck(block_size), render };
}

/** All blocks of the global file. Id 0 is index 0 on each level, so each level refers to the next block by its first word. */
export function globalQuotaPieces(type: QuotaType, block_size: number, blockAt: Locate, usage: QuotaUsage): Piece[] {
  const blocks = globalQuotaBlocks(block_size);
  const data = blocks - 1;
  const pieces: Piece[] = [];
  for (let v = 0; v < blocks; v++) {
    pieces.push(
      quotaPiece(blockAt(v), block_size, (dv, off) => {
        if (v === 0) {
          const header = DiskDqheader.at(dv, off);
          header.dqh_magic = OCFS2_GLOBAL_QMAGICS[type];
          header.dqh_version = OCFS2_GLOBAL_QVERSIONS[type];
          const info = GlobalDiskDqinfo.at(dv, off + OCFS2_GLOBAL_INFO_OFF);
          info.dqi_bgrace = GRACE_SEC;
          info.dqi_igrace = GRACE_SEC;
          info.dqi_syncms = SYNC_MS;
          info.dqi_blocks = blocks;
          info.dqi_free_entry = data;
        } else if (v < data) {
          dv.setUint32(off, v + TREE_BLOCK, true);
        } else {
          QtDiskDqdbheader.at(dv, off).dqdh_entries = 1;
          const dq = GlobalDiskDqblk.at(dv, off + QtDiskDqdbheader.size);
          dq.dqb_curinodes = usage.inodes;
          dq.dqb_curspace = usage.space_bytes;
        }
      }),
    );
  }
  return pieces;
}

/** Both blocks of a slot's file. The chunk has no entries yet, so that its block is zeros. */
export function localQuotaPieces(type: QuotaType, block_size: number, blockAt: Locate): Piece[] {
  return [
    quotaPiece(blockAt(0), block_size, (dv, off) => {
      const header = DiskDqheader.at(dv, off);
      header.dqh_magic = OCFS2_LOCAL_QMAGICS[type];
      header.dqh_version = OCFS2_LOCAL_QVERSIONS[type];
      const info = LocalDiskDqinfo.at(dv, off + OCFS2_LOCAL_INFO_OFF);
      info.dqi_flags = OLQF_CLEAN;
      info.dqi_chunks = 1;
      info.dqi_blocks = QUOTA_INIT_BLOCKS;
    }),
    quotaPiece(blockAt(1), block_size, () => {}),
  ];
}
