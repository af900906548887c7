/**
 * A lane over the addon (native/src/net.rs): this thread waits in its own ring for the connections of the node, reads them for all lanes while it
 * is the one that reads, and sends on them itself.
 */
import { O2netMsg } from "../format/wire/o2net.ts";
import { check } from "../lib/fs_error.ts";
import type { LaneWire } from "../lib/transport.ts";
import { type ArenaHandle, POLLIN, registerArena } from "./index.ts";
import type { Loop } from "./loop.ts";
import { net } from "./net.ts";

const IN_BYTES = 128 << 10;
const OUT_BYTES = 64 << 10;
/** Before each message that comes: the connection, the length. */
const RECORD_BYTES = 8;

/** Where the last message ends that fits OUT_BYTES from `at`: other threads send between two calls, but never into a message. */
function wholeMessages(bytes: Uint8Array, at: number): number {
  if (bytes.length - at <= OUT_BYTES) return bytes.length;
  const from = at;
  for (;;) {
    const next = at + O2netMsg.size + O2netMsg.from(bytes, at).data_len;
    if (next - from > OUT_BYTES) return at;
    at = next;
  }
}

export class NativeLane implements LaneWire {
  readonly number: number;
  /** Takes one message; set before the first turn. */
  received: (conn: number, message: Uint8Array) => void = () => {};
  /** True: no more is taken now; what fills up then is the connections. Asked in each turn. */
  isFull: () => boolean = () => false;
  readonly #hub: number;
  readonly #loop: Loop;
  readonly #memory = new Uint8Array(IN_BYTES + OUT_BYTES);
  readonly #dv = new DataView(this.#memory.buffer);
  readonly #arena: ArenaHandle = registerArena(this.#memory);
  readonly #conns = new Set<number>();
  /** Connections that the ring waits for. */
  readonly #armed = new Set<number>();
  #wakes = -1;
  #reading = 0;
  #look = true;
  #closed = false;

  /** `hub`: the number of the main thread's connections (tcpHub). */
  constructor(loop: Loop, hub: number) {
    this.#loop = loop;
    this.#hub = hub;
    this.number = check(net.laneOpen(hub, loop.wakefd), "lane.open");
  }

  now_ms(): number {
    return performance.now();
  }

  divert(key: number, on: boolean): void {
    net.laneDivert(this.#hub, this.number, key, on);
  }

  send(conn: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const end = wholeMessages(bytes, at);
      this.#memory.set(bytes.subarray(at, end), IN_BYTES);
      // What the other side does not take now is kept; one that is gone is heard of from the main thread.
      net.laneSend(this.#hub, conn, this.#arena, IN_BYTES, end - at);
      at = end;
    }
  }

  watch(conn: number, on: boolean): void {
    if (on) this.#conns.add(conn);
    else this.#conns.delete(conn);
    if (on && this.#reading !== 0) this.#arm(conn);
  }

  isOpen(conn: number): boolean {
    return net.laneFd(this.#hub, conn) >= 0;
  }

  #arm(conn: number): void {
    if (this.#armed.has(conn)) return;
    const fd = net.laneFd(this.#hub, conn);
    if (fd < 0) return;
    this.#armed.add(conn);
    const ready = (): void => {
      this.#armed.delete(conn);
      this.#look = true;
      this.#loop.wake();
      if (!this.#conns.has(conn) || this.#reading === 0) return;
      if (net.laneRead(this.#hub, this.number, conn) === 0) this.#arm(conn);
    };
    this.#loop.ring.pollAdd(fd, POLLIN, this.#loop.expect(ready));
  }

  /** Delivers what has come. */
  turn(): void {
    if (this.#closed) return;
    if (this.#wakes !== this.#loop.wakes) {
      this.#wakes = this.#loop.wakes;
      this.#look = true;
      const reading = net.laneReading(this.#hub, this.number);
      if (reading !== this.#reading) {
        this.#reading = reading;
        if (reading !== 0) for (const conn of this.#conns) this.#arm(conn);
      }
    }
    while (this.#look && !this.#closed && !this.isFull()) {
      const len = net.laneTake(this.#hub, this.number, this.#arena, 0, IN_BYTES);
      if (len === 0) this.#look = false;
      // What comes may be the end of the lane.
      for (let at = 0; at < len && !this.#closed; ) {
        const conn = this.#dv.getUint32(at, true);
        const n = this.#dv.getUint32(at + 4, true);
        this.received(conn, this.#memory.subarray(at + RECORD_BYTES, at + RECORD_BYTES + n));
        at += RECORD_BYTES + n;
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#conns.clear();
    net.laneClose(this.#hub, this.number);
  }
}
