/**
 * Chain allocators: the global bitmap, inode_alloc and extent_alloc of each slot (suballoc.c). A dinode with a list of
 * chains, each chain a linked list of groups, each group a bitmap. The counts at the three levels must agree at the end
 * of every operation, or fsck.ocfs2 complains and a node without this code's caution hands a block out twice.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import {
  type ChainRec,
  chainRecsPerInode,
  GroupDesc,
  gdIsDiscontig,
  groupBitmapSize,
  I_FLAGS,
  SYSTEM_INODE,
  type SystemInode,
} from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import { lockAllocator } from "./alloc_locks.ts";
import { type AllocState, allocState } from "./alloc_state.ts";
import { inVolume } from "./volume_end.ts";

/** An allocator, locked, for the length of one run. */
export interface ChainAllocator {
  readonly inode: Inode;
  readonly bh: Bh;
  readonly type: SystemInode;
  readonly slot: number;
  readonly is_bitmap: boolean;
}

export interface ClaimedBits {
  /** Group that the bits are in. */
  readonly group: number;
  readonly bit: number;
  readonly bits: number;
  /** First block (suballocators) or first cluster (global bitmap) of the run. */
  readonly start: number;
  /** The group is in several pieces, so its address must be kept with the block. */
  readonly discontig: boolean;
}

/** Locks an allocator and checks its dinode (ocfs2_reserve_suballoc_bits). With `keep` the lock stays with the task's set. */
export function openAllocator(op: Op, type: SystemInode, slot = 0, keep = false): ChainAllocator {
  const { inode, bh } = lockAllocator(op, type, slot, keep);
  const di = dinodeOf(op, bh);
  const cl = di.i_chain;
  const bad = (found: string): never => {
    throw new Corruption("alloc.open", { allocator: inode.ino, found });
  };
  if ((di.i_flags & I_FLAGS.CHAIN) === 0) bad("not a chain allocator");
  if (cl.cl_count !== chainRecsPerInode(op.osb.geo.blocksize)) bad(`cl_count ${cl.cl_count}`);
  if (cl.cl_next_free_rec > cl.cl_count) bad(`cl_next_free_rec ${cl.cl_next_free_rec} of ${cl.cl_count}`);
  if (di.i_used > di.i_total) bad(`${di.i_used} bits used of ${di.i_total}`);
  if (cl.cl_bpc === 0 || cl.cl_cpg === 0) bad(`cl_cpg ${cl.cl_cpg}, cl_bpc ${cl.cl_bpc}`);
  return { inode, bh, type, slot, is_bitmap: type === SYSTEM_INODE.GLOBAL_BITMAP };
}

export function freeBitsOf(op: Op, ca: ChainAllocator): number {
  const di = dinodeOf(op, ca.bh);
  return di.i_total - di.i_used;
}

/** A group of `ca`, checked against its allocator (ocfs2_validate_gd_parent). */
export function readGroup(op: Op, ca: ChainAllocator, blkno: number): Bh {
  const { osb } = op;
  const bh = op.read(ca.inode, blkno, osb.kinds.group_desc);
  const gd = GroupDesc.at(osb.cache.dv, bh.addr);
  const cl = dinodeOf(op, ca.bh).i_chain;
  const max_bytes = groupBitmapSize(osb.geo.blocksize, !ca.is_bitmap, osb.geo.feature_incompat);
  if (
    gd.bg_parent_dinode !== ca.inode.ino ||
    gd.bg_size > max_bytes ||
    gd.bg_bits === 0 ||
    gd.bg_bits > max_bytes * 8 ||
    gd.bg_bits > cl.cl_cpg * cl.cl_bpc ||
    gd.bg_chain >= cl.cl_next_free_rec
  )
    throw new Corruption("alloc.group", {
      blkno,
      allocator: ca.inode.ino,
      bg_parent_dinode: gd.bg_parent_dinode,
      bg_size: gd.bg_size,
      bg_bits: gd.bg_bits,
      bg_chain: gd.bg_chain,
    });
  return bh;
}

export const groupOf = (op: Op, bh: Bh): GroupDesc => GroupDesc.at(op.osb.cache.dv, bh.addr);

function chainRec(op: Op, ca: ChainAllocator, chain: number): ChainRec {
  return dinodeOf(op, ca.bh).i_chain.cl_recs.at(chain);
}

/** First cluster that a group of the global bitmap speaks for. */
export const groupFirstCluster = (op: Op, group: number): number =>
  group === op.osb.geo.first_cluster_group_blkno ? 0 : op.osb.blocksToClusters(group);

