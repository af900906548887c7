/**
 * Replay of a dirty journal, our own or a dead slot's (fs/jbd2/recovery.c: scan, revoke, replay). Blocks are written
 * straight to their places; the buffer cache must not hold them. What the log says is checked before it is believed: block
 * numbers beyond the device end the replay with EIO and nothing of that transaction is written.
 *
 * A wrong checksum ends the log where it may be what a commit that was interrupted leaves behind. Where it cannot be, something that was
 * committed is gone: EIO, as from the kernel. It would give the volume to its programs without what they have synced.
 */
import { type BlockDevice, deviceFlush, deviceWrite } from "../block/device.ts";
import * as J from "../format/jbd2/index.ts";
import type { Arena } from "../lib/arena.ts";
import { Corruption } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import type { Task } from "../lib/task.ts";
import { tidGeq } from "./journal.ts";
import { LOG_BYTES, type Log } from "./log.ts";

export interface ReplayResult {
  /** Transactions and blocks that were replayed. */
  readonly transactions: number;
  readonly blocks: number;
  readonly revoked: number;
  /** Number that the next transaction must have, at least. */
  readonly next_sequence: number;
}

interface Tag {
  readonly blkno: number;
  readonly flags: number;
  readonly checksum: number;
}

/** Reads the ring block by block through a window, so that a scan is a few large reads. */
class Window {
  readonly #log: Log;
  readonly #addr: number;
  readonly #blocks: number;
  #from = -1;
  #have = 0;

  constructor(log: Log, addr: number, bytes: number) {
    this.#log = log;
    this.#blocks = Math.floor(bytes / log.blocksize);
    this.#addr = addr;
  }

  /** The arena address of log block `n`; good until the next call. */
  *at(n: number): Task<number> {
    if (n < this.#from || n >= this.#from + this.#have) {
      this.#from = n;
      this.#have = Math.min(this.#blocks, this.#log.maxlen - n);
      yield* this.#log.read(this.#addr, n, this.#have);
    }
    return this.#addr + (n - this.#from) * this.#log.blocksize;
  }
}

/** The tags of a descriptor block. */
function readTags(arena: Arena, log: Log, addr: number): Tag[] {
  const tags: Tag[] = [];
  const size = J.tagBytes(log.feature_incompat);
  const v3 = (log.feature_incompat & J.JBD2_FEATURE_INCOMPAT_CSUM_V3) !== 0;
  const wide = (log.feature_incompat & J.JBD2_FEATURE_INCOMPAT_64BIT) !== 0;
  const end = addr + log.blocksize - J.blockTailBytes(log.feature_incompat);
  for (let at = addr + J.JournalHeader.size; at + size <= end; ) {
    const tag = v3 ? J.JournalBlockTag3.at(arena.dv, at) : J.JournalBlockTag.at(arena.dv, at);
    const flags = tag.t_flags;
    tags.push({
      blkno: tag.t_blocknr + (wide ? tag.t_blocknr_high * 2 ** 32 : 0),
      flags,
      checksum: tag.t_checksum,
    });
    at += size;
    if ((flags & J.JBD2_FLAG_SAME_UUID) === 0) at += J.TAG_UUID_BYTES;
    if ((flags & J.JBD2_FLAG_LAST_TAG) !== 0) break;
  }
  return tags;
}

/** A commit block without a sum is one of before the feature was set. */
const v1Holds = (c: J.CommitHeader, sum: number): boolean =>
  (c.h_chksum_type === J.JBD2_CRC32_CHKSUM &&
    c.h_chksum_size === J.JBD2_CRC32_CHKSUM_SIZE &&
    c.h_chksum.get(0) === sum) ||
  (c.h_chksum_type === 0 && c.h_chksum_size === 0 && c.h_chksum.get(0) === 0);

const badChecksum = (transaction: number): Corruption =>
  new Corruption("journal.replay", { transaction, found: "bad checksum" });

const WINDOW_BYTES = 1 << 20;
const COPY_BYTES = 4096;

/** Memory for replays, one at a time on a device: a node that lives long recovers others many times. */
const scratches = new WeakMap<BlockDevice, number>();

function scratchOf(arena: Arena, dev: BlockDevice): number {
  let addr = scratches.get(dev);
  if (addr === undefined) scratches.set(dev, (addr = arena.alloc(WINDOW_BYTES + COPY_BYTES + LOG_BYTES, 4096)));
  return addr;
}

/** The same for the log that is replayed. */
export const logForReplay = (arena: Arena, dev: BlockDevice): number =>
  scratchOf(arena, dev) + WINDOW_BYTES + COPY_BYTES;

