/**
 * Virtual time: events in order of their time, and of their making where that is the same. Nothing happens by itself: who runs the
 * simulation takes one event after the other. The same seeds give the same events in the same order.
 */
import type { Clock } from "../../src/lib/clock.ts";

interface Event {
  readonly at_ms: number;
  readonly seq: number;
  cb: (() => void) | null;
}

export class SimClock implements Clock {
  now_ms = 0;
  #seq = 0;
  /** A heap, earliest first. */
  readonly #heap: Event[] = [];

  realtime(): { sec: number; nsec: number } {
    const ms = 1_700_000_000_000 + this.now_ms;
    return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1_000_000 };
  }

  monotonic_ms(): number {
    return this.now_ms;
  }

  after(ms: number, cb: () => void): () => void {
    const event: Event = { at_ms: this.now_ms + Math.max(0, Math.ceil(ms)), seq: this.#seq++, cb };
    this.#push(event);
    return () => {
      event.cb = null;
    };
  }

  /** Runs the next event; false when there is none. */
  step(): boolean {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return false;
      if (event.cb === null) continue;
      this.now_ms = event.at_ms;
      event.cb();
      return true;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!before(event, heap[up]!)) break;
      heap[i] = heap[up]!;
      i = up;
    }
    heap[i] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

const before = (a: Event, b: Event): boolean => a.at_ms < b.at_ms || (a.at_ms === b.at_ms && a.seq < b.seq);
