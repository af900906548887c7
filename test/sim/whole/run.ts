/** One history of the whole cluster, from a seed. */
import type { Timeouts } from "../../../src/cluster/nodemanager.ts";
import { type Random, seededRandom } from "../../../src/lib/clock.ts";
import { mlogSink } from "../../../src/lib/masklog.ts";
import type { Task } from "../../../src/lib/task.ts";
import type { Sabotage } from "../../../src/volume/osb.ts";
import { syncVolume } from "../../../src/volume/super.ts";
import { Model } from "../model.ts";
import { Noise } from "../noise.ts";
import { SIM_VOLUMES } from "../volumes.ts";
import { type FaultKind, type FaultPlan, Faults } from "./faults.ts";
import { giveArenas, simVolume } from "./images.ts";
import { type More, Programs } from "./kernel/programs.ts";
import type { SimNode } from "./node.ts";
import { World } from "./world.ts";

export interface WholeOptions {
  readonly seed: number;
  /** Operations of the model. */
  readonly steps?: number;
  readonly nodes?: number;
  /** Faults at most. */
  readonly faults?: number;
  /** Faults of these kinds only. */
  readonly kinds?: readonly FaultKind[];
  readonly sabotage?: readonly Sabotage[];
  /** Programs behind a simulated kernel; the seed says whether, when this does not. */
  readonly kernel?: boolean;
  /** What these programs meet and do beside the rest; the seed says, when this does not. */
  readonly more?: readonly More[];
  readonly trace?: boolean;
}

const MORE: readonly More[] = ["disks", "flock", "aio", "readahead"];

export interface WholeResult {
  readonly seed: number;
  /** What went wrong, undefined when nothing did. */
  readonly problem: string | undefined;
  readonly hash: string;
  readonly nodes: number;
  readonly events: number;
  readonly virtual_ms: number;
  readonly ops: number;
  /** Of programs behind kernels: reads and writes that were compared, and notifications. */
  readonly program_reads: number;
  /** Cells of files that a kernel's late WRITE has left without a history. */
  readonly cells_left_out: number;
  readonly program_writes: number;
  /** Their calls that a disk failed. */
  readonly program_errors: number;
  readonly flocks: number;
  readonly notifications: number;
  readonly grants: number;
  readonly lvbs_read: number;
  /** Processes that ended without leaving. */
  readonly deaths: number;
  readonly replays: number;
  /** What the network was given, in pieces of what was written, and what of it never arrived. */
  readonly packets: number;
  readonly packets_lost: number;
  readonly faults: Record<string, number>;
  readonly trace: readonly string[];
}

/** None of these loses what a program has written. */
const KERNEL: readonly FaultKind[] = ["stall", "stall", "slow", "slow", "leave"];
/** These do, in a seed that is not calm. */
const KERNEL_STORM: readonly FaultKind[] = [
  ...KERNEL,
  "kill",
  "kill",
  "power",
  "power",
  "stop",
  "cut",
  "reset",
  "late",
];
/** Of disks that fail what costs no node its life, and all of it. */
const BAD: readonly FaultKind[] = ["bad", "bad", "bad"];
const BAD_STORM: readonly FaultKind[] = [...BAD, "bad", "bad", "eio", "eio", "eio", "still"];
/** System calls of all programs. */
const CALLS = 400;

/** None of these ends a node that is not told to. */
const CALM: readonly FaultKind[] = ["kill", "kill", "power", "leave", "leave", "stall", "slow"];
const STORM: readonly FaultKind[] = [
  "kill",
  "power",
  "leave",
  "stop",
  "stop",
  "stall",
  "cut",
  "cut",
  "reset",
  "slow",
  "still",
  "late",
  "eio",
];

const pick = <T>(random: Random, of: readonly T[]): T => of[random.u32() % of.length]!;

/** What a seed's cluster is like. */
function shape(o: WholeOptions) {
  const random = seededRandom(o.seed);
  for (let i = 0; i < 16; i++) random.u32();
  const nodes = o.nodes ?? pick(random, [2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8]);
  const calm = random.u32() % 2 === 0;
  const timeouts: Timeouts = {
    dead_threshold: pick(random, [4, 5, 6]),
    idle_timeout_ms: pick(random, [4000, 6000]),
    keepalive_delay_ms: pick(random, [1000, 2000]),
    reconnect_delay_ms: pick(random, [500, 2000]),
  };
  // Most disks are faster than the network; on some the I/O is still under way when the lock has changed hands twice.
  const speed = pick(random, [
    { io_ms: 4, link_ms: 4 },
    { io_ms: 2, link_ms: 10 },
    { io_ms: 40, link_ms: 1 },
  ]);
  const plan: FaultPlan = {
    kinds: o.kinds ?? (calm ? CALM : STORM),
    every_ms: pick(random, [1000, 4000, 10_000]),
    most: o.faults ?? 4,
  };
  const volume = random.u32() % SIM_VOLUMES.length;
  const kernel = o.kernel ?? random.u32() % 3 === 0;
  const all = { nodes, calm, timeouts, plan, ...speed, volume, kernel };
  if (!kernel) return { ...all, more: new Set<More>() };
  const some = random.u32() % 2 === 0 ? MORE.filter(() => random.u32() % 2 === 0) : [];
  const more = new Set(o.more ?? some);
  const kinds = o.kinds ?? (calm ? KERNEL : KERNEL_STORM);
  if (!more.has("disks")) return { ...all, plan: { ...plan, kinds }, more };
  const bad = { kinds: o.kinds ?? [...kinds, ...(calm ? BAD : BAD_STORM)], every_ms: 1000, most: 2 * plan.most };
  return { ...all, plan: bad, more };
}

