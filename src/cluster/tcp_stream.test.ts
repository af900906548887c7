import { expect, test } from "vitest";
import { tcpStreams } from "../../test/support/pcap.ts";
import { O2NET_MSG_MAGIC, O2NET_MSG_STATUS_MAGIC, O2NET_PROTOCOL_VERSION, O2netMsg } from "../format/wire/o2net.ts";
import { MessageReader, OutBuffer } from "./tcp_stream.ts";

interface Seen {
  magic: number;
  type: number;
  key: number;
  num: number;
  sys: number;
  len: number;
}

function readAll(segments: readonly Uint8Array[]): { hand: number[]; seen: Seen[]; ends: string[] } {
  const hand: number[] = [];
  const seen: Seen[] = [];
  const reader = new MessageReader({
    handshake: (h) => hand.push(h.protocol_version, h.o2hb_heartbeat_timeout_ms, h.o2net_idle_timeout_ms) > 0,
    message: (m, payload) =>
      seen.push({
        magic: m.magic,
        type: m.msg_type,
        key: m.key,
        num: m.msg_num,
        sys: m.sys_status,
        len: payload.length,
      }) > 0,
    overflow: () => {},
  });
  return { hand, seen, ends: segments.map((s) => reader.push(s)) };
}

test("what kernel nodes said to each other parses to its last byte, and every status answers a message", () => {
  const streams = tcpStreams("two.pcap.gz");
  expect(streams.length).toBeGreaterThanOrEqual(2);
  let messages = 0;
  for (const { name, segments } of streams) {
    const there = readAll(segments);
    expect(there.ends.every((end) => end === "go on")).toBe(true);
    expect(there.hand).toEqual([O2NET_PROTOCOL_VERSION, 12000, 10000]);
    const [from, to] = name.split(" > ");
    const back = readAll(streams.find((s) => s.name === `${to} > ${from}`)!.segments);
    const asked = there.seen.filter((m) => m.magic === O2NET_MSG_MAGIC);
    const answered = back.seen.filter((m) => m.magic === O2NET_MSG_STATUS_MAGIC);
    messages += asked.length;
    // Each number is answered in the order in which it was used; the last may be left open by a death.
    for (const status of answered) {
      const i = asked.findIndex((m) => m.num === status.num);
      expect(i, `status ${status.num} of ${name}`).toBeGreaterThanOrEqual(0);
      const [request] = asked.splice(i, 1);
      expect({ type: status.type, key: status.key, len: status.len }).toEqual({
        type: request!.type,
        key: request!.key,
        len: 0,
      });
      expect(status.sys).toBeLessThanOrEqual(1);
    }
    expect(asked.length).toBeLessThanOrEqual(2);
  }
  expect(messages).toBeGreaterThan(300);
});

test("the way a stream is cut into packets does not matter", () => {
  const { segments } = tcpStreams("two.pcap.gz")[0]!;
  const whole = Buffer.concat(segments);
  const expected = readAll(segments).seen;
  for (const size of [1, 7, 24, 25, 4096, whole.length]) {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < whole.length; at += size) pieces.push(whole.subarray(at, at + size));
    expect(readAll(pieces).seen, `pieces of ${size}`).toEqual(expected);
  }
});

test("what is gathered comes out as it went in, a handshake's bytes without a header", () => {
  const out = new OutBuffer();
  out.raw(new Uint8Array(32).fill(9));
  out.message(O2NET_MSG_MAGIC, 503, 0xfedcba98, 7, [new Uint8Array([1, 2]), new Uint8Array([3])], 3);
  out.message(O2NET_MSG_MAGIC, 504, 1, 8, [new Uint8Array(4072).fill(5)], 4072);
  out.status(O2NET_MSG_STATUS_MAGIC, 500, 2, 9, 1, -22);
  const bytes = out.take();
  expect(out.length).toBe(0);
  expect([...bytes.subarray(0, 32)]).toEqual(new Array(32).fill(9));
  expect([...bytes.subarray(32 + 24, 32 + 27)]).toEqual([1, 2, 3]);
  const seen = readAll([bytes]).seen;
  expect(seen.map((m) => [m.type, m.key, m.num, m.len])).toEqual([
    [503, 0xfedcba98, 7, 3],
    [504, 1, 8, 4072],
    [500, 2, 9, 0],
  ]);
  const status = O2netMsg.from(bytes, bytes.length - 24);
  expect([status.status | 0, status.sys_status]).toEqual([-22, 1]);
});

test("a length that no message has ends the reading before anything of it is kept", () => {
  const lengths: number[] = [];
  const reader = new MessageReader({ handshake: () => true, message: () => true, overflow: (n) => lengths.push(n) });
  const msg = O2netMsg.alloc();
  msg.magic = O2NET_MSG_MAGIC;
  msg.data_len = 4073;
  expect(reader.push(new Uint8Array(32))).toBe("go on");
  expect(reader.push(msg.bytes().subarray(0, 3))).toBe("go on");
  expect(reader.push(msg.bytes().subarray(3))).toBe("stop");
  expect(lengths).toEqual([4073]);
});