interface Search {
  readonly wanted: number;
  readonly min: number;
  /** First bit to look at. */
  readonly from: number;
}

/**
 * Looks for a run of clear bits in one group: the first of `wanted`, else the longest, if it has `min`. Leaves the
 * kernels' answer as {bit, bits}; null when there is none (ocfs2_cluster_group_search, ocfs2_block_group_search).
 */
function searchGroup(
  op: Op,
  st: AllocState,
  ca: ChainAllocator,
  bh: Bh,
  s: Search,
): { bit: number; bits: number } | null {
  const { osb } = op;
  const gd = groupOf(op, bh);
  if (gd.bg_free_bits_count < s.min) return null;
  let max_bits = gd.bg_bits;
  if (ca.is_bitmap) {
    // A resize that was broken off may have left a last group with more bits than the volume has clusters.
    const left = dinodeOf(op, ca.bh).i_clusters - groupFirstCluster(op, bh.blkno);
    if (max_bits > left) max_bits = Math.max(0, left);
  }
  const got = osb.k.findFreeRun(gd.bg_bitmap_off(0), max_bits, s.from, s.wanted, 0, 0, st.scratch);
  if (got < s.min || got === 0) return null;
  return { bit: osb.cache.dv.getUint32(st.scratch, true), bits: got };
}

/** The block of a suballocator's bit, and how many bits from it on are contiguous on the disk (ocfs2_bg_discontig_fix_result). */
export function bitToBlock(
  op: Op,
  ca: ChainAllocator,
  bh: Bh,
  bit: number,
): { blkno: number; bits: number; discontig: boolean } {
  const gd = groupOf(op, bh);
  if (!gdIsDiscontig(gd)) return { blkno: bh.blkno + bit, bits: gd.bg_bits - bit, discontig: false };
  const { cl_bpc } = dinodeOf(op, ca.bh).i_chain;
  const el = gd.bg_list;
  for (let i = 0; i < el.l_next_free_rec; i++) {
    const rec = el.l_recs.at(i);
    const first = rec.e_cpos * cl_bpc;
    const bits = rec.e_leaf_clusters * cl_bpc;
    if (bit >= first && bit < first + bits)
      return { blkno: rec.e_blkno + (bit - first), bits: first + bits - bit, discontig: true };
  }
  throw new Corruption("alloc.group", { blkno: bh.blkno, found: `bit ${bit} lies in no extent of the group` });
}

/** Takes bits that a search found (ocfs2_alloc_dinode_update_counts, ocfs2_block_group_set_bits). */
export function takeBits(op: Op, ca: ChainAllocator, bh: Bh, bit: number, bits: number): void {
  const { osb } = op;
  const gd = groupOf(op, bh);
  const di = dinodeOf(op, ca.bh);
  const rec = chainRec(op, ca, gd.bg_chain);
  if (gd.bg_free_bits_count < bits || rec.c_free < bits || di.i_used + bits > di.i_total)
    throw new Corruption("alloc.take", {
      allocator: ca.inode.ino,
      group: bh.blkno,
      bits,
      bg_free_bits_count: gd.bg_free_bits_count,
      c_free: rec.c_free,
      i_used: di.i_used,
      i_total: di.i_total,
    });
  op.modify(ca.bh);
  op.modify(bh);
  if (osb.k.setRange(gd.bg_bitmap_off(0), bit, bits) !== 0)
    throw new Corruption("alloc.take", { group: bh.blkno, bit, bits, found: "bits that are set already" });
  gd.bg_free_bits_count -= bits;
  // Newer kernels keep the longest run here; 0 tells them to find it themselves.
  gd.bg_contig_free_bits = 0;
  rec.c_free -= bits;
  di.i_used += bits;
}

