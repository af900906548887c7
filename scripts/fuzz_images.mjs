#!/usr/bin/env node
// Images with one damaged structure each (test/crash/fuzz_images.ts): an errno, never a crash, a hang or a stray write.
//   node scripts/fuzz_images.mjs --images 1000 [--seed N] [--first N] [--json FILE]
// The images to damage are made by a workload through our own mount, on three kinds of volumes.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log("usage: node scripts/fuzz_images.mjs [--images N] [--seed N] [--first N] [--json FILE]");
  process.exit(0);
}
const fuzz = await loadTs("test/crash/fuzz_images.ts");
const seed = option("seed", 1);
const first = option("first", 0);
const images = option("images", 1000);
if (flag("child")) {
  await fuzz.fuzzChild(option("bases", "").split(","), seed, first, first + images);
  process.exit(0);
}
const { makeBases } = await loadTs("test/crash/fuzz_bases.ts");
const started = Date.now();
const bases = await makeBases();
const self = join(dirname(fileURLToPath(import.meta.url)), "fuzz_images.mjs");
const result = await fuzz.fuzzRun(
  (from) => [
    ...["--max-old-space-size=2048", self, "--child", "--bases", bases.join(","), "--seed", String(seed)],
    ...["--first", String(from), "--images", String(first + images - from)],
  ],
  images,
  { first, onImage: (n, bad) => progress(`${n} of ${images} images, ${bad} failures`) },
);
progress("");
for (const { name, problems } of result.failures.slice(0, 40))
  console.log(`${name}\n    ${problems.join("\n").split("\n").slice(0, 8).join("\n    ")}`);
const seconds = Math.round((Date.now() - started) / 1000);
console.log(
  `fuzz: ${result.images} images in ${seconds} s, ${result.opened} could be opened, ${result.errors} operations answered with an errno, ${result.failures.length} failures`,
);
await report({ ...result, seconds, seed });
process.exit(result.failures.length > 0 ? 1 : 0);
