/**
 * Blocks out of the suballocators: inodes and all other metadata (suballoc.c). A slot allocates from its own files, so
 * that nodes do not wait for each other; when those are empty and cannot grow it steals from another slot's.
 */
import { OCFS2_INVALID_SLOT, SYSTEM_INODE } from "../../format/disk/index.ts";
import { Corruption, enospc } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import { allocState, MAX_TO_STEAL } from "./alloc_state.ts";
import {
  bitToBlock,
  type ChainAllocator,
  type ClaimedBits,
  claimBits,
  freeBits,
  freeBitsOf,
  hintedGroup,
  openAllocator,
  readGroup,
} from "./chain.ts";
import { growAllocator } from "./group_alloc.ts";

/** A block out of a suballocator, with the address that a later free needs. */
export interface SuballocResult {
  blkno: number;
  suballoc_slot: number;
  suballoc_bit: number;
  /** Block number of a discontiguous group, 0 where blkno and bit tell the group. */
  suballoc_loc: number;
}

/** Where a block came from, as its own fields say (h_suballoc_*, i_suballoc_*…). loc 0: derived from blkno and bit. */
export interface SuballocOrigin {
  slot: number;
  bit: number;
  loc: number;
  blkno: number;
}

type SuballocType = typeof SYSTEM_INODE.EXTENT_ALLOC | typeof SYSTEM_INODE.INODE_ALLOC;

/** An allocator of this type with `count` free bits: ours, grown if need be, or another slot's. Throws ENOSPC. */
function allocatorWithRoom(op: Op, type: SuballocType, count: number): ChainAllocator {
  const { osb } = op;
  const st = allocState(osb);
  const steal = st.steal.get(type);
  const own = osb.slot_num;
  let own_tried = false;
  const tryOwn = (): ChainAllocator | null => {
    own_tried = true;
    const ca = openAllocator(op, type, own);
    if (freeBitsOf(op, ca) < count && !growAllocator(op, ca)) return null;
    if (steal !== undefined) op.onSuccess(() => st.steal.delete(type));
    return ca;
  };
  if (steal === undefined || steal.stolen >= MAX_TO_STEAL) {
    const ca = tryOwn();
    if (ca !== null) return ca;
  }
  const max = osb.geo.max_slots;
  let slot = steal?.slot ?? (own + 1) % max;
  for (let i = 0; i < max; i++, slot = (slot + 1) % max) {
    if (slot === own) continue;
    const ca = openAllocator(op, type, slot);
    if (freeBitsOf(op, ca) < count) continue;
    const robbed = slot;
    op.onSuccess(() => {
      const stolen = steal !== undefined && steal.stolen < MAX_TO_STEAL ? steal.stolen : 0;
      st.steal.set(type, { slot: robbed, stolen: stolen + 1 });
    });
    return ca;
  }
  if (!own_tried) {
    const ca = tryOwn();
    if (ca !== null) return ca;
  }
  throw enospc("alloc.suballoc", { type: type === SYSTEM_INODE.INODE_ALLOC ? "inode_alloc" : "extent_alloc", count });
}

function mustClaim(got: ClaimedBits | null, ca: ChainAllocator): ClaimedBits {
  if (got === null) throw new Corruption("alloc.suballoc", { allocator: ca.inode.ino, found: "free bits in no group" });
  return got;
}

const resultOf = (ca: ChainAllocator, got: ClaimedBits, i: number): SuballocResult => ({
  blkno: got.start + i,
  suballoc_slot: ca.slot,
  suballoc_bit: got.bit + i,
  suballoc_loc: got.discontig ? got.group : 0,
});

/**
 * `count` metadata blocks from our slot's extent_alloc, or another slot's when ours is full (ocfs2_claim_metadata).
 * They need not be contiguous. The caller fills each by op.create. Throws ENOSPC.
 */
export function claimMetadata(op: Op, count = 1): SuballocResult[] {
  const st = allocState(op.osb);
  const ca = allocatorWithRoom(op, SYSTEM_INODE.EXTENT_ALLOC, count);
  const out: SuballocResult[] = [];
  while (out.length < count) {
    const got = mustClaim(claimBits(op, ca, count - out.length, 1, hintedGroup(st, ca)), ca);
    for (let i = 0; i < got.bits; i++) out.push(resultOf(ca, got, i));
  }
  return out;
}

/** The group that a block belongs to (ocfs2_which_suballoc_group). */
export const suballocGroup = (o: SuballocOrigin): number => (o.loc !== 0 ? o.loc : o.blkno - o.bit);

/**
 * A block for a new inode, near the last one made in `parent_dir`, else near the directory itself
 * (ocfs2_claim_new_inode, ocfs2_init_inode_ac_group). Throws ENOSPC.
 */
export function claimInode(op: Op, parent_dir: Inode): SuballocResult {
  const st = allocState(op.osb);
  const ca = allocatorWithRoom(op, SYSTEM_INODE.INODE_ALLOC, 1);
  const last = st.dir_hints.get(parent_dir);
  let hint = 0;
  if (last !== undefined && last.slot === ca.slot && last.hint.epoch === ca.inode.epoch) hint = last.hint.group;
  else {
    const di = dinodeOf(op, readDinode(op, parent_dir));
    if (di.i_suballoc_slot === ca.slot)
      hint = suballocGroup({ slot: ca.slot, bit: di.i_suballoc_bit, loc: di.i_suballoc_loc, blkno: di.i_blkno });
  }
  const got = mustClaim(claimBits(op, ca, 1, 1, hint), ca);
  const { group } = got;
  const { epoch } = ca.inode;
  op.onSuccess(() => st.dir_hints.set(parent_dir, { slot: ca.slot, hint: { group, epoch } }));
  return resultOf(ca, got, 0);
}

/** Frees `count` blocks that follow each other, from `origin` on (ocfs2_free_suballoc_bits). */
export function freeSuballocBits(op: Op, type: SuballocType, origin: SuballocOrigin, count = 1): void {
  const { osb } = op;
  if (origin.slot === OCFS2_INVALID_SLOT || origin.slot >= osb.geo.max_slots)
    throw new Corruption("alloc.free", { blkno: origin.blkno, suballoc_slot: origin.slot });
  const ca = openAllocator(op, type, origin.slot);
  const group = suballocGroup(origin);
  const at = bitToBlock(op, ca, readGroup(op, ca, group), origin.bit);
  if (at.blkno !== origin.blkno || at.bits < count)
    throw new Corruption("alloc.free", {
      blkno: origin.blkno,
      group,
      suballoc_bit: origin.bit,
      found: `the bit of block ${at.blkno}`,
    });
  freeBits(op, ca, group, origin.bit, count);
  op.free(origin.blkno, count);
}

/** Gives a metadata block back to extent_alloc:slot (extent block, xattr block, dx root, refcount block). */
export function freeMetadataBlock(op: Op, origin: SuballocOrigin): void {
  freeSuballocBits(op, SYSTEM_INODE.EXTENT_ALLOC, origin);
}

/** Gives an inode's block back to inode_alloc:slot (ocfs2_free_dinode). */
export function freeInodeBit(op: Op, origin: SuballocOrigin): void {
  freeSuballocBits(op, SYSTEM_INODE.INODE_ALLOC, origin);
}
