/**
 * A network in memory: a Transport for each address of it, for tests and the simulator. What is written arrives after `latency_ms` of
 * the clock that is handed in, in order and whole, unless the link is cut; then it is kept until the link is mended, as TCP does.
 */

import type { Clock } from "../lib/clock.ts";
import { assert } from "../lib/fs_error.ts";
import type { Connection, ConnectionEvents, Transport } from "../lib/transport.ts";

const UNSET: ConnectionEvents = { connected() {}, data() {}, drained() {}, closed() {} };

interface ListenEntry {
  accepted(conn: Connection): void;
}

class SimConnection implements Connection {
  events: ConnectionEvents = UNSET;
  peer: SimConnection | null = null;
  remote_address: string;
  remote_port: number;
  readonly local_address: string;
  readonly #net: SimNetwork;
  #open = true;
  #paused = false;
  #unread: Uint8Array[] = [];

  constructor(net: SimNetwork, local_address: string, remote_address: string, remote_port: number) {
    this.#net = net;
    this.local_address = local_address;
    this.remote_address = remote_address;
    this.remote_port = remote_port;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  write(bytes: Uint8Array): boolean {
    assert(this.peer !== null, "written before it was connected");
    const peer = this.peer;
    const copy = bytes.slice();
    this.#net.carry(this.local_address, this.remote_address, () => peer.arrive(copy));
    return true;
  }

  arrive(bytes: Uint8Array): void {
    if (!this.#open) return;
    if (this.#paused) this.#unread.push(bytes);
    else this.events.data(bytes);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    const unread = this.#unread;
    this.#unread = [];
    for (const bytes of unread) this.#net.carry(this.local_address, this.local_address, () => this.arrive(bytes));
  }

  close(): void {
    if (!this.#open) return;
    const peer = this.peer;
    if (peer !== null) this.#net.carry(this.local_address, this.remote_address, () => peer.end(""));
    this.#net.carry(this.local_address, this.local_address, () => this.events.closed(""));
    this.#open = false;
  }

  end(why: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.events.closed(why);
  }
}

export class SimNetwork {
  readonly #clock: Clock;
  readonly #listeners = new Map<string, ListenEntry>();
  /** What waits for a link to be mended, by "from to". */
  readonly #cut = new Map<string, (() => void)[]>();
  #next_port = 40000;
  latency_ms = 0.1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Nothing goes from one address to the other any more; cut both ways by calling twice. */
  cut(from: string, to: string): void {
    this.#cut.set(`${from} ${to}`, []);
  }

  mend(from: string, to: string): void {
    const key = `${from} ${to}`;
    const kept = this.#cut.get(key) ?? [];
    this.#cut.delete(key);
    for (const deliver of kept) this.carry(from, to, deliver);
  }

  carry(from: string, to: string, deliver: () => void): void {
    this.#clock.after(from === to ? 0 : this.latency_ms, () => {
      const kept = this.#cut.get(`${from} ${to}`);
      if (kept !== undefined) kept.push(deliver);
      else deliver();
    });
  }

  transport(): Transport {
    return {
      listen: (address, port, events) => {
        const key = `${address}:${port}`;
        const taken = this.#listeners.has(key);
        if (!taken) this.#listeners.set(key, events);
        this.#clock.after(0, () => (taken ? events.failed("EADDRINUSE") : events.ready()));
        return { close: () => void (taken || this.#listeners.delete(key)) };
      },
      connect: (local_address, address, port) => {
        const here = new SimConnection(this, local_address, address, port);
        const local_port = this.#next_port++;
        this.carry(local_address, address, () => {
          const listener = this.#listeners.get(`${address}:${port}`);
          if (listener === undefined) {
            this.carry(address, local_address, () => here.end("ECONNREFUSED"));
            return;
          }
          const there = new SimConnection(this, address, local_address, local_port);
          here.peer = there;
          there.peer = here;
          this.carry(address, local_address, () => {
            if (here.isOpen) here.events.connected();
            else there.end("ECONNRESET");
          });
          listener.accepted(there);
        });
        return here;
      },
      endOfTurn: (cb) => void this.#clock.after(0, cb),
    };
  }
}
