import { describe, expect, test } from "vitest";
import { gc } from "../../test/support/garbage.ts";
import { O2NET_ERR_NO_HNDLR, O2NET_MSG_MAGIC, O2NET_MSG_STATUS_MAGIC, O2netMsg } from "../format/wire/o2net.ts";
import { Errno } from "../lib/errno.ts";
import type { LaneWire } from "../lib/transport.ts";
import { Lane } from "./lane.ts";
import { OutBuffer } from "./tcp_stream.ts";

const KEY = 9;

class Wire implements LaneWire {
  readonly number = 3;
  readonly sent: { conn: number; message: O2netMsg; payload: number[] }[] = [];
  readonly diverted = new Set<number>();
  readonly watched = new Set<number>();

  send(conn: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const message = O2netMsg.from(bytes, at);
      const end = at + O2netMsg.size + message.data_len;
      this.sent.push({ conn, message, payload: [...bytes.subarray(at + O2netMsg.size, end)] });
      at = end;
    }
  }
  divert(key: number, on: boolean): void {
    if (on) this.diverted.add(key);
    else this.diverted.delete(key);
  }
  watch(conn: number, on: boolean): void {
    if (on) this.watched.add(conn);
    else this.watched.delete(conn);
  }
  readonly ended = new Set<number>();
  isOpen(conn: number): boolean {
    return !this.ended.has(conn);
  }
  now_ms(): number {
    return 0;
  }
}

function laneOf() {
  const wire = new Wire();
  const lane = new Lane(1, wire, () => {});
  const heard: string[] = [];
  const send = (type: number, to: number, payload = [1]): void =>
    lane.send(type, KEY, Uint8Array.from(payload), to, (err, status) => heard.push(`${type}: ${err} ${status}`));
  /** The status of the message that was sent as number `i`. */
  const answer = (i: number, status: number, conn = wire.sent[i]!.conn): void => {
    const out = new OutBuffer();
    const { msg_type, key, msg_num } = wire.sent[i]!.message;
    out.status(O2NET_MSG_STATUS_MAGIC, msg_type, key, msg_num, 0, status);
    lane.received(conn, out.take());
  };
  const arrives = (conn: number, type: number, payload = [1]): void => {
    const out = new OutBuffer();
    out.message(O2NET_MSG_MAGIC, type, KEY, 77, [Uint8Array.from(payload)], payload.length);
    lane.received(conn, out.take());
  };
  return { wire, lane, heard, send, answer, arrives };
}

