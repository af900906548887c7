/** o2net between nodes in one thread: a simulated network, virtual time, and a heartbeat that the test decides. */
import { describe, expect, test } from "vitest";
import { O2NET_MSG_MAGIC, O2NET_MSG_STATUS_MAGIC, O2netHandshake, O2netMsg } from "../format/wire/o2net.ts";
import { Errno } from "../lib/errno.ts";
import { SimClock } from "../lib/sim_clock.ts";
import type { Connection } from "../lib/transport.ts";
import type { NodeListener, NodeNum, O2hb } from "./node.ts";
import { NodeManager, type Timeouts } from "./nodemanager.ts";
import { Quorum } from "./quorum.ts";
import { SimNetwork } from "./sim_transport.ts";
import { O2netStack } from "./tcp.ts";

class TestHb implements O2hb {
  readonly live = new Set<NodeNum>();
  readonly listeners: NodeListener[] = [];
  readonly doubtful = new Set<NodeNum>();

  liveNodes(): ReadonlySet<NodeNum> {
    return this.live;
  }

  isInDoubt(node: NodeNum): boolean {
    return this.doubtful.has(node);
  }

  onNodes(listener: NodeListener): () => void {
    this.listeners.push(listener);
    return () => void this.listeners.splice(this.listeners.indexOf(listener), 1);
  }

  up(node: NodeNum): void {
    this.live.add(node);
    for (const l of [...this.listeners]) l.up(node);
  }

  down(node: NodeNum): void {
    this.live.delete(node);
    for (const l of [...this.listeners]) l.down(node);
  }
}

interface TestNode {
  num: NodeNum;
  nodes: NodeManager;
  hb: TestHb;
  net: O2netStack;
  fenced: string[];
}

const address = (num: NodeNum): string => `10.0.0.${num}`;
const T = { dead_threshold: 7, idle_timeout_ms: 10_000, keepalive_delay_ms: 2000, reconnect_delay_ms: 2000 };
const K = 0x1234;

class World {
  readonly clock = new SimClock();
  readonly network = new SimNetwork(this.clock);
  readonly all: TestNode[] = [];

  add(num: NodeNum, timeouts: Partial<Timeouts> = {}): TestNode {
    const nodes = new NodeManager("test", { ...T, ...timeouts });
    for (const n of [1, 2, 3]) nodes.addNode({ name: `n${n}`, num: n, ipv4_address: address(n), ipv4_port: 7777 });
    nodes.setLocal(num);
    const hb = new TestHb();
    const fenced: string[] = [];
    const quorum = new Quorum(num, (why) => fenced.push(why));
    const net = new O2netStack({ nodes, hb, quorum, transport: this.network.transport(), clock: this.clock });
    let failure: string | undefined;
    net.startListening((f) => (failure = f));
    this.clock.run(1);
    expect(failure).toBe("");
    hb.up(num);
    const node = { num, nodes, hb, net, fenced };
    this.all.push(node);
    return node;
  }

  /** Everybody sees everybody's heartbeat. */
  meet(): void {
    for (const a of this.all) for (const b of this.all) if (a !== b) a.hb.up(b.num);
    this.clock.run(100);
  }
}

/** Sends and lets time pass until the answer is there. */
function ask(w: World, from: TestNode, to: NodeNum, type: number, payload = new Uint8Array(8), key = K): number[] {
  let answer: number[] | undefined;
  from.net.send(type, key, payload, to, (err, status) => (answer = [err, status]));
  expect(answer, "never before send returns").toBeUndefined();
  w.clock.runUntil(() => answer !== undefined, 1000);
  return answer ?? [];
}

function two(): { w: World; a: TestNode; b: TestNode } {
  const w = new World();
  const a = w.add(1);
  const b = w.add(2);
  w.meet();
  expect([...a.net.connectedNodes()]).toEqual([2]);
  expect([...b.net.connectedNodes()]).toEqual([1]);
  return { w, a, b };
}

