/**
 * A cluster in which nodes die, over and over, each in one of the ways in which nodes die, at any moment, under load: the others go on, nothing
 * that was fsynced is lost, nothing of the dead reaches the disk any more, it comes back, and the volume is whole. scripts/deaths.mjs runs it.
 *
 * Ways: kill (-9, of the process or of the whole kernel node), stop (SIGSTOP for longer than the dead time, and on again), cut (its network),
 * stall (its disk, test/support/stall_disk.c, for longer than the dead time; then what was held fails as by a driver's time-out).
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../../src/lib/clock.ts";
import { assert } from "../../src/lib/fs_error.ts";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig } from "../support/cluster_rig.ts";
import { fsckAsync } from "../support/judges.ts";
import { run, runAsync } from "../support/sh.ts";
import { StallDisk } from "../support/stall.ts";
import { OF_A_DEATH, OF_A_LEAVE, OF_A_RACE } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { Load, lost, type Promised } from "./load.ts";
import { KernelMember, type Member, OurMember } from "./members.ts";

export interface DeathsOptions {
  readonly times: number;
  readonly seed: number;
  readonly ours: number;
  readonly kernel: number;
  /** Deaths between two looks of fsck.ocfs2, for which all nodes unmount. */
  readonly per_life: number;
  /** Only these ways of dying. */
  readonly kinds?: readonly Kind[];
  /** Where logs go when something was wrong. */
  readonly keep?: string;
  readonly say: (line: string) => void;
}

export type Kind = "kill" | "stop" | "cut" | "stall";

export interface Death {
  readonly kind: Kind;
  readonly of: "ours" | "kernel";
  readonly node: number;
  /** From the death until every program of the survivors works again. */
  readonly went_on_s: number;
  /** From the start of the dead node until its programs work. */
  readonly back_s: number;
}

export interface DeathsResult {
  readonly deaths: readonly Death[];
  readonly problems: readonly string[];
  readonly records: number;
  readonly kept: number;
}

const DEAD_THRESHOLD = 7;
const DEAD_MS = DEAD_THRESHOLD * 2000;
const IDLE_MS = 10_000;
/** For whoever does not go on within this there is no hope. */
const GO_ON_LIMIT_MS = 120_000;
const LOADS = 2;

/** What fsck.ocfs2 says of clusters that nobody has. */
const LEAKED = /^\[CLUSTER_ALLOC_BIT\] Cluster \d+ is marked in the global cluster bitmap but it isn't in use\./;

/** How many journals a kernel node has replayed. */
const replays = (m: Member): number =>
  m instanceof KernelMember ? m.node.console().split("Begin replay journal").length - 1 : 0;

const pause = (ms: number): Promise<void> => new Promise((ok) => setTimeout(ok, ms));

const within = <T>(limit_ms: number, promise: Promise<T>): Promise<T> =>
  Promise.race([promise, pause(limit_ms).then(() => Promise.reject(new Error(`not within ${limit_ms} ms`)))]);

async function until(what: string, limit_ms: number, holds: () => boolean): Promise<void> {
  const end_ms = performance.now() + limit_ms;
  while (!holds()) {
    if (performance.now() > end_ms) throw new Error(`${what}: not within ${limit_ms / 1000} s`);
    await pause(100);
  }
}

/** No thread of it is left: a process whose threads wait for a disk has ended only in name. */
function processGone(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat[stat.lastIndexOf(")") + 2] === "Z" && readdirSync(`/proc/${pid}/task`).length === 1;
  } catch {
    return true;
  }
}

/** One node and what runs on it, from its mount to its death. */
interface Node {
  readonly number: number;
  readonly member: KernelMember | OurMember;
  readonly disk: StallDisk | undefined;
  loads: Load[];
}

class DeathsRun {
  readonly #o: DeathsOptions;
  readonly #any: () => number;
  readonly #rig: ClusterRig;
  readonly #dir = tempDir("ocfs2-deaths");
  readonly #image: string;
  readonly #nodes = new Map<number, Node>();
  readonly #members = new Map<number, OurMember>();
  readonly #numbers: number[];
  /** What programs that ended were promised, by name, in this life of the cluster. */
  readonly #promised = new Map<string, Promised>();
  readonly deaths: Death[] = [];
  readonly problems: string[] = [];
  records = 0;
  kept = 0;
  #life = 0;
  /**
   * In this life a kernel node died while it recovered another. It clears the dead one's local alloc and truncate log on the disk before it returns what was
   * in them to the bitmap (ocfs2_begin_local_alloc_recovery): then nobody knows of these clusters any more.
   */
  #recoverer_died = false;
  #starts = 0;

