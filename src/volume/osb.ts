/**
 * The mounted volume's state (struct ocfs2_super, "osb"): geometry, features, the parts, and the runner of operations.
 * super.ts opens and closes it.
 */
import type { BufferCache } from "../block/buffer_cache.ts";
import type { DataCache } from "../block/data_cache.ts";
import { type BlockDevice, flushThunk } from "../block/device.ts";
import type { DlmGlue } from "../dlmglue/dlmglue.ts";
import { LockSet } from "../dlmglue/lock_set.ts";
import { type SystemInode, systemInodeName } from "../format/disk/index.ts";
import type { Journal } from "../journal/journal.ts";
import type { Arena } from "../lib/arena.ts";
import type { Clock, Random } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { AssertionFailure, assert, Corruption, FsError } from "../lib/fs_error.ts";
import { type Callback, runTaskSync, spawn, type Task, type Thunk } from "../lib/task.ts";
import { WAIT, WaitQueue } from "../lib/wait.ts";
import type { Kernels } from "../wasm/kernels.ts";
import type { Inode } from "./inode.ts";
import type { InodeCache } from "./inode_cache.ts";
import type { KernelCaches } from "./inode_locks.ts";
import type { BlockKinds } from "./kinds.ts";
import type { MountOptions } from "./mount_options.ts";
import { Op } from "./op.ts";
import type { Recovery } from "./recovery.ts";
import { Unshared } from "./unshared.ts";

/** Geometry and identity, from the superblock; constant while mounted. */
export interface Geometry {
  readonly blocksize: number;
  readonly blocksize_bits: number;
  readonly clustersize: number;
  readonly clustersize_bits: number;
  /** log2 of blocks in a cluster. */
  readonly c_to_b_bits: number;
  readonly blocks_per_cluster: number;
  /** Clusters of the volume (superblock's i_clusters); grows with an online resize. */
  clusters: number;
  readonly max_slots: number;
  readonly root_blkno: number;
  readonly system_dir_blkno: number;
  readonly first_cluster_group_blkno: number;
  readonly fs_generation: number;
  readonly feature_compat: number;
  readonly feature_incompat: number;
  readonly feature_ro_compat: number;
  readonly uuid: Uint8Array;
  readonly uuid_hash: number;
  readonly label: string;
  readonly dx_seed: readonly [number, number, number];
  readonly xattr_inline_size: number;
  readonly volume_bytes: number;
}

/** An operation that has been run again so often waits for what it takes away from itself: better an error than a node that turns for ever. */
const MAX_RUNS = 200_000;

/** Rules that a test switches off to see that somebody notices (docs/LOCKING.md names each). */
export type Sabotage =
  | "log_first"
  | "io_drain"
  | "epoch"
  | "recovery_wait"
  | "cancel_convert"
  | "open_lock"
  | "journal_lock"
  | "lvb"
  | "unshared"
  | "drop_stale"
  | "dentry_waits"
  | "fsync_tells"
  | "flock"
  | "direct_early"
  | "reads_behind"
  | "serve_held"
  | "reply_order";

export class Osb {
  readonly arena: Arena;
  readonly k: Kernels;
  readonly dev: BlockDevice;
  readonly clock: Clock;
  readonly random: Random;
  readonly options: MountOptions;
  geo!: Geometry;
  cache!: BufferCache;
  data!: DataCache;
  journal!: Journal;
  glue!: DlmGlue;
  inodes!: InodeCache;
  readonly unshared = new Unshared(this);
  kinds!: BlockKinds;
  /** System inodes by name, filled at mount (sysfile.ts). */
  readonly system_inodes = new Map<string, Inode>();
  /** The kernel's caches behind FUSE; null for the library and tools. */
  kernel_caches: KernelCaches | null = null;
  /** Recovery of other nodes; null until the volume is being mounted. */
  recovery: Recovery | null = null;
  /** The lock on our journal's inode, held at EX for the whole mount: others see by it that we live. */
  readonly journal_locks = new LockSet({ for_recovery: true });
  /** Empty, but for tests. */
  readonly sabotage: Set<Sabotage> = new Set();
  /** Our slot, -1 while none is taken (read-only mounts of clean volumes). */
  slot_num = -1;
  /** Why nothing may be written, null when it may: "-o ro", "errors=remount-ro after …", an ro_compat feature. */
  readonly_reason: string | null = null;
  /** Errno of a data write that failed since the volume was last synced. */
  data_error = 0;
  /** Where Op keeps the old contents of blocks that it changes. */
  undo_base = 0;
  undo_slots = 0;
  readonly #ready: (() => void)[] = [];
  #draining = false;
  #in_op = false;
  /** Operations that have succeeded and whose onSuccess functions run: one of them may run another operation. */
  #taking_effect = 0;
  /** Tells the thread's loop that `turn` has work; the default runs it as a microtask. */
  wakeLoop: () => void = () => {
    if (!this.#woken) {
      this.#woken = true;
      queueMicrotask(() => {
        this.#woken = false;
        this.turn();
      });
    }
  };
  #woken = false;

