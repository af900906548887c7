/** Leaving with many resources: what it costs in messages and in walks through all of them. */
import { expect, test } from "vitest";
import { type Member, World } from "../../test/support/dlm_clients.ts";
import { type DomainLock, type LockLevel, PR } from "../stackglue/lock_domain.ts";
import type { DlmLockRes } from "./lockres.ts";

const RESOURCES = 1500;
/** Before and after the purge, for what is to be migrated and for what is held; twice, for what another node has changed meanwhile. */
const WALKS_MAX = 8;

const names = Array.from({ length: RESOURCES }, (_, i) => `M${i.toString(16).padStart(22, "0")}0000000`);

function run(world: World, what: string, done: () => boolean): void {
  if (!world.cluster.clock.runUntil(done, 600_000)) throw new Error(`not within ten minutes: ${what}`);
  expect(world.referee.faults).toEqual([]);
}

function lockAll(world: World, m: Member, level: LockLevel): DomainLock[] {
  let granted = 0;
  const locks = names.map((name) => m.domain!.newLock(name, { ast: () => granted++, bast: () => {} }));
  for (const l of locks) m.domain!.convert(l, level);
  run(world, "granted", () => granted === RESOURCES);
  return locks;
}

/** Unlocks, leaves; messages sent meanwhile, and walks through the resources. */
function leave(world: World, m: Member, locks: readonly DomainLock[]) {
  const { dlm } = m.domain!;
  const before = dlm.sentByName();
  let unlocked = 0;
  for (const l of locks) m.domain!.unlock(l, () => unlocked++);
  run(world, "unlocked", () => unlocked === RESOURCES);
  let walks = 0;
  const walk = dlm.lockres[Symbol.iterator].bind(dlm.lockres);
  dlm.lockres[Symbol.iterator] = function* (): Generator<DlmLockRes> {
    walks++;
    yield* walk();
  };
  m.leave();
  run(world, "left", () => m.left);
  const sent = Object.entries(dlm.sentByName()).map(([name, n]) => [name, n - (before[name] ?? 0)] as const);
  return { walks, sent: Object.fromEntries(sent.filter(([, n]) => n > 0)) };
}

test("who holds what others master, then the master of all, then nobody else is there", () => {
  const world = new World({ seed: 11 });
  const [one, two, three] = [world.add(1), world.add(2), world.add(3)];
  world.joinAll();
  const of_one = lockAll(world, one, PR);
  const of_two = lockAll(world, two, PR);
  const of_three = lockAll(world, three, PR);

  const holder = leave(world, three, of_three);
  const to_members = { BEGIN_EXIT_DOMAIN: 2, EXIT_DOMAIN: 2 };
  expect(holder.sent).toEqual({ ...to_members, UNLOCK_LOCK: RESOURCES, DEREF_LOCKRES: RESOURCES });
  expect(holder.walks).toBeLessThanOrEqual(WALKS_MAX);

  const master = leave(world, one, of_one);
  const to_two = { BEGIN_EXIT_DOMAIN: 1, EXIT_DOMAIN: 1 };
  expect(master.sent).toEqual({ ...to_two, MIG_LOCKRES: RESOURCES, DEREF_LOCKRES: RESOURCES });
  expect(master.walks).toBeLessThanOrEqual(WALKS_MAX);

  const last = leave(world, two, of_two);
  expect(last.sent).toEqual({});
  expect(last.walks).toBeLessThanOrEqual(WALKS_MAX);
});
