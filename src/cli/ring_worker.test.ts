/** A real thread with an eventfd, which says its number twice: to be woken by, and to the test. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempDir } from "../../test/support/cleanup.ts";
import { Errno } from "../lib/errno.ts";
import { eventfdDrain, eventfdWake } from "../native/index.ts";
import { RingWorker } from "./ring_worker.ts";

const PROGRAM = `
import { createRequire } from "node:module";
import { parentPort, workerData } from "node:worker_threads";
const wakefd = createRequire(workerData)(workerData).eventfdCreate();
parentPort.postMessage({ wakefd });
parentPort.postMessage({ number: wakefd });
parentPort.once("message", () => parentPort.close());
`;

test("the number that wakes a thread stays its own until it has ended, and is closed then", async () => {
  const addon = join(import.meta.dirname, "../../native/ocfs2.node");
  let said = (_: number): void => {};
  const number = new Promise<number>((ok) => {
    said = ok;
  });
  const program = join(tempDir("ocfs2-worker"), "program.mjs");
  writeFileSync(program, PROGRAM);
  const worker = new RingWorker<string, { number: number }>(program, addon, (m) => said(m.number));
  const ended = new Promise<void>((ok) => worker.onExit(ok));
  const wakefd = await number;
  expect(eventfdDrain(wakefd)).toBe(1);
  worker.tell("end");
  expect(eventfdDrain(wakefd)).toBe(1);
  await ended;
  worker.wake();
  expect(eventfdWake(wakefd)).toBe(-Errno.EBADF);
});
