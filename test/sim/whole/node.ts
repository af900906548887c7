/**
 * A node of the simulated cluster: one process with the real cluster stack (heartbeat, quorum, o2net), the real o2dlm and the real volume,
 * put together as src/cli/cluster_node.ts and src/cli/volume_worker.ts do. Simulated are the edges only: disk, network, clock, threads.
 */
import type { HbRegion } from "../../../src/cluster/heartbeat.ts";
import { Lane } from "../../../src/cluster/lane.ts";
import { deadMs, maxWriteTimeoutMs, NodeManager, O2HB_REGION_TIMEOUT_MS } from "../../../src/cluster/nodemanager.ts";
import { ClusterClient, ClusterServer, type FromNode, type ToNode } from "../../../src/cluster/proxy.ts";
import type { SimHost } from "../../../src/cluster/sim_transport.ts";
import { ClusterStack } from "../../../src/cluster/stack.ts";
import { ModKeyRouter } from "../../../src/dlm/mod_key.ts";
import { DlmNode } from "../../../src/dlm/node.ts";
import { SessionCaches } from "../../../src/fuse/kernel_caches.ts";
import { Notifier } from "../../../src/fuse/notifier.ts";
import { Session } from "../../../src/fuse/session.ts";
import { fileOps } from "../../../src/fuse/vfs_face.ts";
import { type Random, seededRandom } from "../../../src/lib/clock.ts";
import { AssertionFailure } from "../../../src/lib/fs_error.ts";
import { spawn, type Task, wait } from "../../../src/lib/task.ts";
import type { LockDomain } from "../../../src/stackglue/lock_domain.ts";
import { O2cbDomain } from "../../../src/stackglue/o2cb.ts";
import { forgetAll } from "../../../src/vfs/teardown.ts";
import { defaultMountOptions } from "../../../src/volume/mount_options.ts";
import type { Osb } from "../../../src/volume/osb.ts";
import { closeVolume, openVolume } from "../../../src/volume/super.ts";
import type { Arena } from "../../../src/wasm/arena.ts";
import { createKernels } from "../../../src/wasm/kernels.ts";
import { type DiskPath, Lease, SimDevice } from "./disk.ts";
import { HeartbeatThread } from "./heartbeat_thread.ts";
import { FuseConnection, NotifierInKernel } from "./kernel/connection.ts";
import { Kernel } from "./kernel/kernel.ts";
import { SimLoop } from "./loop.ts";
import { SimProcess, SimThread } from "./threads.ts";
import { HOP_MS, type World } from "./world.ts";

/** Fewer than a history uses. */
const FEW_INODES = 12;
/** What a fenced node's writes have to drain (src/cli/cluster_node.ts). */
const DRAIN_MS = 2000;

export const PORT = 7777;
export const addressOf = (num: number): string => `10.0.0.${num}`;
const numberOf = (address: string): number => address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);

type State = "starting" | "mounted" | "leaving" | "gone";

/** Batches from one thread to another, in order. */
class Port<T> {
  readonly #world: World;
  readonly #to: SimThread;
  readonly #heard: (batch: readonly T[]) => void;
  /** When the last batch is there: they arrive in order. */
  #free_ms = 0;
  #batches = 0;

  constructor(world: World, to: SimThread, heard: (batch: readonly T[]) => void) {
    this.#world = world;
    this.#to = to;
    this.#heard = heard;
  }

  post(batch: readonly T[]): void {
    const { clock } = this.#world;
    const now_ms = clock.monotonic_ms();
    this.#free_ms = Math.max(this.#free_ms, now_ms) + this.#world.hop_ms(this.#batches++ < 4);
    clock.after(this.#free_ms - now_ms, () => this.#to.deliver(() => this.#heard(batch)));
  }
}

export class SimNode {
  readonly num: number;
  readonly world: World;
  readonly path: DiskPath;
  readonly process = new SimProcess();
  readonly main: SimThread;
  readonly volume: SimThread;
  readonly beat: SimThread;
  readonly lease = new Lease();
  readonly random: Random;
  readonly loop: SimLoop;
  state: State = "starting";
  /** Why its process ended, or could not mount. */
  reason = "";
  stack!: ClusterStack;
  heartbeat: HeartbeatThread | null = null;
  domain: O2cbDomain | null = null;
  osb!: Osb;
  /** The kernel that the node serves, where the history has one. */
  kernel: Kernel | null = null;
  #connection: FuseConnection | null = null;
  /** Which process of its number it is. */
  readonly generation: number;
  /** What its heartbeats say of that; 0 before the first. */
  hb_generation = 0n;
  /** What the heartbeats of the others said when it last looked. */
  readonly heard_generation = new Map<number, bigint>();
  dev: SimDevice | null = null;
  #host: SimHost | null = null;
  #router!: ModKeyRouter;
  #region: HbRegion | null = null;
  #server: ClusterServer | null = null;
  #closeCluster: (done: () => void) => void = (done) => done();

