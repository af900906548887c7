#!/usr/bin/env node
// We and a Linux kernel on the same volumes, by turns, for each kind of volume (test/interop/interop_run.ts).
//   node scripts/interop.mjs [--set NAME-PART] [--seed N] [--scale PERCENT] [--json FILE]
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log("usage: node scripts/interop.mjs [--set NAME-PART] [--seed N] [--scale PERCENT] [--small] [--json FILE]");
  process.exit(0);
}
const { interopRun, OPTION_SETS } = await loadTs("test/interop/interop_run.ts");
const { rigUnavailable } = await loadTs("test/support/rig.ts");
const why = rigUnavailable();
if (why !== undefined) {
  console.error(`interop: ${why}`);
  process.exit(2);
}
const only = option("set", "");
const results = [];
let bad = 0;
for (const set of OPTION_SETS.filter((s) => s.local !== false && s.name.includes(only))) {
  const steps = await interopRun({
    set,
    seed: option("seed", 1),
    scale: option("scale", 100),
    size_mib: 1500,
    small: flag("small"),
    onStep: (step) => progress(`${set.name}: ${step} …`),
  });
  progress("");
  const problems = steps.flatMap((s) => s.problems.map((p) => `${s.step}: ${p}`));
  const seconds = steps.map((s) => `${s.step} ${s.seconds.toFixed(0)} s`).join(", ");
  console.log(`${problems.length === 0 ? "ok    " : "FAILED"}  ${set.name}  (${seconds})`);
  for (const p of problems) console.log(`        ${p.replaceAll("\n", "\n        ")}`);
  if (problems.length > 0) bad++;
  results.push({ set: set.name, args: set.args, steps });
}
console.log(`interop: ${results.length} kinds of volumes, ${bad} with problems`);
await report(results);
process.exit(bad > 0 ? 1 : 0);
