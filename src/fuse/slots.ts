/**
 * Buffers of requests. /dev/fuse must be read whatever happens: the request that ends a wait may be the next one in it. So there
 * is always one free receive slot, and what has no slot waits as an object on the heap, never as a request that is not read.
 *
 * A slot is a lead page and its payload pages:
 *
 *   | lead page ............ header, write_in | payload ............... |
 *   base                     base+4096-80      base+4096
 *
 * A request is received 80 bytes before the page boundary, so that a WRITE's payload can go to the disk as it is. A READ's
 * data is put at the same place, with the reply's header in the 16 bytes before it: one write(2) answers it.
 */
import { FuseInHeader, FuseOutHeader, FuseWriteIn } from "../format/fuse/index.ts";
import type { Arena } from "../lib/arena.ts";
import { assert } from "../lib/fs_error.ts";

const PAGE = 4096;
/** Bytes of a WRITE in front of its payload. */
export const REQUEST_LEAD = FuseInHeader.size + FuseWriteIn.size;
export const MAX_WRITE = 1 << 20;
const SMALL = 64 << 10;

/** A slot's address; the pool knows its size. */
export type Slot = number;

export const payloadOf = (slot: Slot): number => slot + PAGE;
export const requestOf = (slot: Slot): number => slot + PAGE - REQUEST_LEAD;
/** Where the header of a reply with data in the payload begins. */
export const dataReplyOf = (slot: Slot): number => slot + PAGE - FuseOutHeader.size;
export const REQUEST_BYTES = REQUEST_LEAD + MAX_WRITE;

class Pool {
  readonly first: number;
  readonly end: number;
  readonly payload_bytes: number;
  readonly #free: Slot[] = [];
  readonly count: number;

  constructor(arena: Arena, count: number, payload_bytes: number) {
    this.count = count;
    this.payload_bytes = payload_bytes;
    const stride = PAGE + payload_bytes;
    this.first = arena.alloc(count * stride, PAGE);
    this.end = this.first + count * stride;
    for (let i = count - 1; i >= 0; i--) this.#free.push(this.first + i * stride);
  }

  get free(): number {
    return this.#free.length;
  }

  take(): Slot | undefined {
    return this.#free.pop();
  }

  give(slot: Slot): void {
    assert(slot >= this.first && slot < this.end && this.#free.length < this.count, "a slot is given back twice");
    this.#free.push(slot);
  }
}

export class Slots {
  readonly #small: Pool;
  readonly #large: Pool;
  /** Requests that wait for a slot, oldest first. */
  readonly #waiting: { readonly len: number; readonly start: (slot: Slot) => void }[] = [];
  /** Most that ever waited. */
  peak_waiting = 0;

  constructor(arena: Arena, large: number, small: number) {
    this.#large = new Pool(arena, large, MAX_WRITE);
    this.#small = new Pool(arena, small, SMALL);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get freeLarge(): number {
    return this.#large.free;
  }

  /** A slot with room for `len` bytes of payload, undefined when there is none that may be taken now. */
  take(len: number): Slot | undefined {
    if (this.#waiting.length > 0) return undefined;
    return this.#fetch(len);
  }

  #fetch(len: number): Slot | undefined {
    if (len <= SMALL && this.#small.free > 0) return this.#small.take();
    // The last large one is what the next request is received in.
    return this.#large.free > 1 ? this.#large.take() : undefined;
  }

  /** The receive slot; there is one whenever the session asks. */
  takeReceive(): Slot {
    const slot = this.#large.take();
    assert(slot !== undefined, "no slot is left to receive requests in");
    return slot;
  }

  give(slot: Slot): void {
    (slot >= this.#large.first && slot < this.#large.end ? this.#large : this.#small).give(slot);
  }

  /** `start` gets a slot as soon as `runWaiting` finds one. */
  wait(len: number, start: (slot: Slot) => void): void {
    this.#waiting.push({ len, start });
    this.peak_waiting = Math.max(this.peak_waiting, this.#waiting.length);
  }

  /** Starts requests that wait; between requests only, since it may use a slot whose reply was just written. */
  runWaiting(): void {
    while (this.#waiting.length > 0) {
      const slot = this.#fetch(this.#waiting[0]!.len);
      if (slot === undefined) return;
      this.#waiting.shift()!.start(slot);
    }
  }
}
