// CRC-32 in the kernel's three forms: crc32_le (metaecc), crc32c (jbd2's checksums v2 and v3) and crc32_be (jbd2's compat
// checksum). Without it no metadata of a volume with metaecc, and no journal with checksums, can be read or written.
// As in the kernel the seed is passed in and nothing is inverted before or after.
//
// Three ways, by length. Groups of 1 KiB, by SIMD: a nibble's share of the result depends on its place and its value
// only, so a table of 16 bytes for each row of 32 bytes, nibble and byte of the result gives 16 shares in one look-up
// (swizzle); 32 lanes collect the shares of 32 columns, and 32 + 3 bytes remain to be reduced. Shorter than that,
// braided: one chain of table look-ups waits for its own result at every step, so four chains run side by side over
// every fourth word and the last four words join them. What is left: word by word, byte by byte.

const SLICE_BYTES: usize = 8 * 1024;
const BRAIDS: usize = 4;
const GROUP_BYTES: usize = 1024;
const ROW_BYTES: usize = 32;
const ROW_TABLE: usize = 128;
const NIBBLES: usize = 16384;

// Eight slices, eight slices for the braids, and the nibble tables of a group.
const LE: usize = memory.data(20480, 64);
const CASTAGNOLI: usize = memory.data(20480, 64);
const BE: usize = memory.data(8192, 64);