describe("a lane", () => {
  test("what is sent before a node can be reached waits, in its order; the messages of a turn are one write", () => {
    const { wire, lane, heard, send, answer } = laneOf();
    send(500, 2);
    lane.reach(2, 0, 0);
    send(501, 2);
    lane.flush();
    expect(wire.sent).toEqual([]);
    lane.reach(2, 8, 0);
    send(502, 2, [5, 6]);
    lane.flush();
    expect(wire.sent.map((s) => [s.conn, s.message.msg_type, s.payload])).toEqual([
      [8, 500, [1]],
      [8, 501, [1]],
      [8, 502, [5, 6]],
    ]);
    // Other senders of the connection have other numbers.
    expect(wire.sent.every((s) => s.message.msg_num >>> 24 === wire.number)).toBe(true);
    answer(2, -3);
    answer(0, 4);
    expect(heard).toEqual(["502: 0 -3", "500: 0 4"]);
    expect([...lane.takeStats()].map(([node, s]) => [node, s.sends])).toEqual([[2, 2]]);
  });

  test("a lost connection fails what waits for a status, never from within the call; what it still brings counts for nothing", () => {
    const { wire, lane, heard, send, answer, arrives } = laneOf();
    const seen: number[] = [];
    lane.register(600, KEY, 8, (payload) => {
      seen.push(payload[0]!);
      return 0;
    });
    lane.reach(2, 8, 0);
    send(500, 2);
    lane.flush();
    lane.reach(2, 0, -Errno.ENOTCONN);
    send(501, 2);
    expect(heard).toEqual([]);
    lane.flush();
    expect(heard).toEqual([`500: ${-Errno.EHOSTDOWN} 0`, `501: ${-Errno.ENOTCONN} 0`]);
    answer(0, 1, 8);
    arrives(8, 600);
    expect([heard.length, seen, [...wire.watched]]).toEqual([2, [], []]);
    // The node comes back with another connection.
    lane.reach(2, 0, 0);
    lane.reach(2, 11, 0);
    send(502, 2);
    arrives(11, 600, [7]);
    lane.flush();
    answer(1, 0);
    expect([heard.at(-1), seen]).toEqual(["502: 0 0", [7]]);
  });

  test("a connection that is lost while its node lives is told of, if messages were under way on it", () => {
    const { lane, send, answer } = laneOf();
    const lost: number[][] = [];
    lane.onLoss = (node, conn) => lost.push([node, conn]);
    lane.reach(2, 8, 0);
    send(500, 2);
    lane.flush();
    answer(0, 0);
    lane.reach(2, 0, 0);
    expect(lost).toEqual([]);
    lane.reach(2, 9, 0);
    send(500, 2);
    lane.flush();
    lane.reach(2, 0, 0);
    expect(lost).toEqual([[2, 9]]);
    // A node that died has nothing to say any more.
    lane.reach(3, 10, 0);
    send(500, 3);
    lane.flush();
    lane.reach(3, 0, -Errno.ENOTCONN);
    expect(lost).toEqual([[2, 9]]);
  });

  test("messages that are faster than the news of their connection wait for it", () => {
    const { wire, lane, arrives } = laneOf();
    const seen: number[] = [];
    lane.register(600, KEY, 8, (payload, from) => {
      seen.push(from * 10 + payload[0]!);
      return payload[0]!;
    });
    arrives(8, 600, [1]);
    lane.reach(3, 9, 0);
    arrives(8, 600, [2]);
    expect(seen).toEqual([]);
    lane.reach(2, 8, 0);
    arrives(8, 600, [3]);
    lane.flush();
    expect(seen).toEqual([21, 22, 23]);
    expect(wire.sent.map((s) => [s.conn, s.message.status, s.message.msg_num])).toEqual([
      [8, 1, 77],
      [8, 2, 77],
      [8, 3, 77],
    ]);
  });

  test("only so much waits for the news of its connection: then the lane is full, until the news comes or the connection has ended without any", () => {
    const { wire, lane, arrives } = laneOf();
    let seen = 0;
    lane.register(600, KEY, 4000, () => {
      seen++;
      return 0;
    });
    const fill = (conn: number): number => {
      let n = 0;
      for (; !lane.isFull && n < 1000; n++) arrives(conn, 600, Array(4000).fill(1));
      return n;
    };
    const n = fill(8);
    expect(n).toBeLessThan(100);
    lane.reach(2, 8, 0);
    expect([lane.isFull, seen]).toEqual([false, n]);
    // Its handshake was not what it should be, say: the main thread has nothing to tell of it.
    fill(9);
    wire.ended.add(9);
    expect(lane.isFull).toBe(false);
    lane.reach(3, 9, 0);
    expect(seen).toBe(n);
  });

  test("a peer that connects and goes, over and over, leaves nothing behind", () => {
    const { lane } = laneOf();
    let conn = 0;
    const heap = (n: number): number => {
      for (let i = 0; i < n; i++) {
        lane.reach(2, ++conn, 0);
        lane.reach(2, 0, 0);
      }
      gc();
      return process.memoryUsage().heapUsed;
    };
    const before = heap(1000);
    expect(heap(300_000) - before).toBeLessThan(4 << 20);
  });

  test("a key comes to the lane for as long as somebody answers it; a type that nobody answers is said to be so", () => {
    const { wire, lane, arrives } = laneOf();
    lane.reach(2, 8, 0);
    const [one, two] = [600, 601].map((type) => lane.register(type, KEY, 8, () => 0));
    expect([...wire.diverted]).toEqual([KEY]);
    one!();
    arrives(8, 600);
    lane.flush();
    expect(wire.sent.map((s) => s.message.sys_status)).toEqual([O2NET_ERR_NO_HNDLR]);
    two!();
    expect([...wire.diverted]).toEqual([]);
  });

  test("an answer that comes when the connection is another is not given", () => {
    const { wire, lane, arrives } = laneOf();
    let answer: (status: number) => void = () => {};
    lane.register(600, KEY, 8, () => (a) => {
      answer = a;
    });
    lane.reach(2, 8, 0);
    arrives(8, 600);
    lane.reach(2, 0, -Errno.ENOTCONN);
    lane.reach(2, 12, 0);
    answer(0);
    lane.flush();
    expect([wire.sent, [...lane.takeStats()]]).toEqual([[], []]);
  });
});
