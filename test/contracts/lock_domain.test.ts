/** What dlmglue relies on, of every LockDomain: o2dlm, the lock manager in memory, and the domain of a node that is alone. */
import { beforeEach, describe, expect, test } from "vitest";
import { seededRandom } from "../../src/lib/clock.ts";
import { Errno } from "../../src/lib/errno.ts";
import { LocalDomain } from "../../src/stackglue/local.ts";
import { type DomainLock, EX, type LockDomain, type LockLevel, NL, PR } from "../../src/stackglue/lock_domain.ts";
import { RandomBastDomain } from "../../src/stackglue/random_bast.ts";
import { DomainHost, RemoteDomain, type ToHost } from "../../src/stackglue/remote.ts";
import { UserLock } from "../../src/stackglue/userdlm.ts";
import { type LockManager, memoryLocks, o2dlmLocks } from "../support/cluster_locks.ts";
import { SimClock } from "../support/sim_cluster.ts";

const LIMIT_MS = 60_000;

/** A lock, what it heard, and its level by that. */
class User {
  readonly lock: DomainLock;
  readonly asts: number[] = [];
  readonly basts: LockLevel[] = [];
  readonly #domain: LockDomain;
  onAst: () => void = () => {};

  constructor(domain: LockDomain, name: string) {
    this.#domain = domain;
    this.lock = domain.newLock(name, {
      ast: (status) => {
        this.asts.push(status);
        this.onAst();
      },
      bast: (level) => void this.basts.push(level),
    });
  }

  ask(level: LockLevel, options?: Parameters<LockDomain["convert"]>[2]): void {
    this.#domain.convert(this.lock, level, options);
  }

  cancel(): void {
    this.#domain.cancel(this.lock);
  }

  unlock(done: () => void, options?: { lvb?: boolean }): void {
    this.#domain.unlock(this.lock, done, options);
  }
}

/** Each domain at the other end of a pipe, whose messages take their time too. */
function piped(locks: LockManager): LockManager {
  const { clock } = locks;
  const join: LockManager["join"] = (num, failed, done) =>
    locks.join(num, failed, (domain) => {
      const host = new DomainHost(domain, (m) => clock.after(2, () => remote.heard(m)));
      const remote = new RemoteDomain(domain.name, domain.node_num, (m) =>
        clock.after(2, () => {
          if (!host.heard(structuredClone(m))) throw new Error(`the host does not understand ${JSON.stringify(m)}`);
        }),
      );
      done(remote);
    });
  return { ...locks, clock, join, kill: (num) => locks.kill(num) };
}

const options = (seed: number) => ({ seed, lock_ms: 5, onEvent: () => {} });

