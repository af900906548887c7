/** Damaged images: an errno, never a crash or a stray write; `node scripts/fuzz_images.mjs --images 1000` is the long one. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { missing } from "../support/sh.ts";
import { readImage } from "../support/volume.ts";
import { unpackVolume } from "../support/volumes.ts";
import { type FuzzOutcome, ImageFuzzer } from "./fuzz_images.ts";

const lacking = missing("xz");
if (lacking.length > 0) console.warn(`SKIPPED: damaged images: not installed: ${lacking.join(", ")}`);

test.skipIf(lacking.length > 0)("damaged structures are answered with an errno", { timeout: 300_000 }, async () => {
  const dir = tempDir("ocfs2-fuzz");
  const images = ["default", "bs512", "bs1k-cs32k", "dirty"].map((name) => {
    unpackVolume(name, join(dir, name));
    return readImage(join(dir, name));
  });
  const fuzzer = new ImageFuzzer(images, 5);
  const outcomes: FuzzOutcome[] = [];
  for (let i = 0; i < 80; i++) outcomes.push(await fuzzer.run(i));
  expect(outcomes.filter((o) => o.problems.length > 0)).toEqual([]);
  // The damage was felt, and did not keep all from being opened.
  expect(outcomes.reduce((n, o) => n + o.errors, 0)).toBeGreaterThan(20);
  expect(outcomes.filter((o) => o.opened).length).toBeGreaterThan(40);
});