  constructor(arena: Arena, kernels: Kernels, dev: BlockDevice, clock: Clock, random: Random, options: MountOptions) {
    this.arena = arena;
    this.k = kernels;
    this.dev = dev;
    this.clock = clock;
    this.random = random;
    this.options = options;
  }

  /** True when the bit of feature_incompat is set. */
  incompat(bit: number): boolean {
    return (this.geo.feature_incompat & bit) !== 0;
  }

  roCompat(bit: number): boolean {
    return (this.geo.feature_ro_compat & bit) !== 0;
  }

  /** A system inode; `slot` for those that each slot has. Throws Corruption when the volume lacks it (ocfs2_get_system_file_inode). */
  sysfile(type: SystemInode, slot = 0): Inode {
    const name = systemInodeName(type, slot);
    const inode = this.system_inodes.get(name);
    if (inode === undefined) throw new Corruption("sysfile", { name, found: "not in the system directory" });
    return inode;
  }

  // Units -----------------------------------------------------------------------------------------------------------
  clustersToBlocks(clusters: number): number {
    return clusters * this.geo.blocks_per_cluster;
  }

  /** The cluster that holds a block (ocfs2_blocks_to_clusters rounds down). */
  blocksToClusters(blocks: number): number {
    return Math.floor(blocks / this.geo.blocks_per_cluster);
  }

  /** Clusters needed for so many bytes, rounded up. */
  clustersForBytes(bytes: number): number {
    return Math.ceil(bytes / this.geo.clustersize);
  }

  blocksForBytes(bytes: number): number {
    return Math.ceil(bytes / this.geo.blocksize);
  }