describe.each<[string, () => LockManager]>([
  ["o2dlm", () => o2dlmLocks(options(1))],
  ["o2dlm, other delays", () => o2dlmLocks(options(2))],
  ["o2dlm, through a pipe", () => piped(o2dlmLocks(options(4)))],
  ["in memory, through a pipe", () => piped(memoryLocks(options(5), new SimClock()))],
  ["in memory", () => memoryLocks(options(3), new SimClock())],
])("%s", (_, make) => {
  let locks: LockManager;
  let a: LockDomain;
  let b: LockDomain;

  function until(done: () => boolean): void {
    const end = locks.clock.monotonic_ms() + LIMIT_MS;
    while (!done()) if (!locks.clock.step(end)) throw new Error("it never happens");
  }
  /** Whatever is under way arrives. */
  function settle(): void {
    const end = locks.clock.monotonic_ms() + 1000;
    while (locks.clock.step(end));
  }
  function join(num: number): LockDomain {
    const joined: LockDomain[] = [];
    const failed = (err: Error): void => {
      throw err;
    };
    locks.join(num, failed, (domain) => joined.push(domain));
    until(() => joined.length > 0);
    return joined[0]!;
  }
  function take(domain: LockDomain, name: string, level: LockLevel, lvb = true): User {
    const user = new User(domain, name);
    user.ask(level, { lvb });
    until(() => user.asts.length > 0);
    expect(user.asts.splice(0)).toEqual([0]);
    return user;
  }
  function change(user: User, level: LockLevel, o?: Parameters<User["ask"]>[1]): number {
    user.ask(level, o);
    until(() => user.asts.length > 0);
    return user.asts.shift()!;
  }

  beforeEach(() => {
    locks = make();
    a = join(1);
    b = join(2);
  });

  test("is a cluster's, and knows who we are", () => {
    expect([a.clustered, a.node_num, b.node_num]).toEqual([true, 1, 2]);
  });

  test("each request has one answer, up and down; names are 31 bytes of any value", () => {
    const name = `N${"0".repeat(16)}\0${String.fromCharCode(0xff, 0x80, 0, 0, 0, 0, 1, 2)}`;
    const mine = new User(a, name);
    for (const level of [PR, EX, PR, NL, EX, NL] as const) expect(change(mine, level)).toBe(0);
    settle();
    expect([mine.asts, mine.basts]).toEqual([[], []]);
  });

  test("two share; who wants it alone waits until he who shares has heard of it and given way", () => {
    const mine = take(a, "M1", PR);
    const theirs = take(b, "M1", PR);
    expect(mine.basts).toEqual([]);
    theirs.ask(EX);
    until(() => mine.basts.length > 0);
    settle();
    expect([mine.basts, theirs.asts]).toEqual([[EX], []]);
    expect(change(mine, NL)).toBe(0);
    until(() => theirs.asts.length > 0);
    expect(theirs.asts).toEqual([0]);
  });

  test("who holds it alone is asked for what stands in the way, and may keep what does not", () => {
    const mine = take(a, "M1", EX);
    const theirs = new User(b, "M1");
    theirs.ask(PR);
    until(() => mine.basts.length > 0);
    expect(mine.basts).toEqual([PR]);
    expect(change(mine, PR)).toBe(0);
    until(() => theirs.asts.length > 0);
    settle();
    expect([mine.basts, theirs.asts]).toEqual([[PR], [0]]);
  });

  test("a trylock is refused instead of waiting; the level that the lock has stays", () => {
    const mine = take(a, "M1", PR);
    const theirs = take(b, "M1", PR);
    expect(change(theirs, EX, { trylock: true })).toBe(-Errno.EAGAIN);
    const third = new User(b, "M2");
    expect(change(third, EX, { trylock: true })).toBe(0);
    // Still at PR: nobody gets it alone.
    expect(change(mine, EX, { trylock: true })).toBe(-Errno.EAGAIN);
    expect(change(theirs, NL)).toBe(0);
    expect(change(mine, EX, { trylock: true })).toBe(0);
    const other = new User(b, "M1");
    expect(change(other, PR, { trylock: true })).toBe(-Errno.EAGAIN);
  });

  test("a conversion that waits can be called off, and leaves its lock as it was", () => {
    const mine = take(a, "M1", PR);
    const theirs = take(b, "M1", PR);
    theirs.ask(EX);
    until(() => mine.basts.length > 0);
    theirs.cancel();
    until(() => theirs.asts.length > 0);
    expect(theirs.asts.splice(0)).toEqual([-Errno.ECANCELED]);
    expect(change(theirs, NL)).toBe(0);
    expect(change(mine, EX)).toBe(0);
  });

  test("two that go up from PR get on when one calls its conversion off", () => {
    const mine = take(a, "M1", PR);
    const theirs = take(b, "M1", PR);
    mine.ask(EX);
    theirs.ask(EX);
    until(() => mine.basts.length + theirs.basts.length > 0);
    const [asked, other] = mine.basts.length > 0 ? [mine, theirs] : [theirs, mine];
    asked.cancel();
    until(() => asked.asts.length > 0);
    expect(asked.asts.splice(0)).toEqual([-Errno.ECANCELED]);
    expect(change(asked, NL)).toBe(0);
    until(() => other.asts.length > 0);
    expect(other.asts).toEqual([0]);
  });

  test("a cancel in any moment is answered once: called off, or granted", () => {
    for (let steps = 0; steps < 40; steps++) {
      const mine = take(a, `M${steps}`, EX);
      const theirs = new User(b, `M${steps}`);
      theirs.ask(EX);
      for (let i = 0; i < steps; i++) locks.clock.step();
      if (steps % 2 === 1) expect(change(mine, NL)).toBe(0);
      theirs.cancel();
      settle();
      if (theirs.asts.length === 0) {
        expect(change(mine, NL)).toBe(0);
        settle();
      }
      expect(theirs.asts).toHaveLength(1);
      expect([0, -Errno.ECANCELED]).toContain(theirs.asts[0]);
    }
  });

  test("a value goes from who held the lock alone to who gets it next, by a conversion and by the end of the lock", () => {
    const mine = take(a, "M1", EX);
    mine.lock.lvb.fill(7);
    const theirs = new User(b, "M1");
    theirs.ask(PR, { lvb: true });
    until(() => mine.basts.length > 0);
    expect(change(mine, NL, { lvb: true })).toBe(0);
    until(() => theirs.asts.length > 0);
    expect([...new Set(theirs.lock.lvb)]).toEqual([7]);
    theirs.asts.length = 0;
    expect(change(theirs, EX, { lvb: true })).toBe(0);
    theirs.lock.lvb.fill(9);
    let gone = false;
    theirs.unlock(() => (gone = true), { lvb: true });
    until(() => gone);
    expect(change(mine, PR, { lvb: true })).toBe(0);
    expect([...new Set(mine.lock.lvb)]).toEqual([9]);
  });

  test("a lock that ended stands in nobody's way", () => {
    const mine = take(a, "M1", EX);
    let gone = false;
    mine.unlock(() => (gone = true));
    until(() => gone);
    expect(change(new User(b, "M1"), EX, { trylock: true })).toBe(0);
    expect(mine.basts).toEqual([]);
  });

  test("a lock whose name nobody else can know is mastered here, and is then a lock like others", () => {
    const mine = new User(a, "W1");
    expect(change(mine, EX, { local: true })).toBe(0);
    const theirs = new User(b, "W1");
    theirs.ask(EX);
    until(() => mine.basts.length > 0);
    expect(change(mine, NL)).toBe(0);
    until(() => theirs.asts.length > 0);
    expect(theirs.asts).toEqual([0]);
  });

  test("a death is told before anything that the dead held is granted", () => {
    const theirs = take(b, "M1", EX);
    const mine = new User(a, "M1");
    const heard: string[] = [];
    a.onNodeDown = (num) => void heard.push(`node ${num} died`);
    mine.onAst = () => void heard.push("granted");
    mine.ask(EX);
    until(() => theirs.basts.length > 0);
    locks.kill(2);
    until(() => mine.asts.length > 0);
    expect(heard).toEqual(["node 2 died", "granted"]);
  });

  test("who leaves takes nothing along: the locks that it mastered go on, with their value or, as the kernel's, none", () => {
    const mastered = take(b, "M1", EX);
    const mine = new User(a, "M1");
    mine.ask(PR, { lvb: true });
    until(() => mastered.basts.length > 0);
    let [unlocked, left] = [false, false];
    mastered.lock.lvb.fill(3);
    mastered.unlock(() => (unlocked = true), { lvb: true });
    until(() => unlocked && mine.asts.length > 0);
    b.leave(() => (left = true));
    until(() => left);
    expect([...new Set(mine.lock.lvb)]).toEqual([3]);
    mine.asts.length = 0;
    expect(change(mine, EX, { lvb: true })).toBe(0);
    expect([[3], [0]]).toContainEqual([...new Set(mine.lock.lvb)]);
  });
});

