/**
 * Two nodes die close together. The masters of a migration, who gives and who is given, in the middle of it: nothing is lost, and nobody has it twice. Or one that
 * masters a resource and one that holds it: nobody gets it before he has heard of both.
 */
import { beforeAll, expect, test } from "vitest";
import { type Member, World } from "../../test/support/dlm_clients.ts";
import { delay, fiveNodes, givesAway, take } from "../../test/support/dlm_history.ts";
import { DlmDerefLockres, DlmFinalizeReco } from "../format/wire/dlm.ts";
import { DLM_FINALIZE_STAGE2 } from "../format/wire/dlm_constants.ts";
import { DLM_MSG, type DlmMessage } from "../format/wire/dlm_messages.ts";
import { mlogSet } from "../lib/masklog.ts";
import { EX, PR } from "../stackglue/lock_domain.ts";
import { putName } from "./dlm.ts";
import { type DlmLockRes, RES_BUSY, RES_DROPPING_REF } from "./lockres.ts";
import type { Mle } from "./mle.ts";

beforeAll(() => {
  mlogSet("ERROR", "off");
  mlogSet("NOTICE", "off");
});

/** Dies, and of the others only those hear it who are named: they tell the rest, by their recovery. */
function dies(m: Member, ...noticed: Member[]): void {
  m.world.cluster.killUnnoticed(m.sim);
  m.world.referee.died(m);
  for (const other of noticed) m.world.cluster.notice(other.sim, m.sim);
}

/** All know of all deaths, and these are recovered. */
function recovered(world: World): void {
  for (const m of world.alive)
    for (const dead of world.members.values()) if (!dead.sim.alive) world.cluster.notice(m.sim, dead.sim);
  world.runUntil("recovered", () => !world.unsettled, 60_000);
  expect(world.referee.faults).toEqual([]);
}

/** Node 1 gives "lost" away to node 2; nodes 3 and 4 have a lock on it, and know of that; node 3 has heard that node 2 has it now, node 4 will when called for. */
function oneHasHeard(seed = 1) {
  const history = givesAway(seed);
  const { world, one, three, four, later } = history;
  const [heard] = [four, one].map((m) => delay(m, DLM_MSG.ASSERT_MASTER, (_p, from) => (from === 2 ? "later" : "now")));
  later[0]!();
  world.runUntil("node 3 has heard", () => three.domain!.dlm.lockres.get("lost")!.owner === 2);
  world.runUntil("node 4 is to hear", () => heard!.length === 1);
  return { ...history, hears: () => heard![0]!() };
}

test("who recovers the old master has not heard of the new one, which is about to say so", () => {
  const { world, one, four, hears, nodesOnIt } = oneHasHeard();
  dies(one, four);
  world.pass(3000);
  hears();
  recovered(world);
  expect(nodesOnIt()).toEqual([2, 3, 4]);
});

test("who recovers the old master is told of the new one by a third node, and another has not heard of that yet", () => {
  const { world, one, two, three, four, five } = fiveNodes(1);
  const of_one = take(one, "lost", PR);
  for (const m of [four, two, three]) take(m, "lost", PR);
  const heard = delay(three, DLM_MSG.ASSERT_MASTER, (_p, from) => (from === 4 ? "later" : "now"));
  delay(one, DLM_MSG.ASSERT_MASTER, (_p, from) => (from === 4 ? "later" : "now"));
  one.domain!.unlock(of_one, () => one.leave());
  const owner = (m: Member): number => m.domain!.dlm.lockres.get("lost")!.owner;
  world.runUntil("node 2 has heard that node 4 has it", () => owner(two) === 4 && heard.length === 1);
  dies(one, five);
  world.pass(3000);
  heard[0]!();
  recovered(world);
  for (const m of [two, three, four]) expect(owner(m)).toBe(4);
});

test("the new one dies that was just told of an unlock, and the old one has it still", () => {
  const { world, one, two, three, of_three, nodesOnIt } = oneHasHeard();
  const told = delay(two, DLM_MSG.UNLOCK_LOCK, () => "later");
  let done = false;
  three.domain!.unlock(of_three!, () => (done = true));
  world.runUntil("node 2 is told", () => told.length > 0);
  dies(two, three);
  world.runUntil("it is done", () => done, 60_000);
  world.runUntil("node 1 has given it away", () => one.left, 60_000);
  recovered(world);
  expect(nodesOnIt()).toEqual([4]);
});