  // Running operations ----------------------------------------------------------------------------------------------
  /**
   * Runs `fn` as an operation. `done` is called once: before exec returns if nothing had to be waited for. `locks` is
   * given by a task that keeps its cluster locks over several operations.
   */
  exec<T>(fn: (op: Op) => T, done: Callback<T>, locks?: LockSet): void {
    const own = locks === undefined ? new LockSet() : null;
    const op = new Op(this, locks ?? own!);
    let runs = 0;
    const attempt = (): void => {
      let value: T;
      if (runs > 0) this.#waiting.delete(attempt);
      if (++runs > MAX_RUNS) {
        own?.releaseAll();
        const waits = WAIT.where.split("\n").slice(2, 6).join(" <");
        done(new FsError(Errno.EIO, "op", { runs, found: "an operation that never gets what it waits for", waits }));
        return;
      }
      WAIT.trace = this.#tracing || runs === MAX_RUNS;
      assert(!this.#in_op, "an operation inside an operation");
      this.#in_op = true;
      try {
        value = fn(op);
      } catch (err) {
        this.#in_op = false;
        const queue = err === WAIT ? WAIT.queue : null;
        op.rollback();
        if (queue !== null) {
          op.locks.waitsFor(queue);
          this.#waiting.add(attempt);
          // Who was looked at in between (whereOpsWait) has queued itself anew.
          const run = runs;
          queue.add(() =>
            this.ready(() => {
              if (run === runs && this.#waiting.has(attempt)) attempt();
            }),
          );
          if (!this.#draining) this.wakeLoop();
          return;
        }
        op.locks.withdraw();
        own?.releaseAll();
        if (err instanceof AssertionFailure) this.onAssertion(err);
        done(err);
        return;
      }
      this.#in_op = false;
      this.#taking_effect++;
      try {
        op.commit();
      } finally {
        this.#taking_effect--;
      }
      op.locks.withdraw();
      own?.releaseAll();
      done(null, value);
    };
    attempt();
  }

  /** Operations that wait. */
  readonly #waiting = new Set<() => void>();
  #tracing = false;

  /** Where each operation that waits does so, for whoever looks for the reason: it is run again and leaves its stack. */
  whereOpsWait(): string[] {
    const found: string[] = [];
    this.#tracing = true;
    for (const attempt of [...this.#waiting]) {
      WAIT.where = "it goes on";
      attempt();
      found.push(WAIT.where);
    }
    this.#tracing = WAIT.trace = false;
    return found;
  }

  /**
   * True while the code of an operation runs, and until all of it has taken effect: a lock that is released in the midst of that may
   * be wanted by another node, and the commit that this asks for would find neither the data that belongs to it nor gone what was freed.
   */
  readonly operationRuns = (): boolean => this.#in_op || this.#taking_effect > 0;

  /** Operations that nobody outside waits for; the volume is not closed before they have ended. */
  background_ops = 0;
  readonly background_idle = new WaitQueue();

  execInBackground<T>(fn: (op: Op) => T, done: Callback<T>): void {
    this.background_ops++;
    this.exec(fn, (err, value) => {
      if (--this.background_ops === 0) this.background_idle.wakeAll();
      done(err, value);
    });
  }

  /** Work that nobody waits for. It must not fail: what we take for ours may not be, from then on. */
  background(task: Task<unknown>): void {
    spawn(task, (err) => {
      if (err) this.journal.abort(err);
    });
  }

  /** An operation as a step of a task: `const r = yield* wait(osb.step(op => …, locks))`. */
  step<T>(fn: (op: Op) => T, locks?: LockSet): Thunk<T> {
    return (cb) => this.exec(fn, cb, locks);
  }

  run<T>(fn: (op: Op) => T, locks?: LockSet): Promise<T> {
    return new Promise((resolve, reject) => {
      this.exec(fn, (err, v) => (err ? reject(err) : resolve(v as T)), locks);
    });
  }

  /** Runs an operation to its end on this thread, waiting on the device (tools, tests). */
  runSync<T>(fn: (op: Op) => T): T {
    return this.runTaskSync(oneStep(this.step(fn)));
  }

  runTaskSync<T>(task: Task<T>): T {
    return runTaskSync(task, () => this.pump());
  }

  /** Queues what can go on; it runs in the next turn, never inside the completion that made it ready. */
  ready(cb: () => void): void {
    this.#ready.push(cb);
    if (!this.#draining) this.wakeLoop();
  }

  /** Runs everything that is ready, frees cache slots, and hands the I/O of the turn to the kernel. */
  turn(): boolean {
    let ran = false;
    this.#draining = true;
    try {
      for (let i = 0; i < this.#ready.length; i++) {
        ran = true;
        this.#ready[i]!();
      }
    } finally {
      this.#ready.length = 0;
      this.#draining = false;
    }
    if (this.cache.needsReclaim || this.cache.space.length > 0) this.cache.reclaim();
    if (this.data.needsReclaim) this.data.reclaim();
    if (this.inodes.needsTrim) this.inodes.trim();
    this.dev.submit();
    return ran || this.#ready.length > 0;
  }

  /** One turn, and if nothing ran, one wait for the device; false when nothing can come any more. */
  pump(): boolean {
    if (this.turn()) return true;
    return this.dev.pump();
  }

  /** One device flush for all who ask while none is on its way: those who come later than its start wait for the next. */
  readonly sharedFlush: Thunk<number> = (cb) => {
    this.#flush_waiting.push(cb);
    if (!this.#flushing) this.#startFlush();
  };
  #flush_waiting: Callback<number>[] = [];
  #flushing = false;

  #startFlush(): void {
    const waiting = this.#flush_waiting;
    this.#flush_waiting = [];
    this.#flushing = true;
    flushThunk(this.dev)((err, n) => {
      this.#flushing = false;
      if (this.#flush_waiting.length > 0) this.#startFlush();
      for (const cb of waiting) cb(err, n);
    });
  }

  /** Calls the next periodic commit off. */
  cancelTimer: (() => void) | null = null;
  /** The volume is being closed: no new work. */
  closing = false;

  /** A broken invariant: set by the mount to stop writing and end the process; tests let it pass to the caller. */
  onAssertion: (err: AssertionFailure) => void = () => {};

  /** The journal was aborted, and errors=panic or other nodes: set by the mount to end the process, as the kernel would stop the machine. */
  onPanic: (err: unknown) => void = () => {};

  /** Bad contents were found on the disk: errors=remount-ro|panic|continue (__ocfs2_error). Set by super. */
  onCorruption: (err: Error) => void = () => {};
}

function* oneStep<T>(thunk: Thunk<T>): Task<T> {
  return (yield thunk) as T;
}
