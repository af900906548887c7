/** A resource with more locks than one message has room for: it is given away, or recovered, in several, and much may happen between two of them. */
import { beforeAll, expect, test } from "vitest";
import type { Member } from "../../test/support/dlm_clients.ts";
import { delay, fiveNodes, take } from "../../test/support/dlm_history.ts";
import { DlmMigratableLockres } from "../format/wire/dlm.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { mlogSet } from "../lib/masklog.ts";
import { type DomainLock, PR } from "../stackglue/lock_domain.ts";
import { RES_BUSY } from "./lockres.ts";

beforeAll(() => {
  mlogSet("ERROR", "off");
  mlogSet("NOTICE", "off");
});

/** More than a message has room for. */
const LOCKS = 250;

/** Node 1 masters "lost"; nodes 2, 3 and 4 have `LOCKS` locks each on it. There is a node 5, which has none. */
function manyLocks(seed: number) {
  const { world, one, two, three, four, five } = fiveNodes(seed);
  const of_one = take(one, "lost", PR);
  const locks = new Map<Member, DomainLock[]>();
  for (let i = 0; i < LOCKS; i++)
    for (const m of [two, three, four]) locks.set(m, [...(locks.get(m) ?? []), take(m, "lost", PR)]);
  const leave = (): void => one.domain!.unlock(of_one, () => one.leave());
  const master = (): Member => world.alive.find((m) => m.domain!.dlm.lockres.get("lost")?.owner === m.num)!;
  /** All that live agree on who masters it; its locks, by node. */
  const count = (): Record<number, number> => {
    for (const m of world.alive) {
      const res = m.domain!.dlm.lockres.get("lost");
      if (res !== undefined) expect([m.num, res.owner, res.state & RES_BUSY]).toEqual([m.num, master().num, 0]);
    }
    const all = master().domain!.dlm.lockres.get("lost")!.locks();
    expect(new Set(all.map((l) => l.cookieText)).size).toBe(all.length);
    return Object.fromEntries([1, 2, 3, 4, 5].map((n) => [n, all.filter((l) => l.node === n).length]));
  };
  const recovered = (): void => {
    world.runUntil("recovered", () => !world.unsettled, 60_000);
    expect(world.referee.faults).toEqual([]);
  };
  return { world, one, two, three, four, five, locks, leave, count, recovered };
}

/** The second part of "lost" that node `to` is sent, of `by` if that is given, comes when it is called for. */
function secondPart(to: Member, by?: Member): (() => void)[] {
  let parts = 0;
  return delay(to, DLM_MSG.MIG_LOCKRES, (payload, from) =>
    DlmMigratableLockres.from(payload).total_locks >= LOCKS && (by === undefined || from === by.num) && ++parts === 2
      ? "later"
      : "now",
  );
}

test("it is given away", () => {
  const { world, one, leave, count } = manyLocks(1);
  leave();
  world.runUntil("node 1 has left", () => one.left, 60_000);
  expect(count()).toEqual({ 1: 0, 2: LOCKS, 3: LOCKS, 4: LOCKS, 5: 0 });
  expect(world.referee.faults).toEqual([]);
});

test("it is being given to a node that begins to leave in the middle", () => {
  const { world, one, two, locks, leave, count } = manyLocks(1);
  const parts = secondPart(two);
  leave();
  world.runUntil("node 2 has a part", () => parts.length > 0, 60_000);
  let unlocked = 0;
  for (const l of locks.get(two)!) two.domain!.unlock(l, () => unlocked++);
  two.leave();
  world.pass(100);
  parts[0]!();
  world.runUntil("both have left", () => one.left && two.left, 60_000);
  expect(unlocked).toBe(LOCKS);
  expect(count()).toEqual({ 1: 0, 2: 0, 3: LOCKS, 4: LOCKS, 5: 0 });
  expect(world.referee.faults).toEqual([]);
});

test.each([1, 2, 3, 4])("who gives it away dies in the middle: seed %i", (seed) => {
  const { world, one, two, leave, count, recovered } = manyLocks(seed);
  const parts = secondPart(two);
  leave();
  world.runUntil("node 2 has a part", () => parts.length > 0, 60_000);
  world.kill(one);
  recovered();
  expect(count()).toEqual({ 1: 0, 2: LOCKS, 3: LOCKS, 4: LOCKS, 5: 0 });
});

test.each([1, 2, 3, 4])("who is given it dies in the middle, and it is given to the next: seed %i", (seed) => {
  const { world, one, two, leave, count, recovered } = manyLocks(seed);
  const parts = secondPart(two);
  leave();
  world.runUntil("node 2 has a part", () => parts.length > 0, 60_000);
  world.kill(two);
  world.runUntil("node 1 has left", () => one.left, 60_000);
  recovered();
  expect(count()).toEqual({ 1: 0, 2: 0, 3: LOCKS, 4: LOCKS, 5: 0 });
});

test.each([1, 2, 3, 4])("one that has locks on it dies while it is given away: seed %i", (seed) => {
  const { world, one, two, three, leave, count, recovered } = manyLocks(seed);
  const parts = secondPart(two);
  leave();
  world.runUntil("node 2 has a part", () => parts.length > 0, 60_000);
  world.kill(three);
  world.pass(3000);
  parts[0]!();
  world.runUntil("node 1 has left", () => one.left, 60_000);
  recovered();
  expect(count()).toEqual({ 1: 0, 2: LOCKS, 3: 0, 4: LOCKS, 5: 0 });
});

test.each([1, 2, 3, 4])("it is recovered, and one that sends its locks dies in the middle: seed %i", (seed) => {
  const { world, one, three, count, recovered } = manyLocks(seed);
  const parts = world.alive.map((m) => secondPart(m, three));
  world.kill(one);
  world.runUntil("a part has come", () => parts.some((p) => p.length > 0) || !world.unsettled, 60_000);
  world.kill(three);
  recovered();
  expect(count()).toEqual({ 1: 0, 2: LOCKS, 3: 0, 4: LOCKS, 5: 0 });
});

test.each([1, 2, 3, 4])("it is recovered, and who recovers it dies in the middle: seed %i", (seed) => {
  const { world, one, count, recovered } = manyLocks(seed);
  const parts = new Map(world.alive.map((m) => [m, secondPart(m)]));
  world.kill(one);
  const recovers = (): Member | undefined => world.alive.find((m) => parts.get(m)!.length > 0);
  world.runUntil("a part has come", () => recovers() !== undefined, 60_000);
  const master = recovers()!;
  world.kill(master);
  world.runUntil("the next has a part", () => recovers() !== undefined, 60_000);
  parts.get(recovers()!)![0]!();
  recovered();
  const left = (n: number): number => (n === master.num ? 0 : LOCKS);
  expect(count()).toEqual({ 1: 0, 2: left(2), 3: left(3), 4: left(4), 5: 0 });
});

test.each([1, 2, 3, 4])("it is recovered, and all hear twice that they are to send what they have: seed %i", (seed) => {
  const { world, one, count, recovered } = manyLocks(seed);
  for (const m of world.alive) {
    const entry = m.sim.handlers.get(`${DLM_MSG.LOCK_REQUEST.type}:${m.domain!.dlm.key >>> 0}`)!;
    const { handler } = entry;
    entry.handler = (payload, from) => {
      handler(payload, from);
      return handler(payload, from);
    };
  }
  world.kill(one);
  recovered();
  expect(count()).toEqual({ 1: 0, 2: LOCKS, 3: LOCKS, 4: LOCKS, 5: 0 });
});
