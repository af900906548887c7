/** Programs of one node that share a domain of the lock manager. */
import { expect, test } from "vitest";
import { LocalDomain } from "./local.ts";
import type { LockDomain } from "./lock_domain.ts";
import { type Joined, SharedDomains } from "./shared_domains.ts";

/** Joins and leaves that the test completes. */
function bed(): {
  domains: SharedDomains;
  join: (name: string) => { err?: number; domain?: LockDomain };
  joins: { name: string; done: Joined }[];
  leaves: ((status: number) => void)[];
  domain: LockDomain;
} {
  const joins: { name: string; done: Joined }[] = [];
  const leaves: ((status: number) => void)[] = [];
  const domain: LockDomain = new LocalDomain();
  domain.leave = (done) => void leaves.push(done);
  const domains = new SharedDomains((name, done) => void joins.push({ name, done }));
  const join = (name: string): { err?: number; domain?: LockDomain } => {
    const got: { err?: number; domain?: LockDomain } = {};
    domains.join(name, (err, joined) => {
      got.err = err;
      if (joined !== null) got.domain = joined;
    });
    return got;
  };
  return { domains, join, joins, leaves, domain };
}

test("two join one domain once, hear of deaths both, and the last one's leaving is the node's", () => {
  const { join, joins, leaves, domain } = bed();
  const [a, b] = [join("x"), join("x")];
  expect(joins).toHaveLength(1);
  joins[0]!.done(0, domain);
  const c = join("x");
  expect([joins.length, a.err, b.err, c.err]).toEqual([1, 0, 0, 0]);
  const heard: string[] = [];
  for (const [i, s] of [a, b].entries()) s.domain!.onNodeDown = (node) => heard.push(`${i} ${node}`);
  domain.onNodeDown(7);
  expect(heard).toEqual(["0 7", "1 7"]);
  const left: number[] = [];
  for (const s of [a, b]) s.domain!.leave((status) => left.push(status));
  expect([left, leaves.length]).toEqual([[0, 0], 0]);
  c.domain!.leave((status) => left.push(status));
  expect([left, leaves.length]).toEqual([[0, 0], 1]);
  leaves[0]!(0);
  expect(left).toEqual([0, 0, 0]);
});

test("who comes while it is being left joins it anew afterwards", () => {
  const { join, joins, leaves, domain } = bed();
  const a = join("x");
  joins[0]!.done(0, domain);
  a.domain!.leave(() => {});
  const b = join("x");
  expect([joins.length, b.err]).toEqual([1, undefined]);
  leaves[0]!(0);
  expect(joins).toHaveLength(2);
  joins[1]!.done(0, domain);
  expect(b.err).toBe(0);
});

test("a refusal is everybody's who waited, and nobody's afterwards", () => {
  const { join, joins } = bed();
  const [a, b] = [join("x"), join("x")];
  joins[0]!.done(-16, null);
  expect([a.err, b.err]).toEqual([-16, -16]);
  join("x");
  expect(joins).toHaveLength(2);
});
