/**
 * Statuses (docs/PROTOCOL.md): what a kernel node must never hear from us, and what becomes of messages that no node sends. Nothing of it
 * may throw, and nothing may stop the node that gets it.
 */
import { beforeAll, expect, test } from "vitest";
import { DOMAIN, type Member, World } from "../../test/support/dlm_clients.ts";
import { delay, givesAway, take } from "../../test/support/dlm_history.ts";
import { DlmFinalizeReco, DlmMasterRequest, DlmMigratableLockres, DlmProxyAst } from "../format/wire/dlm.ts";
import {
  DLM_AST,
  DLM_FINALIZE_STAGE2,
  DLM_LOCKID_NAME_MAX,
  DLM_MASTER_RESP_ERROR,
  DLM_MASTER_RESP_NO,
  DLM_STATUS,
  LKM_CANCEL,
  LKM_GET_LVB,
  LKM_IVMODE,
  LKM_PUT_LVB,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG, type DlmMessage } from "../format/wire/dlm_messages.ts";
import { seededRandom } from "../lib/clock.ts";
import { mlogSet } from "../lib/masklog.ts";
import { type DomainLock, EX, type LockLevel, NL, PR } from "../stackglue/lock_domain.ts";
import { dumpDomain } from "./debug.ts";
import { ENOTCONN, putName } from "./dlm.ts";
import { RES_BUSY } from "./lockres.ts";

beforeAll(() => {
  mlogSet("ERROR", "off");
  mlogSet("NOTICE", "off");
});

/** Nodes 1 and 2 in a domain; node 1 holds EX on `ours` and PR on `theirs`, which node 2 masters. */
function twoNodes(): { world: World; one: Member } {
  const world = new World({ seed: 7 });
  const [one, two] = [world.add(1), world.add(2)];
  world.joinAll();
  take(one, "ours", EX);
  take(two, "theirs", PR);
  take(one, "theirs", PR);
  return { world, one };
}

/** Says a message to node 1 as if it came from node 2; what it answers. */
function say(to: Member, msg: DlmMessage, fields: Record<string, number>, name = "", tail = 0): number {
  const v = msg.struct.alloc(tail) as unknown as Record<string, unknown> & { dv: DataView };
  if (name !== "") {
    putName((v["name"] ?? v["lockname"]) as Uint8Array, name);
    v["lockname" in v ? "lockname_len" : "namelen"] = name.length;
  }
  Object.assign(v, { ...("node_idx" in v ? { node_idx: 2 } : {}), ...fields });
  return sayBytes(to, msg, new Uint8Array(v.dv.buffer as ArrayBuffer));
}

function sayBytes(to: Member, msg: DlmMessage, payload: Uint8Array): number {
  const key = msg.mod ? to.node.mod_key : to.domain!.dlm.key;
  const result = to.sim.handlers.get(`${msg.type}:${key >>> 0}`)!.handler(payload, 2);
  if (typeof result === "number") return result;
  if (typeof result === "function") throw new Error("an answer of another thread");
  result.after();
  return result.status;
}

/** Asks for the lock "lost" at PR; the result says whether it is granted. */
function lock(m: Member): () => boolean {
  let granted = false;
  const l = m.domain!.newLock("lost", { ast: () => (granted = true), bast: () => {} });
  m.domain!.convert(l, PR);
  return () => granted;
}

const S = DLM_STATUS;

test("an assertion of mastery that never came is asked for", () => {
  const { world, one } = twoNodes();
  const two = world.members.get(2)!;
  const theirs = lock(two);
  world.runUntil("granted to the master", theirs);
  // Node 2 has asked us, and its assertion is lost: it died with another master, say, which node 2 has recovered.
  expect(say(one, DLM_MSG.MASTER_REQUEST, {}, "lost")).toBe(DLM_MASTER_RESP_NO);
  world.runUntil("granted to who was blocked", lock(one), 10_000);
  expect(world.referee.faults).toEqual([]);
});

test.each(["another node masters it", "nobody masters it any more"])(
  "who asked for a mastery has nothing of it any more, and never asserted: %s",
  (now) => {
    const world = new World({ seed: 8 });
    const [one, , three] = [world.add(1), world.add(2), world.add(3)];
    world.joinAll();
    if (now === "another node masters it") world.runUntil("granted to the master", lock(three));
    expect(say(one, DLM_MSG.MASTER_REQUEST, {}, "lost")).toBe(DLM_MASTER_RESP_NO);
    world.runUntil("granted to who was blocked", lock(one), 10_000);
    expect(world.masters.get("lost")).toBe(now === "another node masters it" ? 3 : 1);
    world.runUntil("nothing of the question is left", () => one.domain!.dlm.mles.size === 0, 10_000);
    expect(world.referee.faults).toEqual([]);
  },
);

