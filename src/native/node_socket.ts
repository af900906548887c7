/** The socket of the process of a cluster's node on this machine, as a program sees it that has its locks through it. */
import { connect } from "node:net";
import { join } from "node:path";

/** Where this user's processes have their sockets and records. */
export const runPath = (): string =>
  process.getuid?.() === 0
    ? "/run/ocfs2"
    : join(process.env["XDG_RUNTIME_DIR"] ?? `/tmp/ocfs2-${process.getuid?.() ?? 0}`, "ocfs2");

export const nodeSocketPath = (node: string): string => join(runPath(), `node-${encodeURIComponent(node)}.sock`);

export interface LineSocketEvents {
  /** It can be written to. */
  connected(): void;
  /** An object came. */
  heard(m: unknown): void;
  /** It has ended, or could not be made; nothing comes any more. */
  ended(): void;
}

export interface LineSocket {
  send(m: unknown): void;
  close(): void;
}

/** One JSON object a line, both ways. */
export function connectLines(path: string, events: LineSocketEvents): LineSocket {
  const socket = connect(path);
  let text = "";
  socket.setEncoding("utf8");
  socket.once("connect", () => events.connected());
  socket.on("data", (more: string) => {
    text += more;
    for (let nl = text.indexOf("\n"); nl >= 0; nl = text.indexOf("\n")) {
      const line = text.slice(0, nl);
      text = text.slice(nl + 1);
      events.heard(JSON.parse(line));
    }
  });
  // "close" follows.
  socket.on("error", () => {});
  socket.once("close", () => events.ended());
  return {
    send: (m) => void socket.write(`${JSON.stringify(m)}\n`),
    close: () => void socket.destroy(),
  };
}
