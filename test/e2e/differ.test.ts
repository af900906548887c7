/** A few random system calls on our mount and on ext4; `node scripts/differ.mjs` makes as many as one likes. */
import { describe, expect, test } from "vitest";
import { ccUnavailable } from "../support/build_c.ts";
import { fsckUnavailable } from "../support/judges.ts";
import { targetUnavailable } from "../support/targets.ts";
import { differRun } from "./differ.ts";

const unavailable = targetUnavailable("ours") ?? targetUnavailable("ext4") ?? fsckUnavailable() ?? ccUnavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: random system calls: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("random system calls", () => {
  test("say and change the same as on ext4", async () => {
    const { differences } = await differRun({ seed: 1, seeds: 1, calls: 500 });
    expect(differences).toEqual([]);
  });

  test("are found out where ACLs are off", async () => {
    const { differences } = await differRun({ seed: 1, seeds: 1, calls: 180, mountOptions: "noacl" });
    expect(differences).toHaveLength(1);
    expect(differences[0]).toMatch(/ours: .* = EOPNOTSUPP$/);
  });
});
