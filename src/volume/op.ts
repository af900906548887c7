/**
 * An operation: one synchronous run of file-system code that either happens whole or not at all.
 *
 * Code inside an operation reads blocks, takes locks and changes blocks as plain function calls. Where it cannot go on it
 * throws Wait (lib/wait.ts); the operation's changes are undone, and once the thing waited for is there it is run again
 * from the start, still holding its cluster locks. So code must take all its decisions from blocks and locks, keep no
 * state of its own across a run, and put effects on anything but blocks into `onSuccess`.
 *
 * An operation is also the journal handle (jbd2_journal_start .. stop): its blocks join the running transaction when it
 * succeeds. No handle is ever open while anything waits; so a commit can begin between any two operations, and a cluster
 * lock is never waited for under a handle. Credits need no estimate: when the running transaction has no room, the
 * operation is undone, waits for the commit, and runs in the next one. One operation must stay below `max_op_blocks`;
 * longer work (truncate, large writes, wiping an inode) is a task of several operations.
 */
import type { Bh, BlockKind, CachingInfo } from "../block/buffer_cache.ts";
import type { LockSet } from "../dlmglue/lock_set.ts";
import { Errno } from "../lib/errno.ts";
import { assert, FsError, unreachable } from "../lib/fs_error.ts";
import { waitOn } from "../lib/wait.ts";
import type { Inode } from "./inode.ts";
import type { Osb } from "./osb.ts";

const NOTHING: readonly never[] = [];

/** A list that begins with one place: push on an empty array makes 17, and most lists here stay short. */
function added<T>(list: T[] | null, item: T): T[] {
  if (list === null) return [item];
  list.push(item);
  return list;
}
let last_run = 0;

export class Op {
  readonly osb: Osb;
  /** Cluster locks held: kept over re-runs, dropped when the operation ends (or by the task it is a step of). */
  readonly locks: LockSet;
  // Null while there is none: most operations change nothing, and there are several a request.
  #changed: Bh[] | null = null;
  #created: Bh[] | null = null;
  #success: (() => void)[] | null = null;
  #undone: (() => void)[] | null = null;
  #ordered: Inode[] | null = null;
  #freed: Set<number> | null = null;
  #new_blocks = 0;
  #now: { sec: number; nsec: number } | null = null;
  /** Another number in each run: by it is known what belongs to this one. */
  run = ++last_run;

  constructor(osb: Osb, locks: LockSet) {
    this.osb = osb;
    this.locks = locks;
  }

