#!/usr/bin/env node
// Deaths in a cluster, over and over (test/cluster/deaths_run.ts): nodes of ours and kernel nodes under load die in all ways at random moments; the
// others go on, nothing that was fsynced is lost, the volume is whole.
//   node scripts/deaths.mjs --times 100 [--seed N] [--nodes ours=2,kernel=1] [--per-life N] [--kinds kill,stop,cut,stall] [--keep DIR] [--json FILE]
import { flag, loadTs, option, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    "usage: node scripts/deaths.mjs [--times N] [--seed N] [--nodes ours=N,kernel=N] [--per-life N] [--kinds K,…] [--keep DIR] [--json FILE]",
  );
  process.exit(0);
}
const { clusterUnavailable } = await loadTs("test/support/cluster_rig.ts");
const why = clusterUnavailable();
if (why !== undefined) {
  console.error(`deaths: ${why}`);
  process.exit(2);
}
const { deathsRun } = await loadTs("test/cluster/deaths_run.ts");
const nodes = Object.fromEntries(
  option("nodes", "ours=2,kernel=1")
    .split(",")
    .map((part) => [part.split("=")[0], Number(part.split("=")[1])]),
);
const started = Date.now();
const stamp = () => `${String(Math.round((Date.now() - started) / 1000)).padStart(5)} s  `;
const kinds = option("kinds", "");
const keep = option("keep", "");
const result = await deathsRun({
  times: option("times", 10),
  seed: option("seed", 1),
  ours: nodes.ours ?? 0,
  kernel: nodes.kernel ?? 0,
  per_life: option("per-life", 10),
  ...(kinds === "" ? {} : { kinds: kinds.split(",") }),
  ...(keep === "" ? {} : { keep }),
  say: (line) => console.log(stamp() + line),
});
const groups = new Map();
for (const d of result.deaths) {
  const of = `${d.kind} ${d.of}`;
  groups.set(of, [...(groups.get(of) ?? []), d.went_on_s]);
}
for (const [of, all] of [...groups].sort()) {
  all.sort((a, b) => a - b);
  const at = (q) => all[Math.min(all.length - 1, Math.floor(q * all.length))].toFixed(1);
  console.log(
    `${of.padEnd(14)} ${String(all.length).padStart(4)} times, survivors went on after ${at(0)} to ${at(1)} s, median ${at(0.5)} s`,
  );
}
const seconds = Math.round((Date.now() - started) / 1000);
console.log(
  `${result.deaths.length} deaths in ${seconds} s, ${result.records} records and ${result.kept} files fsynced, ${result.problems.length} problems`,
);
await report({ ...result, seconds });
process.exit(result.problems.length > 0 ? 1 : 0);
