/**
 * A hundred histories of the whole cluster, each from a seed, and for each rule that keeps nodes from harming each other: with the rule
 * switched off, some seed finds it. `npm run sim` runs as many as there is time for; docs/SIMULATION.md.
 */
import { describe, expect, test } from "vitest";
import type { Sabotage } from "../../../src/volume/osb.ts";
import { fsckUnavailable } from "../../support/judges.ts";
import type { More } from "./kernel/programs.ts";
import { wholeRun } from "./run.ts";

const no_fsck = fsckUnavailable();
if (no_fsck !== undefined) console.warn(`SKIPPED: the whole cluster, simulated: ${no_fsck}`);

const SEEDS = 100;
const PER_TEST = 5;

describe.skipIf(no_fsck !== undefined)("the whole cluster, simulated", () => {
  for (let first = 1; first <= SEEDS; first += PER_TEST)
    test(`seeds ${first} to ${first + PER_TEST - 1}`, () => {
      for (let seed = first; seed < first + PER_TEST; seed++)
        expect(wholeRun({ seed }).problem, `seed ${seed}`).toBeUndefined();
    });

  test.each([true, false])("the same seed is the same history, programs behind kernels: %s", (kernel) => {
    const [a, b] = [wholeRun({ seed: 7, steps: 40, kernel }), wholeRun({ seed: 7, steps: 40, kernel })];
    expect(b.hash).toBe(a.hash);
    expect(b.events).toBe(a.events);
    expect(wholeRun({ seed: 8, steps: 40, kernel }).hash).not.toBe(a.hash);
  });
});

/** Rules that can be switched off (docs/LOCKING.md), whether it takes programs behind kernels to notice, and a seed near which somebody does. */
const PLANTED: readonly {
  readonly rule: Sabotage;
  readonly kernel: boolean;
  readonly first: number;
  readonly more?: More;
}[] = [
  { rule: "log_first", kernel: false, first: 1 },
  { rule: "serve_held", kernel: true, first: 1 },
  { rule: "dentry_waits", kernel: true, first: 1 },
  { rule: "reply_order", kernel: true, first: 33 },
  { rule: "epoch", kernel: false, first: 1 },
  { rule: "open_lock", kernel: false, first: 1 },
  { rule: "lvb", kernel: true, first: 2 },
  { rule: "journal_lock", kernel: false, first: 1 },
  { rule: "cancel_convert", kernel: false, first: 1 },
  { rule: "recovery_wait", kernel: false, first: 1 },
  { rule: "unshared", kernel: false, first: 1 },
  { rule: "fsync_tells", kernel: true, first: 3, more: "disks" },
  { rule: "flock", kernel: true, first: 1, more: "flock" },
  { rule: "direct_early", kernel: true, first: 1, more: "aio" },
  { rule: "reads_behind", kernel: true, first: 60, more: "readahead" },
];

describe.skipIf(no_fsck !== undefined)("a planted bug is found", () => {
  test.each(PLANTED)("$rule", ({ rule, kernel, first, more }) => {
    const tried: number[] = [];
    for (let seed = first; seed < first + 40; seed++) {
      tried.push(seed);
      if (wholeRun({ seed, kernel, more: more === undefined ? [] : [more], sabotage: [rule] }).problem !== undefined)
        return;
    }
    expect.fail(`${rule} is switched off, and no seed of ${tried.join(" ")} sees it`);
  });
});
