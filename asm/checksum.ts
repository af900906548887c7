// CRC-32 in the kernel's three forms and the Hamming code of metaecc. Without it no metadata block of a volume with
// the metaecc feature can be read or written. Mirrors fs/ocfs2/blockcheck.c (block_check_compute and _validate,
// hamming_encode and _fix) and the crc32_le, crc32_be, crc32c that jbd2 and blockcheck call: the seed is passed in,
// and nothing is inverted before or after.
//
// CRC: braided. One chain of table look-ups waits for its own result at every step; four chains over every fourth
// word run side by side, and are joined by running the last four words one after another.
// Hamming: the code-bit number of data bit i is i + 1 + (number of powers of two up to it), so between two powers of
// two it is i + c with c constant. Reading the data shifted by c therefore gives words in code-bit space, where the
// parity is: the xor of all words (its low six bits) and, for each higher bit, the parity of the words whose number
// has it.

const SLICE_BYTES: usize = 8 * 1024;
const BRAIDS: usize = 4;
const TABLE_BYTES: usize = 2 * SLICE_BYTES;

const LE: usize = memory.data(16384, 64);
const CASTAGNOLI: usize = memory.data(16384, 64);
const BE: usize = memory.data(8192, 64);

const CHECK_BYTES: usize = 8;

function reflectedInit(table: usize, poly: u32): void {
  for (let n: u32 = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = (c >> 1) ^ (poly & (0 - (c & 1)));
    store<u32>(table + (<usize>n << 2), c);
  }
  // Slice k says what byte n leaves behind after k more zero bytes; the braid slices sit BRAIDS - 1 words further on.
  for (let n: u32 = 0; n < 256; n++) {
    let c = load<u32>(table + (<usize>n << 2));
    for (let k: usize = 1; k < 8 * BRAIDS; k++) {
      c = (c >> 8) ^ load<u32>(table + (<usize>(c & 0xff) << 2));
      if (k < 8) store<u32>(table + (k << 10) + (<usize>n << 2), c);
      if (k >= 8 * (BRAIDS - 1)) {
        store<u32>(table + SLICE_BYTES + ((k - 8 * (BRAIDS - 1)) << 10) + (<usize>n << 2), c);
      }
    }
  }
}

/** Fills the CRC tables; called once for a memory, before anything else. */
export function tablesInit(): void {
  reflectedInit(LE, 0xedb88320);
  reflectedInit(CASTAGNOLI, 0x82f63b78);
  for (let n: u32 = 0; n < 256; n++) {
    let c = n << 24;
    for (let k = 0; k < 8; k++) c = (c << 1) ^ (0x04c11db7 & (0 - (c >> 31)));
    store<u32>(BE + (<usize>n << 2), c);
  }
  for (let n: u32 = 0; n < 256; n++) {
    let c = load<u32>(BE + (<usize>n << 2));
    for (let k: usize = 1; k < 8; k++) {
      c = (c << 8) ^ load<u32>(BE + (<usize>(c >> 24) << 2));
      store<u32>(BE + (k << 10) + (<usize>n << 2), c);
    }
  }
}

// @ts-ignore: decorator
@inline
function look(table: usize, slice: usize, w: u64, shift: u64): u32 {
  return load<u32>(table + (slice << 10) + (<usize>((w >> shift) & 0xff) << 2));
}

// @ts-ignore: decorator
@inline
function word(table: usize, w: u64): u32 {
  return (
    look(table, 7, w, 0) ^
    look(table, 6, w, 8) ^
    look(table, 5, w, 16) ^
    look(table, 4, w, 24) ^
    look(table, 3, w, 32) ^
    look(table, 2, w, 40) ^
    look(table, 1, w, 48) ^
    look(table, 0, w, 56)
  );
}

