/**
 * A lock manager for N nodes in one process: what o2dlm promises, without its network. Tests and the simulator mount
 * several volumes over it; without it the only other node that our code ever meets is RandomBastDomain, which holds no
 * data.
 *
 * Each resource has o2dlm's three queues (dlmthread.c, dlm_shuffle_lists): granted, converting, blocked. Conversions come
 * first, in the order in which they were asked for; a lock in the way gets one BAST with the highest level that it blocks.
 * Messages take a random time both ways; those about one lock stay in order, others overtake each other.
 *
 * Faults: a node dies between any two events (`kill`). Its locks stay in everybody's way until every survivor has heard of the
 * death, as with o2dlm's eviction callbacks. No message is lost, no node hears of a death that was none: that is
 * o2net's and the heartbeat's business.
 */
import type { Clock, Random } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import {
  type ConvertOptions,
  type DomainLock,
  EX,
  type LockCallbacks,
  type LockDomain,
  type LockLevel,
  NL,
  PR,
} from "./lock_domain.ts";

export const LVB_BYTES = 64;

/** PR beside PR, NL beside everything. */
const compatible = (a: LockLevel, b: LockLevel): boolean => a === NL || b === NL || (a === PR && b === PR);

/** One lock, as its node sees it (DomainLock) and as the master sees it (the rest). */
interface Lock extends DomainLock {
  readonly node: MemoryNode;
  readonly callbacks: LockCallbacks;
  /** What the manager has granted. */
  level: LockLevel;
  /** What is asked for while the lock is converting or blocked. */
  wanted: LockLevel;
  /** Known to the manager. */
  attached: boolean;
  /** The LVB comes with the next grant. */
  get_lvb: boolean;
  /** BAST on its way: the highest level that the lock blocks; NL: none. */
  highest_blocked: LockLevel;
  /** When the last message about this lock arrives, each way. */
  up_at: number;
  down_at: number;
}

interface Resource {
  readonly name: string;
  readonly lvb: Uint8Array;
  granted: Lock[];
  converting: Lock[];
  blocked: Lock[];
}

/** A death that not all members have heard of. */
interface News {
  readonly dead: MemoryNode;
  pending: number;
}

export interface MemoryClusterOptions {
  readonly random: Random;
  readonly clock: Clock;
  /** A message takes up to so many milliseconds. */
  readonly delay_ms?: number;
  /** Hears of every grant, BAST and death: for a trace. */
  readonly onEvent?: (what: string) => void;
}

export class MemoryCluster {
  readonly #o: MemoryClusterOptions;
  readonly #resources = new Map<string, Resource>();
  readonly #nodes = new Map<number, MemoryNode>();
  readonly #news = new Set<News>();
  basts = 0;
  grants = 0;
  cancels = 0;

  constructor(options: MemoryClusterOptions) {
    this.#o = options;
  }

