/**
 * The thread of a mounted tree: it reads /dev/fuse and hands each question to the thread that has the tree. A thread of its own, because the
 * node's main thread waits for sockets and not for /dev/fuse. Entry point of dist/tree_worker.js.
 */
import { parentPort, workerData } from "node:worker_threads";
import { plainArena } from "../lib/arena.ts";
import { Loop } from "../native/loop.ts";
import { serveTree } from "./tree_loop.ts";
import { type TreeAnswer, type TreeAsk, TreeServer } from "./tree_server.ts";

export interface TreeWorkerData {
  readonly fd: number;
}
export interface FromTree {
  readonly id: number;
  readonly ask: TreeAsk;
}
export interface ToTree {
  readonly id: number;
  readonly answer: TreeAnswer;
}

const { fd } = workerData as TreeWorkerData;
const arena = plainArena(2 << 20);
const loop = new Loop(arena, 16);
const waiting = new Map<number, (answer: TreeAnswer) => void>();
let next = 0;
const server = new TreeServer(fd, arena, (ask, done) => {
  const id = next++;
  waiting.set(id, done);
  parentPort!.postMessage({ id, ask } satisfies FromTree);
});
serveTree(loop, fd, server, () => loop.stop());

parentPort!.on("message", ({ id, answer }: ToTree) => {
  const done = waiting.get(id);
  waiting.delete(id);
  done?.(answer);
});
parentPort!.postMessage({ wakefd: loop.giveWakefd() });
loop.start(() => {
  loop.close();
  parentPort!.close();
});