// @ts-ignore: decorator
@inline
function reflected(table: usize, crc: u32, p: usize, len: usize): u32 {
  const step: usize = 8 * BRAIDS;
  if (len >= 2 * step) {
    const braid = table + SLICE_BYTES;
    let c0: u32 = crc;
    let c1: u32 = 0;
    let c2: u32 = 0;
    let c3: u32 = 0;
    const last = p + (len & ~(step - 1)) - step;
    for (; p < last; p += step) {
      const w0 = load<u64>(p) ^ <u64>c0;
      const w1 = load<u64>(p, 8) ^ <u64>c1;
      const w2 = load<u64>(p, 16) ^ <u64>c2;
      const w3 = load<u64>(p, 24) ^ <u64>c3;
      c0 = word(braid, w0);
      c1 = word(braid, w1);
      c2 = word(braid, w2);
      c3 = word(braid, w3);
    }
    crc = word(table, load<u64>(p) ^ <u64>c0);
    crc = word(table, load<u64>(p, 8) ^ <u64>(c1 ^ crc));
    crc = word(table, load<u64>(p, 16) ^ <u64>(c2 ^ crc));
    crc = word(table, load<u64>(p, 24) ^ <u64>(c3 ^ crc));
    p += step;
    len &= step - 1;
  }
  for (; len >= 8; len -= 8, p += 8) crc = word(table, load<u64>(p) ^ <u64>crc);
  for (; len > 0; len--, p++) {
    crc = (crc >> 8) ^ load<u32>(table + (<usize>((crc ^ <u32>load<u8>(p)) & 0xff) << 2));
  }
  return crc;
}

export function crc32Le(crc: u32, p: usize, len: usize): u32 {
  return reflected(LE, crc, p, len);
}

export function crc32c(crc: u32, p: usize, len: usize): u32 {
  return reflected(CASTAGNOLI, crc, p, len);
}

export function crc32Be(crc: u32, p: usize, len: usize): u32 {
  for (; len >= 8; len -= 8, p += 8) {
    const w = bswap<u64>(load<u64>(p)) ^ (<u64>crc << 32);
    crc =
      look(BE, 7, w, 56) ^
      look(BE, 6, w, 48) ^
      look(BE, 5, w, 40) ^
      look(BE, 4, w, 32) ^
      look(BE, 3, w, 24) ^
      look(BE, 2, w, 16) ^
      look(BE, 1, w, 8) ^
      look(BE, 0, w, 0);
  }
  for (; len > 0; len--, p++) {
    crc = (crc << 8) ^ load<u32>(BE + (<usize>((crc >> 24) ^ <u32>load<u8>(p)) << 2));
  }
  return crc;
}

/** crc32c with one seed over n buffers of len bytes: the tag checksums of one transaction. */
export function crc32cBatch(seed: u32, addrs: usize, n: u32, len: usize, out: usize): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    store<u32>(out + (i << 2), crc32c(seed, <usize>load<u32>(addrs + (i << 2)), len));
  }
}

// ---------------------------------------------------------------------------------------------------- Hamming code

// Words of code-bit space below 64 hold the parity positions 1, 2, 4, 8, 16, 32: 57 data bits.
const HEAD_BITS: u32 = 57;
const CHUNK_WORDS: u32 = 32;

/** 64 bits from bit q of the hunk on; what lies outside the hunk reads as zero. */
function gather(addr: usize, d: u32, q: i32): u64 {
  let v: u64 = 0;
  const bytes = <i32>(d >> 3);
  for (let b = q >> 3; b <= (q + 63) >> 3; b++) {
    if (b < 0 || b >= bytes) continue;
    const at = (b << 3) - q;
    const byte = <u64>load<u8>(addr + <usize>b);
    v |= at < 0 ? byte >> <u64>-at : byte << <u64>at;
  }
  return v;
}

// @ts-ignore: decorator
@inline
function odd(x: u64): u32 {
  return <u32>popcnt<u64>(x) & 1;
}

// @ts-ignore: decorator
@inline
function oddv(x: v128): u32 {
  return odd(i64x2.extract_lane(x, 0) ^ i64x2.extract_lane(x, 1));
}

