/**
 * How much fits where: the room for records in each kind of block, from the tables and the block size in bytes.
 * Mirrors the static inline functions at the end of ocfs2_fs.h, by name.
 */
import { ChainList, ChainRec, GroupDesc, LocalAlloc, TruncateLog, TruncateRec } from "./alloc.ts";
import {
  DYN_FEATURES,
  FEATURE_INCOMPAT,
  OCFS2_32BIT_POS_MASK,
  OCFS2_BACKUP_SB_START,
  OCFS2_INVALID_SLOT,
  OCFS2_MAX_BACKUP_SUPERBLOCKS,
  OCFS2_MAX_BG_BITMAP_SIZE,
  OCFS2_QBLK_RESERVED_SPACE,
} from "./constants.ts";
import { Dinode, InlineData } from "./dinode.ts";
import { DxEntry, DxEntryList, DxLeaf, DxRootBlock } from "./dir.ts";
import { ExtentBlock, ExtentList, ExtentRec } from "./extent.ts";
import { RefcountBlock, RefcountList, RefcountRec } from "./refcount.ts";
import { XattrBlock, XattrTreeRoot } from "./xattr.ts";

const room = (blocksize: number, start: number, elemSize: number): number => Math.floor((blocksize - start) / elemSize);

const L_RECS = ExtentList.fields.l_recs.off;
const I_LIST_RECS = Dinode.fields.i_list.off + L_RECS;
const ID_DATA = Dinode.fields.i_data.off + InlineData.fields.id_data.off;

/** The fields that say how much of an inode block inline attributes take. */
export interface XattrShare {
  readonly i_dyn_features: number;
  readonly i_xattr_inline_size: number;
}

const inlineXattr = (di: XattrShare | null): number =>
  di && di.i_dyn_features & DYN_FEATURES.INLINE_XATTR ? di.i_xattr_inline_size : 0;

export const fastSymlinkChars = (blocksize: number): number => blocksize - Dinode.fields.i_symlink.off;
export const maxInlineData = (blocksize: number): number => blocksize - ID_DATA;
export const maxInlineDataWithXattr = (blocksize: number, di: XattrShare | null): number =>
  blocksize - ID_DATA - inlineXattr(di);
export const extentRecsPerInode = (blocksize: number): number => room(blocksize, I_LIST_RECS, ExtentRec.size);
export const extentRecsPerInodeWithXattr = (blocksize: number, di: XattrShare | null): number =>
  room(blocksize - inlineXattr(di), I_LIST_RECS, ExtentRec.size);
export const extentRecsPerDxRoot = (blocksize: number): number =>
  room(blocksize, DxRootBlock.fields.dr_list.off + L_RECS, ExtentRec.size);
export const chainRecsPerInode = (blocksize: number): number =>
  room(blocksize, Dinode.fields.i_chain.off + ChainList.fields.cl_recs.off, ChainRec.size);
export const extentRecsPerEb = (blocksize: number): number =>
  room(blocksize, ExtentBlock.fields.h_list.off + L_RECS, ExtentRec.size);
export const extentRecsPerGd = (blocksize: number): number =>
  room(blocksize, GroupDesc.fields.bg_list.off + L_RECS, ExtentRec.size);
export const dxEntriesPerLeaf = (blocksize: number): number =>
  room(blocksize, DxLeaf.fields.dl_list.off + DxEntryList.fields.de_entries.off, DxEntry.size);
export const dxEntriesPerRoot = (blocksize: number): number =>
  room(blocksize, DxRootBlock.fields.dr_entries.off + DxEntryList.fields.de_entries.off, DxEntry.size);
/** Bytes of the local allocation bitmap. */
export const localAllocSize = (blocksize: number): number =>
  blocksize - Dinode.fields.i_lab.off - LocalAlloc.fields.la_bitmap.off;
export const truncateRecsPerInode = (blocksize: number): number =>
  room(blocksize, Dinode.fields.i_dealloc.off + TruncateLog.fields.tl_recs.off, TruncateRec.size);
export const xattrRecsPerXb = (blocksize: number): number =>
  room(blocksize, XattrBlock.fields.xb_root.off + XattrTreeRoot.fields.xt_list.off + L_RECS, ExtentRec.size);
export const extentRecsPerRb = (blocksize: number): number =>
  room(blocksize, RefcountBlock.fields.rf_list.off + L_RECS, ExtentRec.size);
export const refcountRecsPerRb = (blocksize: number): number =>
  room(blocksize, RefcountBlock.fields.rf_records.off + RefcountList.fields.rl_recs.off, RefcountRec.size);

/**
 * Bytes of a group's bitmap. A cluster group uses its whole block. A suballocator never used more than 256, but old
 * code expects the full size in bg_size, so only discontig-bg makes it say 256.
 */
export function groupBitmapSize(blocksize: number, suballocator: boolean, featureIncompat: number): number {
  if (suballocator && featureIncompat & FEATURE_INCOMPAT.DISCONTIG_BG) return OCFS2_MAX_BG_BITMAP_SIZE;
  return blocksize - GroupDesc.fields.bg_bitmap.off;
}

/** Block number of a backup super block, 0 if there is none of that index. */
export function backupSuperBlkno(blocksize: number, index: number): number {
  if (index < 0 || index >= OCFS2_MAX_BACKUP_SUPERBLOCKS) return 0;
  return Math.floor((OCFS2_BACKUP_SB_START * 4 ** index) / blocksize);
}

/** Where the quota trailer starts in a block of a quota file. */
export const dqtrailerOff = (blocksize: number): number => blocksize - OCFS2_QBLK_RESERVED_SPACE;

/** The part of r_cpos that is comparable with the 32-bit positions of the tree above. */
export const refRecLowCpos = (rCpos: number): number => (rCpos & OCFS2_32BIT_POS_MASK) >>> 0;

export interface GroupShape {
  readonly bg_size: number;
  readonly bg_list: { readonly l_next_free_rec: number };
}

/** Whether the group's extents are in bg_list. Mirrors ocfs2_gd_is_discontig. */
export function gdIsDiscontig(gd: GroupShape): boolean {
  if (GroupDesc.fields.bg_bitmap.off + gd.bg_size !== GroupDesc.fields.bg_list.off) return false;
  return gd.bg_list.l_next_free_rec !== 0;
}

/** A link count from its two halves; mirrors ocfs2_read_links_count. */
export const linksCount = (di: { readonly i_links_count: number; readonly i_links_count_hi: number }): number =>
  di.i_links_count + di.i_links_count_hi * 0x10000;

/** A slot number as the suballocators store it: OCFS2_INVALID_SLOT stands for the global allocator. */
export const suballocSlotIsGlobal = (slot: number): boolean => slot === OCFS2_INVALID_SLOT;