test("alone: every request is granted at once, and nobody ever wants anything", () => {
  const domain = new LocalDomain();
  expect([domain.clustered, domain.node_num]).toEqual([false, 0]);
  const user = new User(domain, "M1");
  for (const level of [PR, EX, NL] as const) {
    user.ask(level);
    expect(user.asts.splice(0)).toEqual([0]);
  }
  let [unlocked, left] = [false, false];
  user.unlock(() => (unlocked = true));
  domain.leave(() => (left = true));
  expect([unlocked, left, user.basts]).toEqual([true, true, []]);
});

test("random BASTs: locks of one name stand against each other, and each is asked for by another node", () => {
  const domain = new RandomBastDomain({ random: seededRandom(1) });
  const settle = (): void => {
    while (domain.settle());
  };
  const [a, b] = [new User(domain, "F1"), new User(domain, "F1")];
  a.ask(EX);
  settle();
  b.ask(PR, { trylock: true });
  settle();
  expect([a.asts, b.asts]).toEqual([[0], [-Errno.EAGAIN]]);
  b.ask(EX);
  settle();
  expect(b.asts).toHaveLength(1);
  a.ask(PR);
  settle();
  expect(b.asts).toHaveLength(1);
  a.ask(NL);
  expect([a.asts, b.asts]).toEqual([
    [0, 0, 0],
    [-Errno.EAGAIN, 0],
  ]);
  while (b.basts.length === 0) domain.poke();
  b.ask(NL);
  a.ask(PR);
  settle();
  b.ask(PR);
  settle();
  expect([a.asts.length, b.asts.slice(2)]).toEqual([4, [0, 0]]);
});

