/**
 * Virtual time: nothing happens until the test or the simulator says so, and then in order of time, and of the calls within a moment.
 * Tests that waited for real time would be slow on a slow machine and wrong on a busy one.
 */
import type { Clock } from "./clock.ts";

interface Timer {
  readonly at_ms: number;
  readonly seq: number;
  cb: (() => void) | null;
}

export class SimClock implements Clock {
  #now_ms = 0;
  #seq = 0;
  /** A binary heap, the earliest first. */
  readonly #heap: Timer[] = [];
  /** Seconds since 1970 at time 0. */
  epoch_sec = 1_700_000_000;

  realtime(): { sec: number; nsec: number } {
    const ms = Math.floor(this.#now_ms);
    return { sec: this.epoch_sec + Math.floor(ms / 1000), nsec: (ms % 1000) * 1e6 };
  }

  monotonic_ms(): number {
    return this.#now_ms;
  }

  after(ms: number, cb: () => void): () => void {
    const timer: Timer = { at_ms: this.#now_ms + Math.max(0, ms), seq: this.#seq++, cb };
    this.#push(timer);
    return () => (timer.cb = null);
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    const end_ms = this.#now_ms + ms;
    while (this.#heap.length > 0 && this.#heap[0]!.at_ms <= end_ms) this.step();
    this.#now_ms = end_ms;
  }

  /** Lets time pass until `done` holds; false when it does not within `limit_ms`. */
  runUntil(done: () => boolean, limit_ms: number): boolean {
    const end_ms = this.#now_ms + limit_ms;
    while (!done()) {
      if (this.#heap.length === 0 || this.#heap[0]!.at_ms > end_ms) return false;
      this.step();
    }
    return true;
  }

  /** Runs the next timer; false when there is none. */
  step(): boolean {
    const timer = this.#pop();
    if (timer === undefined) return false;
    this.#now_ms = timer.at_ms;
    const cb = timer.cb;
    timer.cb = null;
    cb?.();
    return true;
  }

  #before(a: Timer, b: Timer): boolean {
    return a.at_ms < b.at_ms || (a.at_ms === b.at_ms && a.seq < b.seq);
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let i = heap.push(timer) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(heap[i]!, heap[parent]!)) break;
      [heap[i], heap[parent]] = [heap[parent]!, heap[i]!];
      i = parent;
    }
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || first === last) return first;
    heap[0] = last;
    for (let i = 0; ; ) {
      const left = 2 * i + 1;
      if (left >= heap.length) break;
      const child = left + 1 < heap.length && this.#before(heap[left + 1]!, heap[left]!) ? left + 1 : left;
      if (!this.#before(heap[child]!, heap[i]!)) break;
      [heap[i], heap[child]] = [heap[child]!, heap[i]!];
      i = child;
    }
    return first;
  }
}
