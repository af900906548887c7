/** Talking to the daemon of a mount over its socket. */
import { connect, type Socket } from "node:net";
import { nodeSocketPath } from "../native/node_socket.ts";
import { socketPath } from "./run_dir.ts";

export interface Answer {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** Longer than a node waits for its volume threads' part of an answer. */
const SILENT_MS = 5000;

export class Control {
  readonly #socket: Socket;
  #text = "";
  readonly #waiting: ((a: Answer | null) => void)[] = [];
  readonly #heard: Answer[] = [];
  #closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (more: string) => {
      this.#text += more;
      for (let nl = this.#text.indexOf("\n"); nl >= 0; nl = this.#text.indexOf("\n")) {
        const answer = JSON.parse(this.#text.slice(0, nl)) as Answer;
        this.#text = this.#text.slice(nl + 1);
        const next = this.#waiting.shift();
        if (next === undefined) this.#heard.push(answer);
        else next(answer);
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#closed = true;
      for (const next of this.#waiting.splice(0)) next(null);
    });
  }

  /** Undefined when nobody listens. */
  static open(dir: string): Promise<Control | undefined> {
    return Control.#openPath(socketPath(dir));
  }

  /** To the process of a cluster's node. */
  static openNode(node: string): Promise<Control | undefined> {
    return Control.#openPath(nodeSocketPath(node));
  }

  static #openPath(path: string): Promise<Control | undefined> {
    return new Promise((ok) => {
      const socket = connect(path);
      socket.once("connect", () => ok(new Control(socket)));
      socket.once("error", () => ok(undefined));
    });
  }

  /** The next message; null when the daemon is gone. */
  next(): Promise<Answer | null> {
    const heard = this.#heard.shift();
    if (heard !== undefined) return Promise.resolve(heard);
    if (this.#closed) return Promise.resolve(null);
    return new Promise((ok) => this.#waiting.push(ok));
  }

  ask(command: { type: string; [key: string]: unknown }): Promise<Answer | null> {
    this.#socket.write(`${JSON.stringify(command)}\n`);
    return this.next();
  }

  /** For what is answered at once by a process that is well: "silent" from one that is stopped, or whose thread is stuck. */
  async askSoon(command: { type: string; [key: string]: unknown }): Promise<Answer | null> {
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<Answer>((ok) => {
      timer = setTimeout(() => ok({ type: "silent" }), SILENT_MS);
    });
    const answer = await Promise.race([this.ask(command), silent]);
    clearTimeout(timer);
    return answer;
  }

  close(): void {
    this.#socket.destroy();
  }
}
