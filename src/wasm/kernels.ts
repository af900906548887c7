// The typed face of the kernels in asm/, and its two implementations: the Wasm module over an arena, and the plain
// TypeScript twins over bytes. Whoever grinds asks for a Kernels and does not care which it has. Without it addresses
// and signed results leak into the rest of the code.
//
// Conventions: every address is a byte offset into the arena; every u32 comes back unsigned; an address parameter that
// may be 0 is optional. Kernels read up to 16 bytes behind what they are given (Arena keeps a guard at its end), and
// never write outside it.

import type { Arena } from "./arena.ts";
import { aioTwin } from "./twins/aio.ts";
import { bitmapTwin } from "./twins/bitmap.ts";
import { blockqueueTwin } from "./twins/blockqueue.ts";
import { checksumTwin } from "./twins/checksum.ts";
import { dirhashTwin } from "./twins/dirhash.ts";
import { extentMapTwin } from "./twins/extent_map.ts";
import { twinMemory } from "./twins/memory.ts";

/** A block check that held. */
export const CHECK_OK = 0;
/** A block check that holds after one bit of the block was flipped back. */
export const CHECK_FIXED = 1;
/** A block check that cannot be met; the block is as it was. */
export const CHECK_BAD = -1;

/** Bytes of struct ocfs2_block_check: u32 bc_crc32e, u16 bc_ecc, u16 reserved. */
export const BLOCK_CHECK_BYTES = 8;

/** CRCs as the kernel's functions of the same names (seed passed in, no inversion), and fs/ocfs2/blockcheck.c. */
export interface ChecksumKernels {
  /** crc32_le(crc, addr, len_bytes); metaecc seeds it with 0xffffffff. zlib's is ~crc32Le(~0, ...). */
  crc32Le(crc: number, addr: number, len_bytes: number): number;
  /** crc32_be: jbd2's compat checksum. */
  crc32Be(crc: number, addr: number, len_bytes: number): number;
  /** crc32c: jbd2's checksums v2 and v3 (jbd2_chksum). */
  crc32c(crc: number, addr: number, len_bytes: number): number;
  /** crc32c with one seed over n buffers whose u32 addresses are at addrs; u32 results go to out. */
  crc32cBatch(seed: number, addrs: number, n: number, len_bytes: number, out: number): void;
  /** ocfs2_hamming_encode: parity of len_bits (a multiple of 8) that begin at bit nr of the whole. */
  hammingEncode(parity: number, addr: number, len_bits: number, nr: number): number;
  /** ocfs2_hamming_fix: flips the data bit with code-bit number fix if it lies here; 1 if it did. */
  hammingFix(addr: number, len_bits: number, nr: number, fix: number): number;
  /** ocfs2_block_check_compute: fills the ocfs2_block_check at addr + check_off. */
  blockCheckCompute(addr: number, len_bytes: number, check_off: number): void;
  /** ocfs2_block_check_validate: CHECK_OK, CHECK_FIXED or CHECK_BAD. Writes nothing unless it fixes. */
  blockCheckValidate(addr: number, len_bytes: number, check_off: number): number;
  /** blockCheckCompute over n pairs of u32 {addr, check_off} at pairs. */
  blockCheckComputeBatch(pairs: number, n: number, len_bytes: number): void;
  /** blockCheckValidate over n pairs; an i8 result each at results (0: none wanted); returns how many were not OK. */
  blockCheckValidateBatch(pairs: number, n: number, len_bytes: number, results: number): number;
  /** ocfs2_block_check_compute_bhs: one logical block in n buffers of len_bytes, u32 addresses at addrs. */
  blockCheckComputeBhs(addrs: number, n: number, len_bytes: number, check_off: number): void;
  /** ocfs2_block_check_validate_bhs. */
  blockCheckValidateBhs(addrs: number, n: number, len_bytes: number, check_off: number): number;
}

