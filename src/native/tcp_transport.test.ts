/** Who connects without end: what a node that cannot see to it takes, and that nobody else waits. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { atExit } from "../../test/support/cleanup.ts";
import { nextUncaught, undoAfterEach, until } from "../../test/support/until.ts";
import { OutBuffer } from "../cluster/tcp_stream.ts";
import { O2NET_MSG_MAGIC } from "../format/wire/o2net.ts";
import { plainArena } from "../lib/arena.ts";
import type { Connection } from "../lib/transport.ts";
import { NativeLane } from "./lane.ts";
import { Loop } from "./loop.ts";
import { tcpHub, tcpTransport } from "./tcp_transport.ts";

const HOST = `127.${1 + (process.pid % 250)}.7.1`;
let next_port = 22_000 + (process.pid % 20_000);

const undo = undoAfterEach();

async function listen(accepted: (conn: Connection) => void): Promise<number> {
  const port = next_port++;
  await new Promise<void>((ok) => {
    const l = tcpTransport.listen(HOST, port, { ready: ok, failed: (why) => expect(why).toBe(""), accepted });
    undo.push(() => l.close());
  });
  return port;
}

/** Makes connections until no more come, counts them in shared[0], and says so in shared[1]. */
const MANY = `
const { workerData: { host, port, count, shared } } = require("node:worker_threads");
const { connect } = require("node:net");
const word = new Int32Array(shared);
let since = performance.now();
for (let i = 0; i < count; i++) {
  const s = connect({ host, port });
  s.on("connect", () => { Atomics.add(word, 0, 1); since = performance.now(); });
  s.on("error", () => {});
}
const timer = setInterval(() => {
  if (performance.now() - since < 500 && word[0] < count) return;
  Atomics.store(word, 1, 1);
  Atomics.notify(word, 1);
  clearInterval(timer);
}, 10);
`;

test("while the main thread is busy only so many are accepted; then it goes on", async () => {
  const COUNT = 1000;
  const from = new Set<string>();
  const port = await listen((conn) => {
    from.add(conn.remote_address);
    conn.close();
  });
  const shared = new SharedArrayBuffer(8);
  const word = new Int32Array(shared);
  const worker = new Worker(MANY, { eval: true, workerData: { host: HOST, port, count: COUNT, shared } });
  undo.push(() => void worker.terminate());
  expect(Atomics.wait(word, 1, 0, 60_000)).toBe("ok");
  expect(word[0]).toBeGreaterThan(200);
  expect(word[0]).toBeLessThan(500);
  const other = `${HOST.slice(0, -1)}3`;
  const socket = connect({ host: HOST, port, localAddress: other });
  undo.push(() => void socket.destroy());
  await until(() => from.has(other));
});

/** A process with few descriptors, all of them open. It says how much CPU time half a second takes it in which somebody wants to connect. */
const FULL = `
const net = require(process.argv[1]);
const fs = require("node:fs");
const [host, port] = process.argv.slice(2);
const hub = net.netStart(() => {
  for (let e = net.netEvent(hub); e !== null; e = net.netEvent(hub)) if (e.kind === 0) console.log("accepted");
});
net.netListen(hub, host, Number(port));
const held = [];
try {
  for (;;) held.push(fs.openSync("/dev/null"));
} catch {}
process.stdin.once("data", () => {
  const before = process.cpuUsage();
  setTimeout(() => {
    const { user, system } = process.cpuUsage(before);
    console.log("ms " + (user + system) / 1000);
    for (const fd of held) fs.closeSync(fd);
  }, 500);
});
console.log("full");
`;

test("where there are no descriptors left nobody is accepted, at no cost, and then somebody is", async () => {
  const port = next_port++;
  const addon = join(import.meta.dirname, "../../native/ocfs2.node");
  const node: ChildProcess = spawn(
    "/bin/sh",
    ["-c", 'ulimit -n 100; exec "$0" "$@"', process.execPath, "-e", FULL, addon, HOST, String(port)],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  atExit(() => node.kill("SIGKILL"));
  let said = "";
  node.stdout!.on("data", (text) => (said += text));
  await until(() => said.includes("full\n"));
  const socket: Socket = connect({ host: HOST, port });
  undo.push(() => socket.destroy());
  await once(socket, "connect");
  expect((socket.address() as AddressInfo).port).toBeGreaterThan(0);
  node.stdin!.write("go\n");
  await until(() => said.includes("accepted"));
  expect(Number(/ms (.*)/.exec(said)![1])).toBeLessThan(30);
});

test("a lane that reads and is stuck does not hold up the others while strangers connect without end", async () => {
  const main: number[] = [];
  let back: Connection | undefined;
  const port = await listen((conn) => {
    if (back !== undefined) return conn.close();
    back = conn;
    conn.events = { connected() {}, data: (bytes) => void main.push(...bytes), drained() {}, closed() {} };
  });
  const out = tcpTransport.connect(`${HOST.slice(0, -1)}2`, HOST, port);
  out.events = { connected() {}, data() {}, drained() {}, closed() {} };
  undo.push(
    () => out.close(),
    () => back!.close(),
  );
  await until(() => back !== undefined);
  const loop = new Loop(plainArena(1 << 20), 16);
  undo.push(() => loop.close());
  // The only one, so it reads for all; but it never comes to it.
  const stuck = new NativeLane(loop, tcpHub());
  undo.push(() => stuck.close());
  out.write(Uint8Array.from({ length: 32 }, (_, i) => i));
  await until(() => main.length === 32);

  let strangers = 0;
  const timer = setInterval(() => {
    const s = connect({ host: HOST, port });
    s.on("error", () => {});
    s.on("close", () => strangers++);
    s.resume();
  }, 10);
  undo.push(() => clearInterval(timer));
  await until(() => strangers > 0);
  const message = new OutBuffer();
  message.message(O2NET_MSG_MAGIC, 600, 3, 1, [Uint8Array.of(9)], 1);
  out.write(message.take());
  const before = strangers;
  await until(() => main.length === 32 + 25 || strangers > before + 300);
  expect(main.length).toBe(32 + 25);
});

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

test("what goes wrong about a message ends the process; node only warned of it, and nothing was heard any more", async () => {
  const broken = new Error("broken");
  const port = await listen((conn) => {
    conn.events = {
      connected() {},
      data() {
        throw broken;
      },
      drained() {},
      closed() {},
    };
  });
  const socket = connect({ host: HOST, port });
  undo.push(() => void socket.destroy());
  expect(await nextUncaught(() => void socket.write("hello"))).toBe(broken);
}, 10_000);
