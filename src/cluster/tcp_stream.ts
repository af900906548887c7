/**
 * One connection's bytes: what came in is cut into the handshake and messages, what goes out is gathered until the turn is over. Here
 * nothing is decided; tcp.ts says what a message means. What the other side sends is never trusted: a length that cannot be ends
 * the connection before anything is stored.
 */
import { O2NET_MAX_PAYLOAD_BYTES, O2netHandshake, O2netMsg } from "../format/wire/o2net.ts";

/** Which end the reading found. "go on" asks for more bytes. */
export type ReadEnd = "go on" | "stop";

export interface StreamEvents {
  /** False stops the reading: the connection is being closed. */
  handshake(hand: O2netHandshake): boolean;
  /** `payload` is valid during the call. */
  message(msg: O2netMsg, payload: Uint8Array): boolean;
  /** A header says more than a page. */
  overflow(data_len: number): void;
}

const EMPTY_VIEW = new DataView(new ArrayBuffer(O2netMsg.size));

export class MessageReader {
  readonly #events: StreamEvents;
  readonly #msg: O2netMsg = O2netMsg.at(EMPTY_VIEW, 0);
  /** What is left of a message that has not come whole. */
  readonly #kept = new Uint8Array(O2netMsg.size + O2NET_MAX_PAYLOAD_BYTES);
  readonly #kept_view = new DataView(this.#kept.buffer);
  #kept_len = 0;
  #has_handshake = false;

  constructor(events: StreamEvents) {
    this.#events = events;
  }

  push(chunk: Uint8Array): ReadEnd {
    let at = 0;
    while (this.#kept_len > 0 && at < chunk.length) {
      // Only as much as this one message lacks goes the way through memory.
      const need = this.#needed(this.#kept_view, 0, this.#kept_len);
      const n = Math.min(need - this.#kept_len, chunk.length - at);
      this.#kept.set(chunk.subarray(at, at + n), this.#kept_len);
      this.#kept_len += n;
      at += n;
      const now = this.#needed(this.#kept_view, 0, this.#kept_len);
      if (now < 0) return "stop";
      if (now === this.#kept_len) {
        const len = this.#kept_len;
        this.#kept_len = 0;
        if (!this.#one(this.#kept_view, this.#kept, 0, len)) return "stop";
      }
    }
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    while (at < chunk.length) {
      const left = chunk.length - at;
      const need = this.#needed(view, at, left);
      if (need < 0) return "stop";
      if (need > left) {
        this.#kept.set(chunk.subarray(at), 0);
        this.#kept_len = left;
        break;
      }
      if (!this.#one(view, chunk, at, need)) return "stop";
      at += need;
    }
    return "go on";
  }

  /** Bytes of the message at `at` as far as its `have` bytes tell; -1 when it is too long. */
  #needed(view: DataView, at: number, have: number): number {
    if (!this.#has_handshake) return O2netHandshake.size;
    if (have < O2netMsg.size) return O2netMsg.size;
    this.#msg.dv = view;
    const data_len = this.#msg.seek(at).data_len;
    if (data_len > O2NET_MAX_PAYLOAD_BYTES) {
      this.#events.overflow(data_len);
      return -1;
    }
    return O2netMsg.size + data_len;
  }

  #one(view: DataView, bytes: Uint8Array, at: number, len: number): boolean {
    if (!this.#has_handshake) {
      this.#has_handshake = true;
      return this.#events.handshake(O2netHandshake.at(view, at));
    }
    this.#msg.dv = view;
    this.#msg.seek(at);
    return this.#events.message(this.#msg, bytes.subarray(at + O2netMsg.size, at + len));
  }
}

/** Messages of one turn, one behind the other, for one write. */
export class OutBuffer {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  readonly #msg: O2netMsg = O2netMsg.at(EMPTY_VIEW, 0);
  #len = 0;

  get length(): number {
    return this.#len;
  }

  /** Room for a header, zeroed but for what is given, and `data_len` bytes behind it; where these begin. */
  #header(magic: number, data_len: number): O2netMsg {
    const end = this.#len + O2netMsg.size + data_len;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#len));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#bytes.fill(0, this.#len, this.#len + O2netMsg.size);
    this.#msg.dv = this.#view;
    const msg = this.#msg.seek(this.#len);
    msg.magic = magic;
    msg.data_len = data_len;
    this.#len = end;
    return msg;
  }

  message(
    magic: number,
    msg_type: number,
    key: number,
    msg_num: number,
    payload: readonly Uint8Array[],
    len: number,
  ): void {
    let at = this.#len + O2netMsg.size;
    const msg = this.#header(magic, len);
    msg.msg_type = msg_type;
    msg.key = key;
    msg.msg_num = msg_num;
    for (const part of payload) {
      this.#bytes.set(part, at);
      at += part.length;
    }
  }

  status(magic: number, msg_type: number, key: number, msg_num: number, sys_status: number, status: number): void {
    const msg = this.#header(magic, 0);
    msg.msg_type = msg_type;
    msg.key = key;
    msg.msg_num = msg_num;
    msg.sys_status = sys_status;
    msg.status = status >>> 0;
  }

  keepalive(magic: number): void {
    this.#header(magic, 0);
  }

  raw(bytes: Uint8Array): void {
    this.#header(0, bytes.length);
    // No header before these: what #header reserved for one is taken back.
    this.#len -= O2netMsg.size;
    this.#bytes.set(bytes, this.#len - bytes.length);
  }

  /** What was gathered, as memory of its own. */
  take(): Uint8Array {
    const out = this.#bytes.slice(0, this.#len);
    this.#len = 0;
    return out;
  }
}
