/**
 * A cluster in one thread for tests: a clock that runs as fast as its events, links that delay messages and keep their order, a heartbeat
 * that tells of the dead late and at different times. One seed, one history.
 */
import type { MsgHandler, NodeListener, NodeNum, O2hb, O2net } from "../../src/cluster/node.ts";
import { type Clock, type Random, seededRandom } from "../../src/lib/clock.ts";

const ENOPROTOOPT = 92;
const ENOTCONN = 107;
const EHOSTDOWN = 112;

interface Event {
  readonly at: number;
  readonly seq: number;
  readonly run: () => void;
  off: boolean;
}

export class SimClock implements Clock {
  #now = 1000;
  #seq = 0;
  /** A binary heap. */
  readonly #heap: Event[] = [];
  events = 0;

  monotonic_ms(): number {
    return this.#now;
  }

  realtime(): { sec: number; nsec: number } {
    return { sec: 1_700_000_000 + Math.floor(this.#now / 1000), nsec: Math.floor((this.#now % 1000) * 1e6) };
  }

  after(ms: number, cb: () => void): () => void {
    const event: Event = { at: this.#now + ms, seq: this.#seq++, run: cb, off: false };
    this.#push(event);
    return () => {
      event.off = true;
    };
  }

  #before(a: Event, b: Event): boolean {
    return a.at < b.at || (a.at === b.at && a.seq < b.seq);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(event, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return top;
  }

  /** The next event; false when there is none until `end`. */
  step(end = Number.POSITIVE_INFINITY): boolean {
    for (;;) {
      const top = this.#heap[0];
      if (top === undefined || top.at > end) return false;
      this.#pop();
      if (top.off) continue;
      this.#now = Math.max(this.#now, top.at);
      this.events++;
      top.run();
      return true;
    }
  }

  /** Until `done` holds; false if `limit_ms` of simulated time pass or nothing can happen any more. */
  runUntil(done: () => boolean, limit_ms: number): boolean {
    const end = this.#now + limit_ms;
    while (!done()) if (!this.step(end)) return done();
    return true;
  }
}

export interface SimMessage {
  readonly type: number;
  readonly key: number;
  readonly payload: Uint8Array;
  readonly from: NodeNum;
  readonly to: NodeNum;
}

export class SimNode implements O2net, O2hb {
  readonly cluster: SimCluster;
  readonly node_num: NodeNum;
  alive = true;
  readonly handlers = new Map<string, { max_len: number; handler: MsgHandler }>();
  readonly listeners: NodeListener[] = [];
  readonly live = new Set<NodeNum>();
  /** Messages of ours that wait for their answer. */
  readonly waiting = new Set<{ to: SimNode; done: (err: number, status: number) => void }>();

  constructor(cluster: SimCluster, node_num: NodeNum) {
    this.cluster = cluster;
    this.node_num = node_num;
  }

  register(msg_type: number, key: number, max_len: number, handler: MsgHandler): () => void {
    const name = `${msg_type}:${key >>> 0}`;
    if (this.handlers.has(name)) throw new Error(`handler ${name} twice`);
    this.#hop(() => this.handlers.set(name, { max_len, handler }));
    return () => this.handlers.delete(name);
  }

  whenRegistered(done: () => void): void {
    this.#hop(done);
  }

  #hop(fn: () => void): void {
    const { hop_ms, clock } = this.cluster;
    if (hop_ms === 0) fn();
    else clock.after(hop_ms, fn);
  }

  liveNodes(): ReadonlySet<NodeNum> {
    return this.live;
  }

  onNodes(listener: NodeListener): () => void {
    this.listeners.push(listener);
    return () => void this.listeners.splice(this.listeners.indexOf(listener), 1);
  }

  send(type: number, key: number, data: Uint8Array, to: NodeNum, done: (err: number, status: number) => void): void {
    this.cluster.send(this, { type, key, payload: data.slice(), from: this.node_num, to }, done);
  }
}

export interface SimOptions {
  readonly seed: number;
  /** Longest delay of a message. */
  readonly delay_ms?: number;
  /** The dead are noticed this late at most. */
  readonly dead_ms?: number;
  /** So much later than it is asked for, what a node registers is found by messages: they come in on another thread. */
  readonly hop_ms?: number;
}

export class SimCluster {
  readonly clock = new SimClock();
  readonly random: Random;
  readonly nodes = new Map<NodeNum, SimNode>();
  /** When the last message of a link arrives. */
  readonly #links = new Map<string, number>();
  readonly #delay_ms: number;
  readonly #dead_ms: number;
  readonly hop_ms: number;
  messages = 0;
  /** Hears of every message as it is delivered, with its answer. */
  onMessage: (m: SimMessage, status: number) => void = () => {};

  constructor(options: SimOptions) {
    this.random = seededRandom(options.seed);
    for (let i = 0; i < 16; i++) this.random.u32();
    this.#delay_ms = options.delay_ms ?? 5;
    this.#dead_ms = options.dead_ms ?? 2000;
    this.hop_ms = options.hop_ms ?? 0;
  }

  below(n: number): number {
    return this.random.u32() % n;
  }

  /** A node whose heartbeat all others see, at once. */
  start(node_num: NodeNum): SimNode {
    const node = new SimNode(this, node_num);
    for (const other of this.nodes.values()) if (other.alive) node.live.add(other.node_num);
    node.live.add(node_num);
    this.nodes.set(node_num, node);
    for (const other of this.nodes.values()) {
      if (!other.alive || other === node) continue;
      other.live.add(node_num);
      for (const l of [...other.listeners].sort((a, b) => a.priority - b.priority)) l.up(node_num);
    }
    return node;
  }

  /** kill -9: nothing of it runs or is sent any more; the others notice, each in its time. */
  kill(node: SimNode): void {
    this.killUnnoticed(node);
    for (const other of this.nodes.values()) {
      if (!other.alive) continue;
      const err = this.below(2) === 0 ? -ENOTCONN : -EHOSTDOWN;
      const cut = this.below(200);
      const noticed = cut + this.below(this.#dead_ms);
      this.clock.after(err === -EHOSTDOWN ? noticed : cut, () => this.cut(other, node, err));
      this.clock.after(noticed, () => this.notice(other, node));
    }
  }

  /** kill -9, of which the others hear when a test says so (`notice`). What is sent to it meanwhile fails. */
  killUnnoticed(node: SimNode): void {
    node.alive = false;
    node.waiting.clear();
  }

  /** The connection from `other` to `node` is lost, with the answers that are on their way. */
  cut(other: SimNode, node: SimNode, err: number): void {
    for (const w of [...other.waiting]) {
      if (w.to !== node || !other.alive) continue;
      other.waiting.delete(w);
      w.done(err, 0);
    }
  }

  /** The heartbeat of `other` tells that `node` is dead. */
  notice(other: SimNode, node: SimNode): void {
    if (!other.alive || !other.live.delete(node.node_num)) return;
    this.cut(other, node, -EHOSTDOWN);
    for (const l of [...other.listeners].sort((a, b) => b.priority - a.priority)) l.down(node.node_num);
  }

  /** A node that stops as it should. What it has sent arrives; after that its connections are closed. */
  stop(node: SimNode): void {
    node.alive = false;
    for (const other of this.nodes.values()) {
      if (!other.alive || other === node) continue;
      this.clock.after(this.#delay_ms * 20, () => {
        if (!other.alive || this.nodes.get(node.node_num) !== node || !other.live.delete(node.node_num)) return;
        for (const w of [...other.waiting]) {
          if (w.to !== node) continue;
          other.waiting.delete(w);
          w.done(-ENOTCONN, 0);
        }
        for (const l of [...other.listeners].sort((a, b) => b.priority - a.priority)) l.down(node.node_num);
      });
    }
  }

  /** Whether every node that lives has noticed all deaths. */
  get settled(): boolean {
    const alive = [...this.nodes.values()].filter((n) => n.alive);
    return alive.every((n) => n.live.size === alive.length);
  }

  #later(from: NodeNum, to: NodeNum, run: () => void): void {
    const link = `${from}>${to}`;
    // Mostly fast, seldom very slow: races need both.
    const max = this.below(20) === 0 ? this.#delay_ms * 10 : this.#delay_ms;
    const now = this.clock.monotonic_ms();
    const at = Math.max(now + (this.below(1000) / 1000) * max, (this.#links.get(link) ?? 0) + 0.001);
    this.#links.set(link, at);
    this.clock.after(at - now, run);
  }

  send(from: SimNode, m: SimMessage, done: (err: number, status: number) => void): void {
    if (!from.alive) return;
    const to = this.nodes.get(m.to);
    if (to === undefined || !to.alive) {
      this.clock.after(this.below(3), () => {
        if (from.alive) done(-ENOTCONN, 0);
      });
      return;
    }
    const wait = { to, done };
    from.waiting.add(wait);
    const answer = (err: number, status: number): void => {
      this.#later(m.to, m.from, () => {
        // One that died before it could answer is noticed by `kill`.
        if (!from.alive || !from.waiting.delete(wait)) return;
        done(err, status);
      });
    };
    this.#later(m.from, m.to, () => {
      if (!to.alive) return;
      this.messages++;
      const entry = to.handlers.get(`${m.type}:${m.key >>> 0}`);
      if (entry === undefined || m.payload.length > entry.max_len) {
        answer(-ENOPROTOOPT, 0);
        return;
      }
      const result = entry.handler(m.payload, m.from);
      const reply = (status: number): void => {
        this.onMessage(m, status);
        answer(0, status | 0);
      };
      if (typeof result === "number") reply(result);
      else if (typeof result === "function") result(reply);
      else {
        reply(result.status);
        result.after();
      }
    });
  }
}
