/** Talking to the daemon of a mount over its socket. */
import { readdirSync } from "node:fs";
import { connectLines, type LineSocket, nodeSocketPath } from "../native/node_socket.ts";
import { mountRecords, runDir, socketPath } from "./run_dir.ts";
import { within } from "./within.ts";

export interface Answer {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** Longer than a node waits for its volume threads' part of an answer. */
const SILENT_MS = 5000;

export class Control {
  #line!: LineSocket;
  readonly #waiting: ((a: Answer | null) => void)[] = [];
  readonly #heard: Answer[] = [];

  private constructor() {}

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
      const c = new Control();
      c.#line = connectLines(path, {
        connected: () => ok(c),
        heard: (m) => c.#hear(m as Answer),
        ended() {
          ok(undefined);
          for (const next of c.#waiting.splice(0)) next(null);
        },
      });
    });
  }

  #hear(answer: Answer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#heard.push(answer);
    else next(answer);
  }

  /** The next message; null when the daemon is gone. */
  next(): Promise<Answer | null> {
    const heard = this.#heard.shift();
    if (heard !== undefined) return Promise.resolve(heard);
    if (!this.#line.isOpen) return Promise.resolve(null);
    return new Promise((ok) => this.#waiting.push(ok));
  }

  ask(command: { type: string; [key: string]: unknown }): Promise<Answer | null> {
    this.#line.send(command);
    return this.next();
  }

  /** For what is answered at once by a process that is well: "silent" from one that is stopped, or whose thread is stuck. */
  askSoon(command: { type: string; [key: string]: unknown }): Promise<Answer | null> {
    return within<Answer | null, Answer>(SILENT_MS, this.ask(command), { type: "silent" });
  }

  close(): void {
    this.#line.close();
  }
}

/** Nodes of this machine that run, by name. */
async function runningNodes(): Promise<string[]> {
  const found = new Set(mountRecords().map((r) => r.node));
  for (const file of readdirSync(runDir())) {
    const name = /^node-(.*)\.sock$/.exec(file)?.[1];
    const control = name === undefined ? undefined : await Control.openNode(decodeURIComponent(name));
    control?.close();
    if (control !== undefined) found.add(decodeURIComponent(name!));
  }
  return [...found].sort();
}

/** For who named no node and got the one with the host's name, which does not run: those that do, on standard error. */
export async function sayWhoRuns(named: string | undefined): Promise<void> {
  if (named !== undefined) return;
  const nodes = await runningNodes();
  if (nodes.length > 0) process.stderr.write(`ocfs2: on this machine runs ${nodes.join(", ")}: name it with --node\n`);
}
