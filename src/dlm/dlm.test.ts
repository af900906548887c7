import { describe, expect, test } from "vitest";
import { World } from "../../test/support/dlm_clients.ts";

const NAMES = ["M1L", "M2L", "M3L", "O1", "O2", "W1"];

function run(seed: number, nodes: number, act_ms: number, together = false): World {
  const world = new World({ seed });
  for (let n = 1; n <= nodes; n++) world.add(n);
  world.joinAll();
  for (const m of world.alive) m.run(NAMES, 20);
  const end = world.cluster.clock.monotonic_ms() + act_ms;
  world.runUntil("time passes", () => world.cluster.clock.monotonic_ms() >= end);
  world.quiesce();
  if (world.referee.faults.length === 0) world.leaveAll(together);
  expect({ seed, faults: world.referee.faults }).toEqual({ seed, faults: [] });
  return world;
}

describe("nodes that lock at random", () => {
  test("two nodes", () => {
    for (let seed = 1; seed <= 20; seed++) run(seed, 2, 10_000);
  });
  test("three to eight nodes", () => {
    for (let seed = 100; seed < 112; seed++) run(seed, 3 + (seed % 6), 10_000);
  });
  test("all leave at the same time", () => {
    for (let seed = 200; seed < 210; seed++) run(seed, 2 + (seed % 4), 3000, true);
  });
});