  constructor(o: DeathsOptions) {
    this.#o = o;
    const random = seededRandom(o.seed);
    this.#any = () => random.u32() / 2 ** 32;
    this.#numbers = [
      ...Array.from({ length: o.kernel }, (_, i) => 1 + i),
      ...Array.from({ length: o.ours }, (_, i) => 11 + i),
    ];
    this.#image = clusterImage(1024, ["-N", "8", "-b", "4K", "-C", "4K", "-J", "size=16M"]);
    this.#rig = new ClusterRig(this.#image, this.#numbers, DEAD_THRESHOLD, IDLE_MS);
  }

  #below(n: number): number {
    return Math.floor(this.#any() * n);
  }

  get #sub(): string {
    return `life${this.#life}`;
  }

  // Coming and going -----------------------------------------------------------------------------------------------------
  async #start(number: number): Promise<Node> {
    const wants_stall = (this.#o.kinds?.includes("stall") ?? true) && this.#any() < 0.35;
    const disk = wants_stall ? await StallDisk.open(this.#image) : undefined;
    const path = disk?.path ?? this.#image;
    let member: KernelMember | OurMember;
    if (number < 10) {
      const kernel = new KernelMember(this.#rig.nameOf(number), await this.#rig.kernel(number, undefined, path));
      await kernel.node.mount();
      member = kernel;
    } else {
      let ours = this.#members.get(number);
      if (ours === undefined) {
        ours = new OurMember(this.#rig, number);
        this.#members.set(number, ours);
      }
      await ours.mount("cache=32M", path);
      member = ours;
    }
    const node: Node = { number, member, disk, loads: [] };
    this.#nodes.set(number, node);
    return node;
  }

  #load(node: Node): void {
    const start = ++this.#starts;
    node.loads = Array.from({ length: LOADS }, (_, i) => {
      const name = `n${node.number}.${start}.${i}`;
      return new Load(node.member, { dir: this.#dir, sub: this.#sub, name, seed: this.#below(1e9), seconds: 0 });
    });
  }

  /** All programs have done something since this was called. */
  async #working(nodes: readonly Node[], limit_ms: number): Promise<void> {
    const loads = nodes.flatMap((n) => n.loads);
    const before = loads.map((l) => l.promised().ops);
    await until(`programs on ${nodes.map((n) => n.number)} work`, limit_ms, () => {
      this.#ended(nodes);
      return loads.every((l, i) => l.promised().ops > before[i]! + 3);
    });
  }

  /** Throws when a program ended though its node lives. */
  #ended(nodes: readonly Node[]): void {
    for (const { loads } of nodes)
      for (const l of loads) if (l.said !== undefined) throw new Error(`${l.name} ended: ${l.said}`);
  }

  /**
   * Waits until all programs of these nodes work steadily, not before the dead time is over; seconds since `start_ms` until the last of them
   * went on after it had stood still.
   */
  async #goOn(nodes: readonly Node[], start_ms: number): Promise<number> {
    const loads = nodes.flatMap((n) => n.loads);
    const ops = loads.map((l) => l.promised().ops);
    const at_ms = loads.map(() => start_ms);
    let went_on_ms = start_ms;
    for (let calm = 0; calm < 10; ) {
      await pause(200);
      this.#ended(nodes);
      const now_ms = performance.now();
      if (now_ms > start_ms + GO_ON_LIMIT_MS) {
        const still = loads.filter((_, i) => now_ms - at_ms[i]! > 2000).map((l) => l.name);
        throw new Error(`${still} did not go on within ${GO_ON_LIMIT_MS / 1000} s`);
      }
      let all = true;
      loads.forEach((l, i) => {
        const n = l.promised().ops;
        if (n !== ops[i]) {
          if (now_ms - at_ms[i]! > 1500) went_on_ms = now_ms;
          ops[i] = n;
          at_ms[i] = now_ms;
        } else if (now_ms - at_ms[i]! > 1500) all = false;
      });
      calm = all && now_ms > start_ms + DEAD_MS + 3000 ? calm + 1 : 0;
    }
    return (went_on_ms - start_ms) / 1000;
  }

  // Dying ----------------------------------------------------------------------------------------------------------------
  #kindFor(node: Node): Kind {
    const ours = node.number > 9;
    const weights: [Kind, number][] = [
      ["kill", 5],
      ["stop", ours ? 3 : 0],
      // Whoever is cut off must be the one that has to go: of two, the higher number.
      ["cut", this.#numbers.length > 2 || node.number === Math.max(...this.#numbers) ? 2 : 0],
    ];
    // What was given such a disk is there to be stalled.
    const { kinds } = this.#o;
    if (node.disk !== undefined) return "stall";
    const possible = weights.filter(([kind, w]) => w > 0 && (kinds === undefined || kinds.includes(kind)));
    let dice = this.#below(possible.reduce((sum, [, w]) => sum + w, 0));
    for (const [kind, w] of possible) {
      dice -= w;
      if (dice < 0) return kind;
    }
    return "kill";
  }

  /** The node dies; answers what is to be done with its remains once the others have gone on. */
  async #die(node: Node, kind: Kind): Promise<() => Promise<void>> {
    const { member, number } = node;
    const over =
      member instanceof KernelMember ? this.#kernelOver(member, number, kind) : this.#oursOver(member, number, kind);
    switch (kind) {
      case "kill":
        if (member instanceof KernelMember) {
          this.#kernelSaid(member);
          member.node.kill();
          return async () => {};
        }
        member.kill();
        return over;
      case "stop":
        assert(member instanceof OurMember, "only processes are stopped");
        member.signal("SIGSTOP");
        return () => {
          member.signal("SIGCONT");
          return over();
        };
      case "cut":
        this.#rig.cut(number, true);
        return async () => {
          await over();
          this.#rig.cut(number, false);
        };
      case "stall":
        await node.disk!.stall();
        return () => this.#stallOver(node, over);
    }
  }

  /** The process ends by itself, or is killed already. */
  #oursOver(member: OurMember, number: number, kind: Kind): () => Promise<void> {
    const { pid } = member;
    return async () => {
      await until(`node ${number} has ended (${kind})`, 20_000, () => processGone(pid));
      member.kill();
    };
  }

  /** The kernel panics when it has to go. */
  #kernelOver(member: KernelMember, number: number, kind: Kind): () => Promise<void> {
    return async () => {
      const panicked = (): boolean => member.node.console().includes("Kernel panic");
      await until(`node ${number} has panicked (${kind})`, 60_000, panicked);
      this.#kernelSaid(member);
      member.node.kill();
    };
  }

  /** What the stalled disk holds fails, and nothing of the node comes after it. */
  async #stallOver(node: Node, over: () => Promise<void>): Promise<void> {
    const { number, member, disk } = node;
    const is_kernel = member instanceof KernelMember;
    // A process ends when its disk answers; a kernel without it.
    if (is_kernel) await over();
    const { held, writes, last_write_ms } = await disk!.fail();
    if (!is_kernel) await over();
    const late = await disk!.late();
    this.#o.say(
      `  stalled: ${held} requests held, ${writes} of them writes, the last ${Math.round(last_write_ms)} ms after the stall; ${late} writes later`,
    );
    if (late > 0) this.#problem(`node ${number} sent ${late} writes after its end`);
    // The lease: half of the dead time from the last heartbeat that completed. A kernel's limit is its panic.
    if (!is_kernel && last_write_ms > DEAD_MS / 2 + 500)
      this.#problem(`node ${number} sent a write ${last_write_ms} ms after its last heartbeat`);
  }

  /** One dies; now and then a second one while the others still get over the first, or the dead one is back before they noticed. */
  async #round(): Promise<void> {
    await pause(500 + this.#below(6000));
    const first = this.#pick();
    const kind = this.#kindFor(first);
    let start_ms = performance.now();
    const dying: { node: Node; kind: Kind; remains: () => Promise<void>; start_ms: number }[] = [];
    const die = async (node: Node, kind: Kind): Promise<void> => {
      start_ms = performance.now();
      this.#nodes.delete(node.number);
      dying.push({ node, kind, remains: await this.#die(node, kind), start_ms });
    };
    const replayed = new Map([...this.#nodes.values()].map((n) => [n, replays(n.member)]));
    await die(first, kind);
    const dice = this.#any();
    const survivors = [...this.#nodes.values()];
    if (dice < 0.2 && survivors.length > 1 && kind !== "cut") {
      await pause(this.#below(DEAD_MS + 4000));
      const second = this.#pick();
      survivors.splice(survivors.indexOf(second), 1);
      await die(second, "kill");
      if (replays(second.member) > replayed.get(second)!) this.#recoverer_died = true;
    }
    let back: Promise<number> | undefined;
    if (dice > 0.85 && kind === "kill") {
      await dying[0]!.remains();
      back = this.#comesBack(first);
      // What it says is heard below.
      back.catch(() => {});
    }
    const went_on_s = await this.#goOn(survivors, start_ms);
    const witness = survivors[this.#below(survivors.length)]!;
    for (const d of dying) {
      const { node } = d;
      if (back === undefined) await d.remains();
      await Promise.all(node.loads.map((l) => l.ended));
      node.disk?.close();
      const names = node.loads.map((l) => l.name);
      const promised = node.loads.map((l) => l.promised());
      for (const l of node.loads) {
        if (l.wrong !== undefined) this.#problem(`${l.name}: ${l.wrong}`);
        this.#promised.set(l.name, l.promised());
      }
      await this.#check(witness.member, names);
      const back_s = await (back ?? this.#comesBack(node));
      await this.#check(this.#nodes.get(node.number)!.member, names);
      const of = node.number > 9 ? "ours" : "kernel";
      const how = back !== undefined ? ", back at once" : dying.length > 1 ? `, ${dying.indexOf(d) + 1} of 2` : "";
      this.deaths.push({
        kind: d.kind,
        of,
        node: node.number,
        went_on_s: went_on_s + (start_ms - d.start_ms) / 1000,
        back_s,
      });
      this.#o.say(
        `death ${this.deaths.length} of ${this.#o.times}: ${d.kind} ${of} ${node.number}${how}: survivors went on after ${went_on_s.toFixed(1)} s, ` +
          `it was back after ${back_s.toFixed(1)} s; ${promised.reduce((n, p) => n + p.records, 0)} records and ${promised.reduce((n, p) => n + p.kept, 0)} files of it are there`,
      );
    }
  }

  #pick(): Node {
    const alive = [...this.#nodes.values()];
    return alive[this.#below(alive.length)]!;
  }

  /** A node that died starts and works again; after how many seconds. */
  async #comesBack(node: Node): Promise<number> {
    const start_ms = performance.now();
    const again = await this.#start(node.number);
    this.#load(again);
    await this.#working([again], 90_000);
    return (performance.now() - start_ms) / 1000;
  }

  // Judging --------------------------------------------------------------------------------------------------------------
  #problem(text: string): void {
    this.problems.push(text);
    this.#o.say(`PROBLEM: ${text}`);
  }

  async #check(m: Member, names: Iterable<string>): Promise<void> {
    for (const name of names) {
      const what = await lost(m, this.#sub, name, this.#promised.get(name)!);
      if (what !== undefined) this.#problem(what);
    }
  }

  #kernelSaid(k: KernelMember): void {
    // What comes with the panic that it was told to make is no complaint of its own.
    const [before = ""] = k.node.console().split(/Kernel panic/);
    const said = k.node
      .complaints()
      .filter((line) => ![OF_A_DEATH, OF_A_LEAVE, OF_A_RACE].some((kind) => kind.test(line)) && before.includes(line));
    const fenced =
      /\*\*\* ocfs2 is very sorry|Heartbeat write timeout|fencing this node|stopping heartbeat on all active regions/;
    const odd = said.filter((line) => !fenced.test(line));
    if (odd.length > 0) this.#problem(`${k.name} said:\n${odd.join("\n")}`);
  }

  /** A life of the cluster: all come, some die and come back, all leave, and fsck.ocfs2 looks. */
  async #lifeOf(deaths: number): Promise<void> {
    this.#life++;
    this.#promised.clear();
    this.#recoverer_died = false;
    const nodes = await Promise.all(this.#numbers.map((n) => this.#start(n)));
    for (const n of nodes) this.#load(n);
    await this.#working(nodes, 60_000);
    for (const end = this.deaths.length + deaths; this.deaths.length < end && this.problems.length === 0; )
      await this.#round();
    const all = [...this.#nodes.values()];
    for (const n of all) for (const l of n.loads) l.stop();
    for (const n of all)
      for (const l of n.loads) {
        const said = await l.ended;
        if (said !== "status 0\n") this.#problem(`${l.name}: ${said}`);
        this.#promised.set(l.name, l.promised());
      }
    for (const n of all) await this.#check(n.member, this.#promised.keys());
    for (const p of this.#promised.values()) {
      this.records += p.records;
      this.kept += p.kept;
    }
    if (this.#any() < 0.5) await all[0]!.member.run(`rm -rf $D/${this.#sub}`, 300_000);
    for (const n of all) {
      if (n.member instanceof KernelMember) {
        await n.member.node.unmount();
        this.#kernelSaid(n.member);
        n.member.node.kill();
      } else await n.member.unmount();
      n.disk?.close();
      this.#nodes.delete(n.number);
    }
    let judged = await fsckAsync(this.#image);
    if (this.#recoverer_died && judged.findings.length > 0 && judged.findings.every((f) => LEAKED.test(f))) {
      this.#o.say(`  ${judged.findings.length} clusters are lost: a kernel node died while it recovered another`);
      // It asks once more, for there is no cluster on this machine; its status says that it mended something.
      await runAsync(["sh", "-c", 'yes | fsck.ocfs2 -fyF "$1"', "sh", this.#image]);
      judged = await fsckAsync(this.#image);
    }
    if (judged.findings.length > 0) this.#problem(`fsck.ocfs2 -fn: ${judged.findings.slice(0, 30).join("\n")}`);
    else this.#o.say(`life ${this.#life} of the cluster: fsck.ocfs2 -fn is content`);
  }

  async run(): Promise<DeathsResult> {
    try {
      while (this.deaths.length < this.#o.times && this.problems.length === 0)
        await this.#lifeOf(Math.min(this.#o.times - this.deaths.length, this.#o.per_life));
    } catch (err) {
      this.#problem(err instanceof Error ? err.message : String(err));
    }
    if (this.problems.length > 0) await this.#keep();
    this.#rig.close();
    return { deaths: this.deaths, problems: this.problems, records: this.records, kept: this.kept };
  }

  /** Logs of all nodes, and where what stands still stands, for whoever looks for the reason. */
  async #keep(): Promise<void> {
    const { keep } = this.#o;
    if (keep === undefined) return;
    mkdirSync(keep, { recursive: true });
    const stacks =
      'for d in /proc/[0-9]*; do grep -qs cluster_load $d/comm && { echo "$d $(cat $d/syscall)"; cat $d/stack; }; done; true';
    for (const [n, { member, loads }] of this.#nodes) {
      const parts = loads.map((l) => `${l.name}: ${JSON.stringify(l.promised())} ${l.said ?? "runs"}\n`);
      const add = async (what: () => Promise<string>): Promise<void> =>
        void parts.push(await what().catch((err) => String(err)));
      if (member instanceof KernelMember) {
        await add(() => member.run(`${stacks} 2>&1`, 20_000));
        const locks =
          "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; cd /sys/kernel/debug";
        await add(() => member.run(`${locks}; cat o2dlm/*/locking_state ocfs2/*/locking_state`, 20_000));
      } else {
        await add(() => run(["bash", "-c", stacks], { timeout_ms: 20_000 }));
        await add(async () => JSON.stringify(await member.status()));
        for (const what of ["op_waits", "fs_locks", "dlm_locks"]) await add(() => within(20_000, member.state(what)));
        const threads = `for t in /proc/${member.pid}/task/*; do echo "$t $(cat $t/comm)"; cat $t/stack; done`;
        await add(() => run(["bash", "-c", threads], { timeout_ms: 20_000 }));
      }
      writeFileSync(join(keep, `state-${n}`), parts.join("\n"));
      if (member instanceof KernelMember) writeFileSync(join(keep, `kernel-${n}.log`), member.node.console());
    }
    for (const n of this.#numbers) {
      const log = `/run/ocfs2/node-${this.#rig.nameOf(n)}.log`;
      if (existsSync(log)) copyFileSync(log, join(keep, `node-${n}.log`));
    }
    copyFileSync(this.#image, join(keep, "image"));
    this.#o.say(`logs and image: ${keep}`);
  }
}

export const deathsRun = (o: DeathsOptions): Promise<DeathsResult> => new DeathsRun(o).run();
