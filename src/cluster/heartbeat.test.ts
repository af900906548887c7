/** o2hb on samples that the test writes: who lives, who is dead, who came back. Time is virtual. */
import { describe, expect, test } from "vitest";
import { logged } from "../../test/support/logged.ts";
import { O2HB_NEGO_APPROVE_MSG, O2HB_NEGO_TIMEOUT_MSG } from "../format/wire/o2net.ts";
import { Errno } from "../lib/errno.ts";
import { SimClock } from "../lib/sim_clock.ts";
import type { BeatSample, SlotSample } from "../native/heartbeat.ts";
import { type HbRegion, Heartbeat } from "./heartbeat.ts";
import type { HeartbeatNet, MsgHandler, NodeNum } from "./node.ts";
import { NodeManager } from "./nodemanager.ts";

const DEAD_THRESHOLD = 7;

/** The heartbeat file: what each node wrote last. */
class Disk {
  readonly blocks = new Map<NodeNum, { seq: number; generation: bigint; crc_ok: boolean; dead_ms: number }>();

  write(node: NodeNum, seq: number, generation = 1n): void {
    this.blocks.set(node, { seq, generation, crc_ok: true, dead_ms: DEAD_THRESHOLD * 2000 });
  }

  slots(): SlotSample[] {
    return [0, 1, 2, 3].map((node) => ({
      node,
      ...(this.blocks.get(node) ?? { seq: 0, generation: 0n, crc_ok: true, dead_ms: 0 }),
    }));
  }
}

class Node1 {
  readonly clock = new SimClock();
  readonly hb: Heartbeat;
  readonly events: string[] = [];
  readonly calls: string[] = [];
  #n = 0;

  constructor(mode: "local" | "global" = "local") {
    const nodes = new NodeManager("test", {
      dead_threshold: DEAD_THRESHOLD,
      idle_timeout_ms: 10_000,
      keepalive_delay_ms: 2000,
      reconnect_delay_ms: 2000,
    });
    nodes.heartbeat_mode = mode;
    for (const n of [1, 2, 3]) nodes.addNode({ name: `n${n}`, num: n, ipv4_address: `10.0.0.${n}`, ipv4_port: 7777 });
    nodes.setLocal(1);
    this.hb = new Heartbeat(nodes, this.clock);
    this.hb.onNodes({
      priority: 5,
      up: (n) => this.events.push(`up ${n}`),
      down: (n) => this.events.push(`down ${n}`),
    });
  }

  region(name = "A", arm = true): { region: HbRegion; result: string[] } {
    const region = this.hb.addRegion(name);
    const result: string[] = [];
    const call = (what: string) => (): void => void this.calls.push(`${what} ${name}`);
    const disk = {
      setSlots() {},
      arm: () => this.calls.push(`arm ${name}`) > 0 && arm,
      extend: call("extend"),
      prove: call("prove"),
      shut: call("shut"),
      stop: (leave: boolean): void => {
        this.calls.push(`stop ${name} ${leave}`);
        this.clock.after(0, () => region.ended());
      },
    };
    region.start(disk, (failure) => result.push(failure));
    return { region, result };
  }

  /** One beat: this node writes, 2 s pass. */
  beat(region: HbRegion, disk: Disk, more: Partial<BeatSample> = {}): void {
    const number = this.#n++;
    disk.write(1, 1000 + number, 11n);
    const at = this.clock.monotonic_ms();
    region.beat({
      number,
      start_ms: at,
      submit_ms: at,
      complete_ms: at + 1,
      read_rc: 0,
      write_rc: 0,
      own: number < 2 ? "unknown" : "ok",
      first: 0,
      slots: disk.slots(),
      lost: 0,
      ...more,
    });
    this.clock.run(2000);
  }
}

/** A node that is steady, and sees node 2, which beats with it. */
function withTwo(): { n: Node1; disk: Disk; region: HbRegion; both(): void } {
  const n = new Node1();
  const disk = new Disk();
  const { region } = n.region();
  let seq = 0;
  const both = (): void => {
    disk.write(2, ++seq, 22n);
    n.beat(region, disk);
  };
  for (let i = 0; i < 8; i++) both();
  expect(n.events).toEqual(["up 1", "up 2"]);
  n.events.length = 0;
  return { n, disk, region, both };
}

