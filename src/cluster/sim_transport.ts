/**
 * A network in memory for tests and the simulator: TCP as a program sees it. What is written arrives later, in order, in pieces that need
 * not be those of the writes, and once or never: never, when the connection ends before. A link that is cut keeps what is on its way until it
 * is mended, as TCP does by sending it again. Nothing is ever duplicated: TCP does not, and o2net sends nothing twice.
 *
 * A host that loses its power says nothing to its peers; they hear a reset when its address is up again and theirs comes through.
 */
import {
  O2NET_MAX_PAYLOAD_BYTES,
  O2NET_MSG_MAGIC,
  O2NET_MSG_STATUS_MAGIC,
  O2netHandshake,
  O2netMsg,
} from "../format/wire/o2net.ts";
import type { Clock } from "../lib/clock.ts";
import { assert } from "../lib/fs_error.ts";
import { type Connection, type ConnectionEvents, LANE_SHIFT, type LaneWire, type Transport } from "../lib/transport.ts";

const UNSET: ConnectionEvents = { connected() {}, data() {}, drained() {}, closed() {} };
/** Bytes on their way beyond which a write says that it is enough. */
const WINDOW_BYTES = 256 << 10;

type Deliver = (cb: () => void) => void;

/** One direction of a connection. */
class Pipe {
  readonly link: string;
  readonly queue: { readonly at_ms: number; readonly run: () => void; readonly is_packet: boolean }[] = [];
  bytes = 0;
  last_ms = 0;
  armed = false;

  constructor(link: string) {
    this.link = link;
  }
}

class SimConnection implements Connection {
  events: ConnectionEvents = UNSET;
  readonly number: number;
  #last_rx_ms: number;
  #cutter: Cutter | null = null;
  peer: SimConnection | null = null;
  readonly remote_address: string;
  readonly remote_port: number;
  readonly local_address: string;
  readonly out: Pipe;
  readonly host: SimHost;
  readonly #net: SimNetwork;
  #open = true;
  #paused = false;
  #blocked = false;
  /** The other side has closed; what it sent before is read first. */
  #ending = false;
  #unread: Uint8Array[] = [];

  constructor(net: SimNetwork, host: SimHost, local_address: string, remote_address: string, remote_port: number) {
    this.#net = net;
    this.host = host;
    this.local_address = local_address;
    this.remote_address = remote_address;
    this.remote_port = remote_port;
    this.out = new Pipe(`${local_address} ${remote_address}`);
    this.number = net.nextConnection();
    this.#last_rx_ms = net.now();
  }

