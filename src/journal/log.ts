/**
 * The log on the disk: where its blocks lie, its superblock, and how one transaction is written (fs/jbd2/commit.c,
 * journal.c). It knows nothing of operations; journal.ts decides when.
 */
import type { BlockDevice } from "../block/device.ts";
import { deviceFlush, deviceRead, deviceWrite, writeThunk } from "../block/device.ts";
import * as J from "../format/jbd2/index.ts";
import type { Arena } from "../lib/arena.ts";
import { assert, Corruption } from "../lib/fs_error.ts";
import { all, type Task, type Thunk } from "../lib/task.ts";
import type { Kernels } from "../wasm/kernels.ts";

/** A stretch of the journal file that is contiguous on the disk: `blocks` from logical block `v_blkno` at `blkno`. */
export interface LogRun {
  readonly v_blkno: number;
  readonly blkno: number;
  readonly blocks: number;
}

/** Refuses journals that this code could misread. */
function checkSuperblock(sb: J.JournalSuperblock, blocksize: number, file_blocks: number, blkno: number): void {
  const bad = (found: string): never => {
    throw new Corruption("journal.superblock", { blkno, found });
  };
  const { h_magic, h_blocktype } = sb.s_header;
  if (h_magic !== J.JBD2_MAGIC_NUMBER) bad("no magic number");
  if (h_blocktype !== J.JBD2_SUPERBLOCK_V1 && h_blocktype !== J.JBD2_SUPERBLOCK_V2) bad(`block type ${h_blocktype}`);
  if (sb.s_blocksize !== blocksize) bad(`block size ${sb.s_blocksize}`);
  if (sb.s_maxlen > file_blocks) bad(`${sb.s_maxlen} blocks in a file of ${file_blocks}`);
  if (sb.s_first === 0 || sb.s_first >= sb.s_maxlen) bad(`first log block ${sb.s_first} of ${sb.s_maxlen}`);
  // mkfs.ocfs2 leaves s_start 1 in an empty log, which on 512-byte blocks lies before the first log block.
  if (sb.s_start >= sb.s_maxlen) bad(`log start ${sb.s_start}`);
  if (h_blocktype === J.JBD2_SUPERBLOCK_V2) {
    const unknown = sb.s_feature_incompat & ~(J.JBD2_KNOWN_INCOMPAT_FEATURES & ~J.JBD2_FEATURE_INCOMPAT_FAST_COMMIT);
    if (unknown !== 0) bad(`unknown features 0x${unknown.toString(16)}`);
    if (sb.s_feature_ro_compat !== 0) bad(`unknown ro features 0x${sb.s_feature_ro_compat.toString(16)}`);
  }
}

/** Of the arena, aligned to as much: what a log needs. */
export const LOG_BYTES = 4096;

export class Log {
  readonly #dev: BlockDevice;
  readonly #k: Kernels;
  readonly #runs: readonly LogRun[];
  readonly blocksize: number;
  readonly #arena: Arena;
  /** Holds the superblock. */
  readonly #sb_addr: number;
  feature_incompat = 0;
  feature_compat = 0;
  #csum_seed = 0;
  first = 0;
  maxlen = 0;

  /** `sb_addr`: LOG_BYTES for as long as the log is used. */
  constructor(
    arena: Arena,
    kernels: Kernels,
    dev: BlockDevice,
    blocksize: number,
    runs: readonly LogRun[],
    sb_addr: number,
  ) {
    this.#arena = arena;
    this.#k = kernels;
    this.#dev = dev;
    this.blocksize = blocksize;
    this.#runs = runs;
    this.#sb_addr = sb_addr;
  }

  get superblock(): J.JournalSuperblock {
    return J.JournalSuperblock.at(this.#arena.dv, this.#sb_addr);
  }

  get #file_blocks(): number {
    const last = this.#runs[this.#runs.length - 1];
    return last === undefined ? 0 : last.v_blkno + last.blocks;
  }

