/**
 * The faults of a history. They begin at random moments and end by themselves; what a node does about them (go on, fence itself, be declared
 * dead) is its own affair and the cluster's, and nobody here tells anybody of a death. A node that is gone is started again.
 */
import { deadMs, O2HB_REGION_TIMEOUT_MS, quorumDelayMs } from "../../../src/cluster/nodemanager.ts";
import { addressOf, type SimNode } from "./node.ts";
import type { World } from "./world.ts";

export type FaultKind =
  | "kill"
  | "power"
  | "leave"
  | "stop"
  | "stall"
  | "cut"
  | "reset"
  | "slow"
  | "still"
  | "eio"
  | "bad"
  | "late";

/** How a seed's faults are mixed; a calm seed has none of those that end a node against its will. */
export interface FaultPlan {
  readonly kinds: readonly FaultKind[];
  /** Between the end of one fault and the next one, on average. */
  readonly every_ms: number;
  /** At most so many. */
  readonly most: number;
}

export class Faults {
  readonly #w: World;
  readonly #plan: FaultPlan;
  /** Numbers of nodes that may die, or answer with errors, without being to blame; and until when. */
  readonly #excused = new Map<number, number>();
  #active = 0;
  #stopped = false;
  #restarting = new Set<number>();
  readonly counts = new Map<FaultKind, number>();
  /** Asked before a node is killed or leaves: whether that may happen now. */
  beforeKill: (node: SimNode, go: () => void) => void = (_node, go) => go();
  beforeLeave: (node: SimNode, go: () => void) => void = (_node, go) => go();
  /** Bytes of the disk that hold file data. */
  somePlace: () => { readonly from: number; readonly to: number } = () => ({ from: 0, to: 0 });

  constructor(world: World, plan: FaultPlan) {
    this.#w = world;
    this.#plan = plan;
  }

  get total(): number {
    return [...this.counts.values()].reduce((a, b) => a + b, 0);
  }

  start(): void {
    this.#next();
    this.#tend();
  }

  /** No new faults. */
  stop(): void {
    this.#stopped = true;
  }

  /** Who goes now stays away. */
  end(): void {
    this.#ending = true;
  }
  #ending = false;

  /** No fault is under way, and every node is back. */
  get quiet(): boolean {
    const { usable, numbers, clock } = this.#w;
    const all = usable.length === numbers.length && usable.every((n) => !n.lease.isShut(clock.monotonic_ms()));
    return this.#active === 0 && all && !this.#w.unsettled;
  }

  /** Whether what goes wrong on this node now is the fault of a fault. */
  excuses(node: SimNode): boolean {
    return !node.alive || (this.#excused.get(node.num) ?? 0) > this.#w.clock.monotonic_ms();
  }

  #excuse(node: SimNode, ms: number): void {
    const until = this.#w.clock.monotonic_ms() + ms;
    this.#excused.set(node.num, Math.max(this.#excused.get(node.num) ?? 0, until));
  }

