// Every kernel beside its twin on the same random bytes: same result, same bytes afterwards. Checksums and bitmaps
// also beside a definition written out bit by bit.

import { crc32 } from "node:zlib";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { type Arena, createArena, loadModule } from "./arena.ts";
import {
  BQ_IOV_BYTES,
  BQ_REQ_BYTES,
  BQ_RUN_BYTES,
  CHECK_BAD,
  CHECK_FIXED,
  CHECK_OK,
  createKernels,
  createTwinKernels,
  emapBytes,
  type Kernels,
  NO_TRAILER,
  RING_ENTRY_BYTES,
  ringBytes,
} from "./kernels.ts";

const REGION = 256 * 1024;

let arena: Arena;
let base: number;
/** Both implementations: the module over an arena, the twin over bytes of its own with the same addresses. */
let sides: { k: Kernels; u8: Uint8Array; dv: DataView }[];

beforeAll(() => {
  arena = createArena(2);
  base = arena.alloc(REGION, 4096);
  const own = new Uint8Array(arena.size_bytes);
  sides = [
    { k: createKernels(arena), u8: arena.u8, dv: arena.dv },
    { k: createTwinKernels(own), u8: own, dv: new DataView(own.buffer) },
  ];
});

/** Lays the same bytes out on both sides, runs f on each, and demands the same result and the same bytes. */
function both<T>(content: Uint8Array, f: (k: Kernels, u8: Uint8Array, dv: DataView) => T): T {
  const results = sides.map((side) => {
    side.u8.fill(0, base, base + REGION);
    side.u8.set(content, base);
    return f(side.k, side.u8, side.dv);
  });
  expect(results[0]).toEqual(results[1]);
  const [a, b] = sides.map((side) => Buffer.from(side.u8.slice(base, base + REGION)));
  expect(a!.equals(b!)).toBe(true);
  return results[0]!;
}

const bytes = (max: number, min = 0) => fc.uint8Array({ minLength: min, maxLength: max });
/** A block's worth of bytes from a few numbers: cheap to shrink, all lengths. */
const block = (len: number) =>
  fc.infiniteStream(fc.nat(0xffffffff)).map((words) => {
    const out = new Uint8Array(len);
    const few = [...words.take(7)];
    for (let i = 0; i < len; i++) out[i] = (few[i % 7]! >>> (i % 24)) ^ (i * few[(i + 3) % 7]!);
    return out;
  });

/** Short and long: the kernels have another way for each. */
const lengths = fc.oneof(
  bytes(200),
  fc.tuple(block(5000), fc.nat(5000)).map(([data, len]) => data.subarray(0, len)),
);

function naiveCrc(poly: number, crc: number, data: Uint8Array): number {
  for (const byte of data) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ poly : crc >>> 1;
  }
  return crc >>> 0;
}

