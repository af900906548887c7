// Searching and counting in little-endian bitmaps (bit i is bit i % 8 of byte i / 8): group descriptors, the local
// alloc window, slot bitmaps. Without it every allocation tests bit by bit. Mirrors the le bit operations and
// ocfs2_block_group_find_clear_bits in fs/ocfs2/suballoc.c. Words of 64 bits are read, so up to seven bytes behind
// the bitmap are read and masked off.

// @ts-ignore: decorator
@inline
function next(addr: usize, other: usize, nbits: u32, from: u32, flip: u64): u32 {
  if (from >= nbits) return nbits;
  let w = from >> 6;
  const words = (nbits + 63) >> 6;
  let x = load<u64>(addr + (<usize>w << 3));
  if (other) x |= load<u64>(other + (<usize>w << 3));
  x = (x ^ flip) & (~(<u64>0) << <u64>(from & 63));
  while (x == 0) {
    if (++w >= words) return nbits;
    x = load<u64>(addr + (<usize>w << 3));
    if (other) x |= load<u64>(other + (<usize>w << 3));
    x ^= flip;
  }
  return min(nbits, (w << 6) + <u32>ctz<u64>(x));
}

export function findNextBit(addr: usize, nbits: u32, from: u32): u32 {
  return next(addr, 0, nbits, from, 0);
}

export function findNextZeroBit(addr: usize, nbits: u32, from: u32): u32 {
  return next(addr, 0, nbits, from, ~(<u64>0));
}

/**
 * A run of clear bits at or behind `from`, clear in `other` too where that is not 0. best == 0: the first run of `want`
 * or more; best != 0: the shortest such run; without one, the longest run there is. Stores start and length (best == 0:
 * cut at want) at out and returns min(length, want), 0 if no bit is clear.
 */
export function findFreeRun(addr: usize, nbits: u32, from: u32, want: u32, best: u32, other: usize, out: usize): u32 {
  let start: u32 = 0;
  let len: u32 = 0;
  let pos = from;
  while (pos < nbits) {
    const z = next(addr, other, nbits, pos, ~(<u64>0));
    if (z >= nbits) break;
    const limit = best == 0 && nbits - z > want ? z + want : nbits;
    const e = next(addr, other, limit, z, 0);
    const run = e - z;
    if (best == 0 || len < want ? run > len : run >= want && run < len) {
      start = z;
      len = run;
    }
    if (best == 0 ? run >= want : run == want) break;
    pos = e + 1;
  }
  store<u32>(out, start);
  store<u32>(out, len, 4);
  return min(len, want);
}

/** Number of set bits among the n from start on. */
export function popcountRange(addr: usize, start: u32, n: u32): u32 {
  if (n == 0) return 0;
  const end = start + n;
  let w = start >> 6;
  const last = (end - 1) >> 6;
  const head = ~(<u64>0) << <u64>(start & 63);
  const tail = ~(<u64>0) >> <u64>((0 - end) & 63);
  if (w == last) return <u32>popcnt<u64>(load<u64>(addr + (<usize>w << 3)) & head & tail);
  let count = <u32>popcnt<u64>(load<u64>(addr + (<usize>w << 3)) & head);
  for (w++; w < last; w++) count += <u32>popcnt<u64>(load<u64>(addr + (<usize>w << 3)));
  return count + <u32>popcnt<u64>(load<u64>(addr + (<usize>w << 3)) & tail);
}

/** Set bits of each of n bitmaps, from pairs of u32 {addr, nbits}; u32 counts to out (0: not wanted). Returns the sum. */
export function popcountBatch(pairs: usize, n: u32, out: usize): u32 {
  let sum: u32 = 0;
  for (let i: usize = 0; i < <usize>n; i++) {
    const count = popcountRange(<usize>load<u32>(pairs + (i << 3)), 0, load<u32>(pairs + (i << 3), 4));
    if (out) store<u32>(out + (i << 2), count);
    sum += count;
  }
  return sum;
}

// Bytes, not words, are written: what lies behind the bitmap may belong to another thread.
// @ts-ignore: decorator
@inline
function change(addr: usize, start: u32, n: u32, set: bool): void {
  if (n == 0) return;
  const end = start + n;
  let b = <usize>(start >> 3);
  const last = <usize>((end - 1) >> 3);
  const head: u32 = (0xff << (start & 7)) & 0xff;
  const tail: u32 = 0xff >> ((0 - end) & 7);
  if (b == last) {
    const m = head & tail;
    const v = <u32>load<u8>(addr + b);
    store<u8>(addr + b, <u8>(set ? v | m : v & ~m));
    return;
  }
  let v = <u32>load<u8>(addr + b);
  store<u8>(addr + b, <u8>(set ? v | head : v & ~head));
  b++;
  memory.fill(addr + b, set ? 0xff : 0, last - b);
  v = <u32>load<u8>(addr + last);
  store<u8>(addr + last, <u8>(set ? v | tail : v & ~tail));
}

/** Sets n bits from start on; returns how many of them were set before (anything but 0 is a corruption). */
export function setRange(addr: usize, start: u32, n: u32): u32 {
  const before = popcountRange(addr, start, n);
  change(addr, start, n, true);
  return before;
}

/** Clears n bits from start on; returns how many of them were clear before (anything but 0 is a corruption). */
export function clearRange(addr: usize, start: u32, n: u32): u32 {
  const before = n - popcountRange(addr, start, n);
  change(addr, start, n, false);
  return before;
}
