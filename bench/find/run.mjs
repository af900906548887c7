#!/usr/bin/env node
// find over many files on a volume that two nodes have mounted: heap, bytes a lock resource, pauses, masteries, notifications.
//   node bench/find/run.mjs [--files N] [--per-dir N] [--image FILE] [--base DIR] [--mount-options O] [--json FILE|-] [--out DIR]
// --image FILE: the volume; made if it is not there, and kept. --out DIR writes table and plot there (find.md, find.svg).
import { tmpdir } from "node:os";
import { flag, keep, loadTs, option, progress, report, step } from "../../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    "usage: node bench/find/run.mjs [--files N] [--per-dir N] [--image FILE] [--base DIR] [--mount-options O] [--json FILE|-] [--out DIR]",
  );
  process.exit(0);
}
const { clusterUnavailable, measureFind, toMarkdown, toSvg } = await loadTs("bench/find/find_bench.ts");
const why = clusterUnavailable();
if (why !== undefined) {
  console.error(`find on two nodes cannot be measured here: ${why}`);
  process.exit(1);
}
await measureFind({
  files: option("files", 1_000_000),
  per_dir: option("per-dir", 1000),
  image: option("image", ""),
  base: option("base", tmpdir()),
  mount_options: option("mount-options", ""),
  onStep: step,
  onFigures: async (figures) => {
    progress("");
    console.log(toMarkdown(figures));
    await report(figures);
    keep({ "find.md": toMarkdown(figures), "find.svg": toSvg(figures) });
  },
});
progress("");
process.exit(0);