  /** Time of this operation: the same for every timestamp that it writes. */
  get now(): { sec: number; nsec: number } {
    return (this.#now ??= this.osb.clock.realtime());
  }

  /** A metadata block of `ci`, checked as `kind` (BufferCache.read). */
  read(ci: CachingInfo, blkno: number, kind: BlockKind): Bh {
    return this.osb.cache.read(ci, blkno, kind);
  }

  /**
   * Says that `bh` is about to be changed (ocfs2_journal_access_* and ocfs2_journal_dirty in one). Call before the first
   * change. Throws Wait when the running transaction is full, EROFS on a read-only volume.
   */
  modify(bh: Bh): void {
    if (bh.in_op) return;
    this.#admit(bh);
    const { cache, undo_base, undo_slots } = this.osb;
    const slot = this.#changed === null ? 0 : this.#changed.length;
    if (slot >= undo_slots) unreachable(`an operation changes more than ${undo_slots} blocks`);
    cache.u8.copyWithin(undo_base + slot * cache.block_bytes, bh.addr, bh.addr + cache.block_bytes);
    bh.in_op = true;
    this.#changed = added(this.#changed, bh);
  }

  /** A block that was just allocated: zeroed and part of this operation. No read from the disk. */
  create(ci: CachingInfo, blkno: number, kind: BlockKind): Bh {
    const { cache } = this.osb;
    const known = cache.any(blkno);
    // A place that was freed a moment ago: its old contents may still have to reach the log or the disk.
    if (known?.uptodate && known.busy) {
      this.modify(known);
      if (this.#created?.includes(known) !== true) this.onUndo(cache.identityOf(known));
    }
    this.#freed?.delete(blkno);
    const bh = cache.getNew(ci, blkno, kind);
    if (!bh.in_op) {
      this.#admit(bh);
      bh.in_op = true;
      this.#created = added(this.#created, bh);
    }
    return bh;
  }

  /** Blocks that were given back to their allocator: forgotten when the operation succeeds, but for those that it has taken again. */
  free(blkno: number, count: number): void {
    const freed = (this.#freed ??= new Set());
    for (let b = blkno; b < blkno + count; b++) freed.add(b);
  }

  #admit(bh: Bh): void {
    const { journal } = this.osb;
    if (this.osb.readonly_reason !== null)
      throw new FsError(Errno.EROFS, "op.modify", { reason: this.osb.readonly_reason });
    if (!bh.in_running && ++this.#new_blocks > journal.roomFor()) {
      assert(
        journal.roomFor() < journal.max_transaction_blocks,
        `an operation changes ${this.#new_blocks} blocks, more than a transaction holds`,
      );
      journal.startCommit();
      waitOn(journal.new_transaction);
    }
  }

  /** The data of `inode` that is dirty now must be on the disk before this operation's changes count (data=ordered). */
  orderData(inode: Inode): void {
    this.#ordered = added(this.#ordered, inode);
  }

  /** `fn` runs when the operation has succeeded: for counters, caches, and what must happen once. */
  onSuccess(fn: () => void): void {
    this.#success = added(this.#success, fn);
  }

  /** `fn` runs when this run is undone: for caches that were filled from changed blocks. */
  onUndo(fn: () => void): void {
    this.#undone = added(this.#undone, fn);
  }

  get changesBlocks(): boolean {
    return this.#changed !== null || this.#created !== null;
  }

  /** The run succeeded: its blocks belong to the running transaction. Called by the runner only. */
  commit(): void {
    const { journal } = this.osb;
    const changed = this.#changed ?? NOTHING;
    for (let i = 0; i < changed.length; i++) {
      const bh = changed[i]!;
      bh.in_op = false;
      if (!bh.in_running) this.#join(bh, i);
    }
    for (const bh of this.#created ?? NOTHING) {
      bh.in_op = false;
      journal.add(bh);
    }
    for (const inode of this.#ordered ?? NOTHING) journal.orderData(inode);
    if (this.#freed !== null) for (const blkno of this.#freed) this.osb.cache.forget(blkno, 1);
    const success = this.#success ?? NOTHING;
    this.#reset();
    for (const fn of success) fn();
  }

  /** The i-th changed block becomes the running transaction's. */
  #join(bh: Bh, i: number): void {
    const { journal } = this.osb;
    journal.preserve(bh, () => this.#before(i));
    journal.add(bh);
  }

  /** A copy of the i-th changed block as it was before this operation. */
  #before(i: number): Uint8Array {
    const { cache, undo_base } = this.osb;
    return cache.u8.slice(undo_base + i * cache.block_bytes, undo_base + (i + 1) * cache.block_bytes);
  }

  /** The run failed or must wait: every block is as it was. Called by the runner only. */
  rollback(): void {
    const { cache, undo_base } = this.osb;
    const changed = this.#changed ?? NOTHING;
    for (let i = 0; i < changed.length; i++) {
      const bh = changed[i]!;
      const from = undo_base + i * cache.block_bytes;
      cache.u8.copyWithin(bh.addr, from, from + cache.block_bytes);
      bh.in_op = false;
    }
    for (const bh of this.#created ?? NOTHING) {
      bh.in_op = false;
      cache.forget(bh.blkno, 1);
    }
    const undone = this.#undone ?? NOTHING;
    this.#reset();
    for (const fn of undone) fn();
  }

  #reset(): void {
    this.#changed = null;
    this.#created = null;
    this.#success = null;
    this.#undone = null;
    this.#ordered = null;
    this.#freed = null;
    this.#new_blocks = 0;
    this.run = ++last_run;
  }
}
