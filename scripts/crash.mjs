#!/usr/bin/env node
// Cuts the power on a volume under a mixed workload, at every moment and in every way that a disk's cache allows, and
// recovers what is left (test/crash/crash_run.ts).
//   node scripts/crash.mjs --states 5000
//   node scripts/crash.mjs --states 5000 --locks                in a cluster
//   node scripts/crash.mjs --seed N --at MOMENT --fate FATE      one state again, from a failure's report
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine(
  "node scripts/crash.mjs",
  "Power cuts at every moment of a workload, each disk recovered and judged.",
  {
    states: [5000, "N", "how many disks; 500 at most come of one workload"],
    seed: [1, "N", "the seed of the first workload, which also chooses the kind of volume"],
    steps: [160, "N", "length of a workload"],
    at: [-1, "MOMENT", "only this moment of the workload: a failure's report again"],
    fate: ["dropped", "FATE", "with --at: what becomes of the writes that were not durable"],
    locks: [false, "", "beside another node, which wants every lock at any moment"],
    planted: ["", "PART", "plant the fault with this in its name (test/crash/planted.ts): it must be found"],
  },
);
const { crashRun, VOLUMES } = await loadTs("test/crash/crash_run.ts");
const { PLANTED } = await loadTs("test/crash/planted.ts");
const planted = o.planted === "" ? undefined : PLANTED.find(({ name }) => name.includes(o.planted));
if (o.planted !== "" && planted === undefined) {
  console.error(`crash: no such fault; there are: ${PLANTED.map(({ name }) => `"${name}"`).join(", ")}`);
  process.exit(2);
}
const { states, steps, locks } = o;
const only = o.at < 0 ? undefined : { at: o.at, fate: o.fate };
const perRun = only === undefined ? Math.min(states, 500) : 1;
const runs = only === undefined ? Math.ceil(states / perRun) : 1;
const bar = new Progress(only === undefined ? states : 1, "states");
const started = Date.now();
const failures = [];
let done = 0;
let moments = 0;
for (let i = 0; i < runs; i++) {
  const seed = o.seed + i;
  const volume = VOLUMES[seed % VOLUMES.length];
  const want = Math.min(perRun, states - done);
  const result = await crashRun({
    ...volume,
    seed,
    steps,
    states: want,
    only,
    planted,
    locks,
    onState: (n) => bar.at(done + n, `${failures.length} failures, ${volume.name}`),
  });
  bar.clear();
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
