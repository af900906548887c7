/**
 * The journal of our slot: one running transaction, commit, checkpoint, tail (fs/jbd2 commit.c, checkpoint.c; journal.c
 * of ocfs2). What goes wrong without it: a crash between two blocks of one change.
 *
 * An operation's blocks join the running transaction when the operation has succeeded, so a commit can begin between any
 * two operations: it copies the transaction's blocks to the staging area (frozen: what is under device I/O can no more
 * change, and metaecc is computed then), opens the next transaction, writes data (ordered), log, commit block.
 * Afterwards the blocks wait for their checkpoint: written in place, then the tail moves past them.
 *
 * Three images of one block may exist: changed by the running transaction (in the cache), frozen by the committing one, and
 * committed but not yet in place. `preserve` keeps the older two when an operation changes the block (jbd2: frozen data).
 */
import { type Bh, type BufferCache, NO_TID } from "../block/buffer_cache.ts";
import type { DataCache, DataOwner } from "../block/data_cache.ts";
import { type BlockDevice, deviceFlush, writeThunk } from "../block/device.ts";
import { JBD2_FEATURE_COMPAT_CHECKSUM } from "../format/jbd2/index.ts";
import type { Arena } from "../lib/arena.ts";
import type { Clock } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { isUntold } from "../lib/errseq.ts";
import { assert, FsError } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { all, asThunk, type Callback, spawn, type Task, type Thunk, wait } from "../lib/task.ts";
import { WaitQueue } from "../lib/wait.ts";
import type { Kernels } from "../wasm/kernels.ts";
import type { Log } from "./log.ts";

class Transaction {
  readonly tid: number;
  readonly blocks: Bh[] = [];
  readonly ordered = new Set<DataOwner>();
  /** Direct writes to newly allocated clusters, or behind the old end of a file: the commit waits for them. */
  data_ios = 0;
  readonly data_idle = new WaitQueue();
  constructor(tid: number) {
    this.tid = tid;
  }
}

/** A committed transaction that the log still holds. */
interface Logged {
  readonly tid: number;
  readonly start: number;
}

export interface JournalParts {
  readonly arena: Arena;
  readonly kernels: Kernels;
  readonly dev: BlockDevice;
  readonly cache: BufferCache;
  readonly data: DataCache;
  readonly log: Log;
  readonly clock: Clock;
  readonly metaecc: boolean;
  readonly barrier: boolean;
  readonly ordered: boolean;
  /** Blocks of the largest operation: a transaction has room for it where the log has. */
  readonly op_blocks: number;
  /** True while an operation runs: its changes are in the cache but may still be undone. */
  readonly operationRuns: () => boolean;
  /** Calls when no operation runs. */
  readonly defer: (cb: () => void) => void;
  /** For tests: the tail on the disk never moves, whatever is in place. */
  readonly keep_tail?: boolean;
  /** The journal cannot go on: the volume must become read-only. */
  readonly onAbort: (err: unknown) => void;
}

const CHECKPOINT_BYTES = 1 << 20;
const STAGED_BLOCKS = 2048;
/** So many writes are made durable one by one, which saves a wait for the flush behind them. */
const FEW_WRITES = 2;

export class Journal {
  readonly #p: JournalParts;
  readonly max_transaction_blocks: number;
  #running: Transaction;
  #committing: Transaction | null = null;
  committed_tid: number;
  /** Woken when a transaction was frozen and the next one takes operations. */
  readonly new_transaction = new WaitQueue();
  readonly #commit_done = new WaitQueue();
  readonly #logged: Logged[] = [];
  /** Blocks whose newest committed image is not in place. */
  readonly #to_checkpoint = new Set<Bh>();
  /** Older images of blocks that were changed again: of the committed, and of the committing transaction. */
  readonly #committed_image = new Map<Bh, Uint8Array>();
  readonly #committing_image = new Map<Bh, Uint8Array>();
  #head: number;
  #checkpointing = false;
  readonly #checkpoint_done = new WaitQueue();
  readonly #staging: number;
  readonly #checkpoint_addr: number;
  /** Why nothing is written any more, null while all is well. */
  aborted: unknown = null;
  commits = 0;
  checkpoints = 0;
  /** Times that everything had to be in place. */
  flushes = 0;

