/** How a file's pages are called back, against a kernel that answers when the test wants. On real mounts: test/cluster/rules.test.ts. */
import { describe, expect, test } from "vitest";
import { SimClock } from "../../test/support/sim_cluster.ts";
import { EX, LOCK_TYPES, LockRes, NL, PR } from "../dlmglue/lock_res.ts";
import { LockSet } from "../dlmglue/lock_set.ts";
import { Errno } from "../lib/errno.ts";
import { WaitQueue } from "../lib/wait.ts";
import type { Loop } from "../native/loop.ts";
import type { Inode } from "../volume/inode.ts";
import { HeldRanges, pagesAround } from "./held_ranges.ts";
import { SessionCaches } from "./kernel_caches.ts";
import { KernelPages } from "./kernel_pages.ts";
import type { Notice, Notifier } from "./notifier.ts";
import { PendingWrites } from "./pending_writes.ts";
import type { Session } from "./session.ts";

const INO = 77;

interface Sent {
  readonly off: number;
  readonly len: number;
  readonly answer: (res: number) => void;
  /** The kernel sleeps over it. */
  waits: boolean;
}

function setUp() {
  const clock = new SimClock();
  const sent: Sent[] = [];
  const ready: (() => void)[] = [];
  const held = new HeldRanges();
  const pages = new KernelPages();
  const osb = {
    geo: { root_blkno: 1 },
    sabotage: new Set(),
    closing: false,
    clock,
    ready: (cb: () => void) => void ready.push(cb),
    wakeLoop() {},
  };
  const session = {
    osb,
    held,
    writes: new PendingWrites(),
    pages,
    types: new Map(),
    ended: false,
    told_names: null,
    nodeidOf: (ino: number) => ino,
  };
  const notifier = {
    invalInode: (_ino: number, off: number, len: number, answer: (res: number) => void): Notice => {
      const told = { off, len, answer, waits: true };
      sent.push(told);
      return told;
    },
  };
  const res = new LockRes("M", LOCK_TYPES.meta, null);
  res.level = EX;
  const inode = {
    ...{ ino: INO, osb, nlookup: 1, writer_count: 0, io_in_flight: 0, io_idle: new WaitQueue() },
    ...{ meta_lockres: res, rw_lockres: null as LockRes | null },
  };
  const caches = new SessionCaches(
    session as unknown as Session,
    notifier as unknown as Notifier,
    clock as unknown as Loop,
    { domain: { clustered: true } } as never,
  );
  let done = 0;
  const begin = (to: typeof NL | typeof PR): void =>
    caches.invalidate(
      inode as unknown as Inode,
      to,
    )((err) => {
      expect(err).toBeNull();
      done++;
    });
  const turn = (): void => {
    for (const cb of ready.splice(0)) cb();
  };
  const give = (to: typeof NL | typeof PR): void => {
    begin(to);
    turn();
  };
  /** Time passes: one timer fires. */
  const step = (): boolean => clock.step();
  return { caches, clock, session, sent, held, pages, res, inode, begin, turn, give, step, done: () => done };
}

const rangesOf = (sent: readonly Sent[]): number[][] => sent.map(({ off, len }) => [off, len]);

test("attributes that an answer on its way may bring are doubted once the kernel has it", () => {
  const t = setUp();
  t.caches.doubtAttributes(t.inode as unknown as Inode);
  expect(rangesOf(t.sent)).toEqual([[-1, 0]]);
  t.sent.pop()!.answer(-Errno.ENOENT);
  while (t.sent.length === 0) t.step();
  t.sent.pop()!.answer(0);
  expect([t.step(), t.sent.length]).toEqual([false, 0]);
});

test("an inode that the kernel has not made yet is told again until it is there, or forgotten", () => {
  const t = setUp();
  t.give(NL);
  for (let i = 0; i < 3; i++) {
    t.sent.pop()!.answer(-Errno.ENOENT);
    expect([t.sent.length, t.done()]).toEqual([0, 0]);
    while (t.sent.length === 0) t.step();
  }
  t.sent.pop()!.answer(0);
  expect(t.done()).toBe(1);
  // The reply never arrived: nobody knows the inode, and nothing is cached.
  t.give(NL);
  t.inode.nlookup = 0;
  t.sent.pop()!.answer(-Errno.ENOENT);
  expect(t.done()).toBe(2);
});

