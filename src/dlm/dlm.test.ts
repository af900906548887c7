import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { World } from "../../test/support/dlm_clients.ts";
import type { SimOptions } from "../../test/support/sim_cluster.ts";
import { mlogSet } from "../lib/masklog.ts";
import { lvbSlotsUsed } from "./lvb.ts";

const NAMES = ["M1L", "M2L", "M3L", "O1", "O2", "W1"];

/** What the referee found; a failing seed is a history that can be run again. */
function verdict(seed: number, play: (world: World) => void, options: Partial<SimOptions> = {}): void {
  const world = new World({ seed, ...options });
  play(world);
  expect({ seed, faults: world.referee.faults }).toEqual({ seed, faults: [] });
  expect(world.referee.grants).toBeGreaterThan(0);
}

const names = (seed: number): string[] => NAMES.slice(0, 1 + (seed % NAMES.length));

describe("nodes that lock at random", () => {
  // Deaths are news, and there are hundreds.
  beforeAll(() => void mlogSet("NOTICE", "off"));
  afterAll(() => void mlogSet("NOTICE", "allow"));

  test("two nodes", () => {
    for (let seed = 1; seed <= 10; seed++) verdict(seed, (w) => w.play(2, NAMES, 10_000));
  });

  test("three to eight nodes", () => {
    for (let seed = 100; seed < 112; seed++) verdict(seed, (w) => w.play(3 + (seed % 6), NAMES, 10_000));
  });

  test("no LVB is left behind by those who leave", () => {
    const before = lvbSlotsUsed();
    for (let seed = 150; seed < 156; seed++) verdict(seed, (w) => w.churn(2 + (seed % 4), NAMES, 10_000, 0));
    expect(lvbSlotsUsed()).toBe(before);
  });

  test("nodes die", () => {
    for (let seed = 200; seed < 230; seed++) verdict(seed, (w) => w.play(2 + (seed % 7), names(seed), 10_000, 4));
  });

  test("nodes leave and come back", () => {
    for (let seed = 300; seed < 315; seed++) verdict(seed, (w) => w.churn(2 + (seed % 7), names(seed), 20_000, 0));
  });

  test("nodes die, leave and come back", () => {
    for (let seed = 400; seed < 425; seed++) verdict(seed, (w) => w.churn(2 + (seed % 7), names(seed), 20_000, 5000));
  });

  // The news of a death is as fast as messages are, and meets much that is under way.
  test.each([30, 300])("nodes die, leave and come back, and it is known within %i ms", (dead_ms) => {
    for (let seed = 500; seed < 515; seed++)
      verdict(seed, (w) => w.churn(3 + (seed % 6), names(seed), 20_000, 3500), { delay_ms: 20, dead_ms });
  });
});
