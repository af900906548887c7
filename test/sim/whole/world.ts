/**
 * The whole cluster in one thread: heartbeat, quorum, o2net, o2dlm, dlmglue, journal and volume of 2 to 8 nodes over simulated disk, network,
 * clock and random numbers. All chances come from one seed, so that a seed is a history.
 */
import { deadMs, type Timeouts } from "../../../src/cluster/nodemanager.ts";
import { SimNetwork } from "../../../src/cluster/sim_transport.ts";
import { dumpDomain } from "../../../src/dlm/debug.ts";
import { type Random, seededRandom } from "../../../src/lib/clock.ts";
import { FsError } from "../../../src/lib/fs_error.ts";
import { SimClock } from "../../../src/lib/sim_clock.ts";
import { spawn, type Task } from "../../../src/lib/task.ts";
import { findExisting } from "../../../src/tools/mkfs/existing.ts";
import type { Op } from "../../../src/volume/op.ts";
import type { Sabotage } from "../../../src/volume/osb.ts";
import type { Arena } from "../../../src/wasm/arena.ts";
import { Checks } from "./checks.ts";
import { DiskPath, SimDisk } from "./disk.ts";
import type { SimVolume } from "./images.ts";
import { takeArena } from "./images.ts";
import { SimNode, step } from "./node.ts";

export interface WorldOptions {
  readonly seed: number;
  readonly volume: SimVolume;
  /** Numbers of cluster.conf. */
  readonly numbers: readonly number[];
  readonly timeouts: Timeouts;
  /** I/O and messages take less than this, when all is well. */
  readonly io_ms: number;
  readonly link_ms: number;
  readonly commit_s?: number;
  readonly sabotage?: readonly Sabotage[];
  /** Programs use the volume through a simulated kernel and our FUSE side. */
  readonly kernel?: boolean;
  /** Keeps the history's lines. */
  readonly trace?: boolean;
}

/** Longer than anything that works takes in virtual time. */
const STANDSTILL_MS = 600_000;
/** A batch goes from one thread to another that waits for it, and to one that is busy. */
export const HOP_MS = 0.05;
const BUSY_MS = 20;
/** What of the bound on I/O is left for the way from the gate to the device. */
const MARGIN_MS = 100;

export class World {
  readonly options: WorldOptions;
  readonly clock = new SimClock();
  readonly random: Random;
  readonly disk: SimDisk;
  readonly network: SimNetwork;
  readonly checks: Checks;
  readonly timeouts: Timeouts;
  readonly numbers: readonly number[];
  readonly uuid: string;
  readonly heartbeat_offset: number;
  readonly blocksize: number;
  journal_blknos: number[] = [];
  /** The newest process of each number. */
  readonly nodes = new Map<number, SimNode>();
  readonly #paths = new Map<number, DiskPath>();
  /** Which process a node saw when it saw another one's heartbeat. */
  readonly #seen = new Map<SimNode, Map<number, SimNode>>();
  readonly #arenas: Arena[] = [];
  readonly #hops: Random;
  readonly failures: string[] = [];
  readonly trace: string[] = [];
  /** A process ended, and not because it was done. */
  onEnd: (node: SimNode, why: string) => void = () => {};
  /** It counts as dead from now on: its process ended, or the others have declared it dead. */
  onDead: (node: SimNode) => void = () => {};
  onMounted: (node: SimNode) => void = () => {};
  events = 0;
  deaths = 0;
  #hash = 0x811c9dc5;

  constructor(options: WorldOptions) {
    this.options = options;
    this.random = seededRandom(options.seed * 2 + 1);
    for (let i = 0; i < 16; i++) this.random.u32();
    this.#hops = seededRandom(options.seed * 2);
    this.timeouts = options.timeouts;
    this.numbers = options.numbers;
    const { volume } = options;
    this.uuid = volume.uuid;
    this.heartbeat_offset = volume.heartbeat_offset;
    this.blocksize = volume.blocksize;
    this.disk = new SimDisk(volume.bytes);
    this.network = new SimNetwork(this.clock);
    this.network.latency = () => {
      // Mostly fast, seldom very slow: races need both.
      const max = this.below(20) === 0 ? options.link_ms * 10 : options.link_ms;
      return (this.below(1000) / 1000) * max;
    };
    this.network.piece = (len) => (this.below(8) === 0 ? 1 + this.below(len) : len);
    this.checks = new Checks(this);
  }

  /** How long a batch takes from one thread to another: seldom so long as a thread is busy with other things, often while it starts. Numbers of its own. */
  hop_ms(starts: boolean): number {
    return this.#hops.u32() % (starts ? 2 : 32) === 0 ? this.#hops.u32() % BUSY_MS : HOP_MS;
  }

  below(n: number): number {
    return this.random.u32() % n;
  }

  /** What the history is known by. */
  event(kind: string, a: number, b: number): void {
    this.#mix(kind, a, b);
    if (this.options.trace === true) this.#line(`${kind} ${a} ${b}`);
  }

  note(text: string): void {
    this.#mix(text, 0, 0);
    if (this.options.trace === true) this.#line(text);
  }

