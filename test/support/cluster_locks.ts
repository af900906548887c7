/**
 * What a simulated cluster of mounted volumes has for a lock manager: one in memory, or our o2dlm on every node over a network that
 * delays messages.
 */
import { DlmNode } from "../../src/dlm/node.ts";
import { type Clock, seededRandom } from "../../src/lib/clock.ts";
import type { LockDomain } from "../../src/stackglue/lock_domain.ts";
import { MemoryCluster } from "../../src/stackglue/memory_cluster.ts";
import { O2cbDomain } from "../../src/stackglue/o2cb.ts";
import { type SimNode as NetNode, SimCluster as Network, type SimClock } from "./sim_cluster.ts";

export interface LockManager {
  readonly clock: SimClock;
  /** Lets a node join; `done` with its domain. */
  join(num: number, failed: (err: Error) => void, done: (domain: LockDomain) => void): void;
  kill(num: number): void;
  /** The node has left its domain, and stops. */
  left(num: number): void;
  check(): void;
  /** Who waits for what, for a report. */
  waiting(): string[];
  readonly cancels: number;
  readonly basts: number;
}

export interface LockManagerOptions {
  readonly seed: number;
  readonly lock_ms: number;
  readonly onEvent: (what: string) => void;
}

export function memoryLocks(o: LockManagerOptions, clock: SimClock): LockManager {
  const cluster = new MemoryCluster({
    random: seededRandom(o.seed),
    clock,
    delay_ms: o.lock_ms,
    onEvent: o.onEvent,
  });
  return {
    clock,
    join: (num, _failed, done) => done(cluster.join(num)),
    kill: (num) => cluster.kill(num),
    left: () => {},
    check: () => cluster.check(),
    waiting: () => cluster.waiting(),
    get cancels() {
      return cluster.cancels;
    },
    get basts() {
      return cluster.basts;
    },
  };
}

const DOMAIN = "0AD1B7A93F2A4B8196090CA8716C204B";
const NODES = Array.from({ length: 16 }, (_, i) => ({ num: i, ipv4_port: 7777, ipv4_address: 0x7f000001 + i }));
/** From a death to its notice: the nodes look at the same heartbeat blocks, so all notice it at the same beat. */
const DEAD_MS = 300;
const REJOIN_MS = 1000;

/** Our o2dlm. All nodes notice a death at the same time. */
export function o2dlmLocks(o: LockManagerOptions): LockManager {
  const network = new Network({ seed: o.seed, delay_ms: o.lock_ms });
  const nodes = new Map<number, NetNode>();
  const gone = new Map<number, number>();
  network.onMessage = (m, status) => o.onEvent(`message ${m.type} ${m.from}>${m.to} ${status}`);
  const clockOf = (net: NetNode): Clock => ({
    monotonic_ms: () => network.clock.monotonic_ms(),
    realtime: () => network.clock.realtime(),
    after: (ms, cb) => network.clock.after(ms, () => net.alive && cb()),
  });
  return {
    clock: network.clock,
    join(num, failed, done) {
      // A node that comes back has been noticed to be gone: its heartbeat begins anew.
      const early = (gone.get(num) ?? 0) + REJOIN_MS - network.clock.monotonic_ms();
      if (early > 0) {
        network.clock.after(early, () => this.join(num, failed, done));
        return;
      }
      const net = network.start(num);
      nodes.set(num, net);
      const node = new DlmNode({
        net,
        hb: net,
        clock: clockOf(net),
        random: network.random,
        nodes: () => NODES,
        regions: () => [],
        fatal: failed,
      });
      O2cbDomain.join(node, DOMAIN, (err, domain) => {
        if (domain === null) failed(new Error(`node ${num} cannot join the domain: ${err}`));
        else done(domain);
      });
    },
    kill(num) {
      const dead = nodes.get(num)!;
      nodes.delete(num);
      gone.set(num, network.clock.monotonic_ms());
      dead.alive = false;
      dead.waiting.clear();
      network.clock.after(DEAD_MS, () => {
        if (network.nodes.get(num) === dead) network.nodes.delete(num);
        for (const other of [...network.nodes.values()]) {
          if (!other.alive || !other.live.delete(num)) continue;
          for (const w of [...other.waiting]) {
            if (w.to !== dead) continue;
            other.waiting.delete(w);
            w.done(-112, 0);
          }
          for (const l of [...other.listeners].sort((a, b) => b.priority - a.priority)) l.down(num);
        }
      });
    },
    left(num) {
      const net = nodes.get(num);
      nodes.delete(num);
      gone.set(num, network.clock.monotonic_ms());
      if (net !== undefined) network.stop(net);
    },
    check() {},
    waiting: () => [],
    cancels: 0,
    basts: 0,
  };
}
