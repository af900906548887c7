/** Lanes over real connections: whose each message is, who reads when the one that reads goes, and the end of a connection. */
import { expect, test } from "vitest";
import { undoAfterEach, until } from "../../test/support/until.ts";
import { OutBuffer } from "../cluster/tcp_stream.ts";
import { O2NET_MSG_MAGIC, O2NET_MSG_STATUS_MAGIC, O2netMsg } from "../format/wire/o2net.ts";
import { plainArena } from "../lib/arena.ts";
import type { Connection } from "../lib/transport.ts";
import { NativeLane } from "./lane.ts";
import { Loop } from "./loop.ts";
import { net } from "./net.ts";
import { tcpHub, tcpTransport } from "./tcp_transport.ts";

const NET = `127.${1 + (process.pid % 250)}.8`;
let next_port = 21_000 + (process.pid % 20_000);

const undo = undoAfterEach();

function loopOf(): Loop {
  const loop = new Loop(plainArena(1 << 20), 16);
  // This thread has other things to wait for, too.
  loop.addWork(() => true);
  loop.start(() => loop.close());
  undo.push(() => loop.stop());
  return loop;
}

/** Both ends of a connection, of which this thread's hub has one each. */
async function pair(): Promise<{ out: Connection; back: Connection; main: number[]; closed: string[] }> {
  const main: number[] = [];
  const closed: string[] = [];
  const port = next_port++;
  let back: Connection | undefined;
  const listener = await new Promise<{ close(): void }>((ok) => {
    const l = tcpTransport.listen(`${NET}.1`, port, {
      ready: () => ok(l),
      failed: (why) => expect(why).toBe(""),
      accepted(conn) {
        back = conn;
        conn.events = {
          connected() {},
          data: (bytes) => void main.push(...bytes),
          drained() {},
          closed: (why) => void closed.push(why),
        };
      },
    });
  });
  const out = tcpTransport.connect(`${NET}.2`, `${NET}.1`, port);
  let stands = false;
  out.events = { connected: () => (stands = true), data() {}, drained() {}, closed() {} };
  await until(() => stands && back !== undefined);
  listener.close();
  undo.push(
    () => out.close(),
    () => back!.close(),
  );
  return { out, back: back!, main, closed };
}

function laneOf(loop: Loop, key: number) {
  const lane = new NativeLane(loop, tcpHub());
  const got: string[] = [];
  lane.received = (conn, message) => {
    const { msg_type, status } = O2netMsg.from(message);
    got.push(`${conn} ${msg_type} ${status} ${[...message.subarray(O2netMsg.size)]}`);
  };
  lane.divert(key, true);
  const off = loop.addWork(() => {
    lane.turn();
    return false;
  });
  const close = (): void => {
    off();
    lane.close();
  };
  return { lane, got, close };
}

const message = (type: number, key: number, payload: number[]): Uint8Array => {
  const out = new OutBuffer();
  out.message(O2NET_MSG_MAGIC, type, key, 1, [Uint8Array.from(payload)], payload.length);
  return out.take();
};
const statusFor = (lane: number, status: number): Uint8Array => {
  const out = new OutBuffer();
  out.status(O2NET_MSG_STATUS_MAGIC, 500, 1, lane * 2 ** 24 + 5, 0, status);
  return out.take();
};
const HANDSHAKE = Uint8Array.from({ length: 32 }, (_, i) => i);

