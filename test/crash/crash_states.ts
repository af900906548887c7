/** From a recording device's diary to the disks that a power cut at some moment could have left. */
import type { Random } from "../../src/lib/clock.ts";
import { type DiaryEntry, SECTOR_BYTES, type WriteRecord } from "./recording_device.ts";

/** Which of the volatile writes the cut keeps. */
export const FATES = ["dropped", "kept", "only the last", "all but the first", "some", "torn"] as const;
export type Fate = (typeof FATES)[number];

/**
 * Walks forward through a diary, holding the disk with everything on it that is durable for sure, and the list of what is not.
 * Moments must be asked for in ascending order.
 */
export class CrashWalker {
  readonly #diary: readonly DiaryEntry[];
  /** The disk with all that is durable at the moment. */
  readonly durable: Uint8Array;
  /** Writes begun and perhaps not on the disk, in the order in which they ended, those in flight last. */
  volatile: WriteRecord[] = [];
  #next = 0;
  #time = 0;
  readonly #flushes: { at: number; done_at: number }[] = [];

  constructor(base: Uint8Array, diary: readonly DiaryEntry[]) {
    this.durable = base.slice();
    this.#diary = diary;
  }

  /** Moves to the moment just after time `t`: what was submitted or ended at `t` or before counts. */
  moveTo(t: number): void {
    if (t < this.#time) throw new Error("a crash walk goes forward only");
    // What became durable on the way is settled at each end of a flush or dsync write, in the order of time.
    const diary = this.#diary;
    for (; this.#next < diary.length && diary[this.#next]!.at <= t; this.#next++) {
      const entry = diary[this.#next]!;
      if (entry.kind === "write") this.volatile.push(entry);
      else this.#flushes.push(entry);
    }
    const settled = this.#flushes.filter((f) => f.done_at <= t).sort((a, b) => a.done_at - b.done_at);
    let barrier = 0;
    for (const f of settled) {
      barrier = Math.max(barrier, f.at);
      this.#flushes.splice(this.#flushes.indexOf(f), 1);
    }
    this.volatile.sort((a, b) => a.done_at - b.done_at || a.at - b.at);
    const sure = (w: WriteRecord): boolean => w.done_at < barrier || (w.dsync && w.done_at <= t);
    const left: WriteRecord[] = [];
    for (const [i, w] of this.volatile.entries()) {
      // An older write under a durable one is on the disk with it: the cache holds one content a sector.
      const under = (d: WriteRecord): boolean =>
        sure(d) && w.done_at < d.at && w.offset < d.offset + d.data.length && d.offset < w.offset + w.data.length;
      if (sure(w) || this.volatile.some((d, j) => j > i && under(d))) this.durable.set(w.late ?? w.data, w.offset);
      else left.push(w);
    }
    this.volatile = left;
    this.#time = t;
  }

  /** A disk that the cut may leave; in `into` where given, for a fresh one each time costs more than the check. */
  state(fate: Fate, random: Random, into?: Uint8Array): Uint8Array {
    const disk = into ?? new Uint8Array(this.durable.length);
    disk.set(this.durable);
    const last = this.volatile.length - 1;
    for (const [i, w] of this.volatile.entries()) {
      const whole =
        fate === "kept" ||
        (fate === "only the last" && i === last) ||
        (fate === "all but the first" && i > 0) ||
        (fate === "some" && random.u32() % 2 === 0);
      // In flight the memory has not changed yet, as far as anybody can tell.
      const late = w.done_at <= this.#time ? w.late : undefined;
      if (whole && late === undefined) disk.set(w.data, w.offset);
      else if (whole || fate === "torn") land(disk, w, late, whole ? 1 : 2, random);
    }
    return disk;
  }
}

/** Lands some of a write's sectors: each with the chance 1 in `odds`, with its early or late contents. */
function land(disk: Uint8Array, w: WriteRecord, late: Uint8Array | undefined, odds: number, random: Random): void {
  for (let at = 0; at < w.data.length; at += SECTOR_BYTES) {
    if (random.u32() % odds !== 0) continue;
    const from = late !== undefined && random.u32() % 2 === 0 ? late : w.data;
    disk.set(from.subarray(at, at + SECTOR_BYTES), w.offset + at);
  }
}

/** The moments worth a cut: right after each write was submitted, and after each flush ended. */
export function moments(diary: readonly DiaryEntry[]): number[] {
  const out = new Set<number>();
  for (const e of diary) {
    out.add(e.at);
    if (e.kind === "flush" && e.done_at !== Number.POSITIVE_INFINITY) out.add(e.done_at);
  }
  return [...out].sort((a, b) => a - b);
}
