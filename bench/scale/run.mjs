#!/usr/bin/env node
// Nodes of ours on one volume as they become more: time of a mount, of a lock, of a recovery (scale.ts).
//   node bench/scale/run.mjs [--nodes 2,3,6,9,12] [--turns N] [--base DIR] [--json FILE|-] [--out DIR]
// Prints a table; --out DIR writes it there with a plot (scale.md, scale.svg).
import { flag, keep, loadTs, option, progress, report, step } from "../../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    "usage: node bench/scale/run.mjs [--nodes 2,3,6,9,12] [--turns N] [--base DIR] [--json FILE|-] [--out DIR]",
  );
  process.exit(0);
}
const { clusterUnavailable, measureScale, scaleImage, toMarkdown, toSvg } = await loadTs("bench/scale/scale_bench.ts");
const why = clusterUnavailable();
if (why !== undefined) {
  console.error(`nodes of a cluster cannot be measured here: ${why}`);
  process.exit(1);
}
const rows = await measureScale({
  counts: option("nodes", "2,3,6,9,12").split(",").map(Number),
  turns: option("turns", 100),
  image: scaleImage(option("base", "/dev/shm")),
  onStep: step,
});
progress("");
console.log(toMarkdown(rows));
await report(rows);
keep({ "scale.md": toMarkdown(rows), "scale.svg": toSvg(rows) });
process.exit(0);
