/** Who connects without end: what a node that cannot see to it takes, and that nobody else waits. */
import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import type { Connection } from "../lib/transport.ts";
import { tcpTransport } from "./tcp_transport.ts";

const HOST = `127.${1 + (process.pid % 250)}.7.1`;
let next_port = 22_000 + (process.pid % 20_000);

const undo: (() => void)[] = [];
afterEach(() => {
  for (const fn of undo.splice(0).reverse()) fn();
});

const until = async (done: () => boolean): Promise<void> => {
  while (!done()) await new Promise((ok) => setImmediate(ok));
};

async function listen(accepted: (conn: Connection) => void): Promise<number> {
  const port = next_port++;
  await new Promise<void>((ok) => {
    const l = tcpTransport.listen(HOST, port, { ready: ok, failed: (why) => expect(why).toBe(""), accepted });
    undo.push(() => l.close());
  });
  return port;
}

/** Sends as much as the other side takes, without end. */
const FLOOD = `
const { workerData: { host, port } } = require("node:worker_threads");
const s = require("node:net").connect({ host, port });
const bytes = Buffer.alloc(1 << 20);
const more = () => { while (s.write(bytes)); };
s.on("connect", more);
s.on("drain", more);
s.on("error", () => {});
`;

test("a peer that sends without end leaves time for everything else", async () => {
  let ticks = 0;
  let came = 0;
  const seen: number[] = [];
  const port = await listen((conn) => {
    conn.events = {
      connected() {},
      data(bytes) {
        came += bytes.length;
        seen.push(ticks);
        // What it sends takes longer to be understood than to come.
        for (const end = performance.now() + 5; performance.now() < end; ) Math.sqrt(2);
        if (seen.length === 200) conn.close();
      },
      drained() {},
      closed() {},
    };
  });
  const timer = setInterval(() => ticks++, 1);
  undo.push(() => clearInterval(timer));
  const worker = new Worker(FLOOD, { eval: true, workerData: { host: HOST, port } });
  undo.push(() => void worker.terminate());
  await until(() => seen.length === 200);
  expect(came).toBeGreaterThan(10 << 20);
  expect(seen.at(-1)! - seen[0]!).toBeGreaterThan(10);
});
