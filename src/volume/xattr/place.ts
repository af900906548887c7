/**
 * The places that hold attributes, and their blocks: the end of an inode's block, its xattr block, and the buckets of
 * its tree (xattr.c: struct ocfs2_xa_loc, struct ocfs2_xattr_bucket).
 *
 * A bucket has 4096 bytes whatever the block size, and one checksum over all of them. So its blocks are joined to an
 * operation together, and share an ecc group by which the journal computes the checksum when it freezes them: a block that
 * went to the log alone would leave a bucket that no node accepts.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  Dinode,
  DYN_FEATURES,
  ExtentList,
  ExtentRec,
  FEATURE_INCOMPAT,
  fastSymlinkChars,
  I_FLAGS,
  ID2_OFF,
  isLnk,
  OCFS2_MIN_BLOCKSIZE,
  OCFS2_MIN_XATTR_INLINE_SIZE,
  OCFS2_XATTR_BLOCK_SIGNATURE,
  OCFS2_XATTR_BUCKET_SIZE,
  XATTR_BLOCK_FLAGS,
  XattrBlock,
  XattrHeader,
} from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { claimMetadata } from "../alloc/suballoc.ts";
import { dinodeOf, type Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { type Area, checkArea } from "./area.ts";

/** One place, for the length of a run. */
export class Place {
  readonly bhs: readonly Bh[];
  readonly area: Area;
  /** Offset of the header in the first block. */
  readonly #start: number;
  /** The bucket's bytes in one piece, when its blocks are several: they are anywhere in the arena. */
  readonly #flat: Uint8Array | null;

  constructor(osb: Osb, bhs: readonly Bh[], start: number, size: number, bucket: boolean) {
    const { dv, u8 } = osb.cache;
    const first = bhs[0]!;
    this.bhs = bhs;
    this.#start = start;
    const common = { size, bucket, unit: osb.geo.blocksize, blkno: first.blkno };
    if (bhs.length === 1) {
      this.#flat = null;
      this.area = { dv, u8, base: first.addr + start, ...common };
    } else {
      const flat = new Uint8Array(size);
      this.#flat = flat;
      this.area = { dv: new DataView(flat.buffer), u8: flat, base: 0, ...common };
      this.load(osb);
    }
  }

  /** Takes over what others changed in the blocks (the extent tree of a value). */
  load(osb: Osb): void {
    const bytes = osb.geo.blocksize;
    this.bhs.forEach((bh, i) => {
      this.#flat?.set(osb.cache.u8.subarray(bh.addr, bh.addr + bytes), i * bytes);
    });
  }

  /** Joins the blocks to the operation. Call before the area is changed. */
  modify(op: Op): void {
    for (const bh of this.bhs) op.modify(bh);
  }

  /** Puts the changed area into the blocks. */
  store(osb: Osb): void {
    const flat = this.#flat;
    if (flat === null) return;
    const bytes = osb.geo.blocksize;
    this.bhs.forEach((bh, i) => {
      osb.cache.u8.set(flat.subarray(i * bytes, (i + 1) * bytes), bh.addr);
    });
  }

  /** The block that holds byte `off` of the area, and that byte's arena address. */
  at(osb: Osb, off: number): { bh: Bh; addr: number } {
    const from = this.#start + off;
    const bh = this.bhs[Math.floor(from / osb.geo.blocksize)]!;
    return { bh, addr: bh.addr + (from % osb.geo.blocksize) };
  }
}

// In the inode ------------------------------------------------------------------------------------------------------

/** The inode's own attributes, undefined when its block has no room set aside for any. */
export function inlinePlace(op: Op, di_bh: Bh): Place | undefined {
  const di = dinodeOf(op, di_bh);
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_XATTR) === 0) return undefined;
  const size = di.i_xattr_inline_size;
  const { blocksize } = op.osb.geo;
  if (size < XattrHeader.size || size % 4 !== 0 || size > blocksize - ID2_OFF - ExtentList.size)
    throw new Corruption("xattr.inline", { ino: di_bh.blkno, i_xattr_inline_size: size });
  const place = new Place(op.osb, [di_bh], blocksize - size, size, false);
  checkArea(place.area);
  return place;
}