  /** The domain of a node that joins. */
  join(node_num: number): MemoryNode {
    assert(!this.#nodes.has(node_num), `node ${node_num} is in the domain already`);
    const node = new MemoryNode(this, node_num);
    this.#nodes.set(node_num, node);
    // Who joins between a death and its end hears of it, too.
    for (const news of this.#news) this.#tell(node, news);
    return node;
  }

  get members(): number[] {
    return [...this.#nodes.keys()].sort((a, b) => a - b);
  }

  /** The node is gone from now on: nothing that it sent and that has not arrived counts, and it hears nothing more. */
  kill(node_num: number): void {
    const node = this.#nodes.get(node_num);
    assert(node !== undefined, `node ${node_num} is no member`);
    this.#o.onEvent?.(`kill ${node_num}`);
    node.alive = false;
    this.#nodes.delete(node_num);
    const news: News = { dead: node, pending: 0 };
    this.#news.add(news);
    for (const n of this.#nodes.values()) this.#tell(n, news);
    if (news.pending === 0) this.#bury(news);
  }

  #tell(n: MemoryNode, news: News): void {
    const { node_num } = news.dead;
    news.pending++;
    this.#later(this.#delay(), () => {
      if (n.alive) {
        this.#o.onEvent?.(`node ${n.node_num} hears of ${node_num}`);
        n.onNodeDown(node_num);
      }
      if (--news.pending === 0) this.#bury(news);
    });
  }

  /** Takes the dead node's locks away (dlm_free_dead_locks), and what the LVB of one held at EX said (dlm_revalidate_lvb). */
  #bury(news: News): void {
    this.#news.delete(news);
    const node = news.dead;
    const touched: Resource[] = [];
    for (const res of this.#resources.values()) {
      const dead = [...res.granted, ...res.converting, ...res.blocked].filter((l) => l.node === node);
      if (dead.length === 0) continue;
      if (dead.some((l) => l.level === EX)) res.lvb.fill(0);
      const alive = (l: Lock): boolean => l.node !== node;
      res.granted = res.granted.filter(alive);
      res.converting = res.converting.filter(alive);
      res.blocked = res.blocked.filter(alive);
      touched.push(res);
    }
    for (const res of touched) this.#shuffle(res);
  }

  #delay(): number {
    return 1 + (this.#o.random.u32() % (this.#o.delay_ms ?? 8));
  }

