/**
 * What a kernel node said to another, said to ours in the other's place: it must be answered with the same statuses. The capture is of
 * node 2 mounting, reading, writing, renaming and unmounting a volume that node 1 had mounted; our node is node 1.
 */
import { expect, test } from "vitest";
import { tcpStreams } from "../../test/support/pcap.ts";
import { SimClock } from "../../test/support/sim_cluster.ts";
import type { MsgHandler, NodeListener } from "../cluster/node.ts";
import { DlmProxyAst, DlmQueryNodeinfo } from "../format/wire/dlm.ts";
import { DLM_BAST, LKM_NOQUEUE, LKM_VALBLK } from "../format/wire/dlm_constants.ts";
import { DLM_MSG, dlmMessageName, dlmMessages } from "../format/wire/dlm_messages.ts";
import { seededRandom } from "../lib/clock.ts";
import { type DomainLock, EX, type LockLevel, NL, PR } from "../stackglue/lock_domain.ts";
import { O2cbDomain } from "../stackglue/o2cb.ts";
import { nameAt } from "./dlm.ts";
import type { DlmLock } from "./lockres.ts";
import { DlmNode } from "./node.ts";

const REQUEST = 0xfa55;
const STATUS = 0xfa56;
const HEADER = 24;

interface Said {
  readonly from: number;
  readonly type: number;
  readonly key: number;
  readonly payload: Buffer;
  readonly lock: string;
  status: number;
}

/** The requests of all connections, in order, with what they were answered. */
function conversation(capture: string): Said[] {
  const said: Said[] = [];
  const streams = new Map<string, { bytes: Buffer; greeted: boolean }>();
  const waiting = new Map<string, Said>();
  tcpStreams(capture, (name, payload) => {
    const s = streams.get(name) ?? { bytes: Buffer.alloc(0), greeted: false };
    streams.set(name, s);
    s.bytes = Buffer.concat([s.bytes, payload]);
    if (!s.greeted && s.bytes.length >= 32) {
      s.greeted = true;
      s.bytes = s.bytes.subarray(32);
    }
    const [source = "", target = ""] = name.split(" > ");
    while (s.greeted && s.bytes.length >= HEADER) {
      const len = s.bytes.readUInt16BE(2);
      if (s.bytes.length < HEADER + len) return;
      const magic = s.bytes.readUInt16BE(0);
      const type = s.bytes.readUInt16BE(4);
      const num = s.bytes.readUInt32BE(20);
      if (magic === REQUEST) {
        const body = s.bytes.subarray(HEADER, HEADER + len);
        const from = Number(source.split(":")[0]!.split(".")[3]);
        const m: Said = {
          from,
          type,
          key: s.bytes.readUInt32BE(16),
          payload: body,
          lock: lockOf(type, body),
          status: 0,
        };
        said.push(m);
        waiting.set(`${source}>${target} ${type} ${num}`, m);
      } else if (magic === STATUS) {
        const m = waiting.get(`${target}>${source} ${type} ${num}`);
        if (m !== undefined) m.status = s.bytes.readInt32BE(12);
      }
      s.bytes = s.bytes.subarray(HEADER + len);
    }
  });
  return said;
}

/** The lock resource that a message is about. */
function lockOf(type: number, payload: Uint8Array): string {
  const { struct } = dlmMessages.get(type)!;
  const v = struct.from(payload) as unknown as Record<string, number>;
  const field = struct.fields.name ?? struct.fields.lockname;
  return field === undefined ? "" : nameAt(payload, field.off, v["namelen"] ?? v["lockname_len"]!);
}

/** Node 1: its locks are asked for when the capture shows it, and given up as soon as somebody wants them. */
class Ours {
  readonly handlers = new Map<string, { handler: MsgHandler }>();
  readonly locks = new Map<string, DomainLock & DlmLock>();
  readonly sent: string[] = [];
  domain: O2cbDomain | null = null;
  /** What the next message of a type about a lock is answered with. */
  answer: (type: number, lock: string) => number = () => 0;
  /** Whether the other's assertion is to come before that answer. */
  early: (type: number, lock: string) => boolean = () => false;
  readonly #held = new Map<string, () => void>();

  constructor(nodeinfo: Uint8Array) {
    const clock = new SimClock();
    const live = new Set([1]);
    const listeners: NodeListener[] = [];
    const onNodes = (l: NodeListener): (() => void) => {
      listeners.push(l);
      return () => {};
    };
    const info = DlmQueryNodeinfo.from(nodeinfo);
    const node = new DlmNode({
      net: {
        node_num: 1,
        register: (type, key, _max, handler) => {
          this.handlers.set(`${type}:${key}`, { handler });
          return () => this.handlers.delete(`${type}:${key}`);
        },
        whenRegistered: (done) => done(),
        send: (type, _key, payload, _to, done) => {
          const lock = lockOf(type, payload);
          this.sent.push(`${dlmMessageName(type)} ${lock}`.trimEnd());
          const status = this.answer(type, lock);
          if (this.early(type, lock)) this.#held.set(lock, () => done(0, status));
          else done(0, status);
        },
      },
      hb: { liveNodes: () => live, onNodes },
      clock,
      random: seededRandom(1),
      nodes: () =>
        Array.from({ length: info.qn_numnodes }, (_, i) => {
          const n = info.qn_nodes.at(i);
          return { num: n.ni_nodenum, ipv4_port: n.ni_ipv4_port, ipv4_address: n.ni_ipv4_address };
        }),
      regions: () => [],
      fatal(err) {
        throw err;
      },
    });
    O2cbDomain.join(node, "0AD1B7A93F2A4B8196090CA8716C204B", (err, domain) => {
      expect(err).toBe(0);
      this.domain = domain;
    });
    live.add(2);
    for (const l of listeners) l.up(2);
  }

