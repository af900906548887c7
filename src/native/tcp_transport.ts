/**
 * TCP by node:net as a Transport: no delay (a message is followed by nothing that could be waited for), and no end-of-stream that
 * stays half open, because a node whose connection lost one direction counts as gone (o2net_state_change).
 */
import { connect, createServer, type Socket } from "node:net";
import type { Connection, ConnectionEvents, Transport } from "../lib/transport.ts";

const UNSET: ConnectionEvents = { connected() {}, data() {}, drained() {}, closed() {} };

const errorCode = (err: unknown): string => (err as NodeJS.ErrnoException).code ?? String(err);

class TcpConnection implements Connection {
  events: ConnectionEvents = UNSET;
  readonly remote_address: string;
  readonly remote_port: number;
  readonly #socket: Socket;
  #why = "";

  constructor(socket: Socket, remote_address: string, remote_port: number) {
    this.#socket = socket;
    this.remote_address = remote_address;
    this.remote_port = remote_port;
    socket.setNoDelay(true);
    socket.on("connect", () => this.events.connected());
    socket.on("data", (bytes: Uint8Array) => this.events.data(bytes));
    socket.on("drain", () => this.events.drained());
    socket.on("error", (err) => (this.#why = errorCode(err)));
    socket.on("close", () => this.events.closed(this.#why));
  }

  write(bytes: Uint8Array): boolean {
    return this.#socket.destroyed || this.#socket.write(bytes);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }
}

export const tcpTransport: Transport = {
  listen(address, port, events) {
    const server = createServer({ allowHalfOpen: false }, (socket) => {
      // An accepted socket may have gone again already; then it has no address.
      if (socket.remoteAddress === undefined) {
        socket.destroy();
        return;
      }
      events.accepted(new TcpConnection(socket, socket.remoteAddress, socket.remotePort ?? 0));
    });
    server.on("error", (err) => events.failed(errorCode(err)));
    server.listen({ host: address, port, backlog: 64, exclusive: true }, () => events.ready());
    return { close: () => void server.close() };
  },

  connect(local_address, address, port) {
    const socket = connect({ host: address, port, localAddress: local_address, family: 4, allowHalfOpen: false });
    return new TcpConnection(socket, address, port);
  },

  endOfTurn(cb) {
    queueMicrotask(cb);
  },
};
