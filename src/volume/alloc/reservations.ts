/**
 * Allocation reservations (reservations.c): each file that is being written has a stretch of the local alloc's window
 * for itself, so that files written at the same time do not alternate on the disk cluster by cluster. Hints only: a
 * reservation that is lost costs contiguity, nothing else. The bitmap is asked before anything is handed out.
 */
import type { Osb } from "../osb.ts";
import type { AllocState } from "./alloc_state.ts";

export interface Reservation {
  readonly map: ReservationMap;
  /** Bits of the window from `start` on that nobody else takes; len 0: none now. */
  start: number;
  len: number;
  /** Where the last allocation ended: the next window is looked for from there. */
  last_end: number;
  /** Bits that the last reservation asked for; 0: there was none. */
  window: number;
  /** Moves at each use; the one used longest ago is robbed first. */
  used_at: number;
  /** It was given back when the file was closed, which happens once. */
  given_back: boolean;
  /** The last run of an operation (Op.run) that has kept what it was before. */
  saved_by_run: number;
}

/** A window of more files than this is searched without reservations: the list is kept in an array. */
const MAX_RESERVATIONS = 512;

export class ReservationMap {
  /** Bits of the window. */
  readonly bits: number;
  /** Sorted by start, never overlapping. */
  readonly list: Reservation[] = [];
  #clock = 0;

  constructor(bits: number) {
    this.bits = bits;
  }

  newReservation(): Reservation {
    return { map: this, start: 0, len: 0, last_end: 0, window: 0, used_at: 0, given_back: false, saved_by_run: 0 };
  }

  #remove(r: Reservation): void {
    if (r.len === 0) return;
    const i = this.list.indexOf(r);
    if (i >= 0) this.list.splice(i, 1);
    r.len = 0;
  }

  /** As `r` was: what was taken from it has not been taken after all. */
  restore(r: Reservation, was: Pick<Reservation, "start" | "len" | "last_end" | "window">): void {
    this.place(r, was.start, was.len);
    r.last_end = was.last_end;
    r.window = was.window;
  }

  /** Gives `r` its place; the caller has seen to it that nobody else has it. */
  place(r: Reservation, start: number, len: number): void {
    this.#remove(r);
    if (len === 0) return;
    if (this.list.length >= MAX_RESERVATIONS) {
      let oldest = this.list[0]!;
      for (const o of this.list) if (o.used_at < oldest.used_at) oldest = o;
      this.#remove(oldest);
    }
    r.start = start;
    r.len = len;
    r.used_at = ++this.#clock;
    let i = this.list.length;
    while (i > 0 && this.list[i - 1]!.start > start) i--;
    this.list.splice(i, 0, r);
  }

  /**
   * Half of the largest reservation goes to `r`, when nothing is left that nobody has (ocfs2_cannibalize_resv): bit by bit two files
   * would alternate. False: none has twice `wanted`.
   */
  takeHalf(r: Reservation, wanted: number): boolean {
    let largest: Reservation | null = null;
    for (const o of this.list) if (o !== r && (largest === null || o.len > largest.len)) largest = o;
    if (largest === null || largest.len < 2 * wanted) return false;
    const half = largest.len >> 1;
    largest.len -= half;
    this.place(r, largest.start + largest.len, half);
    return true;
  }

  /** Bits [start, start + len) were allocated for `r`, or for nobody in particular (ocfs2_resmap_claimed_bits). */
  claimed(r: Reservation | null, start: number, len: number): void {
    const end = start + len;
    for (let i = this.indexFrom(start); i < this.list.length && this.list[i]!.start < end; ) {
      const o = this.list[i]!;
      const behind = o.start + o.len - end;
      if (behind > 0) {
        o.start = end;
        o.len = behind;
        i++;
      } else {
        this.list.splice(i, 1);
        o.len = 0;
      }
    }
    if (r !== null) {
      r.last_end = end;
      r.used_at = ++this.#clock;
    }
  }

  /** Where in `list` the first reservation stands that reaches behind `bit`. */
  indexFrom(bit: number): number {
    let [low, high] = [0, this.list.length];
    while (low < high) {
      const mid = (low + high) >> 1;
      const o = this.list[mid]!;
      if (o.start + o.len > bit) high = mid;
      else low = mid + 1;
    }
    return low;
  }
}

