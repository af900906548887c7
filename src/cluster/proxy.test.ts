import { describe, expect, test } from "vitest";
import { Errno } from "../lib/errno.ts";
import type { MsgHandler, NodeListener, O2hb, O2net } from "./node.ts";
import { ClusterClient, ClusterServer, type FromNode, type ToNode } from "./proxy.ts";

/** A cluster of one connection that records what is asked of it. */
class Below implements O2net, O2hb {
  readonly node_num = 3;
  readonly handlers = new Map<string, MsgHandler>();
  readonly sent: { type: number; payload: number[]; done: (err: number, status: number) => void }[] = [];
  readonly live = new Set([3]);
  listeners: NodeListener[] = [];

  send(
    type: number,
    _key: number,
    payload: Uint8Array,
    _to: number,
    done: (err: number, status: number) => void,
  ): void {
    this.sent.push({ type, payload: [...payload], done });
  }
  register(type: number, key: number, _max: number, handler: MsgHandler): () => void {
    this.handlers.set(`${type}.${key}`, handler);
    return () => this.handlers.delete(`${type}.${key}`);
  }
  whenRegistered(done: () => void): void {
    done();
  }
  liveNodes(): ReadonlySet<number> {
    return this.live;
  }
  onNodes(l: NodeListener): () => void {
    this.listeners.push(l);
    return () => {
      this.listeners = this.listeners.filter((x) => x !== l);
    };
  }
}

/** Both halves, with what passes between them held until `turn`. */
function pair() {
  const below = new Below();
  const to_node: (readonly ToNode[])[] = [];
  const to_volume: (readonly FromNode[])[] = [];
  const deferred: (() => void)[] = [];
  const server = new ClusterServer(
    below,
    below,
    (b) => to_volume.push(structuredClone(b)),
    (f) => deferred.push(f),
  );
  const client = new ClusterClient(
    3,
    below.live,
    (b) => to_node.push(structuredClone(b)),
    () => {},
  );
  const turn = (): void => {
    client.flush();
    for (const b of to_node.splice(0)) server.heard(b);
    for (const f of deferred.splice(0)) f();
    for (const b of to_volume.splice(0)) client.heard(b);
  };
  return { below, server, client, turn, to_node };
}

describe("the cluster seen through a thread", () => {
  test("what one turn sends goes over in one post, in its order, and is answered", () => {
    const { below, client, turn, to_node } = pair();
    const seen: string[] = [];
    const payload = new Uint8Array([1]);
    for (let i = 0; i < 3; i++) {
      payload[0] = i;
      client.send(500 + i, 9, payload, 1, (err, status) => seen.push(`${i}: ${err} ${status}`));
    }
    client.flush();
    expect(to_node.length).toBe(1);
    turn();
    expect(below.sent.map((s) => [s.type, s.payload[0]])).toEqual([
      [500, 0],
      [501, 1],
      [502, 2],
    ]);
    below.sent[1]!.done(0, 7);
    below.sent[0]!.done(-Errno.EHOSTDOWN, 0);
    turn();
    expect(seen).toEqual(["1: 0 7", `0: ${-Errno.EHOSTDOWN} 0`]);
  });

  test("a status goes before what is sent after it", () => {
    const { below, client, turn } = pair();
    client.register(505, 9, 100, (p, from) => ({
      status: p[0]! + from,
      after: () => client.send(506, 9, new Uint8Array(0), from, () => {}),
    }));
    turn();
    const later = below.handlers.get("505.9")!(new Uint8Array([40]), 2);
    const order: string[] = [];
    if (typeof later !== "function") throw new Error("answered on the wrong thread");
    later((status) => order.push(`status ${status}, ${below.sent.length} sent`));
    turn();
    turn();
    expect(order).toEqual(["status 42, 0 sent"]);
    expect(below.sent.map((s) => s.type)).toEqual([506]);
  });

  test("what was registered before is so when that is said", () => {
    const { below, client, turn } = pair();
    const found: boolean[] = [];
    client.register(505, 9, 100, () => 1);
    client.whenRegistered(() => found.push(below.handlers.has("505.9")));
    expect(found).toEqual([]);
    turn();
    expect(found).toEqual([true]);
  });

  test("a message whose handler has gone meanwhile is answered as one without", () => {
    const { below, client, turn } = pair();
    const off = client.register(505, 9, 100, () => 1);
    turn();
    const later = below.handlers.get("505.9")!(new Uint8Array(0), 2);
    off();
    let status = 0;
    if (typeof later === "function") later((s) => (status = s));
    turn();
    turn();
    expect(status).toBe(-Errno.ENOPROTOOPT);
    expect(below.handlers.size).toBe(0);
  });

  test("nodes come and go in order of priority; a volume thread that ended hears nothing and owes nothing", () => {
    const { below, server, client, turn } = pair();
    const seen: string[] = [];
    for (const priority of [2, 1])
      client.onNodes({
        priority,
        up: (n) => seen.push(`${priority} up ${n} ${client.liveNodes().has(n)}`),
        down: (n) => seen.push(`${priority} down ${n} ${client.liveNodes().has(n)}`),
      });
    client.onMembers = ({ nodes, regions }) => seen.push(`members ${nodes.map((n) => n.num)} ${regions}`);
    below.listeners[0]!.up(5);
    server.tellMembers({ nodes: [{ num: 5, ipv4_port: 7777, ipv4_address: 1 }], regions: ["A"] });
    below.listeners[0]!.down(5);
    turn();
    expect(seen).toEqual(["1 up 5 true", "2 up 5 true", "members 5 A", "1 down 5 false", "2 down 5 false"]);
    client.register(505, 9, 100, () => 1);
    turn();
    const later = below.handlers.get("505.9")!(new Uint8Array(0), 2);
    let status = 0;
    if (typeof later === "function") later((s) => (status = s));
    server.close();
    expect([status, below.handlers.size, below.listeners.length]).toEqual([-Errno.ENOPROTOOPT, 0, 0]);
  });
});