function naiveCrcBe(crc: number, data: Uint8Array): number {
  for (const byte of data) {
    crc ^= byte << 24;
    for (let i = 0; i < 8; i++) crc = crc < 0 || crc > 0x7fffffff ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  return crc >>> 0;
}

/** The code's definition: xor of the code-bit numbers of the set data bits; powers of two are no data bits. */
function naiveHamming(data: Uint8Array, nr = 0): number {
  let parity = 0;
  let code = 0;
  for (let i = 0; i < nr + data.length * 8; i++) {
    do code++;
    while ((code & (code - 1)) === 0);
    if (i >= nr && (data[(i - nr) >> 3]! >> ((i - nr) & 7)) & 1) parity ^= code;
  }
  return parity >>> 0;
}

describe("the module", () => {
  test("imports one memory, is compiled once, and carries no data segment", () => {
    const module = loadModule();
    expect(loadModule()).toBe(module);
    expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
    const small = createArena(1);
    new Uint8Array(small.buffer).fill(0xa5);
    new WebAssembly.Instance(module, { env: { memory: small.memory as WebAssembly.Memory } });
    expect(small.u8.every((b) => b === 0xa5)).toBe(true);
  });

  test("fits memories of any size up to 4 GiB", () => {
    for (const mib of [1, 16, 4096]) {
      const a = createArena(mib);
      expect(a.size_bytes).toBe(mib * 2 ** 20);
      const addr = a.size_bytes - 4096;
      a.u8.set(Buffer.from("123456789"), addr);
      expect(createKernels(a).crc32Le(0xffffffff, addr, 9)).toBe(~0xcbf43926 >>> 0);
    }
    const high = createArena(4096);
    const k = createKernels(high);
    const at = high.size_bytes - 64 * 1024;
    k.blockCheckCompute(at, 4096, 152);
    expect(k.blockCheckValidate(at, 4096, 152)).toBe(CHECK_OK);
    high.u8[at + 4000]! ^= 4;
    expect(k.blockCheckValidate(at, 4096, 152)).toBe(CHECK_FIXED);
    expect(k.setRange(at + 4096, 10, 100)).toBe(0);
    expect(k.findFreeRun(at + 4096, 1000, 5, 20, 0, 0, at + 8192)).toBe(20);
    expect(high.dv.getUint32(at + 8192, true)).toBe(110);
    expect(() => createArena(0)).toThrow(RangeError);
    expect(() => createArena(4097)).toThrow(RangeError);
  });

  test("alloc aligns, does not overlap, and refuses when the arena is used up", () => {
    const a = createArena(1);
    const x = a.alloc(10, 1);
    expect(x).toBeGreaterThanOrEqual(a.heapBase);
    const y = a.alloc(100, 4096);
    expect(y % 4096).toBe(0);
    expect(y).toBeGreaterThanOrEqual(x + 10);
    expect(a.alloc(1, 1)).toBe(y + 100);
    expect(() => a.alloc(2 ** 20)).toThrow(RangeError);
    a.alloc(a.free_bytes, 1);
    expect(() => a.alloc(1, 1)).toThrow(RangeError);
  });
});

describe("checksum", () => {
  test("known vectors", () => {
    const digits = Buffer.from("123456789");
    both(digits, (k) => {
      expect(~k.crc32Le(0xffffffff, base, 9) >>> 0).toBe(0xcbf43926);
      expect(~k.crc32c(0xffffffff, base, 9) >>> 0).toBe(0xe3069283);
      expect(k.crc32Be(0xffffffff, base, 9)).toBe(0x0376e6e7);
      // One set bit each: data bit 0 is code bit 3, bit 1 is 5, bit 4 is 9.
      expect(k.crc32Le(5, base, 0)).toBe(5);
    });
    const pattern = Uint8Array.from({ length: 4096 }, (_, i) => (i * 31 + (i >> 3)) * 7);
    both(pattern, (k) => {
      expect(k.hammingEncode(0, base, 32768, 0)).toBe(63061);
      expect(k.hammingEncode(0, base, 4096, 4096)).toBe(3076);
    });
    for (const [bit, code] of [
      [0, 3],
      [1, 5],
      [3, 7],
      [4, 9],
      [11, 17],
      [32767, 32767 + 17],
    ] as const) {
      const data = new Uint8Array(4096);
      data[bit >> 3] = 1 << (bit & 7);
      expect(both(data, (k) => k.hammingEncode(0, base, 32768, 0))).toBe(code);
    }
  });

  test("crc32: twin, oracle and zlib agree at every length and alignment", () => {
    fc.assert(
      fc.property(lengths, fc.nat(0xffffffff), fc.nat(15), (data, seed, skew) => {
        const shifted = new Uint8Array(skew + data.length);
        shifted.set(data, skew);
        const [le, be, castagnoli] = both(shifted, (k) => [
          k.crc32Le(seed, base + skew, data.length),
          k.crc32Be(seed, base + skew, data.length),
          k.crc32c(seed, base + skew, data.length),
        ]);
        expect(le).toBe(naiveCrc(0xedb88320, seed, data));
        expect(le).toBe(~crc32(data, ~seed >>> 0) >>> 0);
        expect(castagnoli).toBe(naiveCrc(0x82f63b78, seed, data));
        expect(be).toBe(naiveCrcBe(seed, data));
      }),
      { numRuns: 200 },
    );
  });

  test("crc32cBatch is crc32c of each buffer", () => {
    fc.assert(
      fc.property(block(2048), fc.nat(0xffffffff), (data, seed) => {
        both(data, (k, _u8, dv) => {
          const addrs = base + 4096;
          const out = base + 8192;
          for (let i = 0; i < 4; i++) dv.setUint32(addrs + 4 * i, base + 512 * i, true);
          k.crc32cBatch(seed, addrs, 4, 512, out);
          for (let i = 0; i < 4; i++) {
            expect(dv.getUint32(out + 4 * i, true)).toBe(k.crc32c(seed, base + 512 * i, 512));
          }
        });
      }),
      { numRuns: 20 },
    );
  });

  test("Hamming: twin and oracle agree at every length, hunk offset and alignment", () => {
    fc.assert(
      fc.property(bytes(1500, 1), fc.nat(4200), fc.nat(7), (data, hunk_bytes, skew) => {
        const shifted = new Uint8Array(skew + data.length);
        shifted.set(data, skew);
        const nr = hunk_bytes * 8;
        expect(both(shifted, (k) => k.hammingEncode(0, base + skew, data.length * 8, nr))).toBe(naiveHamming(data, nr));
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(block(4096), (data) => {
        expect(both(data, (k) => k.hammingEncode(0, base, 32768, 0))).toBe(naiveHamming(data));
      }),
      { numRuns: 20 },
    );
  });

  test("Hamming: every single bit of a 4 KiB block has its own code", () => {
    const data = new Uint8Array(4096);
    let code = 0;
    const k = sides[0]!.k;
    for (let i = 0; i < 32768; i++) {
      do code++;
      while ((code & (code - 1)) === 0);
      sides[0]!.u8.set(data, base);
      sides[0]!.u8[base + (i >> 3)] = 1 << (i & 7);
      expect(k.hammingEncode(0, base, 32768, 0)).toBe(code);
      expect(k.hammingFix(base, 32768, 0, code)).toBe(1);
      expect(sides[0]!.u8[base + (i >> 3)]).toBe(0);
    }
  });

  test("Hamming: bits in hunks are those of the whole", () => {
    fc.assert(
      fc.property(block(4096), fc.integer({ min: 1, max: 4095 }), (data, at) => {
        both(data, (k) => {
          const first = k.hammingEncode(0, base, at * 8, 0);
          const whole = k.hammingEncode(first, base + at, (4096 - at) * 8, at * 8);
          expect(whole).toBe(k.hammingEncode(0, base, 32768, 0));
        });
      }),
      { numRuns: 60 },
    );
  });

  test("hammingFix flips a data bit of its hunk and nothing else", () => {
    fc.assert(
      fc.property(bytes(64, 1), fc.nat(100), fc.nat(2000), (data, nr_bytes, fix) => {
        both(data, (k) => k.hammingFix(base, data.length * 8, nr_bytes * 8, fix));
      }),
    );
  });

  const sizes = fc.constantFrom(512, 1024, 2048, 4096);

  test("a block check holds; one flipped bit is found and put back; two are refused and left alone", () => {
    fc.assert(
      fc.property(block(4096), sizes, fc.nat(), fc.nat(), fc.nat(), (data, len, off, bit, other) => {
        const check_off = (off % (len - 8)) & ~3;
        const outside = (b: number) => {
          const at = b % ((len - 8) * 8);
          return at < check_off * 8 ? at : at + 64;
        };
        const [x, y] = [outside(bit), outside(other)];
        both(data, (k, u8) => {
          k.blockCheckCompute(base, len, check_off);
          const good = u8.slice(base, base + len);
          const zeroed = good.slice();
          zeroed.fill(0, check_off, check_off + 8);
          const dv = new DataView(good.buffer);
          expect(dv.getUint32(check_off, true)).toBe(~crc32(zeroed) >>> 0);
          expect(dv.getUint16(check_off + 4, true)).toBe(naiveHamming(zeroed));
          expect(k.blockCheckValidate(base, len, check_off)).toBe(CHECK_OK);

          u8[base + (x >> 3)]! ^= 1 << (x & 7);
          expect(k.blockCheckValidate(base, len, check_off)).toBe(CHECK_FIXED);
          expect(Buffer.from(u8.slice(base, base + len)).equals(good)).toBe(true);

          if (x === y) return;
          u8[base + (x >> 3)]! ^= 1 << (x & 7);
          u8[base + (y >> 3)]! ^= 1 << (y & 7);
          const bad = u8.slice(base, base + len);
          expect(k.blockCheckValidate(base, len, check_off)).toBe(CHECK_BAD);
          expect(Buffer.from(u8.slice(base, base + len)).equals(bad)).toBe(true);
        });
      }),
      { numRuns: 60 },
    );
  });

  test("the check field counts as zero wherever it lies", () => {
    const data = Uint8Array.from({ length: 4096 }, (_, i) => (i * i * 31) >> 3);
    both(data, (k, u8) => {
      const step = k === sides[0]!.k ? 1 : 73;
      for (let off = 0; off <= 4088; off += step) {
        k.blockCheckCompute(base, 4096, off);
        expect(k.blockCheckValidate(base, 4096, off)).toBe(CHECK_OK);
        u8[base + ((off + 2000) & 4095)]! ^= 16;
        expect(k.blockCheckValidate(base, 4096, off)).toBe(CHECK_FIXED);
        u8.set(data, base);
      }
    });
  });

  test("a wrong stored crc is refused even if the parity matches", () => {
    both(new Uint8Array(512).fill(7), (k, u8) => {
      k.blockCheckCompute(base, 512, 100);
      u8[base + 100]! ^= 1;
      expect(k.blockCheckValidate(base, 512, 100)).toBe(CHECK_BAD);
    });
  });

  test("batches do what single calls do", () => {
    fc.assert(
      fc.property(block(4096), fc.array(fc.nat(4095), { maxLength: 6 }), (data, damage) => {
        both(data, (k, u8, dv) => {
          const pairs = base + 8192;
          const results = base + 12288;
          for (let i = 0; i < 8; i++) {
            dv.setUint32(pairs + 8 * i, base + 512 * i, true);
            dv.setUint32(pairs + 8 * i + 4, 8 * i, true);
          }
          k.blockCheckComputeBatch(pairs, 8, 512);
          expect(k.blockCheckValidateBatch(pairs, 8, 512, 0)).toBe(0);
          for (const at of damage) u8[base + at]! ^= 1 << (at & 7);
          const copy = u8.slice(base, base + 4096);
          const not_ok = k.blockCheckValidateBatch(pairs, 8, 512, results);
          u8.set(copy, base);
          const single = Array.from({ length: 8 }, (_, i) => k.blockCheckValidate(base + 512 * i, 512, 8 * i));
          expect(Array.from({ length: 8 }, (_, i) => dv.getInt8(results + i))).toEqual(single);
          expect(not_ok).toBe(single.filter((rc) => rc !== CHECK_OK).length);
        });
      }),
      { numRuns: 40 },
    );
  });

  test("a logical block in several buffers has the check of one in a single buffer", () => {
    fc.assert(
      fc.property(block(4096), fc.constantFrom(1, 2, 4, 8), fc.nat(), fc.nat(), (data, n, off, bit) => {
        const len = 4096 / n;
        const check_off = off % 8 === 0 ? 16 : (off % 4088) & ~7;
        both(data, (k, u8, dv) => {
          const addrs = base + 8192;
          // Buffers in reverse order, so that no two of them adjoin.
          const at = (i: number) => base + 16384 + (n - 1 - i) * (len + 512);
          for (let i = 0; i < n; i++) {
            dv.setUint32(addrs + 4 * i, at(i), true);
            u8.copyWithin(at(i), base + i * len, base + (i + 1) * len);
          }
          k.blockCheckCompute(base, 4096, check_off);
          k.blockCheckComputeBhs(addrs, n, len, check_off);
          for (let i = 0; i < n; i++) {
            expect(u8.slice(at(i), at(i) + len)).toEqual(u8.slice(base + i * len, base + (i + 1) * len));
          }
          expect(k.blockCheckValidateBhs(addrs, n, len, check_off)).toBe(CHECK_OK);
          const x = bit % (check_off * 8 || 64);
          if (check_off === 0) return;
          const hit = at(Math.floor((x >> 3) / len)) + ((x >> 3) % len);
          u8[hit]! ^= 1 << (x & 7);
          expect(k.blockCheckValidateBhs(addrs, n, len, check_off)).toBe(CHECK_FIXED);
          expect(k.blockCheckValidateBhs(addrs, n, len, check_off)).toBe(CHECK_OK);
          u8[hit]! ^= 0xff;
          expect(k.blockCheckValidateBhs(addrs, n, len, check_off)).toBe(CHECK_BAD);
        });
      }),
      { numRuns: 60 },
    );
  });
});

describe("bitmap", () => {
  /** Bitmaps with runs, not noise. */
  const runs = fc.array(fc.integer({ min: 1, max: 150 }), { maxLength: 12 }).map((lengths) => {
    const bits = lengths.flatMap((n, i) => new Array<number>(n).fill(i % 2));
    const out = new Uint8Array(Math.ceil(bits.length / 8) + 1);
    bits.forEach((b, i) => {
      out[i >> 3]! |= b << (i & 7);
    });
    return { data: out, nbits: bits.length };
  });
  const bitOf = (data: Uint8Array, i: number) => (data[i >> 3]! >> (i & 7)) & 1;

  test("next set and next clear bit", () => {
    fc.assert(
      fc.property(runs, fc.nat(), ({ data, nbits }, f) => {
        const from = f % (nbits + 2);
        both(data, (k) => {
          for (const [want, got] of [
            [1, k.findNextBit(base, nbits, from)],
            [0, k.findNextZeroBit(base, nbits, from)],
          ]) {
            let i = from;
            while (i < nbits && bitOf(data, i) !== want) i++;
            expect(got).toBe(Math.min(i, nbits));
          }
        });
      }),
      { numRuns: 300 },
    );
  });

  test("free runs, first and best fit, with and without a committed copy", () => {
    fc.assert(
      fc.property(runs, runs, fc.nat(), fc.integer({ min: 1, max: 200 }), fc.boolean(), (a, b, f, want, twice) => {
        const nbits = Math.min(a.nbits, b.nbits);
        const from = f % (nbits + 1);
        const data = new Uint8Array(2048);
        data.set(a.data);
        data.set(b.data, 1024);
        const free = (i: number) => bitOf(a.data, i) === 0 && (!twice || bitOf(b.data, i) === 0);
        const found: { start: number; len: number }[] = [];
        for (let i = from; i < nbits; i++) {
          if (!free(i)) continue;
          const last = found.at(-1);
          if (last && last.start + last.len === i) last.len++;
          else found.push({ start: i, len: 1 });
        }
        const none = { start: 0, len: 0 };
        const longest = found.reduce((x, y) => (y.len > x.len ? y : x), none);
        const first = found.find((r) => r.len >= want);
        const best = found.filter((r) => r.len >= want).reduce((x, y) => (y.len < x.len ? y : x), first ?? none);
        both(data, (k, _u8, dv) => {
          const out = base + 4096;
          const other = twice ? base + 1024 : 0;
          const expected = first ?? longest;
          expect(k.findFreeRun(base, nbits, from, want, 0, other, out)).toBe(Math.min(expected.len, want));
          expect(dv.getUint32(out, true)).toBe(expected.start);
          const tightest = first ? best : longest;
          expect(k.findFreeRun(base, nbits, from, want, 1, other, out)).toBe(Math.min(tightest.len, want));
          expect([dv.getUint32(out, true), dv.getUint32(out + 4, true)]).toEqual([tightest.start, tightest.len]);
        });
      }),
      { numRuns: 400 },
    );
  });

  test("popcountBatch is popcountRange of each", () => {
    fc.assert(
      fc.property(bytes(80, 80), fc.array(fc.nat(640), { maxLength: 8 }), (data, sizes) => {
        both(data, (k, _u8, dv) => {
          const pairs = base + 4096;
          const out = base + 8192;
          sizes.forEach((nbits, i) => {
            dv.setUint32(pairs + 8 * i, base, true);
            dv.setUint32(pairs + 8 * i + 4, nbits, true);
          });
          const sum = k.popcountBatch(pairs, sizes.length, out);
          const each = sizes.map((nbits) => k.popcountRange(base, 0, nbits));
          expect(sizes.map((_, i) => dv.getUint32(out + 4 * i, true))).toEqual(each);
          expect(sum).toBe(each.reduce((a, b) => a + b, 0));
        });
      }),
    );
  });

  test("counting, setting and clearing a range", () => {
    fc.assert(
      fc.property(bytes(80, 80), fc.nat(640), fc.nat(640), fc.boolean(), (data, x, y, set) => {
        const [start, end] = [Math.min(x, y), Math.max(x, y)];
        let ones = 0;
        for (let i = start; i < end; i++) ones += bitOf(data, i);
        const n = end - start;
        both(data, (k, u8) => {
          expect(k.popcountRange(base, start, n)).toBe(ones);
          expect(set ? k.setRange(base, start, n) : k.clearRange(base, start, n)).toBe(set ? ones : n - ones);
          const now = u8.slice(base, base + 80);
          for (let i = 0; i < 640; i++) {
            expect(bitOf(now, i)).toBe(i >= start && i < end ? (set ? 1 : 0) : bitOf(data, i));
          }
        });
      }),
      { numRuns: 200 },
    );
  });
});

describe("dirhash", () => {
  type Dirent = { ino: number; name: string; slack: number };

  /** Packs entries into size bytes; the last one takes the rest. */
  function pack(entries: Dirent[], size: number): { data: Uint8Array; offsets: number[]; used: number } {
    const data = new Uint8Array(size);
    const dv = new DataView(data.buffer);
    const offsets: number[] = [];
    let off = 0;
    for (const e of entries) {
      const name = Buffer.from(e.name, "latin1");
      const rec_len = ((name.length + 15) & ~3) + 4 * e.slack;
      if (off + rec_len > size - 16) break;
      dv.setUint32(off, e.ino, true);
      dv.setUint16(off + 8, rec_len, true);
      data[off + 10] = name.length;
      data.set(name, off + 12);
      offsets.push(off);
      off += rec_len;
    }
    const used = off;
    const last = offsets.at(-1);
    if (last === undefined) dv.setUint16(8, size, true);
    else dv.setUint16(last + 8, size - last, true);
    return { data, offsets, used };
  }

  const entries = fc.array(
    fc.record({
      ino: fc.oneof(fc.constant(0), fc.nat(0xffffffff)),
      name: fc.string({ minLength: 1, maxLength: 40, unit: fc.nat(255).map((c) => String.fromCharCode(c)) }),
      slack: fc.nat(10),
    }),
    { maxLength: 12 },
  );

  test("finds what is there, with the entry before it, and nothing else", () => {
    fc.assert(
      fc.property(entries, fc.nat(), fc.boolean(), (list, pick, absent) => {
        const { data, offsets } = pack(list, 512);
        const chosen = list[pick % Math.max(1, offsets.length)];
        const name = absent || !chosen ? Buffer.from("no such name") : Buffer.from(chosen.name, "latin1");
        const at = list.findIndex(
          (e, i) => i < offsets.length && e.ino !== 0 && Buffer.from(e.name, "latin1").equals(name),
        );
        both(data, (k, u8, dv) => {
          const name_at = base + 1024;
          const prev = base + 2048;
          u8.set(name, name_at);
          const off = k.dirFind(base, 512, name_at, name.length, prev);
          expect(off).toBe(at < 0 ? -1 : offsets[at]);
          if (at >= 0) expect(dv.getInt32(prev, true)).toBe(at === 0 ? -1 : offsets[at - 1]);
          expect(k.dirCheck(base, 512)).toBe(list.filter((e, i) => i < offsets.length && e.ino !== 0).length);
        });
      }),
      { numRuns: 300 },
    );
  });

  test("free room and the largest hole, with and without a trailer", () => {
    fc.assert(
      fc.property(entries, fc.integer({ min: 4, max: 66 }), fc.nat(20), (list, need4, t) => {
        const { data, offsets } = pack(list, 512);
        const trailer = t < offsets.length ? offsets[t]! : NO_TRAILER;
        both(data, (k, u8, dv) => {
          const holes = (offsets.length ? offsets : [0]).map((off) => {
            const used = dv.getUint32(base + off, true) !== 0 ? (u8[base + off + 10]! + 15) & ~3 : 0;
            return { off, hole: off === trailer ? -1 : dv.getUint16(base + off + 8, true) - used };
          });
          const most = Math.max(...holes.map((h) => h.hole));
          expect(k.dirMaxRecLen(base, 512, trailer)).toBe(most >= 16 ? most : 0);
          const fit = holes.find((h) => h.hole >= need4 * 4);
          expect(k.dirFindFree(base, 512, need4 * 4, trailer)).toBe(fit ? fit.off : -1);
        });
      }),
      { numRuns: 300 },
    );
  });

  test("damaged blocks end in -2 or a result, the same on both sides", () => {
    let corrupt = 0;
    fc.assert(
      fc.property(
        entries,
        fc.array(fc.tuple(fc.nat(511), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (list, hits) => {
          const { data } = pack(list, 512);
          for (const [at, v] of hits) data[at] = v;
          const rc = both(data, (k, u8) => {
            u8[base + 1024] = 0x61;
            return [
              k.dirCheck(base, 512),
              k.dirFind(base, 512, base + 1024, 1, 0),
              k.dirFindFree(base, 512, 100, NO_TRAILER),
              k.dirMaxRecLen(base, 512, NO_TRAILER),
            ];
          });
          if (rc[0] === -2) corrupt++;
        },
      ),
      { numRuns: 300 },
    );
    expect(corrupt).toBeGreaterThan(0);
  });

  test("each rule of ocfs2_check_dir_entry is kept", () => {
    const withRec = (rec_len: number, name_len: number) => {
      const data = new Uint8Array(128);
      const dv = new DataView(data.buffer);
      dv.setUint32(0, 1, true);
      dv.setUint16(8, rec_len, true);
      data[10] = name_len;
      if (rec_len >= 16 && rec_len < 128) dv.setUint16(rec_len + 8, 128 - rec_len, true);
      return both(data, (k) => k.dirCheck(base, 128));
    };
    expect(withRec(128, 1)).toBe(1);
    expect(withRec(112, 1)).toBe(1);
    expect(withRec(0, 1)).toBe(-2);
    expect(withRec(12, 0)).toBe(-2);
    expect(withRec(18, 1)).toBe(-2);
    expect(withRec(16, 5)).toBe(-2);
    expect(withRec(132, 1)).toBe(-2);
    expect(withRec(116, 1)).toBe(-2);
  });

  test("the name hash: what a kernel computes, with signed and with unsigned chars", () => {
    const [s0, s1] = [0x12345678, 0x9abcdef0];
    for (const [name, signed, major, minor] of [
      ["a", 0, 0x0bd7c195, 0x503d3a6f],
      ["hello", 1, 0xd11c92ea, 0x97f3703a],
      ["lost+found", 0, 0xdb17f827, 0xd199b9b6],
      ["sixteen-bytes-ok", 0, 0xead4d1b4, 0xe0fe4806],
      ["a name that is longer than sixteen bytes", 1, 0x7c8c0706, 0xa8c567f9],
      ["\u00e4\u00f6\u00fc", 1, 0xd3eb86ea, 0xbe303345],
      ["\u00e4\u00f6\u00fc", 0, 0x64bea573, 0xd8343d75],
    ] as const) {
      const utf8 = Buffer.from(name);
      both(utf8, (k, _u8, dv) => {
        expect(k.dxHash(base, utf8.length, s0, s1, signed, base + 512)).toBe(major);
        expect(dv.getUint32(base + 516, true)).toBe(minor);
      });
    }
  });

  test("the name hash: dots, signedness, every length", () => {
    fc.assert(
      fc.property(bytes(255, 1), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(1), (name, s0, s1, signed) => {
        both(name, (k, _u8, dv) => {
          const out = base + 512;
          const major = k.dxHash(base, name.length, s0, s1, signed, out);
          expect(dv.getUint32(out, true)).toBe(major);
          return [major, dv.getUint32(out + 4, true)];
        });
      }),
      { numRuns: 300 },
    );
    for (const name of [".", ".."]) {
      both(Buffer.from(name), (k, _u8, dv) => {
        expect(k.dxHash(base, name.length, 1, 2, 0, base + 512)).toBe(0);
        expect(dv.getUint32(base + 516, true)).toBe(0);
      });
    }
    both(Buffer.from("\x7f", "latin1"), (k) => {
      expect(k.dxHash(base, 1, 1, 2, 0, base + 512)).toBe(k.dxHash(base, 1, 1, 2, 1, base + 512));
    });
    both(Buffer.from("\x80", "latin1"), (k) => {
      expect(k.dxHash(base, 1, 1, 2, 0, base + 512)).not.toBe(k.dxHash(base, 1, 1, 2, 1, base + 512));
    });
  });

  test("dxFind walks all entries of a hash", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(2), fc.nat(2)), { maxLength: 20 }), (list) => {
        const data = new Uint8Array(16 * list.length);
        const dv = new DataView(data.buffer);
        list.forEach(([major, minor], i) => {
          dv.setUint32(16 * i, major, true);
          dv.setUint32(16 * i + 4, minor, true);
        });
        both(data, (k) => {
          const found: number[] = [];
          for (let i = 0; (i = k.dxFind(base, list.length, i, 1, 2)) >= 0; i++) found.push(i);
          expect(found).toEqual(list.flatMap(([a, b], i) => (a === 1 && b === 2 ? [i] : [])));
        });
      }),
    );
  });
});

