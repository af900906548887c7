/**
 * The local alloc (localalloc.c): each slot keeps a window of the global bitmap for itself, so that small allocations
 * need no cluster lock. The window's clusters are all set in the global bitmap; which of them are really used, the
 * slot's local_alloc inode tells. Given up, its clear bits are cleared in the global bitmap too. Needs no lock: only
 * the slot's owner, or who recovers it, touches the inode.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { I_FLAGS, isDir, localAllocSize, SYSTEM_INODE } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import { type AllocState, allocState, LA_ENABLE_INTERVAL_MS, laMinBits } from "./alloc_state.ts";
import { type ChainAllocator, claimBits, freeBitsOf, freeToBitmap, openAllocator } from "./chain.ts";
import { findInWindow, type Reservation, ReservationMap, resvWindowBits } from "./reservations.ts";

/** The local alloc of a slot, checked (ocfs2_load_local_alloc). */
function readLocalAlloc(op: Op, slot: number): Bh {
  const { osb } = op;
  const bh = readDinode(op, osb.sysfile(SYSTEM_INODE.LOCAL_ALLOC, slot));
  const di = dinodeOf(op, bh);
  const la = di.i_lab;
  if (
    (di.i_flags & I_FLAGS.LOCAL_ALLOC) === 0 ||
    la.la_size === 0 ||
    la.la_size > localAllocSize(osb.geo.blocksize) ||
    di.i_total > la.la_size * 8 ||
    di.i_used > di.i_total
  )
    throw new Corruption("local_alloc", {
      blkno: bh.blkno,
      la_size: la.la_size,
      i_total: di.i_total,
      i_used: di.i_used,
    });
  return bh;
}

/** True when the local alloc works and a request of so many clusters should use it (ocfs2_alloc_should_use_local). */
export function shouldUseLocal(op: Op, clusters: number): boolean {
  const { osb } = op;
  const st = allocState(osb);
  if (st.la.disabled_until_ms > 0 && osb.clock.monotonic_ms() >= st.la.disabled_until_ms)
    st.la = { ...st.la, disabled_until_ms: 0, bits: Math.max(st.la.bits, laMinBits(osb)) };
  return st.la.disabled_until_ms === 0 && !st.stopping && st.la.bits > 0 && clusters <= st.la.bits >> 1;
}

/** Returns what the window has not used, and empties it (ocfs2_sync_local_to_main, ocfs2_clear_local_alloc). */
export function returnWindow(op: Op, slot: number): void {
  const { osb } = op;
  const bh = readLocalAlloc(op, slot);
  const di = dinodeOf(op, bh);
  const la = di.i_lab;
  const total = di.i_total;
  const addr = la.la_bitmap_off(0);
  if (total > 0 && di.i_used < total) {
    const bitmap = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
    const counted = osb.k.popcountRange(addr, 0, total);
    if (counted !== di.i_used)
      throw new Corruption("local_alloc", { blkno: bh.blkno, i_used: di.i_used, found: `${counted} bits set` });
    for (let bit = osb.k.findNextZeroBit(addr, total, 0); bit < total; ) {
      const end = osb.k.findNextBit(addr, total, bit);
      freeToBitmap(op, bitmap, la.la_bm_off + bit, end - bit);
      bit = end >= total ? total : osb.k.findNextZeroBit(addr, total, end);
    }
  }
  if (total === 0 && di.i_used === 0 && la.la_bm_off === 0) return;
  op.modify(bh);
  di.i_total = 0;
  di.i_used = 0;
  la.la_bm_off = 0;
  osb.cache.u8.fill(0, addr, addr + la.la_size);
}

/** Takes the bitmap's state into account after a window of `bits` was not to be had (ocfs2_recalc_la_window). */
function shrinkWindow(op: Op, st: AllocState): boolean {
  const { osb } = op;
  const bits = st.la.bits >> 1;
  if (bits > laMinBits(osb)) {
    st.setLa(op, { ...st.la, bits, throttled: true });
    return true;
  }
  st.setLa(op, { ...st.la, disabled_until_ms: osb.clock.monotonic_ms() + LA_ENABLE_INTERVAL_MS });
  return false;
}

/** Gives the window up and takes a new one (ocfs2_local_alloc_slide_window). False: the volume has none to give. */
function slideWindow(op: Op, st: AllocState, bitmap: ChainAllocator): boolean {
  const { osb } = op;
  const slot = osb.slot_num;
  if (!st.la.throttled) st.setLa(op, { ...st.la, bits: st.la_default_bits });
  returnWindow(op, slot);
  st.resmap = null;
  const bh = readLocalAlloc(op, slot);
  const room = dinodeOf(op, bh).i_lab.la_size * 8;
  for (;;) {
    const want = Math.min(st.la.bits, room);
    const got = want > freeBitsOf(op, bitmap) ? null : claimBits(op, bitmap, want, want, lastGroup(op, st, bitmap));
    if (got !== null) {
      op.modify(bh);
      const di = dinodeOf(op, bh);
      di.i_lab.la_bm_off = got.start;
      di.i_total = got.bits;
      di.i_used = 0;
      st.setLa(op, { ...st.la, last_group: got.group });
      return true;
    }
    if (!shrinkWindow(op, st)) return false;
  }
}

