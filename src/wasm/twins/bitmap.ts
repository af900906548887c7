// Twin of asm/bitmap.ts: searching and counting in little-endian bitmaps, by bytes.

import type { BitmapKernels } from "../kernels.ts";
import type { TwinMemory } from "./memory.ts";

const POPCOUNT = new Uint8Array(256);
for (let i = 1; i < 256; i++) POPCOUNT[i] = POPCOUNT[i >> 1]! + (i & 1);

export function bitmapTwin(m: TwinMemory): BitmapKernels {
  const { u8 } = m;

  function next(addr: number, other: number, nbits: number, from: number, flip: number): number {
    for (let i = from; i < nbits; ) {
      const b = Math.floor(i / 8);
      let x = u8[addr + b]!;
      if (other) x |= u8[other + b]!;
      x = ((x ^ flip) & 0xff) >>> (i & 7);
      if (x !== 0) return Math.min(nbits, i + 31 - Math.clz32(x & -x));
      i = (b + 1) * 8;
    }
    return nbits;
  }

  /** Calls f with the index of each byte of the range and the mask of the bits that belong to it. */
  function bytes(addr: number, start: number, n: number, f: (at: number, mask: number) => void): void {
    const end = start + n;
    for (let i = start; i < end; ) {
      const b = Math.floor(i / 8);
      const stop = Math.min(end, (b + 1) * 8);
      f(addr + b, ((1 << (stop - i)) - 1) << (i & 7));
      i = stop;
    }
  }

  function popcountRange(addr: number, start: number, n: number): number {
    let count = 0;
    bytes(addr, start, n, (at, mask) => {
      count += POPCOUNT[u8[at]! & mask]!;
    });
    return count;
  }

  return {
    findNextBit: (addr, nbits, from) => next(addr, 0, nbits, from, 0),
    findNextZeroBit: (addr, nbits, from) => next(addr, 0, nbits, from, 0xff),
    findFreeRun(addr, nbits, from, want, best, other, out) {
      let start = 0;
      let len = 0;
      for (let pos = from; pos < nbits; ) {
        const z = next(addr, other, nbits, pos, 0xff);
        if (z >= nbits) break;
        const limit = best === 0 ? Math.min(nbits, z + want) : nbits;
        const run = next(addr, other, limit, z, 0) - z;
        const better = best === 0 || len < want ? run > len : run >= want && run < len;
        if (better) [start, len] = [z, run];
        if (best === 0 ? run >= want : run === want) break;
        pos = z + run + 1;
      }
      m.dv.setUint32(out, start, true);
      m.dv.setUint32(out + 4, len, true);
      return Math.min(len, want);
    },
    popcountRange,
    popcountBatch(pairs, n, out) {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        const count = popcountRange(m.dv.getUint32(pairs + 8 * i, true), 0, m.dv.getUint32(pairs + 8 * i + 4, true));
        if (out) m.dv.setUint32(out + 4 * i, count, true);
        sum += count;
      }
      return sum;
    },
    setRange(addr, start, n) {
      const before = popcountRange(addr, start, n);
      bytes(addr, start, n, (at, mask) => {
        u8[at] = u8[at]! | mask;
      });
      return before;
    },
    clearRange(addr, start, n) {
      const before = n - popcountRange(addr, start, n);
      bytes(addr, start, n, (at, mask) => {
        u8[at] = u8[at]! & ~mask;
      });
      return before;
    },
  };
}