/** Bytes of the check field that crcAround counts as zero. */
const GAP_BYTES: i32 = 8;

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
  // Row by row from the last: what the nibbles of a byte leave behind, one result byte to a vector.
  for (let n: u32 = 0; n < 32; n++) {
    let c = load<u32>(table + (<usize>(n < 16 ? n : (n - 16) << 4) << 2));
    for (let row = <i32>(GROUP_BYTES / ROW_BYTES) - 1; row >= 0; row--) {
      const at = table + NIBBLES + <usize>row * ROW_TABLE + <usize>((n >> 4) << 6) + <usize>(n & 15);
      for (let plane: u32 = 0; plane < 4; plane++) store<u8>(at + <usize>(plane << 4), <u8>(c >> (plane << 3)));
      for (let k: usize = 0; k < ROW_BYTES; k++) c = (c >> 8) ^ load<u32>(table + (<usize>(c & 0xff) << 2));
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

function braided(table: usize, crc: u32, p: usize, len: usize): u32 {
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

// @ts-ignore: decorator
@inline
function share(sum: v128, table: v128, nibbles: v128): v128 {
  return v128.xor(sum, i8x16.swizzle(table, nibbles));
}

/** 0xff in each lane whose byte, `from` and its own number behind the gap's first byte, lies in the gap. */
// @ts-ignore: decorator
@inline
function inGap(from: i32): v128 {
  const lane = i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return i8x16.lt_u(i8x16.add(lane, i8x16.splat(<i8>from)), i8x16.splat(<i8>GAP_BYTES));
}

/** One group of 1 KiB. The eight bytes at gap (relative to p, may reach over either end) count as zero. */
function group(table: usize, crc: u32, p: usize, gap: i32): u32 {
  const low = i8x16.splat(15);
  const zero = i64x2.splat(0);
  let a0 = zero;
  let a1 = zero;
  let a2 = zero;
  let a3 = zero;
  let b0 = zero;
  let b1 = zero;
  let b2 = zero;
  let b3 = zero;
  let seed = i32x4.replace_lane(zero, 0, crc);
  let row: i32 = 0;
  // Rows the gap touches; the sum is linear, so its bytes put in once more are taken out.
  const gap_first = max(gap, 0) >> 5;
  const gap_last = min(gap + GAP_BYTES - 1, <i32>GROUP_BYTES - 1) >> 5;
  const rows = <i32>(GROUP_BYTES / ROW_BYTES);
  const end = rows + (gap > -GAP_BYTES && gap < <i32>GROUP_BYTES ? gap_last - gap_first + 1 : 0);
  for (let i: i32 = 0; i < end; i++, row++) {
    if (i == rows) row = gap_first;
    const q = p + (<usize>row << 5);
    let x = v128.xor(v128.load(q), seed);
    let y = v128.load(q, 16);
    if (i >= rows) {
      x = v128.and(x, inGap((row << 5) - gap));
      y = v128.and(y, inGap((row << 5) + 16 - gap));
    }
    seed = zero;
    const xl = v128.and(x, low);
    const yl = v128.and(y, low);
    const xh = v128.and(i16x8.shr_u(x, 4), low);
    const yh = v128.and(i16x8.shr_u(y, 4), low);
    const t = table + NIBBLES + <usize>row * ROW_TABLE;
    let u = v128.load(t);
    a0 = share(a0, u, xl);
    b0 = share(b0, u, yl);
    u = v128.load(t, 16);
    a1 = share(a1, u, xl);
    b1 = share(b1, u, yl);
    u = v128.load(t, 32);
    a2 = share(a2, u, xl);
    b2 = share(b2, u, yl);
    u = v128.load(t, 48);
    a3 = share(a3, u, xl);
    b3 = share(b3, u, yl);
    u = v128.load(t, 64);
    a0 = share(a0, u, xh);
    b0 = share(b0, u, yh);
    u = v128.load(t, 80);
    a1 = share(a1, u, xh);
    b1 = share(b1, u, yh);
    u = v128.load(t, 96);
    a2 = share(a2, u, xh);
    b2 = share(b2, u, yh);
    u = v128.load(t, 112);
    a3 = share(a3, u, xh);
    b3 = share(b3, u, yh);
  }
  // Byte k of lane j's sum stands k + 1 places behind place j of a string of 36 bytes whose first is zero. 32 of them
  // are a message still to be reduced, the last four are added to what it leaves.
  let s = v128.xor(
    v128.xor(
      v128.shuffle<u8>(zero, a0, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30),
      v128.shuffle<u8>(zero, a1, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29),
    ),
    v128.xor(
      v128.shuffle<u8>(zero, a2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28),
      v128.shuffle<u8>(zero, a3, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27),
    ),
  );
  let r = word(table, i64x2.extract_lane(s, 0));
  r = word(table, i64x2.extract_lane(s, 1) ^ <u64>r);
  s = v128.xor(
    v128.xor(
      v128.shuffle<u8>(a0, b0, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30),
      v128.shuffle<u8>(a1, b1, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29),
    ),
    v128.xor(
      v128.shuffle<u8>(a2, b2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28),
      v128.shuffle<u8>(a3, b3, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27),
    ),
  );
  r = word(table, i64x2.extract_lane(s, 0) ^ <u64>r);
  r = word(table, i64x2.extract_lane(s, 1) ^ <u64>r);
  const tail =
    (<u32>i8x16.extract_lane_u(b0, 15)) ^
    (<u32>i16x8.extract_lane_u(b1, 7)) ^
    (<u32>i32x4.extract_lane(b2, 3) >> 8) ^
    <u32>i32x4.extract_lane(b3, 3);
  return r ^ tail;
}

const NO_GAP: i32 = i32.MIN_VALUE;

// @ts-ignore: decorator
@inline
function reflected(table: usize, crc: u32, p: usize, len: usize): u32 {
  for (; len >= GROUP_BYTES; len -= GROUP_BYTES, p += GROUP_BYTES) crc = group(table, crc, p, NO_GAP);
  return braided(table, crc, p, len);
}

/** crc32_le as if the eight bytes at gap (relative to p, may lie outside) were zero. Writes nothing. */
export function crcAround(crc: u32, p: usize, len: usize, gap: i32): u32 {
  for (; len >= GROUP_BYTES; len -= GROUP_BYTES, p += GROUP_BYTES, gap -= <i32>GROUP_BYTES) crc = group(LE, crc, p, gap);
  if (gap <= -GAP_BYTES || gap >= <i32>len) return braided(LE, crc, p, len);
  const from = max(gap, 0);
  const to = min(gap + GAP_BYTES, <i32>len);
  crc = braided(LE, crc, p, <usize>from);
  for (let i = from; i < to; i++) crc = (crc >> 8) ^ load<u32>(LE + (<usize>(crc & 0xff) << 2));
  return braided(LE, crc, p + <usize>to, len - <usize>to);
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