  /** `sequence`: number of the first transaction; the log is empty and starts at its first block. */
  constructor(parts: JournalParts, sequence: number) {
    this.#p = parts;
    const { log, arena } = parts;
    this.max_transaction_blocks = Math.min(
      Math.max(STAGED_BLOCKS, parts.op_blocks),
      Math.floor((log.maxlen - log.first) / 4),
    );
    this.#staging = arena.alloc(log.blocksFor(this.max_transaction_blocks) * log.blocksize, 4096);
    this.#checkpoint_addr = arena.alloc(CHECKPOINT_BYTES, 4096);
    this.#running = new Transaction(sequence >>> 0);
    this.committed_tid = this.#running.tid - 1;
    this.#head = log.first;
  }

  get running_tid(): number {
    return this.#running.tid;
  }

  /** Blocks that the running transaction can still take. */
  roomFor(): number {
    return this.max_transaction_blocks - this.#running.blocks.length;
  }

  get runningBlocks(): number {
    return this.#running.blocks.length;
  }

  /** True while the journal alone holds a large part of the cache or of the log: time for a checkpoint. */
  get pressure(): boolean {
    const { log, cache } = this.#p;
    return this.#to_checkpoint.size > cache.slots >> 2 || this.#used() > (log.maxlen - log.first) >> 1;
  }

