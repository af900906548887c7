// Twin of asm/checksum.ts: CRC-32 by eight tables, the Hamming code by 32-bit words of code-bit space. Mirrors
// fs/ocfs2/blockcheck.c.

import type { ChecksumKernels } from "../kernels.ts";
import type { TwinMemory } from "./memory.ts";

const SLICES = 8;

function reflectedTables(poly: number): Uint32Array {
  const t = new Uint32Array(SLICES * 256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (poly & -(c & 1));
    t[n] = c;
  }
  for (let i = 256; i < t.length; i++) t[i] = (t[i - 256]! >>> 8) ^ t[t[i - 256]! & 0xff]!;
  return t;
}

function straightTable(poly: number): Uint32Array {
  const t = new Uint32Array(256);
  for (let n = 0; n < 256; n++) {
    let c = n << 24;
    for (let k = 0; k < 8; k++) c = (c << 1) ^ (poly & (c >> 31));
    t[n] = c;
  }
  return t;
}

const LE = reflectedTables(0xedb88320);
const CASTAGNOLI = reflectedTables(0x82f63b78);
const BE = straightTable(0x04c11db7);

function reflected(t: Uint32Array, crc: number, u8: Uint8Array, dv: DataView, addr: number, len: number): number {
  let p = addr;
  const end = addr + len;
  for (; p + 8 <= end; p += 8) {
    const a = dv.getUint32(p, true) ^ crc;
    const b = dv.getUint32(p + 4, true);
    crc =
      t[1792 + (a & 0xff)]! ^
      t[1536 + ((a >>> 8) & 0xff)]! ^
      t[1280 + ((a >>> 16) & 0xff)]! ^
      t[1024 + (a >>> 24)]! ^
      t[768 + (b & 0xff)]! ^
      t[512 + ((b >>> 8) & 0xff)]! ^
      t[256 + ((b >>> 16) & 0xff)]! ^
      t[b >>> 24]!;
  }
  for (; p < end; p++) crc = (crc >>> 8) ^ t[(crc ^ u8[p]!) & 0xff]!;
  return crc >>> 0;
}

/** Parity of a 32-bit word, 0 or 1. */
function odd(x: number): number {
  x ^= x >>> 16;
  x ^= x >>> 8;
  x ^= x >>> 4;
  return (0x6996 >>> (x & 15)) & 1;
}

/** Xor of the numbers 0 to 31 of the bits set in x. */
function lowParity(x: number): number {
  return (
    odd(x & 0xaaaaaaaa) |
    (odd(x & 0xcccccccc) << 1) |
    (odd(x & 0xf0f0f0f0) << 2) |
    (odd(x & 0xff00ff00) << 3) |
    (odd(x & 0xffff0000) << 4)
  );
}