  constructor(world: World, num: number, path: DiskPath, seed: number) {
    this.world = world;
    this.num = num;
    this.generation = (world.nodes.get(num)?.generation ?? 0) + 1;
    this.path = path;
    this.random = seededRandom(seed);
    for (let i = 0; i < 8; i++) this.random.u32();
    this.main = new SimThread(this.process, world.clock);
    this.volume = new SimThread(this.process, world.clock);
    this.beat = new SimThread(this.process, world.clock);
    this.loop = new SimLoop(this.volume);
    this.main.deliver(() => this.#start());
  }

  get alive(): boolean {
    return this.process.alive;
  }

  get mounted(): boolean {
    return this.state === "mounted" && this.alive;
  }

  // The main thread -----------------------------------------------------------------------------------------------------
  #start(): void {
    const { world } = this;
    const nodes = new NodeManager("sim", world.timeouts);
    for (const num of world.numbers)
      nodes.addNode({ name: `n${num}`, num, ipv4_address: addressOf(num), ipv4_port: PORT });
    nodes.setLocal(this.num);
    const { host, transport } = world.network.host(this.main.deliver);
    this.#host = host;
    this.stack = new ClusterStack({ nodes, clock: this.main.clock, transport, fence: (why) => this.#fenced(why) });
    this.stack.hb.onNodes({
      priority: Number.MAX_SAFE_INTEGER,
      up: (node) => world.sawUp(this, node),
      down: (node) => world.sawDown(this, node),
    });
    this.#router = new ModKeyRouter({
      net: this.stack.net,
      hb: this.stack.hb,
      clock: this.main.clock,
      random: this.random,
      nodes: () => this.#dlmNodes(),
      regions: () => [],
      fatal: (err) => this.stack.fence(err.message),
    });
    this.stack.start((failure) => (failure === "" ? this.#startRegion() : this.#end(`o2net: ${failure}`)));
  }

  #dlmNodes(): { num: number; ipv4_port: number; ipv4_address: number }[] {
    return this.stack.nodes.nodes().map((n) => ({ ...n, ipv4_address: numberOf(n.ipv4_address) }));
  }

  #startRegion(): void {
    const { hb } = this.stack;
    const t = hb.nodes.timeouts;
    const region = hb.addRegion(this.world.uuid);
    this.#region = region;
    const [first, last] = hb.slotRange();
    const heard = (): void => {
      for (let beat = thread.take(); beat !== undefined; beat = thread.take()) {
        for (const [i, slot] of beat.slots.entries()) this.heard_generation.set(beat.first + i, slot.generation);
        region.beat(beat);
      }
      if (thread.ended) region.ended();
    };
    this.hb_generation = (BigInt(this.random.u32()) << 32n) | BigInt((this.random.u32() | 1) >>> 0);
    const thread = new HeartbeatThread({
      path: this.path,
      thread: this.beat,
      random: this.random,
      offset_bytes: this.world.heartbeat_offset,
      node: this.num,
      generation: this.hb_generation,
      dead_ms: deadMs(t),
      interval_ms: O2HB_REGION_TIMEOUT_MS,
      lease_ms: deadMs(t) / 2,
      fence_ms: maxWriteTimeoutMs(t),
      lease: this.lease,
      first,
      last,
      onBeat: () => this.main.deliver(heard),
      onEnd: () => this.main.deliver(heard),
      fence: () => this.die("its heartbeat is too late"),
    });
    this.heartbeat = thread;
    region.start(thread, (failure) => {
      const there = this.world.slotNodes();
      if (failure === "")
        region.whenKnown(there, () => {
          this.world.tookForDead(this, there);
          this.#startVolume();
        });
      else if (this.state === "starting") this.#end(`heartbeat: ${failure}`);
    });
  }