  #later(ms: number, fn: () => void): void {
    this.#o.clock.after(ms, fn);
  }

  /** A message from a lock's node to the manager; those about one lock arrive in order. */
  up(lock: Lock, fn: () => void): void {
    const now = this.#o.clock.monotonic_ms();
    lock.up_at = Math.max(lock.up_at, now + this.#delay());
    this.#later(lock.up_at - now, () => {
      if (lock.node.alive) fn();
    });
  }

  /** A message from the manager to a lock's node. */
  #down(lock: Lock, fn: () => void): void {
    const now = this.#o.clock.monotonic_ms();
    lock.down_at = Math.max(lock.down_at, now + this.#delay());
    this.#later(lock.down_at - now, () => {
      if (lock.node.alive) fn();
    });
  }

  // What the manager does -------------------------------------------------------------------------------------------
  #resource(name: string): Resource {
    let res = this.#resources.get(name);
    if (res === undefined) {
      res = { name, lvb: new Uint8Array(LVB_BYTES), granted: [], converting: [], blocked: [] };
      this.#resources.set(name, res);
    }
    return res;
  }

  /** dlmlock and dlmconvert at the master. */
  request(lock: Lock, level: LockLevel, options: ConvertOptions, lvb: Uint8Array | null): void {
    const res = this.#resource(lock.name);
    if (!lock.attached) {
      lock.attached = true;
      lock.get_lvb = options.lvb === true;
      if (this.#fits(res, lock, level)) {
        lock.level = level;
        res.granted.push(lock);
        this.#ast(res, lock, 0);
      } else if (options.trylock === true) {
        lock.attached = false;
        this.#ast(res, lock, -Errno.EAGAIN);
      } else {
        lock.wanted = level;
        res.blocked.push(lock);
        this.#shuffle(res);
      }
      return;
    }
    assert(res.granted.includes(lock), `${lock.name} of node ${lock.node.node_num} is converted while it is queued`);
    if (level <= lock.level) {
      if (lvb !== null && lock.level === EX) res.lvb.set(lvb);
      lock.level = level;
      lock.get_lvb = false;
      this.#ast(res, lock, 0);
      this.#shuffle(res);
      return;
    }
    lock.get_lvb = options.lvb === true;
    if (this.#fits(res, lock, level)) {
      lock.level = level;
      this.#ast(res, lock, 0);
    } else if (options.trylock === true) this.#ast(res, lock, -Errno.EAGAIN);
    else {
      lock.wanted = level;
      res.granted = res.granted.filter((l) => l !== lock);
      res.converting.push(lock);
      this.#shuffle(res);
    }
  }

  /** Nothing granted stands against it, and no conversion that came before wants what it would prevent. */
  #fits(res: Resource, lock: Lock, level: LockLevel): boolean {
    return (
      res.granted.every((l) => l === lock || compatible(l.level, level)) &&
      res.converting.every((l) => l === lock || (compatible(l.level, level) && compatible(l.wanted, level)))
    );
  }

  cancel(lock: Lock): void {
    const res = this.#resource(lock.name);
    if (res.blocked.includes(lock)) {
      // Nothing is left of a lock that was never granted.
      this.cancels++;
      res.blocked = res.blocked.filter((l) => l !== lock);
      lock.wanted = NL;
      lock.attached = false;
      this.#ast(res, lock, -Errno.ECANCELED);
      this.#shuffle(res);
      return;
    }
    // Too late: the answer is on its way.
    if (!res.converting.includes(lock)) return;
    this.cancels++;
    res.converting = res.converting.filter((l) => l !== lock);
    res.granted.push(lock);
    lock.wanted = NL;
    this.#ast(res, lock, -Errno.ECANCELED);
    this.#shuffle(res);
  }

  unlock(lock: Lock, lvb: Uint8Array | null, done: (status: number) => void): void {
    const res = this.#resource(lock.name);
    assert(
      !res.converting.includes(lock) && !res.blocked.includes(lock),
      `${lock.name} is unlocked while it is queued`,
    );
    if (lvb !== null && lock.level === EX) res.lvb.set(lvb);
    res.granted = res.granted.filter((l) => l !== lock);
    lock.attached = false;
    this.#down(lock, () => done(0));
    this.#shuffle(res);
    // A resource that nobody has a lock on is purged, and its LVB with it (dlm_purge_lockres).
    if (res.granted.length + res.converting.length + res.blocked.length === 0) this.#resources.delete(res.name);
  }

  /** Grants what can be granted, and asks those in the way of the first that cannot (dlm_shuffle_lists). */
  #shuffle(res: Resource): void {
    for (;;) {
      const target = res.converting[0] ?? res.blocked[0];
      if (target === undefined) return;
      const in_way = [...res.granted, ...res.converting].filter(
        (l) => l !== target && !compatible(l.level, target.wanted),
      );
      for (const l of in_way) this.#bast(l, target.wanted);
      if (in_way.length > 0) return;
      if (res.converting[0] === target) res.converting.shift();
      else res.blocked.shift();
      target.level = target.wanted;
      target.wanted = NL;
      res.granted.push(target);
      this.#ast(res, target, 0);
    }
  }

  #ast(res: Resource, lock: Lock, status: number): void {
    // What it blocked before it was converted counts no more: the node is asked anew.
    if (status === 0) lock.highest_blocked = NL;
    const lvb = status === 0 && lock.get_lvb && lock.level !== NL ? res.lvb.slice() : null;
    const { level } = lock;
    this.grants++;
    this.#down(lock, () => {
      this.#o.onEvent?.(`ast ${lock.node.node_num} ${printable(lock.name)} ${level} ${status}`);
      if (lvb !== null) lock.lvb.set(lvb);
      lock.callbacks.ast(status);
    });
  }

  #bast(lock: Lock, level: LockLevel): void {
    if (lock.highest_blocked >= level) return;
    lock.highest_blocked = level;
    this.basts++;
    this.#down(lock, () => {
      this.#o.onEvent?.(`bast ${lock.node.node_num} ${printable(lock.name)} ${level}`);
      lock.highest_blocked = NL;
      lock.callbacks.bast(level);
    });
  }

  // For tests ---------------------------------------------------------------------------------------------------------
  /** Throws when two locks are granted that may not be beside each other. */
  check(): void {
    for (const res of this.#resources.values()) {
      const all = [...res.granted, ...res.converting];
      for (const a of all)
        for (const b of all)
          assert(
            a === b || compatible(a.level, b.level),
            `${printable(res.name)} is granted at ${a.level} beside ${b.level}`,
          );
    }
  }

  /** One line a resource on which somebody waits: for the report of a cluster that stands still. */
  waiting(): string[] {
    const show = (l: Lock): string => `${l.node.node_num}:${l.level}${l.wanted !== NL ? `>${l.wanted}` : ""}`;
    return [...this.#resources.values()]
      .filter((r) => r.converting.length + r.blocked.length > 0)
      .map(
        (r) =>
          `${printable(r.name)} granted ${r.granted.map(show).join(" ")} converting ${r.converting.map(show).join(" ")} blocked ${r.blocked.map(show).join(" ")}`,
      );
  }

  /** What the manager has for a name: the highest level granted to a node. */
  levelOf(name: string, node_num: number): LockLevel {
    const res = this.#resources.get(name);
    let level: LockLevel = NL;
    if (res !== undefined)
      for (const l of [...res.granted, ...res.converting])
        if (l.node.node_num === node_num && l.level > level) level = l.level;
    return level;
  }

  left(node: MemoryNode): void {
    for (const res of this.#resources.values())
      for (const l of [...res.granted, ...res.converting, ...res.blocked])
        assert(l.node !== node, `node ${node.node_num} leaves the domain with ${printable(res.name)}`);
    node.alive = false;
    if (this.#nodes.get(node.node_num) === node) this.#nodes.delete(node.node_num);
    this.#o.onEvent?.(`leave ${node.node_num}`);
  }

  leave(node: MemoryNode, done: (status: number) => void): void {
    this.#later(this.#delay(), () => {
      if (!node.alive) return;
      this.left(node);
      done(0);
    });
  }
}

