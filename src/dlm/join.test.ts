import { expect, test } from "vitest";
import { SimCluster } from "../../test/support/sim_cluster.ts";
import type { Dlm } from "./dlm.ts";
import { joinDomain } from "./domain.ts";
import { DlmNode } from "./node.ts";

const DOMAIN = "0AD1B7A93F2A4B8196090CA8716C204B";

/** Joins `count` nodes, `apart_ms` one after another; the members that each has in its map in the end. */
function joined(count: number, apart_ms: number, seed: number, hop_ms: number): string[] {
  const cluster = new SimCluster({ seed, delay_ms: 1, hop_ms });
  const domains: Dlm[] = [];
  let done = 0;
  const nums = Array.from({ length: count }, (_, i) => i + 1);
  const nodes = nums.map((num) => cluster.start(num));
  for (const [i, net] of nodes.entries())
    cluster.clock.after(i * apart_ms, () => {
      const { clock, random } = cluster;
      const fatal = (err: Error): never => {
        throw err;
      };
      const node = new DlmNode({ net, hb: net, clock, random, nodes: () => [], regions: () => [], fatal });
      domains.push(
        joinDomain(node, DOMAIN, { major: 1, minor: 0 }, (err) => {
          expect(err).toBe(0);
          done++;
        }),
      );
    });
  expect(cluster.clock.runUntil(() => done === count, 60_000)).toBe(true);
  return domains.map((dlm) => `${dlm.domain_map}`);
}

test.each([0, 0.5, 2, 5, 20])(
  "nodes that join at the same time, %d ms apart, are in one domain, wherever their messages come in",
  (apart_ms) => {
    for (let seed = 1; seed <= 10; seed++)
      for (const hop_ms of [0, 0.1, 5]) {
        expect({ seed, hop_ms, maps: joined(2, apart_ms, seed, hop_ms) }).toEqual({
          seed,
          hop_ms,
          maps: ["1 2", "1 2"],
        });
        expect({ seed, hop_ms, maps: joined(3, apart_ms, seed, hop_ms) }).toEqual({
          seed,
          hop_ms,
          maps: ["1 2 3", "1 2 3", "1 2 3"],
        });
      }
  },
);