describe("coming and going", () => {
  test("a region is steady after three calm beats; others have had their chance to be seen before", () => {
    const n = new Node1();
    const disk = new Disk();
    const { region, result } = n.region();
    let beats = 0;
    while (result.length === 0 && beats < 20) {
      disk.write(2, ++beats, 22n);
      n.beat(region, disk);
    }
    expect(result).toEqual([""]);
    expect([...n.hb.liveNodes()].sort()).toEqual([1, 2]);
    expect(beats).toBe(6);
    expect(n.calls).toEqual(["arm A"]);
  });

  test("a node lives after two changed samples, not after one", () => {
    const n = new Node1();
    const disk = new Disk();
    const { region } = n.region();
    disk.write(3, 500, 33n);
    for (let i = 0; i < 6; i++) n.beat(region, disk);
    disk.write(3, 501, 33n);
    n.beat(region, disk);
    expect(n.events).toEqual(["up 1"]);
    disk.write(3, 502, 33n);
    n.beat(region, disk);
    expect(n.events).toEqual(["up 1", "up 3"]);
  });

  test("a node is dead after the threshold of unchanged samples, not one earlier, and a change in between starts anew", () => {
    const { n, disk, region, both } = withTwo();
    for (let i = 0; i < DEAD_THRESHOLD - 1; i++) n.beat(region, disk);
    both();
    for (let i = 0; i < DEAD_THRESHOLD - 1; i++) n.beat(region, disk);
    expect(n.events).toEqual([]);
    expect([n.hb.sinceChange_ms(1), n.hb.sinceChange_ms(2)]).toEqual([2000, DEAD_THRESHOLD * 2000]);
    n.beat(region, disk);
    expect(n.events).toEqual(["down 2"]);
    expect([...n.hb.liveNodes()]).toEqual([1]);
    expect(n.hb.sinceChange_ms(2)).toBeUndefined();
  });

  test("a new generation is a death and a return, at once", () => {
    const { n, disk, region } = withTwo();
    disk.write(2, 9000, 23n);
    n.beat(region, disk);
    expect(n.events).toEqual(["down 2"]);
    disk.write(2, 9001, 23n);
    n.beat(region, disk);
    expect(n.events).toEqual(["down 2", "up 2"]);
  });

  test("generation 0 is a farewell, at once", () => {
    const { n, disk, region } = withTwo();
    disk.write(2, 9000, 0n);
    n.beat(region, disk);
    n.beat(region, disk);
    n.beat(region, disk);
    expect(n.events).toEqual(["down 2"]);
  });

  test("a bad checksum of a live node is a missed beat, and one of an unwritten block nothing", () => {
    const { n, disk, region } = withTwo();
    for (let i = 0; i < DEAD_THRESHOLD; i++) {
      expect(n.events).toEqual([]);
      disk.blocks.set(2, { seq: 5000 + i, generation: 77n, crc_ok: false, dead_ms: 1 });
      disk.blocks.set(3, { seq: 5000 + i, generation: 77n, crc_ok: false, dead_ms: 1 });
      n.beat(region, disk);
    }
    expect(n.events).toEqual(["down 2"]);
  });

  test("another node's block in a node's slot, of a read or a write that went astray, is a missed beat and no death", () => {
    const { n, disk, region, both } = withTwo();
    const stray = (): void =>
      n.beat(region, disk, {
        slots: disk.slots().map((s) => (s.node === 2 ? { ...s, node: 3, generation: 33n } : s)),
      });
    stray();
    both();
    for (let i = 0; i < DEAD_THRESHOLD; i++) {
      expect(n.events).toEqual([]);
      stray();
    }
    expect(n.events).toEqual(["down 2"]);
  });

  test("nodes that are not configured are not seen", () => {
    const n = new Node1();
    const disk = new Disk();
    const { region } = n.region();
    for (let i = 0; i < 8; i++) {
      disk.write(0, i + 1);
      n.beat(region, disk);
    }
    expect(n.events).toEqual(["up 1"]);
  });

  test("a node that is taken out of the configuration still goes down", () => {
    const { n, disk, region } = withTwo();
    n.hb.nodes.removeNode(2);
    for (let i = 0; i < DEAD_THRESHOLD; i++) n.beat(region, disk);
    expect(n.events).toEqual(["down 2"]);
  });

  test("a node that has the volume mounted and does not beat is not taken for dead before its time is over", () => {
    const n = new Node1();
    const disk = new Disk();
    disk.write(2, 500, 22n);
    disk.write(3, 500, 0n);
    const { region, result } = n.region();
    const known: string[] = [];
    for (let i = 0; i < 6; i++) n.beat(region, disk);
    expect(result).toEqual([""]);
    region.whenKnown([1, 3], () => known.push("gone in order"));
    region.whenKnown([1, 2], () => known.push("dead"));
    expect(known).toEqual(["gone in order"]);
    for (let i = 6; i <= DEAD_THRESHOLD; i++) n.beat(region, disk);
    expect(known).toEqual(["gone in order"]);
    n.beat(region, disk);
    expect(known).toEqual(["gone in order", "dead"]);
  });

  test("a node that is added while the region runs: what stands in its slot is old until it changes, and it is not taken for one that has left before its slot was read", () => {
    const n = new Node1();
    n.hb.nodes.removeNode(3);
    const disk = new Disk();
    const { region } = n.region();
    const beat = (last: number): void => n.beat(region, disk, { slots: disk.slots().slice(0, last + 1) });
    disk.write(3, 500, 33n);
    for (let i = 0; i < 10; i++) beat(2);
    n.hb.nodes.addNode({ name: "n3", num: 3, ipv4_address: "10.0.0.3", ipv4_port: 7777 });
    const known: string[] = [];
    region.whenKnown([3], () => known.push(`live: ${n.hb.liveNodes().has(3)}`));
    beat(3);
    beat(3);
    expect(known).toEqual([]);
    disk.write(3, 501, 33n);
    beat(3);
    expect(n.events).toEqual(["up 1"]);
    disk.write(3, 502, 33n);
    beat(3);
    expect([n.events, known]).toEqual([["up 1", "up 3"], ["live: true"]]);
  });

  test("whoever waits for that waits on in another region when the first one is taken away", () => {
    const n = new Node1("global");
    const disks = [new Disk(), new Disk()];
    const [a, b] = ["A", "B"].map((name) => n.region(name).region);
    for (const disk of disks) disk.write(2, 500, 22n);
    const beat = (region: HbRegion, disk: Disk): void => n.beat(region, disk, { own: "ok" });
    for (let i = 0; i < 7; i++) {
      beat(a!, disks[0]!);
      beat(b!, disks[1]!);
    }
    expect([a!.isSteady, b!.isSteady]).toEqual([true, true]);
    n.hb.nodes.addNode({ name: "n0", num: 0, ipv4_address: "10.0.0.100", ipv4_port: 7777 });
    for (const disk of disks) disk.write(0, 500, 5n);
    beat(a!, disks[0]!);
    beat(b!, disks[1]!);
    const known: string[] = [];
    a!.whenKnown([0], () => known.push("dead"));
    expect(known).toEqual([]);
    a!.stop(true, () => {});
    for (let i = 0; i <= DEAD_THRESHOLD; i++) beat(b!, disks[1]!);
    expect(known).toEqual(["dead"]);
  });

  test("one that was only late is known as soon as it is seen", () => {
    const n = new Node1();
    const disk = new Disk();
    disk.write(2, 500, 22n);
    const { region } = n.region();
    const known: string[] = [];
    for (let i = 0; i < 5; i++) n.beat(region, disk);
    region.whenKnown([2], () => known.push(`live: ${n.hb.liveNodes().has(2)}`));
    for (let i = 1; i < 3; i++) {
      disk.write(2, 500 + i, 22n);
      n.beat(region, disk);
    }
    expect(known).toEqual(["live: true"]);
  });

  test("listeners run by priority, whatever the order in which they came", () => {
    const n = new Node1();
    const order: number[] = [];
    for (const priority of [16, 1, 32]) n.hb.onNodes({ priority, up: () => order.push(priority), down() {} });
    const disk = new Disk();
    const { region } = n.region();
    for (let i = 0; i < 3; i++) n.beat(region, disk);
    expect(order).toEqual([1, 16, 32]);
  });
});