/** The group of the last window, if it is still known to be one. */
function lastGroup(op: Op, st: AllocState, bitmap: ChainAllocator): number {
  // Groups of the global bitmap never go away while mounted; a peer's resize only adds some.
  return st.la.last_group !== 0 && st.la.last_group < op.osb.clustersToBlocks(dinodeOf(op, bitmap.bh).i_clusters)
    ? st.la.last_group
    : 0;
}

/** The reservation of a file in the present window. */
function reservationOf(op: Op, st: AllocState, inode: Inode | null, bits: number): Reservation | null {
  if (inode === null || op.osb.options.resv_level === 0) return null;
  const map = windowMap(st, bits);
  let r = inode.reservation as Reservation | null;
  if (r?.map === map) return r;
  const { window, given_back } = r ?? { window: 0, given_back: false };
  inode.reservation = r = map.newReservation();
  // The window moved on, and with it the file's place; what the file needs has not changed.
  r.window = window >> 1;
  r.given_back = given_back;
  return r;
}

function windowMap(st: AllocState, bits: number): ReservationMap {
  if (st.resmap === null || st.resmap.bits !== bits) st.resmap = new ReservationMap(bits);
  return st.resmap;
}

/** A run that is undone has taken nothing: the next one shall not go on behind a gap. */
function restoreOnUndo(op: Op, r: Reservation): void {
  if (r.saved_by_run === op.run) return;
  r.saved_by_run = op.run;
  const { start, len, last_end, window } = r;
  op.onUndo(() => r.map.restore(r, { start, len, last_end, window }));
}

/** Takes a run out of the window as it is now; null when it has none of `min` (ocfs2_claim_local_alloc_bits). */
export function claimInWindow(
  op: Op,
  min: number,
  max: number,
  inode: Inode | null,
  goal_cluster: number,
): { p_cluster: number; clusters: number } | null {
  const { osb } = op;
  const st = allocState(osb);
  const bh = readLocalAlloc(op, osb.slot_num);
  const di = dinodeOf(op, bh);
  const total = di.i_total;
  if (total - di.i_used < min || total === 0) return null;
  const la = di.i_lab;
  const addr = la.la_bitmap_off(0);
  const is_dir = inode !== null && isDir(dinodeOf(op, readDinode(op, inode)).i_mode);
  const r = is_dir && osb.options.dir_resv_level === 0 ? null : reservationOf(op, st, inode, total);
  const at = goal_cluster - la.la_bm_off;
  const goal_bit = at > 0 && at < total ? at : 0;
  if (r !== null) restoreOnUndo(op, r);
  const run = findInWindow(osb, st, windowMap(st, total), addr, min, max, r, resvWindowBits(osb, is_dir), goal_bit);
  if (run.len === 0) return null;
  op.modify(bh);
  if (osb.k.setRange(addr, run.start, run.len) !== 0)
    throw new Corruption("local_alloc", { blkno: bh.blkno, bit: run.start, found: "bits that are set already" });
  di.i_used += run.len;
  windowMap(st, total).claimed(r, run.start, run.len);
  return { p_cluster: la.la_bm_off + run.start, clusters: run.len };
}

/** Claims from the window, moving it when it has not `max` clusters left (ocfs2_reserve_local_alloc_bits). */
export function claimLocal(
  op: Op,
  min: number,
  max: number,
  inode: Inode | null,
  goal_cluster: number,
): { p_cluster: number; clusters: number } | null {
  const { osb } = op;
  const st = allocState(osb);
  const di = dinodeOf(op, readLocalAlloc(op, osb.slot_num));
  if (di.i_total - di.i_used < max && !slideWindow(op, st, openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP))) return null;
  return claimInWindow(op, min, max, inode, goal_cluster);
}

/**
 * The last who may write to the file has closed it: what is reserved for it is for others, so that files which are written once lie side by side
 * and go to the disk in one write. (The kernel's keep it until the inode goes.) Only the first time: a file that is opened again and again to be made
 * longer would be in pieces.
 */
export function giveBackReservation(inode: Inode): void {
  const r = inode.reservation as Reservation | null;
  if (r === null || r.given_back) return;
  r.given_back = true;
  r.map.place(r, 0, 0);
}

/** True when a slot's local alloc has a window. */
export function hasWindow(op: Op, slot: number): boolean {
  const di = dinodeOf(op, readLocalAlloc(op, slot));
  return di.i_total > 0 || di.i_lab.la_bm_off > 0;
}
