/** The memory of a cache: as many slots of one size as there are, what lies in each, and the hand of the clock that goes round them. */
import type { Arena } from "../lib/arena.ts";

export class CacheSlots<T extends { readonly addr: number }> {
  readonly count: number;
  readonly #base: number;
  readonly #bytes: number;
  readonly #free: number[] = [];
  /** Not an iterator of the cache's map for a hand: one that rests keeps alive all that comes into the map and goes again. */
  readonly #held: (T | null)[];
  #hand = 0;

  /** `count` slots of `bytes`, the first at a page's begin. */
  constructor(arena: Arena, count: number, bytes: number) {
    this.count = count;
    this.#bytes = bytes;
    this.#base = arena.alloc(count * bytes, 4096);
    this.#held = new Array<T | null>(count).fill(null);
    for (let i = count - 1; i >= 0; i--) this.#free.push(this.#base + i * bytes);
  }

  /** How many are free. */
  get free(): number {
    return this.#free.length;
  }

  /** The arena address of a slot that was free, for `hold`; undefined when there is none. */
  take(): number | undefined {
    return this.#free.pop();
  }

  /** Lies in the slot at its address, which was taken, until `release`. */
  hold(item: T): void {
    this.#held[this.#slotOf(item)] = item;
  }

  release(item: T): void {
    this.#held[this.#slotOf(item)] = null;
    this.#free.push(item.addr);
  }

  /** What the hand points at, null for a slot that is free; it moves on. */
  next(): T | null {
    const item = this.#held[this.#hand]!;
    this.#hand = (this.#hand + 1) % this.count;
    return item;
  }

  #slotOf(item: T): number {
    return (item.addr - this.#base) / this.#bytes;
  }
}