describe("messages", () => {
  test("go both ways and bring the handler's status back, negative ones too", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 100, (p, from) => p[0]! * 10 + from);
    a.net.register(500, K, 100, () => -17);
    expect(ask(w, a, 2, 500, new Uint8Array([4]))).toEqual([0, 41]);
    expect(ask(w, b, 1, 500)).toEqual([0, -17]);
  });

  test("several are in flight at once, arrive in order, and each gets its own status", () => {
    const { w, a, b } = two();
    const seen: number[] = [];
    b.net.register(500, K, 4, (p) => seen.push(p[0]!) && p[0]! + 1000);
    const got: number[] = [];
    for (let i = 0; i < 200; i++) a.net.send(500, K, new Uint8Array([i]), 2, (_err, status) => got.push(status));
    w.clock.run(10);
    expect(seen).toEqual([...Array(200).keys()]);
    expect(got).toEqual(seen.map((i) => i + 1000));
    expect(a.net.peers()[0]).toMatchObject({ in_flight: 0, sent: 200, state: "connected" });
  });

  test("a vector arrives as one message", () => {
    const { w, a, b } = two();
    const seen: number[][] = [];
    b.net.register(500, K, 10, (p) => seen.push([...p]));
    a.net.sendVec(500, K, [new Uint8Array([1, 2]), new Uint8Array([]), new Uint8Array([3])], 2, () => {});
    w.clock.run(10);
    expect(seen).toEqual([[1, 2, 3]]);
  });

  test("without handler, too long for it, too long at all, to nobody: each has the kernel's errno", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 4, () => 0);
    expect(ask(w, a, 2, 501)).toEqual([-Errno.ENOPROTOOPT, 0]);
    expect(ask(w, a, 2, 500, new Uint8Array(4), K + 1)).toEqual([-Errno.ENOPROTOOPT, 0]);
    expect(ask(w, a, 2, 500, new Uint8Array(5))).toEqual([-Errno.EOVERFLOW, 0]);
    expect(ask(w, a, 2, 500, new Uint8Array(4073))).toEqual([-Errno.EINVAL, 0]);
    expect(ask(w, a, 1, 500)).toEqual([-Errno.ELOOP, 0]);
    expect(ask(w, a, 3, 500)).toEqual([-Errno.ENOTCONN, 0]);
    expect(ask(w, a, 255, 500)).toEqual([-Errno.EINVAL, 0]);
    expect(ask(w, a, 2, 500, new Uint8Array(4))).toEqual([0, 0]);
  });

  test("what a handler leaves for after runs behind its status", () => {
    const { w, a, b } = two();
    const order: string[] = [];
    a.net.register(502, K, 8, () => order.push("after") && 0);
    b.net.register(500, K, 8, () => ({ status: 1, after: () => b.net.send(502, K, new Uint8Array(1), 1, () => {}) }));
    a.net.send(500, K, new Uint8Array(1), 2, () => order.push("status"));
    w.clock.run(10);
    expect(order).toEqual(["status", "after"]);
  });

  test("a handler may answer later; what came behind it is answered before, and nothing is said to a connection that is gone", () => {
    const { w, a, b } = two();
    const later: ((status: number) => void)[] = [];
    b.net.register(500, K, 8, () => (answer) => void later.push(answer));
    b.net.register(501, K, 8, () => 1);
    const got: string[] = [];
    a.net.send(500, K, new Uint8Array(1), 2, (err, status) => got.push(`first ${err} ${status}`));
    a.net.send(501, K, new Uint8Array(1), 2, (err, status) => got.push(`second ${err} ${status}`));
    a.net.send(500, K, new Uint8Array(1), 2, (err, status) => got.push(`third ${err} ${status}`));
    w.clock.run(10);
    later[0]!(-5);
    w.clock.run(10);
    b.hb.down(1);
    later[1]!(6);
    w.clock.run(10);
    expect(got).toEqual(["second 0 1", "first 0 -5", `third ${-Errno.EHOSTDOWN} 0`]);
  });

  test("a handler can be registered once, and is gone when its registration ends", () => {
    const { w, a, b } = two();
    const end = b.net.register(500, K, 8, () => 5);
    expect(() => b.net.register(500, K, 8, () => 6)).toThrow("EEXIST");
    expect(() => b.net.register(0, K, 8, () => 6)).toThrow("EINVAL");
    expect(() => b.net.register(501, K, 4073, () => 6)).toThrow("EINVAL");
    expect(ask(w, a, 2, 500)).toEqual([0, 5]);
    end();
    expect(ask(w, a, 2, 500)).toEqual([-Errno.ENOPROTOOPT, 0]);
    b.net.register(500, K, 8, () => 7);
    end();
    expect(ask(w, a, 2, 500)).toEqual([0, 7]);
  });
});

