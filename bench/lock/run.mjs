#!/usr/bin/env node
// What a lock costs between two nodes: kernel beside kernel, ours beside ours, ours beside a kernel node, by turns in one run.
//   node bench/lock/run.mjs [--turns N] [--rounds N] [--pairs P,…] [--parts P,…] [--base DIR] [--json FILE|-] [--out DIR]
// Prints a table; --out DIR writes it there with a plot (lock_costs.md, lock_costs.svg). The volumes lie in memory: the kernel nodes' disk (User
// Mode Linux, ubd) drops every flush that it is asked for, so on a disk whose flushes take time only ours would pay for them.
import { flag, keep, loadTs, option, progress, report, step } from "../../test/support/run_ts.mjs";

const { clusterUnavailable, handOversText, PAIRS, PARTS, reportOf, startPair, toMarkdown, toSvg } =
  await loadTs("bench/lock/lock_bench.ts");
const names = PAIRS.map((kinds) => kinds.join("-"));
if (flag("help")) {
  console.log(`usage: node bench/lock/run.mjs [--turns N] [--rounds N] [--base DIR] [--json FILE|-] [--out DIR]
  [--pairs ${names.join(",")}]
  [--parts ${PARTS.join(",")}]`);
  process.exit(0);
}
const why = clusterUnavailable();
if (why !== undefined) {
  console.error(`locks between nodes cannot be measured here: ${why}`);
  process.exit(1);
}
const picked = (name, all) => {
  const given = option(name, "");
  return given === "" ? all : all.filter((one) => given.split(",").includes(one));
};
const figures = { samples: new Map(), hand_overs: new Map() };
const options = { turns: option("turns", 100), base: option("base", "/dev/shm") };
const pairs = [];
for (const kinds of PAIRS) {
  if (picked("pairs", names).includes(kinds.join("-"))) {
    step(`${kinds.join("-")}: starting`);
    pairs.push(await startPair(kinds, options));
  }
}
const rounds = option("rounds", 5);
for (let round = 0; round < rounds; round++)
  for (const part of picked("parts", PARTS)) {
    step(`round ${round + 1} of ${rounds}: ${part}`);
    for (const changed of [false, true])
      for (const pair of pairs) await pair.measure(part, `${part}${round}${changed ? "b" : "a"}`, changed, figures);
  }
for (const pair of pairs) await pair.close();
progress("");
const rows = reportOf(figures.samples);
const markdown = `${toMarkdown(rows)}${handOversText(figures.hand_overs)}`;
console.log(markdown);
await report({ rows, hand_overs: Object.fromEntries(figures.hand_overs) });
keep({ "lock_costs.md": markdown, "lock_costs.svg": toSvg(rows) });
process.exit(0);
