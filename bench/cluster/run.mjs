#!/usr/bin/env node
// A build on each of two nodes at the same time, each in its own tree: two nodes of one cluster against two local mounts, ours and the kernel's
// (User Mode Linux), one after the other in one run.
//   node bench/cluster/run.mjs [--files N] [--rounds N] [--settings ours-local,ours-clustered,kernel-local,kernel-clustered]
//     [--base DIR] [--json FILE|-] [--out DIR]
// Prints a table and what our nodes did meanwhile; --out DIR writes it there with a plot (cluster_build.md, cluster_build.svg).
import { tmpdir } from "node:os";
import { flag, keep, loadTs, option, progress, report, step } from "../../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    "usage: node bench/cluster/run.mjs [--files N] [--rounds N] [--settings S,S] [--base DIR] [--json FILE|-] [--out DIR]",
  );
  process.exit(0);
}
const { clusterUnavailable, runClusterBench, SETTINGS, toMarkdown, toSvg } = await loadTs(
  "bench/cluster/cluster_bench.ts",
);
const why = clusterUnavailable();
if (why !== undefined) {
  console.error(`builds on two nodes cannot be measured here: ${why}`);
  process.exit(1);
}
const bench = await runClusterBench({
  files: option("files", 240),
  rounds: option("rounds", 1),
  settings: option("settings", SETTINGS.join(",")).split(","),
  base: option("base", tmpdir()),
  onStep: step,
});
progress("");
console.log(toMarkdown(bench));
await report(bench);
keep({ "cluster_build.md": toMarkdown(bench), "cluster_build.svg": toSvg(bench) });
process.exit(0);