// @ts-ignore: decorator
@inline
function shifted(p: usize, s: i32, at: usize): v128 {
  return v128.or(i64x2.shr_u(v128.load(p + at), s), i64x2.shl(v128.load(p + at, 1), 8 - s));
}

/**
 * Parity of d bits at addr that are bits nr .. nr + d of the whole, xored into `parity`. d and nr are multiples of 8.
 * May read one byte behind the hunk, which the arena's guard makes safe.
 */
export function hammingEncode(parity: u32, addr: usize, d: u32, nr: u32): u32 {
  const end = nr + d;
  let low: u64 = 0;
  let high: u32 = 0;
  let all = i64x2.splat(0);
  let t0 = i64x2.splat(0);
  let t1 = i64x2.splat(0);
  let t2 = i64x2.splat(0);
  let t3 = i64x2.splat(0);

  if (nr < HEAD_BITS) {
    const first = gather(addr, d, -(<i32>nr)) & ((<u64>1 << HEAD_BITS) - 1);
    low =
      ((first & 1) << 3) |
      (((first >> 1) & 0x7) << 5) |
      (((first >> 4) & 0x7f) << 9) |
      (((first >> 11) & 0x7fff) << 17) |
      (((first >> 26) & 0x7fffffff) << 33);
  }

  for (let k: u32 = 6; k < 31; k++) {
    const c = k + 2;
    const seg_lo = (<u32>1 << k) + 1 - c;
    const seg_hi = (<u32>2 << k) - c;
    if (seg_lo >= end) break;
    if (seg_hi <= nr) continue;
    let from = max(seg_lo, nr) + c;
    const to = min(seg_hi, end) + c;

    // The power of two itself is no data bit, but starting there keeps the words aligned: take its share out again.
    if (from == (<u32>1 << k) + 1 && seg_lo > nr) {
      const q = seg_lo - 1 - nr;
      if (((<u32>load<u8>(addr + (q >> 3))) >> (q & 7)) & 1) {
        high ^= <u32>1 << k;
        low ^= 1;
      }
      from--;
    }
    let w = from >> 6;
    const last = to >> 6;
    if (from & 63) {
      let x = gather(addr, d, <i32>((w << 6) - c - nr)) & (~(<u64>0) << <u64>(from & 63));
      if (w == last) x &= (<u64>1 << <u64>(to & 63)) - 1;
      low ^= x;
      if (odd(x)) high ^= w << 6;
      if (w == last) continue;
      w++;
    }
    const base = addr - <usize>((c + nr + 7) >> 3);
    const s = <i32>((0 - (c + nr)) & 7);
    while (w < last) {
      if ((w & (CHUNK_WORDS - 1)) == 0 && w + CHUNK_WORDS <= last) {
        const p = base + (<usize>w << 3);
        let v1 = shifted(p, s, 16);
        let v3 = shifted(p, s, 48);
        let v5 = shifted(p, s, 80);
        let v7 = shifted(p, s, 112);
        let a0 = v128.xor(shifted(p, s, 0), v1);
        let a1 = v128.xor(shifted(p, s, 32), v3);
        let a2 = v128.xor(shifted(p, s, 64), v5);
        let a3 = v128.xor(shifted(p, s, 96), v7);
        t0 = v128.xor(t0, v128.xor(v128.xor(v1, v3), v128.xor(v5, v7)));
        t1 = v128.xor(t1, v128.xor(a1, a3));
        a0 = v128.xor(a0, a1);
        a2 = v128.xor(a2, a3);
        t2 = v128.xor(t2, a2);
        const lo = v128.xor(a0, a2);
        v1 = shifted(p, s, 144);
        v3 = shifted(p, s, 176);
        v5 = shifted(p, s, 208);
        v7 = shifted(p, s, 240);
        a0 = v128.xor(shifted(p, s, 128), v1);
        a1 = v128.xor(shifted(p, s, 160), v3);
        a2 = v128.xor(shifted(p, s, 192), v5);
        a3 = v128.xor(shifted(p, s, 224), v7);
        t0 = v128.xor(t0, v128.xor(v128.xor(v1, v3), v128.xor(v5, v7)));
        t1 = v128.xor(t1, v128.xor(a1, a3));
        a0 = v128.xor(a0, a1);
        a2 = v128.xor(a2, a3);
        t2 = v128.xor(t2, a2);
        const hi = v128.xor(a0, a2);
        t3 = v128.xor(t3, hi);
        const sum = v128.xor(lo, hi);
        all = v128.xor(all, sum);
        if (oddv(sum)) high ^= w << 6;
        w += CHUNK_WORDS;
      } else {
        const p = base + (<usize>w << 3);
        const x = (load<u64>(p) >> <u64>s) | (load<u64>(p, 1) << <u64>(8 - s));
        low ^= x;
        high ^= (0 - odd(x)) & (w << 6);
        w++;
      }
    }
    if (to & 63) {
      const x = gather(addr, d, <i32>((w << 6) - c - nr)) & ((<u64>1 << <u64>(to & 63)) - 1);
      low ^= x;
      if (odd(x)) high ^= w << 6;
    }
  }

  const lane1 = i64x2.extract_lane(all, 1);
  low ^= i64x2.extract_lane(all, 0) ^ lane1;
  high ^= (odd(lane1) << 6) ^ (oddv(t0) << 7) ^ (oddv(t1) << 8) ^ (oddv(t2) << 9) ^ (oddv(t3) << 10);
  high ^=
    odd(low & 0xaaaaaaaaaaaaaaaa) |
    (odd(low & 0xcccccccccccccccc) << 1) |
    (odd(low & 0xf0f0f0f0f0f0f0f0) << 2) |
    (odd(low & 0xff00ff00ff00ff00) << 3) |
    (odd(low & 0xffff0000ffff0000) << 4) |
    (odd(low & 0xffffffff00000000) << 5);
  return parity ^ high;
}