describe("extent_map", () => {
  /** Sorted records with holes; the first may be empty, as an insert leaves it. */
  const leaf = fc
    .record({
      steps: fc.array(fc.record({ hole: fc.nat(20), clusters: fc.integer({ min: 1, max: 30 }) }), { maxLength: 20 }),
      empty: fc.boolean(),
    })
    .map(({ steps, empty }) => {
      const data = new Uint8Array(16 * (steps.length + 1));
      const dv = new DataView(data.buffer);
      let cpos = 0;
      let count = 0;
      if (empty) count++;
      for (const s of steps) {
        cpos += s.hole;
        dv.setUint32(16 * count, cpos, true);
        dv.setUint16(16 * count + 4, s.clusters, true);
        dv.setUint32(16 * count + 8, 1000 + cpos, true);
        cpos += s.clusters;
        count++;
      }
      return { data, count, end: cpos };
    });

  test("search in leaf and interior lists, one by one and in a batch", () => {
    fc.assert(
      fc.property(leaf, ({ data, count, end }) => {
        both(data, (k, _u8, dv) => {
          const positions = base + 4096;
          const out = base + 8192;
          for (let c = 0; c < end + 3; c++) dv.setUint32(positions + 4 * c, c, true);
          k.extentSearchBatch(base, count, positions, end + 3, out);
          return Array.from({ length: end + 3 }, (_, c) => {
            const i = k.extentSearch(base, count, c);
            expect(dv.getInt32(out + 4 * c, true)).toBe(i);
            return i;
          });
        });
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 20 }), fc.nat(200), (lengths, cpos) => {
        const data = new Uint8Array(16 * lengths.length);
        const dv = new DataView(data.buffer);
        let at = 0;
        lengths.forEach((n, i) => {
          dv.setUint32(16 * i, at, true);
          dv.setUint32(16 * i + 4, n, true);
          at += n;
        });
        both(data, (k) => k.extentSearchInterior(base, lengths.length, cpos));
      }),
    );
  });

  const op = fc.record({
    remove: fc.boolean(),
    cpos: fc.nat(60),
    clusters: fc.nat(20),
    phys: fc.constantFrom(0, 100, 500),
    flags: fc.nat(1),
  });

  test("the cached map does what an array of clusters does", () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 40 }), fc.constantFrom(4, 100), (ops, capacity) => {
        both(new Uint8Array(0), (k, u8, dv) => {
          const map = base;
          const out = base + emapBytes(capacity);
          k.emapInit(map, capacity);
          const model = new Map<number, [number, number]>();
          const codes = ops.map((o) => {
            // A file position has one home on disk, so that records can join.
            const phys = o.phys ? o.phys + o.cpos : 0;
            const rc = o.remove
              ? k.emapRemove(map, o.cpos, o.clusters)
              : k.emapInsert(map, o.cpos, o.clusters, phys, o.flags);
            expect(rc).toBeLessThanOrEqual(capacity);
            if (rc === -1) expect(capacity).toBe(4);
            if (capacity === 100) {
              for (let c = o.cpos; c < o.cpos + o.clusters; c++) {
                if (o.remove) model.delete(c);
                else model.set(c, [phys ? phys + c - o.cpos : 0, o.flags]);
              }
              const positions = out + 64;
              const batch = positions + 512;
              for (let c = 0; c < 82; c++) dv.setUint32(positions + 4 * c, c, true);
              expect(k.emapLookupBatch(map, positions, 82, batch)).toBe(82);
              for (let c = 0; c < 82; c++) {
                const i = k.emapLookup(map, c, out);
                if (i < 0) u8.fill(0, out, out + 16);
                expect(u8.slice(batch + 16 * c, batch + 16 * c + 16)).toEqual(u8.slice(out, out + 16));
                const want = model.get(c);
                expect(i >= 0).toBe(want !== undefined);
                if (want) {
                  const [cpos, n, p, flags] = [0, 4, 8, 12].map((f) => dv.getUint32(out + f, true)) as [
                    number,
                    number,
                    number,
                    number,
                  ];
                  expect(c - cpos).toBeLessThan(n);
                  expect([p ? p + c - cpos : 0, flags]).toEqual(want);
                }
              }
            }
            return rc;
          });
          // Records behind the count are leavings; everything in front of them must be the same.
          u8.fill(0, base + 16 + 16 * dv.getUint32(map + 4, true), base + REGION);
          dv.setUint32(map, dv.getUint32(map, true) & 1, true);
          return codes;
        });
      }),
      { numRuns: 60 },
    );
  });
});