/** Gives bits back (_ocfs2_free_suballoc_bits). Throws Corruption when they are free already or lie outside the group. */
export function freeBits(op: Op, ca: ChainAllocator, group: number, bit: number, bits: number): void {
  const { osb } = op;
  const bh = readGroup(op, ca, group);
  const gd = groupOf(op, bh);
  const di = dinodeOf(op, ca.bh);
  const rec = chainRec(op, ca, gd.bg_chain);
  const bad = (found: string): never => {
    throw new Corruption("alloc.free", { allocator: ca.inode.ino, group, bit, bits, found });
  };
  if (bit + bits > gd.bg_bits) bad(`a group of ${gd.bg_bits} bits`);
  const start = ca.is_bitmap ? groupFirstCluster(op, group) + bit : group + bit;
  if (hasDescriptor(op, ca, group, start, bits)) bad("bits that are never free");
  if (gd.bg_free_bits_count + bits > gd.bg_bits) bad(`bg_free_bits_count ${gd.bg_free_bits_count}`);
  if (rec.c_free + bits > rec.c_total) bad(`c_free ${rec.c_free} of ${rec.c_total}`);
  if (di.i_used < bits) bad(`i_used ${di.i_used}`);
  op.modify(ca.bh);
  op.modify(bh);
  if (osb.k.clearRange(gd.bg_bitmap_off(0), bit, bits) !== 0) bad("bits that are clear already");
  gd.bg_free_bits_count += bits;
  gd.bg_contig_free_bits = 0;
  rec.c_free += bits;
  di.i_used -= bits;
}

/** Moves a group with room to the head of its chain: the next search reads one block (ocfs2_relink_block_group). */
function relinkGroup(op: Op, ca: ChainAllocator, bh: Bh, prev: Bh): void {
  op.modify(ca.bh);
  op.modify(bh);
  op.modify(prev);
  const gd = groupOf(op, bh);
  const rec = chainRec(op, ca, gd.bg_chain);
  groupOf(op, prev).bg_next_group = gd.bg_next_group;
  gd.bg_next_group = rec.c_blkno;
  rec.c_blkno = bh.blkno;
}

/** Groups behind `next` are read ahead: chains of the global bitmap run through the disk in even strides. */
function prefetchStride(op: Op, ca: ChainAllocator, cur: number, next: number): void {
  if (!ca.is_bitmap) return;
  const { osb } = op;
  if (osb.cache.peek(ca.inode, next) !== undefined) return;
  const stride = next - cur;
  const cpg_blocks = osb.clustersToBlocks(dinodeOf(op, ca.bh).i_chain.cl_cpg);
  const end = osb.clustersToBlocks(osb.geo.clusters);
  for (let i = 0, b = next; i < PREFETCH_GROUPS && b > 0 && b < end && b % cpg_blocks === 0; i++, b += stride)
    osb.cache.prefetch(ca.inode, b);
}
const PREFETCH_GROUPS = 16;

/** Walks one chain to the first group that serves (ocfs2_search_chain). */
function searchChain(
  op: Op,
  st: AllocState,
  ca: ChainAllocator,
  chain: number,
  s: Search,
): { bh: Bh; prev: Bh | null; bit: number; bits: number } | null {
  const { c_blkno, c_total } = chainRec(op, ca, chain);
  let blkno = c_blkno;
  let prev: Bh | null = null;
  let bits = 0;
  while (blkno !== 0) {
    const bh = readGroup(op, ca, blkno);
    const gd = groupOf(op, bh);
    bits += gd.bg_bits;
    if (bits > c_total)
      throw new Corruption("alloc.chain", { allocator: ca.inode.ino, chain, c_total, found: "a longer chain" });
    if (gd.bg_chain !== chain)
      throw new Corruption("alloc.chain", { allocator: ca.inode.ino, chain, group: blkno, bg_chain: gd.bg_chain });
    const found = searchGroup(op, st, ca, bh, s);
    if (found !== null) return { bh, prev, ...found };
    const next = gd.bg_next_group;
    if (next !== 0) prefetchStride(op, ca, blkno, next);
    prev = bh;
    blkno = next;
  }
  return null;
}

/** True when these bits are those of the superblock or of the group's own descriptor, which are never free. */
function hasDescriptor(op: Op, ca: ChainAllocator, group: number, start: number, bits: number): boolean {
  const at = ca.is_bitmap ? op.osb.blocksToClusters(group) : group;
  return start === 0 || (at >= start && at < start + bits);
}

function claimed(op: Op, st: AllocState, ca: ChainAllocator, bh: Bh, bit: number, bits: number): ClaimedBits {
  const { osb } = op;
  let start = groupFirstCluster(op, bh.blkno) + bit;
  let discontig = false;
  let end_cluster = start + bits;
  if (!ca.is_bitmap) {
    const at = bitToBlock(op, ca, bh, bit);
    start = at.blkno;
    discontig = at.discontig;
    bits = Math.min(bits, at.bits);
    end_cluster = osb.blocksToClusters(start + bits - 1) + 1;
  }
  // Whoever gets it writes there.
  if (!inVolume(op, end_cluster - 1, 1) || hasDescriptor(op, ca, bh.blkno, start, bits))
    throw new Corruption("alloc.claim", { allocator: ca.inode.ino, group: bh.blkno, bit, bits, start });
  takeBits(op, ca, bh, bit, bits);
  const hint = { group: bh.blkno, epoch: ca.inode.epoch };
  const left = groupOf(op, bh).bg_free_bits_count;
  op.onSuccess(() => {
    if (left > 0) st.hints.set(ca.inode.ino, hint);
    else st.hints.delete(ca.inode.ino);
  });
  return { group: bh.blkno, bit, bits, start, discontig };
}