test.each([false, true])(
  "READs are let in when a second notification never gets to its pages, and what they fill is called back; the mount ends meanwhile: %s",
  (ends) => {
    const t = setUp();
    const fills = new LockSet();
    fills.fills_pages = true;
    const other = new LockSet();
    t.give(NL);
    const [first] = t.sent.splice(0);
    // It comes in between, holds its page, and waits at the gate.
    const answered = t.held.add(INO, 8192, 4096);
    while (t.sent.length === 0) t.step();
    expect(rangesOf(t.sent)).toEqual([
      [0, 8192],
      [12288, 0],
    ]);
    const second = t.sent.splice(0);
    let woken = 0;
    t.res.waiters.add(() => woken++);
    expect(t.res.serves(fills)).toBe(false);
    while (!t.res.serves(fills)) t.step();
    expect([t.res.serves(other), woken, t.done()]).toEqual([false, 1, 0]);
    t.inode.io_in_flight = 1;
    answered();
    first!.answer(0);
    if (ends) {
      for (const { answer } of second.splice(0)) answer(-Errno.ENOENT);
      while (t.sent.length < 2) t.step();
      t.session.ended = true;
      second.push(...t.sent.splice(0));
    }
    for (const { answer } of second) answer(ends ? -Errno.ENOENT : 0);
    // What was let in comes to its end first, and nothing more is.
    t.turn();
    expect([t.res.serves(fills), t.sent, t.done()]).toEqual([false, [], 0]);
    t.inode.io_in_flight = 0;
    t.inode.io_idle.wakeAll();
    t.turn();
    expect(rangesOf(t.sent)).toEqual([[0, 0]]);
    for (let i = 0; i < 20; i++) t.step();
    expect(t.done()).toBe(0);
    t.sent[0]!.answer(0);
    expect([t.done(), t.res.serving]).toEqual([1, false]);
  },
);

test("with a writer no READ is let in: what it fills could become dirty behind the notification", () => {
  const t = setUp();
  const fills = new LockSet();
  fills.fills_pages = true;
  t.inode.writer_count = 1;
  t.give(NL);
  t.held.add(INO, 8192, 4096);
  const began_ms = t.clock.monotonic_ms();
  while (t.clock.monotonic_ms() < began_ms + 2000) t.step();
  expect(t.res.serves(fills)).toBe(false);
});

test("the held level is served while the kernel is told, and not a moment longer; who waits for it or for the rw lock looks again", () => {
  const t = setUp();
  const rw = new LockRes("W", LOCK_TYPES.rw, null);
  t.inode.rw_lockres = rw;
  let woken = 0;
  t.res.waiters.add(() => woken++);
  rw.waiters.add(() => woken++);
  t.give(NL);
  expect([t.res.gate_shut, t.res.serving, woken]).toEqual([true, true, 2]);
  t.sent[0]!.answer(0);
  expect([t.res.serving, t.done()]).toEqual([false, 1]);
});

test("direct I/O that was planned under the lock ends first", () => {
  const t = setUp();
  t.inode.io_in_flight = 1;
  t.give(NL);
  expect(t.sent).toEqual([]);
  t.inode.io_in_flight = 0;
  t.inode.io_idle.wakeAll();
  t.turn();
  expect(rangesOf(t.sent)).toEqual([[0, 0]]);
});

test("a READ whose end lets the lock go is answered behind that: what it fills is called back, too", () => {
  const t = setUp();
  const answered = t.held.add(INO, 8192, 4096);
  t.begin(NL);
  expect([t.res.gate_shut, t.sent]).toEqual([true, []]);
  answered();
  t.turn();
  expect(rangesOf(t.sent)).toEqual([[0, 0]]);
});

test("pages that a READ fills are left out: however many wait, no thread of the notifier waits for them", () => {
  const t = setUp();
  for (let i = 0; i < 600; i++) t.held.add(INO, 8192 * i, 4096);
  t.give(NL);
  expect(t.sent.length).toBe(600);
  expect(rangesOf(t.sent).slice(0, 2)).toEqual([
    [4096, 4096],
    [12288, 4096],
  ]);
  for (const { answer } of t.sent) answer(0);
  expect(t.done()).toBe(1);
});

