/**
 * The cluster as a volume thread sees it. The connections and the heartbeat belong to the node thread, one each for all mounts of the
 * node; the lock manager runs on the volume thread, so that a lock that is mastered here costs no hop. What goes between the two
 * threads is batched: one post a turn, whatever it carries, because a hop costs 12 to 60 µs.
 *
 * With a lane (lane.ts) the messages of a domain go past the node thread; what is left for it are those that go to a node and not to a domain,
 * and the news of who lives and who can be reached.
 *
 * Order is part of the contract of O2net: messages to a node arrive in the order of the calls, a status comes before what its handler's
 * `after` sends. One stream each way keeps it, or one connection: a lane sends everything itself.
 */
import { DLM_MOD_KEY } from "../format/wire/dlm_constants.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import type { Lane, LaneStats } from "./lane.ts";
import type { MsgHandler, NodeListener, NodeNum, O2hb, O2net } from "./node.ts";

/** What a volume thread tells the node thread. */
export type ToNode =
  | {
      readonly t: "send";
      readonly id: number;
      readonly type: number;
      readonly key: number;
      readonly payload: Uint8Array;
      readonly to: NodeNum;
    }
  | { readonly t: "register"; readonly type: number; readonly key: number; readonly max_len: number }
  | { readonly t: "unregister"; readonly type: number; readonly key: number }
  /** What came before is done: answered by "done". */
  | { readonly t: "registered"; readonly id: number }
  | { readonly t: "answer"; readonly id: number; readonly status: number }
  | { readonly t: "stats"; readonly node: NodeNum; readonly stats: LaneStats }
  /** A connection was lost with messages of the lane under way. */
  | { readonly t: "lost"; readonly node: NodeNum; readonly conn: number };

/** What a node that joins a domain must have as those in it do. */
export interface Members {
  readonly nodes: readonly { readonly num: NodeNum; readonly ipv4_port: number; readonly ipv4_address: number }[];
  /** Regions of the global heartbeat. */
  readonly regions: readonly string[];
}

/** What the node thread tells a volume thread. */
export type FromNode =
  | { readonly t: "done"; readonly id: number; readonly err: number; readonly status: number }
  | {
      readonly t: "message";
      readonly id: number;
      readonly type: number;
      readonly key: number;
      readonly payload: Uint8Array;
      readonly from: NodeNum;
    }
  | { readonly t: "up" | "down"; readonly node: NodeNum }
  | { readonly t: "members"; readonly members: Members }
  /** As PeerWatcher (tcp.ts). */
  | { readonly t: "reach"; readonly node: NodeNum; readonly conn: number; readonly err: number };

const keyOf = (type: number, key: number): string => `${type}.${key >>> 0}`;

/** The volume thread's half. `post` is called at most once a turn, from `flush`. */
export class ClusterClient implements O2net, O2hb {
  readonly node_num: NodeNum;
  /** Nodes or regions have come or gone. */
  onMembers: (members: Members) => void = () => {};
  readonly #post: (batch: readonly ToNode[]) => void;
  readonly #wake: () => void;
  readonly #live: Set<NodeNum>;
  readonly #handlers = new Map<string, MsgHandler>();
  readonly #sent = new Map<number, (err: number, status: number) => void>();
  #listeners: NodeListener[] = [];
  readonly #lane: Lane | null;
  #batch: ToNode[] = [];
  #next = 1;

  /** `wake` asks for a call of `flush` in this turn. `live`: whose heartbeat is seen at this moment. */
  constructor(
    node_num: NodeNum,
    live: Iterable<NodeNum>,
    post: (batch: readonly ToNode[]) => void,
    wake: () => void,
    lane: Lane | null = null,
  ) {
    this.node_num = node_num;
    this.#live = new Set(live);
    this.#post = post;
    this.#wake = wake;
    this.#lane = lane;
    if (lane !== null) lane.onLoss = (node, conn) => this.#say({ t: "lost", node, conn });
  }

  #say(m: ToNode): void {
    if (this.#batch.length === 0) this.#wake();
    this.#batch.push(m);
  }