describe("connections", () => {
  test("a send waits for the connection while the other heartbeats, and goes on when it stands", () => {
    const w = new World();
    const a = w.add(1);
    const b = w.add(2);
    b.net.register(500, K, 8, () => 3);
    a.hb.up(2);
    let answer: number[] | undefined;
    a.net.send(500, K, new Uint8Array(1), 2, (...x) => (answer = x));
    w.clock.run(5000);
    expect(answer).toBeUndefined();
    b.hb.up(1);
    w.clock.run(100);
    expect(answer).toEqual([0, 3]);
  });

  test("one made before our heartbeat is seen is closed, and tried again after the reconnect delay", () => {
    const w = new World();
    const a = w.add(1);
    const b = w.add(2);
    b.hb.up(1);
    w.clock.run(3000);
    expect(b.net.connectedNodes().size).toBe(0);
    a.hb.up(2);
    w.clock.run(T.reconnect_delay_ms);
    expect([...b.net.connectedNodes()]).toEqual([1]);
  });

  test("the heartbeat's end fails what waits for a status with EHOSTDOWN, and later sends with ENOTCONN", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 8, () => 0);
    w.network.cut(address(2), address(1));
    let answer: number[] | undefined;
    a.net.send(500, K, new Uint8Array(1), 2, (...x) => (answer = x));
    w.clock.run(100);
    expect(answer).toBeUndefined();
    a.hb.down(2);
    w.clock.run(1);
    expect(answer).toEqual([-Errno.EHOSTDOWN, 0]);
    expect(ask(w, a, 2, 500)).toEqual([-Errno.ENOTCONN, 0]);
    expect(a.fenced).toEqual([]);
  });

  test("a node that comes back is connected to again, and numbers start anew", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 8, () => 9);
    expect(ask(w, a, 2, 500)).toEqual([0, 9]);
    for (const [x, y] of [
      [a, b],
      [b, a],
    ] as const)
      x.hb.down(y.num);
    w.clock.run(3000);
    expect(a.net.connectedNodes().size).toBe(0);
    w.meet();
    expect(ask(w, a, 2, 500)).toEqual([0, 9]);
  });

  test("one that is declared dead, and is seen again, is connected anew, which it can tell", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 8, () => 9);
    w.clock.run(5000);
    expect(b.net.connectedSince_ms(1)).toBeLessThan(1000);
    expect(b.net.connectedSince_ms(3)).toBeUndefined();
    a.hb.down(2);
    w.clock.run(1000);
    expect(b.net.connectedSince_ms(1)).toBeUndefined();
    a.hb.up(2);
    w.clock.run(T.reconnect_delay_ms);
    expect(ask(w, a, 2, 500)).toEqual([0, 9]);
    expect(b.net.connectedSince_ms(1)).toBeGreaterThan(5000);
  });

  test.each([
    ["idle_timeout_ms", "O2CB_IDLE_TIMEOUT_MS"],
    ["keepalive_delay_ms", "O2CB_KEEPALIVE_DELAY_MS"],
    ["dead_threshold", "O2CB_HEARTBEAT_THRESHOLD"],
  ])("a different %s is refused, and the reason names the setting", (what, setting) => {
    const w = new World();
    const a = w.add(1);
    const b = w.add(2, { [what]: 5000 });
    w.meet();
    expect(a.net.connectedNodes().size + b.net.connectedNodes().size).toBe(0);
    expect(a.net.peers()[0]!.last_error + b.net.peers()[0]!.last_error).toContain(setting);
    w.clock.run(60_000);
    expect(a.net.connectedNodes().size).toBe(0);
  });

  test.each([
    ["dead_threshold", 2_147_483],
    ["dead_threshold", 0xfffffffe],
    ["idle_timeout_ms", 0xfffffffe],
    ["reconnect_delay_ms", 0xfffffffe],
  ])("%s may be %i", (what, value) => {
    const w = new World();
    const [a, b] = [w.add(1), w.add(2)];
    for (const { nodes } of [a, b]) nodes.setTimeouts({ [what]: value });
    w.meet();
    w.clock.run(60_000);
    expect([[...a.net.connectedNodes()], a.fenced, b.fenced]).toEqual([[2], [], []]);
  });

  test("a different reconnect delay is no hindrance", () => {
    const w = new World();
    const a = w.add(1);
    w.add(2, { reconnect_delay_ms: 777 });
    w.meet();
    expect([...a.net.connectedNodes()]).toEqual([2]);
  });

  test("only configured addresses, only higher numbers, only one connection", () => {
    const { w, a } = two();
    const t = w.network.transport();
    const tried = ["10.0.0.99", address(1), address(2), address(3)].map((from) => {
      let closed = false;
      const conn = t.connect(from, address(1), 7777);
      conn.events = { connected() {}, data() {}, drained() {}, closed: () => (closed = true) };
      w.clock.run(10);
      return closed;
    });
    // Node 3 is configured, but does not heartbeat.
    expect(tried).toEqual([true, true, true, true]);
    expect([...a.net.connectedNodes()]).toEqual([2]);
  });

  test("a node taken out of the configuration is cut off", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 8, () => 9);
    a.nodes.removeNode(2);
    w.clock.run(5);
    expect(a.net.connectedNodes().size).toBe(0);
    expect(ask(w, a, 2, 500)).toEqual([-Errno.ENOTCONN, 0]);
  });

  test("one whose address is corrected while it heartbeats is connected to", () => {
    const w = new World();
    const a = w.add(1);
    const b = w.add(2);
    const right = b.nodes.node(1)!;
    b.nodes.removeNode(1);
    b.nodes.addNode({ ...right, ipv4_address: "10.0.0.111" });
    w.meet();
    w.clock.run(1000);
    expect(b.net.connectedNodes().size).toBe(0);
    b.nodes.removeNode(1);
    w.clock.run(5000);
    expect(b.net.connectedNodes().size).toBe(0);
    b.nodes.addNode(right);
    w.clock.run(T.reconnect_delay_ms);
    expect([[...a.net.connectedNodes()], [...b.net.connectedNodes()]]).toEqual([[2], [1]]);
  });

  test.each([
    [1, 2],
    [2, 1],
  ])("node %i makes no connection with node %i while that may be dead and back, and then does", (here, there) => {
    const { w, a, b } = two();
    const me = [a, b].find((n) => n.num === here)!;
    w.clock.run(T.reconnect_delay_ms);
    me.hb.doubtful.add(there);
    w.network.reset(address(1), address(2));
    w.clock.run(10_000);
    expect(me.net.peers()[0]!.state).toBe("connecting");
    me.hb.doubtful.delete(there);
    w.clock.run(T.reconnect_delay_ms + 100);
    expect([...me.net.connectedNodes()]).toEqual([there]);
  });

  test("one that is taken out and put back while it heartbeats is still judged for what was lost with it", () => {
    const { w, b } = two();
    b.net.send(500, K, new Uint8Array(8), 1, () => {});
    w.network.reset(address(1), address(2));
    w.clock.run(1000);
    const node = b.nodes.node(1)!;
    b.nodes.removeNode(1);
    w.clock.run(1000);
    b.nodes.addNode(node);
    w.clock.run(14_000);
    expect([b.net.connectedNodes().size, b.fenced.length]).toEqual([0, 0]);
    w.clock.run(3000);
    expect(b.fenced).toHaveLength(1);
  });

  test("time-outs that a peer has agreed to stay", () => {
    const { a } = two();
    expect(() => a.nodes.setTimeouts({ idle_timeout_ms: 20_000 })).toThrow("EINVAL");
    a.nodes.setTimeouts({ reconnect_delay_ms: 3000 });
  });
});