test("each message comes to whom it concerns, in pieces or not; when the lane that reads goes, the next one reads", async () => {
  const { out, back, main, closed } = await pair();
  const loop = loopOf();
  const [one, two] = [laneOf(loop, 1), laneOf(loop, 2)];
  const n = back.number!;
  for (const { lane } of [one, two]) for (const conn of [n, out.number!]) lane.watch(conn, true);
  const third = message(602, 3, [9, 9]);
  const bytes = [HANDSHAKE, message(600, 1, [1, 2]), third, message(601, 2, [3]), statusFor(two.lane.number, 7)];
  for (const b of bytes) out.write(b);
  await until(() => one.got.length === 1 && two.got.length === 2 && main.length === 32 + third.length);
  expect([one.got, two.got]).toEqual([[`${n} 600 0 1,2`], [`${n} 601 0 3`, `${n} 500 7 `]]);
  expect(main).toEqual([...HANDSHAKE, ...third]);

  one.close();
  // Its key is the main thread's again; and whoever reads has to find the seams.
  const [first, second] = [message(600, 1, [1]), message(601, 2, [4, 5, 6])];
  for (const b of [...first, ...second]) out.write(Uint8Array.of(b));
  await until(() => two.got.length === 3 && main.length === 32 + third.length + first.length);
  expect(two.got[2]).toBe(`${n} 601 0 4,5,6`);
  expect(main.slice(32 + third.length)).toEqual([...first]);

  // Both ways, more than a socket's buffers take at once.
  let came = 0;
  out.events = { ...out.events, data: (b) => (came += b.length) };
  const big = message(603, 1, Array(4000).fill(5));
  back.write(HANDSHAKE);
  for (let i = 0; i < 2000; i++) two.lane.send(n, big);
  await until(() => came === HANDSHAKE.length + 2000 * big.length);

  out.close();
  await until(() => closed.length > 0);
  expect(closed).toEqual([""]);
  two.close();
});

test("without a lane the main thread has everything; a lane that comes later does not miss what is on its way", async () => {
  const { out, back, main } = await pair();
  out.write(HANDSHAKE);
  out.write(message(600, 1, [1]));
  await until(() => main.length === 32 + 25);
  const loop = loopOf();
  const late = laneOf(loop, 1);
  out.write(message(600, 1, [2]));
  late.lane.watch(back.number!, true);
  await until(() => late.got.length === 1);
  expect(late.got).toEqual([`${back.number} 600 0 2`]);
  late.close();
});

test("who gets what is read comes to be the one that reads", async () => {
  const { out, back } = await pair();
  const loop = loopOf();
  const [one, two] = [laneOf(loop, 1), laneOf(loop, 2)];
  for (const { lane } of [one, two]) for (const conn of [back.number!, out.number!]) lane.watch(conn, true);
  out.write(HANDSHAKE);
  const reads = (lane: NativeLane): boolean => net.laneReading(tcpHub(), lane.number) !== 0;
  const sent = async (key: number, to: { got: string[] }): Promise<void> => {
    const before = to.got.length;
    out.write(message(600, key, [key]));
    await until(() => to.got.length > before);
  };
  await sent(2, two);
  await sent(2, two);
  await sent(1, one);
  await sent(2, two);
  expect([reads(one.lane), reads(two.lane)]).toEqual([true, false]);
  await sent(2, two);
  await sent(2, two);
  expect([reads(one.lane), reads(two.lane)]).toEqual([false, true]);
  await sent(1, one);
  await sent(2, two);
  two.close();
  await sent(1, one);
  one.close();
});

test("a thread that is stuck gets no more than so much: its peers feel it, other connections do not, and nothing is lost", async () => {
  const [flood, other] = [await pair(), await pair()];
  const loop = loopOf();
  const [one, stuck] = [laneOf(loop, 1), laneOf(loop, 2)];
  let is_stuck = true;
  stuck.lane.isFull = () => is_stuck;
  for (const { lane } of [one, stuck])
    for (const { out, back } of [flood, other]) for (const c of [out, back]) lane.watch(c.number!, true);
  flood.out.write(HANDSHAKE);
  other.out.write(HANDSHAKE);
  const COUNT = 8192;
  const bytes = message(600, 2, Array(4000).fill(5));
  for (let i = 0; i < COUNT; i++) flood.out.write(bytes);
  /** What the sender still has. */
  const held = (): number => net.netWrite(tcpHub(), flood.out.number!, new Uint8Array(0));
  // Until nothing of it has moved for a while.
  for (let before = -1, since = 0; before !== held() || performance.now() - since < 500; ) {
    if (before !== held()) since = performance.now();
    before = held();
    const n = one.got.length;
    other.out.write(message(601, 1, [1]));
    await until(() => one.got.length > n);
  }
  expect(held()).toBeGreaterThan((COUNT * bytes.length) / 2);
  is_stuck = false;
  loop.wake();
  await until(() => stuck.got.length === COUNT);
  expect(held()).toBe(0);
  one.close();
  stuck.close();
}, 60_000);
