#!/usr/bin/env node
// Cuts the power on a volume under a mixed workload, at every moment and in every way that a disk's cache allows, and
// recovers what is left (test/crash/crash_run.ts).
//   node scripts/crash.mjs --states 5000 [--seed N] [--steps N] [--json FILE]
//   node scripts/crash.mjs --seed N --at MOMENT --fate FATE      one state again, from a failure's report
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    'usage: node scripts/crash.mjs [--states N] [--seed N] [--steps N] [--at MOMENT --fate "FATE"] [--json FILE]',
  );
  process.exit(0);
}
const { crashRun, VOLUMES } = await loadTs("test/crash/crash_run.ts");
const states = option("states", 5000);
const first = option("seed", 1);
const steps = option("steps", 160);
const at = option("at", -1);
const only = at < 0 ? undefined : { at, fate: option("fate", "dropped") };
const perRun = only === undefined ? Math.min(states, 500) : 1;
const runs = only === undefined ? Math.ceil(states / perRun) : 1;
const started = Date.now();
const failures = [];
let done = 0;
let moments = 0;
for (let i = 0; i < runs; i++) {
  const seed = first + i;
  const volume = VOLUMES[seed % VOLUMES.length];
  const want = Math.min(perRun, states - done);
  const result = await crashRun({
    ...volume,
    seed,
    steps,
    states: want,
    only,
    onState: (n) => progress(`${done + n} of ${states} states, ${failures.length} failures`),
  });
  progress("");
  done += result.states;
  moments += result.moments;
  failures.push(...result.failures);
  console.log(
    `seed ${seed}: ${result.operations} operations on ${volume.name}, ${result.moments} moments, ${result.states} states, ${result.failures.length} failures`,
  );
  for (const { where, problems } of result.failures.slice(0, 5))
    console.log(`  ${where}\n    ${problems.slice(0, 8).join("\n    ")}`);
}
const seconds = Math.round((Date.now() - started) / 1000);
console.log(`${done} crash states in ${seconds} s: ${failures.length} failures`);
await report({ states: done, moments, seconds, failures });
process.exit(failures.length > 0 ? 1 : 0);