/** Extent lists on disk, and the cached map of an inode (layout: asm/extent_map.ts). */
export interface ExtentMapKernels {
  /** ocfs2_search_extent_list: index of the leaf record holding cpos among count at recs, or -1. */
  extentSearch(recs: number, count: number, cpos: number): number;
  /** extentSearch for n u32 positions at cpos; i32 indexes go to out. */
  extentSearchBatch(recs: number, count: number, cpos: number, n: number, out: number): void;
  /** The step of __ocfs2_find_path: index of the record to descend by, the last if none holds cpos, -1 if count is 0. */
  extentSearchInterior(recs: number, count: number, cpos: number): number;
  /** Makes an empty map of emapBytes(capacity) bytes, 16-aligned. */
  emapInit(map: number, capacity: number): void;
  /**
   * The record that holds cpos, to out as u32 {cpos, clusters, phys, flags}; returns its index, -1 not in the map, -2
   * being changed all the while (only from another thread than the writer's). out is written even for -2.
   */
  emapLookup(map: number, cpos: number, out: number): number;
  /**
   * emapLookup for n u32 positions at cpos; a record each to out, zero where the map has nothing. Returns how many were
   * looked up: less than n only if another thread was changing the map all the while.
   */
  emapLookupBatch(map: number, cpos: number, n: number, out: number): number;
  /** Replaces what the map had there; phys is a cluster number, 0 a hole. Returns the record count, -1 if full. */
  emapInsert(map: number, cpos: number, clusters: number, phys: number, flags: number): number;
  /** Forgets a range. Returns the record count, -1 if a record would have to be split and there is no room. */
  emapRemove(map: number, cpos: number, clusters: number): number;
}

/** Little-endian bitmaps: bit i is bit i % 8 of byte i / 8. */
export interface BitmapKernels {
  /** First set bit at or behind from, nbits if none. */
  findNextBit(addr: number, nbits: number, from: number): number;
  /** First clear bit at or behind from, nbits if none. */
  findNextZeroBit(addr: number, nbits: number, from: number): number;
  /**
   * A run of clear bits at or behind from, clear also in the bitmap at other (0: none; the committed copy of a group).
   * best 0: the first of want or more; 1: the shortest of want or more; without one, the longest run. Stores u32
   * {start, length} at out (best 0 stops at want) and returns min(length, want); 0: no bit is clear.
   * Mirrors ocfs2_block_group_find_clear_bits.
   */
  findFreeRun(
    addr: number,
    nbits: number,
    from: number,
    want: number,
    best: number,
    other: number,
    out: number,
  ): number;
  /** Set bits among the n from start on. */
  popcountRange(addr: number, start: number, n: number): number;
  /** Set bits of n bitmaps, from u32 pairs {addr, nbits}; u32 counts to out (0: not wanted). Returns the sum. */
  popcountBatch(pairs: number, n: number, out: number): number;
  /** Sets n bits; returns how many were set before: anything but 0 is a corruption. */
  setRange(addr: number, start: number, n: number): number;
  /** Clears n bits; returns how many were clear before: anything but 0 is a corruption. */
  clearRange(addr: number, start: number, n: number): number;
}

/** Directory blocks and the directory index: fs/ocfs2/dir.c. size: bytes of entries (the block, or inline i_size). */
export interface DirhashKernels {
  /**
   * ocfs2_dx_dir_name_hash over the name's bytes; seeds are s_dx_seed[0] and [1]. Stores u32 {major, minor} at out,
   * returns the major hash. signed 1: bytes from 0x80 up count as negative (a kernel built with signed char).
   */
  dxHash(name: number, len: number, seed0: number, seed1: number, signed: number, out: number): number;
  /** Index of the first of n dx entries from `from` on with both hashes, or -1. */
  dxFind(list: number, n: number, from: number, major: number, minor: number): number;
  /** Offset of the entry with this name, -1 none, -2 corrupt; i32 offset of the one before (-1 none) to prev unless 0. */
  dirFind(addr: number, size: number, name: number, len: number, prev: number): number;
  /** Offset of the first entry with room for need bytes, -1 none, -2 corrupt; trailer: its offset, or NO_TRAILER. */
  dirFindFree(addr: number, size: number, need: number, trailer: number): number;
  /** ocfs2_find_max_rec_len: the largest hole, 0 if below the smallest record, -2 corrupt. */
  dirMaxRecLen(addr: number, size: number, trailer: number): number;
  /** Entries in use, or -2 if one is bad: checks a whole block at once. */
  dirCheck(addr: number, size: number): number;
}

/** dirFindFree and dirMaxRecLen on a block without a trailer. */
export const NO_TRAILER = 0xffffffff;

