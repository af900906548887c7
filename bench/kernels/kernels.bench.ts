// ns an operation and GB/s of the kernels: Wasm beside its TypeScript twin, and zlib.crc32 beside crc32Le. Run by
// bench/kernels/run.mjs. Without it nobody notices that a kernel became slower than what it replaced.

import { crc32 } from "node:zlib";
import Benchmark from "benchmark";
import { createArena } from "../../src/wasm/arena.ts";
import { createKernels, createTwinKernels, emapBytes, type Kernels, NO_TRAILER } from "../../src/wasm/kernels.ts";

const BLOCK = 4096;
const MAX_TIME_S = 0.3;

export interface BenchRow {
  /** What is measured, and how much it does in one operation. */
  readonly kernel: string;
  readonly wasm_ns: number;
  readonly twin_ns: number;
  /** Bytes gone over an operation; 0 where that says nothing. */
  readonly bytes: number;
  readonly native_ns?: number;
}

function time_ns(f: () => unknown): number {
  const bench = new Benchmark({ fn: f, maxTime: MAX_TIME_S, minSamples: 5 } as Benchmark.Options);
  bench.run({ async: false });
  // The fastest sample: other programs only ever make one slower.
  return Math.min(...bench.stats.sample) * 1e9;
}

/** Runs the whole table; calls row with each line as it is done. */
export function benchKernels(row: (r: BenchRow) => void): void {
  const arena = createArena(16);
  const wasm = createKernels(arena);
  const twin = createTwinKernels(arena.u8);
  const { u8, dv } = arena;
  const measure = (kernel: string, bytes: number, f: (k: Kernels) => unknown, native?: () => unknown) => {
    const [wasm_ns, twin_ns] = [time_ns(() => f(wasm)), time_ns(() => f(twin))];
    row({ kernel, bytes, wasm_ns, twin_ns, ...(native && { native_ns: time_ns(native) }) });
  };

  const block = arena.alloc(BLOCK, BLOCK);
  for (let i = 0; i < BLOCK; i++) u8[block + i] = (i * i * 7) >> 3;
  const copy = Buffer.from(u8.slice(block, block + BLOCK));
  measure(
    "crc32Le, 4 KiB",
    BLOCK,
    (k) => k.crc32Le(0xffffffff, block, BLOCK),
    () => crc32(copy),
  );
  measure(
    "crc32Le, 512 B",
    512,
    (k) => k.crc32Le(0xffffffff, block, 512),
    () => crc32(copy.subarray(0, 512)),
  );
  measure("crc32c, 4 KiB", BLOCK, (k) => k.crc32c(0xffffffff, block, BLOCK));
  measure("crc32Be, 4 KiB", BLOCK, (k) => k.crc32Be(0xffffffff, block, BLOCK));
  measure("hammingEncode, 4 KiB", BLOCK, (k) => k.hammingEncode(0, block, BLOCK * 8, 0));
  measure("blockCheckCompute, 4 KiB", BLOCK, (k) => k.blockCheckCompute(block, BLOCK, 152));
  measure("blockCheckValidate, 4 KiB", BLOCK, (k) => k.blockCheckValidate(block, BLOCK, 152));

  const n = 256;
  const blocks = arena.alloc(n * BLOCK, BLOCK);
  const pairs = arena.alloc(8 * n);
  for (let i = 0; i < n; i++) {
    u8.copyWithin(blocks + BLOCK * i, block, block + BLOCK);
    dv.setUint32(pairs + 8 * i, blocks + BLOCK * i, true);
    dv.setUint32(pairs + 8 * i + 4, 152, true);
  }
  measure("blockCheckValidateBatch, 256 x 4 KiB", n * BLOCK, (k) => k.blockCheckValidateBatch(pairs, n, BLOCK, 0));

  const leaf = arena.alloc(16 * 243);
  for (let i = 0; i < 243; i++) {
    dv.setUint32(leaf + 16 * i, 10 * i, true);
    dv.setUint16(leaf + 16 * i + 4, 10, true);
  }
  let at = 0;
  const position = () => (at = (at + 911) % 2430);
  measure("extentSearch, 243 records", 0, (k) => k.extentSearch(leaf, 243, position()));
  const positions = arena.alloc(4 * 64);
  const out = arena.alloc(16 * 256);
  for (let i = 0; i < 64; i++) dv.setUint32(positions + 4 * i, position(), true);
  measure("extentSearchBatch, 64 in 243", 0, (k) => k.extentSearchBatch(leaf, 243, positions, 64, out));
  const map = arena.alloc(emapBytes(256), 16);
  wasm.emapInit(map, 256);
  for (let i = 0; i < 243; i++) wasm.emapInsert(map, 10 * i, 10, 1000 + 20 * i, 0);
  measure("emapLookup, 243 records", 0, (k) => k.emapLookup(map, position(), out));

  // A group that is full but for a run at its end.
  const bitmap = arena.alloc(4032);
  const bits = 4032 * 8;
  wasm.setRange(bitmap, 0, bits - 64);
  measure("findFreeRun, 32256 bits, run of 64 at the end", 4032, (k) => k.findFreeRun(bitmap, bits, 0, 64, 0, 0, out));
  for (let i = 0; i < bits; i += 40) wasm.clearRange(bitmap, i, 3);
  measure("findFreeRun, the same with 800 short holes", 4032, (k) => k.findFreeRun(bitmap, bits, 0, 64, 0, 0, out));
  measure("popcountRange, 32256 bits", 4032, (k) => k.popcountRange(bitmap, 0, bits));

  const name = arena.alloc(256);
  u8.set(Buffer.from("a_file_name_of_some_length.txt"), name);
  measure("dxHash, 30 bytes", 0, (k) => k.dxHash(name, 30, 1, 2, 0, out));
  const dir = arena.alloc(BLOCK, BLOCK);
  for (let off = 0, i = 0; off < BLOCK; off += 32, i++) {
    dv.setUint32(dir + off, i + 1, true);
    dv.setUint16(dir + off + 8, 32, true);
    u8[dir + off + 10] = 12;
    u8.set(Buffer.from(`file_${String(i).padStart(7, "0")}`), dir + off + 12);
  }
  u8.set(Buffer.from("file_0000127"), name);
  measure("dirFind, the last of 128 entries", BLOCK, (k) => k.dirFind(dir, BLOCK, name, 12, 0));
  measure("dirFindFree, none in 128 entries", BLOCK, (k) => k.dirFindFree(dir, BLOCK, 32, NO_TRAILER));

  const reqs = arena.alloc(16 * n);
  const shuffled = arena.alloc(16 * n);
  const scratch = arena.alloc(16 * n);
  const runs = arena.alloc(24 * n);
  const iovs = arena.alloc(8 * n);
  for (let i = 0; i < n; i++) {
    const b = (i * 101) % n;
    dv.setUint32(shuffled + 16 * i, b + (b >> 3), true);
    dv.setUint32(shuffled + 16 * i + 8, blocks + BLOCK * b, true);
  }
  measure("bqSort and bqMerge, 256 requests", 0, (k) => {
    u8.copyWithin(reqs, shuffled, shuffled + 16 * n);
    k.bqSort(reqs, n, scratch);
    return k.bqMerge(reqs, n, BLOCK, 256, 64, runs, iovs);
  });

  const ring = arena.alloc(192 + 32 * 64, 64);
  wasm.ringInit(ring, 64);
  measure("ringPush and ringPop", 0, (k) => k.ringPush(ring, name) + k.ringPop(ring, out));
}

const ns = (t: number | undefined) => (t === undefined ? "" : t.toFixed(t < 100 ? 1 : 0));
const rate = (bytes: number, t: number | undefined) => (bytes === 0 || t === undefined ? "" : (bytes / t).toFixed(2));

/** The table as Markdown rows. */
export function formatRow(r: BenchRow): string {
  return `| ${[
    r.kernel,
    ns(r.wasm_ns),
    ns(r.twin_ns),
    ns(r.native_ns),
    rate(r.bytes, r.wasm_ns),
    rate(r.bytes, r.twin_ns),
    rate(r.bytes, r.native_ns),
    (r.twin_ns / r.wasm_ns).toFixed(1),
  ].join(" | ")} |`;
}

export const HEADER = `| kernel | Wasm ns | TypeScript ns | zlib ns | Wasm GB/s | TypeScript GB/s | zlib GB/s | Wasm is x times faster |
|---|--:|--:|--:|--:|--:|--:|--:|`;
