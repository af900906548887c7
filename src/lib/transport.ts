/**
 * Byte streams between nodes are handed in, so that o2net runs over TCP (native/tcp_transport.ts) and over a simulated network
 * (cluster/sim_transport.ts) alike. Nothing is called back from within connect, listen or write.
 */
export interface ConnectionEvents {
  /** An outgoing connection stands. Never called for an accepted one, which stands already. */
  connected(): void;
  /** Bytes that arrived; the memory may be used again after the call. */
  data(bytes: Uint8Array): void;
  /** The kernel took what was written after write answered false. */
  drained(): void;
  /** The end, once, whoever closed; `why` is empty for an orderly end, else "ECONNREFUSED" and the like. */
  closed(why: string): void;
}

export interface Connection {
  readonly remote_address: string;
  readonly remote_port: number;
  /** Under which other threads use it too (cluster/lane.ts); undefined where only this one can. */
  readonly number?: number;
  /** Must be set in the turn in which the connection was made or accepted. */
  events: ConnectionEvents;
  /** Queues `bytes`, which the connection keeps. False: it holds more than it should; go on after `drained`. */
  write(bytes: Uint8Array): boolean;
  /** Stops and resumes reading, so that the other side feels that we are behind. */
  pause(): void;
  resume(): void;
  /** Ms since bytes came, those included that another thread has taken. Only where others can. */
  silentMs?(): number;
  /** Both directions end at once; `closed` follows. */
  close(): void;
}

export interface Listener {
  close(): void;
}

export interface Transport {
  /** `failed` when the address cannot be had ("EADDRINUSE", "EADDRNOTAVAIL"); `ready` when it can. */
  listen(
    address: string,
    port: number,
    events: { ready(): void; failed(why: string): void; accepted(conn: Connection): void },
  ): Listener;
  /** Connects from `local_address` and any port. A failure is `closed`. */
  connect(local_address: string, address: string, port: number): Connection;
  /** Calls once when this turn is over, before anything else arrives: so many messages become one write. */
  endOfTurn(cb: () => void): void;
}

/** Messages are numbered by who sends them: a lane has its number in the highest byte, the main thread 0 (native/src/net_conn.rs). */
export const LANE_SHIFT = 24;

/** What carries the messages of one thread past the main thread (cluster/lane.ts): native/lane.ts, or a test. */
export interface LaneWire {
  /** 1 to 127: the highest byte of this lane's message numbers. */
  readonly number: number;
  /** Whole messages. */
  send(conn: number, bytes: Uint8Array): void;
  /** Messages with this key come to the lane, or no more. */
  divert(key: number, on: boolean): void;
  /** Connections to listen to, or no more. */
  watch(conn: number, on: boolean): void;
  /** False: it has ended, whether the lane has heard of it or not. */
  isOpen(conn: number): boolean;
  now_ms(): number;
}