test("the old one dies that has not heard of an unlock, and the new one has it", () => {
  let [told, done] = [false, false];
  const { world, one, two, three, four, later, nodesOnIt } = givesAway(1, (old, unlocks, of_four) => {
    delay(old, DLM_MSG.UNLOCK_LOCK, (_p, from) => {
      told ||= from === 4;
      return from === 4 ? "later" : "now";
    });
    unlocks.domain!.unlock(of_four, () => (done = true));
    old.world.runUntil("node 1 is told", () => told);
  });
  const heard = delay(four, DLM_MSG.ASSERT_MASTER, () => (heard.length === 0 ? "later" : "now"));
  later[0]!();
  const has = (): boolean => three.domain!.dlm.lockres.get("lost")!.owner === 2 && heard.length > 0;
  world.runUntil("node 2 has it, and node 4 is to hear", has);
  dies(one, two, three, four);
  world.pass(100);
  heard[0]!();
  world.runUntil("it is done", () => done, 60_000);
  recovered(world);
  expect(nodesOnIt()).toEqual([2, 3]);
});

test("the new one dies, and the old one, which has heard that it is not the master any more, recovers it", () => {
  const { world, one, two, three, four, later, nodesOnIt } = givesAway(1);
  delay(two, DLM_MSG.DEREF_LOCKRES, () => "later");
  later[0]!();
  const asked = delay(four, DLM_MSG.LOCK_REQUEST, () => "later");
  world.runUntil(
    "node 1 has heard",
    () => three.domain!.dlm.lockres.get("lost")!.owner === 2 && one.domain!.dlm.mles.size === 0,
  );
  dies(two, one);
  world.runUntil(
    "node 1 has what node 3 has",
    () => asked.length > 0 && one.domain!.dlm.lockres.get("lost")?.owner === 1,
  );
  asked[0]!();
  world.runUntil("node 1 has recovered it, and given it away", () => one.left, 60_000);
  recovered(world);
  expect(nodesOnIt()).toEqual([3, 4]);
});

test("who recovers the old master is just forgetting the resource, whose new master has not told all", () => {
  const world = new World({ seed: 1 });
  const [one, two, three, four] = [1, 2, 3, 4].map((n) => world.add(n)) as [Member, Member, Member, Member];
  world.joinAll();
  const of_one = take(one, "lost", PR);
  for (const m of [two, four]) take(m, "lost", PR);
  const [heard] = [four, one].map((m) => delay(m, DLM_MSG.ASSERT_MASTER, (_p, from) => (from === 2 ? "later" : "now")));
  three.domain!.unlock(take(three, "lost", PR), () => {});
  // It is forgotten after eight seconds.
  world.pass(7900);
  one.domain!.unlock(of_one, () => one.leave());
  const at_three = (): DlmLockRes => three.domain!.dlm.lockres.get("lost")!;
  world.runUntil("node 3 says to node 2 that it forgets it", () => (at_three().state & RES_DROPPING_REF) !== 0, 60_000);
  expect([at_three().owner, heard!.length]).toEqual([2, 1]);
  dies(one, three);
  world.pass(1000);
  heard![0]!();
  recovered(world);
  const res = two.domain!.dlm.lockres.get("lost")!;
  expect([res.state & RES_BUSY, res.locks().map((l) => l.node)]).toEqual([0, [2, 4]]);
});

