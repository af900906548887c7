/**
 * The power is cut: whatever the disk kept of what was not flushed, the volume recovers, fsck.ocfs2 finds nothing, and what was
 * fsynced is there. A few hundred states; `node scripts/crash.mjs --states 5000` tries more.
 */
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../src/lib/clock.ts";
import { fsckUnavailable } from "../support/judges.ts";
import { crashRun, VOLUMES } from "./crash_run.ts";
import { CrashWalker, moments } from "./crash_states.ts";
import { PLANTED } from "./planted.ts";
import type { DiaryEntry, WriteRecord } from "./recording_device.ts";

const unavailable = fsckUnavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: crash states: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("a volume after a power cut", () => {
  test.each(VOLUMES.map((volume, i) => ({ ...volume, seed: i === 0 ? VOLUMES.length : i })))(
    "$name, seed $seed",
    async (volume) => {
      const result = await crashRun({ ...volume, steps: 90, states: 60 });
      expect(result.operations).toBeGreaterThan(50);
      expect(result.states).toBe(60);
      expect(result.failures).toEqual([]);
    },
    600_000,
  );

  test("beside another node that wants every lock", async () => {
    const result = await crashRun({ ...VOLUMES[0]!, seed: 4, steps: 90, states: 40, locks: true });
    expect(result.states).toBe(40);
    expect(result.failures).toEqual([]);
  }, 600_000);

  test.each(PLANTED)(
    "is found out when $name",
    async (planted) => {
      const result = await crashRun({ ...VOLUMES[0]!, seed: 4, steps: 90, states: 20, planted });
      expect(result.failures.length).toBeGreaterThan(0);
    },
    600_000,
  );
});

describe("what a cut leaves", () => {
  const sector = (fill: number): Uint8Array => new Uint8Array(512).fill(fill);
  const write = (at: number, done_at: number, offset: number, fill: number, dsync = false): WriteRecord => ({
    ...{ kind: "write", at, done_at, offset, data: sector(fill), late: undefined, dsync },
  });
  const flush = (at: number, done_at: number): DiaryEntry => ({ kind: "flush", at, done_at });
  const random = seededRandom(1);
  const firsts = (disk: Uint8Array): number[] => [0, 512, 1024].map((at) => disk[at]!);

  test("a write that ended before a flush began is durable when the flush has ended, and not before", () => {
    const walker = new CrashWalker(new Uint8Array(1536), [write(1, 2, 0, 7), flush(3, 5), write(4, 9, 512, 8)]);
    walker.moveTo(4);
    expect(firsts(walker.state("dropped", random))).toEqual([0, 0, 0]);
    expect(firsts(walker.state("kept", random))).toEqual([7, 8, 0]);
    walker.moveTo(5);
    expect(firsts(walker.state("dropped", random))).toEqual([7, 0, 0]);
  });

  test("a write in flight when the flush began may be lost", () => {
    const walker = new CrashWalker(new Uint8Array(1536), [write(1, 4, 0, 7), flush(2, 3)]);
    walker.moveTo(9);
    expect(firsts(walker.state("dropped", random))).toEqual([0, 0, 0]);
  });

  test("a dsync write is durable when it ends, with the older ones below it, and no others", () => {
    const diary = [write(1, 2, 0, 1), write(3, 4, 512, 2), write(5, 6, 0, 3, true)];
    const walker = new CrashWalker(new Uint8Array(1536), diary);
    walker.moveTo(6);
    expect(firsts(walker.state("dropped", random))).toEqual([3, 0, 0]);
    expect(firsts(walker.state("kept", random))).toEqual([3, 2, 0]);
  });

  test("only the last: later writes land while earlier ones are lost", () => {
    const walker = new CrashWalker(new Uint8Array(1536), [
      write(1, 2, 0, 1),
      write(3, 4, 512, 2),
      write(5, 6, 1024, 3),
    ]);
    walker.moveTo(6);
    expect(firsts(walker.state("only the last", random))).toEqual([0, 0, 3]);
    expect(firsts(walker.state("all but the first", random))).toEqual([0, 2, 3]);
  });

  test("cuts are tried after each write and after each flush", () => {
    expect(moments([write(1, 2, 0, 1), flush(3, 4), write(5, 6, 0, 1)])).toEqual([1, 3, 4, 5]);
  });
});
