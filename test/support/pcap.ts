/** Captures of what kernel nodes said to each other (test/fixtures/captures), as the bytes of each direction of each connection. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

export interface Direction {
  /** "10.77.0.2:43210 > 10.77.0.1:7777" */
  readonly name: string;
  /** Payloads in order, without what was sent twice. */
  readonly segments: Uint8Array[];
}

const captures = join(import.meta.dirname, "..", "fixtures", "captures");

/**
 * The TCP streams of an Ethernet capture; packets that came out of order are put in order. `onSegment` sees the segments of all streams
 * in the order of their arrival.
 */
export function tcpStreams(
  name: string,
  onSegment: (name: string, payload: Uint8Array) => void = () => {},
): Direction[] {
  const bytes = gunzipSync(readFileSync(join(captures, name)));
  const pcap = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (pcap.getUint32(0, true) !== 0xa1b2c3d4) throw new Error(`${name}: no little-endian pcap`);
  const streams = new Map<string, { next: number; segments: Uint8Array[]; later: Map<number, Uint8Array> }>();
  for (let at = 24; at + 16 <= bytes.length; ) {
    const len = pcap.getUint32(at + 8, true);
    const packet = at + 16;
    at = packet + len;
    if (pcap.getUint16(packet + 12) !== 0x0800 || bytes[packet + 14 + 9] !== 6) continue;
    const ip = packet + 14;
    const tcp = ip + (bytes[ip]! & 15) * 4;
    const address = (a: number): string => [...bytes.subarray(a, a + 4)].join(".");
    const key = `${address(ip + 12)}:${pcap.getUint16(tcp)} > ${address(ip + 16)}:${pcap.getUint16(tcp + 2)}`;
    const seq = pcap.getUint32(tcp + 4);
    if ((bytes[tcp + 13]! & 2) !== 0) {
      streams.set(key, { next: (seq + 1) >>> 0, segments: [], later: new Map() });
      continue;
    }
    const payload = bytes.subarray(tcp + (bytes[tcp + 12]! >> 4) * 4, ip + pcap.getUint16(ip + 2));
    const s = streams.get(key);
    if (s === undefined || payload.length === 0) continue;
    s.later.set(seq, payload);
    for (let p = s.later.get(s.next); p !== undefined; p = s.later.get(s.next)) {
      s.later.delete(s.next);
      s.segments.push(p);
      onSegment(key, p);
      s.next = (s.next + p.length) >>> 0;
    }
  }
  return [...streams].map(([name, s]) => ({ name, segments: s.segments })).filter((s) => s.segments.length > 0);
}