type History = ReturnType<typeof oneHasHeard>;
const orders: [string, (h: History) => void][] = [
  [
    "the new one first",
    ({ one, two, three, four, five }) => {
      dies(two, three, four, five);
      dies(one, three, four, five);
    },
  ],
  [
    "the old one first",
    ({ one, two, three, four, five }) => {
      dies(one, three, four, five);
      dies(two, three, four, five);
    },
  ],
  [
    "the old one is dead already, and not all know, when the new one is recovered",
    ({ world, one, two, three, four, five }) => {
      dies(one, four);
      dies(two, three, four, five);
      world.pass(3000);
    },
  ],
  [
    "the new one is dead already, and nobody knows, when the old one is recovered",
    ({ world, one, two, five }) => {
      dies(two);
      dies(one, five);
      world.pass(3000);
    },
  ],
  [
    "the new one while the old one is about to be recovered, and who has not heard knows that alone",
    ({ world, one, two, four, five }) => {
      const told = delay(four, DLM_MSG.BEGIN_RECO, () => (told.length === 0 ? "later" : "now"));
      dies(one, five);
      world.runUntil("node 4 is told of the old one", () => told.length > 0);
      dies(two, four);
      told[0]!();
      world.pass(3000);
    },
  ],
  [
    "the new one while the old one is recovered, by who has heard",
    ({ world, one, two, three }) => {
      dies(one, three);
      world.pass(3000);
      dies(two, three);
    },
  ],
  [
    "the new one while the old one is recovered, by who has not heard",
    ({ world, one, two, four }) => {
      dies(one, four);
      world.pass(3000);
      dies(two, four);
    },
  ],
  [
    "the new one while the old one is recovered, by who knows nothing of it",
    ({ world, one, two, five }) => {
      dies(one, five);
      world.pass(3000);
      dies(two, five);
    },
  ],
];

const seeds = [1, 2, 3, 4, 5, 6];
const histories = orders.flatMap(([name, play]) => seeds.map((seed) => ({ name, seed, play })));

test.each(histories)("both masters die: $name: seed $seed", ({ seed, play }) => {
  const history = oneHasHeard(seed);
  const { world, three, four, of_three, of_four, locksOnIt } = history;
  // Neither can have it, as the other has it.
  three.domain!.convert(of_three!, EX);
  four.domain!.convert(of_four!, EX);
  play(history);
  recovered(world);
  world.pass(3000);
  const locks = locksOnIt().map((l) => `${l.node} at ${l.type}, asks for ${l.convert_type}`);
  expect(locks.sort()).toEqual(["3 at 3, asks for 5", "4 at 3, asks for 5"]);
  expect(world.referee.faults).toEqual([]);
});

/** Node `asks` asks for "lost" at EX; what it has heard of deaths when it gets it. */
function hasHeard(asks: Member): { of: number[] | null } {
  const heard: { of: number[] | null } = { of: null };
  const ast = (): void => void (heard.of = [...asks.evicted]);
  asks.domain!.convert(asks.domain!.newLock("lost", { ast, bast: () => {} }), EX);
  return heard;
}

function masters(m: Member, name: string): void {
  m.domain!.unlock(take(m, name, PR), () => {});
}

test("who recovers the dead master of a resource cannot reach its holder, and does not know that it is dead", () => {
  const { world, one, two, four, five } = fiveNodes(1, 6);
  masters(four, "lost");
  take(five, "lost", EX);
  const heard = hasHeard(two);
  // Node 1 has the recovery lock from here on.
  dies(world.members.get(6)!, one);
  recovered(world);
  dies(five);
  dies(four, one);
  world.pass(5000);
  expect(heard.of).toBe(null);
  recovered(world);
  world.runUntil("granted", () => heard.of !== null, 60_000);
  expect(heard.of!.sort()).toEqual([4, 5, 6]);
});

test("the holder of a resource dies, and all but its master hear of the death of another first", () => {
  const { world, one, two, three, four, five } = fiveNodes(1, 6);
  masters(one, "lost");
  take(five, "lost", EX);
  const heard = hasHeard(two);
  world.pass(100);
  const done = delay(three, DLM_MSG.RECO_DATA_DONE, (_p, from) => (from === 1 && done.length === 0 ? "later" : "now"));
  dies(four, three);
  world.runUntil("node 1 has nothing of node 4", () => done.length > 0, 60_000);
  world.pass(100);
  dies(five, one);
  done[0]!();
  world.runUntil("granted", () => heard.of !== null, 60_000);
  expect(heard.of!.sort()).toEqual([4, 5]);
  recovered(world);
});

