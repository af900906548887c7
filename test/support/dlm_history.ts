/** Steps of histories that a test tells one by one: messages of a simulated cluster that are held back, or lost with who dies. */
import { expect } from "vitest";
import { type DlmLock, RES_BUSY } from "../../src/dlm/lockres.ts";
import { DlmMigrateRequest } from "../../src/format/wire/dlm.ts";
import { DLM_MSG, type DlmMessage } from "../../src/format/wire/dlm_messages.ts";
import { type DomainLock, type LockLevel, PR } from "../../src/stackglue/lock_domain.ts";
import { type Member, World } from "./dlm_clients.ts";

/** A lock, granted. */
export function take(m: Member, name: string, level: LockLevel): DomainLock {
  let granted = false;
  const l = m.domain!.newLock(name, { ast: () => (granted = true), bast: () => {} });
  m.domain!.convert(l, level);
  m.world.runUntil(`granted to node ${m.num}`, () => granted);
  return l;
}

/** What node `m` is told is worked in at once, or when one of `later` is called, and answered no sooner than that. */
export function delay(
  m: Member,
  msg: DlmMessage,
  when: (payload: Uint8Array, from: number) => "now" | "later" | "unanswered",
) {
  const later: (() => void)[] = [];
  const key = msg.mod ? m.node.mod_key : m.domain!.dlm.key;
  const entry = m.sim.handlers.get(`${msg.type}:${key >>> 0}`)!;
  const { handler } = entry;
  const hear = (payload: Uint8Array, from: number, reply: (status: number) => void): void => {
    const result = handler(payload, from);
    if (typeof result === "function") return result(reply);
    reply(typeof result === "number" ? result : result.status);
    if (typeof result === "object") result.after();
  };
  entry.handler = (payload, from) => {
    const how = when(payload, from);
    if (how === "now") return handler(payload, from);
    return (reply) => {
      if (how === "unanswered") hear(payload, from, () => {});
      else later.push(() => hear(payload, from, reply));
    };
  };
  return later;
}

/** Nodes 1 to 5, joined, with those of `more`. */
export function fiveNodes(seed: number, ...more: number[]) {
  const world = new World({ seed });
  const [one, two, three, four, five] = [world.add(1), world.add(2), world.add(3), world.add(4), world.add(5)];
  for (const n of more) world.add(n);
  world.joinAll();
  return { world, one, two, three, four, five };
}

/**
 * Node 1 masters "lost", on which nodes 2, 3 and 4 hold PR, and leaves. Node 2, to which it gives the resource, has told node 3; node 4 takes what it is
 * told when it is called for. There is a node 5, which knows nothing of it. What happens `before` node 1 leaves is up to the test.
 */
export function givesAway(seed: number, before: (one: Member, four: Member, of_four: DomainLock) => void = () => {}) {
  const { world, one, two, three, four, five } = fiveNodes(seed);
  const of_one = take(one, "lost", PR);
  const [of_two, of_three, of_four] = [two, three, four].map((m) => take(m, "lost", PR));
  before(one, four, of_four!);
  const later = delay(four, DLM_MSG.MIGRATE_REQUEST, (payload, from) =>
    from === 2 && DlmMigrateRequest.from(payload).namelen === "lost".length ? "later" : "now",
  );
  one.domain!.unlock(of_one, () => one.leave());
  world.runUntil("node 4 is told", () => later.length > 0);
  /** Whoever lives knows of all deaths, and these are recovered. */
  const recovered = (): void =>
    world.runUntil("recovered", () => !world.unsettled && world.alive.every((m) => m.num !== 1), 60_000);
  /** All are on the queues of one master, and none but theirs. */
  const locksOnIt = (): DlmLock[] => {
    const master = world.alive.find((m) => m.domain!.dlm.lockres.get("lost")?.owner === m.num)!;
    for (const m of world.alive) {
      const res = m.domain!.dlm.lockres.get("lost");
      if (res !== undefined)
        expect(`${m.num}: ${res.owner}, ${res.state & RES_BUSY}`).toBe(`${m.num}: ${master.num}, 0`);
    }
    return master.domain!.dlm.lockres.get("lost")!.locks();
  };
  const nodesOnIt = (): number[] =>
    locksOnIt()
      .map((l) => l.node)
      .sort();
  return { world, one, two, three, four, five, of_two, of_three, of_four, later, recovered, nodesOnIt, locksOnIt };
}
