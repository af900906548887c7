/**
 * A hundred histories of a cluster, each from a seed, and for each rule of docs/LOCKING.md that keeps nodes from harming each
 * other: with the rule switched off, some seed finds it. `npm run sim` runs as many as there is time for.
 */
import { describe, expect, test } from "vitest";
import type { Sabotage } from "../../src/volume/osb.ts";
import { fsckUnavailable } from "../support/judges.ts";
import { simRun } from "./sim_run.ts";

const no_fsck = fsckUnavailable();
if (no_fsck !== undefined) console.warn(`SKIPPED: simulated clusters: ${no_fsck}`);

const STEPS = 90;
const PER_TEST = 10;

describe.skipIf(no_fsck !== undefined)("simulated clusters", () => {
  for (let first = 1; first <= 100; first += PER_TEST)
    test(`seeds ${first} to ${first + PER_TEST - 1}`, () => {
      for (let seed = first; seed < first + PER_TEST; seed++) {
        const r = simRun({ seed, steps: STEPS });
        expect(r.problem, `npm run sim -- --seed ${seed} --seeds 1 --steps ${STEPS}`).toBeUndefined();
      }
    });

  test("seeds 201 to 210, with our o2dlm on every node", () => {
    for (let seed = 201; seed <= 210; seed++) {
      const r = simRun({ seed, steps: STEPS, o2dlm: true });
      expect(r.problem, `npm run sim -- --seed ${seed} --seeds 1 --steps ${STEPS} --o2dlm`).toBeUndefined();
    }
  });

  test("the same seed is the same history", () => {
    const [a, b] = [simRun({ seed: 5, steps: 40 }), simRun({ seed: 5, steps: 40 })];
    expect(b.hash).toBe(a.hash);
    expect(b.events).toBe(a.events);
    expect(simRun({ seed: 6, steps: 40 }).hash).not.toBe(a.hash);
  });
});

/** Rules that can be switched off, and a seed near which somebody notices. */
const PLANTED: readonly [Sabotage, number][] = [
  ["log_first", 1],
  ["epoch", 1],
  ["open_lock", 4],
  ["recovery_wait", 11],
  ["journal_lock", 1],
  ["cancel_convert", 1],
  ["lvb", 4],
];

describe.skipIf(no_fsck !== undefined)("a planted bug is found", () => {
  test.each(PLANTED)("%s", (rule, first) => {
    const tried: number[] = [];
    for (let seed = first; seed < first + 16; seed++) {
      tried.push(seed);
      if (simRun({ seed, sabotage: [rule] }).problem !== undefined) return;
    }
    expect.fail(`${rule} is switched off, and no seed of ${tried.join(" ")} sees it`);
  });
});
