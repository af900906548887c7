/**
 * o2net, protocol 11 (cluster/tcp.c): one TCP connection to each live node, messages that are answered with a status, and the
 * knowledge of who can be reached. What would go wrong without its rules: two connections to one node reorder messages; a message that is
 * sent to a node which died waits for ever; nodes whose time-outs differ declare each other dead at different times.
 *
 * A connection's life. The node with the higher number connects, from its configured address, once the other's heartbeat lives; the
 * lower accepts only nodes of the configuration that heartbeat. Both send a handshake. A connection that had been valid and ends while
 * a message of ours has no status is not made again (-ENOTCONN to all sends) until the other's heartbeat goes and comes: nobody knows what
 * of it was done, and the lock manager has no way to ask. Either the other died, or one of the two has to go: by the quorum, or where that
 * lets both live, the higher number. (The kernel's makes it again after the idle time-out, and what was lost then may be waited for for
 * ever.) One that was idle when it ended, or never became valid, is tried again. Silence does not close a connection, it only asks the quorum.
 *
 * No time, socket or thread of its own: clock and transport are handed in. Read next: tcp_stream.ts, quorum.ts.
 */
import {
  O2NET_MAX_PAYLOAD_BYTES,
  O2NET_MSG_KEEP_REQ_MAGIC,
  O2NET_MSG_KEEP_RESP_MAGIC,
  O2NET_MSG_MAGIC,
  O2NET_MSG_STATUS_MAGIC,
  O2NET_PROTOCOL_VERSION,
  O2netHandshake,
  type O2netMsg,
} from "../format/wire/o2net.ts";
import type { Clock } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import type { Connection, Listener, Transport } from "../lib/transport.ts";
import { Handlers, messageText, sysErrToErrno } from "./handlers.ts";
import type { LaneStats } from "./lane.ts";
import { type HeartbeatNet, type MsgHandler, type NodeNum, type O2hb, O2NM_MAX_NODES } from "./node.ts";
import { maxWriteTimeoutMs, type NodeConfig, type NodeManager, quorumDelayMs, type Timeouts } from "./nodemanager.ts";
import type { QuorumEvents } from "./quorum.ts";
import { MessageReader, OutBuffer } from "./tcp_stream.ts";

/** Lower runs first; the lock manager's listeners come behind (O2NET_HB_PRI). */
export const O2NET_HB_PRI = 0x1;

/** While so much waits to be sent, nothing more is read from that node: it does not take its answers. */
const HELD_BYTES_MAX = 4 << 20;

/** While another thread owes a node so many answers, nothing more is read from it either. */
const UNANSWERED_MAX = 1000;

/** A timer that fires so much too late tells of a pause of this thread. */
const LATE_MS = 1000;

const STATS_STR_VERSION = 1;

export type Done = (err: number, status: number) => void;

interface Waiting {
  readonly msg_type: number;
  readonly key: number;
  readonly payload: readonly Uint8Array[];
  readonly len: number;
  readonly done: Done;
  readonly since_ms: number;
}

/** What the kernel shows in debugfs as o2net/stats (sc_show_sock_stats); times are sums. */
export interface NetStats {
  /** Messages that were answered. */
  sends: number;
  /** Waiting for the connection. */
  acquiry_ms: number;
  /** From the call to the write of the turn's messages. */
  send_ms: number;
  /** From there to the status. */
  wait_ms: number;
  recvs: number;
  /** From the arrival of a message to its status. */
  process_ms: number;
}

/**
 * How a node can be reached: `err` 0 and the number of the connection (Connection.number); 0 and 0 while there is none yet; or the errno of
 * all sends.
 */
export type PeerWatcher = (node: NodeNum, conn: number, err: number) => void;

export interface PeerStatus {
  node: NodeNum;
  name: string;
  state: "connected" | "connecting" | "down" | "failed";
  /** Messages that wait for a connection, and for their status. */
  queued: number;
  in_flight: number;
  sent: number;
  received: number;
  /** Ms since the last message, of a connection that stands. */
  silent_ms: number | undefined;
  /** Since the connection was made. */
  stats: NetStats;
  /** Why the last attempt failed: a time-out that differs, a refused connection. */
  last_error: string;
  /** It speaks another version or has other time-outs: trying again is in vain. */
  is_refused: boolean;
}

/** One connection (o2net_sock_container). */
class SockContainer {
  readonly conn: Connection;
  readonly node: NodeConfig;
  readonly reader: MessageReader;
  readonly out = new OutBuffer();
  handshake_ok = false;
  /** The connection is being shut: nothing that still comes in counts. */
  is_shut = false;
  /** The transport's buffers are full; what is gathered stays with us until they drain. */
  is_blocked = false;
  is_paused = false;
  flush_queued = false;
  unanswered = 0;
  last_rx_ms = 0;
  /** Messages gathered for the next write: how many, and the sum of the times at which they came. */
  gathered = 0;
  gathered_ms = 0;
  cancel_idle: () => void = () => {};
  cancel_keepalive: () => void = () => {};

