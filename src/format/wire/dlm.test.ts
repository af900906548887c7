import { describe, expect, test } from "vitest";
import { tcpStreams } from "../../../test/support/pcap.ts";
import type { AnyStruct, Field, ViewBase } from "../struct.ts";
import { DLM_MSG, dlmMessages } from "./dlm_messages.ts";

const HANDSHAKE = 32;
const HEADER = 24;
const REQUEST = 0xfa55;

interface Message {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** All requests of a capture of kernel nodes. */
function messages(name: string): Message[] {
  const all: Message[] = [];
  for (const { segments } of tcpStreams(name)) {
    const bytes = Buffer.concat(segments);
    for (let at = HANDSHAKE; at + HEADER <= bytes.length; ) {
      const len = bytes.readUInt16BE(at + 2);
      const payload = bytes.subarray(at + HEADER, at + HEADER + len);
      if (bytes.readUInt16BE(at) === REQUEST && payload.length === len)
        all.push({ type: bytes.readUInt16BE(at + 4), payload });
      at += HEADER + len;
    }
  }
  return all;
}

type Values = Record<string, unknown> & ViewBase;

/** Writes every field that is read from `from` into `to`, by value. */
function copyFields(struct: AnyStruct, from: Values, to: Values, tail_bytes: number): void {
  for (const [key, f] of Object.entries(struct.fields as Record<string, Field>)) {
    if (f.kind === "tail" || f.kind === "array") {
      const count = f.kind === "array" ? f.count : tail_bytes / f.stride;
      type Elems = { at(i: number): Values; get(i: number): number; set(i: number, v: number): void };
      const [a, b] = [from[key] as Elems, to[key] as Elems];
      for (let i = 0; i < count; i++) {
        if (typeof f.of === "string") b.set(i, a.get(i));
        else copyFields(f.of, a.at(i), b.at(i), 0);
      }
    } else if (f.kind !== "reserved") to[key] = from[key];
  }
}

describe("the messages of o2dlm", () => {
  const all = [...messages("two.pcap.gz"), ...messages("three.pcap.gz")];

  test("what kernel nodes sent is read and written again byte for byte, with nothing in the padding", () => {
    const seen = new Set<number>();
    for (const { type, payload } of all) {
      const msg = dlmMessages.get(type);
      expect({ type, known: msg !== undefined }).toEqual({ type, known: true });
      const { struct, name, max_len } = msg!;
      expect({ name, fits: payload.length >= struct.size && payload.length <= max_len }).toEqual({ name, fits: true });
      const tail_bytes = payload.length - struct.size;
      const again = struct.alloc(tail_bytes);
      copyFields(struct, struct.from(payload) as Values, again as Values, tail_bytes);
      expect({ name, bytes: Buffer.from(again.dv.buffer as ArrayBuffer).toString("hex") }).toEqual({
        name,
        bytes: Buffer.from(payload).toString("hex"),
      });
      seen.add(type);
    }
    expect(all.length).toBeGreaterThan(500);
    // Joins, locks, leaves and deaths of two and of three nodes. What is rare is not among them.
    const never = [...dlmMessages.values()].filter((m) => !seen.has(m.type)).map((m) => m.name);
    expect(never).toEqual(["MIGRATE_REQUEST", "CANCEL_JOIN", "DEREF_LOCKRES_DONE"]);
  });

  test("sizes are those of the C structures", () => {
    const sizes = Object.fromEntries(Object.values(DLM_MSG).map((m) => [m.name, m.struct.size]));
    expect(sizes).toMatchObject({
      ...{ MASTER_REQUEST: 72, ASSERT_MASTER: 72, CREATE_LOCK: 80, CONVERT_LOCK: 80, PROXY_AST: 80, UNLOCK_LOCK: 80 },
      ...{ DEREF_LOCKRES: 72, MIGRATE_REQUEST: 72, MIG_LOCKRES: 112, QUERY_JOIN: 104, ASSERT_JOINED: 68 },
      ...{ EXIT_DOMAIN: 4, MASTER_REQUERY: 72, LOCK_REQUEST: 8, RECO_DATA_DONE: 72, BEGIN_RECO: 8, FINALIZE_RECO: 8 },
      ...{ QUERY_REGION: 1092, QUERY_NODEINFO: 2108, BEGIN_EXIT_DOMAIN: 4, DEREF_LOCKRES_DONE: 72, CANCEL_JOIN: 68 },
    });
  });
});
