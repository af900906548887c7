/**
 * TCP as a Transport, over the addon (native/src/net.rs): no delay (a message is followed by nothing that could be waited for), and no
 * end-of-stream that stays half open, because a node whose connection lost one direction counts as gone (o2net_state_change).
 * Other threads may use the connections beside this one (native/lane.ts): what is theirs never comes here.
 */
import { getSystemErrorName } from "node:util";
import { check } from "../lib/fs_error.ts";
import type { Connection, ConnectionEvents, Transport } from "../lib/transport.ts";
import { fatalCallback } from "./index.ts";
import { NET, type NetEvent, net } from "./net.ts";

const UNSET: ConnectionEvents = { connected() {}, data() {}, drained() {}, closed() {} };
/** What a connection holds without saying so. */
const HELD_BYTES = 64 << 10;
/** Then it is the turn of everything else on this thread: a peer can send for ever. */
const EVENTS_MS = 20;

interface Accepting {
  accepted(conn: Connection): void;
}

/** This thread's connections. */
class Hub {
  readonly number: number;
  readonly conns = new Map<number, TcpConnection>();
  readonly listeners = new Map<number, Accepting>();
  #busy = false;

  constructor() {
    this.number = check(net.netStart(fatalCallback(() => this.#heard())), "net.start");
    net.netRef(this.number, false);
  }

  /** The thread goes on for as long as there is something to wait for. */
  counted(): void {
    const busy = this.conns.size + this.listeners.size > 0;
    if (busy === this.#busy) return;
    this.#busy = busy;
    net.netRef(this.number, busy);
  }

  #heard(): void {
    const until_ms = performance.now() + EVENTS_MS;
    for (let e = net.netEvent(this.number); e !== null; e = net.netEvent(this.number)) {
      this.#one(e);
      if (performance.now() > until_ms) {
        setImmediate(() => this.#heard());
        return;
      }
    }
  }

  #one(e: NetEvent): void {
    if (e.kind === NET.ACCEPTED) {
      const listener = this.listeners.get(e.id);
      if (listener === undefined) {
        net.netClose(this.number, e.value);
        return;
      }
      const conn = new TcpConnection(this, e.value, e.address, e.port, true);
      this.conns.set(e.value, conn);
      this.counted();
      listener.accepted(conn);
      conn.ready();
      return;
    }
    const conn = this.conns.get(e.id);
    if (conn === undefined) return;
    if (e.kind === NET.CONNECTED) conn.events.connected();
    else if (e.kind === NET.DATA) conn.take();
    else if (e.kind === NET.DRAINED) conn.events.drained();
    else conn.ended(e.value === 0 ? "" : getSystemErrorName(-e.value));
  }
}

class TcpConnection implements Connection {
  events: ConnectionEvents = UNSET;
  readonly number: number;
  readonly remote_address: string;
  readonly remote_port: number;
  readonly #hub: Hub;
  #open = true;
  /** Nothing is taken: nobody has said yet what is to become of it, or somebody does not want more. */
  #paused: boolean;
  #held_back = false;

  constructor(hub: Hub, number: number, remote_address: string, remote_port: number, paused: boolean) {
    this.#hub = hub;
    this.number = number;
    this.remote_address = remote_address;
    this.remote_port = remote_port;
    this.#paused = paused;
  }

  /** Whoever accepted it has said what it wants of it. */
  ready(): void {
    if (this.events === UNSET || !this.#paused || this.#held_back) return;
    this.#paused = false;
    net.netPause(this.#hub.number, this.number, false);
  }

  take(): void {
    if (!this.#open || this.#paused || this.number < 0) return;
    const bytes = net.netTake(this.#hub.number, this.number);
    if (bytes.length > 0) this.events.data(bytes);
  }

  ended(why: string): void {
    this.take();
    if (!this.#open) return;
    this.#open = false;
    this.#forget();
    this.events.closed(why);
  }

  #forget(): void {
    if (this.number >= 0) net.netClose(this.#hub.number, this.number);
    this.#hub.conns.delete(this.number);
    this.#hub.counted();
  }

  write(bytes: Uint8Array): boolean {
    return !this.#open || net.netWrite(this.#hub.number, this.number, bytes) <= HELD_BYTES;
  }

  pause(): void {
    this.#held_back = true;
    this.#paused = true;
    if (this.#open) net.netPause(this.#hub.number, this.number, true);
  }

  resume(): void {
    this.#held_back = false;
    this.#paused = false;
    if (this.#open) net.netPause(this.#hub.number, this.number, false);
  }

  silentMs(): number {
    return net.netSilentMs(this.#hub.number, this.number);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#forget();
    queueMicrotask(() => this.events.closed(""));
  }
}

let this_hub: Hub | undefined;
const hub = (): Hub => (this_hub ??= new Hub());

/** The number under which other threads find this thread's connections. */
export const tcpHub = (): number => hub().number;

export const tcpTransport: Transport = {
  listen(address, port, events) {
    const h = hub();
    const number = net.netListen(h.number, address, port);
    if (number < 0) {
      queueMicrotask(() => events.failed(getSystemErrorName(number)));
      return { close() {} };
    }
    h.listeners.set(number, events);
    h.counted();
    queueMicrotask(() => h.listeners.has(number) && events.ready());
    return {
      close() {
        h.listeners.delete(number);
        net.netClose(h.number, number);
        h.counted();
      },
    };
  },

  connect(local_address, address, port) {
    const h = hub();
    const number = net.netConnect(h.number, local_address, address, port);
    const conn = new TcpConnection(h, number, address, port, false);
    if (number < 0) queueMicrotask(() => conn.ended(getSystemErrorName(number)));
    else h.conns.set(number, conn);
    h.counted();
    return conn;
  },

  endOfTurn(cb) {
    queueMicrotask(cb);
  },
};