  constructor(conn: Connection, node: NodeConfig, reader: MessageReader) {
    this.conn = conn;
    this.node = node;
    this.reader = reader;
  }
}

/** What is known of another node (o2net_node). */
class PeerNode {
  readonly num: NodeNum;
  sc: SockContainer | null = null;
  is_valid = false;
  valid_since_ms = 0;
  /** Sends fail with it at once; until a heartbeat is seen, and after a connection was lost. */
  persistent_error = -Errno.ENOTCONN;
  /** An idle time-out has been reported to the quorum. */
  has_timed_out = false;
  /** A connection that had been valid has ended, the other's heartbeat goes on, and there is no other connection yet. */
  is_lost = false;
  /** The newest connection that was valid, and the newest of those that ended before the other's heartbeat went, or came. Numbers ascend. */
  last_conn = 0;
  forgotten_conn = 0;
  /** With it a message of ours that has no status: it is not made again. */
  is_lossy = false;
  /** The other, with the higher number, has had its time to go. */
  has_waited = false;
  last_connect_attempt_ms = Number.NEGATIVE_INFINITY;
  readonly queue: Waiting[] = [];
  /** Sends that wait for their status, by msg_num; `free` has the numbers that may be used again. */
  readonly in_flight: (Done | null)[] = [];
  readonly free: number[] = [];
  /** When each was sent. */
  readonly sent_ms: number[] = [];
  sent = 0;
  received = 0;
  /** `wait_ms` includes `send_ms` here. */
  stats: NetStats = noStats();
  last_error = "";
  is_refused = false;
  cancel_connect: (() => void) | null = null;
  cancel_expired: (() => void) | null = null;
  cancel_still_up: (() => void) | null = null;

  constructor(num: NodeNum) {
    this.num = num;
  }

  takeNumber(done: Done, now_ms: number): number {
    const num = this.free.pop() ?? this.in_flight.length;
    this.in_flight[num] = done;
    this.sent_ms[num] = now_ms;
    return num;
  }
}

const noStats = (): NetStats => ({ sends: 0, acquiry_ms: 0, send_ms: 0, wait_ms: 0, recvs: 0, process_ms: 0 });

const nodeText = (n: NodeConfig): string => `node ${n.name} (num ${n.num}) at ${n.ipv4_address}:${n.ipv4_port}`;

export interface O2netDeps {
  readonly nodes: NodeManager;
  readonly hb: O2hb;
  readonly quorum: QuorumEvents;
  readonly transport: Transport;
  readonly clock: Clock;
}

export class O2netStack implements HeartbeatNet {
  readonly #nodes: NodeManager;
  readonly #hb: O2hb;
  readonly #quorum: QuorumEvents;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #handlers = new Handlers();
  readonly #peers: PeerNode[] = [];
  readonly #ends: (() => void)[] = [];
  #listener: Listener | null = null;
  #is_listening = false;
  /** Callers whose message failed without having been answered; told at the end of the turn. */
  #failed: { done: Done; err: number }[] = [];
  readonly #watchers = new Set<PeerWatcher>();

  constructor(deps: O2netDeps) {
    this.#nodes = deps.nodes;
    this.#hb = deps.hb;
    this.#quorum = deps.quorum;
    this.#transport = deps.transport;
    this.#clock = deps.clock;
    for (let num = 0; num < O2NM_MAX_NODES; num++) this.#peers.push(new PeerNode(num));
    deps.nodes.connected_peers = () => this.connectedPeers();
  }

  get node_num(): NodeNum {
    const num = this.#nodes.this_node;
    assert(num !== undefined, "o2net: no local node is set");
    return num;
  }

  // ---- starting and stopping -----------------------------------------------------------------------------------------