describe("blockqueue", () => {
  const requests = fc.array(fc.record({ blkno: fc.nat(40), slot: fc.nat(30), high: fc.boolean() }), { maxLength: 90 });

  test("sorts stably and merges what adjoins, within the limits", () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 4 }), (list, blocks, iovs) => {
        const n = list.length;
        const data = new Uint8Array(BQ_REQ_BYTES * n);
        const dv = new DataView(data.buffer);
        list.forEach((r, i) => {
          dv.setBigUint64(16 * i, BigInt(r.blkno) + (r.high ? 1n << 63n : 0n), true);
          dv.setUint32(16 * i + 8, r.slot * 4096, true);
          dv.setUint32(16 * i + 12, i, true);
        });
        both(data, (k, u8, view) => {
          const scratch = base + 8192;
          const runs = base + 16384;
          const iov = base + 32768;
          k.bqSort(base, n, scratch);
          u8.fill(0, scratch, scratch + 8192);
          const sorted = list
            .map((r, i) => ({ ...r, i }))
            .sort((a, b) => Number(a.high) - Number(b.high) || a.blkno - b.blkno || a.i - b.i);
          expect(Array.from({ length: n }, (_, i) => view.getUint32(base + 16 * i + 12, true))).toEqual(
            sorted.map((r) => r.i),
          );
          const nruns = k.bqMerge(base, n, 4096, blocks, iovs, runs, iov);
          // Taken apart again, the runs are the requests.
          const apart: [number, number][] = [];
          for (let r = 0; r < nruns; r++) {
            const at = runs + BQ_RUN_BYTES * r;
            const [count, first, niov, req] = [8, 12, 16, 20].map((f) => view.getUint32(at + f, true)) as [
              number,
              number,
              number,
              number,
            ];
            expect(count).toBeLessThanOrEqual(blocks);
            expect(niov).toBeLessThanOrEqual(iovs);
            expect(req).toBe(apart.length);
            let done = 0;
            for (let v = first; v < first + niov; v++) {
              const addr = view.getUint32(iov + BQ_IOV_BYTES * v, true);
              const len = view.getUint32(iov + BQ_IOV_BYTES * v + 4, true);
              for (let b = 0; b < len; b += 4096) apart.push([view.getUint32(at, true) + done++, addr + b]);
            }
            expect(done).toBe(count);
          }
          expect(apart).toEqual(sorted.map((r) => [r.blkno, r.slot * 4096]));
        });
      }),
      { numRuns: 150 },
    );
  });

  test("a contiguous batch becomes one run with one iovec", () => {
    const data = new Uint8Array(16 * 64);
    const dv = new DataView(data.buffer);
    for (let i = 0; i < 64; i++) {
      const b = (i * 37) % 64;
      dv.setUint32(16 * i, 1000 + b, true);
      dv.setUint32(16 * i + 8, 65536 + 4096 * b, true);
    }
    both(data, (k, u8, view) => {
      k.bqSort(base, 64, base + 4096);
      u8.fill(0, base + 4096, base + 8192);
      expect(k.bqMerge(base, 64, 4096, 256, 16, base + 8192, base + 16384)).toBe(1);
      expect(view.getUint32(base + 8192 + 8, true)).toBe(64);
      expect(view.getUint32(base + 16384 + 4, true)).toBe(64 * 4096);
    });
  });
});

