#!/usr/bin/env node
// We and a Linux kernel on the same volumes, by turns, for each kind of volume (test/interop/interop_run.ts).
//   node scripts/interop.mjs --set metaecc
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine(
  "node scripts/interop.mjs",
  "We and a Linux kernel node on one volume, by turns; fsck.ocfs2 after each.",
  {
    set: ["", "PART", "only the kinds of volumes with this in their names"],
    seed: [1, "N", "the seed of the workload"],
    scale: [100, "PERCENT", "how much of the workload"],
    small: [false, "", "without the source tree and git"],
  },
);
const { interopRun, OPTION_SETS, STEPS } = await loadTs("test/interop/interop_run.ts");
const { rigUnavailable } = await loadTs("test/support/rig.ts");
const why = rigUnavailable();
if (why !== undefined) {
  console.error(`interop: ${why}`);
  process.exit(2);
}
const sets = OPTION_SETS.filter((s) => s.local !== false && s.name.includes(o.set));
const bar = new Progress(sets.length * STEPS, "steps");
const results = [];
let bad = 0;
let voided = 0;
for (const set of sets) {
  let step_number = 0;
  const steps = await interopRun({
    set,
    seed: o.seed,
    scale: o.scale,
    size_mib: 1500,
    small: o.small,
    onStep: (step) => bar.at(results.length * STEPS + step_number++, `${set.name}: ${step}`),
  });
  bar.clear();
  const problems = steps.flatMap((s) => s.problems.map((p) => `${s.step}: ${p}`));
  const seconds = steps.map((s) => `${s.step} ${s.seconds.toFixed(0)} s`).join(", ");
  const is_void = problems.length === 0 && steps.length < STEPS;
  const verdict = problems.length > 0 ? "FAILED" : is_void ? "VOID" : "ok";
  console.log(`${verdict.padEnd(6)}  ${set.name}  (${seconds})`);
  for (const p of problems) console.log(`        ${p.replaceAll("\n", "\n        ")}`);
  if (problems.length > 0) bad++;
  if (is_void) voided++;
  results.push({ set: set.name, args: set.args, steps });
}
console.log(`interop: ${results.length} kinds of volumes, ${bad} with problems, ${voided} void`);
await report(results);
process.exit(bad > 0 ? 1 : 0);