describe("starting and stopping", () => {
  test("somebody else in our slot: never steady, given up, and the reason is told", () => {
    const n = new Node1();
    const disk = new Disk();
    const { region, result } = n.region();
    for (let i = 0; i < 20 && result.length === 0; i++) n.beat(region, disk, i > 1 ? { own: "generation" } : {});
    expect(result[0]).toContain("is another machine running as this node?");
    expect(n.calls).toEqual(["stop A false"]);
    n.clock.run(10);
    expect(n.hb.region("A")).toBeUndefined();
  });

  test.each([
    ["for a while: waited for", 8, ""],
    ["for ever: given up", Infinity, "the nodes kept coming and going"],
  ])("the other nodes come and go %s", (_, until, expected) => {
    const n = new Node1();
    const disk = new Disk();
    const { region, result } = n.region();
    for (let i = 0; i < 40 && result.length === 0; i++) {
      // A node is up or down with each third beat of a generation: one of the two is always about to be.
      for (const node of [2, 3]) disk.write(node, i, BigInt(Math.floor((Math.min(i, until) + node) / 2)));
      n.beat(region, disk);
    }
    expect(result).toEqual([expected]);
  });

  test("a device that takes no writes: given up, and that is what is told", () => {
    const n = new Node1();
    const disk = new Disk();
    const { region, result } = n.region();
    for (let i = 0; i < 20 && result.length === 0; i++) n.beat(region, disk, i > 0 ? { write_rc: -Errno.EROFS } : {});
    expect(result).toEqual([`its device does not take the block: errno ${Errno.EROFS}`]);
  });

  test("an area that cannot be read is told at once", () => {
    const n = new Node1();
    const { region, result } = n.region();
    n.beat(region, new Disk(), { read_rc: -5 });
    expect(result[0]).toContain("cannot be read");
  });

  test("the last region's end takes all nodes down, this one too; with a farewell", () => {
    const { n, region } = withTwo();
    let stopped = 0;
    region.stop(true, () => stopped++);
    n.clock.run(1);
    expect(stopped).toBe(1);
    expect(n.calls.at(-1)).toBe("stop A true");
    expect(n.events).toEqual(["down 1", "down 2"]);
    expect(n.hb.regions()).toEqual([]);
  });

  test("a node that two regions see lives until neither does", () => {
    const n = new Node1();
    const [a, b] = [new Disk(), new Disk()];
    const ra = n.region("A").region;
    const rb = n.region("B").region;
    for (let i = 1; i < 9; i++) {
      for (const disk of [a, b]) disk.write(2, i, 2n);
      n.beat(ra, a);
      n.beat(rb, b);
    }
    n.events.length = 0;
    a.write(2, 1, 0n);
    n.beat(ra, a);
    n.beat(ra, a);
    expect(n.events).toEqual([]);
    b.write(2, 1, 0n);
    n.beat(rb, b);
    expect(n.events).toEqual(["down 2"]);
  });

  describe("a node that two regions see dies, and is back in one of them before its time is over", () => {
    /** Node 2 beats in both; each call is a beat, with its generations. */
    function inBoth(): { n: Node1; beat(a: bigint | null, b: bigint | null): void } {
      const n = new Node1();
      const disks = [new Disk(), new Disk()];
      const regions = ["A", "B"].map((name) => n.region(name).region);
      let seq = 0;
      const beat = (...generations: (bigint | null)[]): void => {
        seq++;
        disks.forEach((disk, i) => {
          const generation = generations[i];
          if (generation !== null) disk.write(2, seq, generation);
          n.beat(regions[i]!, disk, { own: seq < 3 ? "unknown" : "ok" });
        });
      };
      for (let i = 0; i < 8; i++) beat(2n, 3n);
      expect(n.events).toEqual(["up 1", "up 2"]);
      n.events.length = 0;
      return { n, beat };
    }

    test("it is dead once the other region has not changed for the threshold, and lives again", () => {
      const { n, beat } = inBoth();
      for (let i = 0; i < DEAD_THRESHOLD - 1; i++) {
        beat(22n, null);
        expect([n.events, n.hb.isInDoubt(2)]).toEqual([[], true]);
      }
      beat(22n, null);
      expect([n.events, n.hb.isInDoubt(2)]).toEqual([["down 2"], false]);
      for (let i = 0; i < DEAD_THRESHOLD; i++) beat(22n, null);
      expect(n.events).toEqual(["down 2", "up 2"]);
    });

    test("it is dead as soon as it is back in the other one, too", () => {
      const { n, beat } = inBoth();
      for (let i = 0; i < 4; i++) beat(22n, null);
      for (let i = 0; i < DEAD_THRESHOLD; i++) beat(22n, 33n);
      expect(n.events).toEqual(["down 2", "up 2"]);
    });

    test("a beat of its last moments that is seen late changes nothing", () => {
      const { n, beat } = inBoth();
      beat(22n, 3n);
      for (let i = 0; i < 2 * DEAD_THRESHOLD; i++) beat(22n, null);
      expect(n.events).toEqual(["down 2", "up 2"]);
    });

    test("one that has left the other region, or goes on beating there, is not dead", () => {
      const { n, beat } = inBoth();
      // A farewell between two looks, and another start.
      beat(22n, 3n);
      expect(n.hb.isInDoubt(2)).toBe(true);
      for (let i = 0; i < 3; i++) beat(22n, 3n);
      expect(n.hb.isInDoubt(2)).toBe(false);
      for (let i = 0; i < 2 * DEAD_THRESHOLD; i++) beat(22n, 0n);
      for (let i = 0; i < 4; i++) beat(22n, 34n);
      // A start that was broken off says no farewell.
      for (let i = 0; i < 2 * DEAD_THRESHOLD; i++) beat(22n, null);
      expect(n.events).toEqual([]);
    });
  });

  test("in global mode a region counts when all live nodes are seen in it, and the first waits longer", () => {
    const n = new Node1("global");
    const [a, b] = [new Disk(), new Disk()];
    const ra = n.region("A");
    let beats = 0;
    while (ra.result.length === 0 && beats < 20) {
      a.write(2, ++beats, 2n);
      n.beat(ra.region, a);
    }
    expect(beats).toBe(8);
    const rb = n.region("B");
    expect(rb.region.num).toBe(1);
    for (let i = 0; i < 8; i++) n.beat(rb.region, b);
    expect([ra.region.is_quorum, rb.region.is_quorum, rb.region.isSteady]).toEqual([true, false, true]);
    for (let i = 1; i < 4; i++) {
      b.write(2, i, 2n);
      n.beat(rb.region, b);
    }
    expect(rb.region.is_quorum).toBe(true);
    expect(n.calls).toEqual(["arm A", "arm B"]);
  });

  test("the same region twice, and more than 32 in global mode, are refused", () => {
    const n = new Node1("global");
    n.hb.addRegion("A");
    expect(() => n.hb.addRegion("A")).toThrow("EEXIST");
    for (let i = 1; i < 32; i++) n.hb.addRegion(`R${i}`);
    expect(() => n.hb.addRegion("R32")).toThrow("EFBIG");
  });
});

