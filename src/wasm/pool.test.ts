// The pool beside a single call over the same memory; and what only threads can show: a ring and a cached extent map
// shared between them.

import { afterAll, beforeAll, expect, test } from "vitest";
import { type Arena, createArena } from "./arena.ts";
import { CHECK_BAD, CHECK_FIXED, CHECK_OK, createKernels, emapBytes, type Kernels, ringBytes } from "./kernels.ts";
import { KernelPool } from "./pool.ts";

const BLOCKS = 700;
const LEN = 512;

let arena: Arena;
let k: Kernels;
let pool: KernelPool;

beforeAll(() => {
  arena = createArena(16);
  k = createKernels(arena);
  pool = new KernelPool(arena, 2);
});

afterAll(() => pool.close());

test("blocks computed and checked in parallel are what one thread finds", async () => {
  const blocks = arena.alloc(BLOCKS * LEN, 4096);
  const pairs = arena.alloc(8 * BLOCKS);
  const results = arena.alloc(BLOCKS);
  for (let i = 0; i < BLOCKS * LEN; i++) arena.u8[blocks + i] = (i * i) >> 5;
  for (let i = 0; i < BLOCKS; i++) {
    arena.dv.setUint32(pairs + 8 * i, blocks + LEN * i, true);
    arena.dv.setUint32(pairs + 8 * i + 4, 8 * (i % 60), true);
  }
  await pool.computeBlocks(pairs, BLOCKS, LEN);
  expect(k.blockCheckValidateBatch(pairs, BLOCKS, LEN, results)).toBe(0);
  const flip = (i: number, byte: number) => {
    arena.u8[blocks + LEN * i + byte]! ^= 1;
  };
  flip(3, 500);
  flip(300, 500);
  flip(699, 500);
  flip(699, 501);
  arena.u8.fill(0x55, results, results + BLOCKS);
  expect(await pool.validateBlocks(pairs, BLOCKS, LEN, results)).toBe(3);
  for (let i = 0; i < BLOCKS; i++) {
    const want = i === 699 ? CHECK_BAD : i === 3 || i === 300 ? CHECK_FIXED : CHECK_OK;
    expect(arena.dv.getInt8(results + i)).toBe(want);
  }
  expect(await pool.validateBlocks(pairs, 10, LEN, 0)).toBe(0);
  const counts = arena.alloc(4 * BLOCKS);
  for (let i = 0; i < BLOCKS; i++) arena.dv.setUint32(pairs + 8 * i + 4, 8 * LEN, true);
  const sum = k.popcountRange(blocks, 0, BLOCKS * LEN * 8);
  expect(await pool.countBits(pairs, BLOCKS, counts)).toBe(sum);
  expect(arena.dv.getUint32(counts + 4 * 400, true)).toBe(k.popcountRange(blocks + LEN * 400, 0, 8 * LEN));
});

test("a kernel runs on another thread, and its failure comes back", async () => {
  const at = arena.alloc(16);
  arena.u8.set(Buffer.from("123456789"), at);
  expect(await pool.run("crc32Le", 0xffffffff, at, 9)).toBe(~0xcbf43926 >>> 0);
  await expect(pool.run("crc32Le", 0, arena.size_bytes - 4, 4096)).rejects.toThrow(/memory access/);
});

test("two threads push into one ring while this one pops: nothing lost, nothing torn, each in its order", async () => {
  const capacity = 131072;
  const each = 60000;
  const ring = arena.alloc(ringBytes(capacity), 64);
  const out = arena.alloc(24 * 64, 8);
  const entries = arena.alloc(24 * 2 * each, 8);
  for (let i = 0; i < 2 * each; i++) {
    for (let f = 0; f < 6; f++) arena.dv.setUint32(entries + 24 * i + 4 * f, i, true);
  }
  for (let round = 0; round < 8; round++) {
    k.ringInit(ring, capacity);
    const pushes = [0, each].map((first) => pool.run("ringPushN", ring, entries + 24 * first, each));
    // On few cores the two only meet while this thread is out of their way.
    if (round % 2) await Promise.all(pushes);
    const next = [0, each];
    const deadline = performance.now() + 5000;
    for (let popped = 0; popped < 2 * each && performance.now() < deadline; ) {
      const n = k.ringPopN(ring, out, 64);
      popped += n;
      for (let j = 0; j < n; j++) {
        const fields = [0, 4, 8, 12, 16, 20].map((f) => arena.dv.getUint32(out + 24 * j + f, true));
        const from = fields[0]! < each ? 0 : 1;
        const want = next[from]!++;
        if (fields.some((v) => v !== want)) expect(fields).toEqual(new Array(6).fill(want));
      }
    }
    expect(next).toEqual([each, 2 * each]);
    expect(await Promise.all(pushes)).toEqual([each, each]);
  }
});

test("a reader of the cached extent map sees whole records while it changes", async () => {
  const n = 20000;
  const map = arena.alloc(emapBytes(64), 16);
  const positions = arena.alloc(4 * n);
  const out = arena.alloc(16 * n, 16);
  k.emapInit(map, 64);
  for (let i = 0; i < 20; i++) k.emapInsert(map, 10 * i, 5, 1000 + 10 * i, i);
  for (let i = 0; i < n; i++) arena.dv.setUint32(positions + 4 * i, 10 * (5 + (i % 15)) + (i % 5), true);
  let seen = 0;
  for (let round = 0; round < 10; round++) {
    const lookups = pool.run("emapLookupBatch", map, positions, n, out);
    // Records before the ones looked up come and go, so those move to and fro in the array.
    const deadline = performance.now() + 30;
    for (let i = 0; performance.now() < deadline; i++) {
      if (i % 2) k.emapInsert(map, 10 * (i % 5), 5, 1000 + 10 * (i % 5), i % 5);
      else k.emapRemove(map, 0, 10 * (1 + (i % 5)));
    }
    const done = (await lookups)!;
    seen += done;
    for (let i = 0; i < done; i++) {
      const rec = 5 + (i % 15);
      const got = [0, 4, 8, 12].map((f) => arena.dv.getUint32(out + 16 * i + f, true));
      if (got.join() !== [10 * rec, 5, 1000 + 10 * rec, rec].join()) {
        expect(got).toEqual([10 * rec, 5, 1000 + 10 * rec, rec]);
      }
    }
  }
  expect(seen).toBeGreaterThan(0);
});