describe("silence and the quorum", () => {
  test("keepalives keep an idle connection", () => {
    const { w, a, b } = two();
    w.clock.run(120_000);
    expect([...a.net.connectedNodes()]).toEqual([2]);
    expect(a.net.peers()[0]!.silent_ms).toBeLessThan(2 * T.keepalive_delay_ms);
    expect([...a.fenced, ...b.fenced]).toEqual([]);
  });

  test("when two hear each other's heartbeat but no message, the higher number gives up, after the quorum delay", () => {
    const { w, a, b } = two();
    w.network.cut(address(1), address(2));
    w.network.cut(address(2), address(1));
    w.clock.run(T.idle_timeout_ms + 17_000);
    expect([...a.fenced, ...b.fenced]).toEqual([]);
    w.clock.run(3000);
    expect(a.fenced).toEqual([]);
    expect(b.fenced).toHaveLength(1);
    expect(b.fenced[0]).toContain("half-quorum");
  });

  test("nobody gives up when the silence ends in time", () => {
    const { w, a, b } = two();
    b.net.register(500, K, 8, () => 9);
    w.network.cut(address(1), address(2));
    w.network.cut(address(2), address(1));
    w.clock.run(T.idle_timeout_ms + 5000);
    w.network.mend(address(1), address(2));
    w.network.mend(address(2), address(1));
    w.clock.run(60_000);
    expect([...a.fenced, ...b.fenced]).toEqual([]);
    expect(ask(w, a, 2, 500)).toEqual([0, 9]);
  });

  test("who stops listening while it heartbeats is given up on", () => {
    const { w, a, b } = two();
    a.net.stopListening();
    w.clock.run(5000);
    expect(b.net.peers()[0]!.state).not.toBe("connected");
    w.clock.run(20_000);
    expect(b.fenced).toHaveLength(1);
  });

  test("a connection that was reset with a message under way is not made again: the higher number goes", () => {
    const { w, a, b } = two();
    a.net.register(500, K, 8, () => 9);
    const answers: number[] = [];
    b.net.send(500, K, new Uint8Array(8), 1, (err) => answers.push(err));
    w.network.reset(address(1), address(2));
    w.clock.run(T.idle_timeout_ms + 5000);
    expect(answers).toEqual([-Errno.EHOSTDOWN]);
    expect([a.net.peers()[0]!.state, b.net.peers()[0]!.state]).not.toContain("connected");
    w.clock.run(5000);
    expect([a.fenced.length, b.fenced.length]).toEqual([0, 1]);
  });

  test("a connection that was reset while it was idle is made again, and what is sent meanwhile arrives", () => {
    const { w, a, b } = two();
    a.net.register(500, K, 8, () => 9);
    w.network.reset(address(1), address(2));
    w.clock.run(1);
    expect(b.net.peers()[0]!.state).not.toBe("connected");
    const answers: number[][] = [];
    b.net.send(500, K, new Uint8Array(8), 1, (err, status) => answers.push([err, status]));
    w.clock.run(T.reconnect_delay_ms + 100);
    expect(answers).toEqual([[0, 9]]);
    w.clock.run(60_000);
    expect([...a.fenced, ...b.fenced]).toEqual([]);
  });

  test("a lane that lost messages with an idle connection keeps it from being made again", () => {
    const { w, a, b } = two();
    const conns: number[] = [];
    b.net.watchPeers((node, conn) => void (node === 1 && conns.push(conn)));
    w.network.reset(address(1), address(2));
    w.clock.run(1);
    const lost = conns[0]!;
    expect([lost > 0, conns.at(-1)]).toEqual([true, 0]);
    b.net.messagesLost(1, lost + 1000);
    expect(conns).toHaveLength(2);
    b.net.messagesLost(1, lost);
    w.clock.run(T.idle_timeout_ms + 5000);
    expect(b.net.peers()[0]!.state).not.toBe("connected");
    w.clock.run(5000);
    expect([a.fenced.length, b.fenced.length]).toEqual([0, 1]);
  });

  test("so it does when the next connection is lost, too, before the lane has said it", () => {
    const { w, b } = two();
    const conns: number[] = [];
    b.net.watchPeers((node, conn) => void (node === 1 && conn > 0 && conns.push(conn)));
    w.clock.run(10_000);
    for (let i = 0; i < 2; i++) {
      w.network.reset(address(1), address(2));
      w.clock.run(10);
    }
    expect([conns.length, b.net.peers()[0]!.state]).toEqual([2, "connecting"]);
    b.net.messagesLost(1, conns[0]!);
    w.clock.run(T.idle_timeout_ms);
    expect(conns).toHaveLength(2);
    w.clock.run(20_000);
    expect(b.fenced).toHaveLength(1);
  });

  test("what was lost with a node that died meanwhile concerns nobody", () => {
    const { w, a, b } = two();
    const conns: number[] = [];
    b.net.watchPeers((node, conn) => void (node === 1 && conn > 0 && conns.push(conn)));
    for (const [x, y] of [
      [a, b],
      [b, a],
    ] as const)
      x.hb.down(y.num);
    b.net.messagesLost(1, conns[0]!);
    w.meet();
    b.net.messagesLost(1, conns[0]!);
    w.clock.run(60_000);
    expect([[...b.net.connectedNodes()], b.fenced]).toEqual([[1], []]);
  });

  test("a loss behind one that was made good has the whole quorum delay: the other may have died", () => {
    const { w, a, b } = two();
    w.network.reset(address(1), address(2));
    w.clock.run(17_000);
    expect([...b.net.connectedNodes()]).toEqual([1]);
    b.net.send(500, K, new Uint8Array(8), 1, () => {});
    w.network.reset(address(1), address(2));
    w.clock.run(14_000);
    expect([...a.fenced, ...b.fenced]).toEqual([]);
    b.hb.down(1);
    w.clock.run(60_000);
    expect(b.fenced).toEqual([]);
  });

  test("so has one behind a silence", () => {
    const { w, b } = two();
    w.network.cut(address(1), address(2));
    w.network.cut(address(2), address(1));
    w.clock.run(T.idle_timeout_ms + 17_000);
    w.network.reset(address(1), address(2));
    w.clock.run(14_000);
    b.hb.down(1);
    w.clock.run(60_000);
    expect(b.fenced).toEqual([]);
  });

  test("the lower number waits for the higher one at each loss", () => {
    const { w, a, b } = two();
    w.network.cut(address(1), address(2));
    w.network.cut(address(2), address(1));
    w.network.reset(address(1), address(2));
    // The other is a kernel node: it stays.
    w.clock.run(20_000);
    w.network.mend(address(1), address(2));
    w.network.mend(address(2), address(1));
    w.clock.run(T.idle_timeout_ms + 2 * T.reconnect_delay_ms);
    expect([...a.net.connectedNodes()]).toEqual([2]);
    a.net.send(500, K, new Uint8Array(8), 2, () => {});
    w.network.reset(address(1), address(2));
    w.clock.run(35_000);
    expect(a.fenced).toEqual([]);
    w.clock.run(2000);
    expect(a.fenced).toHaveLength(1);
    expect(b.fenced).toHaveLength(1);
  });

  test("of three, two that lost messages between them: the higher number goes though it reaches the majority", () => {
    const w = new World();
    const [a, b, c] = [w.add(1), w.add(2), w.add(3)];
    w.meet();
    // On one side only: the other must not be let in again either.
    b.net.send(500, K, new Uint8Array(8), 3, () => {});
    w.network.reset(address(2), address(3));
    w.clock.run(25_000);
    expect([a.fenced.length, b.fenced.length, c.fenced.length]).toEqual([0, 0, 1]);
  });

  test("of three, the one that lost both connections gives up", () => {
    const w = new World();
    const [a, b, c] = [w.add(1), w.add(2), w.add(3)];
    w.meet();
    for (const other of [1, 3]) {
      w.network.cut(address(2), address(other));
      w.network.cut(address(other), address(2));
    }
    w.clock.run(40_000);
    expect([a.fenced.length, b.fenced.length, c.fenced.length]).toEqual([0, 1, 0]);
  });
});