/** Keeps what is sent, and what is registered. */
class FakeNet implements HeartbeatNet {
  readonly node_num = 1;
  readonly sent: string[] = [];
  readonly handlers = new Map<string, MsgHandler>();
  answer = 0;
  connected_ms: number | undefined = 0;

  connectedSince_ms(): number | undefined {
    return this.connected_ms;
  }

  send(type: number, key: number, payload: Uint8Array, to: NodeNum, done: (err: number, status: number) => void): void {
    this.sent.push(`${type} ${key.toString(16)} to ${to}: ${payload[0]}`);
    done(this.answer, 0);
  }

  register(type: number, key: number, _max_len: number, handler: MsgHandler): () => void {
    this.handlers.set(`${type} ${key.toString(16)}`, handler);
    return () => void this.handlers.delete(`${type} ${key.toString(16)}`);
  }

  whenRegistered(done: () => void): void {
    done();
  }
}

describe("what the log says", () => {
  test("a slow disk, long before the deadline, once for each quarter of the way", () => {
    const { n, both } = withTwo();
    both();
    const lines = logged(() => n.clock.run(3000));
    expect(lines.filter((l) => l.includes("no heartbeat write"))).toHaveLength(1);
    expect(lines[0]).toMatch(/completed for [45].* writes stop after 7.0 s, this node ends itself after 12.0 s/);
    expect(logged(() => n.clock.run(6000)).filter((l) => l.includes("no heartbeat write"))).toHaveLength(2);
    expect(logged(both)).toEqual([]);
  });

  test("a node with another threshold, when it comes up, and what to do", () => {
    const { n, disk, region } = withTwo();
    const lines = logged(() => {
      for (let i = 1; i < 3; i++) {
        disk.write(3, i, 3n);
        disk.blocks.get(3)!.dead_ms = 62_000;
        n.beat(region, disk);
      }
    });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(
      "Node 3 in region A has a dead count of 62000 ms, but our count is 14000 ms. Set O2CB_HEARTBEAT_THRESHOLD",
    );
  });
});