describe("a program at the other end of a pipe", () => {
  function two(): { locks: LockManager; a: LockDomain; host: DomainHost; remote: RemoteDomain } {
    const locks = memoryLocks(options(6), new SimClock());
    const joined: LockDomain[] = [];
    for (const num of [1, 2])
      locks.join(
        num,
        () => {},
        (domain) => joined.push(domain),
      );
    const [a, b] = joined as [LockDomain, LockDomain];
    const host = new DomainHost(b, (m) => locks.clock.after(1, () => remote.heard(m)));
    const remote = new RemoteDomain("space", 2, (m) => locks.clock.after(1, () => void host.heard(m)));
    return { locks, a, host, remote };
  }
  const settle = (locks: LockManager): void => {
    const end = locks.clock.monotonic_ms() + 1000;
    while (locks.clock.step(end));
  };

  test("that goes without a word: what it held and what it waited for goes to the others, and the domain is left", () => {
    const { locks, a, host, remote } = two();
    const [held, waits] = [new User(remote, "M1"), new User(remote, "M2")];
    const other = new User(a, "M2");
    other.ask(EX);
    settle(locks);
    held.ask(EX);
    waits.ask(EX);
    settle(locks);
    expect([held.asts, waits.asts]).toEqual([[0], []]);
    const wants = new User(a, "M1");
    wants.ask(EX);
    settle(locks);
    expect(wants.asts).toEqual([]);
    let left = false;
    host.close(() => (left = true));
    settle(locks);
    expect([wants.asts, left]).toEqual([[0], true]);
  });

  test("hears that the node is gone: what it waits for fails, now and later; nothing hangs", () => {
    const { locks, a, remote } = two();
    const other = new User(a, "M1");
    other.ask(EX);
    settle(locks);
    const waits = new User(remote, "M1");
    waits.ask(PR);
    settle(locks);
    remote.broken();
    expect(waits.asts).toEqual([-Errno.ENOTCONN]);
    waits.ask(PR);
    expect(waits.asts).toEqual([-Errno.ENOTCONN, -Errno.ENOTCONN]);
    let [unlocked, left] = [false, false];
    waits.unlock(() => (unlocked = true));
    remote.leave(() => (left = true));
    expect([unlocked, left]).toEqual([true, true]);
  });

  test("that is lost takes with it what is held and cached: nobody gets it from there, and nobody waits for ever", () => {
    const { locks, a, remote } = two();
    const [cached, leaving] = ["M1", "M2"].map((name) => new UserLock(remote, name)) as [UserLock, UserLock];
    const heard: number[] = [];
    for (const lock of [cached, leaving]) lock.lock(EX, false, (err) => heard.push(err));
    settle(locks);
    expect(heard).toEqual([0, 0]);
    cached.unlock(EX);
    leaving.unlock(EX);
    // Another node wants one, and the pipe ends while it is given up.
    new User(a, "M2").ask(EX);
    while (!leaving.isWanted) locks.clock.step();
    remote.broken();
    for (const lock of [cached, leaving]) {
      lock.lose();
      lock.lock(EX, false, (err) => heard.push(err));
    }
    expect(heard.slice(2)).toEqual([-Errno.ENOTCONN, -Errno.ENOTCONN]);
    expect(() => cached.readLvb()).toThrow("ENOTCONN");
    for (const lock of [cached, leaving]) lock.destroy((err) => heard.push(err));
    expect(heard.slice(4)).toEqual([0, 0]);
  });

  test("that goes with a lock it never held leaves the domain once", () => {
    const locks = o2dlmLocks(options(6));
    const joined: LockDomain[] = [];
    locks.join(
      1,
      () => {},
      (domain) => joined.push(domain),
    );
    while (joined.length === 0) locks.clock.step();
    const domain = joined[0]!;
    let leaves = 0;
    domain.leave = () => void leaves++;
    const host = new DomainHost(domain, () => {});
    host.heard({ t: "new", id: 0, name: "M1" });
    host.close(() => {});
    expect(leaves).toBe(1);
  });

  test("that says what makes no sense is not listened to", () => {
    const { host } = two();
    expect(host.heard({ t: "convert", id: 9, level: EX, o: {} })).toBe(false);
    expect(host.heard({ t: "new", id: 1, name: "x".repeat(32) })).toBe(false);
    expect(host.heard({ t: "new", id: 1, name: "x" })).toBe(true);
    expect(host.heard({ t: "new", id: 1, name: "y" })).toBe(false);
    expect(host.heard({ t: "leave" })).toBe(false);
    const wrong = [
      null,
      { t: "new", id: 2, name: 7 },
      { t: "convert", id: 1, level: 4, o: {} },
      { t: "convert", id: 1, level: EX },
      { t: "convert", id: 1, level: EX, o: {}, lvb: "short" },
      { t: "unlock", id: 1, lvb: "€".repeat(64) },
      { t: "what", id: 1 },
    ];
    for (const m of wrong) expect(host.heard(m as unknown as ToHost), JSON.stringify(m)).toBe(false);
    expect(host.heard({ t: "convert", id: 1, level: EX, o: {} })).toBe(true);
  });
});
