#!/usr/bin/env node
// Images with one damaged structure each (test/crash/fuzz_images.ts): an errno, never a crash, a hang or a stray write.
//   node scripts/fuzz_images.mjs --images 1000
// The images to damage are made by a workload through our own mount, on three kinds of volumes.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine("node scripts/fuzz_images.mjs", "Mounts and uses images with one damaged structure each.", {
  images: [1000, "N", "how many"],
  seed: [1, "N", "the seed; image N of a seed is always the same"],
  first: [0, "N", "the number of the first image: one of a failure's report again, with --images 1"],
  child: [false, "", "what this script starts itself as"],
  bases: ["", "FILES", "for --child: the images to damage"],
});
const fuzz = await loadTs("test/crash/fuzz_images.ts");
const { seed, first, images } = o;
if (o.child) {
  await fuzz.fuzzChild(o.bases.split(","), seed, first, first + images);
  process.exit(0);
}
const { makeBases } = await loadTs("test/crash/fuzz_bases.ts");
const started = Date.now();
const bases = await makeBases();
const bar = new Progress(images, "images");
const self = join(dirname(fileURLToPath(import.meta.url)), "fuzz_images.mjs");
const result = await fuzz.fuzzRun(
  (from) => [
    ...["--max-old-space-size=2048", self, "--child", "--bases", bases.join(","), "--seed", String(seed)],
    ...["--first", String(from), "--images", String(first + images - from)],
  ],
  images,
  { first, onImage: (n, bad) => bar.at(n, `${bad} failures`) },
);
bar.clear();
for (const { name, problems } of result.failures.slice(0, 40))
  console.log(`${name}\n    ${problems.join("\n").split("\n").slice(0, 8).join("\n    ")}`);
const seconds = Math.round((Date.now() - started) / 1000);
console.log(
  `fuzz: ${result.images} images in ${seconds} s, ${result.opened} could be opened, ${result.errors} operations answered with an errno, ${result.failures.length} failures`,
);
await report({ ...result, seconds, seed });
process.exit(result.failures.length > 0 ? 1 : 0);