/** Flips the data bit whose code-bit number is `fix`, if it is a data bit of this hunk; returns 1 if it did. */
export function hammingFix(addr: usize, d: u32, nr: u32, fix: u32): i32 {
  if (popcnt<u32>(fix) < 2) return 0;
  const i = fix - (31 - clz<u32>(fix)) - 2;
  if (i < nr || i >= nr + d) return 0;
  const p = addr + <usize>((i - nr) >> 3);
  store<u8>(p, <u8>(<u32>load<u8>(p) ^ (<u32>1 << ((i - nr) & 7))));
  return 1;
}

// ------------------------------------------------------------------------------------------------------ block check

const ZEROS: usize = memory.data(16, 16);

/** crc32_le(~0) of the block as if its check field were zero. Writes nothing, so readers may share the block. */
function crcAround(addr: usize, len: usize, check: usize): u32 {
  let crc = crc32Le(0xffffffff, addr, check);
  crc = crc32Le(crc, ZEROS, CHECK_BYTES);
  return crc32Le(crc, addr + check + CHECK_BYTES, len - check - CHECK_BYTES);
}

/** Parity of the block as if its check field were zero: the code is linear, so the field's own share is taken out. */
function eccAround(addr: usize, len: usize, check: usize): u32 {
  const ecc = hammingEncode(0, addr, <u32>len << 3, 0);
  return hammingEncode(ecc, addr + check, <u32>CHECK_BYTES << 3, <u32>check << 3);
}

export function blockCheckCompute(addr: usize, len: usize, check: usize): void {
  store<u64>(addr + check, 0);
  const crc = crc32Le(0xffffffff, addr, len);
  const ecc = hammingEncode(0, addr, <u32>len << 3, 0);
  store<u64>(addr + check, <u64>crc | (<u64>(ecc & 0xffff) << 32));
}

