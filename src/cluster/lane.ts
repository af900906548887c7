/**
 * o2net on a volume thread: its messages go from here to the connection and come from there, past the main thread, which has made the
 * connection and says when it is lost (tcp.ts, watchPeers). What goes wrong without it: two more threads on the way of every message.
 *
 * Messages are numbered per lane, so a status finds the one who waits for it. A connection whose first messages are faster than the news of
 * it is unknown for a moment: they wait. One that is lost is known to be: what it still brings is dropped, as what never arrived.
 */
import { O2NET_MAX_PAYLOAD_BYTES, O2NET_MSG_MAGIC, O2NET_MSG_STATUS_MAGIC, O2netMsg } from "../format/wire/o2net.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { LANE_SHIFT, type LaneWire } from "../lib/transport.ts";
import { Handlers, messageText, sysErrToErrno } from "./handlers.ts";
import type { MsgHandler, NodeNum } from "./node.ts";
import { OutBuffer } from "./tcp_stream.ts";

/** Sums since they were last taken. */
export interface LaneStats {
  sends: number;
  wait_ms: number;
  recvs: number;
  process_ms: number;
}

type Done = (err: number, status: number) => void;

interface Waiting {
  readonly msg_type: number;
  readonly key: number;
  readonly payload: Uint8Array;
  readonly done: Done;
}

class Peer {
  /** 0: none. */
  conn = 0;
  /** Of all sends; undefined until the main thread has said how it is. */
  err: number | undefined;
  readonly out = new OutBuffer();
  readonly queue: Waiting[] = [];
  stats: LaneStats = noStats();
}

interface InFlight {
  readonly node: NodeNum;
  readonly done: Done;
  readonly sent_ms: number;
}

interface Early {
  readonly conn: number;
  readonly message: Uint8Array;
}

const noStats = (): LaneStats => ({ sends: 0, wait_ms: 0, recvs: 0, process_ms: 0 });

/** So much may wait for the news of its connection; then nothing more is taken, from nobody. */
const EARLY_MAX_BYTES = 256 << 10;
const GONE_MAX = 64;
const NUMBER_MASK = (1 << LANE_SHIFT) - 1;

export class Lane {
  readonly #node_num: NodeNum;
  readonly #wire: LaneWire;
  readonly #wake: () => void;
  readonly #handlers = new Handlers();
  readonly #peers = new Map<NodeNum, Peer>();
  /** Whose connection it is. */
  readonly #conns = new Map<number, NodeNum>();
  /** Connections that were lost, the last of them: what an older one still has on its way waits for news that never come, as above. */
  readonly #gone = new Set<number>();
  /** Messages of connections that were not heard of yet. */
  #early: Early[] = [];
  #early_bytes = 0;
  readonly #in_flight: (InFlight | null)[] = [];
  readonly #free: number[] = [];
  #failed: { readonly done: Done; readonly err: number }[] = [];
  /** Messages to a node were under way when its connection was lost, though it lives: the main thread has to know (tcp.ts, messagesLost). */
  onLoss: (node: NodeNum, conn: number) => void = () => {};

  /** `wake` asks for a call of `flush` in this turn. */
  constructor(node_num: NodeNum, wire: LaneWire, wake: () => void) {
    this.#node_num = node_num;
    this.#wire = wire;
    this.#wake = wake;
  }