const isFastSymlink = (di: Dinode): boolean => isLnk(di.i_mode) && di.i_clusters === 0;

/** Bytes of the inode's block that attributes could have, 0 when what is there leaves no room (ocfs2_xattr_has_space_inline). */
export function inlineRoom(op: Op, di_bh: Bh): number {
  const { blocksize, xattr_inline_size } = op.osb.geo;
  const di = dinodeOf(op, di_bh);
  if (blocksize === OCFS2_MIN_BLOCKSIZE || xattr_inline_size < OCFS2_MIN_XATTR_INLINE_SIZE) return 0;
  if ((di.i_flags & I_FLAGS.SYSTEM) !== 0) return 0;
  let free: number;
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) free = di.i_data.id_count - di.i_size;
  else if (isFastSymlink(di)) free = fastSymlinkChars(blocksize) - di.i_size;
  else free = (di.i_list.l_count - di.i_list.l_next_free_rec) * ExtentRec.size;
  return free >= xattr_inline_size ? xattr_inline_size : 0;
}

/** Sets the end of the inode's block aside for attributes: data and extents have that much less (ocfs2_xattr_ibody_init). */
export function createInline(op: Op, di_bh: Bh): Place {
  op.modify(di_bh);
  const { blocksize } = op.osb.geo;
  const size = inlineRoom(op, di_bh);
  const di = dinodeOf(op, di_bh);
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) di.i_data.id_count -= size;
  else if (!isFastSymlink(di)) di.i_list.l_count -= Math.floor(size / ExtentRec.size);
  di.i_xattr_inline_size = size;
  di.i_dyn_features |= DYN_FEATURES.INLINE_XATTR | DYN_FEATURES.HAS_XATTR;
  op.osb.cache.u8.fill(0, di_bh.addr + blocksize - size, di_bh.addr + blocksize);
  return inlinePlace(op, di_bh)!;
}

/** Gives the end of the inode's block back to what it was taken from. No attribute may be left in it. */
export function dropInline(op: Op, di_bh: Bh): void {
  const di = dinodeOf(op, di_bh);
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_XATTR) === 0) return;
  const { blocksize } = op.osb.geo;
  const size = di.i_xattr_inline_size;
  op.modify(di_bh);
  op.osb.cache.u8.fill(0, di_bh.addr + blocksize - size, di_bh.addr + blocksize);
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) di.i_data.id_count += size;
  else if (!isFastSymlink(di)) di.i_list.l_count += Math.floor(size / ExtentRec.size);
  di.i_dyn_features &= ~DYN_FEATURES.INLINE_XATTR;
  di.i_xattr_inline_size = 0;
}

// In a block --------------------------------------------------------------------------------------------------------

const BLOCK_HEADER_OFF = XattrBlock.fields.xb_header.off;

/** The inode's xattr block, undefined when it has none. */
export function readXattrBlock(op: Op, inode: Inode, di_bh: Bh): Bh | undefined {
  const loc = Dinode.at(op.osb.cache.dv, di_bh.addr).i_xattr_loc;
  return loc === 0 ? undefined : op.read(inode, loc, op.osb.kinds.xattr_block);
}

/** Whether the block is the root of a tree of buckets. */
export const isIndexed = (op: Op, xb_bh: Bh): boolean =>
  (XattrBlock.at(op.osb.cache.dv, xb_bh.addr).xb_flags & XATTR_BLOCK_FLAGS.INDEXED) !== 0;

/** The attributes in a block that is not indexed. */
export function blockPlace(op: Op, xb_bh: Bh): Place {
  const place = new Place(op.osb, [xb_bh], BLOCK_HEADER_OFF, op.osb.geo.blocksize - BLOCK_HEADER_OFF, false);
  checkArea(place.area);
  return place;
}

