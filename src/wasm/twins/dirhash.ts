// Twin of asm/dirhash.ts: the name hash and the scans of directory blocks. Mirrors fs/ocfs2/dir.c.

import type { DirhashKernels } from "../kernels.ts";
import type { TwinMemory } from "./memory.ts";

const DELTA = 0x9e3779b9;
const NAME_OFF = 12;
const MIN_REC_LEN = 16;

const recLen = (name_len: number) => (name_len + NAME_OFF + 3) & ~3;

/** ocfs2_dx_dir_name_hash over bytes; returns [major, minor]. For callers whose name is not in the arena. */
export function dxHashBytes(name: Uint8Array, seed0: number, seed1: number, signed: boolean): [number, number] {
  const dots = name.length <= 2 && name.length > 0 && name.every((c) => c === 0x2e);
  if (dots) return [0, 0];
  let h0 = seed0 | 0;
  let h1 = seed1 | 0;
  for (let at = 0; at < name.length; at += 16) {
    const left = name.length - at;
    let pad = left | (left << 8);
    pad |= pad << 16;
    const w = [pad, pad, pad, pad];
    for (let i = 0; i < Math.min(16, left); i++) {
      const c = name[at + i]!;
      w[i >> 2] = ((w[i >> 2]! << 8) + (signed && c > 127 ? c - 256 : c)) | 0;
    }
    const [a, b, c, d] = w as [number, number, number, number];
    let b0 = h0;
    let b1 = h1;
    let sum = 0;
    for (let r = 0; r < 16; r++) {
      sum = (sum + DELTA) | 0;
      b0 = (b0 + (((b1 << 4) + a) ^ (b1 + sum) ^ ((b1 >>> 5) + b))) | 0;
      b1 = (b1 + (((b0 << 4) + c) ^ (b0 + sum) ^ ((b0 >>> 5) + d))) | 0;
    }
    h0 = (h0 + b0) | 0;
    h1 = (h1 + b1) | 0;
  }
  return [h0 >>> 0, h1 >>> 0];
}

export function dirhashTwin(m: TwinMemory): DirhashKernels {
  const { u8, dv } = m;

  type Entry = { off: number; rec_len: number; name_len: number; used: boolean; hole: number };

  /** Calls f with each entry until it returns a number, which becomes the result; -2 at a bad entry, else `end`. */
  function scan(addr: number, size: number, end: () => number, f: (e: Entry) => number | undefined): number {
    for (let off = 0; off < size; ) {
      if (size - off < MIN_REC_LEN) return -2;
      const de = addr + off;
      const rec_len = dv.getUint16(de + 8, true);
      const name_len = u8[de + 10]!;
      const next = off + rec_len;
      if (rec_len < MIN_REC_LEN || rec_len % 4 !== 0 || rec_len < recLen(name_len)) return -2;
      if (next > size || (next > size - MIN_REC_LEN && next !== size)) return -2;
      const used = dv.getUint32(de, true) !== 0 || dv.getUint32(de + 4, true) !== 0;
      const result = f({ off, rec_len, name_len, used, hole: used ? rec_len - recLen(name_len) : rec_len });
      if (result !== undefined) return result;
      off = next;
    }
    return end();
  }

  return {
    dxHash(name, len, seed0, seed1, signed, out) {
      const [major, minor] = dxHashBytes(u8.subarray(name, name + len), seed0, seed1, signed !== 0);
      dv.setUint32(out, major, true);
      dv.setUint32(out + 4, minor, true);
      return major;
    },
    dxFind(list, n, from, major, minor) {
      for (let i = from; i < n; i++) {
        const at = list + 16 * i;
        if (dv.getUint32(at, true) === major && dv.getUint32(at + 4, true) === minor) return i;
      }
      return -1;
    },
    dirFind(addr, size, name, len, prev) {
      let before = -1;
      return scan(
        addr,
        size,
        () => -1,
        (e) => {
          const at = addr + e.off + NAME_OFF;
          if (e.used && e.name_len === len && u8.subarray(at, at + len).every((c, i) => c === u8[name + i])) {
            if (prev) dv.setInt32(prev, before, true);
            return e.off;
          }
          before = e.off;
          return undefined;
        },
      );
    },
    dirFindFree: (addr, size, need, trailer) =>
      scan(
        addr,
        size,
        () => -1,
        (e) => (e.off !== trailer && e.hole >= need ? e.off : undefined),
      ),
    dirMaxRecLen(addr, size, trailer) {
      let most = 0;
      return scan(
        addr,
        size,
        () => (most >= MIN_REC_LEN ? most : 0),
        (e) => {
          if (e.off !== trailer) most = Math.max(most, e.hole);
          return undefined;
        },
      );
    },
    dirCheck(addr, size) {
      let used = 0;
      return scan(
        addr,
        size,
        () => used,
        (e) => {
          if (e.used) used++;
          return undefined;
        },
      );
    },
  };
}
