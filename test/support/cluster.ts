/**
 * A cluster in one process: several mounted volumes over one disk in memory and one lock manager, in virtual time.
 *
 * Each node has its own memory and caches. I/O completes late and in random order, lock messages take random times, timers
 * fire when their time has come; all chances come from one seed, so a seed is a whole history.
 *
 * Faults: `kill` ends a node between two events. Of its writes that were in flight each reaches the disk whole, in part
 * (whole sectors from its start), or not at all; none comes later, as fencing promises. The disk itself does not lose power: what a
 * write's completion said is there.
 */

import type { IoDone } from "../../src/block/device.ts";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import { type Random, seededRandom } from "../../src/lib/clock.ts";
import { Errno } from "../../src/lib/errno.ts";
import { assert } from "../../src/lib/fs_error.ts";
import { spawn, type Task, wait } from "../../src/lib/task.ts";
import type { LockDomain } from "../../src/stackglue/lock_domain.ts";
import { resolveCluster } from "../../src/tools/mkfs/cluster_info.ts";
import { type MkfsSink, mkfs } from "../../src/tools/mkfs/index.ts";
import { parseOptions, type RawOptions } from "../../src/tools/mkfs/options.ts";
import { forgetAll } from "../../src/vfs/teardown.ts";
import { defaultMountOptions, type MountOptions } from "../../src/volume/mount_options.ts";
import type { Op } from "../../src/volume/op.ts";
import type { Osb, Sabotage } from "../../src/volume/osb.ts";
import { closeVolume, openVolume } from "../../src/volume/super.ts";
import { type Arena, createArena } from "../../src/wasm/arena.ts";
import { createKernels } from "../../src/wasm/kernels.ts";
import { type LockManager, memoryLocks, o2dlmLocks } from "./cluster_locks.ts";
import { SimClock } from "./sim_cluster.ts";
import { inPieces } from "./vector_io.ts";

/** A volume for a cluster, made by our mkfs. The same for the same options: a history must not depend on a volume's chances. */
export function clusterImage(options: RawOptions, size_mib: number, slots = 4): Uint8Array {
  const image = new Uint8Array(size_mib * 2 ** 20);
  const raw = {
    journalOptions: "size=4M",
    clusterStack: "o2cb",
    clusterName: "sim",
    nodeSlots: String(slots),
    ...options,
  };
  const { params, wish } = parseOptions(raw);
  const cluster = resolveCluster(params, wish, { active: undefined, on_disk: undefined, force: false });
  const sink: MkfsSink = {
    write: (bytes, at) => image.set(bytes, at),
    zero: (at, len) => void image.fill(0, at, at + len),
    sync() {},
  };
  const shape = { name: "memory", size_bytes: image.length, sector_bytes: 512 };
  mkfs({ ...params, cluster }, shape, sink, { clock: new SimClock(), random: seededRandom(7) });
  return image;
}

const SECTOR = 512;

interface InFlight {
  /** Puts the first `bytes` bytes on the disk; null for what writes nothing. */
  readonly land: ((bytes: number) => void) | null;
  readonly len: number;
}

/** One node's way to the disk that all share. */
export class SharedDevice extends MemoryDevice {
  readonly #clock: SimClock;
  readonly #random: Random;
  readonly #io_ms: number;
  readonly #in_flight = new Set<InFlight>();
  reads = 0;
  writes = 0;
  dead = false;
  /** Writes fail with EIO. */
  failing = false;

  constructor(arena: Arena, disk: Uint8Array, clock: SimClock, random: Random, io_ms: number) {
    super(arena, disk, { name: "shared" });
    this.#clock = clock;
    this.#random = random;
    this.#io_ms = io_ms;
  }

  #holding = false;
  readonly #held: (() => void)[] = [];

  /** The next write stays on its way until `release`. */
  holdNextWrite(): void {
    this.#holding = true;
  }

  get held(): number {
    return this.#held.length;
  }