  silentMs(): number {
    return this.#net.now() - this.#last_rx_ms;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  write(bytes: Uint8Array): boolean {
    assert(this.peer !== null, "written before it was connected");
    const { peer, out } = this;
    for (let at = 0; at < bytes.length; ) {
      const n = Math.min(bytes.length - at, this.#net.piece(bytes.length - at));
      const copy = bytes.slice(at, at + n);
      this.#net.packets++;
      this.#net.carry(out, () => peer.arrive(copy), true);
      out.bytes += n;
      at += n;
    }
    this.#blocked = out.bytes > WINDOW_BYTES;
    return !this.#blocked;
  }

  arrive(bytes: Uint8Array): void {
    if (!this.#open) {
      this.#net.packets_lost++;
      return;
    }
    this.#last_rx_ms = this.#net.now();
    const { lanes } = this.host;
    if (lanes === null) {
      this.#forMain(bytes);
      return;
    }
    this.#cutter ??= new Cutter();
    // What is a lane's is taken by whichever thread reads: the sender has room again.
    const main = this.#cutter.cut(bytes, (key, number) => lanes.of(key, number), this.number);
    this.peer!.taken(bytes.length - main.length);
    if (main.length > 0) this.#forMain(main);
  }

  #forMain(bytes: Uint8Array): void {
    this.#unread.push(bytes);
    this.host.deliver(() => this.#read());
  }

  #read(): void {
    while (this.#unread.length > 0 && this.#open && !this.#paused) {
      const bytes = this.#unread.shift()!;
      this.peer!.taken(bytes.length);
      this.events.data(bytes);
    }
    if (this.#unread.length === 0 && this.#ending) this.#ended("");
  }

  /** The other side has read what we wrote. */
  taken(bytes: number): void {
    this.out.bytes -= bytes;
    if (!this.#blocked || this.out.bytes > WINDOW_BYTES / 2) return;
    this.#blocked = false;
    this.#net.soon(() => this.host.deliver(() => this.#open && this.events.drained()));
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#net.soon(() => this.host.deliver(() => this.#read()));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.host.connections.delete(this);
    const { peer } = this;
    if (peer !== null) this.#net.carry(this.out, () => peer.end(""));
    this.#net.soon(() => this.host.deliver(() => this.events.closed("")));
  }

  /** It ends by what came from the other side, or from the network. An orderly end comes behind the data. */
  end(why: string): void {
    if (!this.#open) return;
    this.host.deliver(() => {
      if (why === "" && this.#unread.length > 0) this.#ending = true;
      else this.#ended(why);
    });
  }

  #ended(why: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.host.connections.delete(this);
    this.events.closed(why);
  }

  /** Its process has ended, or its host has no power: nobody listens here. */
  abandon(): void {
    this.#open = false;
  }
}

/** Cuts the stream of a connection into messages, each for whom it concerns (native/src/net_conn.rs). */
class Cutter {
  #handshake_left = O2netHandshake.size;
  #raw = false;
  #part = new Uint8Array(0);

  /** Gives messages to lanes; what is left is the main thread's. */
  cut(came: Uint8Array, laneOf: (key: number | null, number: number) => SimLane | undefined, conn: number): Uint8Array {
    const main: Uint8Array[] = [];
    const n = Math.min(this.#handshake_left, came.length);
    this.#handshake_left -= n;
    main.push(came.subarray(0, n));
    let bytes = Buffer.concat([this.#part, came.subarray(n)]);
    this.#part = new Uint8Array(0);
    while (bytes.length > 0) {
      if (this.#raw) {
        main.push(bytes);
        break;
      }
      const need = bytes.length < O2netMsg.size ? O2netMsg.size : O2netMsg.size + bytes.readUInt16BE(2);
      this.#raw = need > O2netMsg.size + O2NET_MAX_PAYLOAD_BYTES;
      if (this.#raw) continue;
      if (bytes.length < need) {
        this.#part = bytes;
        break;
      }
      const message = bytes.subarray(0, need);
      const magic = message.readUInt16BE(0);
      const key = magic === O2NET_MSG_MAGIC ? message.readUInt32BE(16) : null;
      const number = magic === O2NET_MSG_STATUS_MAGIC ? message.readUInt32BE(20) >>> LANE_SHIFT : 0;
      const lane = laneOf(key, number);
      if (lane === undefined) main.push(message);
      else lane.put(conn, message);
      bytes = bytes.subarray(need);
    }
    return Buffer.concat(main);
  }
}

/** A lane of a process, as native/lane.ts. */
export class SimLane implements LaneWire {
  readonly number: number;
  /** Takes one message. */
  received: (conn: number, message: Uint8Array) => void = () => {};
  readonly #lanes: Lanes;
  readonly #host: SimHost;
  readonly #deliver: Deliver;
  readonly #clock: Clock;

  constructor(lanes: Lanes, host: SimHost, deliver: Deliver, clock: Clock, number: number) {
    this.#lanes = lanes;
    this.#host = host;
    this.#deliver = deliver;
    this.#clock = clock;
    this.number = number;
  }

  put(conn: number, message: Uint8Array): void {
    const copy = message.slice();
    this.#deliver(() => this.received(conn, copy));
  }

  send(conn: number, bytes: Uint8Array): void {
    for (const c of this.#host.connections) if (c.number === conn && c.isOpen) c.write(bytes);
  }

  divert(key: number, on: boolean): void {
    this.#lanes.divert(key, this, on);
  }

  watch(): void {}

  isOpen(conn: number): boolean {
    for (const c of this.#host.connections) if (c.number === conn) return c.isOpen;
    return false;
  }

  now_ms(): number {
    return this.#clock.monotonic_ms();
  }

  close(): void {
    this.#lanes.remove(this);
  }
}

class Lanes {
  readonly #lanes = new Map<number, SimLane>();
  readonly #keys = new Map<number, SimLane>();
  #next = 1;

  open(host: SimHost, deliver: Deliver, clock: Clock): SimLane {
    const lane = new SimLane(this, host, deliver, clock, this.#next++);
    this.#lanes.set(lane.number, lane);
    return lane;
  }

  of(key: number | null, number: number): SimLane | undefined {
    return key !== null ? this.#keys.get(key >>> 0) : this.#lanes.get(number);
  }

  divert(key: number, lane: SimLane, on: boolean): void {
    if (on) this.#keys.set(key >>> 0, lane);
    else this.#keys.delete(key >>> 0);
  }

  remove(lane: SimLane): void {
    this.#lanes.delete(lane.number);
    for (const [key, l] of this.#keys) if (l === lane) this.#keys.delete(key);
  }
}

/** What of the network belongs to one process. */
export class SimHost {
  readonly connections = new Set<SimConnection>();
  readonly listeners = new Set<string>();
  /** Null: the main thread gets everything as it comes. */
  readonly lanes: Lanes | null;
  /** Brings something into the process: at once, or when it runs again, or never. */
  readonly deliver: Deliver;

  constructor(deliver: Deliver, lanes: Lanes | null) {
    this.deliver = deliver;
    this.lanes = lanes;
  }

  /** A lane for a thread that `deliver` brings things into. */
  openLane(deliver: Deliver, clock: Clock): SimLane {
    assert(this.lanes !== null, "a host without lanes");
    return this.lanes.open(this, deliver, clock);
  }
}

interface ListenEntry {
  readonly host: SimHost;
  accepted(conn: Connection): void;
}

export class SimNetwork {
  readonly #clock: Clock;
  readonly #listeners = new Map<string, ListenEntry>();
  /** Pipes of links that are cut, to be looked at when they are mended. */
  readonly #cut = new Map<string, Set<Pipe>>();
  /** Ends whose other end lost its power, by the address that is gone. */
  readonly #silent = new Map<string, Set<SimConnection>>();
  /** Addresses without power: an attempt to connect is never answered. */
  readonly #off = new Set<string>();
  #next_port = 40000;
  latency_ms = 0.1;
  /** Pieces of what was written, and those of them that never arrived. */
  packets = 0;
  packets_lost = 0;
  /** How long something takes from one address to another; order is kept within a connection. */
  latency: (link: string) => number = () => this.latency_ms;
  /** How many of `len` bytes travel in one piece. */
  piece: (len: number) => number = (len) => len;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Nothing goes from one address to the other any more; cut both ways by calling twice. */
  cut(from: string, to: string): void {
    const link = `${from} ${to}`;
    if (!this.#cut.has(link)) this.#cut.set(link, new Set());
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from} ${to}`);
  }

  mend(from: string, to: string): void {
    const pipes = this.#cut.get(`${from} ${to}`) ?? [];
    this.#cut.delete(`${from} ${to}`);
    for (const pipe of pipes) this.#arm(pipe);
  }

  /** Connections between the two are reset; what was on its way is lost. */
  reset(a: string, b: string): void {
    for (const { host } of this.#listeners.values())
      for (const conn of [...host.connections])
        if (conn.local_address === a && conn.remote_address === b) {
          conn.peer?.end("ECONNRESET");
          conn.end("ECONNRESET");
        }
  }

  /** A process has ended: its sockets are closed by its kernel; `reset`: with data unread, so what it had sent may be lost, too. */
  exit(host: SimHost, reset = false): void {
    this.#unlisten(host);
    for (const conn of host.connections) {
      conn.abandon();
      const { peer, out } = conn;
      if (reset) this.#lose(out);
      if (peer !== null) this.carry(out, () => peer.end(reset ? "ECONNRESET" : ""));
    }
    host.connections.clear();
  }

  /** A host is without power: its peers hear nothing. */
  powerOff(host: SimHost): void {
    for (const key of host.listeners) this.#off.add(key);
    this.#unlisten(host);
    for (const conn of host.connections) {
      conn.abandon();
      this.#lose(conn.out);
      const of = this.#silent.get(conn.local_address) ?? new Set();
      if (conn.peer !== null) of.add(conn.peer);
      this.#silent.set(conn.local_address, of);
    }
    host.connections.clear();
  }

  /** What was on its way never arrives. */
  #lose(pipe: Pipe): void {
    this.packets_lost += pipe.queue.filter((q) => q.is_packet).length;
    pipe.queue.length = 0;
  }

  #unlisten(host: SimHost): void {
    for (const key of host.listeners) this.#listeners.delete(key);
    host.listeners.clear();
  }

  now(): number {
    return this.#clock.monotonic_ms();
  }

  #connections = 0;
  nextConnection(): number {
    return ++this.#connections;
  }

  soon(cb: () => void): void {
    this.#clock.after(0, cb);
  }

  carry(pipe: Pipe, run: () => void, is_packet = false): void {
    const now = this.#clock.monotonic_ms();
    pipe.last_ms = Math.max(pipe.last_ms, now + this.latency(pipe.link));
    pipe.queue.push({ at_ms: pipe.last_ms, run, is_packet });
    this.#arm(pipe);
  }

  #arm(pipe: Pipe): void {
    if (pipe.armed || pipe.queue.length === 0) return;
    pipe.armed = true;
    this.#clock.after(pipe.queue[0]!.at_ms - this.#clock.monotonic_ms(), () => {
      pipe.armed = false;
      const cut = this.#cut.get(pipe.link);
      if (cut !== undefined) {
        cut.add(pipe);
        return;
      }
      pipe.queue.shift()?.run();
      this.#arm(pipe);
    });
  }

  /** The network of one process, whose threads may have lanes. */
  host(deliver: Deliver): { readonly host: SimHost; readonly transport: Transport } {
    const host = new SimHost(deliver, new Lanes());
    return { host, transport: this.#transportOf(host) };
  }

  transport(): Transport {
    return this.#transportOf(new SimHost((cb) => cb(), null));
  }

  #transportOf(host: SimHost): Transport {
    return {
      listen: (address, port, events) => {
        const key = `${address}:${port}`;
        const taken = this.#listeners.has(key);
        if (!taken) {
          this.#listeners.set(key, { host, accepted: (conn) => events.accepted(conn) });
          host.listeners.add(key);
          this.#off.delete(key);
          this.#upAgain(address);
        }
        this.soon(() => host.deliver(() => (taken ? events.failed("EADDRINUSE") : events.ready())));
        return {
          close: () => {
            if (!host.listeners.delete(key)) return;
            this.#listeners.delete(key);
          },
        };
      },
      connect: (local_address, address, port) => this.#connect(host, local_address, address, port),
      endOfTurn: (cb) => this.soon(() => host.deliver(cb)),
    };
  }

  /** The host knows nothing of the connections that it had: whoever still sends on one is told so. */
  #upAgain(address: string): void {
    const silent = this.#silent.get(address) ?? [];
    this.#silent.delete(address);
    for (const conn of silent) {
      const back = new Pipe(`${address} ${conn.local_address}`);
      this.carry(back, () => conn.end("ECONNRESET"));
    }
  }

  #connect(host: SimHost, local_address: string, address: string, port: number): Connection {
    const here = new SimConnection(this, host, local_address, address, port);
    const local_port = this.#next_port++;
    host.connections.add(here);
    this.carry(here.out, () => {
      const listener = this.#listeners.get(`${address}:${port}`);
      const back = new Pipe(`${address} ${local_address}`);
      if (this.#off.has(`${address}:${port}`)) return;
      if (listener === undefined) {
        this.carry(back, () => here.end("ECONNREFUSED"));
        return;
      }
      const there = new SimConnection(this, listener.host, address, local_address, local_port);
      here.peer = there;
      there.peer = here;
      listener.host.connections.add(there);
      this.carry(there.out, () => {
        if (here.isOpen) here.host.deliver(() => here.isOpen && here.events.connected());
        else there.end("ECONNRESET");
      });
      listener.host.deliver(() => (there.isOpen ? listener.accepted(there) : undefined));
    });
    return here;
  }
}