test("a request for a mastery that came before this node recovered the resource is waited for no longer", () => {
  const world = new World({ seed: 2 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  world.runUntil("granted to the master", lock(three));
  world.runUntil("granted beside the master", lock(two));
  expect(say(one, DLM_MSG.MASTER_REQUEST, {}, "lost")).toBe(DLM_MASTER_RESP_NO);
  expect(one.domain!.dlm.mles.size).toBe(1);
  world.kill(three);
  world.runUntil("node 1 masters it, and waits for nobody", () => one.domain!.dlm.mles.size === 0, 60_000);
  expect(world.masters.get("lost")).toBe(1);
  expect(world.referee.faults).toEqual([]);
});

/** Node `asks` asks node 2, which hears it when it is called for, who masters "lost"; `dies` does so meanwhile, and then node 2 hears it. */
function diesMeanwhile(world: World, asks: Member, dies: Member) {
  const asked = delay(world.members.get(2)!, DLM_MSG.MASTER_REQUEST, (payload, from) =>
    from === asks.num && DlmMasterRequest.from(payload).namelen === "lost".length ? "later" : "now",
  );
  const granted = lock(asks);
  world.runUntil("node 2 is asked", () => asked.length === 1);
  const { dlm } = asks.domain!;
  world.kill(dies);
  world.runUntil("the death is known to who asks", () => !dlm.domain_map.has(dies.num), 60_000);
  asked[0]!();
  return { asked, granted, dlm };
}

test("a master that says YES while another dies, and dies too before it is taken, is not taken for the master", () => {
  const world = new World({ seed: 4 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.add(4);
  world.joinAll();
  world.runUntil("granted to the master", lock(two));
  world.runUntil("node 1 has heard who masters it", () => one.domain!.dlm.mles.size === 0);
  const { granted, dlm } = diesMeanwhile(world, one, three);
  world.runUntil("node 2 has said YES", () => dlm.mles.get("lost")?.said_yes === 2);
  world.kill(two);
  world.runUntil("granted by another", granted, 60_000);
  expect([1, 4]).toContain(dlm.lockres.get("lost")!.owner);
  expect(world.referee.faults).toEqual([]);
});

test("of two that die, one is back before the other members have answered who is asked for a mastery: it is asked as well", () => {
  const world = new World({ seed: 4 });
  const [one, , three, four] = [world.add(1), world.add(2), world.add(3), world.add(4)];
  world.joinAll();
  const { asked, granted, dlm } = diesMeanwhile(world, three, four);
  world.runUntil("node 3 begins anew", () => !dlm.mles.get("lost")!.vote_map.has(4));
  world.kill(one);
  world.runUntil("all know of the second", () => world.cluster.settled, 60_000);
  const again = world.restart(1);
  world.runUntil("node 2 is asked again", () => asked.length === 2, 60_000);
  expect(again.joined_err).toBe(null);
  world.runUntil("node 1 is back", () => again.joined_err === 0, 60_000);
  const answered = (): boolean => {
    for (const hear of asked.splice(1)) hear();
    return granted();
  };
  world.runUntil("granted", answered, 60_000);
  expect(world.referee.faults).toEqual([]);
});

test("a node that dies while another is about to join, and is back before that one tries again, is not recovered once more", () => {
  const world = new World({ seed: 1 });
  const [one, two] = [world.add(1), world.add(2)];
  world.joinAll();
  const three = world.add(3);
  const asked = delay(one, DLM_MSG.QUERY_NODEINFO, () => (asked.length === 0 ? "later" : "now"));
  three.join();
  world.runUntil("node 3 is about to join", () => asked.length > 0);
  world.kill(two);
  world.runUntil("all know of the death", () => world.cluster.settled, 60_000);
  world.runUntil("node 2 is recovered", () => one.domain!.dlm.recovery_map.empty, 60_000);
  asked[0]!();
  const dlm = three.node.domains.get(DOMAIN)!;
  world.runUntil("node 3 takes its wish back", () => dlm.domain_map.empty, 60_000);
  const again = world.restart(2);
  world.runUntil("node 2 is back", () => again.joined_err === 0, 60_000);
  expect(three.joined_err).toBe(null);
  world.runUntil("node 3 has joined", () => three.joined_err === 0, 60_000);
  world.pass(5000);
  for (const m of world.alive) expect(m.domain!.dlm.domain_map.toString()).toBe("1 2 3");
  expect(world.referee.faults).toEqual([]);
});

test.each(["asks further", "says that it has joined"])("a node dies, and is back, before one that joins %s", (step) => {
  const world = new World({ seed: 1 });
  const [one, two] = [world.add(1), world.add(2)];
  world.joinAll();
  const three = world.add(3);
  const msg = step === "asks further" ? DLM_MSG.QUERY_NODEINFO : DLM_MSG.ASSERT_JOINED;
  const asked = delay(one, msg as DlmMessage, () => (asked.length === 0 ? "later" : "now"));
  three.join();
  world.runUntil("node 3 is about to join", () => asked.length > 0);
  world.kill(two);
  world.runUntil("all know of the death", () => world.cluster.settled, 60_000);
  const again = world.restart(2);
  asked[0]!();
  world.runUntil("both have joined", () => three.joined_err !== null && again.joined_err !== null, 60_000);
  expect([three.joined_err, again.joined_err]).toEqual([0, 0]);
  for (const m of world.alive) expect(m.domain!.dlm.domain_map.toString()).toBe("1 2 3");
  expect(world.referee.faults).toEqual([]);
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])("a node dies to which a resource is given, and some were told: seed %i", (seed) => {
  const { world, two, recovered, nodesOnIt } = givesAway(seed);
  world.kill(two);
  recovered();
  expect(world.referee.faults).toEqual([]);
  expect(nodesOnIt()).toEqual([3, 4]);
});

test("a node dies to which a resource is given, and who gives it notices when that is all but recovered", () => {
  const world = new World({ seed: 1 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  const of_one = take(one, "lost", PR);
  for (const m of [two, three]) take(m, "lost", PR);
  const given = delay(two, DLM_MSG.MIG_LOCKRES, () => "later");
  one.domain!.unlock(of_one, () => one.leave());
  world.runUntil("it is being given", () => given.length > 0);
  world.cluster.killUnnoticed(two.sim);
  const isLast = (payload: Uint8Array): boolean => (DlmFinalizeReco.from(payload).flags & DLM_FINALIZE_STAGE2) !== 0;
  const last = delay(one, DLM_MSG.FINALIZE_RECO, (payload) => (isLast(payload) ? "later" : "now"));
  world.cluster.notice(three.sim, two.sim);
  world.runUntil("node 1 has heard that node 2 is recovered", () => last.length > 0, 60_000);
  world.cluster.notice(one.sim, two.sim);
  last[0]!();
  world.runUntil("node 1 has left", () => one.left, 60_000);
  expect(three.domain!.dlm.lockres.get("lost")!.owner).toBe(3);
  expect(world.referee.faults).toEqual([]);
});

test.each(["who gives", "who is given"])("the recovery lock is being given away, and a node dies: %s", (who) => {
  const world = new World({ seed: 3 });
  for (const num of [1, 2, 3, 4]) world.add(num);
  const five = world.add(5);
  world.joinAll();
  world.kill(five);
  world.runUntil("node 5 is recovered", () => !world.unsettled, 60_000);
  const name = "$RECOVERY";
  const master = world.alive.find((m) => m.domain!.dlm.lockres.get(name)?.owner === m.num)!;
  const told: number[] = [];
  for (const m of world.alive)
    delay(m, DLM_MSG.MIGRATE_REQUEST, (_payload, from) => {
      told.push(from);
      return told.length === 1 ? "now" : "unanswered";
    });
  master.leave();
  world.runUntil("two are told", () => told.length === 2 || master.left, 60_000);
  expect(master.left).toBe(false);
  world.kill(who === "who gives" ? master : world.members.get(told[0]!)!);
  world.runUntil("it is recovered", () => !world.unsettled, 60_000);
  expect(world.referee.faults).toEqual([]);
});

test.each([1, 2, 3, 4])("it dies when all know that it has it but who gave it away: seed %i", (seed) => {
  const { world, one, two, three, four, later, recovered, nodesOnIt } = givesAway(seed);
  // The last assertion, which is lost with it.
  const heard = delay(one, DLM_MSG.ASSERT_MASTER, (_payload, from) => (from === 2 ? "later" : "now"));
  later[0]!();
  world.runUntil("node 1 is to hear", () => heard.length > 0);
  for (const m of [three, four]) expect(m.domain!.dlm.lockres.get("lost")!.owner).toBe(2);
  world.kill(two);
  recovered();
  expect(world.referee.faults).toEqual([]);
  expect(nodesOnIt()).toEqual([3, 4]);
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])("a node dies that gives a resource away, and some were told: seed %i", (seed) => {
  const { world, one, four, later, recovered, nodesOnIt } = givesAway(seed);
  world.kill(one);
  world.runUntil("node 4 knows", () => !four.domain!.dlm.domain_map.has(1), 60_000);
  later[0]!();
  recovered();
  expect(world.referee.faults).toEqual([]);
  expect(nodesOnIt()).toEqual([2, 3, 4]);
});

test("it dies, and who was given the resource is told by another, which asks for it, that it needs a reference", () => {
  const { world, one, two, three, five, of_two, later, recovered, nodesOnIt } = givesAway(1);
  let granted = false;
  const l = five.domain!.newLock("lost", { ast: () => (granted = true), bast: () => {} });
  five.domain!.convert(l, PR);
  const told = delay(five, DLM_MSG.MIGRATE_REQUEST, () => "later");
  later[0]!();
  world.runUntil("node 5 asks, and is told", () => told.length > 0 && five.domain!.dlm.mles.has("lost"));
  world.cluster.killUnnoticed(one.sim);
  world.cluster.notice(three.sim, one.sim);
  world.runUntil("node 2 knows, from node 3", () => !two.domain!.dlm.domain_map.has(1), 60_000);
  told[0]!();
  for (const m of world.alive) world.cluster.notice(m.sim, one.sim);
  recovered();
  world.runUntil("granted to node 5", () => granted, 60_000);
  expect(nodesOnIt()).toEqual([2, 3, 4, 5]);
  expect(two.domain!.dlm.lockres.get("lost")!.owner).not.toBe(2);
  two.domain!.unlock(of_two!, () => two.leave());
  world.runUntil("node 2 has left", () => two.left, 60_000);
  expect(world.referee.faults).toEqual([]);
});

test.each([2, 3, 8])("it dies while another dead node is recovered: seed %i", (seed) => {
  const { world, one, three, five, later, recovered, nodesOnIt } = givesAway(seed);
  const finalized = delay(three, DLM_MSG.FINALIZE_RECO, (payload) =>
    DlmFinalizeReco.from(payload).dead_node === 5 ? "later" : "now",
  );
  world.kill(five);
  world.runUntil("node 5 is recovered", () => finalized.length > 0, 60_000);
  expect(three.domain!.dlm.reco.new_master).not.toBe(1);
  world.kill(one);
  world.runUntil("node 3 knows", () => !three.domain!.dlm.domain_map.has(1), 60_000);
  const told = (): boolean => {
    for (const hear of [...finalized.splice(0), ...later.splice(0)]) hear();
    return !world.unsettled && world.alive.length === 3;
  };
  world.runUntil("both are recovered", told, 60_000);
  recovered();
  expect(world.referee.faults).toEqual([]);
  expect(nodesOnIt()).toEqual([2, 3, 4]);
});

test("a resource is given away with the lock of a node whose death is known there already, and not here", () => {
  const world = new World({ seed: 2 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  const of_one = take(one, "lost", PR);
  for (const m of [two, three]) take(m, "lost", PR);
  world.kill(three);
  world.runUntil("node 2 knows", () => !two.domain!.dlm.domain_map.has(3), 60_000);
  expect(one.domain!.dlm.domain_map.has(3)).toBe(true);
  one.domain!.unlock(of_one, () => one.leave());
  world.runUntil("node 1 has left", () => one.left, 60_000);
  world.runUntil("node 3 is recovered", () => !world.unsettled, 60_000);
  const res = two.domain!.dlm.lockres.get("lost")!;
  expect(res.locks().map((l) => l.node)).toEqual([2]);
  expect([res.hasRef(3), res.state & RES_BUSY]).toEqual([false, 0]);
  expect(world.referee.faults).toEqual([]);
});

test("an unlock that is under way when the master leaves, and not answered, is said to the next master", () => {
  const world = new World({ seed: 9 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  const locks = [one, two, three].map((m) => take(m, "shared", PR));
  let heard = false;
  delay(one, DLM_MSG.UNLOCK_LOCK, (_payload, from) => {
    heard ||= from === 3;
    return from === 3 ? "later" : "now";
  });
  let unlocked = false;
  three.domain!.unlock(locks[2]!, () => (unlocked = true));
  world.runUntil("node 3 has said that it unlocks", () => heard);
  one.domain!.unlock(locks[0]!, () => one.leave());
  world.runUntil("node 1 has left, and node 3 has unlocked", () => one.left && unlocked, 60_000);
  const res = two.domain!.dlm.lockres.get("shared")!;
  expect([res.owner, res.locks().map((l) => l.node)]).toEqual([2, [2]]);
  expect(world.referee.faults).toEqual([]);
});

test.each(["dies", "lives"])("an unlock is heard, the connection lost with its answer, and the master %s", (end) => {
  const world = new World({ seed: 9 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  one.domain!.unlock(take(one, "shared", PR), () => {});
  const of_three = take(three, "shared", PR);
  let granted = false;
  const of_two = two.domain!.newLock("shared", { ast: () => (granted = true), bast: () => {} });
  two.domain!.convert(of_two, EX);
  delay(one, DLM_MSG.UNLOCK_LOCK, () => (granted ? "now" : "unanswered"));
  // The next master is not told of a lock that the last one had freed.
  const told: number[] = [];
  world.cluster.onMessage = (m) => {
    if (m.type === DLM_MSG.MIG_LOCKRES.type && m.from === 3)
      told.push(DlmMigratableLockres.from(m.payload).ml.at(0).type);
  };
  let unlocked = false;
  three.domain!.unlock(of_three, () => (unlocked = true));
  world.runUntil("node 2 has it", () => granted, 60_000);
  if (end === "dies") world.cluster.killUnnoticed(one.sim);
  world.cluster.cut(three.sim, one.sim, -ENOTCONN);
  world.pass(1000);
  if (end === "dies") for (const m of [two, three]) world.cluster.notice(m.sim, one.sim);
  world.runUntil("unlocked", () => unlocked && !world.unsettled, 60_000);
  const master = end === "dies" ? two.domain!.dlm.lockres.get("shared")!.owner : 1;
  const res = world.members.get(master)!.domain!.dlm.lockres.get("shared")!;
  expect(res.locks().map((l) => [l.node, l.type])).toEqual([[2, 5]]);
  expect(told.filter((type) => type !== LKM_IVMODE)).toEqual([]);
  expect(world.referee.faults).toEqual([]);
});

test("the master of the recovery lock dies while another unlocks that, and is recovered", () => {
  const world = new World({ seed: 1 });
  for (const num of [1, 2, 3, 4]) world.add(num);
  const five = world.add(5);
  world.joinAll();
  world.kill(five);
  world.runUntil("node 5 is recovered", () => !world.unsettled, 60_000);
  const masters = (m: Member): boolean => m.domain!.dlm.lockres.get("$RECOVERY")?.owner === m.num;
  const master = world.alive.find(masters)!;
  const [other, dies] = world.alive.filter((m) => m !== master) as [Member, Member];
  const unlocks = delay(master, DLM_MSG.UNLOCK_LOCK, () => "later");
  world.cluster.killUnnoticed(dies.sim);
  world.cluster.notice(other.sim, dies.sim);
  world.runUntil("the other unlocks it", () => unlocks.length > 0, 60_000);
  world.kill(master);
  for (const m of world.alive) world.cluster.notice(m.sim, dies.sim);
  world.runUntil("both are recovered", () => !world.unsettled, 60_000);
  expect(world.referee.faults).toEqual([]);
});

/**
 * Node 1 masters "shared" and holds nothing; nodes 2 and 3 hold PR and have read the LVB. Node 2 gives way to node 3, which asks for EX. The
 * AST comes to node 2 later, or never; the answer to its conversion, if it is `answered`, before it.
 */
function givesWay(answered: boolean) {
  const world = new World({ seed: 5 });
  const [one, two, three, four] = [world.add(1), world.add(2), world.add(3), world.add(4)];
  world.joinAll();
  const said: string[] = [];
  const newLock = (m: Member): DomainLock =>
    m.domain!.newLock("shared", {
      ast: () => void said.push(`ast ${m.num}`),
      bast: () => void said.push(`bast ${m.num}`),
    });
  const ask = (m: Member, l: DomainLock, level: LockLevel): void => m.domain!.convert(l, level, { lvb: true });
  const get = (m: Member, l: DomainLock, level: LockLevel): void => {
    ask(m, l, level);
    world.runUntil("granted", () => said.splice(0).includes(`ast ${m.num}`));
  };
  const [of_one, of_two, of_three] = [newLock(one), newLock(two), newLock(three)];
  get(one, of_one, PR);
  get(one, of_one, NL);
  get(two, of_two, EX);
  of_two.lvb[0] = 77;
  get(two, of_two, PR);
  get(three, of_three, PR);
  expect(of_three.lvb[0]).toBe(77);

  ask(three, of_three, EX);
  world.runUntil("node 2 is in the way", () => said.splice(0).includes("bast 2"));
  const asts = delay(two, DLM_MSG.PROXY_AST, (payload, from) =>
    from === 1 && DlmProxyAst.from(payload).type === DLM_AST ? "later" : "now",
  );
  let converted = false;
  delay(one, DLM_MSG.CONVERT_LOCK, (_payload, from) => {
    converted ||= from === 2;
    return answered ? "now" : "unanswered";
  });
  ask(two, of_two, NL);
  world.runUntil("node 2 has told the master", () => converted);
  return { world, said, one, two, three, four, of_three, newLock, ask, get, asts };
}

test.each([true, false])(
  "who gives way and has not heard that it may, when the master dies, excludes nobody who has; answered: %s",
  (answered) => {
    const { world, said, one, three, of_three, get } = givesWay(answered);
    world.pass(1000);
    expect(said).toEqual([]);
    world.kill(one);
    world.runUntil("both are granted", () => said.includes("ast 2") && said.includes("ast 3"), 60_000);
    expect(of_three.lvb[0]).toBe(77);
    get(three, of_three, NL);
    expect(world.referee.faults).toEqual([]);
  },
);

test("what who gives way knows is void when the master dies: that may have had EX since, and written a newer value", () => {
  const world = new World({ seed: 6 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  const said: string[] = [];
  const get = (m: Member, l: DomainLock, level: LockLevel): void => {
    m.domain!.convert(l, level, { lvb: true });
    world.runUntil(`${m.num} at ${level}`, () => said.splice(0).includes(`ast ${m.num}`), 60_000);
  };
  const newLock = (m: Member): DomainLock =>
    m.domain!.newLock("shared", { ast: () => void said.push(`ast ${m.num}`), bast: () => {} });
  const [of_one, of_two] = [newLock(one), newLock(two)];
  get(one, of_one, PR);
  get(one, of_one, NL);
  get(two, of_two, EX);
  of_two.lvb[0] = 77;
  get(two, of_two, PR);
  // The master takes EX as soon as node 2 has given way, which never hears that it may.
  delay(two, DLM_MSG.PROXY_AST, (payload, from) =>
    from === 1 && DlmProxyAst.from(payload).type === DLM_AST ? "later" : "now",
  );
  two.domain!.convert(of_two, NL, { lvb: true });
  get(one, of_one, EX);
  expect(of_one.lvb[0]).toBe(77);
  world.kill(one);
  const of_three = newLock(three);
  get(three, of_three, PR);
  expect(of_three.lvb[0]).toBe(0);
  expect(world.referee.faults).toEqual([]);
});

test.each(["answers", "dies"])("what waits for the answer of who gives way comes in its order when it %s", (end) => {
  const { world, said, one, two, four, newLock, ask, asts } = givesWay(true);
  ask(four, newLock(four), PR);
  world.pass(1000);
  expect(said).toEqual([]);
  expect(one.domain!.dlm.unheard.size).toBe(1);
  if (end === "dies") world.kill(two);
  else asts[0]!();
  world.runUntil("the next hears", () => said.includes("bast 3"), 60_000);
  expect(said.filter((s) => s !== "ast 2")).toEqual(["ast 3", "bast 3"]);
  expect(one.domain!.dlm.unheard.size).toBe(0);
  expect(world.referee.faults).toEqual([]);
});

test("each message is answered as docs/PROTOCOL.md has it", () => {
  const { one } = twoNodes();
  const cookie = { cookie_hi: 2 << 24, cookie_lo: 99 };
  const table: [string, DlmMessage, Record<string, number>, string, number][] = [
    ["of a name that we master", DLM_MSG.MASTER_REQUEST, {}, "ours", 1],
    ["of a name that we do not master", DLM_MSG.MASTER_REQUEST, {}, "theirs", 0],
    ["of a name that we never heard of", DLM_MSG.MASTER_REQUEST, {}, "new", 0],
    ["the master says it again", DLM_MSG.ASSERT_MASTER, {}, "theirs", 0],
    ["an end of our waiting, without a resource", DLM_MSG.ASSERT_MASTER, {}, "new", 0],
    ["another master than we know", DLM_MSG.ASSERT_MASTER, {}, "ours", -22],
    [
      "what is held is refused without a queue",
      DLM_MSG.CREATE_LOCK,
      { ...cookie, requested_type: 3, flags: 0x200 },
      "ours",
      S.NOTQUEUED,
    ],
    ["what is held is waited for", DLM_MSG.CREATE_LOCK, { ...cookie, requested_type: 3 }, "ours", S.NORMAL],
    ["a lock at who is not the master", DLM_MSG.CREATE_LOCK, { ...cookie, requested_type: 3 }, "theirs", S.FORWARD],
    ["a lock on what is not there", DLM_MSG.CREATE_LOCK, { ...cookie, requested_type: 3 }, "gone", S.FORWARD],
    ["a mode of no meaning", DLM_MSG.CREATE_LOCK, { ...cookie, requested_type: 4 }, "ours", S.BADPARAM],
    ["a conversion of what waits", DLM_MSG.CONVERT_LOCK, { ...cookie, requested_type: 5 }, "ours", S.IVLOCKID],
    ["an LVB put and got", DLM_MSG.CONVERT_LOCK, { ...cookie, flags: LKM_GET_LVB | LKM_PUT_LVB }, "ours", S.BADARGS],
    ["an unlock of what waits", DLM_MSG.UNLOCK_LOCK, cookie, "ours", S.DENIED],
    ["a cancel of what waits", DLM_MSG.UNLOCK_LOCK, { ...cookie, flags: LKM_CANCEL }, "ours", S.NORMAL],
    ["an unlock of what is gone", DLM_MSG.UNLOCK_LOCK, cookie, "ours", S.IVLOCKID],
    ["an unlock at who is not the master", DLM_MSG.UNLOCK_LOCK, cookie, "theirs", S.FORWARD],
    ["an unlock that gets an LVB", DLM_MSG.UNLOCK_LOCK, { ...cookie, flags: LKM_GET_LVB }, "ours", S.BADARGS],
    ["an AST for a lock that is gone", DLM_MSG.PROXY_AST, cookie, "theirs", S.NORMAL],
    ["an AST for a resource that is gone", DLM_MSG.PROXY_AST, cookie, "gone", S.IVLOCKID],
    ["an AST from who is not the master", DLM_MSG.PROXY_AST, cookie, "ours", S.IVLOCKID],
    ["neither AST nor BAST", DLM_MSG.PROXY_AST, { ...cookie, type: 2 }, "theirs", S.IVLOCKID],
    ["a reference is dropped", DLM_MSG.DEREF_LOCKRES, {}, "ours", 0],
    ["and dropped again", DLM_MSG.DEREF_LOCKRES, {}, "ours", 0],
    ["to what is not there", DLM_MSG.DEREF_LOCKRES, {}, "gone", -22],
    ["done, but it was not asked for", DLM_MSG.DEREF_LOCKRES_DONE, {}, "theirs", 0],
    ["who masters it: we", DLM_MSG.MASTER_REQUERY, {}, "ours", 1],
    ["who masters it: another", DLM_MSG.MASTER_REQUERY, {}, "theirs", 2],
    ["who masters it: unknown", DLM_MSG.MASTER_REQUERY, {}, "gone", 255],
    ["state of nothing", DLM_MSG.MIG_LOCKRES, { flags: 0, master: 2 }, "theirs", -22],
    ["what another migrates", DLM_MSG.MIGRATE_REQUEST, { master: 2, new_master: 3 }, "theirs", -22],
    ["what we would migrate", DLM_MSG.MIGRATE_REQUEST, { master: 1, new_master: 2 }, "theirs", -22],
    ["state of another's", DLM_MSG.MIG_LOCKRES, { flags: 2, master: 3 }, "theirs", -22],
    ["state for a recovery that is not ours", DLM_MSG.MIG_LOCKRES, { flags: 1, master: 2 }, "theirs", -22],
    ["more locks than there are bytes", DLM_MSG.MIG_LOCKRES, { flags: 2, master: 2, num_locks: 3 }, "theirs", -22],
    ["locks for a recovery that is not going on", DLM_MSG.LOCK_REQUEST, { dead_node: 3 }, "", -12],
    ["an end of a recovery that is not going on", DLM_MSG.RECO_DATA_DONE, { dead_node: 3 }, "", -22],
    ["an end of a recovery that never began", DLM_MSG.FINALIZE_RECO, { dead_node: 3 }, "", -22],
    ["our own death", DLM_MSG.BEGIN_RECO, { dead_node: 1 }, "", -22],
    ["a recovery that we do not do", DLM_MSG.BEGIN_RECO, { node_idx: 1, dead_node: 3 }, "", -22],
    ["joins without having asked", DLM_MSG.ASSERT_JOINED, {}, "", 0],
  ];
  for (const [what, msg, fields, name, status] of table)
    expect(`${what}: ${say(one, msg, fields, name)}`).toBe(`${what}: ${status}`);
  expect(one.world.referee.faults).toEqual([]);
});

test("one that others have told us is dead, and whose connection stands, leaves nothing behind", () => {
  const world = new World({ seed: 3 });
  const one = world.add(1);
  for (const num of [2, 3]) world.add(num);
  world.joinAll();
  world.runUntil("granted to the master", lock(one));
  const { dlm } = one.domain!;
  // It has been asked, and answers behind the news of its death.
  const answers: [number, number][] = [];
  const asked = DlmMasterRequest.alloc();
  asked.node_idx = 1;
  asked.namelen = 3;
  putName(asked.name, "two");
  dlm.send(DLM_MSG.MASTER_REQUEST, asked.bytes(), 2, (...answer) => answers.push(answer));
  expect(say(one, DLM_MSG.BEGIN_RECO, { node_idx: 3, dead_node: 2 })).toBe(0);
  expect([...dlm.domain_map]).toEqual([1, 3]);
  world.runUntil("an answer", () => answers.length > 0);
  expect(answers).toEqual([[-ENOTCONN, 0]]);
  const cookie = { cookie_hi: 2 << 24, cookie_lo: 99 };
  const table: [DlmMessage, Record<string, number>, string, number][] = [
    [DLM_MSG.MASTER_REQUEST, {}, "new", DLM_MASTER_RESP_ERROR],
    [DLM_MSG.MASTER_REQUEST, {}, "lost", DLM_MASTER_RESP_ERROR],
    [DLM_MSG.ASSERT_MASTER, {}, "new", 0],
    [DLM_MSG.ASSERT_MASTER, {}, "lost", 0],
    [DLM_MSG.CREATE_LOCK, { ...cookie, requested_type: 3 }, "lost", S.RECOVERING],
    [DLM_MSG.PROXY_AST, cookie, "lost", S.IVLOCKID],
    [DLM_MSG.DEREF_LOCKRES, {}, "lost", 0],
    [DLM_MSG.BEGIN_RECO, { dead_node: 3 }, "", -22],
  ];
  for (const [msg, fields, name, status] of table)
    expect(`${msg.name} ${say(one, msg, fields, name)}`).toBe(`${msg.name} ${status}`);
  expect(dlm.mles.size).toBe(0);
  const res = dlm.lockres.get("lost")!;
  expect([...res.locks()].map((l) => l.node)).toEqual([1]);
  expect(dlm.reco).toMatchObject({ dead_node: 2, new_master: 3 });
  expect(res.hasRef(2)).toBe(false);
});

test("a domain is shown as the kernel shows it in debugfs", () => {
  const { one } = twoNodes();
  const cookie = { cookie_hi: 2 << 24, cookie_lo: 99 };
  say(one, DLM_MSG.CREATE_LOCK, { ...cookie, requested_type: 3 }, "ours");
  expect(dumpDomain(one.domain!.dlm)).toMatchInlineSnapshot(`
    "Domain: 0AD1B7A93F2A4B8196090CA8716C204B  Key: 0xa5bb5e18  Protocol: 1.3
    Node: 1  State: JOINED  Joining Node: none
    Domain Map: 1 2  Exit Domain Map:   Live Map: 1 2  Recovery Map: 
    Lock Resources: 2  MLEs: 0  Purge: 0
    Recovery: INACTIVE  Master: 255  Dead Node: 255  Resources: 0
    NAME:theirs
    LRES:1,2,0,0,0,0,0,0,0,0,2
    RMAP:
    LVBX:00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    LOCK:1,0,3,-1,1,1:2,0,0,0,0,0,0,0,0,1


    NAME:ours
    LRES:1,1,0,0,0,0,0,0,0,0,3
    RMAP:
    LVBX:00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    LOCK:1,0,5,-1,1,1:1,0,0,0,0,0,0,0,0,1
    LOCK:1,2,3,-1,2,2:99,0,0,0,0,0,0,0,0,1


    "
  `);
});

test("a name that is too long is refused by every message that has one", () => {
  const { one } = twoNodes();
  const expected: Readonly<Record<string, number>> = {
    ...{ MASTER_REQUEST: S.IVBUFLEN, ASSERT_MASTER: 0, CREATE_LOCK: S.IVBUFLEN, CONVERT_LOCK: S.IVBUFLEN },
    ...{ PROXY_AST: S.IVBUFLEN, UNLOCK_LOCK: S.IVBUFLEN, DEREF_LOCKRES: -22, DEREF_LOCKRES_DONE: -22 },
    ...{ MIGRATE_REQUEST: -22, MASTER_REQUERY: 255 },
  };
  for (const [name, status] of Object.entries(expected)) {
    const msg = DLM_MSG[name as keyof typeof DLM_MSG] as DlmMessage;
    expect({ name, status: say(one, msg, { namelen: DLM_LOCKID_NAME_MAX + 1 }) }).toEqual({ name, status });
  }
});

/** Statuses that stop a kernel node, by message. PROXY_AST may hear that we take its sender for dead, as a kernel node tells it. */
const DEADLY: Readonly<Record<string, (status: number) => boolean>> = {
  MASTER_REQUEST: (s) => s !== S.IVBUFLEN && (s < 0 || s > 3),
  DEREF_LOCKRES: (s) => s === -12,
  MASTER_REQUERY: (s) => (s < 0 && s !== -12) || s > 255,
  CREATE_LOCK: (s) => s === S.REJECTED,
};

test("bytes at random: nothing throws, nothing stops, and no answer stops the sender", () => {
  const random = seededRandom(4711);
  const below = (n: number): number => random.u32() % n;
  const { world, one } = twoNodes();
  const names = ["ours", "theirs", "new", "$RECOVERY", ""];
  const messages = Object.values(DLM_MSG).filter((m) => m !== DLM_MSG.EXIT_DOMAIN) as DlmMessage[];
  for (let i = 0; i < 20_000; i++) {
    const msg = messages[below(messages.length)]!;
    const v = msg.struct.alloc(Math.min(below(3) * 64, msg.max_len - msg.struct.size)) as unknown as Record<
      string,
      unknown
    > & { dv: DataView };
    let payload = new Uint8Array(v.dv.buffer as ArrayBuffer);
    // Mostly a message that is all but right.
    const wild = below(4) === 0;
    for (let b = wild ? 60 : below(4); b > 0; b--) payload[below(Math.min(payload.length, 20))] = below(256);
    const name = names[below(names.length)]!;
    const field = (v["name"] ?? v["lockname"]) as Uint8Array | undefined;
    if (field !== undefined && !wild) {
      putName(field, name);
      v["lockname" in v ? "lockname_len" : "namelen"] = name.length;
    }
    if (below(10) === 0) payload = payload.subarray(0, below(payload.length));
    const status = sayBytes(one, msg, payload);
    if (DEADLY[msg.name]?.(status)) throw new Error(`${msg.name} ${Buffer.from(payload).toString("hex")}: ${status}`);
    if (world.referee.faults.length > 0)
      throw new Error(`${msg.name} ${Buffer.from(payload).toString("hex")}: ${world.referee.faults[0]}`);
    if (i % 100 === 0) for (let n = 0; n < 50; n++) world.cluster.clock.step();
  }
});