/** An xattr block for an inode that has none. Throws ENOSPC (ocfs2_create_xattr_block). */
export function createXattrBlock(op: Op, inode: Inode, di_bh: Bh): Bh {
  const { osb } = op;
  op.modify(di_bh);
  const got = claimMetadata(op, 1)[0]!;
  const bh = op.create(inode, got.blkno, osb.kinds.xattr_block);
  const xb = XattrBlock.at(osb.cache.dv, bh.addr);
  xb.xb_signature = OCFS2_XATTR_BLOCK_SIGNATURE;
  xb.xb_suballoc_slot = got.suballoc_slot;
  xb.xb_suballoc_bit = got.suballoc_bit;
  xb.xb_suballoc_loc = got.suballoc_loc;
  xb.xb_fs_generation = osb.geo.fs_generation;
  xb.xb_blkno = got.blkno;
  const di = dinodeOf(op, di_bh);
  di.i_xattr_loc = got.blkno;
  di.i_dyn_features |= DYN_FEATURES.HAS_XATTR;
  return bh;
}

// In buckets --------------------------------------------------------------------------------------------------------

const CHECK_OFF = XattrHeader.fields.xh_check.off;

export const blocksPerBucket = (osb: Osb): number => OCFS2_XATTR_BUCKET_SIZE >> osb.geo.blocksize_bits;
export const bucketsPerCluster = (osb: Osb): number => osb.geo.clustersize / OCFS2_XATTR_BUCKET_SIZE;

/** Arena address of a table of block addresses for the checksum kernel. */
const tables = new WeakMap<Osb, number>();

function checkEcc(osb: Osb, bhs: readonly Bh[]): void {
  let table = tables.get(osb);
  if (table === undefined) tables.set(osb, (table = osb.arena.alloc(64, 64)));
  bhs.forEach((bh, i) => {
    osb.arena.dv.setUint32(table + i * 4, bh.addr, true);
  });
  if (osb.k.blockCheckValidateBhs(table, bhs.length, osb.geo.blocksize, CHECK_OFF) < 0)
    throw new Corruption("xattr.bucket", { blkno: bhs[0]!.blkno, found: "bad checksum" });
}

/** The blocks of a bucket, checked as a whole once after they were read (ocfs2_read_xattr_bucket). */
export function readBucket(op: Op, inode: Inode, blkno: number): readonly Bh[] {
  const { osb } = op;
  const { cache, kinds } = osb;
  const n = blocksPerBucket(osb);
  if (n > 1 && cache.peek(inode, blkno) === undefined) cache.prefetch(inode, blkno, n);
  const bhs: Bh[] = [];
  for (let i = 0; i < n; i++) bhs.push(op.read(inode, blkno + i, kinds.xattr_bucket));
  const group = bhs[0]!.ecc_group;
  if (group !== null && group.length === n && bhs.every((bh, i) => bh.ecc_group === group && group[i] === bh))
    return group;
  // A transaction's blocks were checked before they were changed, and have their checksum when they are frozen.
  if (osb.incompat(FEATURE_INCOMPAT.META_ECC) && !bhs.some((bh) => bh.in_running || bh.in_op)) checkEcc(osb, bhs);
  for (const bh of bhs) bh.ecc_group = bhs;
  return bhs;
}

/** The blocks of a bucket whose old contents do not matter, zeroed and in the operation. */
export function createBucket(op: Op, inode: Inode, blkno: number): readonly Bh[] {
  const { kinds } = op.osb;
  const n = blocksPerBucket(op.osb);
  const bhs: Bh[] = [];
  for (let i = 0; i < n; i++) bhs.push(op.create(inode, blkno + i, kinds.xattr_bucket));
  for (const bh of bhs) bh.ecc_group = bhs;
  return bhs;
}

/** A bucket's attributes. */
export function bucketPlace(op: Op, bhs: readonly Bh[]): Place {
  const place = new Place(op.osb, bhs, 0, OCFS2_XATTR_BUCKET_SIZE, true);
  checkArea(place.area);
  return place;
}

/** Forgets blocks of clusters that the operation gave up: buckets or values (ocfs2_remove_xattr_clusters_from_cache). */
export function forgetBlocks(op: Op, blkno: number, count: number): void {
  const { cache } = op.osb;
  op.onSuccess(() => {
    for (let b = blkno; b < blkno + count; b++) {
      const bh = cache.any(b);
      if (bh !== undefined) bh.ecc_group = null;
    }
    cache.forget(blkno, count);
  });
}