  /** Where logical block `n` of the journal lies, and how many follow it contiguously. */
  place(n: number): { blkno: number; blocks: number } {
    for (const run of this.#runs) {
      if (n >= run.v_blkno && n < run.v_blkno + run.blocks)
        return { blkno: run.blkno + (n - run.v_blkno), blocks: run.blocks - (n - run.v_blkno) };
    }
    throw new Corruption("journal.place", { log_block: n, blocks: this.#file_blocks });
  }

  /** The superblock is 1 KiB, two of the smallest blocks. */
  get #sb_bytes(): number {
    return Math.max(this.blocksize, J.JournalSuperblock.size);
  }

  /** Reads and checks the superblock. Throws Corruption (EIO). */
  *load(): Task<void> {
    const { blkno } = this.place(0);
    yield* deviceRead(this.#dev, this.#sb_addr, this.#sb_bytes, blkno * this.blocksize);
    const sb = this.superblock;
    checkSuperblock(sb, this.blocksize, this.#file_blocks, blkno);
    const v2 = sb.s_header.h_blocktype === J.JBD2_SUPERBLOCK_V2;
    this.feature_incompat = v2 ? sb.s_feature_incompat : 0;
    this.feature_compat = v2 ? sb.s_feature_compat : 0;
    this.first = sb.s_first;
    this.maxlen = sb.s_maxlen;
    if (this.hasCsum) {
      if (sb.s_checksum_type !== J.JBD2_CRC32C_CHKSUM)
        throw new Corruption("journal.superblock", { blkno, checksum_type: sb.s_checksum_type });
      this.#csum_seed = this.#k.crc32c(0xffffffff, sb.off + J.JournalSuperblock.fields.s_uuid.off, 16);
      if (this.#superblockChecksum() !== sb.s_checksum)
        throw new Corruption("journal.superblock", { blkno, found: "bad checksum" });
    }
  }

  get hasCsum(): boolean {
    return J.hasCsumV2or3(this.feature_incompat);
  }

  #superblockChecksum(): number {
    const sb = this.superblock;
    const old = sb.s_checksum;
    sb.s_checksum = 0;
    const sum = this.#k.crc32c(0xffffffff, sb.off, J.JournalSuperblock.size);
    sb.s_checksum = old;
    return sum;
  }

  /** Makes `s_start` and `s_sequence` durable: what lies before is not replayed any more (jbd2_update_log_tail). `barrier`: the disk may have a volatile cache. */
  *writeTail(s_start: number, s_sequence: number, barrier: boolean): Task<void> {
    const sb = this.superblock;
    sb.s_start = s_start;
    sb.s_sequence = s_sequence >>> 0;
    if (this.hasCsum) sb.s_checksum = this.#superblockChecksum();
    yield* deviceWrite(this.#dev, this.#sb_addr, this.#sb_bytes, this.place(0).blkno * this.blocksize, barrier);
  }

  /** The block after `n` in the ring. */
  next(n: number, by = 1): number {
    let m = n + by;
    const len = this.maxlen - this.first;
    while (m >= this.maxlen) m -= len;
    return m;
  }

  get tagsPerDescriptor(): number {
    return J.tagsPerDescriptor(this.blocksize, this.feature_incompat);
  }

  /** Log blocks that a transaction of `n` blocks takes, descriptors and commit block included. */
  blocksFor(n: number): number {
    return n + Math.ceil(n / this.tagsPerDescriptor) + 1;
  }

  /**
   * Lays a descriptor block out at `addr` for blocks that go to `blknos`, whose frozen copies lie at `images`. A copy that
   * begins with the journal's magic number is escaped: only here, never in the block itself.
   */
  describe(addr: number, sequence: number, blknos: readonly number[], images: readonly number[]): void {
    const { dv, u8 } = this.#arena;
    u8.fill(0, addr, addr + this.blocksize);
    const h = J.JournalHeader.at(dv, addr);
    h.h_magic = J.JBD2_MAGIC_NUMBER;
    h.h_blocktype = J.JBD2_DESCRIPTOR_BLOCK;
    h.h_sequence = sequence;
    const v3 = (this.feature_incompat & J.JBD2_FEATURE_INCOMPAT_CSUM_V3) !== 0;
    const v2 = (this.feature_incompat & J.JBD2_FEATURE_INCOMPAT_CSUM_V2) !== 0;
    const wide = (this.feature_incompat & J.JBD2_FEATURE_INCOMPAT_64BIT) !== 0;
    const size = J.tagBytes(this.feature_incompat);
    const seq = this.#sequenceSum(sequence);
    let at = addr + J.JournalHeader.size;
    for (let i = 0; i < blknos.length; i++) {
      const image = images[i]!;
      let flags = i === 0 ? 0 : J.JBD2_FLAG_SAME_UUID;
      if (i === blknos.length - 1) flags |= J.JBD2_FLAG_LAST_TAG;
      if (dv.getUint32(image, false) === J.JBD2_MAGIC_NUMBER) {
        dv.setUint32(image, 0, false);
        flags |= J.JBD2_FLAG_ESCAPE;
      }
      // The checksum is of the copy as it lies in the log.
      const sum = seq === null ? 0 : this.#k.crc32c(seq, image, this.blocksize);
      const tag = v3 ? J.JournalBlockTag3.at(dv, at) : J.JournalBlockTag.at(dv, at);
      const blkno = blknos[i]!;
      tag.t_blocknr = blkno % 2 ** 32;
      tag.t_flags = flags;
      if (v3) tag.t_checksum = sum;
      else if (v2) tag.t_checksum = sum & 0xffff;
      if (wide) tag.t_blocknr_high = Math.floor(blkno / 2 ** 32);
      else assert(blkno < 2 ** 32, `block ${blkno} does not fit a journal without 64-bit block numbers`);
      at += size;
      if (i === 0) {
        u8.set(this.superblock.s_uuid, at);
        at += J.TAG_UUID_BYTES;
      }
    }
    if (seq !== null) {
      const tail = J.JournalBlockTail.at(dv, addr + this.blocksize - J.JournalBlockTail.size);
      tail.t_checksum = this.#k.crc32c(this.#csum_seed, addr, this.blocksize);
    }
  }

  #sequenceSum(sequence: number): number | null {
    if (!this.hasCsum) return null;
    const { dv } = this.#arena;
    const scratch = this.#sb_addr + 2048;
    // The superblock's structure is 1 KiB; on larger blocks the room behind it serves as scratch for the one word.
    const at = this.blocksize > 2048 ? scratch : this.#sb_addr + 4092;
    const old = dv.getUint32(at, false);
    dv.setUint32(at, sequence, false);
    const sum = this.#k.crc32c(this.#csum_seed, at, 4);
    dv.setUint32(at, old, false);
    return sum;
  }

  /** Lays the commit block out at `addr`. `v1_sum`: running crc32_be of descriptors and blocks, with the CHECKSUM feature. */
  commitBlock(addr: number, sequence: number, now: { sec: number; nsec: number }, v1_sum: number): void {
    const { dv, u8 } = this.#arena;
    u8.fill(0, addr, addr + this.blocksize);
    const c = J.CommitHeader.at(dv, addr);
    c.h_magic = J.JBD2_MAGIC_NUMBER;
    c.h_blocktype = J.JBD2_COMMIT_BLOCK;
    c.h_sequence = sequence;
    c.h_commit_sec = now.sec;
    c.h_commit_nsec = now.nsec;
    if ((this.feature_compat & J.JBD2_FEATURE_COMPAT_CHECKSUM) !== 0) {
      c.h_chksum_type = J.JBD2_CRC32_CHKSUM;
      c.h_chksum_size = J.JBD2_CRC32_CHKSUM_SIZE;
      c.h_chksum.set(0, v1_sum);
    }
    if (this.hasCsum) c.h_chksum.set(0, this.#k.crc32c(this.#csum_seed, addr, this.blocksize));
  }

  /** Running checksum over a block for the CHECKSUM feature (jbd2_checksum_data). */
  v1Sum(sum: number, addr: number): number {
    return this.#k.crc32Be(sum, addr, this.blocksize);
  }

  /** Checks a descriptor's or revoke block's tail; true without the feature. */
  tailHolds(addr: number): boolean {
    if (!this.hasCsum) return true;
    const tail = J.JournalBlockTail.at(this.#arena.dv, addr + this.blocksize - J.JournalBlockTail.size);
    const found = tail.t_checksum;
    tail.t_checksum = 0;
    const sum = this.#k.crc32c(this.#csum_seed, addr, this.blocksize);
    tail.t_checksum = found;
    return sum === found;
  }

  commitHolds(addr: number): boolean {
    if (!this.hasCsum) return true;
    const c = J.CommitHeader.at(this.#arena.dv, addr);
    const found = c.h_chksum.get(0);
    c.h_chksum.set(0, 0);
    const sum = this.#k.crc32c(this.#csum_seed, addr, this.blocksize);
    c.h_chksum.set(0, found);
    return sum === found;
  }

  /** Checks a logged block against its tag's checksum; `image` as it lies in the log. */
  blockHolds(image: number, sequence: number, tag_checksum: number): boolean {
    const seq = this.#sequenceSum(sequence);
    if (seq === null) return true;
    const sum = this.#k.crc32c(seq, image, this.blocksize);
    return (this.feature_incompat & J.JBD2_FEATURE_INCOMPAT_CSUM_V3) !== 0
      ? sum === tag_checksum
      : (sum & 0xffff) === tag_checksum;
  }

  /** Writes `count` contiguous blocks of the arena to the ring from `at` on, in as few writes as the ring allows. */
  write(addr: number, count: number, at: number, dsync = false): Thunk<number>[] {
    const thunks: Thunk<number>[] = [];
    while (count > 0) {
      const { blkno, blocks } = this.place(at);
      const n = Math.min(count, blocks, this.maxlen - at, Math.max(1, Math.floor((1 << 20) / this.blocksize)));
      thunks.push(writeThunk(this.#dev, addr, n * this.blocksize, blkno * this.blocksize, dsync));
      addr += n * this.blocksize;
      count -= n;
      at = this.next(at, n);
    }
    return thunks;
  }

  *writeAndWait(addr: number, count: number, at: number): Task<void> {
    yield* all(this.write(addr, count, at));
  }

  /** Writes the commit block so that it is durable, with all that was written before it. */
  *writeCommit(addr: number, at: number, barrier: boolean): Task<void> {
    if (barrier && this.#dev.durability.unflushed) yield* deviceFlush(this.#dev);
    yield* deviceWrite(this.#dev, addr, this.blocksize, this.place(at).blkno * this.blocksize, barrier);
  }

  /** Reads `count` blocks of the ring, which must not wrap, to `addr`. */
  *read(addr: number, at: number, count: number): Task<void> {
    while (count > 0) {
      const { blkno, blocks } = this.place(at);
      const n = Math.min(count, blocks);
      yield* deviceRead(this.#dev, addr, n * this.blocksize, blkno * this.blocksize);
      addr += n * this.blocksize;
      at += n;
      count -= n;
    }
  }
}
