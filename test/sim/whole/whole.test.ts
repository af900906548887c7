/** Histories of the whole cluster, each from a seed. */
import { describe, expect, test } from "vitest";
import { fsckUnavailable } from "../../support/judges.ts";
import { wholeRun } from "./run.ts";

const no_fsck = fsckUnavailable();
if (no_fsck !== undefined) console.warn(`SKIPPED: the whole cluster, simulated: ${no_fsck}`);

describe.skipIf(no_fsck !== undefined)("the whole cluster, simulated", () => {
  test.each([1, 2, 3, 4, 5, 6])("seed %i", (seed) => {
    expect(wholeRun({ seed }).problem).toBeUndefined();
  });

  test("the same seed is the same history", () => {
    const [a, b] = [wholeRun({ seed: 7, steps: 40 }), wholeRun({ seed: 7, steps: 40 })];
    expect(b.hash).toBe(a.hash);
    expect(b.events).toBe(a.events);
    expect(wholeRun({ seed: 8, steps: 40 }).hash).not.toBe(a.hash);
  });
});