  #peer(node: NodeNum): Peer {
    let peer = this.#peers.get(node);
    if (peer === undefined) this.#peers.set(node, (peer = new Peer()));
    return peer;
  }

  // What the main thread says ------------------------------------------------------------------------------------------
  /** How `node` can be reached from now on (PeerWatcher). */
  reach(node: NodeNum, conn: number, err: number): void {
    const peer = this.#peer(node);
    const before = peer.conn;
    if (before !== 0 && before !== conn && this.#lost(node, peer) > 0 && err === 0) this.onLoss(node, before);
    peer.err = err;
    if (err !== 0) for (const w of peer.queue.splice(0)) this.#fail(w.done, err);
    if (conn === 0 || peer.conn === conn) return;
    peer.conn = conn;
    this.#conns.set(conn, node);
    this.#wire.watch(conn, true);
    for (const w of peer.queue.splice(0)) this.#transmit(node, peer, w.msg_type, w.key, w.payload, w.done);
    for (const e of this.#takeEarly((c) => c === conn)) this.received(conn, e.message);
  }

  #takeEarly(of: (conn: number) => boolean): readonly Early[] {
    const taken: Early[] = [];
    const left: Early[] = [];
    for (const e of this.#early) (of(e.conn) ? taken : left).push(e);
    this.#early = left;
    for (const e of taken) this.#early_bytes -= e.message.length;
    return taken;
  }

  /** Nothing more is to be received now: too much waits for the news of its connection. */
  get isFull(): boolean {
    // The main thread may have closed what it did not want, and then says nothing of it.
    if (this.#early_bytes > EARLY_MAX_BYTES) this.#takeEarly((conn) => !this.#wire.isOpen(conn));
    return this.#early_bytes > EARLY_MAX_BYTES;
  }

  /** How many messages had no status yet. */
  #lost(node: NodeNum, peer: Peer): number {
    let lost = 0;
    this.#wire.watch(peer.conn, false);
    this.#conns.delete(peer.conn);
    this.#gone.add(peer.conn);
    if (this.#gone.size > GONE_MAX) this.#gone.delete(this.#gone.values().next().value!);
    peer.conn = 0;
    peer.out.take();
    for (const [num, waiting] of this.#in_flight.entries()) {
      if (waiting?.node !== node) continue;
      this.#in_flight[num] = null;
      this.#free.push(num);
      this.#fail(waiting.done, -Errno.EHOSTDOWN);
      lost++;
    }
    return lost;
  }

  // Sending --------------------------------------------------------------------------------------------------------------
  /** As O2net.send. */
  send(msg_type: number, key: number, payload: Uint8Array, to: NodeNum, done: Done): void {
    const peer = this.#peer(to);
    if (payload.length > O2NET_MAX_PAYLOAD_BYTES) this.#fail(done, -Errno.EINVAL);
    else if (to === this.#node_num) this.#fail(done, -Errno.ELOOP);
    else if (peer.err !== undefined && peer.err !== 0) this.#fail(done, peer.err);
    else if (peer.conn === 0) peer.queue.push({ msg_type, key, payload: payload.slice(), done });
    else this.#transmit(to, peer, msg_type, key, payload, done);
  }

  #transmit(node: NodeNum, peer: Peer, msg_type: number, key: number, payload: Uint8Array, done: Done): void {
    const num = this.#free.pop() ?? this.#in_flight.length;
    assert(num <= NUMBER_MASK, "more messages are in flight than have numbers");
    this.#in_flight[num] = { node, done, sent_ms: this.#wire.now_ms() };
    const number = this.#wire.number * 2 ** LANE_SHIFT + num;
    if (mlogOn(ML.MSG)) mlog(ML.MSG, `to node ${node}: ${messageText(msg_type, key, number)}, ${payload.length} bytes`);
    peer.out.message(O2NET_MSG_MAGIC, msg_type, key, number, [payload], payload.length);
    this.#wake();
  }

  #fail(done: Done, err: number): void {
    this.#failed.push({ done, err });
    this.#wake();
  }

  /** Sends what this turn has gathered, and tells those whose messages failed. */
  flush(): void {
    while (this.#failed.length > 0) for (const f of this.#failed.splice(0)) f.done(f.err, 0);
    for (const peer of this.#peers.values())
      if (peer.out.length > 0 && peer.conn !== 0) this.#wire.send(peer.conn, peer.out.take());
  }

  // Receiving ------------------------------------------------------------------------------------------------------------
  /** Registers what answers messages with `key`, which come to this lane from the first one on. */
  register(msg_type: number, key: number, max_len: number, handler: MsgHandler): () => void {
    const is_new = !this.#handlers.hasKey(key);
    const end = this.#handlers.register(msg_type, key, max_len, handler);
    if (is_new) this.#wire.divert(key, true);
    return () => {
      end();
      if (!this.#handlers.hasKey(key)) this.#wire.divert(key, false);
    };
  }

  /** One message, with its header; the memory may be used again after the call. */
  received(conn: number, message: Uint8Array): void {
    const node = this.#conns.get(conn);
    if (node === undefined) {
      if (this.#gone.has(conn)) return;
      this.#early.push({ conn, message: message.slice() });
      this.#early_bytes += message.length;
      return;
    }
    const head = O2netMsg.from(message);
    const { msg_type, key, msg_num } = head;
    const is_status = head.magic === O2NET_MSG_STATUS_MAGIC;
    if (mlogOn(ML.MSG))
      mlog(
        ML.MSG,
        `from node ${node}: ${is_status ? `status ${head.sys_status} ${head.status | 0} of ${msg_num}` : `${messageText(msg_type, key, msg_num)}, ${message.length - O2netMsg.size} bytes`}`,
      );
    if (is_status) this.#complete(node, msg_num & NUMBER_MASK, sysErrToErrno(head.sys_status), head.status | 0);
    else {
      const peer = this.#peer(node);
      const since_ms = this.#wire.now_ms();
      this.#handlers.dispatch(msg_type, key, message.subarray(O2netMsg.size), node, (sys, status) => {
        // Answered later, when the connection may be another.
        if (peer.conn !== conn) return;
        if (mlogOn(ML.MSG)) mlog(ML.MSG, `to node ${node}: status ${sys} ${status} of ${msg_num}`);
        peer.out.status(O2NET_MSG_STATUS_MAGIC, msg_type, key, msg_num, sys, status);
        peer.stats.recvs++;
        peer.stats.process_ms += this.#wire.now_ms() - since_ms;
        this.#wake();
      });
    }
  }

  #complete(node: NodeNum, num: number, err: number, status: number): void {
    const waiting = this.#in_flight[num];
    // A status that nobody waits for, or that another node was asked for, is dropped.
    if (waiting === undefined || waiting === null || waiting.node !== node) return;
    this.#in_flight[num] = null;
    this.#free.push(num);
    const { stats } = this.#peer(waiting.node);
    stats.sends++;
    stats.wait_ms += this.#wire.now_ms() - waiting.sent_ms;
    waiting.done(err, err === 0 ? status : 0);
  }

  /** What was counted since the last call, of each node. */
  *takeStats(): Generator<readonly [NodeNum, LaneStats]> {
    for (const [node, peer] of this.#peers) {
      const { stats } = peer;
      if (stats.sends + stats.recvs === 0) continue;
      peer.stats = noStats();
      yield [node, stats];
    }
  }

  close(): void {
    for (const conn of this.#conns.keys()) this.#wire.watch(conn, false);
    this.#conns.clear();
  }
}
