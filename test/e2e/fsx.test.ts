/** A short fsx on our mount; `node scripts/fsx.mjs --ops 1000000` is the long one. */
import { describe, expect, test } from "vitest";
import { ccUnavailable } from "../support/build_c.ts";
import { fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable } from "../support/mount.ts";
import { fsxRun, OPTION_SETS } from "./fsx.ts";

const unavailable = mountUnavailable() ?? fsckUnavailable() ?? ccUnavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: fsx on a mount: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("random operations on a file", () => {
  test.each(OPTION_SETS.slice(0, 2))("make no difference to a model: $name", { timeout: 300_000 }, async (set) => {
    const { failures } = await fsxRun({ set, seed: 7, ops: 6000, jobs: 2 });
    expect(failures).toEqual([]);
  });

  // A direct read behind what our side knows as the end of the file came back empty: the end was in the kernel's cache.
  test("make none with the kernel's writeback cache", { timeout: 300_000 }, async () => {
    const set = OPTION_SETS[0]!;
    const { failures } = await fsxRun({ set, seed: 1, ops: 6000, jobs: 2, mountOptions: "writeback_cache" });
    expect(failures).toEqual([]);
  });

  // Shared mappings are written back while the file's lock is called off: a write that waited at the gate hung here.
  test("make none, and end, with every lock called off at random", { timeout: 300_000 }, async () => {
    const set = OPTION_SETS.find(({ name }) => name.includes("1M clusters"))!;
    const { failures } = await fsxRun({
      ...{ set, seed: 31, ops: 8000, jobs: 4, mountOptions: "lockdomain=random:1" },
      stall_ms: 100_000,
    });
    expect(failures).toEqual([]);
  });

  test("are found out when a byte is another one now and then", { timeout: 300_000 }, async () => {
    const args = ["-P", "1500"];
    const { failures } = await fsxRun({ set: OPTION_SETS[0]!, seed: 7, ops: 3000, args });
    expect(failures).toHaveLength(1);
    expect(failures[0]).toMatch(/FAILED at operation \d+: .*byte 0x\w+ .* differ/);
  });

  test("that stand still are found out, and leave no mount behind", { timeout: 300_000 }, async () => {
    const { failures } = await fsxRun({ set: OPTION_SETS[0]!, seed: 7, ops: 1_000_000_000, stall_ms: 1 });
    expect(failures).toHaveLength(1);
    expect(failures[0]).toContain("file0 stands still");
  });
});
