import { expect, test } from "vitest";
import { SimClock } from "../../test/support/sim_cluster.ts";
import { seededRandom } from "../lib/clock.ts";
import { spawn } from "../lib/task.ts";
import { WAIT } from "../lib/wait.ts";
import { MemoryCluster } from "../stackglue/memory_cluster.ts";
import { DlmGlue, type GlueOps } from "./dlmglue.ts";
import { EX, LOCK_TYPES, type LockLevel, type LockRes, NL, PR } from "./lock_res.ts";
import { LockSet } from "./lock_set.ts";

/** Two nodes, and on each an open lock of the same inode, which `a` has in use. */
function twoNodes() {
  const clock = new SimClock();
  const cluster = new MemoryCluster({ random: seededRandom(1), clock, delay_ms: 2 });
  const { meta, rw, open } = LOCK_TYPES;
  const failed = (err: unknown): void => {
    throw err;
  };
  const glues = [1, 2].map((n) => new DlmGlue(cluster.join(n), { meta, rw, open } satisfies GlueOps, failed, clock));
  const [a, b] = glues as [DlmGlue, DlmGlue];
  const ofA = a.newLockRes("O1", { ...open, keeps: () => PR }, null);
  const ofB = b.newLockRes("O1", open, null);
  const settle = (): void => {
    while (clock.step());
  };
  /** Undefined while it waits. */
  const take = (take_: (locks: LockSet) => unknown): LockSet | undefined => {
    const locks = new LockSet();
    for (let i = 0; i < 2; i++) {
      try {
        return take_(locks) === false ? undefined : locks;
      } catch (err) {
        if (err !== WAIT) throw err;
        settle();
      }
    }
    return undefined;
  };
  const lock = (glue: DlmGlue, res: LockRes, level: LockLevel) => take((locks) => glue.lock(locks, res, level));
  const tryLock = (glue: DlmGlue, res: LockRes, level: LockLevel) => take((locks) => glue.tryLock(locks, res, level));
  return { a, b, ofA, ofB, settle, take, lock, tryLock };
}

test("a lock that another node wants and that is asked for in the moment in which it is gone is asked for once", () => {
  const { a, settle, take } = twoNodes();
  const res = a.newLockRes("F1", LOCK_TYPES.flock, null);
  take((locks) => a.lock(locks, res, EX))!.releaseAll();
  expect([res.downconverting, res.level]).toEqual([true, EX]);
  // The other node's request came while the conversion downwards was on its way.
  res.bast(EX);
  const asked: (LockLevel | null)[] = [];
  const { dl } = res;
  const { domain } = a;
  const convert = domain.convert.bind(domain);
  domain.convert = (lock, level, options) => {
    if (lock === dl) asked.push(level);
    convert(lock, level, options);
  };
  const locks = new LockSet();
  res.changed.add(() => {
    expect(res.level).toBe(NL);
    expect(() => a.lock(locks, res, EX)).toThrow();
  });
  settle();
  expect(asked).toEqual([EX]);
  expect(locks.level(res)).toBe(EX);
});

test("what is kept of a lock lets others have what is compatible with it: EX, left of an attempt to delete, goes to PR", () => {
  const { a, b, ofA, ofB, lock, tryLock } = twoNodes();
  tryLock(a, ofA, EX)!.releaseAll();
  expect(ofA.level).toBe(EX);
  expect(lock(b, ofB, PR)).toBeDefined();
  expect(ofA.level).toBe(PR);
});

test("what is kept stays when all is asked for, and who has a use for it here does not wait", () => {
  const { a, b, ofA, ofB, settle, lock, tryLock } = twoNodes();
  tryLock(a, ofA, EX)!.releaseAll();
  // As if another node had asked for it at EX.
  spawn(a.giveUpTask(ofA), () => {});
  settle();
  expect(ofA.level).toBe(PR);
  expect(lock(a, ofA, PR)).toBeDefined();
  expect(tryLock(b, ofB, EX)).toBeUndefined();
  expect(lock(b, ofB, PR)).toBeDefined();
});

test("what is kept and was to be given up can be had at EX, to delete it: nobody else has asked", () => {
  const { a, ofA, settle, lock, tryLock } = twoNodes();
  lock(a, ofA, PR)!.releaseAll();
  spawn(a.giveUpTask(ofA), () => {});
  settle();
  expect(ofA.level).toBe(PR);
  expect(tryLock(a, ofA, EX)).toBeDefined();
});