/** Batching of block requests; layouts: asm/blockqueue.ts. */
export interface BlockqueueKernels {
  /** Sorts n requests (u64 blkno, u32 addr, u32 tag) by blkno, stable; scratch has room for n. */
  bqSort(reqs: number, n: number, scratch: number): void;
  /**
   * Merges n sorted requests of one block each; returns the number of runs. Run, 24 bytes: u64 blkno, u32 blocks,
   * first iovec, iovecs, first request. Iovec: u32 addr, len_bytes. Room for n of both.
   */
  bqMerge(
    reqs: number,
    n: number,
    block_bytes: number,
    max_blocks: number,
    max_iovs: number,
    runs: number,
    iovs: number,
  ): number;
}

export const BQ_REQ_BYTES = 16;
export const BQ_RUN_BYTES = 24;
export const BQ_IOV_BYTES = 8;

/** A bounded queue between threads; layout: asm/aio.ts. An entry is 24 bytes: u32 op, addr, len, token, u64 offset. */
export interface AioKernels {
  /** capacity: a power of two >= 2; takes ringBytes(capacity), 64-aligned. */
  ringInit(ring: number, capacity: number): void;
  /** 1, or 0 if the ring is full. */
  ringPush(ring: number, entry: number): number;
  /** Pushes up to n entries that lie one behind the other; returns how many there was room for. */
  ringPushN(ring: number, entries: number, n: number): number;
  /** 1, or 0 if the ring is empty. */
  ringPop(ring: number, out: number): number;
  /** Pops up to n entries, one behind the other at out; returns how many. */
  ringPopN(ring: number, out: number, n: number): number;
  ringCount(ring: number): number;
}

export const RING_ENTRY_BYTES = 24;

/** Bytes of a ring. */
export function ringBytes(capacity: number): number {
  return 192 + 32 * capacity;
}

/** Bytes of a cached extent map. */
export function emapBytes(capacity: number): number {
  return 16 + 16 * capacity;
}

export interface Kernels
  extends ChecksumKernels,
    ExtentMapKernels,
    BitmapKernels,
    DirhashKernels,
    BlockqueueKernels,
    AioKernels {}

/** The Wasm kernels over an arena's memory. Values the module returns as signed come back unsigned where they are u32. */
export function createKernels(arena: Arena): Kernels {
  const w = arena.exports as unknown as Kernels;
  const crc32Le = w.crc32Le;
  const crc32Be = w.crc32Be;
  const crc32c = w.crc32c;
  const hammingEncode = w.hammingEncode;
  const findNextBit = w.findNextBit;
  const findNextZeroBit = w.findNextZeroBit;
  const findFreeRun = w.findFreeRun;
  const popcountRange = w.popcountRange;
  const popcountBatch = w.popcountBatch;
  const setRange = w.setRange;
  const clearRange = w.clearRange;
  const dxHash = w.dxHash;
  return {
    ...w,
    crc32Le: (crc, addr, len) => crc32Le(crc, addr, len) >>> 0,
    crc32Be: (crc, addr, len) => crc32Be(crc, addr, len) >>> 0,
    crc32c: (crc, addr, len) => crc32c(crc, addr, len) >>> 0,
    hammingEncode: (parity, addr, bits, nr) => hammingEncode(parity, addr, bits, nr) >>> 0,
    findNextBit: (addr, nbits, from) => findNextBit(addr, nbits, from) >>> 0,
    findNextZeroBit: (addr, nbits, from) => findNextZeroBit(addr, nbits, from) >>> 0,
    findFreeRun: (addr, nbits, from, want, best, other, out) =>
      findFreeRun(addr, nbits, from, want, best, other, out) >>> 0,
    popcountRange: (addr, start, n) => popcountRange(addr, start, n) >>> 0,
    popcountBatch: (pairs, n, out) => popcountBatch(pairs, n, out) >>> 0,
    setRange: (addr, start, n) => setRange(addr, start, n) >>> 0,
    clearRange: (addr, start, n) => clearRange(addr, start, n) >>> 0,
    dxHash: (name, len, seed0, seed1, signed, out) => dxHash(name, len, seed0, seed1, signed, out) >>> 0,
  };
}

/** The TypeScript twins over any bytes: the oracle of the tests, and a way without Wasm. Addresses index u8. */
export function createTwinKernels(u8: Uint8Array): Kernels {
  const m = twinMemory(u8);
  return {
    ...checksumTwin(m),
    ...extentMapTwin(m),
    ...bitmapTwin(m),
    ...dirhashTwin(m),
    ...blockqueueTwin(m),
    ...aioTwin(m),
  };
}