export function blockCheckValidate(addr: usize, len: usize, check: usize): i32 {
  const stored = load<u32>(addr + check);
  if (crcAround(addr, len, check) == stored) return 0;
  const fix = (eccAround(addr, len, check) & 0xffff) ^ <u32>load<u16>(addr + check, 4);
  if (!hammingFix(addr, <u32>len << 3, 0, fix)) return -1;
  if (crcAround(addr, len, check) == stored) return 1;
  hammingFix(addr, <u32>len << 3, 0, fix);
  return -1;
}

export function blockCheckComputeBatch(pairs: usize, n: u32, len: usize): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    const at = pairs + (i << 3);
    blockCheckCompute(<usize>load<u32>(at), len, <usize>load<u32>(at, 4));
  }
}

export function blockCheckValidateBatch(pairs: usize, n: u32, len: usize, results: usize): u32 {
  let not_ok: u32 = 0;
  for (let i: usize = 0; i < <usize>n; i++) {
    const at = pairs + (i << 3);
    const rc = blockCheckValidate(<usize>load<u32>(at), len, <usize>load<u32>(at, 4));
    if (results) store<i8>(results + i, <i8>rc);
    if (rc) not_ok++;
  }
  return not_ok;
}

// @ts-ignore: decorator
@inline
function buffer(addrs: usize, i: u32): usize {
  return <usize>load<u32>(addrs + (<usize>i << 2));
}

function crcAroundBhs(addrs: usize, n: u32, len: usize, check: usize): u32 {
  let crc: u32 = 0xffffffff;
  for (let i: u32 = 0; i < n; i++) {
    const start = <usize>i * len;
    const addr = buffer(addrs, i);
    if (check >= start && check < start + len) {
      crc = crc32Le(crc, addr, check - start);
      crc = crc32Le(crc, ZEROS, CHECK_BYTES);
      crc = crc32Le(crc, addr + (check - start) + CHECK_BYTES, start + len - check - CHECK_BYTES);
    } else {
      crc = crc32Le(crc, addr, len);
    }
  }
  return crc;
}

function eccAroundBhs(addrs: usize, n: u32, len: usize, check: usize): u32 {
  const bits = <u32>len << 3;
  let ecc: u32 = 0;
  for (let i: u32 = 0; i < n; i++) ecc = hammingEncode(ecc, buffer(addrs, i), bits, i * bits);
  const i = <u32>(check / len);
  return hammingEncode(ecc, buffer(addrs, i) + (check - <usize>i * len), <u32>CHECK_BYTES << 3, <u32>check << 3);
}

export function blockCheckComputeBhs(addrs: usize, n: u32, len: usize, check: usize): void {
  if (n == 0) return;
  const i = <u32>(check / len);
  const at = buffer(addrs, i) + (check - <usize>i * len);
  store<u64>(at, 0);
  const crc = crcAroundBhs(addrs, n, len, check);
  const ecc = eccAroundBhs(addrs, n, len, check);
  store<u64>(at, <u64>crc | (<u64>(ecc & 0xffff) << 32));
}

function fixBhs(addrs: usize, n: u32, len: usize, fix: u32): i32 {
  const bits = <u32>len << 3;
  for (let i: u32 = 0; i < n; i++) {
    if (hammingFix(buffer(addrs, i), bits, i * bits, fix)) return 1;
  }
  return 0;
}

export function blockCheckValidateBhs(addrs: usize, n: u32, len: usize, check: usize): i32 {
  if (n == 0) return 0;
  const i = <u32>(check / len);
  const at = buffer(addrs, i) + (check - <usize>i * len);
  const stored = load<u32>(at);
  if (crcAroundBhs(addrs, n, len, check) == stored) return 0;
  const fix = (eccAroundBhs(addrs, n, len, check) & 0xffff) ^ <u32>load<u16>(at, 4);
  if (!fixBhs(addrs, n, len, fix)) return -1;
  if (crcAroundBhs(addrs, n, len, check) == stored) return 1;
  fixBhs(addrs, n, len, fix);
  return -1;
}