export function checksumTwin(m: TwinMemory): ChecksumKernels {
  const { u8, dv } = m;

  /** 32 bits from bit q of the hunk on; zero outside it. */
  function gather(addr: number, bytes: number, q: number): number {
    const b = q >> 3;
    const s = q & 7;
    let v: number;
    if (b >= 0 && b + 5 <= bytes) {
      v = dv.getUint32(addr + b, true) >>> s;
      return s === 0 ? v : v | (u8[addr + b + 4]! << (32 - s));
    }
    v = 0;
    for (let i = 0; i < 5; i++) {
      if (b + i < 0 || b + i >= bytes) continue;
      const at = 8 * i - s;
      if (at < 0) v |= u8[addr + b + i]! >>> -at;
      else if (at < 32) v |= u8[addr + b + i]! << at;
    }
    return v;
  }

  const crc32Le = (crc: number, addr: number, len: number) => reflected(LE, crc, u8, dv, addr, len);

  function hammingEncode(parity: number, addr: number, len_bits: number, nr: number): number {
    const end = nr + len_bits;
    let low = 0;
    // Between the powers of two 2^k and 2^(k+1) code-bit numbers are data-bit numbers plus k + 2.
    for (let k = 1; k < 31; k++) {
      const c = k + 2;
      const from = Math.max(2 ** k + 1 - c, nr) + c;
      const to = Math.min(2 ** (k + 1) - c, end) + c;
      if (2 ** k + 1 - c >= end) break;
      for (let base = from & ~31; base < to; base += 32) {
        let x = gather(addr, len_bits >>> 3, base - c - nr);
        if (base < from) x &= -1 << (from - base);
        if (to - base < 32) x &= (1 << (to - base)) - 1;
        low ^= x;
        if (odd(x)) parity ^= base;
      }
    }
    return (parity ^ lowParity(low)) >>> 0;
  }

  function hammingFix(addr: number, len_bits: number, nr: number, fix: number): number {
    if ((fix & (fix - 1)) === 0) return 0;
    const i = fix - (31 - Math.clz32(fix)) - 2;
    if (i < nr || i >= nr + len_bits) return 0;
    const at = addr + ((i - nr) >>> 3);
    u8[at] = u8[at]! ^ (1 << ((i - nr) & 7));
    return 1;
  }

  // One block is a logical block in one buffer.
  type Buffers = { addrs: number[]; len: number };

  function listed(addrs: number, n: number, len: number): Buffers {
    return { addrs: Array.from({ length: n }, (_, i) => dv.getUint32(addrs + 4 * i, true)), len };
  }

  function check(b: Buffers): { crc: number; ecc: number } {
    let crc = 0xffffffff;
    let ecc = 0;
    b.addrs.forEach((addr, i) => {
      crc = crc32Le(crc, addr, b.len);
      ecc = hammingEncode(ecc, addr, b.len * 8, b.len * 8 * i);
    });
    return { crc, ecc: ecc & 0xffff };
  }

  const field = (b: Buffers, off: number) => b.addrs[Math.floor(off / b.len)]! + (off % b.len);

  function compute(b: Buffers, check_off: number): void {
    const at = field(b, check_off);
    u8.fill(0, at, at + 8);
    const { crc, ecc } = check(b);
    dv.setUint32(at, crc, true);
    dv.setUint16(at + 4, ecc, true);
  }

  function validate(b: Buffers, check_off: number): number {
    const at = field(b, check_off);
    const saved = u8.slice(at, at + 8);
    const crc = dv.getUint32(at, true);
    const ecc = dv.getUint16(at + 4, true);
    const flip = (fix: number) => b.addrs.some((addr, i) => hammingFix(addr, b.len * 8, b.len * 8 * i, fix) === 1);
    u8.fill(0, at, at + 8);
    let rc = 0;
    const now = check(b);
    if (now.crc !== crc) {
      rc = -1;
      const fix = now.ecc ^ ecc;
      if (flip(fix)) {
        if (check(b).crc === crc) rc = 1;
        else flip(fix);
      }
    }
    u8.set(saved, at);
    return rc;
  }

  const pair = (pairs: number, i: number, len: number): [Buffers, number] => [
    { addrs: [dv.getUint32(pairs + 8 * i, true)], len },
    dv.getUint32(pairs + 8 * i + 4, true),
  ];

  return {
    crc32Le,
    crc32c: (crc, addr, len) => reflected(CASTAGNOLI, crc, u8, dv, addr, len),
    crc32Be(crc, addr, len) {
      for (let p = addr; p < addr + len; p++) crc = (crc << 8) ^ BE[(crc >>> 24) ^ u8[p]!]!;
      return crc >>> 0;
    },
    crc32cBatch(seed, addrs, n, len, out) {
      for (let i = 0; i < n; i++) {
        dv.setUint32(out + 4 * i, reflected(CASTAGNOLI, seed, u8, dv, dv.getUint32(addrs + 4 * i, true), len), true);
      }
    },
    hammingEncode,
    hammingFix,
    blockCheckCompute: (addr, len, check_off) => compute({ addrs: [addr], len }, check_off),
    blockCheckValidate: (addr, len, check_off) => validate({ addrs: [addr], len }, check_off),
    blockCheckComputeBatch(pairs, n, len) {
      for (let i = 0; i < n; i++) compute(...pair(pairs, i, len));
    },
    blockCheckValidateBatch(pairs, n, len, results) {
      let not_ok = 0;
      for (let i = 0; i < n; i++) {
        const rc = validate(...pair(pairs, i, len));
        if (results) dv.setInt8(results + i, rc);
        if (rc) not_ok++;
      }
      return not_ok;
    },
    blockCheckComputeBhs(addrs, n, len, check_off) {
      if (n > 0) compute(listed(addrs, n, len), check_off);
    },
    blockCheckValidateBhs: (addrs, n, len, check_off) => (n > 0 ? validate(listed(addrs, n, len), check_off) : 0),
  };
}
