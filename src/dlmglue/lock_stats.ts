/**
 * How often each lock was taken and how long it was waited for (struct ocfs2_lock_stats), for `ocfs2 debugfs -R fs_locks`. A million
 * inodes have three million locks, so the counters lie in two tables outside the JavaScript heap, 64 bytes a lock, and counting
 * is an addition. Only locks that the domain knows have a row: without other nodes nothing is ever waited for.
 */
import { EX, type LockLevel } from "../stackglue/lock_domain.ts";

export const NO_STATS = -1;

/** Rows of `#counts`, PR before EX. */
const GETS = 0;
const FAILS = 2;
const MAX_US = 4;
const REFRESHES = 6;
const COUNTS = 8;
/** Rows of `#times`, PR before EX. */
const TOTAL_NS = 0;
const LAST_US = 2;
const TIMES = 4;

export interface ModeStats {
  readonly gets: number;
  readonly fails: number;
  /** What those waited that had to wait. */
  readonly total_ns: number;
  readonly max_us: number;
  /** When the last wait ended, µs since 1970; 0 without one. */
  readonly last_us: number;
}

const isEx = (level: LockLevel): number => (level === EX ? 1 : 0);

export class LockStats {
  #counts = new Uint32Array(COUNTS << 8);
  #times = new Float64Array(TIMES << 8);
  readonly #free: number[] = [];
  #used = 0;

  /** A row of zeros. */
  alloc(): number {
    const row = this.#free.pop();
    if (row !== undefined) return row;
    if ((this.#used + 1) * COUNTS > this.#counts.length) {
      const [counts, times] = [this.#counts, this.#times];
      this.#counts = new Uint32Array(counts.length * 2);
      this.#counts.set(counts);
      this.#times = new Float64Array(times.length * 2);
      this.#times.set(times);
    }
    return this.#used++;
  }

  free(row: number): void {
    if (row === NO_STATS) return;
    this.#counts.fill(0, row * COUNTS, (row + 1) * COUNTS);
    this.#times.fill(0, row * TIMES, (row + 1) * TIMES);
    this.#free.push(row);
  }

  /** The lock was there. */
  got(row: number, level: LockLevel): void {
    if (row !== NO_STATS) this.#counts[row * COUNTS + GETS + isEx(level)]!++;
  }

  /** It came after a wait (ocfs2_update_lock_stats); `now_us` since 1970. */
  waited(row: number, level: LockLevel, wait_ms: number, now_us: number): void {
    if (row === NO_STATS) return;
    const ex = isEx(level);
    const us = Math.min(wait_ms * 1000, 0xffffffff) >>> 0;
    const max = row * COUNTS + MAX_US + ex;
    this.#counts[row * COUNTS + GETS + ex]!++;
    if (us > this.#counts[max]!) this.#counts[max] = us;
    this.#times[row * TIMES + TOTAL_NS + ex]! += Math.round(wait_ms * 1e6);
    this.#times[row * TIMES + LAST_US + ex] = now_us;
  }

  /** Another node held it against a trylock. */
  failed(row: number, level: LockLevel): void {
    if (row !== NO_STATS) this.#counts[row * COUNTS + FAILS + isEx(level)]!++;
  }

  /** What it covers had to be read from the disk anew. */
  refreshed(row: number): void {
    if (row !== NO_STATS) this.#counts[row * COUNTS + REFRESHES]!++;
  }

  of(row: number): { pr: ModeStats; ex: ModeStats; refreshes: number } {
    const [c, t] = [row * COUNTS, row * TIMES];
    const count = (i: number): number => (row === NO_STATS ? 0 : this.#counts[c + i]!);
    const time = (i: number): number => (row === NO_STATS ? 0 : this.#times[t + i]!);
    const mode = (ex: number): ModeStats => ({
      gets: count(GETS + ex),
      fails: count(FAILS + ex),
      total_ns: time(TOTAL_NS + ex),
      max_us: count(MAX_US + ex),
      last_us: time(LAST_US + ex),
    });
    return { pr: mode(0), ex: mode(1), refreshes: count(REFRESHES) };
  }
}