  #mix(kind: string, a: number, b: number): void {
    let h = this.#hash ^ Math.round(this.clock.monotonic_ms() * 1000);
    for (let i = 0; i < kind.length; i++) h = Math.imul(h ^ kind.charCodeAt(i), 0x01000193);
    this.#hash = Math.imul(Math.imul(h ^ a, 0x01000193) ^ b, 0x01000193);
  }

  /** The log of the nodes is in the history's lines, but not in what it is known by. */
  log(text: string): void {
    this.#line(text);
  }

  #line(text: string): void {
    this.trace.push(`${this.clock.monotonic_ms().toFixed(3)} ${text}`);
    if (this.trace.length > 100_000) this.trace.splice(0, 50_000);
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  fault(text: string): void {
    this.failures.push(`at ${this.clock.monotonic_ms().toFixed(3)} ms: ${text}`);
  }

  takeArena(): Arena {
    const arena = takeArena();
    this.#arenas.push(arena);
    return arena;
  }

  /** Memory that the next world may use. */
  arenas(): Arena[] {
    return this.#arenas.splice(0);
  }

  // Nodes ---------------------------------------------------------------------------------------------------------------
  path(num: number): DiskPath {
    let path = this.#paths.get(num);
    if (path === undefined) {
      const random = seededRandom(this.options.seed * 64 + num + 1);
      for (let i = 0; i < 8; i++) random.u32();
      path = new DiskPath({
        disk: this.disk,
        clock: this.clock,
        random,
        io_ms: this.options.io_ms,
        timeout_ms: deadMs(this.timeouts) / 2 - MARGIN_MS,
      });
      this.#paths.set(num, path);
    }
    return path;
  }

  /** Nodes that the slot map on the disk names. */
  slotNodes(): readonly number[] {
    return findExisting((off, len) => this.disk.bytes.subarray(off, off + len))?.nodes ?? [];
  }

  /** Starts a node's process, which mounts; the one before it must be gone. */
  start(num: number): SimNode {
    this.event("start", num, 0);
    const node = new SimNode(this, num, this.path(num), this.random.u32());
    this.nodes.set(num, node);
    return node;
  }

  get mounted(): SimNode[] {
    return [...this.nodes.values()].filter((n) => n.mounted);
  }

  /** Mounted, and can be asked to do something. */
  get usable(): SimNode[] {
    return this.mounted.filter((n) => n.volume.runs && !n.lease.shut && !this.checks.isOutcast(n));
  }

  get alive(): SimNode[] {
    return [...this.nodes.values()].filter((n) => n.alive);
  }

  /** A death that not all have noticed or not all is done about, or somebody who comes or goes. */
  get unsettled(): boolean {
    for (const n of this.nodes.values()) {
      if (!n.alive) continue;
      if (n.state !== "mounted") return true;
      if (n.domain !== null && !n.domain.dlm.recovery_map.empty) return true;
      for (const num of n.stack.hb.liveNodes()) if (this.nodes.get(num)?.alive !== true) return true;
    }
    return false;
  }

  sawUp(node: SimNode, num: number): void {
    this.event("up", node.num, num);
    const other = this.nodes.get(num);
    const seen = this.#seen.get(node) ?? new Map<number, SimNode>();
    this.#seen.set(node, seen);
    // What it has seen may be the last heartbeats of the process before.
    if (other !== undefined && other.hb_generation === node.heard_generation.get(num)) seen.set(num, other);
  }

  /** `node` declares `num` dead. */
  sawDown(node: SimNode, num: number): void {
    this.event("down", node.num, num);
    const other = this.#seen.get(node)?.get(num);
    this.#seen.get(node)?.delete(num);
    // Who leaves its regions sees everybody go.
    if (node.num === num || other === undefined || node.state === "gone" || node.isClosed) return;
    this.#declareDead(node, other);
  }

  /** `node` has waited for those whom the slot map names; it takes those whom it does not see for dead. */
  tookForDead(node: SimNode, nums: readonly number[]): void {
    for (const num of nums) {
      const other = this.nodes.get(num);
      if (num === node.num || node.stack.hb.liveNodes().has(num) || other === undefined) continue;
      if (other.state !== "starting") this.#declareDead(node, other);
    }
  }

  /** Whoever lives must have stopped writing by then. */
  #declareDead(node: SimNode, other: SimNode): void {
    if (this.checks.isOutcast(other)) return;
    this.checks.castOut(other);
    if (!other.alive) return;
    if (!other.isClosed && other.state !== "starting" && !other.lease.isShut(this.clock.monotonic_ms()))
      this.fault(`node ${node.num} declares node ${other.num} dead, which may write until ${other.lease.deadline_ms}`);
    this.note(`node ${other.num} is declared dead while it ${other.process.stopped ? "is stopped" : "runs"}`);
    this.checks.dropNode(other, !other.isClosed);
    if (!other.isClosed) this.onDead(other);
  }

  /** A node's process ends. */
  gone(node: SimNode, why: string): void {
    const in_order = node.isClosed;
    if (!in_order) {
      this.deaths++;
      this.onEnd(node, why);
    }
    if (this.checks.isOutcast(node)) return;
    this.checks.dropNode(node, !in_order);
    if (!in_order) this.onDead(node);
  }

  // Time ----------------------------------------------------------------------------------------------------------------
  /** Events, until `until` says so. Throws when something broke or stands still. */
  run(until: () => boolean, limit_ms = STANDSTILL_MS): void {
    const limit = this.clock.monotonic_ms() + limit_ms;
    for (;;) {
      if (this.failures.length > 0) throw new Error(this.failures.join("\n"));
      if (until()) return;
      this.events++;
      if (!this.clock.step()) throw new Error(`nothing can happen any more\n${this.report()}`);
      if (this.clock.monotonic_ms() > limit) throw new Error(`the cluster stands still\n${this.report()}`);
    }
  }

  sleep(ms: number): void {
    const end = this.clock.monotonic_ms() + ms;
    let over = false;
    this.clock.after(ms, () => {
      over = true;
    });
    this.run(() => over || this.clock.monotonic_ms() >= end);
  }

  /** Undefined when the node died before it answered. */
  tryTask<T>(node: SimNode, task: Task<T>): { err: unknown; value?: T } | undefined {
    let result: { err: unknown; value?: T } | undefined;
    node.spawn(
      () => task,
      (err, value) => {
        result = value === undefined ? { err } : { err, value };
      },
    );
    this.run(() => result !== undefined || !node.alive);
    return result;
  }

  /** On the side of the node's kernel, which is no thread of the node's. */
  taskInKernel<T>(node: SimNode, task: Task<T>): T {
    let result: { err: unknown; value?: T } | undefined;
    spawn(task, (err, value) => {
      result = value === undefined ? { err } : { err, value };
    });
    this.run(() => result !== undefined || !node.alive);
    if (result === undefined) throw new NodeDied(node);
    if (result.err) throw result.err;
    return result.value as T;
  }

  task<T>(node: SimNode, task: Task<T>): T {
    const result = this.tryTask(node, task);
    if (result === undefined) throw new NodeDied(node);
    if (result.err) throw result.err;
    return result.value as T;
  }

  /** Whether what goes wrong on a node has its reason in a fault. */
  excuses: (node: SimNode) => boolean = () => false;

  isDeath(err: unknown, node: SimNode): boolean {
    return err instanceof NodeDied || (err instanceof FsError && this.excuses(node));
  }

  /** An operation on a node, to its end. */
  op<T>(node: SimNode, fn: (op: Op) => T): T {
    return this.task(node, step<T>(node.osb, fn));
  }

  /** What waits for what. */
  report(): string {
    const lines = [`seed ${this.options.seed}, ${this.clock.monotonic_ms()} ms, ${this.events} events`];
    for (const node of this.nodes.values()) {
      const glue = node.osb?.glue;
      lines.push(
        `node ${node.num}: ${node.state} ${node.alive ? "" : "dead "}${node.process.stopped ? "stopped " : ""}${node.reason}, ` +
          `recovery of [${[...(glue?.recovery_map ?? [])]}], o2dlm's [${node.domain?.dlm.recovery_map ?? ""}], downconverts ${glue?.active}, ` +
          `live [${node.alive ? [...(node.stack?.hb.liveNodes() ?? [])] : ""}] ${node.osb?.readonly_reason ?? ""}`,
      );
      if (!node.alive) continue;
      for (const res of glue?.attached ?? [])
        if (!res.isFree || res.blocking !== 0)
          lines.push(
            `  ${JSON.stringify(res.name)} level ${res.level} requested ${res.requested} blocking ${res.blocking} holders pr ${res.pr_holders} ex ${res.ex_holders} wants ${res.wants.map((w) => w.level)}${res.downconverting ? " downconverting" : ""}${res.gate_shut ? " shut" : ""}${res.cancelling ? " cancelling" : ""}${res.freeing ? " freeing" : ""}`,
          );
    }
    for (const node of this.alive)
      if (node.domain !== null)
        lines.push(
          ...dumpDomain(node.domain.dlm)
            .split("\n")
            .filter((line) => /^(Domain Map|MLE|Recovery)/.test(line))
            .map((line) => `node ${node.num} ${line}`),
        );
    for (const node of this.alive) {
      const waited = new Set<string>();
      for (const res of node.osb?.glue?.attached ?? []) if (res.requested !== null) waited.add(res.name);
      for (const name of waited)
        for (const other of this.alive) {
          const res = other.domain?.dlm.lockres.get(name);
          if (res === undefined) continue;
          lines.push(
            `${JSON.stringify(name)}, wanted by ${node.num}, on node ${other.num}: owner ${res.owner} state ${res.state.toString(16)} ${res.locks().map((l) => `[node ${l.node} list ${l.list} ${l.type}>${l.convert_type} flags ${l.flags.toString(16)}]`)}`,
          );
        }
    }
    return lines.join("\n");
  }
}

/** A node died in the middle of an operation: nobody knows whether it happened. */
export class NodeDied extends Error {
  readonly node: SimNode;

  constructor(node: SimNode) {
    super(`node ${node.num} died in the middle of an operation`);
    this.node = node;
  }
}