test("a page that a WRITE holds in part is left out when nothing has filled it", () => {
  const t = setUp();
  t.pages.filled(INO, 0, 8192);
  t.held.addPartial(INO, 8192, 100);
  t.give(NL);
  expect(rangesOf(t.sent)).toEqual([
    [0, 8192],
    [12288, 0],
  ]);
  t.sent[0]!.answer(0);
  t.sent[1]!.answer(0);
  expect(t.done()).toBe(1);
});

describe("a page that a WRITE covers in part, and that was filled before", () => {
  function doubtful() {
    const t = setUp();
    t.pages.filled(INO, 8192, 4096);
    t.held.addPartial(INO, 8192, 100);
    t.inode.writer_count = 1;
    t.give(PR);
    expect(rangesOf(t.sent)).toEqual([
      [0, 8192],
      [12288, 0],
      [8192, 4096],
    ]);
    t.sent[0]!.answer(0);
    t.sent[1]!.answer(0);
    const wait = (ms: number): void => {
      const end = t.clock.monotonic_ms() + ms;
      while (t.clock.monotonic_ms() < end && t.step());
    };
    return { ...t, wait };
  }

  test("is waited for, as long as the kernel writes back, or waits for a size to be set", () => {
    const t = doubtful();
    t.wait(50);
    const written = t.pages.serve(INO);
    t.wait(2000);
    expect(t.done()).toBe(0);
    written();
    t.wait(50);
    t.pages.serve(INO)();
    t.wait(80);
    expect(t.done()).toBe(0);
    t.sent[2]!.answer(0);
    expect(t.done()).toBe(1);
  });

  test("is waited for until the thread that tells of it has come into the kernel, however long that has no CPU", () => {
    const t = doubtful();
    t.sent[2]!.waits = false;
    t.wait(2000);
    expect(t.done()).toBe(0);
    t.sent[2]!.waits = true;
    t.wait(90);
    expect(t.done()).toBe(0);
    t.wait(30);
    expect(t.done()).toBe(1);
  });

  test("is held by the WRITE, which waits for us, when nothing is heard of it: the lock is given up all the same", () => {
    const t = doubtful();
    t.wait(90);
    expect(t.done()).toBe(0);
    t.wait(30);
    expect(t.done()).toBe(1);
    // It was not called back: the next time it may still be there.
    expect(t.pages.mayBeUptodate(INO, pagesAround(8192, 8292))).toBe(true);
  });

  test("is not there once it was called back", () => {
    const t = doubtful();
    t.sent[2]!.answer(0);
    expect([t.done(), t.pages.mayBeUptodate(INO, pagesAround(8192, 8292))]).toEqual([1, false]);
  });
});

test("a request that comes in between and holds pages: a second attempt goes around it", () => {
  const t = setUp();
  t.give(NL);
  expect(rangesOf(t.sent)).toEqual([[0, 0]]);
  t.held.add(INO, 4096, 4096);
  t.step();
  expect(rangesOf(t.sent.slice(1))).toEqual([
    [0, 4096],
    [8192, 0],
  ]);
  t.sent[1]!.answer(0);
  t.sent[2]!.answer(0);
  t.step();
  expect(t.done()).toBe(1);
});

test("what is written back without EX waits for EX, and the notification for it: the lock is given up around it", () => {
  const t = setUp();
  t.res.level = PR;
  t.inode.writer_count = 1;
  t.give(NL);
  expect(rangesOf(t.sent)).toEqual([[0, 0]]);
  const written = t.session.writes.back(INO, 4096, 8192);
  while (t.sent.length === 1) t.step();
  expect(rangesOf(t.sent.slice(1))).toEqual([
    [0, 4096],
    [8192, 0],
  ]);
  for (const told of t.sent.splice(1)) told.answer(0);
  expect(t.done()).toBe(1);
  // Under the next EX.
  written();
  t.sent[0]!.answer(0);
  expect([t.done(), t.session.writes.pagesOf(INO)]).toEqual([1, []]);
});

test("from EX to PR only what may be dirty is called back: of a file that nobody has open for writing nothing", () => {
  const t = setUp();
  t.give(PR);
  expect([t.sent.length, t.done()]).toEqual([0, 1]);
  t.inode.writer_count = 1;
  t.give(PR);
  t.sent[0]!.answer(0);
  expect(t.done()).toBe(2);
});
