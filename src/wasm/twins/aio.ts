// Twin of asm/aio.ts: the bounded queue between threads, with Atomics on its sequence numbers. Works on the same
// memory as the Wasm side at the same time.

import type { AioKernels } from "../kernels.ts";
import type { TwinMemory } from "./memory.ts";

const TAIL = 64;
const HEAD = 128;
const SLOTS = 192;
const SLOT = 32;
const ENTRY = 24;

export function aioTwin(m: TwinMemory): AioKernels {
  const { u8, dv, i32 } = m;
  const load = (at: number) => Atomics.load(i32, at >>> 2);
  const slotAt = (ring: number, pos: number) => ring + SLOTS + SLOT * ((pos & dv.getUint32(ring, true)) >>> 0);

  /** Claims the slot whose turn it is at the given end of the ring; undefined if there is none. */
  function claim(ring: number, end: number, ahead: number): { slot: number; pos: number } | undefined {
    let pos = load(ring + end);
    for (;;) {
      const slot = slotAt(ring, pos);
      const turn = (load(slot) - (pos + ahead)) | 0;
      if (turn < 0) return undefined;
      if (turn === 0 && Atomics.compareExchange(i32, (ring + end) >>> 2, pos, (pos + 1) | 0) === pos) {
        return { slot, pos };
      }
      pos = load(ring + end);
    }
  }

  function ringPush(ring: number, entry: number): number {
    const got = claim(ring, TAIL, 0);
    if (!got) return 0;
    u8.copyWithin(got.slot + 8, entry, entry + ENTRY);
    Atomics.store(i32, got.slot >>> 2, (got.pos + 1) | 0);
    return 1;
  }

  function ringPop(ring: number, out: number): number {
    const got = claim(ring, HEAD, 1);
    if (!got) return 0;
    u8.copyWithin(out, got.slot + 8, got.slot + 8 + ENTRY);
    Atomics.store(i32, got.slot >>> 2, (got.pos + dv.getUint32(ring, true) + 1) | 0);
    return 1;
  }

  return {
    ringInit(ring, capacity) {
      dv.setUint32(ring, capacity - 1, true);
      for (let i = 0; i < capacity; i++) Atomics.store(i32, (ring + SLOTS + SLOT * i) >>> 2, i);
      Atomics.store(i32, (ring + TAIL) >>> 2, 0);
      Atomics.store(i32, (ring + HEAD) >>> 2, 0);
    },
    ringPush,
    ringPushN(ring, entries, n) {
      let i = 0;
      while (i < n && ringPush(ring, entries + ENTRY * i)) i++;
      return i;
    },
    ringPop,
    ringPopN(ring, out, n) {
      let i = 0;
      while (i < n && ringPop(ring, out + ENTRY * i)) i++;
      return i;
    },
    ringCount(ring) {
      const head = load(ring + HEAD);
      const n = (load(ring + TAIL) - head) | 0;
      return n < 0 ? 0 : Math.min(n, dv.getUint32(ring, true) + 1);
    },
  };
}