/** A lock's name as text: the binary inode number at the end of a dentry lock's in hex digits. */
export const printable = (name: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a dentry lock's name has a zero byte before its inode number
  name.replace(/[\x00-\x1f\x7f-\xff]/g, (c) => c.charCodeAt(0).toString(16).padStart(2, "0"));

/** A node's face of the cluster. */
export class MemoryNode implements LockDomain {
  readonly name = "memory";
  readonly clustered = true;
  readonly node_num: number;
  readonly #cluster: MemoryCluster;
  alive = true;
  onNodeDown: (node_num: number) => void = () => {};

  constructor(cluster: MemoryCluster, node_num: number) {
    this.#cluster = cluster;
    this.node_num = node_num;
  }

  newLock(name: string, callbacks: LockCallbacks): DomainLock {
    assert(name.length <= 31, `a lock's name of ${name.length} bytes`);
    const lock: Lock = {
      name,
      lvb: new Uint8Array(LVB_BYTES),
      lvb_valid: true,
      node: this,
      callbacks,
      level: NL,
      wanted: NL,
      attached: false,
      get_lvb: false,
      highest_blocked: NL,
      up_at: 0,
      down_at: 0,
    };
    return lock;
  }

  convert(l: DomainLock, level: LockLevel, options: ConvertOptions = {}): void {
    const lock = l as Lock;
    const lvb = options.lvb === true ? lock.lvb.slice() : null;
    this.#cluster.up(lock, () => this.#cluster.request(lock, level, options, lvb));
  }

  cancel(l: DomainLock): void {
    const lock = l as Lock;
    this.#cluster.up(lock, () => this.#cluster.cancel(lock));
  }

  unlock(l: DomainLock, done: (status: number) => void, options: { lvb?: boolean } = {}): void {
    const lock = l as Lock;
    const lvb = options.lvb === true ? lock.lvb.slice() : null;
    this.#cluster.up(lock, () => this.#cluster.unlock(lock, lvb, done));
  }

  leave(done: (status: number) => void): void {
    this.#cluster.leave(this, done);
  }
}
