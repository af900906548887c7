/** kill -9 of a node under sqlite and fsynced appends; `node scripts/kill9.mjs --times 20` is the long one. */
import { describe, expect, test } from "vitest";
import { fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable } from "../support/mount.ts";
import { kill9Run, kill9Unavailable } from "./kill9_run.ts";

const unavailable = mountUnavailable() ?? fsckUnavailable() ?? kill9Unavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: kill -9 of a mount: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("a node that is killed", () => {
  test("loses nothing that it acknowledged", { timeout: 300_000 }, async () => {
    const result = await kill9Run({ times: 3, seed: 11 });
    expect(result.problems).toEqual([]);
    expect(result.rows).toBeGreaterThan(0);
    expect(result.records).toBeGreaterThan(0);
    expect(result.names).toBeGreaterThan(0);
  });

  test("is found out when it does lose something", { timeout: 300_000 }, async () => {
    const { problems } = await kill9Run({ times: 1, seed: 12, forgets: true });
    for (const what of [
      /^at the end: sqlite3: row \d+ was committed, but/,
      /^at the end: record \d+ of/,
      /^at the end: names-0/,
    ])
      expect(problems).toContainEqual(expect.stringMatching(what));
  });
});
