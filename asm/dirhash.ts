// Directory blocks and the directory index: the name hash, finding a name, finding room. Without it a look-up in a
// directory costs a decode of every entry. Mirrors fs/ocfs2/dir.c: ocfs2_dx_dir_name_hash, ocfs2_search_dirblock,
// ocfs2_check_dir_entry, ocfs2_dirent_would_fit, ocfs2_find_max_rec_len, ocfs2_dx_dir_search. A directory block is
// input: an entry that ocfs2_check_dir_entry refuses ends a scan with -2.

const DELTA: u32 = 0x9e3779b9;
const NAME_OFF: u32 = 12;
const MIN_REC_LEN: u32 = 16;

// @ts-ignore: decorator
@inline
function recLen(name_len: u32): u32 {
  return (name_len + NAME_OFF + 3) & ~3;
}

/** One of the four words that the next 16 bytes of the name are packed into; what is missing is padding. */
function hashWord(name: usize, len: u32, signed: u32, at: u32, pad: u32): u32 {
  let v = pad;
  const end = min(len, at + 4);
  for (let i = at; i < end; i++) {
    const p = name + <usize>i;
    v = (signed ? <u32>(<i32>load<i8>(p)) : <u32>load<u8>(p)) + (v << 8);
  }
  return v;
}

/**
 * Hash of a name for the directory index. Stores the major hash at out and the minor behind it; returns the major one.
 * signed != 0 takes bytes of 0x80 and more as negative, as a kernel built with a signed char does.
 */
export function dxHash(name: usize, len: u32, seed0: u32, seed1: u32, signed: u32, out: usize): u32 {
  let h0 = seed0;
  let h1 = seed1;
  const dot: bool = len <= 2 && len > 0 && load<u8>(name) == 0x2e && (len == 1 || load<u8>(name, 1) == 0x2e);
  if (dot) {
    h0 = 0;
    h1 = 0;
  } else {
    let left = <i32>len;
    for (; left > 0; left -= 16, name += 16) {
      const n = <u32>left;
      let pad = n | (n << 8);
      pad |= pad << 16;
      const a = hashWord(name, n, signed, 0, pad);
      const b = hashWord(name, n, signed, 4, pad);
      const c = hashWord(name, n, signed, 8, pad);
      const d = hashWord(name, n, signed, 12, pad);
      let b0 = h0;
      let b1 = h1;
      let sum: u32 = 0;
      for (let r = 0; r < 16; r++) {
        sum += DELTA;
        b0 += ((b1 << 4) + a) ^ (b1 + sum) ^ ((b1 >> 5) + b);
        b1 += ((b0 << 4) + c) ^ (b0 + sum) ^ ((b0 >> 5) + d);
      }
      h0 += b0;
      h1 += b1;
    }
  }
  store<u32>(out, h0);
  store<u32>(out, h1, 4);
  return h0;
}

// @ts-ignore: decorator
@inline
function entryBad(rlen: u32, name_len: u32, off: u32, size: u32): bool {
  const end = off + rlen;
  return (
    rlen < MIN_REC_LEN || (rlen & 3) != 0 || rlen < recLen(name_len) || end > size || (end > size - MIN_REC_LEN && end != size)
  );
}

function same(a: usize, b: usize, n: u32): bool {
  for (; n >= 8; n -= 8, a += 8, b += 8) if (load<u64>(a) != load<u64>(b)) return false;
  for (; n > 0; n--, a++, b++) if (load<u8>(a) != load<u8>(b)) return false;
  return true;
}

/**
 * Offset of the entry with this name in the size bytes of entries at addr; -1 not there, -2 a bad entry before it.
 * If prev is not 0, the offset of the entry before it (-1: none) is stored there.
 */
export function dirFind(addr: usize, size: u32, name: usize, len: u32, prev: usize): i32 {
  let before: i32 = -1;
  for (let off: u32 = 0; off < size; ) {
    if (size - off < MIN_REC_LEN) return -2;
    const de = addr + <usize>off;
    const rlen = <u32>load<u16>(de, 8);
    const nlen = <u32>load<u8>(de, 10);
    if (entryBad(rlen, nlen, off, size)) return -2;
    if (nlen == len && load<u64>(de) != 0 && same(de + NAME_OFF, name, len)) {
      if (prev) store<i32>(prev, before);
      return <i32>off;
    }
    before = <i32>off;
    off += rlen;
  }
  return -1;
}

// @ts-ignore: decorator
@inline
function hole(de: usize, rlen: u32, nlen: u32): u32 {
  return load<u64>(de) == 0 ? rlen : rlen - recLen(nlen);
}

/**
 * Offset of the first entry that has room for a record of `need` bytes, in itself (unused) or at its end; -1 none,
 * -2 a bad entry. trailer: offset of the block's trailer, which is no room; 0xffffffff where there is none.
 */
export function dirFindFree(addr: usize, size: u32, need: u32, trailer: u32): i32 {
  for (let off: u32 = 0; off < size; ) {
    if (size - off < MIN_REC_LEN) return -2;
    const de = addr + <usize>off;
    const rlen = <u32>load<u16>(de, 8);
    const nlen = <u32>load<u8>(de, 10);
    if (entryBad(rlen, nlen, off, size)) return -2;
    if (off != trailer && hole(de, rlen, nlen) >= need) return <i32>off;
    off += rlen;
  }
  return -1;
}

/** Largest hole in front of the trailer, 0 if it is too small for any name, -2 a bad entry: for db_free_rec_len. */
export function dirMaxRecLen(addr: usize, size: u32, trailer: u32): i32 {
  let most: u32 = 0;
  for (let off: u32 = 0; off < size; ) {
    if (size - off < MIN_REC_LEN) return -2;
    const de = addr + <usize>off;
    const rlen = <u32>load<u16>(de, 8);
    const nlen = <u32>load<u8>(de, 10);
    if (entryBad(rlen, nlen, off, size)) return -2;
    if (off != trailer) most = max(most, hole(de, rlen, nlen));
    off += rlen;
  }
  return most >= MIN_REC_LEN ? <i32>most : 0;
}

/** Number of entries in use, or -2 if one is bad. */
export function dirCheck(addr: usize, size: u32): i32 {
  let used: i32 = 0;
  for (let off: u32 = 0; off < size; ) {
    if (size - off < MIN_REC_LEN) return -2;
    const de = addr + <usize>off;
    const rlen = <u32>load<u16>(de, 8);
    if (entryBad(rlen, <u32>load<u8>(de, 10), off, size)) return -2;
    if (load<u64>(de) != 0) used++;
    off += rlen;
  }
  return used;
}

/** Index of the first of n index entries (16 bytes: major, minor, blkno), from `from` on, with both hashes; or -1. */
export function dxFind(list: usize, n: u32, from: u32, major: u32, minor: u32): i32 {
  const key = <u64>major | (<u64>minor << 32);
  for (let i = from; i < n; i++) {
    if (load<u64>(list + (<usize>i << 4)) == key) return <i32>i;
  }
  return -1;
}