  #below(n: number): number {
    return this.#w.below(n);
  }

  #next(): void {
    const { every_ms } = this.#plan;
    this.#w.clock.after(every_ms / 2 + this.#below(every_ms), () => {
      if (this.#stopped || this.total >= this.#plan.most) return;
      if (this.#active === 0 && !this.#w.unsettled && this.#w.mounted.length > 0) this.#begin();
      this.#next();
    });
  }

  /** Nodes that are gone come back after a while; that a node is gone must have had a reason. */
  #tend(): void {
    this.#w.clock.after(500, () => {
      for (const num of this.#w.numbers) {
        const node = this.#w.nodes.get(num);
        if (this.#ending || node === undefined || node.alive || this.#restarting.has(num)) continue;
        this.#restarting.add(num);
        this.#w.clock.after(
          this.#below(2) === 0 ? this.#below(2000) : this.#below(3 * deadMs(this.#w.timeouts)),
          () => {
            this.#restarting.delete(num);
            this.#w.start(num);
          },
        );
      }
      this.#tend();
    });
  }

  #count(kind: FaultKind, what: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.#w.note(`fault: ${kind} ${what}`);
  }

  #for(ms: number, end: () => void): void {
    this.#active++;
    this.#w.clock.after(ms, () => {
      this.#active--;
      end();
    });
  }

  #begin(): void {
    const { mounted, timeouts } = this.#w;
    const kind = this.#plan.kinds[this.#below(this.#plan.kinds.length)]!;
    const node = mounted[this.#below(mounted.length)]!;
    const dead = deadMs(timeouts);
    const { num } = node;
    switch (kind) {
      case "kill":
      case "power":
        if (mounted.length < 2) return;
        this.#active++;
        this.beforeKill(node, () => {
          this.#active--;
          if (!node.mounted) return;
          this.#count(kind, `${num}`);
          if (kind === "kill") node.die("killed");
          else node.powerOff();
        });
        return;
      case "leave":
        if (mounted.length < 2) return;
        this.#active++;
        this.beforeLeave(node, () => {
          this.#active--;
          if (!node.mounted) return;
          this.#count(kind, `${num}`);
          node.leave();
        });
        return;
      case "stop":
        this.#stop(node, dead);
        return;
      case "stall": {
        const thread = [node.main, node.volume, node.beat][this.#below(3)]!;
        const ms = 1 + this.#below(2500);
        this.#count(kind, `${num} for ${ms} ms`);
        if (thread === node.beat && ms + 2500 > dead / 2) this.#excuse(node, ms + 2 * dead);
        thread.stall(ms);
        this.#for(ms, () => {});
        return;
      }
      case "late": {
        const ms = this.#below(dead);
        this.#count(kind, `${num} by ${ms} ms`);
        // Beside the interval of 2 s it must not reach the lease.
        if (ms + 2500 > dead / 2) this.#excuse(node, ms + 2 * dead);
        if (node.heartbeat !== null) node.heartbeat.late_ms = ms;
        // The beat behind the one that is waited for now.
        this.#for(2 * O2HB_REGION_TIMEOUT_MS + ms, () => {});
        return;
      }
      case "slow": {
        const [ms, delay] = [this.#below(8000), 20 + this.#below(800)];
        this.#count(kind, `${num}: ${delay} ms for ${ms} ms`);
        node.path.slow_ms = delay;
        this.#for(ms, () => {
          node.path.slow_ms = 0;
        });
        return;
      }
      case "still": {
        const ms = this.#below(2) === 0 ? this.#below(dead / 4) : this.#below(2 * dead);
        this.#count(kind, `${num} for ${ms} ms`);
        this.#excuse(node, ms + 2 * dead);
        node.path.standStill();
        this.#for(ms, () => node.path.goOn());
        return;
      }
      case "eio": {
        const ms = this.#below(dead);
        const what = this.#below(2) === 0 ? "writes" : "all";
        this.#count(kind, `${num}: ${what} for ${ms} ms`);
        this.#excuse(node, ms + 2 * dead);
        node.path.failing = what;
        this.#for(ms, () => {
          node.path.failing = "no";
        });
        return;
      }
      case "bad": {
        const ms = this.#below(12_000);
        const what = this.#below(3) > 0 ? "writes" : "all";
        const { from, to } = this.somePlace();
        this.#count(kind, `${num}: ${what} from ${from} to ${to} for ${ms} ms`);
        // Nothing of it is metadata: the node goes on.
        node.path.bad = { from, to, what };
        this.#for(ms, () => {
          node.path.bad = null;
        });
        return;
      }
      case "cut":
        this.#cut(mounted);
        return;
      case "reset":
        this.#reset(mounted);
        return;
    }
  }

  /** SIGSTOP, or a machine that is suspended; shorter than the lease, as the dead time, or much longer. */
  #stop(node: SimNode, dead: number): void {
    const ms = [this.#below(dead / 4), this.#below(dead), dead + this.#below(2 * dead)][this.#below(3)]!;
    this.#count("stop", `${node.num} for ${ms} ms`);
    this.#excuse(node, ms + 2 * dead);
    node.process.stop();
    this.#for(ms, () => node.process.cont());
  }

  /** Two parts of the cluster that do not hear each other any more; or only one does not hear the other. */
  #cut(mounted: readonly SimNode[]): void {
    if (mounted.length < 2) return;
    const [a, b] = this.#split(mounted);
    const one_way = this.#below(3) === 0;
    const { timeouts } = this.#w;
    const short = this.#below(2) === 0;
    const ms = short
      ? this.#below(timeouts.idle_timeout_ms)
      : timeouts.idle_timeout_ms + quorumDelayMs(timeouts) + this.#below(10_000);
    this.#count("cut", `[${a}] ${one_way ? ">" : "<>"} [${b}] for ${ms} ms`);
    for (const n of mounted) this.#excuse(n, ms + timeouts.idle_timeout_ms + 2 * quorumDelayMs(timeouts));
    this.#links(a, b, one_way, (x, y) => this.#w.network.cut(x, y));
    this.#for(ms, () => this.#links(a, b, one_way, (x, y) => this.#w.network.mend(x, y)));
  }

  /** All connections between two parts are lost, with what was on its way. The quorum decides who goes on. */
  #reset(mounted: readonly SimNode[]): void {
    if (mounted.length < 2) return;
    const [a, b] = this.#split(mounted);
    this.#count("reset", `[${a}] [${b}]`);
    const { timeouts } = this.#w;
    const ms = quorumDelayMs(timeouts) + 4000;
    for (const n of mounted) this.#excuse(n, ms + deadMs(timeouts));
    this.#links(a, b, true, (x, y) => this.#w.network.reset(x, y));
    this.#for(ms, () => {});
  }

  #split(mounted: readonly SimNode[]): [number[], number[]] {
    const nums = mounted.map((n) => n.num);
    for (let i = nums.length - 1; i > 0; i--) {
      const j = this.#below(i + 1);
      [nums[i], nums[j]] = [nums[j]!, nums[i]!];
    }
    const at = 1 + this.#below(nums.length - 1);
    return [nums.slice(0, at), nums.slice(at)];
  }

  #links(a: readonly number[], b: readonly number[], one_way: boolean, fn: (x: string, y: string) => void): void {
    for (const x of a)
      for (const y of b) {
        fn(addressOf(x), addressOf(y));
        if (!one_way) fn(addressOf(y), addressOf(x));
      }
  }

  /** That a node's process ended must have had a reason. */
  judgeEnd(node: SimNode, why: string): void {
    const expected = why === "killed" || why === "no power" || this.excuses(node);
    if (!expected) this.#w.fault(`node ${node.num} has ended for no reason: ${why}`);
  }
}
