// The Hamming code of metaecc, which finds and repairs one flipped bit of a block. Without it no metadata block of a
// volume with metaecc can be written. Mirrors ocfs2_hamming_encode and ocfs2_hamming_fix in fs/ocfs2/blockcheck.c, but by
// words: the code-bit number of data bit i is i + 1 + (number of powers of two up to it), so between two powers of two
// it is i + c with c constant. Reading the data shifted by c therefore gives words of code-bit space, where the parity
// is: the xor of all words (its low six bits) and, for each higher bit, the parity of the words whose number has it.

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