  // Called by operations --------------------------------------------------------------------------------------------
  /** An operation is about to join `bh`, with `image` its contents before: keeps what commit and checkpoint still need. */
  preserve(bh: Bh, image: () => Uint8Array): void {
    if (bh.in_running) return;
    if (bh.in_committing) {
      if (!this.#committing_image.has(bh)) this.#committing_image.set(bh, image());
    } else if (bh.checkpoint_tid !== NO_TID && !this.#committed_image.has(bh)) this.#committed_image.set(bh, image());
  }

  /** `bh` was changed by an operation that succeeded. */
  add(bh: Bh): void {
    if (bh.in_running) return;
    bh.in_running = true;
    this.#running.blocks.push(bh);
  }

  orderData(owner: DataOwner): void {
    if (this.#p.ordered) this.#running.ordered.add(owner);
  }

  /** A direct write to clusters that the running transaction maps has begun; call the result when it is done. */
  dataIoStarted(): () => void {
    const tx = this.#running;
    tx.data_ios++;
    return () => {
      if (--tx.data_ios === 0) tx.data_idle.wakeAll();
    };
  }

  // Commit ----------------------------------------------------------------------------------------------------------
  /** Begins to commit the running transaction, unless one is being committed: then that one comes first. */
  startCommit(): void {
    if (this.#committing !== null || this.aborted !== null) return;
    if (this.#p.operationRuns()) {
      // What the cache holds now may be undone: it must not be frozen.
      this.#p.defer(() => this.startCommit());
      return;
    }
    const tx = this.#running;
    if (tx.blocks.length === 0 && tx.ordered.size === 0 && tx.data_ios === 0) return;
    this.#committing = tx;
    this.#freeze(tx);
    spawn(this.#commit(tx), (err) => {
      this.#committing = null;
      if (err) this.abort(err);
      else this.committed_tid = tx.tid;
      this.#commit_done.wakeAll();
      this.new_transaction.wakeAll();
      if (err === null && this.pressure) this.startCheckpoint();
    });
  }

  /** The journal can no more keep its promises: nothing is written from here on. */
  abort(err: unknown): void {
    if (this.aborted !== null) return;
    this.aborted = err;
    mlog(ML.ERROR, `journal aborted: ${err instanceof Error ? err.message : String(err)}`);
    this.#p.onAbort(err);
    this.#commit_done.wakeAll();
    this.#checkpoint_done.wakeAll();
    this.new_transaction.wakeAll();
  }

  /** Copies the transaction's blocks to the staging area, laid out as the log will have them. */
  #freeze(tx: Transaction): void {
    const { log, arena, kernels, metaecc, cache } = this.#p;
    const bytes = log.blocksize;
    if (metaecc) this.#computeEcc(tx.blocks);
    let at = this.#staging;
    const per = log.tagsPerDescriptor;
    for (let i = 0; i < tx.blocks.length; i += per) {
      const part = tx.blocks.slice(i, i + per);
      const images = part.map((bh, n) => {
        const image = at + (n + 1) * bytes;
        arena.u8.copyWithin(image, bh.addr, bh.addr + cache.block_bytes);
        bh.in_running = false;
        bh.in_committing = true;
        return image;
      });
      log.describe(
        at,
        tx.tid,
        part.map((bh) => bh.blkno),
        images,
      );
      at += (part.length + 1) * bytes;
    }
    let sum = 0xffffffff;
    if ((log.feature_compat & JBD2_FEATURE_COMPAT_CHECKSUM) !== 0)
      for (let a = this.#staging; a < at; a += bytes) sum = kernels.crc32Be(sum, a, bytes);
    log.commitBlock(at, tx.tid, this.#p.clock.realtime(), sum);
    this.#running = new Transaction((tx.tid + 1) >>> 0);
    this.new_transaction.wakeAll();
  }

  #computeEcc(blocks: readonly Bh[]): void {
    const { kernels, cache, arena } = this.#p;
    const groups = new Set<Bh[]>();
    for (const bh of blocks) {
      if (bh.ecc_group !== null) groups.add(bh.ecc_group);
      else if (bh.kind !== null && bh.kind.check_off >= 0) {
        if (bh.kind.hasCheck === undefined || bh.kind.hasCheck(bh))
          kernels.blockCheckCompute(bh.addr, cache.block_bytes, bh.kind.check_off);
      }
    }
    if (groups.size === 0) return;
    for (const group of groups) {
      const addrs = this.#checkpoint_addr_table;
      group.forEach((bh, i) => {
        arena.dv.setUint32(addrs + i * 4, bh.addr, true);
      });
      kernels.blockCheckComputeBhs(addrs, group.length, cache.block_bytes, group[0]!.kind!.check_off);
    }
  }
  #addr_table = 0;
  get #checkpoint_addr_table(): number {
    return (this.#addr_table ||= this.#p.arena.alloc(64, 64));
  }

  *#commit(tx: Transaction): Task<void> {
    const { log, data, dev, barrier } = this.#p;
    if (mlogOn(ML.JOURNAL)) mlog(ML.JOURNAL, `commit ${tx.tid}: ${tx.blocks.length} blocks, ${tx.ordered.size} files`);
    // Before the commit block: a committed size or extent must never show what the blocks held before.
    // Where the device must be flushed for data in any case, that covers the log, too.
    let pages = 0;
    for (const owner of tx.ordered) pages += owner.dirty_pages + owner.pages_in_flight;
    const few = barrier && pages < FEW_WRITES && tx.data_ios === 0 && !dev.durability.unflushed;
    const data_written: Thunk<void>[] = [...tx.ordered].map((owner) => data.flushOwner(owner, few));
    data_written.push((cb) => (tx.data_ios === 0 ? cb(null) : tx.data_idle.add(() => cb(null))));
    const blocks = log.blocksFor(tx.blocks.length);
    yield* this.#makeRoom(blocks);
    const start = this.#head;
    const kept = this.#p.keep_tail === true && log.superblock.s_start !== 0;
    if (this.#logged.length === 0 && log.superblock.s_start !== start && !kept)
      yield* log.writeTail(start, tx.tid, barrier);
    if (!few) data.writeOwners(tx.ordered);
    yield* all<unknown>([...data_written, ...log.write(this.#staging, blocks - 1, start, few)]);
    this.#reportDataErrors(tx);
    yield* log.writeCommit(this.#staging + (blocks - 1) * log.blocksize, log.next(start, blocks - 1), barrier);
    this.commits++;
    this.#logged.push({ tid: tx.tid, start });
    this.#head = log.next(start, blocks);
    for (const bh of tx.blocks) {
      bh.in_committing = false;
      bh.checkpoint_tid = tx.tid;
      const image = this.#committing_image.get(bh);
      if (image === undefined) this.#committed_image.delete(bh);
      else {
        this.#committed_image.set(bh, image);
        this.#committing_image.delete(bh);
      }
      this.#to_checkpoint.add(bh);
    }
  }

  /** A failed data write is the file's misfortune (fsync reports it), not the journal's. */
  #reportDataErrors(tx: Transaction): void {
    for (const owner of tx.ordered)
      if (isUntold(owner.wb_err)) mlog(ML.ERROR, `transaction ${tx.tid}: file data could not be written`);
  }

  /** Log blocks that hold transactions which are not in place. */
  #used(): number {
    const { log } = this.#p;
    const oldest = this.#logged[0];
    if (oldest === undefined) return 0;
    const n = this.#head - oldest.start;
    return n > 0 ? n : n + (log.maxlen - log.first);
  }

  *#makeRoom(blocks: number): Task<void> {
    const { log } = this.#p;
    const size = log.maxlen - log.first;
    assert(blocks < size, "a transaction is larger than the log");
    while (size - this.#used() - 1 < blocks) {
      const err = yield* this.#checkpointOnce();
      if (err) throw err;
    }
  }

  /** Answers when transaction `tid` is durable; commits it now if it is running (jbd2_log_wait_commit). */
  commitTid(tid: number): Thunk<void> {
    return (cb) => {
      const look = (): void => {
        if (this.aborted !== null) cb(this.#abortError());
        else if (tidGeq(this.committed_tid, tid) || (tid === this.#running.tid && this.#idle())) cb(null);
        else {
          // Waits before it starts, for a commit on a synchronous device is over when startCommit returns.
          this.#commit_done.add(look);
          this.startCommit();
        }
      };
      look();
    };
  }

  isCommitted(tid: number): boolean {
    return tidGeq(this.committed_tid, tid);
  }

  #idle(): boolean {
    const tx = this.#running;
    return this.#committing === null && tx.blocks.length === 0 && tx.ordered.size === 0 && tx.data_ios === 0;
  }

  #abortError(): FsError {
    return this.aborted instanceof FsError
      ? this.aborted
      : new FsError(Errno.EIO, "journal", { aborted: String(this.aborted) });
  }

  // Checkpoint ------------------------------------------------------------------------------------------------------
  /** Starts writing committed blocks to their places; does not wait. */
  startCheckpoint(): void {
    if (this.#checkpointing || this.aborted !== null) return;
    spawn(this.#checkpointOnce(), (err) => {
      if (err) this.abort(err);
    });
  }

  /** Writes every block whose image is committed to its place and moves the tail. An error is returned, not thrown, to all who wait. */
  *#checkpointOnce(): Task<unknown> {
    if (this.#p.operationRuns()) yield* wait<void>((cb) => this.#p.defer(() => cb(null)));
    if (this.#checkpointing) {
      yield* wait<void>((cb) => this.#checkpoint_done.add(() => cb(null)));
      return this.aborted;
    }
    this.#checkpointing = true;
    try {
      yield* this.#checkpoint();
      return null;
    } catch (err) {
      this.abort(err);
      return err;
    } finally {
      this.#checkpointing = false;
      this.#checkpoint_done.wakeAll();
    }
  }

  *#checkpoint(): Task<void> {
    const { log, dev, barrier, arena, cache } = this.#p;
    const upto = this.#logged[this.#logged.length - 1];
    if (upto === undefined) return;
    this.checkpoints++;
    const bytes = cache.block_bytes;
    const list = [...this.#to_checkpoint].sort((a, b) => a.blkno - b.blkno);
    const room = Math.floor(CHECKPOINT_BYTES / bytes);
    const few = barrier && list.length <= FEW_WRITES;
    for (let i = 0; i < list.length; i += room) {
      const part = list.slice(i, i + room);
      const tids: number[] = [];
      const writes: Thunk<number>[] = [];
      let run = 0;
      for (let n = 0; n < part.length; n++) {
        const bh = part[n]!;
        const at = this.#checkpoint_addr + n * bytes;
        const image = this.#committed_image.get(bh);
        if (image !== undefined) arena.u8.set(image, at);
        else {
          assert(!bh.in_running || bh.checkpoint_tid === NO_TID, `block ${bh.blkno} has lost its committed image`);
          arena.u8.copyWithin(at, bh.addr, bh.addr + bytes);
        }
        tids.push(bh.checkpoint_tid);
        if (n + 1 === part.length || part[n + 1]!.blkno !== bh.blkno + 1) {
          const first = part[run]!.blkno;
          const len = (n + 1 - run) * bytes;
          writes.push(writeThunk(dev, this.#checkpoint_addr + run * bytes, len, first * bytes, few));
          run = n + 1;
        }
      }
      yield* all(writes);
      part.forEach((bh, n) => {
        // Committed again meanwhile: the newer image waits for the next checkpoint.
        if (bh.checkpoint_tid !== tids[n]) return;
        bh.checkpoint_tid = NO_TID;
        this.#to_checkpoint.delete(bh);
        this.#committed_image.delete(bh);
      });
    }
    if (barrier && !few) yield* deviceFlush(dev);
    // Until the tail on the disk has moved, what it points to is not free: a commit meanwhile that wrote over it would not be found.
    if (this.#p.keep_tail !== true) {
      const oldest = this.#logged.find((logged) => !tidGeq(upto.tid, logged.tid));
      if (oldest === undefined) yield* log.writeTail(this.#head, (upto.tid + 1) >>> 0, barrier);
      else yield* log.writeTail(oldest.start, oldest.tid, barrier);
    }
    while (this.#logged.length > 0 && tidGeq(upto.tid, this.#logged[0]!.tid)) this.#logged.shift();
    if (this.#p.keep_tail === true) return;
    cache.checkpointed();
  }

  // Both ------------------------------------------------------------------------------------------------------------
  /**
   * Everything that has happened until now is in its place on the disk, and the log's tail has moved past it, durably
   * (jbd2_journal_flush; ocfs2_commit_cache): what a lock needs before it leaves EX, and freed clusters before they are free.
   */
  readonly flush: Thunk<void> = (cb: Callback<void>) => spawn(this.#flush(), cb);

  *#flush(): Task<void> {
    this.flushes++;
    const tid = this.#idle() ? this.committed_tid : this.#running.tid;
    yield* wait(this.commitTid(tid));
    if (this.#checkpointing) yield* wait<void>((cb) => this.#checkpoint_done.add(() => cb(null)));
    if (this.aborted !== null) throw this.#abortError();
    if (this.#logged.length > 0) {
      const err = yield* this.#checkpointOnce();
      if (err) throw err;
    }
  }

  /** Ends the journal: everything in place, the log marked empty (s_start 0). */
  *shutdown(): Task<void> {
    const { log, barrier } = this.#p;
    while (!this.#idle() || this.#logged.length > 0) yield* this.#flush();
    yield* log.writeTail(0, this.#running.tid, barrier);
  }

  /** A commit for every `interval` that passed with something to commit: called by the mount's timer. */
  readonly periodic: Thunk<void> = asThunk(() => this.#periodic());
  *#periodic(): Task<void> {
    yield* wait(this.commitTid(this.#idle() ? this.committed_tid : this.#running.tid));
  }
}

/** a >= b for transaction numbers, which wrap (tid_geq). */
export function tidGeq(a: number, b: number): boolean {
  return ((a - b) | 0) >= 0;
}