  release(): void {
    for (const run of this.#held.splice(0)) this.#clock.after(0, run);
  }

  #later(io: InFlight, run: () => void): void {
    if (this.dead) return;
    if (this.#holding && io.land !== null) {
      this.#holding = false;
      this.#held.push(run);
      return;
    }
    this.#in_flight.add(io);
    this.#clock.after(this.#random.u32() % this.#io_ms, () => {
      if (!this.#in_flight.delete(io)) return;
      run();
    });
  }

  override read(addr: number, len: number, offset: number, done: IoDone): void {
    this.reads++;
    this.#later({ land: null, len }, () => super.read(addr, len, offset, done));
  }

  /** As the harshest reading of "in flight" has it, what is written is what the memory holds when the write completes. */
  override write(addr: number, len: number, offset: number, done: IoDone): void {
    this.writes++;
    if (this.failing) {
      this.#later({ land: null, len }, () => done(-Errno.EIO));
      return;
    }
    const land = (bytes: number): void => super.write(addr, bytes, offset, () => {});
    this.#later({ land, len }, () => super.write(addr, len, offset, done));
  }

  override readv(iov: readonly number[], offset: number, done: IoDone): void {
    inPieces(iov, offset, done, (a, l, o, cb) => this.read(a, l, o, cb));
  }

  override writev(iov: readonly number[], offset: number, done: IoDone): void {
    inPieces(iov, offset, done, (a, l, o, cb) => this.write(a, l, o, cb));
  }

  override flush(done: IoDone): void {
    this.#later({ land: null, len: 0 }, () => done(0));
  }

  /** The node dies: some of what is in flight still reaches the disk, nothing afterwards. */
  kill(): void {
    this.dead = true;
    for (const { land, len } of this.#in_flight) {
      if (land === null) continue;
      const fate = this.#random.u32() % 3;
      if (fate === 0) land(len);
      else if (fate === 1) land((this.#random.u32() % (len / SECTOR)) * SECTOR);
    }
    this.#in_flight.clear();
  }

  override pump(): boolean {
    throw new Error("a node of a simulated cluster waits in its event loop only");
  }
}

export interface ClusterOptions {
  readonly seed: number;
  readonly image: Uint8Array;
  /** I/O takes less than this, lock messages up to this, in ms. */
  readonly io_ms?: number;
  readonly lock_ms?: number;
  /** Our o2dlm on every node instead of the lock manager in memory. */
  readonly o2dlm?: boolean;
  readonly mount?: Partial<MountOptions>;
  readonly sabotage?: readonly Sabotage[];
}

export class SimNode {
  readonly num: number;
  domain: LockDomain | null = null;
  readonly dev: SharedDevice;
  osb!: Osb;
  awake = false;
  alive = true;
  mounted = false;

  constructor(num: number, dev: SharedDevice) {
    this.num = num;
    this.dev = dev;
  }
}

/** Longer than anything that works takes in virtual time. */
const STANDSTILL_MS = 900_000;
const ARENA_MIB = 40;
/** Fewer than a history uses. */
const FEW_INODES = 12;
/** Arenas are large and are not given back at once: those of clusters that are gone serve the next ones. */
const spare_arenas: Arena[] = [];

function takeArena(): Arena {
  const arena = spare_arenas.pop();
  if (arena === undefined) return createArena(ARENA_MIB);
  const used = arena as unknown as { next: number };
  arena.u8.fill(0, arena.heapBase, used.next);
  used.next = arena.heapBase;
  return arena;
}

export class SimCluster {
  readonly clock: SimClock;
  readonly random: Random;
  readonly disk: Uint8Array;
  readonly dlm: LockManager;
  readonly nodes = new Map<number, SimNode>();
  readonly options: ClusterOptions;
  events = 0;
  #hash = 0x811c9dc5;
  readonly #arenas: Arena[] = [];
  /** What went wrong outside of any operation. */
  readonly failures: string[] = [];
  /** Last events, for a report. */
  readonly trace: string[] = [];

  constructor(options: ClusterOptions) {
    this.options = options;
    this.random = seededRandom(options.seed);
    this.disk = options.image;
    const locks = {
      seed: options.seed ^ 0x5bd1e995,
      lock_ms: options.lock_ms ?? 8,
      onEvent: (what: string) => this.note(what),
    };
    this.dlm = options.o2dlm === true ? o2dlmLocks(locks) : memoryLocks(locks, new SimClock());
    this.clock = this.dlm.clock;
  }

  below(n: number): number {
    return this.random.u32() % n;
  }

  /** One line of the history: the same seed must give the same lines. */
  note(what: string): void {
    const line = `${this.clock.monotonic_ms().toFixed(1)} ${what}`;
    for (let i = 0; i < line.length; i++) this.#hash = Math.imul(this.#hash ^ line.charCodeAt(i), 0x01000193);
    this.trace.push(line);
    if (this.trace.length > 40_000) this.trace.splice(0, 20_000);
  }

  get trace_hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  // Nodes ---------------------------------------------------------------------------------------------------------------
  /** Mounts the volume on a node; others go on meanwhile. */
  mount(num: number, options: Partial<MountOptions> = {}): SimNode {
    let result: SimNode | undefined;
    let failure: unknown = null;
    this.startMount(num, options, (err, node) => {
      failure = err;
      result = node;
    });
    this.run(() => result !== undefined || failure !== null);
    if (failure !== null) throw failure;
    return result!;
  }

  startMount(num: number, options: Partial<MountOptions>, done: (err: unknown, node?: SimNode) => void): SimNode {
    const arena = takeArena();
    this.#arenas.push(arena);
    const seed = this.random.u32();
    const dev = new SharedDevice(arena, this.disk, this.clock, seededRandom(seed), this.options.io_ms ?? 4);
    const node = new SimNode(num, dev);
    this.nodes.set(num, node);
    const parts = {
      arena,
      kernels: createKernels(arena),
      dev,
      clock: nodeClock(this.clock, node),
      random: seededRandom(seed ^ 0x9e3779b9),
      options: {
        ...defaultMountOptions,
        cache_bytes: 2 << 20,
        data_cache_bytes: 8 << 20,
        // The volumes are small, and every node has a window.
        localalloc_mb: 2,
        // Every other node gives the locks of what it does not use back at once.
        cached_inodes: num % 2 === 0 ? FEW_INODES : defaultMountOptions.cached_inodes,
        ...this.options.mount,
        ...options,
      },
      sabotage: this.options.sabotage ?? [],
      onOsb: (osb: Osb) => {
        node.osb = osb;
        osb.wakeLoop = () => {
          node.awake = true;
        };
        osb.onAssertion = (err) => this.failures.push(`node ${num}: ${err.stack}`);
      },
    };
    const failed = (err: Error): void => void this.failures.push(`node ${num}: ${err.stack}`);
    this.dlm.join(num, failed, (domain) => {
      if (!node.alive) return;
      node.domain = domain;
      spawn(openVolume({ ...parts, domain }), (err, osb) => {
        if (err) {
          this.#gone(node);
          done(err);
          return;
        }
        node.osb = osb!;
        node.mounted = true;
        this.note(`mounted ${num} slot ${osb!.slot_num}`);
        done(null, node);
      });
    });
    return node;
  }

  umount(node: SimNode): void {
    let ended = false;
    let failure: unknown = null;
    function* all(): Task<void> {
      yield* forgetAll(node.osb, node.osb.clock);
      yield* closeVolume(node.osb);
    }
    spawn(all(), (err) => {
      ended = true;
      failure = err;
    });
    this.run(() => ended);
    if (failure) throw failure;
    this.checkNode(node);
    this.note(`unmounted ${node.num}`);
    this.#gone(node);
  }

  #gone(node: SimNode): void {
    if (node.alive) this.dlm.left(node.num);
    node.alive = false;
    node.mounted = false;
    this.nodes.delete(node.num);
  }

  /** The node dies now. */
  kill(node: SimNode): void {
    this.note(`kill ${node.num}`);
    node.dev.kill();
    this.dlm.kill(node.num);
    node.alive = false;
    this.#gone(node);
  }

  get mounted(): SimNode[] {
    return [...this.nodes.values()].filter((n) => n.mounted);
  }

  // Time ----------------------------------------------------------------------------------------------------------------
  /** Events, until `until` says so. Throws when nothing happens any more, or something broke. */
  run(until: () => boolean): void {
    const limit = this.clock.monotonic_ms() + STANDSTILL_MS;
    for (;;) {
      this.#turns();
      if (this.failures.length > 0) throw new Error(this.failures.join("\n"));
      if (until()) return;
      this.events++;
      if (!this.clock.step()) throw new Error(`nothing can happen any more\n${this.report()}`);
      if (this.clock.monotonic_ms() > limit) throw new Error(`the cluster stands still\n${this.report()}`);
    }
  }

  #turns(): void {
    for (let ran = true; ran; ) {
      ran = false;
      for (const node of [...this.nodes.values()]) {
        if (!node.awake || !node.alive) continue;
        node.awake = false;
        ran = true;
        node.osb.turn();
      }
    }
  }

  /** Time passes. */
  sleep(ms: number): void {
    let over = false;
    this.clock.after(ms, () => {
      over = true;
    });
    this.run(() => over);
  }

  /** An operation on a node, to its end. */
  op<T>(node: SimNode, fn: (op: Op) => T): T {
    return this.task(
      node,
      (function* (): Task<T> {
        return yield* wait(node.osb.step(fn));
      })(),
    );
  }

  task<T>(node: SimNode, task: Task<T>): T {
    let ended = false;
    let failure: unknown = null;
    let value: T | undefined;
    spawn(task, (err, v) => {
      ended = true;
      failure = err;
      value = v;
    });
    this.run(() => ended || !node.alive);
    assert(ended, `node ${node.num} died in the middle of an operation`);
    if (failure) throw failure;
    return value as T;
  }

  /** Throws when the node has given up. */
  checkNode(node: SimNode): void {
    const { osb } = node;
    if (osb.journal?.aborted) throw new Error(`node ${node.num}: journal aborted: ${String(osb.journal.aborted)}`);
    if (osb.readonly_reason !== null && !osb.options.ro)
      throw new Error(`node ${node.num} is read-only: ${osb.readonly_reason}`);
  }

  /** The cluster is not used any more: its memory serves the next one. */
  dispose(): void {
    spare_arenas.push(...this.#arenas.splice(0));
  }

  /** What waits for what. */
  report(): string {
    const lines = [
      `seed ${this.options.seed}, ${this.clock.monotonic_ms()} ms, ${this.events} events`,
      ...this.dlm.waiting(),
    ];
    for (const node of this.nodes.values()) {
      lines.push(
        `node ${node.num}: mounted ${node.mounted}, recovery of [${[...(node.osb?.glue?.recovery_map ?? [])]}], downconverts ${node.osb?.glue?.active}`,
      );
      for (const res of node.osb?.glue?.attached ?? [])
        if (!res.isFree || res.blocking !== 0)
          lines.push(
            `  ${JSON.stringify(res.name)} level ${res.level} requested ${res.requested} blocking ${res.blocking} holders pr ${res.pr_holders} ex ${res.ex_holders} wants ${res.wants.map((w) => w.level)} ${res.downconverting ? "downconverting" : ""} ${res.gate_shut ? "shut" : ""} ${res.cancelling ? "cancelling" : ""} ${res.freeing ? "freeing" : ""}`,
          );
    }
    return lines.join("\n");
  }
}

/** Timers of a node that is dead never fire. */
function nodeClock(clock: SimClock, node: SimNode): SimNode["osb"]["clock"] {
  return {
    realtime: () => clock.realtime(),
    monotonic_ms: () => clock.monotonic_ms(),
    after: (ms, cb) =>
      clock.after(ms, () => {
        if (node.alive) cb();
      }),
  };
}
