/** We and a Linux kernel on one volume by turns, on two kinds of volumes; `node scripts/interop.mjs` goes through all kinds. */
import { describe, expect, test } from "vitest";
import { ccUnavailable } from "../support/build_c.ts";
import { fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable } from "../support/mount.ts";
import { rigUnavailable } from "../support/rig.ts";
import { interopRun, OPTION_SETS, STEPS } from "./interop_run.ts";

const unavailable = mountUnavailable() ?? fsckUnavailable() ?? ccUnavailable() ?? rigUnavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: a kernel node beside us: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("a kernel and we see the same on one volume", () => {
  test.each([OPTION_SETS[0]!, OPTION_SETS[3]!])("$name", { timeout: 900_000 }, async (set) => {
    const steps = await interopRun({ set, seed: 5, scale: 15, size_mib: 600, small: true });
    expect(steps.flatMap((s) => s.problems.map((p) => `${s.step}: ${p}`))).toEqual([]);
    expect(steps.length).toBe(STEPS);
  });
});