/** Replays what the log holds, if anything. The journal's superblock is not changed: the caller does, once all is durable. */
export function* replay(arena: Arena, dev: BlockDevice, log: Log): Task<ReplayResult> {
  const sb = log.superblock;
  const start = sb.s_start;
  const first_sequence = sb.s_sequence;
  if (start === 0) return { transactions: 0, blocks: 0, revoked: 0, next_sequence: (first_sequence + 1) >>> 0 };
  const scratch = scratchOf(arena, dev);
  const window = new Window(log, scratch, WINDOW_BYTES);
  const bytes = log.blocksize;
  // Not of the volume: its owner may have made it larger, and died before anybody heard of it.
  const device_blocks = Math.floor(dev.size_bytes / bytes);
  const dv = arena.dv;

  type Visit = {
    block?: (tag: Tag, n: number, sequence: number) => Task<void>;
    revoke?: (blkno: number, sequence: number) => void;
  };
  const v1 = (log.feature_compat & J.JBD2_FEATURE_COMPAT_CHECKSUM) !== 0;
  const async_commit = (log.feature_incompat & J.JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT) !== 0;
  /** Walks the log from its start; stops before `end` if given, else at the first thing that is not a whole transaction. */
  function* walk(end: number | null, visit: Visit): Task<number> {
    let sequence = first_sequence;
    let n = start;
    let seen = 0;
    let v1_sum = 0xffffffff;
    /** Of the transaction's descriptors and revoke records. */
    let are_whole = true;
    let last_commit_sec = 0;
    /** A transaction that ends the log, unless another is committed behind it. */
    let broken: number | undefined;
    const ring = log.maxlen - log.first;
    for (;;) {
      if (end !== null && tidGeq(sequence, end)) return sequence;
      if (seen++ > ring) return broken ?? sequence;
      const addr = yield* window.at(n);
      const h = J.JournalHeader.at(dv, addr);
      if (h.h_magic !== J.JBD2_MAGIC_NUMBER || h.h_sequence !== sequence) return broken ?? sequence;
      n = log.next(n);
      if (h.h_blocktype === J.JBD2_DESCRIPTOR_BLOCK) {
        are_whole &&= log.tailHolds(addr);
        const tags = readTags(arena, log, addr);
        if (v1) v1_sum = log.v1Sum(v1_sum, addr);
        for (const tag of tags) {
          if (v1 && end === null) v1_sum = log.v1Sum(v1_sum, yield* window.at(n));
          if (visit.block !== undefined) yield* visit.block(tag, n, sequence);
          n = log.next(n);
          seen++;
        }
      } else if (h.h_blocktype === J.JBD2_COMMIT_BLOCK) {
        if (end === null) {
          const c = J.CommitHeader.at(dv, addr);
          const holds_v1 = !v1 || v1Holds(c, v1_sum);
          if (!are_whole || !holds_v1 || !log.commitHolds(addr)) {
            // Older than what is before it: of a former life of these blocks.
            if (c.h_commit_sec < last_commit_sec) return broken ?? sequence;
            // The commit block is written behind all else, unless told otherwise. It may be torn itself.
            if (!are_whole || !(holds_v1 || async_commit)) throw badChecksum(sequence);
            broken ??= sequence;
          }
          if (broken !== undefined && broken !== sequence) throw badChecksum(broken);
          last_commit_sec = c.h_commit_sec;
        }
        v1_sum = 0xffffffff;
        are_whole = true;
        sequence = (sequence + 1) >>> 0;
      } else if (h.h_blocktype === J.JBD2_REVOKE_BLOCK) {
        are_whole &&= log.tailHolds(addr);
        if (visit.revoke !== undefined) {
          const r = J.JournalRevokeHeader.at(dv, addr);
          const size = J.revokeRecordBytes(log.feature_incompat);
          const stop = addr + Math.min(r.r_count, bytes - J.blockTailBytes(log.feature_incompat));
          for (let at = addr + J.JournalRevokeHeader.size; at + size <= stop; at += size) {
            const blkno =
              size === 8 ? dv.getUint32(at, false) * 2 ** 32 + dv.getUint32(at + 4, false) : dv.getUint32(at, false);
            visit.revoke(blkno, sequence);
          }
        }
      } else return broken ?? sequence;
    }
  }

  const end = yield* walk(null, {});
  const revoked = new Map<number, number>();
  yield* walk(end, {
    revoke(blkno, sequence) {
      const known = revoked.get(blkno);
      if (known === undefined || tidGeq(sequence, known)) revoked.set(blkno, sequence);
    },
  });
  let blocks = 0;
  let skipped = 0;
  const copy = scratch + WINDOW_BYTES;
  yield* walk(end, {
    *block(tag, n, sequence) {
      const rev = revoked.get(tag.blkno);
      if (rev !== undefined && tidGeq(rev, sequence)) {
        skipped++;
        return;
      }
      if (tag.blkno >= device_blocks)
        throw new Corruption("journal.replay", { log_block: n, blkno: tag.blkno, device_blocks });
      const image = yield* window.at(n);
      if (!log.blockHolds(image, sequence, tag.checksum))
        throw new Corruption("journal.replay", { log_block: n, blkno: tag.blkno, found: "bad checksum" });
      arena.u8.copyWithin(copy, image, image + bytes);
      if ((tag.flags & J.JBD2_FLAG_ESCAPE) !== 0) dv.setUint32(copy, J.JBD2_MAGIC_NUMBER, false);
      yield* deviceWrite(dev, copy, bytes, tag.blkno * bytes);
      blocks++;
    },
  });
  yield* deviceFlush(dev);
  const transactions = (end - first_sequence) >>> 0;
  mlog(ML.NOTICE, `journal replayed: ${transactions} transactions, ${blocks} blocks, ${skipped} revoked`);
  return { transactions, blocks, revoked: skipped, next_sequence: (end + 1) >>> 0 };
}
