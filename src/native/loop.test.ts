import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { check } from "../lib/fs_error.ts";
import { createArena } from "../wasm/arena.ts";
import { closeFd, eventfdCreate, eventfdDrain, eventfdWake } from "./index.ts";
import { Loop } from "./loop.ts";

describe("a loop", () => {
  let loop: Loop;
  beforeEach(() => {
    loop = new Loop(createArena(4), 16);
  });
  afterEach(() => {
    expect(loop.close()).toBe(0);
  });

  const ended = (l: Loop): Promise<void> => new Promise((ok) => l.start(ok));

  test("runs timers in their order, and not those that were called off", async () => {
    const ran: string[] = [];
    const off = loop.after(5, () => ran.push("off"));
    loop.after(20, () => {
      ran.push("late");
      loop.stop();
    });
    loop.after(1, () => ran.push("early"));
    loop.after(10, () => ran.push("middle"));
    off();
    await ended(loop);
    expect(ran).toEqual(["early", "middle", "late"]);
  });

  test("who still wakes one that has closed writes to nobody else's file", () => {
    const closed = new Loop(createArena(1), 16);
    const wakefd = closed.giveWakefd();
    expect(closed.close()).toBe(0);
    // As many as the loop has closed.
    const others = [0, 1, 2].map(() => check(eventfdCreate(), "eventfd"));
    expect(eventfdWake(wakefd)).toBe(0);
    expect(others.map((fd) => eventfdDrain(fd))).toEqual([0, 0, 0]);
    for (const fd of [wakefd, ...others]) closeFd(fd);
  });

  test("gives promises their share before it sleeps", async () => {
    const ran: number[] = [];
    let started = false;
    loop.addWork(() => {
      if (started) return false;
      started = true;
      void (async () => {
        for (let i = 0; i < 5; i++) {
          await null;
          ran.push(i);
        }
        loop.stop();
      })();
      return false;
    });
    await ended(loop);
    expect(ran).toEqual([0, 1, 2, 3, 4]);
  });

  test("does not wait while work says that there is more, and does when there is none", async () => {
    let left = 100;
    loop.addWork(() => --left > 0);
    loop.after(30, () => loop.stop());
    await ended(loop);
    expect(left).toBeLessThanOrEqual(0);
    // The first turn, those with work, and a few for the timer: it slept in between.
    expect(loop.turns).toBeLessThan(150);
    expect(loop.waits).toBeGreaterThan(0);
  });

  test("is woken by another thread", async () => {
    const code = `const { workerData } = require("node:worker_threads");
      setTimeout(() => require(workerData.addon).eventfdWake(workerData.fd), 20);`;
    const addon = join(import.meta.dirname, "../../native/ocfs2.node");
    const worker = new Worker(code, { eval: true, workerData: { addon, fd: loop.wakefd } });
    const begin = performance.now();
    let turns = 0;
    loop.addWork(() => {
      if (performance.now() - begin > 15 && ++turns === 1) loop.stop();
      return false;
    });
    await ended(loop);
    expect(performance.now() - begin).toBeGreaterThan(15);
    await worker.terminate();
  });

  test("hands more operations and tables to the kernel than its queue holds", () => {
    let left = 200;
    for (let i = 0; i < 200; i++)
      loop.ring.timeout(
        1,
        loop.expect((res) => {
          expect(res).toBe(-62);
          left--;
        }),
      );
    const long = Array.from({ length: 2048 }, (_, i) => i);
    for (let i = 0; i < 40; i++) expect(loop.table(long, 0, 2048)).toBeGreaterThan(0);
    while (left > 0) loop.pump();
  });

  test("tells a time that does not stand still, and follows the clock", () => {
    const a = loop.clock.realtime();
    while (loop.clock.realtime().nsec === a.nsec);
    const { sec, nsec } = loop.clock.realtime();
    expect(Math.abs(sec * 1000 + nsec / 1e6 - Date.now())).toBeLessThan(5);
    expect(Number.isInteger(nsec) && nsec >= 0 && nsec < 1e9).toBe(true);
  });
});