/** A peer that says what the test wants. */
class Rogue {
  readonly conn: Connection;
  readonly got: Uint8Array[] = [];
  closed = false;

  constructor(w: World, from: NodeNum) {
    this.conn = w.network.transport().connect(address(from), address(1), 7777);
    this.conn.events = {
      connected() {},
      data: (b) => this.got.push(b),
      drained() {},
      closed: () => (this.closed = true),
    };
    w.clock.run(10);
    const hand = O2netHandshake.alloc();
    hand.protocol_version = 11;
    hand.o2hb_heartbeat_timeout_ms = 12_000;
    hand.o2net_idle_timeout_ms = T.idle_timeout_ms;
    hand.o2net_keepalive_delay_ms = T.keepalive_delay_ms;
    this.conn.write(hand.bytes());
    w.clock.run(10);
  }

  write(fields: Partial<Record<"magic" | "data_len" | "msg_type" | "key" | "msg_num", number>>, payload = 0): void {
    const msg = O2netMsg.alloc(payload);
    Object.assign(msg, { magic: O2NET_MSG_MAGIC, data_len: payload }, fields);
    this.conn.write(new Uint8Array(msg.dv.buffer));
  }
}

describe("what a peer may send", () => {
  function withRogue(): { w: World; a: TestNode; rogue: Rogue } {
    const w = new World();
    const a = w.add(1);
    a.hb.up(2);
    w.clock.run(10);
    const rogue = new Rogue(w, 2);
    expect([...a.net.connectedNodes()]).toEqual([2]);
    return { w, a, rogue };
  }

  test("a bad magic or an impossible length ends the connection, without a word", () => {
    for (const bad of [{ magic: 0x1234 }, { data_len: 0xffff }]) {
      const { w, a, rogue } = withRogue();
      rogue.write(bad);
      w.clock.run(10);
      expect(rogue.closed).toBe(true);
      expect(a.net.connectedNodes().size).toBe(0);
    }
  });

  test("a status that nobody waits for, and one for a number out of all bounds, are dropped", () => {
    const { w, a, rogue } = withRogue();
    rogue.write({ magic: O2NET_MSG_STATUS_MAGIC, msg_num: 5 });
    rogue.write({ magic: O2NET_MSG_STATUS_MAGIC, msg_num: 0xffffffff });
    let answers = 0;
    a.net.send(500, K, new Uint8Array(1), 2, () => answers++);
    w.clock.run(10);
    rogue.write({ magic: O2NET_MSG_STATUS_MAGIC, msg_num: 0 });
    rogue.write({ magic: O2NET_MSG_STATUS_MAGIC, msg_num: 0 });
    w.clock.run(10);
    expect(answers).toBe(1);
    expect(rogue.closed).toBe(false);
  });

  test("messages behind the one that closes the connection are not handled", () => {
    const { w, a, rogue } = withRogue();
    let handled = 0;
    a.net.register(500, K, 8, () => {
      handled++;
      a.hb.down(2);
      return 0;
    });
    const one = O2netMsg.alloc();
    Object.assign(one, { magic: O2NET_MSG_MAGIC, msg_type: 500, key: K });
    rogue.conn.write(Buffer.concat([one.bytes(), one.bytes()]));
    w.clock.run(10);
    expect(handled).toBe(1);
  });

  test("who takes nothing is not read from either, and nothing is lost when he goes on", () => {
    const { w, a, rogue } = withRogue();
    let handled = 0;
    a.net.register(500, K, 8, () => ++handled && 0);
    const one = O2netMsg.alloc();
    Object.assign(one, { magic: O2NET_MSG_MAGIC, msg_type: 500, key: K });
    const batch = Buffer.concat(new Array<Uint8Array>(5000).fill(one.bytes()));
    rogue.conn.pause();
    // Its statuses are as long as its messages: 4 MiB of them wait for it, and no more.
    let sent = 0;
    for (; sent < 300_000; sent += 5000) {
      rogue.conn.write(batch);
      w.clock.run(1);
    }
    expect((handled * O2netMsg.size) / 2 ** 20).toBeGreaterThan(4);
    expect((handled * O2netMsg.size) / 2 ** 20).toBeLessThan(4.5);
    expect(handled).toBeLessThan(sent);
    rogue.got.length = 0;
    rogue.conn.resume();
    w.clock.run(100);
    expect(handled).toBe(sent);
    expect(rogue.got.reduce((n, bytes) => n + bytes.length, 0)).toBeGreaterThanOrEqual(sent * O2netMsg.size);
    expect(rogue.closed).toBe(false);
  });

  test("while another thread owes it a thousand answers no more is read from it, and nothing is lost when they come", () => {
    const { w, a, rogue } = withRogue();
    const answers: ((status: number) => void)[] = [];
    a.net.register(500, K, 8, () => (answer) => void answers.push(answer));
    const one = O2netMsg.alloc();
    Object.assign(one, { magic: O2NET_MSG_MAGIC, msg_type: 500, key: K });
    const batch = Buffer.concat(new Array<Uint8Array>(100).fill(one.bytes()));
    for (let i = 0; i < 200; i++) {
      rogue.conn.write(batch);
      w.clock.run(1);
    }
    expect(answers.length).toBeGreaterThan(1000);
    expect(answers.length).toBeLessThan(1200);
    let answered = 0;
    for (; answered < 20_000 && answers.length > 0; answered++) {
      answers.shift()!(7);
      w.clock.run(0.5);
    }
    w.clock.run(10);
    expect(answered).toBe(20_000);
    expect(rogue.got.reduce((n, bytes) => n + bytes.length, 0)).toBe(O2netHandshake.size + answered * O2netMsg.size);
  });

  test("keepalives to one that takes nothing do not pile up", () => {
    const { w, a, rogue } = withRogue();
    rogue.conn.pause();
    for (let i = 0; i < 200; i++) a.net.send(500, K, new Uint8Array(4000), 2, () => {});
    w.clock.run(1000 * T.keepalive_delay_ms);
    rogue.got.length = 0;
    rogue.conn.resume();
    w.clock.run(100);
    const len = rogue.got.reduce((n, bytes) => n + bytes.length, 0);
    expect(len).toBeGreaterThanOrEqual(200 * 4024);
    expect(len).toBeLessThan(200 * 4024 + 100);
  });

  test("another protocol version is refused", () => {
    const w = new World();
    const a = w.add(1);
    a.hb.up(2);
    w.clock.run(10);
    const conn = w.network.transport().connect(address(2), address(1), 7777);
    conn.events = { connected() {}, data() {}, drained() {}, closed() {} };
    w.clock.run(10);
    const hand = O2netHandshake.alloc();
    hand.protocol_version = 12;
    conn.write(hand.bytes());
    w.clock.run(10);
    expect(a.net.peers().find((p) => p.node === 2)!.last_error).toContain("version 12 but 11");
  });
});