test("who recovers dies when one has heard that all is recovered, and does not know of that death", () => {
  const { world, one, two, three, four, five } = fiveNodes(1, 6);
  // Node 2 has the recovery lock from here on.
  dies(four, two);
  dies(world.members.get(6)!, two);
  world.pass(1000);
  recovered(world);
  masters(five, "lost");
  take(two, "lost", PR);
  // Node 3 can have it at EX when node 2 has given way, which does not.
  three.domain!.convert(take(three, "lost", PR), EX);
  world.pass(100);
  const isLast = (payload: Uint8Array): boolean => (DlmFinalizeReco.from(payload).flags & DLM_FINALIZE_STAGE2) !== 0;
  const last = delay(three, DLM_MSG.FINALIZE_RECO, (payload, from) =>
    from === 1 && isLast(payload) ? "later" : "now",
  );
  dies(five, one);
  world.runUntil("node 2 has heard, and node 3 will", () => last.length > 0, 60_000);
  expect(two.domain!.dlm.recovery_map.empty).toBe(true);
  dies(one, three);
  world.runUntil("node 3 has recovered both", () => three.domain!.dlm.recovery_map.empty, 60_000);
  recovered(world);
  expect(two.domain!.dlm.lockres.get("lost")!.owner).toBe(3);
  const locks = three.domain!.dlm.lockres.get("lost")!.locks();
  expect(locks.map((l) => `${l.node} at ${l.type}`).sort()).toEqual(["2 at 3", "3 at 3"]);
});

test("one dies that has answered the new master of the recovery lock, when another has not", () => {
  const { world, one, two, three, four, five } = fiveNodes(1, 6);
  const asserted = delay(three, DLM_MSG.ASSERT_MASTER, () => (asserted.length === 0 ? "later" : "now"));
  // Both ask for the recovery lock, and node 1 gets it.
  dies(four, one, two);
  const ref = (): boolean => one.domain!.dlm.lockres.get("$RECOVERY")!.hasRef(2);
  world.runUntil("node 2 has answered, and node 3 will", () => ref() && asserted.length > 0, 60_000);
  dies(two, one);
  asserted[0]!();
  recovered(world);
  for (const m of [one, three, five]) m.leave();
  world.runUntil("all have left", () => [one, three, five].every((m) => m.left), 60_000);
  expect(world.referee.faults).toEqual([]);
});

test("one dies whose reference the recovery master has not worked in yet", () => {
  const { world, one, two, four, five } = fiveNodes(1, 6);
  masters(five, "lost");
  masters(two, "lost");
  // Something else is first in node 1's queue: node 3 drops a reference to what node 1 tells node 4 that it masters.
  const asserted = delay(four, DLM_MSG.ASSERT_MASTER, () => (asserted.length === 0 ? "later" : "now"));
  take(one, "other", PR);
  const deref = DlmDerefLockres.alloc();
  deref.node_idx = 3;
  deref.namelen = "other".length;
  putName(deref.name, "other");
  const { dlm } = one.domain!;
  const entry = one.sim.handlers.get(`${DLM_MSG.DEREF_LOCKRES.type}:${dlm.key >>> 0}`)!;
  entry.handler(deref.bytes(), 3);
  dies(five, one);
  world.runUntil("node 2 has sent all", () => dlm.reco.node_data.get(2) === "done", 60_000);
  expect(dlm.lockres.get("lost")!.hasRef(2)).toBe(false);
  dies(two, one);
  asserted[0]!();
  recovered(world);
  expect(dlm.lockres.get("lost")?.refNodes() ?? []).toEqual([]);
});

test("a dead node's word that it masters the recovery lock is heard by one that does not know of the death, when another masters it anew", () => {
  const { world, two, three, four, five } = fiveNodes(1, 6);
  const held = (m: Member, msg: DlmMessage): (() => void)[] =>
    delay(m, msg, (_p, from) => (from === 2 ? "later" : "now"));
  const of_three = held(three, DLM_MSG.ASSERT_MASTER);
  const of_five = held(five, DLM_MSG.ASSERT_MASTER);
  const asks_last = held(world.members.get(6)!, DLM_MSG.MASTER_REQUEST);
  // All three ask for the recovery lock, and node 2 gets it.
  dies(four, two, three, five);
  const mle = (): Mle => three.domain!.dlm.mles.get("$RECOVERY")!;
  const asked_all = (): boolean => asks_last.length > 0 && mle().response_map.equals(mle().vote_map);
  world.runUntil("node 3 waits for node 2", asked_all, 60_000);
  asks_last[0]!();
  world.runUntil("nodes 3 and 5 are to hear", () => of_three.length + of_five.length === 2, 60_000);
  dies(two, three);
  const asked = delay(five, DLM_MSG.MASTER_REQUEST, () => (asked.length === 0 ? "later" : "now"));
  world.runUntil("node 3 asks node 5", () => asked.length > 0, 60_000);
  of_five[0]!();
  asked[0]!();
  world.pass(1000);
  recovered(world);
});