  /** Listens on this node's address (o2net_start_listening). `done` gets "" or what failed, with the remedy. */
  startListening(done: (failure: string) => void): void {
    assert(this.#listener === null, "o2net listens already");
    const me = this.#nodes.node(this.node_num)!;
    this.#listener = this.#transport.listen(me.ipv4_address, me.ipv4_port, {
      ready: () => {
        if (this.#listener === null) return;
        this.#is_listening = true;
        this.#ends.push(
          this.#hb.onNodes({
            priority: O2NET_HB_PRI,
            up: (node) => this.#hbNodeUpCb(node),
            down: (node) => this.#hbNodeDownCb(node),
          }),
          this.#nodes.onNodes({
            added: (node) => this.#addedNode(node.num),
            removed: (node) => this.#disconnectNode(node.num),
          }),
        );
        this.#quorum.connUp(this.node_num);
        for (const node of this.#hb.liveNodes()) {
          this.#quorum.hbUp(node);
          if (node !== this.node_num) this.#hbNodeUp(this.#peers[node]!);
        }
        done("");
      },
      failed: (why) => {
        this.#listener = null;
        done(listenFailure(why, me));
      },
      accepted: (conn) => this.#acceptOne(conn),
    });
  }

  /** o2net_stop_listening */
  stopListening(): void {
    if (this.#listener === null) return;
    this.#listener.close();
    this.#listener = null;
    for (const end of this.#ends.splice(0)) end();
    if (this.#is_listening) {
      this.#is_listening = false;
      // This node first: what does not heartbeat decides nothing.
      const live = this.#hb.liveNodes();
      if (live.has(this.node_num)) this.#quorum.hbDown(this.node_num);
      for (const node of live) if (node !== this.node_num) this.#quorum.hbDown(node);
      for (const peer of this.#peers) if (peer.num !== this.node_num) this.#disconnectNode(peer.num);
      this.#quorum.connErr(this.node_num);
    }
  }

  // ---- sending -------------------------------------------------------------------------------------------------------

  send(msg_type: number, key: number, payload: Uint8Array, to: NodeNum, done: Done): void {
    this.sendVec(msg_type, key, [payload], to, done);
  }

  /**
   * Sends several pieces as one message (o2net_send_message_vec). The pieces are copied before this returns, and `done` never runs before
   * that. -ESRCH while o2net does not listen, -EINVAL for what is too long, -ELOOP to this node itself.
   */
  sendVec(msg_type: number, key: number, payload: readonly Uint8Array[], to: NodeNum, done: Done): void {
    let len = 0;
    for (const part of payload) len += part.length;
    const peer = this.#peers[to];
    if (!this.#is_listening) this.#fail(done, -Errno.ESRCH);
    else if (peer === undefined || payload.length === 0 || len > O2NET_MAX_PAYLOAD_BYTES)
      this.#fail(done, -Errno.EINVAL);
    else if (to === this.node_num) this.#fail(done, -Errno.ELOOP);
    else if (peer.persistent_error !== 0) this.#fail(done, peer.persistent_error);
    else if (!peer.is_valid) {
      const since_ms = this.#clock.monotonic_ms();
      peer.queue.push({ msg_type, key, payload: payload.map((part) => part.slice()), len, done, since_ms });
    } else this.#transmit(peer, msg_type, key, payload, len, done);
  }

  #transmit(
    peer: PeerNode,
    msg_type: number,
    key: number,
    payload: readonly Uint8Array[],
    len: number,
    done: Done,
  ): void {
    const sc = peer.sc!;
    const now_ms = this.#clock.monotonic_ms();
    const msg_num = peer.takeNumber(done, now_ms);
    if (mlogOn(ML.MSG)) mlog(ML.MSG, `to node ${peer.num}: ${messageText(msg_type, key, msg_num)}, ${len} bytes`);
    sc.out.message(O2NET_MSG_MAGIC, msg_type, key, msg_num, payload, len);
    peer.sent++;
    sc.gathered++;
    sc.gathered_ms += now_ms;
    this.#flushLater(sc);
  }

  #fail(done: Done, err: number): void {
    this.#failed.push({ done, err });
    if (this.#failed.length > 1) return;
    this.#transport.endOfTurn(() => {
      const failed = this.#failed;
      this.#failed = [];
      for (const f of failed) f.done(f.err, 0);
    });
  }

  #flushLater(sc: SockContainer): void {
    if (sc.flush_queued || sc.is_blocked) return;
    sc.flush_queued = true;
    this.#transport.endOfTurn(() => this.#flush(sc));
  }

  #flush(sc: SockContainer): void {
    sc.flush_queued = false;
    if (sc.is_shut || sc.is_blocked || sc.out.length === 0) return;
    if (!sc.conn.write(sc.out.take())) sc.is_blocked = true;
    if (sc.gathered === 0) return;
    const { stats } = this.#peers[sc.node.num]!;
    stats.send_ms += sc.gathered * this.#clock.monotonic_ms() - sc.gathered_ms;
    sc.gathered = 0;
    sc.gathered_ms = 0;
  }

  #drained(sc: SockContainer): void {
    sc.is_blocked = false;
    this.#flush(sc);
    this.#resume(sc);
  }

  #resume(sc: SockContainer): void {
    if (!sc.is_paused || sc.is_blocked || sc.unanswered > UNANSWERED_MAX / 2) return;
    sc.is_paused = false;
    sc.conn.resume();
  }

  // ---- handlers ------------------------------------------------------------------------------------------------------

  /** Throws FsError: EINVAL (no type, a max_len that no message has), EEXIST. */
  register(msg_type: number, key: number, max_len: number, func: MsgHandler): () => void {
    return this.#handlers.register(msg_type, key, max_len, func);
  }

  whenRegistered(done: () => void): void {
    done();
  }

  // ---- receiving -----------------------------------------------------------------------------------------------------

  /** o2net_process_message; false ends the connection. */
  #processMessage(sc: SockContainer, msg: O2netMsg, payload: Uint8Array): boolean {
    const peer = this.#peers[sc.node.num]!;
    this.#postponeIdle(peer, sc);
    const { magic, msg_type, key, msg_num } = msg;
    switch (magic) {
      case O2NET_MSG_STATUS_MAGIC:
        this.#completeNsw(peer, msg_num, sysErrToErrno(msg.sys_status), msg.status | 0);
        break;
      case O2NET_MSG_KEEP_REQ_MAGIC:
        sc.out.keepalive(O2NET_MSG_KEEP_RESP_MAGIC);
        this.#flushLater(sc);
        break;
      case O2NET_MSG_KEEP_RESP_MAGIC:
        break;
      case O2NET_MSG_MAGIC:
        peer.received++;
        this.#dispatch(sc, msg_type, key, msg_num, payload);
        break;
      default:
        mlog(ML.ERROR, `o2net: bad magic 0x${magic.toString(16)} from ${nodeText(sc.node)}`);
        return false;
    }
    return !sc.is_shut;
  }

  #dispatch(sc: SockContainer, msg_type: number, key: number, msg_num: number, payload: Uint8Array): void {
    const since_ms = this.#clock.monotonic_ms();
    if (mlogOn(ML.MSG))
      mlog(ML.MSG, `from node ${sc.node.num}: ${messageText(msg_type, key, msg_num)}, ${payload.length} bytes`);
    sc.unanswered++;
    this.#handlers.dispatch(msg_type, key, payload, sc.node.num, (sys, status) =>
      this.#answer(sc, msg_type, key, msg_num, sys, status, since_ms),
    );
  }

  #answer(
    sc: SockContainer,
    msg_type: number,
    key: number,
    msg_num: number,
    sys: number,
    status: number,
    since_ms: number,
  ): void {
    sc.unanswered--;
    if (sc.is_shut) return;
    const { stats } = this.#peers[sc.node.num]!;
    stats.recvs++;
    stats.process_ms += this.#clock.monotonic_ms() - since_ms;
    if (mlogOn(ML.MSG)) mlog(ML.MSG, `to node ${sc.node.num}: status ${sys} ${status} of ${msg_num}`);
    sc.out.status(O2NET_MSG_STATUS_MAGIC, msg_type, key, msg_num, sys, status);
    this.#flushLater(sc);
    this.#resume(sc);
  }

  /** o2net_complete_nsw; a number that nobody waits for is dropped. */
  #completeNsw(peer: PeerNode, msg_num: number, err: number, status: number): void {
    if (mlogOn(ML.MSG)) mlog(ML.MSG, `from node ${peer.num}: status ${err} ${status} of ${msg_num}`);
    const done = peer.in_flight[msg_num];
    if (done === undefined || done === null) return;
    peer.in_flight[msg_num] = null;
    peer.free.push(msg_num);
    peer.stats.sends++;
    peer.stats.wait_ms += this.#clock.monotonic_ms() - peer.sent_ms[msg_num]!;
    done(err, err === 0 ? status : 0);
  }

  #received(sc: SockContainer, bytes: Uint8Array): void {
    if (sc.is_shut) return;
    const end = sc.reader.push(bytes);
    if (end === "stop") {
      // Not for good, so that a handshake that failed can be tried again.
      this.#ensureShutdown(sc, 0);
      return;
    }
    this.#flush(sc);
    const is_full = sc.out.length > HELD_BYTES_MAX || sc.unanswered > UNANSWERED_MAX;
    if (is_full && !sc.is_paused) {
      sc.is_paused = true;
      sc.conn.pause();
    }
  }

  /** o2net_check_handshake */
  #checkHandshake(sc: SockContainer, hand: O2netHandshake): boolean {
    const peer = this.#peers[sc.node.num]!;
    const t = this.#nodes.timeouts;
    if (hand.protocol_version !== O2NET_PROTOCOL_VERSION) {
      return this.#refuse(
        sc,
        `advertised net protocol version ${hand.protocol_version} but ${O2NET_PROTOCOL_VERSION} is required`,
      );
    }
    for (const [what, setting, theirs, ours] of [
      ["a network idle timeout", "O2CB_IDLE_TIMEOUT_MS", hand.o2net_idle_timeout_ms, t.idle_timeout_ms],
      ["a keepalive delay", "O2CB_KEEPALIVE_DELAY_MS", hand.o2net_keepalive_delay_ms, t.keepalive_delay_ms],
      ["a heartbeat timeout", "O2CB_HEARTBEAT_THRESHOLD", hand.o2hb_heartbeat_timeout_ms, maxWriteTimeoutMs(t)],
    ] as const) {
      if (theirs !== ours) {
        return this.#refuse(
          sc,
          `uses ${what} of ${theirs} ms, but we use ${ours} ms locally: set ${setting} to the same on all nodes`,
        );
      }
    }
    sc.handshake_ok = true;
    if (peer.sc === sc) {
      this.#resetIdleTimer(peer, sc);
      peer.has_timed_out = false;
      peer.last_error = "";
      peer.is_refused = false;
      this.#setNnState(peer, sc, true, 0);
    }
    return !sc.is_shut;
  }

  #refuse(sc: SockContainer, why: string): false {
    mlog(ML.NOTICE, `o2net: ${nodeText(sc.node)} ${why}. Disconnecting.`);
    const peer = this.#peers[sc.node.num]!;
    peer.last_error = why;
    peer.is_refused = true;
    // With our handshake, so that the other side can say why, too.
    this.#flush(sc);
    this.#ensureShutdown(sc, -Errno.ENOTCONN);
    return false;
  }

  // ---- the state of a node -------------------------------------------------------------------------------------------

  connectedPeers(): number {
    return this.#peers.reduce((n, peer) => n + (peer.sc !== null ? 1 : 0), 0);
  }

  /** Nodes that messages reach (o2net_fill_node_map). */
  connectedNodes(): Set<NodeNum> {
    return new Set(this.#peers.filter((p) => p.is_valid && p.persistent_error === 0).map((p) => p.num));
  }

  connectedSince_ms(node: NodeNum): number | undefined {
    const peer = this.#peers[node];
    return peer?.is_valid ? peer.valid_since_ms : undefined;
  }

  peers(): PeerStatus[] {
    const others = this.#nodes.nodes().filter((node) => node.num !== this.#nodes.this_node);
    return others.map((node) => {
      const p = this.#peers[node.num]!;
      const state = p.is_valid
        ? "connected"
        : p.persistent_error === 0
          ? "connecting"
          : p.last_error
            ? "failed"
            : "down";
      return {
        node: node.num,
        name: node.name,
        state,
        queued: p.queue.length,
        in_flight: p.in_flight.length - p.free.length,
        sent: p.sent,
        received: p.received,
        stats: { ...p.stats, wait_ms: Math.max(0, p.stats.wait_ms - p.stats.send_ms) },
        silent_ms: p.is_valid ? this.#silentMs(p.sc!) : undefined,
        last_error: p.last_error,
        is_refused: p.is_refused,
      };
    });
  }

  /** What the kernel shows in debugfs as o2net/stats, a line a connected node. */
  statsText(): string {
    const ns = (ms: number): number => Math.round(ms * 1e6);
    const line = ({ node, stats: t }: PeerStatus): string =>
      `${[STATS_STR_VERSION, node, t.sends, ns(t.acquiry_ms), ns(t.send_ms), ns(t.wait_ms), t.recvs, ns(t.process_ms)]}\n`;
    return this.peers()
      .filter((p) => p.state === "connected")
      .map(line)
      .join("");
  }

  /** Tells at once how each other node can be reached, and every change from then on. */
  watchPeers(watch: PeerWatcher): () => void {
    this.#watchers.add(watch);
    for (const peer of this.#peers) this.#tell(peer, watch);
    return () => void this.#watchers.delete(watch);
  }

  #tell(peer: PeerNode, watch: PeerWatcher): void {
    watch(peer.num, peer.is_valid ? (peer.sc!.conn.number ?? 0) : 0, peer.persistent_error);
  }

  /** What another thread has sent to a node and answered since it last said so. */
  addStats(node: NodeNum, more: LaneStats): void {
    const peer = this.#peers[node]!;
    peer.sent += more.sends;
    peer.received += more.recvs;
    peer.stats.sends += more.sends;
    peer.stats.wait_ms += more.wait_ms;
    peer.stats.recvs += more.recvs;
    peer.stats.process_ms += more.process_ms;
  }

  /** Every change of a connection goes through here (o2net_set_nn_state). */
  #setNnState(peer: PeerNode, sc: SockContainer | null, valid: boolean, err: number): void {
    const was_valid = peer.is_valid;
    const old_sc = peer.sc;
    assert(sc === null || old_sc === null || sc === old_sc, `o2net: a second connection to node ${peer.num}`);
    assert(!(valid && (err !== 0 || sc === null)), `o2net: node ${peer.num} cannot be valid`);
    const was_err = peer.persistent_error;
    if (was_valid && !valid) {
      peer.is_lost = true;
      if (peer.in_flight.length > peer.free.length) peer.is_lossy = true;
    } else if (valid) {
      peer.is_lost = peer.has_waited = false;
      peer.last_conn = sc?.conn.number ?? 0;
      if (!was_valid) peer.valid_since_ms = this.#clock.monotonic_ms();
    }
    if (peer.is_lossy && err === 0) err = -Errno.ENOTCONN;
    peer.sc = sc;
    peer.is_valid = valid;
    peer.persistent_error = err;

    // The heartbeat gets its whole time for each loss: what is left of an earlier one's, or of a silence's, would not do (it does in the kernel).
    if (was_valid !== valid) this.#cancelStillUp(peer);
    if (was_valid && !valid) {
      this.#quorum.connErr(peer.num);
      this.#queueStillUp(peer);
    }
    if (was_valid && !valid) {
      if (old_sc !== null) mlog(ML.NOTICE, `o2net: No longer connected to ${nodeText(old_sc.node)}`);
      this.#failInFlight(peer);
    }
    if (!was_valid && valid) {
      peer.stats = noStats();
      this.#quorum.connUp(peer.num);
      peer.cancel_expired?.();
      peer.cancel_expired = null;
      const how = this.node_num > peer.num ? "Connected to" : "Accepted connection from";
      mlog(ML.NOTICE, `o2net: ${how} ${nodeText(sc!.node)}`);
    }
    if (!valid && this.#is_listening) this.#queueConnect(peer);
    if (old_sc !== null && old_sc !== sc) this.#shutdownSc(old_sc);

    if (was_valid !== valid || was_err !== err) for (const watch of this.#watchers) this.#tell(peer, watch);
    if (err !== 0) for (const w of peer.queue.splice(0)) this.#fail(w.done, err);
    else if (valid)
      for (const w of peer.queue.splice(0)) {
        peer.stats.acquiry_ms += this.#clock.monotonic_ms() - w.since_ms;
        this.#transmit(peer, w.msg_type, w.key, w.payload, w.len, w.done);
      }
  }

  #failInFlight(peer: PeerNode): void {
    const waiting = peer.in_flight.splice(0);
    peer.free.length = 0;
    for (const done of waiting) if (done !== null) this.#fail(done, -Errno.EHOSTDOWN);
  }

  #queueStillUp(peer: PeerNode, ms: number = quorumDelayMs(this.#nodes.timeouts)): void {
    if (peer.cancel_still_up !== null) return;
    const due_ms = this.#clock.monotonic_ms() + ms;
    peer.cancel_still_up = this.#clock.after(ms, () => {
      peer.cancel_still_up = null;
      // After a pause of this thread the heartbeat's news, which may be a death, come first.
      if (this.#clock.monotonic_ms() - due_ms > LATE_MS) this.#queueStillUp(peer, LATE_MS);
      else this.#stillUp(peer);
    });
  }

  #cancelStillUp(peer: PeerNode): void {
    peer.cancel_still_up?.();
    peer.cancel_still_up = null;
  }

  /**
   * The other's heartbeat has outlived the connection. The quorum says who goes when the cluster has come apart. Where both may stay,
   * neither can go on without the other: the higher number goes, and after another delay (a kernel node would stay) the lower.
   */
  #stillUp(peer: PeerNode): void {
    this.#quorum.hbStillUp(peer.num);
    if (!peer.is_lost || peer.is_valid) return;
    if (this.node_num > peer.num || peer.has_waited) this.#quorum.connLost(peer.num);
    else {
      peer.has_waited = true;
      this.#queueStillUp(peer);
    }
  }

  /** A lane had messages to `node` under way when the connection `conn` was lost. It may say so late, when that is not the last one any more. */
  messagesLost(node: NodeNum, conn: number): void {
    const peer = this.#peers[node];
    // What was lost with a node that has died meanwhile concerns nobody any more.
    if (peer === undefined || peer.is_lossy || conn <= peer.forgotten_conn || conn > peer.last_conn) return;
    peer.is_lossy = true;
    this.#setNnState(peer, null, false, -Errno.ENOTCONN);
  }

  #forgetLoss(peer: PeerNode): void {
    peer.is_lost = peer.is_lossy = peer.has_waited = false;
    peer.forgotten_conn = peer.last_conn;
  }

  #queueConnect(peer: PeerNode): void {
    const t: Readonly<Timeouts> = this.#nodes.timeouts;
    const since_ms = this.#clock.monotonic_ms() - peer.last_connect_attempt_ms;
    const delay_ms = since_ms >= t.reconnect_delay_ms ? 0 : t.reconnect_delay_ms - since_ms;
    if (mlogOn(ML.CONN)) mlog(ML.CONN, `node ${peer.num}: an attempt to connect in ${Math.round(delay_ms)} ms`);
    peer.cancel_connect ??= this.#clock.after(delay_ms, () => {
      peer.cancel_connect = null;
      this.#startConnect(peer);
    });
    peer.cancel_expired ??= this.#clock.after(delay_ms + t.idle_timeout_ms, () => {
      peer.cancel_expired = null;
      this.#connectExpired(peer);
    });
  }

  /** o2net_start_connect */
  #startConnect(peer: PeerNode): void {
    const me = this.#nodes.this_node;
    const node = this.#nodes.node(peer.num);
    if (me === undefined || me <= peer.num || node === undefined || !this.#is_listening) return;
    const given_up = peer.persistent_error !== 0 && (peer.persistent_error !== -Errno.ENOTCONN || !peer.has_timed_out);
    if (peer.sc !== null || given_up || peer.is_lossy) return;
    peer.last_connect_attempt_ms = this.#clock.monotonic_ms();
    if (this.#hb.isInDoubt?.(peer.num)) return this.#queueConnect(peer);
    const conn = this.#transport.connect(this.#nodes.node(me)!.ipv4_address, node.ipv4_address, node.ipv4_port);
    const sc = this.#newSc(conn, node);
    this.#setNnState(peer, sc, false, 0);
  }

  #newSc(conn: Connection, node: NodeConfig): SockContainer {
    const reader = new MessageReader({
      handshake: (hand) => this.#checkHandshake(sc, hand),
      message: (msg, payload) => this.#processMessage(sc, msg, payload),
      overflow: (data_len) => mlog(ML.ERROR, `o2net: a message of ${data_len} bytes from ${nodeText(node)}`),
    });
    const sc = new SockContainer(conn, node, reader);
    if (mlogOn(ML.SOCKET)) mlog(ML.SOCKET, `a socket for ${nodeText(node)}`);
    conn.events = {
      connected: () => this.#sendHandshake(sc),
      data: (bytes) => this.#received(sc, bytes),
      drained: () => this.#drained(sc),
      closed: (why) => {
        const peer = this.#peers[node.num]!;
        // A difference in the handshake says more.
        if (why !== "" && !sc.is_shut && !peer.is_refused) peer.last_error = `connection failed: ${why}`;
        this.#ensureShutdown(sc, 0);
      },
    };
    return sc;
  }

  #sendHandshake(sc: SockContainer): void {
    if (sc.is_shut) return;
    const t = this.#nodes.timeouts;
    const hand = O2netHandshake.alloc();
    hand.protocol_version = O2NET_PROTOCOL_VERSION;
    hand.connector_id = 1n;
    hand.o2hb_heartbeat_timeout_ms = maxWriteTimeoutMs(t);
    hand.o2net_idle_timeout_ms = t.idle_timeout_ms;
    hand.o2net_keepalive_delay_ms = t.keepalive_delay_ms;
    hand.o2net_reconnect_delay_ms = t.reconnect_delay_ms;
    sc.out.raw(hand.bytes());
    this.#flushLater(sc);
  }

  #ensureShutdown(sc: SockContainer, err: number): void {
    const peer = this.#peers[sc.node.num]!;
    if (peer.sc === sc) this.#setNnState(peer, null, false, err);
    else this.#shutdownSc(sc);
  }

  #shutdownSc(sc: SockContainer): void {
    if (sc.is_shut) return;
    sc.is_shut = true;
    if (mlogOn(ML.SOCKET)) mlog(ML.SOCKET, `the socket of ${nodeText(sc.node)} is shut`);
    sc.cancel_idle();
    sc.cancel_keepalive();
    sc.conn.close();
  }

  /** o2net_connect_expired: the attempt has taken too long; another is made as long as the node heartbeats. */
  #connectExpired(peer: PeerNode): void {
    if (peer.is_valid || peer.is_lossy) return;
    if (peer.persistent_error === 0) {
      const s = this.#nodes.timeouts.idle_timeout_ms / 1000;
      mlog(
        ML.NOTICE,
        `o2net: No connection established with node ${peer.num} after ${s} seconds, check network and cluster configuration.`,
      );
    }
    this.#setNnState(peer, null, false, 0);
  }

  // ---- silence -------------------------------------------------------------------------------------------------------

  /** Timers are not moved for each message: they look at last_rx_ms when they fire, and go on for what is left. */
  #resetIdleTimer(peer: PeerNode, sc: SockContainer): void {
    sc.last_rx_ms = this.#clock.monotonic_ms();
    this.#armKeepalive(sc, this.#nodes.timeouts.keepalive_delay_ms);
    this.#armIdle(peer, sc, this.#nodes.timeouts.idle_timeout_ms);
  }

  /** Other threads may have taken messages that this one never saw. */
  #silentMs(sc: SockContainer): number {
    const silent_ms = this.#clock.monotonic_ms() - sc.last_rx_ms;
    return Math.min(silent_ms, sc.conn.silentMs?.() ?? silent_ms);
  }

  #armKeepalive(sc: SockContainer, ms: number): void {
    sc.cancel_keepalive();
    sc.cancel_keepalive = this.#clock.after(ms, () => {
      const delay_ms = this.#nodes.timeouts.keepalive_delay_ms;
      const silent_ms = this.#silentMs(sc);
      if (silent_ms < delay_ms) {
        this.#armKeepalive(sc, Math.max(1, delay_ms - silent_ms));
        return;
      }
      // What waits for room is as good as a question.
      if (!sc.is_blocked) sc.out.keepalive(O2NET_MSG_KEEP_REQ_MAGIC);
      this.#flush(sc);
      // The answer moves last_rx_ms. Without one it is asked again, which the kernel does only after the idle time-out; no harm.
      this.#armKeepalive(sc, delay_ms);
    });
  }

  #armIdle(peer: PeerNode, sc: SockContainer, ms: number): void {
    sc.cancel_idle();
    sc.cancel_idle = this.#clock.after(ms, () => {
      const idle_ms = this.#nodes.timeouts.idle_timeout_ms;
      const silent_ms = this.#silentMs(sc);
      if (silent_ms < idle_ms) {
        this.#armIdle(peer, sc, Math.max(1, idle_ms - silent_ms));
        return;
      }
      mlog(
        ML.NOTICE,
        `o2net: Connection to ${nodeText(sc.node)} has been idle for ${Math.round(silent_ms) / 1000} secs.`,
      );
      // Not shut: it may recover before the decision is made (o2net_idle_timer).
      peer.has_timed_out = true;
      this.#quorum.connErr(peer.num);
      this.#queueStillUp(peer);
      this.#armIdle(peer, sc, idle_ms);
    });
  }

  #postponeIdle(peer: PeerNode, sc: SockContainer): void {
    if (peer.has_timed_out) {
      this.#quorum.connUp(peer.num);
      this.#cancelStillUp(peer);
      peer.has_timed_out = false;
    }
    sc.last_rx_ms = this.#clock.monotonic_ms();
  }

  // ---- news of the heartbeat -----------------------------------------------------------------------------------------

  #hbNodeUpCb(node: NodeNum): void {
    this.#quorum.hbUp(node);
    if (node !== this.node_num) this.#hbNodeUp(this.#peers[node]!);
  }

  /** o2net_hb_node_up: an attempt to connect at once, and sends may wait for it. */
  #hbNodeUp(peer: PeerNode): void {
    peer.last_connect_attempt_ms = Number.NEGATIVE_INFINITY;
    peer.has_timed_out = false;
    peer.last_error = "";
    peer.is_refused = false;
    this.#forgetLoss(peer);
    if (peer.persistent_error !== 0) this.#setNnState(peer, null, false, 0);
  }

  #hbNodeDownCb(node: NodeNum): void {
    this.#quorum.hbDown(node);
    if (node !== this.node_num) this.#disconnectNode(node);
  }

  /** o2net_disconnect_node: no attempt until it heartbeats again. */
  #disconnectNode(node: NodeNum): void {
    const peer = this.#peers[node]!;
    peer.has_timed_out = false;
    this.#setNnState(peer, null, false, -Errno.ENOTCONN);
    peer.cancel_expired?.();
    peer.cancel_connect?.();
    peer.cancel_expired = peer.cancel_connect = null;
    // One that is only taken out of the configuration is judged for what was lost with it.
    if (this.#is_listening && this.#hb.liveNodes().has(node)) return;
    this.#forgetLoss(peer);
    this.#cancelStillUp(peer);
  }

  /** A node that heartbeats already: it was taken out, and is back, with another address for instance. (The kernel waits until its heartbeat has gone and come.) */
  #addedNode(node: NodeNum): void {
    if (!this.#hb.liveNodes().has(node)) return;
    const peer = this.#peers[node]!;
    peer.last_connect_attempt_ms = Number.NEGATIVE_INFINITY;
    this.#setNnState(peer, null, false, 0);
  }

  // ---- accepting -----------------------------------------------------------------------------------------------------

  /** o2net_accept_one */
  #acceptOne(conn: Connection): void {
    const drop = (why: string): void => {
      mlog(ML.NOTICE, `o2net: ${why}`);
      conn.close();
    };
    const from = `${conn.remote_address}:${conn.remote_port}`;
    const node = this.#nodes.nodeByIp(conn.remote_address);
    if (!this.#is_listening) return conn.close();
    if (node === undefined) return drop(`Attempt to connect from unknown node at ${from}`);
    const name = `node '${node.name}' (${node.num}, ${from})`;
    if (this.node_num >= node.num) return drop(`Unexpected connect attempt seen from ${name}`);
    if (!this.#hb.liveNodes().has(node.num) || this.#hb.isInDoubt?.(node.num)) {
      // Happens all the time: it saw our heartbeat before we saw its. It tries again.
      mlog(ML.TCP, `attempt to connect from ${name} but it isn't heartbeating`);
      return conn.close();
    }
    const peer = this.#peers[node.num]!;
    if (peer.sc !== null) return drop(`Attempt to connect from ${name} but it already has an open connection`);
    if (peer.is_lossy) return drop(`Attempt to connect from ${name}, but messages were lost: one of us has to go`);
    const sc = this.#newSc(conn, node);
    peer.has_timed_out = false;
    this.#setNnState(peer, sc, false, 0);
    this.#sendHandshake(sc);
  }
}

function listenFailure(why: string, me: NodeConfig): string {
  const at = `${me.ipv4_address}:${me.ipv4_port}`;
  const remedy: Readonly<Record<string, string>> = {
    EADDRINUSE: "is taken: is a node of that name running already, or the kernel's o2cb? (ocfs2 node status)",
    EADDRNOTAVAIL: "is not an address of this machine: correct ip_address in cluster.conf, or give the right --node",
    EACCES: "may not be opened: take a port above 1023 in cluster.conf",
  };
  return `node ${me.name}: ${at} ${remedy[why] ?? `cannot be listened on: ${why}`}`;
}
