#!/usr/bin/env node
// What a lock costs between two nodes: kernel beside kernel, ours beside ours, ours beside a kernel node, one after the other in one run.
//   node bench/lock/run.mjs [--turns N] [--rounds N] [--base DIR] [--json FILE|-] [--out DIR]
// Prints a table; --out DIR writes it there with a plot (lock_costs.md, lock_costs.svg).
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flag, loadTs, option, progress, report } from "../../test/support/run_ts.mjs";

if (flag("help")) {
  console.log("usage: node bench/lock/run.mjs [--turns N] [--rounds N] [--base DIR] [--json FILE|-] [--out DIR]");
  process.exit(0);
}
const { clusterUnavailable, measurePair, PAIRS, reportOf, toMarkdown, toSvg } =
  await loadTs("bench/lock/lock_bench.ts");
const why = clusterUnavailable();
if (why !== undefined) {
  console.error(`locks between nodes cannot be measured here: ${why}`);
  process.exit(1);
}
const onStep = (what) => (process.stderr.isTTY ? progress(what) : console.error(what));
const samples = new Map();
const rounds = option("rounds", 1);
for (let round = 0; round < rounds; round++)
  for (const pair of PAIRS)
    await measurePair(pair, { turns: option("turns", 200), base: option("base", tmpdir()), onStep }, samples);
progress("");
const figures = reportOf(samples);
console.log(toMarkdown(figures));
await report(figures);
const out = option("out", "");
if (out !== "") {
  writeFileSync(join(out, "lock_costs.md"), toMarkdown(figures));
  writeFileSync(join(out, "lock_costs.svg"), toSvg(figures));
}
process.exit(0);
