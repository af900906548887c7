/** The sockets of the processes that serve mounts: where that of a cluster's node is, and how all of them are spoken to. */
import { lstatSync, readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";

/** Where this user's processes have their sockets and records. */
export function runPath(): string {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return "/run/ocfs2";
  const given = process.env["XDG_RUNTIME_DIR"];
  if (given !== undefined) return join(given, "ocfs2");
  const own = `/tmp/ocfs2-${uid}`;
  // In /tmp anybody can have made it first, and would answer for our mounts.
  const found = lstatSync(own, { throwIfNoEntry: false });
  if (found !== undefined && (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0))
    throw new Error(`${own} is not a folder of this user's alone: set XDG_RUNTIME_DIR to one that is`);
  return join(own, "ocfs2");
}

export const nodeSocketPath = (node: string): string => join(runPath(), `node-${encodeURIComponent(node)}.sock`);

/** Whether a node of this name is this machine's: the host's name, or that up to a dot, in whatever case (node_is_local of o2cb). */
export function isOfHost(node: string, host: string = hostname()): boolean {
  return node !== "" && `${host}.`.toLowerCase().startsWith(`${node}.`.toLowerCase());
}

/** Which of these nodes is this machine's; the host's name where none is. */
export function hostNodeOf(names: readonly string[], host: string = hostname()): string {
  return names.includes(host) ? host : (names.find((name) => isOfHost(name, host)) ?? host);
}

/** The node of this machine for who names none: of those that have run here the one with the host's name. */
export function hostNode(): string {
  const names: string[] = [];
  try {
    for (const file of readdirSync(runPath())) {
      const name = /^node-(.*)\.sock$/.exec(file)?.[1];
      if (name !== undefined) names.push(decodeURIComponent(name));
    }
  } catch {
    // Nothing has run here.
  }
  return hostNodeOf(names);
}

export interface LineEvents {
  /** An object came. */
  heard(m: unknown): void;
  /** A line that is none came. Without it the connection is closed then. */
  garbled?(): void;
  /** It has ended, or could not be made; nothing comes any more. */
  ended(): void;
}

export interface LineSocket {
  /** False: more is on its way than the other side takes just now (`drained`). */
  send(m: unknown): boolean;
  /** There is room again, or it is closed. */
  drained(): Promise<void>;
  readonly isOpen: boolean;
  /** Closes when all is sent, `m` last. */
  end(m?: unknown): void;
  /** Closes at once. */
  close(): void;
}

const lineOf = (m: unknown): string => `${JSON.stringify(m)}\n`;

/** Null for what is no object in JSON. */
function parsed(line: string): object | null {
  try {
    const m: unknown = JSON.parse(line);
    return typeof m === "object" ? m : null;
  } catch {
    return null;
  }
}

/** One JSON object a line, both ways, over a connection. */
export function overLines(socket: Socket, events: LineEvents): LineSocket {
  const hear = (line: string): void => {
    const m = parsed(line);
    if (m !== null) events.heard(m);
    else if (events.garbled === undefined) socket.destroy();
    else events.garbled();
  };
  let text = "";
  socket.setEncoding("utf8");
  socket.on("data", (more: string) => {
    const lines = (text + more).split("\n");
    text = lines.pop()!;
    for (const line of lines) if (!socket.destroyed) hear(line);
  });
  // "close" follows.
  socket.on("error", () => {});
  socket.once("close", () => events.ended());
  return {
    send: (m) => socket.write(lineOf(m)),
    drained: () =>
      new Promise((ok) => {
        if (socket.destroyed || !socket.writableNeedDrain) return ok();
        socket.once("drain", ok);
        socket.once("close", ok);
      }),
    get isOpen() {
      return !socket.destroyed;
    },
    end: (m) => void (m === undefined ? socket.end() : socket.end(lineOf(m))),
    close: () => void socket.destroy(),
  };
}

/** The same over a connection that is being made; `connected`: it can be written to. */
export function connectLines(path: string, events: LineEvents & { connected(): void }): LineSocket {
  const socket = connect(path);
  socket.once("connect", () => events.connected());
  return overLines(socket, events);
}