/** Bits that a reservation takes: 8 at level 1, 16 at the default 2, 1024 at 8 (ocfs2_resv_window_bits). */
export const resvWindowBits = (osb: Osb, is_dir: boolean): number =>
  4 << (is_dir ? osb.options.dir_resv_level : osb.options.resv_level);

/**
 * What a file reserves next: twice as much each time it has used its reservation up, to an eighth of the local alloc's window. (The
 * kernel's stay as they are, and four writers leave four files in pieces of one window each.)
 */
function nextWindow(map: ReservationMap, r: Reservation, least: number): number {
  r.window = Math.max(least, Math.min(r.window * 2, map.bits >> 3));
  return r.window;
}

interface Run {
  start: number;
  len: number;
}

/**
 * A free run of the window at or behind `from` that no other reservation covers: the first of `wanted` bits, else the
 * longest one seen.
 */
function findUnreserved(
  osb: Osb,
  st: AllocState,
  map: ReservationMap,
  bitmap: number,
  from: number,
  wanted: number,
  mine: Reservation | null,
): Run {
  const best: Run = { start: 0, len: 0 };
  const { list } = map;
  let pos = from;
  for (let i = map.indexFrom(from); i <= list.length && best.len < wanted; i++) {
    const other = list[i];
    if (other !== undefined && other === mine) continue;
    const limit = other === undefined ? map.bits : other.start;
    // A gap that is no longer than what was seen is not worth the look.
    if (limit - pos > best.len) {
      const got = osb.k.findFreeRun(bitmap, limit, pos, wanted, 0, 0, st.scratch);
      if (got > best.len) {
        best.start = osb.cache.dv.getUint32(st.scratch, true);
        best.len = got;
      }
    }
    if (other !== undefined) pos = other.start + other.len;
  }
  return best;
}

/**
 * Where in the window to allocate up to `wanted` bits, at least `min`: the rest of the file's reservation, else a new
 * one near the last, else wherever there is room. len 0: there is no such run. The bits still are to be taken, and
 * `claimed` to be called. `goal`: where to look when there is no reservation to tell.
 */
export function findInWindow(
  osb: Osb,
  st: AllocState,
  map: ReservationMap,
  bitmap: number,
  min: number,
  wanted: number,
  r: Reservation | null,
  window_bits: number,
  goal: number,
): Run {
  const { dv } = osb.cache;
  if (r !== null && r.len > 0) {
    const got = osb.k.findFreeRun(bitmap, r.start + r.len, r.start, Math.min(wanted, r.len), 0, 0, st.scratch);
    // Fewer than wanted are no loss: the next reservation is looked for right behind this one.
    if (got >= min) return { start: dv.getUint32(st.scratch, true), len: got };
  }
  const size = Math.max(wanted, r === null ? 0 : nextWindow(map, r, window_bits));
  const from = r === null || r.last_end === 0 ? goal : r.last_end;
  let run = findUnreserved(osb, st, map, bitmap, from, size, r);
  if (run.len < wanted && from > 0) {
    const all = findUnreserved(osb, st, map, bitmap, 0, size, r);
    if (all.len > run.len) run = all;
  }
  if (run.len < wanted && r !== null && map.takeHalf(r, wanted)) {
    const got = osb.k.findFreeRun(bitmap, r.start + r.len, r.start, wanted, 0, 0, st.scratch);
    if (got >= min) return { start: dv.getUint32(st.scratch, true), len: got };
  }
  if (run.len < wanted) {
    // Others' reservations are in the way: what is free is handed out, whoever hoped for it (ocfs2_cannibalize_resv).
    const got = osb.k.findFreeRun(bitmap, map.bits, 0, wanted, 0, 0, st.scratch);
    if (got > run.len) {
      const start = dv.getUint32(st.scratch, true);
      return got < min ? { start, len: 0 } : { start, len: got };
    }
  }
  if (run.len < min) return { start: 0, len: 0 };
  if (r !== null) map.place(r, run.start, run.len);
  return { start: run.start, len: Math.min(run.len, wanted) };
}