  want(name: string, level: LockLevel, lvb = name.startsWith("M"), trylock = false): void {
    let lock = this.locks.get(name);
    if (lock === undefined) {
      lock = this.domain!.newLock(name, {
        ast: () => {},
        bast: (blocking) => this.domain!.convert(lock!, blocking === EX ? NL : PR, { lvb }),
      }) as DomainLock & DlmLock;
      this.locks.set(name, lock);
    }
    if (!(lock.flags & 0x40)) this.domain!.convert(lock, level, { lvb, trylock });
  }

  drop(name: string): void {
    const lock = this.locks.get(name);
    if (lock === undefined) return;
    this.domain!.unlock(lock, () => {});
    this.locks.delete(name);
  }

  hear(m: Said): number | undefined {
    const payload = Uint8Array.from(m.payload);
    const own = this.locks.get(m.lock);
    // Our locks have cookies of their own.
    if (m.type === DLM_MSG.PROXY_AST.type && own !== undefined) {
      const past = DlmProxyAst.from(payload);
      past.cookie_hi = own.cookie_hi;
      past.cookie_lo = own.cookie_lo;
    }
    const result = this.handlers.get(`${m.type}:${m.key}`)?.handler(payload, m.from);
    if (typeof result === "object") result.after();
    const held = this.#held.get(m.lock);
    this.#held.delete(m.lock);
    held?.();
    return typeof result === "object" ? result.status : (result as number | undefined);
  }
}

test("a kernel node mounts, works and unmounts, and is answered as by the other kernel node", () => {
  const said = conversation("two.pcap.gz");
  // Until node 2 has left: what it says then starts over.
  const end = said.findIndex((m) => m.type === DLM_MSG.EXIT_DOMAIN.type);
  const story = said.slice(0, end + 1);
  const ours = new Ours(story.find((m) => m.type === DLM_MSG.QUERY_NODEINFO.type)!.payload);
  // What node 1 had mastered before node 2 came, and the journal that it keeps.
  const asked = new Set<string>();
  for (const m of story) {
    if (m.type !== DLM_MSG.MASTER_REQUEST.type) continue;
    if (m.from === 2 && m.status === 1 && !asked.has(m.lock)) {
      const refused = story.some((c) => c.type === DLM_MSG.CREATE_LOCK.type && c.lock === m.lock && c.status === 21);
      ours.want(m.lock, refused ? EX : PR);
    }
    asked.add(m.lock);
  }
  const differ: string[] = [];
  const counts: Record<string, number> = {};
  story.forEach((m, i) => {
    const later = (type: number): Said | undefined =>
      story.slice(i).find((o) => o.from === 1 && o.type === type && o.lock === m.lock);
    ours.answer = (type) => later(type)?.status ?? 0;
    ours.early = (type) => {
      const next = story.slice(i + 1).find((o) => o.lock === m.lock);
      return type === DLM_MSG.MASTER_REQUEST.type && next?.type === DLM_MSG.ASSERT_MASTER.type && next.status === 2;
    };
    const name = dlmMessageName(m.type);
    if (m.from === 2) {
      const status = ours.hear(m);
      counts[name] = (counts[name] ?? 0) + 1;
      if (status !== m.status) differ.push(`${i} ${name} ${m.lock}: ${status}, the kernel's node ${m.status}`);
      return;
    }
    const v = dlmMessages.get(m.type)!.struct.from(m.payload) as unknown as Record<string, number>;
    const flags = v["flags"] ?? 0;
    if (m.type === DLM_MSG.MASTER_REQUEST.type && !ours.locks.has(m.lock)) {
      const create = later(DLM_MSG.CREATE_LOCK.type);
      const c =
        create && (dlmMessages.get(create.type)!.struct.from(create.payload) as unknown as Record<string, number>);
      ours.want(m.lock, (c?.["requested_type"] ?? EX) as LockLevel, c ? (c["flags"]! & LKM_VALBLK) !== 0 : undefined);
    } else if (m.type === DLM_MSG.CONVERT_LOCK.type)
      ours.want(m.lock, v["requested_type"] as LockLevel, (flags & LKM_VALBLK) !== 0, (flags & LKM_NOQUEUE) !== 0);
    else if (m.type === DLM_MSG.UNLOCK_LOCK.type) ours.drop(m.lock);
    // It wants what node 2 has.
    else if (m.type === DLM_MSG.PROXY_AST.type && v["type"] === DLM_BAST)
      ours.want(m.lock, v["blocked_type"] as LockLevel);
  });
  expect(differ).toEqual([]);
  expect(counts).toMatchInlineSnapshot(`
    {
      "ASSERT_JOINED": 1,
      "ASSERT_MASTER": 24,
      "BEGIN_EXIT_DOMAIN": 1,
      "CONVERT_LOCK": 71,
      "CREATE_LOCK": 18,
      "DEREF_LOCKRES": 21,
      "EXIT_DOMAIN": 1,
      "MASTER_REQUEST": 37,
      "MIG_LOCKRES": 7,
      "PROXY_AST": 13,
      "QUERY_JOIN": 1,
      "QUERY_NODEINFO": 1,
      "QUERY_REGION": 1,
      "UNLOCK_LOCK": 17,
    }
  `);
});