  /** Hands over what this turn has to say. */
  flush(): void {
    this.#lane?.flush();
    if (this.#batch.length === 0) return;
    const batch = this.#batch;
    this.#batch = [];
    this.#post(batch);
  }

  send(type: number, key: number, payload: Uint8Array, to: NodeNum, done: (err: number, status: number) => void): void {
    if (this.#lane !== null) {
      this.#lane.send(type, key, payload, to, done);
      return;
    }
    const id = this.#next++;
    this.#sent.set(id, done);
    // A copy: the sender may use its buffer again, and this one leaves at the end of the turn.
    this.#say({ t: "send", id, type, key, payload: payload.slice(), to });
  }

  register(type: number, key: number, max_len: number, handler: MsgHandler): () => void {
    if (this.#lane !== null && key !== DLM_MOD_KEY) return this.#lane.register(type, key, max_len, handler);
    const name = keyOf(type, key);
    assert(!this.#handlers.has(name), `message ${type} of key ${key} has a handler already`);
    this.#handlers.set(name, handler);
    this.#say({ t: "register", type, key, max_len });
    return () => {
      if (this.#handlers.get(name) !== handler) return;
      this.#handlers.delete(name);
      this.#say({ t: "unregister", type, key });
    };
  }

  whenRegistered(done: () => void): void {
    const id = this.#next++;
    this.#sent.set(id, done);
    this.#say({ t: "registered", id });
  }

  liveNodes(): ReadonlySet<NodeNum> {
    return this.#live;
  }

  onNodes(listener: NodeListener): () => void {
    this.#listeners = [...this.#listeners, listener].sort((a, b) => a.priority - b.priority);
    return () => {
      this.#listeners = this.#listeners.filter((l) => l !== listener);
    };
  }

  /** What came from the node thread, in its order. */
  heard(batch: readonly FromNode[]): void {
    for (const m of batch) this.#hear(m);
  }

  /** Tells the node thread what the lane has done. */
  postStats(): void {
    if (this.#lane !== null) for (const [node, stats] of this.#lane.takeStats()) this.#say({ t: "stats", node, stats });
  }

  #hear(m: FromNode): void {
    switch (m.t) {
      case "done": {
        const done = this.#sent.get(m.id);
        this.#sent.delete(m.id);
        done?.(m.err, m.status);
        break;
      }
      case "message": {
        const handler = this.#handlers.get(keyOf(m.type, m.key));
        // Unregistered while the message was on its way between the threads.
        const answer = handler === undefined ? -Errno.ENOPROTOOPT : handler(m.payload, m.from);
        const say = (status: number): void => this.#say({ t: "answer", id: m.id, status });
        if (typeof answer === "number") say(answer);
        else if (typeof answer === "function") answer(say);
        else {
          say(answer.status);
          answer.after();
        }
        break;
      }
      case "reach":
        this.#lane?.reach(m.node, m.conn, m.err);
        break;
      case "members":
        this.onMembers(m.members);
        break;
      case "up":
        this.#live.add(m.node);
        for (const l of this.#listeners) l.up(m.node);
        break;
      case "down":
        this.#live.delete(m.node);
        for (const l of this.#listeners) l.down(m.node);
        break;
    }
  }
}

/** What the node thread knows of the connections (O2netStack). */
export interface Peers {
  watchPeers(watch: (node: NodeNum, conn: number, err: number) => void): () => void;
  addStats(node: NodeNum, more: LaneStats): void;
  messagesLost(node: NodeNum, conn: number): void;
}

/** The node thread's half: carries out what one volume thread asks for. */
export class ClusterServer {
  readonly #net: O2net;
  readonly #post: (batch: readonly FromNode[]) => void;
  readonly #defer: (flush: () => void) => void;
  readonly #registered = new Map<string, () => void>();
  readonly #answers = new Map<number, (status: number) => void>();
  readonly #off: (() => void)[];
  readonly #peers: Peers | null;
  #batch: FromNode[] = [];
  #next = 1;
  #closed = false;

  /**
   * `defer` runs its argument once this turn of the event loop has nothing more to add (queueMicrotask, setImmediate). `peers`: the
   * volume thread has a lane.
   */
  constructor(
    net: O2net,
    hb: O2hb,
    post: (batch: readonly FromNode[]) => void,
    defer: (flush: () => void) => void,
    peers: Peers | null = null,
  ) {
    this.#net = net;
    this.#post = post;
    this.#defer = defer;
    this.#peers = peers;
    this.#off = [
      hb.onNodes({
        priority: Number.MAX_SAFE_INTEGER,
        up: (node) => this.#say({ t: "up", node }),
        down: (node) => this.#say({ t: "down", node }),
      }),
    ];
    if (peers !== null)
      this.#off.push(peers.watchPeers((node, conn, err) => this.#say({ t: "reach", node, conn, err })));
  }

  #say(m: FromNode): void {
    if (this.#closed) return;
    this.#batch.push(m);
    if (this.#batch.length > 1) return;
    this.#defer(() => {
      const batch = this.#batch;
      this.#batch = [];
      if (!this.#closed) this.#post(batch);
    });
  }

  /** Nodes or regions have come or gone. */
  tellMembers(members: Members): void {
    this.#say({ t: "members", members });
  }

  heard(batch: readonly ToNode[]): void {
    for (const m of batch) this.#hear(m);
  }

  #hear(m: ToNode): void {
    switch (m.t) {
      case "send":
        this.#net.send(m.type, m.key, m.payload, m.to, (err, status) =>
          this.#say({ t: "done", id: m.id, err, status }),
        );
        break;
      case "register": {
        const { type, key } = m;
        const off = this.#net.register(type, key, m.max_len, (payload, from) => {
          const id = this.#next++;
          // A copy: the receive buffer is used again.
          this.#say({ t: "message", id, type, key, payload: payload.slice(), from });
          return (answer) => void this.#answers.set(id, answer);
        });
        this.#registered.set(keyOf(type, key), off);
        break;
      }
      case "unregister": {
        const name = keyOf(m.type, m.key);
        this.#registered.get(name)?.();
        this.#registered.delete(name);
        break;
      }
      case "registered":
        this.#net.whenRegistered(() => this.#say({ t: "done", id: m.id, err: 0, status: 0 }));
        break;
      case "answer": {
        const answer = this.#answers.get(m.id);
        this.#answers.delete(m.id);
        answer?.(m.status);
        break;
      }
      case "stats":
        this.#peers?.addStats(m.node, m.stats);
        break;
      case "lost":
        this.#peers?.messagesLost(m.node, m.conn);
        break;
    }
  }

  /** The volume thread has ended: what waits for it is answered as if nobody had ever been there. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const off of this.#off) off();
    for (const off of this.#registered.values()) off();
    this.#registered.clear();
    for (const answer of this.#answers.values()) answer(-Errno.ENOPROTOOPT);
    this.#answers.clear();
  }
}
