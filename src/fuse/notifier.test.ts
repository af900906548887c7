/** Threads of the notifier: as many as are blocked at once, and no longer. */
import { expect, test } from "vitest";
import { SimClock } from "../../test/support/sim_cluster.ts";
import type { NotifierThread } from "./channel.ts";
import { Notifier } from "./notifier.ts";

test("threads that a burst has started end when they are not needed for a while", () => {
  const clock = new SimClock();
  const works: (() => boolean)[] = [];
  const turn = (): void => {
    while (works.map((work) => work()).some((more) => more));
  };
  const alive = new Set<NotifierThread>();
  /** In the kernel, and blocked there. */
  let blocked: (() => void)[] = [];
  const start = (): NotifierThread => {
    let result: number | undefined;
    const thread: NotifierThread = {
      send: () => void blocked.push(() => (result = 0)),
      sleepsInKernel: () => true,
      finished() {
        const was = result;
        result = undefined;
        return was;
      },
      stop: () => void alive.delete(thread),
    };
    alive.add(thread);
    return thread;
  };
  const loop = {
    addWork: (work: () => boolean) => {
      works.push(work);
      return () => {};
    },
    wake() {},
    after: (ms: number, cb: () => void) => clock.after(ms, cb),
  };
  const notifier = new Notifier(start, loop);
  let done = 0;
  const send = (n: number): void => {
    for (let i = 0; i < n; i++) notifier.incEpoch(() => done++);
    turn();
  };
  const answer = (): void => {
    const now = blocked;
    blocked = [];
    for (const go of now) go();
    turn();
  };
  send(50);
  expect(alive.size).toBe(50);
  // One stays blocked for long.
  const last = blocked.pop()!;
  answer();
  for (let i = 0; i < 3; i++) clock.step();
  expect([done, alive.size]).toEqual([49, 2]);
  // It is still there, and so are others when they are needed.
  send(5);
  answer();
  last();
  turn();
  expect(done).toBe(55);
  notifier.stop();
  expect(alive.size).toBe(0);
});