describe("late writes", () => {
  test("the lowest node grants time when all live nodes ask, and tells them", () => {
    const { n, region, both } = withTwo();
    const net = new FakeNet();
    n.hb.connect(net);
    both();
    const key = region.key.toString(16);
    expect([...net.handlers.keys()]).toEqual([`${O2HB_NEGO_TIMEOUT_MSG} ${key}`, `${O2HB_NEGO_APPROVE_MSG} ${key}`]);
    n.clock.run(5000);
    expect(n.calls).toEqual(["arm A"]);
    net.handlers.get(`${O2HB_NEGO_TIMEOUT_MSG} ${key}`)!(new Uint8Array([2]), 2);
    n.clock.run(1500);
    expect(n.calls).toEqual(["arm A", "extend A"]);
    expect(net.sent).toEqual([`${O2HB_NEGO_APPROVE_MSG} ${key} to 2: 1`]);
  });

  test("a node asks for itself, and one that asks and is not live holds up nobody", () => {
    const { n, region, both } = withTwo();
    const net = new FakeNet();
    n.hb.connect(net);
    both();
    n.clock.run(5000);
    const asks = net.handlers.get(`${O2HB_NEGO_TIMEOUT_MSG} ${region.key.toString(16)}`)!;
    asks(new Uint8Array([2]), 3);
    asks(new Uint8Array([]), 3);
    n.clock.run(1500);
    expect(n.calls).toEqual(["arm A"]);
    asks(new Uint8Array([3]), 3);
    asks(new Uint8Array([2]), 2);
    n.clock.run(1500);
    expect(n.calls).toEqual(["arm A", "extend A"]);
  });

  test("nobody is granted anything while one node writes on", () => {
    const { n, both } = withTwo();
    n.hb.connect(new FakeNet());
    both();
    n.clock.run(60_000);
    expect(n.calls).toEqual(["arm A"]);
  });

  test("an approval puts the end off", () => {
    const { n, region } = withTwo();
    const net = new FakeNet();
    n.hb.connect(net);
    net.handlers.get(`${O2HB_NEGO_APPROVE_MSG} ${region.key.toString(16)}`)!(new Uint8Array([0]), 0);
    expect(n.calls).toEqual(["arm A", "extend A"]);
    region.stop(true, () => {});
    n.clock.run(1);
    expect(net.handlers.size).toBe(0);
  });

  /** Both have written, and what ends node 1 is kept. */
  function fenced(): { n: Node1; disk: Disk; region: HbRegion; both(): void; net: FakeNet; fences: string[] } {
    const all = withTwo();
    const net = new FakeNet();
    const fences: string[] = [];
    all.n.hb.connect(net);
    all.n.hb.fence = (why) => fences.push(why);
    all.both();
    return { ...all, net, fences };
  }

  /** The end was put off, and 20 s later our write completes after all. */
  function late(): ReturnType<typeof fenced> {
    const all = fenced();
    const { net } = all;
    all.n.clock.run(20_000);
    net.sent.length = 0;
    all.n.calls.length = 0;
    net.answer = -Errno.ENOPROTOOPT;
    return all;
  }

  test("after a write that was later than a node is given, others go on once every live node has shown that it talks to us", () => {
    const { n, both, net, fences } = late();
    for (let i = 0; i < 5; i++) both();
    // Looks from before our write may still be under way: nobody is asked yet.
    expect([net.sent, n.calls]).toEqual([[], []]);
    both();
    expect(net.sent).toHaveLength(1);
    expect(n.calls).toEqual(["prove A"]);
    for (let i = 0; i < 10; i++) both();
    expect(n.calls).toEqual(["prove A"]);
    expect(fences).toEqual([]);
  });

  test("a live node that does not talk to us any more has declared us dead", () => {
    const { n, both, net, fences } = late();
    net.answer = -Errno.ENOTCONN;
    for (let i = 0; i < 6; i++) both();
    expect(n.calls).toEqual([]);
    expect(fences[0]).toContain("node 2 does not talk to it");
  });

  test("so may one that is connected anew since then, though it answers", () => {
    const { n, both, net, fences } = late();
    net.connected_ms = n.clock.monotonic_ms() - 4000;
    for (let i = 0; i < 6; i++) both();
    expect([n.calls, net.sent]).toEqual([[], []]);
    expect(fences[0]).toContain("its connection with node 2 is not the one that it had");
  });

  test("also where the write that hung was under way when the time began", () => {
    const all = fenced();
    const { net, fences } = all;
    const submit_ms = all.n.clock.monotonic_ms();
    all.n.clock.run(20_000);
    net.connected_ms = submit_ms + 15_000;
    all.n.calls.length = 0;
    net.answer = -Errno.ENOPROTOOPT;
    all.n.beat(all.region, all.disk, { submit_ms, complete_ms: submit_ms + 20_000 });
    for (let i = 0; i < 7; i++) all.both();
    expect([all.n.calls, net.sent.filter((s) => !s.endsWith("to 2: 1"))]).toEqual([[], []]);
    expect(fences[0]).toContain("its connection with node 2 is not the one that it had");
  });

  test.each([
    ["was another start of it", 23n],
    ["had left", 0n],
  ])("so may one that we knew, and that %s when we looked again", (_, generation) => {
    const { n, disk, region, fences } = late();
    disk.write(2, 9000, generation);
    n.beat(region, disk);
    expect(fences[0]).toContain("node 2 has gone or come meanwhile");
  });

  test("one that went on while we were away, and is not connected as before, is not waited for", () => {
    const { n, both, net, fences } = late();
    net.connected_ms = undefined;
    both();
    expect(fences[0]).toContain("its connection with node 2 is not the one that it had");
    expect(n.calls).toEqual([]);
  });

  test("a node that came while we were away has not asked us for anything", () => {
    const { n, disk, both, fences } = late();
    disk.write(3, 5, 33n);
    both();
    expect(n.calls).toEqual([]);
    expect(fences[0]).toContain("node 3 has gone or come meanwhile");
  });

  test("the key is the kernel's: crc32_le(32 + number, name)", () => {
    const n = new Node1();
    // Bit by bit, as lib/crc32.c says it.
    let crc = 32;
    for (const c of Buffer.from("0AD1B7A93F2A4B8196090CA8716C204B")) {
      crc ^= c;
      for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    expect(n.hb.addRegion("0AD1B7A93F2A4B8196090CA8716C204B").key).toBe(crc >>> 0);
  });
});