export function hintedGroup(st: AllocState, ca: ChainAllocator): number {
  const h = st.hints.get(ca.inode.ino);
  return h !== undefined && h.epoch === ca.inode.epoch ? h.group : 0;
}

/**
 * Claims up to `wanted` contiguous bits, at least `min` (ocfs2_claim_suballoc_bits): in group `hint` from bit `from` on
 * first, then in the chain with the most free bits, then in all others. null when there is no such run.
 */
export function claimBits(
  op: Op,
  ca: ChainAllocator,
  wanted: number,
  min: number,
  hint = 0,
  from = 0,
): ClaimedBits | null {
  const st = allocState(op.osb);
  const di = dinodeOf(op, ca.bh);
  const cl = di.i_chain;
  const chains = cl.cl_next_free_rec;
  if (di.i_total - di.i_used < min || chains === 0) return null;
  if (hint !== 0) {
    const bh = readGroup(op, ca, hint);
    let found = searchGroup(op, st, ca, bh, { wanted, min, from });
    if (found === null && from > 0) found = searchGroup(op, st, ca, bh, { wanted, min, from: 0 });
    if (found !== null) return claimed(op, st, ca, bh, found.bit, found.bits);
  }
  let victim = 0;
  let most = -1;
  for (let i = 0; i < chains; i++) {
    const { c_free } = cl.cl_recs.at(i);
    if (c_free > most) {
      most = c_free;
      victim = i;
    }
  }
  for (let n = 0; n <= chains; n++) {
    const chain = n === 0 ? victim : n - 1;
    if (n > 0 && chain === victim) continue;
    if (n === 1) prefetchHeads(op, ca, min);
    if (cl.cl_recs.at(chain).c_free < min) continue;
    const found = searchChain(op, st, ca, chain, { wanted, min, from: 0 });
    if (found === null) continue;
    const got = claimed(op, st, ca, found.bh, found.bit, found.bits);
    if (found.prev !== null && groupOf(op, found.bh).bg_free_bits_count > got.bits)
      relinkGroup(op, ca, found.bh, found.prev);
    return got;
  }
  return null;
}

/** Before a search of all chains, their first groups are read together. */
function prefetchHeads(op: Op, ca: ChainAllocator, min: number): void {
  const cl = dinodeOf(op, ca.bh).i_chain;
  for (let i = 0; i < cl.cl_next_free_rec; i++) {
    const rec = cl.cl_recs.at(i);
    if (rec.c_free >= min && rec.c_blkno !== 0) op.osb.cache.prefetch(ca.inode, rec.c_blkno);
  }
}

/** The group and bit of a cluster in the global bitmap (ocfs2_block_to_cluster_group). */
export function clusterToGroup(
  op: Op,
  ca: ChainAllocator,
  cluster: number,
): { group: number; bit: number; left: number } {
  const { osb } = op;
  const { cl_cpg } = dinodeOf(op, ca.bh).i_chain;
  const n = Math.floor(cluster / cl_cpg);
  return {
    group: n === 0 ? osb.geo.first_cluster_group_blkno : osb.clustersToBlocks(n * cl_cpg),
    bit: cluster - n * cl_cpg,
    left: (n + 1) * cl_cpg - cluster,
  };
}

/** Returns clusters to the global bitmap, group by group. */
export function freeToBitmap(op: Op, ca: ChainAllocator, cluster: number, clusters: number): void {
  if (clusters > 0 && cluster + clusters > dinodeOf(op, ca.bh).i_clusters)
    throw new Corruption("alloc.free", { cluster, clusters, found: "clusters behind the end of the volume" });
  while (clusters > 0) {
    const { group, bit, left } = clusterToGroup(op, ca, cluster);
    const n = Math.min(clusters, left);
    freeBits(op, ca, group, bit, n);
    cluster += n;
    clusters -= n;
  }
}
