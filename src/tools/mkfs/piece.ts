/** A stretch of blocks to be written, rendered at the moment of writing: a large volume has more of them than memory should hold. */
import {
  BlockCheck,
  Dinode,
  DirBlockTrailer,
  DxLeaf,
  DxRootBlock,
  ExtentBlock,
  GroupDesc,
} from "../../format/disk/index.ts";

/** What a piece belongs to, in the order of writing. */
export const STAGES = ["bitmaps", "files", "journals", "backups", "superblock"] as const;
export type Stage = (typeof STAGES)[number];

export interface Piece {
  readonly stage: Stage;
  readonly blkno: number;
  readonly blocks: number;
  /** Where metaecc keeps the checksum in the (one) block, -1 for blocks without one. */
  readonly check_off: number;
  /** Fills the blocks in; the memory is zeroed. */
  render(dv: DataView, off: number): void;
}

/** A stretch of blocks that must read as zeros before the pieces are written. */
export interface ZeroRange {
  readonly stage: Stage;
  readonly off_bytes: number;
  readonly len_bytes: number;
}

export const NO_CHECK = -1;
export const INODE_CHECK = Dinode.fields.i_check.off;
export const GROUP_CHECK = GroupDesc.fields.bg_check.off;
export const EXTENT_BLOCK_CHECK = ExtentBlock.fields.h_check.off;
export const DX_ROOT_CHECK = DxRootBlock.fields.dr_check.off;
export const DX_LEAF_CHECK = DxLeaf.fields.dl_check.off;
export const dirBlockCheck = (block_size: number): number =>
  block_size - DirBlockTrailer.size + DirBlockTrailer.fields.db_check.off;
/** The trailer of a quota block is its checksum. */
export const quotaCheck = (block_size: number): number => block_size - BlockCheck.size;

/** What every block of the volume repeats. */
export interface Identity {
  /** Generation of the volume and of the inodes that it is made with. */
  readonly generation: number;
  /** Seconds. */
  readonly time: number;
  readonly uuid: Uint8Array;
  readonly dx_seed: readonly [number, number, number];
}