  /** The volume thread starts, and what it must know of the cluster (src/cli/domain_thread.ts). */
  #startVolume(): void {
    const live = [...this.stack.hb.liveNodes()];
    const wire = this.#host!.openLane(this.volume.deliver, this.volume.clock);
    const wake = (): void => this.loop.wake();
    const lane = new Lane(this.num, wire, wake);
    wire.received = (conn, message) => lane.received(conn, message);
    const to_volume = new Port<FromNode>(this.world, this.volume, (batch) => client.heard(batch));
    const server = new ClusterServer(
      this.#router.netFor(this.world.uuid),
      this.stack.hb,
      (batch) => to_volume.post(batch),
      this.main.defer,
      this.stack.net,
    );
    this.#server = server;
    const to_main = new Port<ToNode>(this.world, this.main, (batch) => server.heard(batch));
    const client = new ClusterClient(this.num, live, (batch) => to_main.post(batch), wake, lane);
    const nodes = this.#dlmNodes();
    this.volume.deliver(() => {
      const stop = this.loop.addLast(() => client.flush());
      const dlm = new DlmNode({
        net: client,
        hb: client,
        clock: this.volume.clock,
        random: this.random,
        nodes: () => nodes,
        regions: () => [],
        fatal: (err) => this.#fatal(err),
      });
      this.#closeCluster = (done) => {
        dlm.close();
        client.flush();
        stop();
        lane.close();
        wire.close();
        done();
      };
      this.#joinDomain(dlm);
    });
  }

  #fenced(why: string): void {
    this.world.note(`node ${this.num} fences itself: ${why}`);
    this.lease.shut = true;
    this.main.clock.after(DRAIN_MS, () => this.die(`fenced: ${why}`));
  }

  // The volume thread ---------------------------------------------------------------------------------------------------
  /** A broken invariant: nothing more may be written, and the node has to go. */
  #fatal(err: unknown): void {
    // Who goes on after the others have declared it dead finds that nobody knows its locks: that, too, ends it.
    if (!this.world.checks.isOutcast(this))
      this.world.fault(`node ${this.num}: ${err instanceof Error ? (err.stack ?? err.message) : String(err)}`);
    this.#stopVolume(err);
  }

  /** The journal was aborted: what this node holds only its end gives to others. */
  #panic(err: unknown): void {
    if (!this.world.excuses(this)) this.world.fault(`node ${this.num}: its journal was aborted: ${String(err)}`);
    this.#stopVolume(err);
  }

  #stopVolume(err: unknown): void {
    const text = err instanceof Error ? err.message : String(err);
    this.loop.stop();
    this.world.clock.after(HOP_MS, () => this.main.deliver(() => this.stack.fence(text)));
  }

  #joinDomain(dlm: DlmNode): void {
    const { world } = this;
    O2cbDomain.join(dlm, world.uuid, (err, domain) => {
      if (domain === null) {
        this.#closed(`the domain cannot be joined: ${err}`);
        return;
      }
      this.domain = domain;
      this.#open(world.checks.watchDomain(this, domain));
    });
  }

  #open(domain: LockDomain): void {
    const { world, loop } = this;
    const arena = world.takeArena();
    this.arena_taken = arena;
    const dev = new SimDevice(arena, this.path, this.volume, this.lease);
    this.dev = dev;
    loop.addWork(() => {
      this.osb?.turn();
      return false;
    });
    loop.addLast(() => dev.submit());
    const parts = {
      arena,
      kernels: createKernels(arena),
      dev,
      clock: this.volume.clock,
      random: this.random,
      options: {
        ...defaultMountOptions,
        cache_bytes: 2 << 20,
        data_cache_bytes: 4 << 20,
        // The volumes are small, and every node has a window.
        localalloc_mb: 2,
        // Every other node gives the locks of what it does not use back at once.
        cached_inodes: this.num % 2 === 0 ? FEW_INODES : defaultMountOptions.cached_inodes,
        commit_s: world.options.commit_s ?? 5,
      },
      sabotage: world.options.sabotage ?? [],
      domain,
      onOsb: (osb: Osb) => {
        this.osb = osb;
        osb.wakeLoop = () => loop.wake();
        osb.onAssertion = (err) => this.#fatal(err);
        osb.onPanic = (err) => this.#panic(err);
      },
    };
    spawn(openVolume(parts), (err, osb) => {
      if (err) {
        if (err instanceof AssertionFailure) this.#fatal(err);
        else if (this.osb?.journal?.aborted == null)
          this.#closed(`mount: ${err instanceof Error ? err.message : String(err)}`);
        return;
      }
      this.osb = osb!;
      world.checks.watchVolume(this);
      if (world.options.kernel === true) this.#serve(osb!, () => this.#mounted());
      else this.#mounted();
    });
  }

  #mounted(): void {
    this.state = "mounted";
    this.world.event("mounted", this.num, this.osb.slot_num);
    this.world.onMounted(this);
  }

  /** The FUSE side of the volume thread (src/cli/volume_worker.ts), with a kernel behind it. */
  #serve(osb: Osb, done: () => void): void {
    const { loop, world } = this;
    const connection = new FuseConnection({
      arena: osb.arena as Arena,
      clock: world.clock,
      delay_ms: () => (world.below(20) === 0 ? world.below(5000) : world.below(200)) / 1000,
      starved_ms: () => (world.below(20) === 0 ? world.below(500) : 0),
      deliver: this.volume.deliver,
      log: (text) => {
        if (world.options.trace === true) world.log(`kernel ${this.num} ${text}`);
      },
    });
    this.#connection = connection;
    const kernel = new Kernel(connection, world.clock, (n) => world.below(n));
    this.kernel = kernel;
    const session = new Session(osb, fileOps, loop, connection, {
      policy: {
        clustered: true,
        writeback_cache: false,
        mountpoints: false,
        names_cool_ms: 2000,
        acl: false,
        local_flocks: false,
      },
      large_slots: 6,
      small_slots: 24,
    });
    const notifier = new Notifier(
      () =>
        new NotifierInKernel(
          connection.options,
          (message) => kernel.notify(message),
          () => loop.wake(),
        ),
      loop,
    );
    osb.kernel_caches = new SessionCaches(session, notifier, loop, osb.glue);
    session.onUnmounted = () => {
      notifier.stop();
      this.#unmounted();
    };
    world.clock.after(0, () => spawn(kernel.init(), (err) => (err ? world.fault(String(err)) : done())));
  }
  #unmounted: () => void = () => {};
  arena_taken: ReturnType<World["takeArena"]> | null = null;

  /** Unmounts, leaves the cluster, and ends the process. */
  leave(): void {
    if (!this.mounted) return;
    this.state = "leaving";
    this.world.event("leave", this.num, 0);
    const { osb } = this;
    function* all(): Task<void> {
      if (osb.readonly_reason === null) yield* forgetAll(osb, osb.clock);
      yield* closeVolume(osb);
    }
    const close = (): void =>
      spawn(all(), (err) => {
        if (err instanceof AssertionFailure) this.#fatal(err);
        else this.#closed(err ? `unmount: ${err instanceof Error ? err.message : String(err)}` : "unmounted");
      });
    if (this.#connection === null) this.volume.deliver(close);
    else {
      this.#unmounted = close;
      this.#connection.close();
    }
  }

  /** The volume is closed: what is still to come is the end of the process. */
  isClosed = false;

  #closed(why: string): void {
    // The ring waits for what is in flight before it is closed.
    if (this.path.writesOf(this.process) > 0) {
      this.volume.clock.after(1, () => this.#closed(why));
      return;
    }
    this.isClosed = this.osb?.journal?.aborted == null;
    this.#closeCluster(() => {
      this.world.clock.after(HOP_MS, () => this.main.deliver(() => this.#leaveCluster(why)));
    });
  }

  #leaveCluster(why: string): void {
    this.#server?.close();
    this.#region = null;
    this.stack.stop(() => this.#end(why));
  }

  // The end -------------------------------------------------------------------------------------------------------------
  /** The process ends in order. */
  #end(why: string): void {
    this.world.event("end", this.num, 0);
    this.world.gone(this, why);
    if (this.#host !== null) this.world.network.exit(this.#host);
    this.#dead(why);
  }

  #dead(why: string): void {
    this.reason = why;
    this.state = "gone";
    this.path.freeze(this.process);
    this.process.die();
    this.#connection?.close();
  }

  /** SIGKILL: what it has submitted goes on; its peers hear that its connections are closed. */
  die(why: string): void {
    if (!this.alive) return;
    this.world.note(`node ${this.num} dies: ${why}`);
    this.world.gone(this, why);
    if (this.#host !== null) this.world.network.exit(this.#host, this.world.below(2) === 0);
    this.#dead(why);
  }

  /** The machine loses its power: its connections are silent, and of what was in flight some has happened. */
  powerOff(): void {
    if (!this.alive) return;
    this.world.note(`node ${this.num} has no power`);
    this.world.gone(this, "no power");
    if (this.#host !== null) this.world.network.powerOff(this.#host);
    this.path.powerOff();
    this.#dead("no power");
  }

  /** Runs a task on the volume thread; `done` hears nothing when the node dies before. */
  spawn<T>(make: () => Task<T>, done: (err: unknown, value?: T) => void): void {
    this.volume.deliver(() => spawn(make(), done));
  }

  /** What the region thinks, for a report. */
  get steady(): boolean {
    return this.#region?.isSteady === true;
  }
}

export const step = <T>(osb: Osb, fn: Parameters<Osb["step"]>[0]): Task<T> =>
  (function* (): Task<T> {
    return (yield* wait(osb.step(fn))) as T;
  })();
