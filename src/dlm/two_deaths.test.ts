/**
 * Two nodes die close together. One that masters a resource and one that holds it: nobody gets it before he has heard of both.
 */
import { beforeAll, expect, test } from "vitest";
import { type Member, World } from "../../test/support/dlm_clients.ts";
import { delay, take } from "../../test/support/dlm_history.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { mlogSet } from "../lib/masklog.ts";
import { EX, PR } from "../stackglue/lock_domain.ts";

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

function fiveNodes() {
  const world = new World({ seed: 1 });
  const [one, two, three, four, five] = [1, 2, 3, 4, 5].map((n) => world.add(n)) as [
    Member,
    Member,
    Member,
    Member,
    Member,
  ];
  world.add(6);
  world.joinAll();
  return { world, one, two, three, four, five };
}

test("who recovers the dead master of a resource cannot reach its holder, and does not know that it is dead", () => {
  const { world, one, two, four, five } = fiveNodes();
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
  const { world, one, two, three, four, five } = fiveNodes();
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