describe("aio", () => {
  test("a ring is a bounded queue", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 60 }), (ops) => {
        both(new Uint8Array(0), (k, _u8, dv) => {
          const entry = base + 4096;
          const out = base + 8192;
          k.ringInit(base, 4);
          expect(ringBytes(4)).toBeLessThan(4096);
          const model: number[] = [];
          ops.forEach((op, i) => {
            if (op < 5) {
              for (let j = 0; j < op; j++) {
                dv.setUint32(entry + RING_ENTRY_BYTES * j, 8 * i + j, true);
                dv.setUint32(entry + RING_ENTRY_BYTES * j + 20, ~(8 * i + j) >>> 0, true);
              }
              const room = Math.min(op, 4 - model.length);
              if (op === 1) expect(k.ringPush(base, entry)).toBe(room);
              else expect(k.ringPushN(base, entry, op)).toBe(room);
              for (let j = 0; j < room; j++) model.push(8 * i + j);
            } else {
              const n = k.ringPopN(base, out, op - 5);
              expect(n).toBe(Math.min(op - 5, model.length));
              for (let j = 0; j < n; j++) {
                const want = model.shift()!;
                expect(dv.getUint32(out + RING_ENTRY_BYTES * j, true)).toBe(want);
                expect(dv.getUint32(out + RING_ENTRY_BYTES * j + 20, true)).toBe(~want >>> 0);
              }
            }
            expect(k.ringCount(base)).toBe(model.length);
          });
        });
      }),
    );
  });

  test("twin and module share one ring, across the wrap of its counters", () => {
    const twin = createTwinKernels(arena.u8);
    const mod = sides[0]!.k;
    const ring = base;
    mod.ringInit(ring, 2);
    const start = 0xfffffffe;
    for (const at of [64, 128]) arena.dv.setUint32(ring + at, start, true);
    for (let i = 0; i < 2; i++) arena.dv.setUint32(ring + 192 + 32 * i, start + i, true);
    for (let i = 0; i < 6; i++) {
      arena.dv.setUint32(base + 4096, i, true);
      const [push, pop] = i % 2 ? [twin, mod] : [mod, twin];
      expect(push.ringPush(ring, base + 4096)).toBe(1);
      expect(mod.ringCount(ring)).toBe(1);
      expect(twin.ringCount(ring)).toBe(1);
      expect(pop.ringPop(ring, base + 8192)).toBe(1);
      expect(arena.dv.getUint32(base + 8192, true)).toBe(i);
    }
    expect(mod.ringPop(ring, base + 8192)).toBe(0);
  });
});
