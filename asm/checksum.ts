// The block check of metaecc: a CRC-32 and a Hamming code over a whole metadata block, stored in the block. Without it
// the kernel's nodes refuse every block that we write. Mirrors fs/ocfs2/blockcheck.c (block_check_compute, _validate and
// their _bhs forms). Differs from it in two harmless ways: validating writes nothing unless it repairs (the kernel zeroes
// the field for the while, here it is counted as zero), and a block beyond repair is left as it was read.

import { crc32Le, crcAround } from "./crc";
import { hammingEncode, hammingFix } from "./hamming";

const CHECK_BYTES: usize = 8;

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
  if (crcAround(0xffffffff, addr, len, <i32>check) == stored) return 0;
  const fix = (eccAround(addr, len, check) & 0xffff) ^ <u32>load<u16>(addr + check, 4);
  if (!hammingFix(addr, <u32>len << 3, 0, fix)) return -1;
  if (crcAround(0xffffffff, addr, len, <i32>check) == stored) return 1;
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
  for (let i: u32 = 0; i < n; i++) crc = crcAround(crc, buffer(addrs, i), len, <i32>check - <i32>(<usize>i * len));
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
