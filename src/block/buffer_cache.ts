/**
 * The buffer cache: metadata blocks in the arena, by block number (buffer_head_io.c, uptodate.c).
 *
 * Two rules of the cluster live here. A cached block is valid only for (its owner, the owner's epoch): when the lock
 * that covers it was given up, the epoch moved and the block is read again (docs/LOCKING.md). And a block that a
 * transaction holds (running, committing, or committed and not yet in its place on the disk) is never evicted.
 *
 * Slots are freed only between operations (`reclaim`), so that file-system code may hold a Bh for the length of its
 * synchronous run without pinning it. It must not keep one across a wait: an operation that is run again reads again.
 */
import type { Arena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { Corruption, FsError } from "../lib/fs_error.ts";
import { WaitQueue, waitOn } from "../lib/wait.ts";
import { CacheSlots } from "./cache_slots.ts";
import type { BlockDevice } from "./device.ts";

/** Who owns a metadata block: an inode or a refcount tree. `epoch` moves when the lock that covers the block was lost. */
export interface CachingInfo {
  epoch: number;
  /** Blocks in memory that are its own, kept by BufferCache. */
  cached_blocks: number;
  /** Blkno of the owner: of its first block. */
  readonly ci_blkno: number;
}

/**
 * What a block is: how it is checked after it was read, and where its block_check lies, so that the journal can compute
 * metaecc when the block is frozen for the log.
 */
export interface BlockKind {
  readonly name: string;
  /** Offset of struct ocfs2_block_check in the block, -1 for blocks without one. */
  readonly check_off: number;
  /** False for a block of this kind that has no block_check after all (a directory block without a trailer). */
  hasCheck?(bh: Bh): boolean;
  /** Throws Corruption when the contents cannot be such a block. Runs once after each read from the disk. */
  validate(bh: Bh): void;
}

/** A block that is only bytes (journal, symlink data, bad_blocks). */
export const rawBlock: BlockKind = { name: "raw", check_off: -1, validate() {} };

/** No transaction: their numbers wrap, and 0 is one of them. */
export const NO_TID = -1;

/** A metadata block in memory. `addr` is its arena address, good until the run of the operation ends. */
export class Bh {
  readonly blkno: number;
  readonly addr: number;
  /** Contents are those of the disk, or newer ones of a transaction. */
  uptodate = false;
  /** Read in flight. */
  reading = false;
  /** Set by the clock hand, cleared by use. */
  old = false;
  /** What the last read found, thrown to whoever asks for the block, once. */
  error: unknown = null;
  kind: BlockKind | null = null;
  ci: CachingInfo | null = null;
  epoch = 0;
  /** The blocks that share one block_check (xattr buckets over several blocks), this one included; null when alone. */
  ecc_group: Bh[] | null = null;
  /** In the running transaction. */
  in_running = false;
  /** In a transaction whose log blocks are on their way. */
  in_committing = false;
  /** Tid of the newest committed transaction whose image is not in place yet. */
  checkpoint_tid = NO_TID;
  /** Changed by the operation that is running (volume/op.ts). */
  in_op = false;
  readonly waiters = new WaitQueue();

  constructor(blkno: number, addr: number) {
    this.blkno = blkno;
    this.addr = addr;
  }

  get busy(): boolean {
    return this.reading || this.in_running || this.in_committing || this.checkpoint_tid !== NO_TID || this.in_op;
  }
}

export class BufferCache {
  readonly block_bytes: number;
  readonly dv: DataView<ArrayBufferLike>;
  readonly u8: Uint8Array<ArrayBufferLike>;
  readonly #dev: BlockDevice;
  readonly #blocks = new Map<number, Bh>();
  readonly #slots: CacheSlots<Bh>;
  readonly #low_water: number;
  /** Woken when reclaim has freed slots. */
  readonly space = new WaitQueue();
  /** Asked when every slot is held by transactions: start a checkpoint. */
  onPressure: () => void = () => {};

  constructor(arena: Arena, dev: BlockDevice, block_bytes: number, cache_bytes: number) {
    this.block_bytes = block_bytes;
    this.dv = arena.dv;
    this.u8 = arena.u8;
    this.#dev = dev;
    this.#slots = new CacheSlots(arena, Math.max(256, Math.floor(cache_bytes / block_bytes)), block_bytes);
    this.#low_water = Math.min(1024, Math.max(64, this.slots >> 3));
    this.#want = this.#low_water * 2;
  }

  get size(): number {
    return this.#blocks.size;
  }

  get slots(): number {
    return this.#slots.count;
  }

  /** The block if it is in memory and valid for `ci` now; no read, no check. */
  peek(ci: CachingInfo, blkno: number): Bh | undefined {
    const bh = this.#blocks.get(blkno);
    return bh?.uptodate === true && bh.ci === ci && bh.epoch === ci.epoch ? bh : undefined;
  }

  /**
   * The block, read if need be. Throws Wait while a read is in flight, Corruption when the contents are not a `kind`,
   * FsError EIO when the device fails. Mirrors ocfs2_read_blocks with its validate callback.
   */
  read(ci: CachingInfo, blkno: number, kind: BlockKind): Bh {
    let bh = this.#blocks.get(blkno);
    if (bh?.uptodate && bh.ci !== ci && bh.ci?.ci_blkno === ci.ci_blkno && bh.epoch === bh.ci.epoch) {
      // The same owner under a new object (InodeCache.trim); its lock was not lost in between.
      this.#own(bh, ci);
    }
    if (bh !== undefined && bh.ci === ci && bh.epoch === ci.epoch && bh.uptodate) {
      bh.old = false;
      if (bh.kind !== kind) this.#validate(bh, kind);
      return bh;
    }
    if (bh === undefined) bh = this.#startRead(ci, blkno);
    else if (!bh.reading) {
      if (bh.uptodate && bh.busy) {
        // A block that a transaction holds is newer than the disk: it only changed hands inside this node.
        if (bh.ci !== ci && bh.in_op)
          throw new Corruption("buffer_cache.read", { blkno, owner: ci.ci_blkno, found: "a block of another owner" });
        this.#own(bh, ci);
        if (bh.kind !== kind) this.#validate(bh, kind);
        return bh;
      }
      // Whoever waited for the read that failed has to hear of it: reading again would make him wait again, and so on for ever.
      if (bh.error === null || bh.ci !== ci || bh.epoch !== ci.epoch) this.#reread(bh, ci);
    }
    if (bh.reading) waitOn(bh.waiters);
    if (bh.error !== null) {
      const error = bh.error;
      this.#drop(bh);
      throw error;
    }
    if (bh.kind !== kind) this.#validate(bh, kind);
    return bh;
  }

  /** Starts reading blocks that are not in memory, and returns at once: for what will be asked for next. */
  prefetch(ci: CachingInfo, blkno: number, count = 1): void {
    for (let b = blkno; b < blkno + count; b++) {
      if (this.#blocks.has(b)) continue;
      // Whoever asks for one that is not there hears of it.
      if (!this.#isOnDevice(b) || this.#slots.free <= this.#low_water >> 1) return;
      this.#startRead(ci, b);
    }
  }

  /** Whatever is in memory for this block number, under any owner. */
  any(blkno: number): Bh | undefined {
    return this.#blocks.get(blkno);
  }

  /** A slot for a block whose old contents do not matter (it was just allocated): zeroed, uptodate, of the given kind. */
  getNew(ci: CachingInfo, blkno: number, kind: BlockKind): Bh {
    let bh = this.#blocks.get(blkno);
    if (bh?.reading === true) waitOn(bh.waiters);
    bh ??= this.#insert(blkno);
    this.u8.fill(0, bh.addr, bh.addr + this.block_bytes);
    this.#own(bh, ci);
    bh.kind = kind;
    bh.error = null;
    bh.ecc_group = null;
    bh.uptodate = true;
    bh.old = false;
    return bh;
  }

  /** What makes a block again what it is now, and whose: it is about to be taken for another. */
  identityOf(bh: Bh): () => void {
    const { kind, ci, epoch, ecc_group } = bh;
    return () => {
      if (ci !== null) this.#own(bh, ci);
      bh.epoch = epoch;
      bh.kind = kind;
      bh.ecc_group = ecc_group;
    };
  }

  /** Forgets blocks that were freed, so that nothing stale is found when their place is used again. */
  forget(blkno: number, count: number): void {
    if (count <= this.#blocks.size) {
      for (let b = blkno; b < blkno + count; b++) this.#forgetOne(this.#blocks.get(b));
    } else {
      for (const bh of this.#blocks.values()) {
        if (bh.blkno >= blkno && bh.blkno < blkno + count) this.#forgetOne(bh);
      }
    }
  }

  #forgetOne(bh: Bh | undefined): void {
    if (bh === undefined) return;
    // What is still in a transaction goes to the disk as what it was, with its checksum: another node may look at it to see that it is no more.
    if (!bh.busy) this.#drop(bh);
  }

  /** All blocks that are held for `ci` and are in no transaction are forgotten (ocfs2_metadata_cache_purge). */
  purge(ci: CachingInfo): void {
    // Most inodes have this one block: the cache is not searched for others then.
    const first = this.#blocks.get(ci.ci_blkno);
    if (first?.ci === ci && !first.busy) this.#drop(first);
    if (ci.cached_blocks === 0) return;
    for (const bh of this.#blocks.values()) {
      if (bh.ci !== ci || bh.busy) continue;
      this.#drop(bh);
      if (ci.cached_blocks === 0) return;
    }
  }

  /** Somebody found no slot since reclaim last looked. */
  #failed = false;
  /** Slots that were free, all told, for the last one who found too few. */
  #tried_with = 0;
  /** Slots that reclaim makes free: grows to what the largest operation needs. */
  #want: number;

  get needsReclaim(): boolean {
    return this.#slots.free < this.#low_water;
  }

  /** Frees slots down to the low-water mark by the clock rule. Call only while no operation runs. */
  reclaim(): void {
    if (this.#slots.free >= this.#low_water && this.space.length === 0) return;
    // Somebody waits though this much is free: his operation needs more at once, and its next run would end as this one did.
    const waited_for = this.space.length > 0;
    if (this.#failed) {
      this.#failed = false;
      this.#tried_with = this.#slots.free;
      if (this.#tried_with >= this.#want) this.#want = Math.min(this.#want * 2, this.slots >> 1);
    }
    let passes = this.slots * 2;
    while (this.#slots.free < this.#want && passes-- > 0) {
      const bh = this.#slots.next();
      if (bh === null || bh.busy) continue;
      if (bh.old) this.#drop(bh);
      else bh.old = true;
    }
    if (this.#slots.free < this.#low_water || (waited_for && this.#slots.free < this.#want)) this.onPressure();
    // Only when there is more than there was for the last try: who runs again in vain keeps the device from being heard.
    if (waited_for && this.#slots.free > this.#tried_with) this.space.wakeAll();
  }

  /** A checkpoint has ended: blocks that it held may be dropped. */
  checkpointed(): void {
    this.space.wakeAll();
  }

  *blocks(): IterableIterator<Bh> {
    yield* this.#blocks.values();
  }

  #insert(blkno: number): Bh {
    const addr = this.#slots.take();
    if (addr === undefined) {
      this.#failed = true;
      waitOn(this.space);
    }
    const bh = new Bh(blkno, addr);
    this.#blocks.set(blkno, bh);
    this.#slots.hold(bh);
    return bh;
  }

  #own(bh: Bh, ci: CachingInfo): void {
    if (bh.ci !== ci) {
      if (bh.ci !== null) bh.ci.cached_blocks--;
      ci.cached_blocks++;
    }
    bh.ci = ci;
    bh.epoch = ci.epoch;
  }

  #drop(bh: Bh): void {
    this.#blocks.delete(bh.blkno);
    if (bh.ci !== null) bh.ci.cached_blocks--;
    bh.ci = null;
    bh.uptodate = false;
    this.#slots.release(bh);
  }

  #isOnDevice(blkno: number): boolean {
    const end = (blkno + 1) * this.block_bytes;
    if (end > this.#dev.size_bytes) this.#dev.measure?.();
    return blkno >= 0 && end <= this.#dev.size_bytes;
  }

  #startRead(ci: CachingInfo, blkno: number): Bh {
    if (!this.#isOnDevice(blkno))
      throw new Corruption("buffer_cache.read", { blkno, owner: ci.ci_blkno, device_bytes: this.#dev.size_bytes });
    const bh = this.#insert(blkno);
    this.#reread(bh, ci);
    return bh;
  }

  #reread(bh: Bh, ci: CachingInfo): void {
    this.#own(bh, ci);
    bh.kind = null;
    bh.ecc_group = null;
    bh.uptodate = false;
    bh.reading = true;
    bh.error = null;
    const bytes = this.block_bytes;
    this.#dev.read(bh.addr, bytes, bh.blkno * bytes, (res) => {
      bh.reading = false;
      if (res === bytes) bh.uptodate = true;
      else bh.error = new FsError(res < 0 ? -res : Errno.EIO, "buffer_cache.read", { blkno: bh.blkno });
      bh.waiters.wakeAll();
    });
  }

  #validate(bh: Bh, kind: BlockKind): void {
    try {
      kind.validate(bh);
    } catch (err) {
      if (!bh.busy) this.#drop(bh);
      throw err;
    }
    bh.kind = kind;
  }
}