class History {
  readonly w: World;
  readonly faults: Faults;
  readonly #calm: boolean;
  model!: Model<SimNode>;
  noise!: Noise<SimNode>;
  /** Nodes that did not stay: records that they had appended may be lost. */
  readonly #lost = new Set<SimNode>();
  /** Somebody is to be killed or to leave as soon as all that the model knows of it is durable. */
  #next_end: { readonly node: SimNode; readonly go: () => void; readonly idle: boolean } | null = null;

  readonly programs: Programs | null;

  constructor(w: World, { plan, calm, more }: ReturnType<typeof shape>) {
    this.w = w;
    this.programs = w.options.kernel === true ? new Programs(w, CALLS, more) : null;
    this.#calm = calm;
    this.faults = new Faults(w, plan);
    w.excuses = (node) => this.faults.excuses(node);
    w.onEnd = (node, why) => {
      this.#lost.add(node);
      this.faults.judgeEnd(node, why);
    };
    w.onDead = (node) => this.programs?.died(node);
    if (calm)
      this.faults.beforeKill = (node, go) => {
        this.#next_end = { node, go, idle: false };
      };
    this.faults.beforeLeave = (node, go) => {
      this.#next_end = { node, go, idle: true };
    };
  }

  #settle(until: () => boolean): void {
    const problem = (): string | null => this.noise?.problem ?? this.programs?.problem ?? null;
    this.w.run(() => problem() !== null || until());
    const found = problem();
    if (found !== null) throw new Error(found);
  }

  /** The first node makes what all work on; the others come while it works, or all are switched on at once. */
  begin(): void {
    const { w } = this;
    const first = w.start(w.numbers[w.below(w.numbers.length)]!);
    const at_once = w.options.seed % 4 === 3;
    if (at_once) this.#startOthers(first, 3);
    this.#settle(() => first.mounted || !first.alive);
    if (!first.mounted) throw new Error(`the first node: ${first.reason}`);
    this.model = new Model<SimNode>(w, first, "model");
    this.noise = new Noise<SimNode>(w, first);
    this.programs?.setUp(first);
    w.task(first, syncVolume(first.osb));
    if (!at_once) this.#startOthers(first, 3000);
    this.#settle(() => w.mounted.length === w.numbers.length);
    const { programs } = this;
    if (programs !== null) {
      this.faults.somePlace = () => programs.somePlace();
      for (const node of w.mounted) programs.start(node);
      w.onMounted = (node) => programs.start(node);
    }
    this.faults.start();
  }

  #startOthers(first: SimNode, within_ms: number): void {
    const { w } = this;
    for (const num of w.numbers) if (num !== first.num) w.clock.after(w.below(within_ms), () => void w.start(num));
  }

  #any(): SimNode | undefined {
    const { usable } = this.w;
    return usable.length === 0 ? undefined : usable[this.w.below(usable.length)];
  }

  #noise(): void {
    const node = this.#any();
    if (node !== undefined) node.volume.deliver(() => this.noise.start(node));
  }

  step(): boolean {
    const { w, model } = this;
    if (this.#next_end !== null) this.#end(this.#next_end);
    for (let n = w.below(6); n > 0; n--) this.#noise();
    if (w.below(8) === 0) this.#sleep(w.below(4000));
    const node = this.#any();
    if (node === undefined) {
      this.#sleep(500);
      return false;
    }
    if (model.isUncertain) this.#resolve();
    else if (this.#calm) model.step(node);
    else model.step(node, () => w.task(node, this.#sync(node)));
    this.#settle(() => true);
    return true;
  }

  /**
   * What became of an operation is seen on another node: what the node itself has in memory may die with it. Where there is no other, it
   * must be well, and make it durable.
   */
  #resolve(): void {
    const { w, model } = this;
    const failed = model.failed!;
    const well = w.usable.filter(
      (n) =>
        !n.lease.isShut(w.clock.monotonic_ms()) && n.osb.journal.aborted === null && n.osb.readonly_reason === null,
    );
    const others = well.filter((n) => n !== failed);
    const from = others.length > 0 ? others : well;
    const node = from[w.below(Math.max(1, from.length))];
    if (node === undefined) this.#sleep(500);
    else model.resolve(node, node === failed ? () => w.task(node, this.#sync(node)) : undefined);
  }

  /** All that the model has done is durable. A place on the disk that does not work is none of its files'. */
  *#sync(node: SimNode): Task<void> {
    try {
      yield* syncVolume(node.osb);
    } catch (err) {
      if (this.w.excuses(node) || this.programs?.isFailing(node) !== true) throw err;
    }
  }

  #sleep(ms: number): void {
    let over = false;
    this.w.clock.after(ms, () => {
      over = true;
    });
    this.#settle(() => over);
  }

  /**
   * A node is killed at any moment after all that the model knows of it is durable; or it leaves, which the kernel allows when nobody uses
   * the mount any more.
   */
  #end({ node, go, idle }: { readonly node: SimNode; readonly go: () => void; readonly idle: boolean }): void {
    const { w } = this;
    this.#next_end = null;
    if (idle) {
      this.programs?.quit(node);
      this.#settle(() => !node.alive || (this.noise.running(node) === 0 && (this.programs?.running(node) ?? 0) === 0));
    } else {
      w.tryTask(node, syncVolume(node.osb));
      let left = w.below(150);
      for (let n = w.below(8); n > 0; n--) node.volume.deliver(() => this.noise.start(node));
      this.#settle(() => left-- <= 0);
    }
    go();
  }

  end(): void {
    const { w, model } = this;
    this.faults.stop();
    if (this.#next_end !== null) this.#end(this.#next_end);
    this.#settle(() => this.faults.quiet && !this.noise.busy);
    while (model.isUncertain) this.#resolve();
    if (this.programs !== null) {
      this.programs.stop();
      this.#settle(() => !this.programs!.busy);
      for (const node of w.mounted) w.taskInKernel(node, this.programs.look(node));
      this.programs.check();
    }
    for (const node of w.mounted) {
      model.check(node);
      w.task(
        node,
        this.noise.checkLog(node, (by) => !this.#lost.has(by)),
      );
    }
    for (let left = w.mounted; left.length > 0; left = w.mounted) {
      const node = left[w.below(left.length)]!;
      this.faults.end();
      node.leave();
      w.run(() => !node.alive);
      if (node.reason !== "unmounted") throw new Error(`node ${node.num}: ${node.reason}`);
    }
    w.checks.checkEnd();
  }
}

export function wholeRun(o: WholeOptions): WholeResult {
  const s = shape(o);
  const volume = simVolume(s.volume, s.nodes <= 4 ? 4 : 8);
  const world = new World({
    seed: o.seed,
    volume,
    numbers: Array.from({ length: s.nodes }, (_, i) => i + 1),
    timeouts: s.timeouts,
    io_ms: s.io_ms,
    link_ms: s.link_ms,
    trace: o.trace ?? false,
    kernel: s.kernel,
    ...(o.sabotage === undefined ? {} : { sabotage: o.sabotage }),
  });
  let problem: string | undefined;
  let history: History | undefined;
  try {
    // Nodes die by the dozen here, and each death is news to the others.
    mlogSink(o.trace === true ? (line) => world.log(line) : () => {});
    history = new History(world, s);
    history.begin();
    for (let i = 0; i < (o.steps ?? 60); i++) history.step();
    history.end();
    const found = volume.judge(world.disk.touched);
    if (found.length > 0) problem = `fsck.ocfs2: ${found.join("\n")}`;
  } catch (err) {
    problem = err instanceof Error ? (err.stack ?? err.message) : String(err);
  }
  const result: WholeResult = {
    seed: o.seed,
    problem,
    hash: world.hash,
    nodes: s.nodes,
    events: world.events,
    virtual_ms: Math.round(world.clock.monotonic_ms()),
    ops: history?.model?.ops ?? 0,
    program_reads: history?.programs?.history.reads ?? 0,
    cells_left_out: history?.programs?.history.left_out ?? 0,
    program_writes: history?.programs?.history.writes ?? 0,
    program_errors: history?.programs?.errors ?? 0,
    flocks: history?.programs?.flocks.granted ?? 0,
    notifications: [...world.nodes.values()].reduce((n, node) => n + (node.kernel?.notifications ?? 0), 0),
    grants: world.checks.grants,
    lvbs_read: world.checks.lvbs_read,
    deaths: world.deaths,
    replays: world.checks.replays,
    packets: world.network.packets,
    packets_lost: world.network.packets_lost,
    faults: Object.fromEntries(history?.faults.counts ?? []),
    trace: world.trace,
  };
  volume.restore(world.disk.touched);
  giveArenas(world.arenas());
  return result;
}
