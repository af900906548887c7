#!/usr/bin/env node
// Simulated clusters: several nodes over one disk and one lock manager, in virtual time, with deaths (test/sim/sim_run.ts).
//   npm run sim -- --seeds 1000 [--seed FIRST] [--steps N] [--nodes N] [--kills N] [--json FILE]
//   --o2dlm: our o2dlm on every node, over a network that delays messages, instead of a lock manager in memory
//   npm run sim -- --seed N --seeds 1 --trace      one seed again, with its history
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    "usage: npm run sim -- [--seeds N] [--seed FIRST] [--steps N] [--nodes N] [--kills N] [--o2dlm] [--trace] [--json FILE]",
  );
  process.exit(0);
}
const { simRun } = await loadTs("test/sim/sim_run.ts");
const seeds = option("seeds", 100);
const first = option("seed", 1);
const more = {};
for (const name of ["steps", "nodes", "kills"]) if (process.argv.includes(`--${name}`)) more[name] = option(name, 0);
if (flag("o2dlm")) more.o2dlm = true;
const sabotage = option("sabotage", "");
if (sabotage !== "") more.sabotage = sabotage.split(",");
const started = Date.now();
const failures = [];
let ops = 0;
let kills = 0;
for (let i = 0; i < seeds; i++) {
  const seed = first + i;
  const r = simRun({ seed, ...more });
  ops += r.ops;
  kills += r.kills;
  if (flag("trace")) for (const line of r.trace) console.log(line);
  if (r.problem !== undefined) {
    failures.push({ seed, problem: r.problem, hash: r.hash });
    progress("");
    console.log(
      `FAILED: npm run sim -- --seed ${seed} --seeds 1${Object.entries(more)
        .map(([k, v]) => (v === true ? ` --${k}` : ` --${k} ${v}`))
        .join("")}`,
    );
    console.log(`  ${r.problem.split("\n").slice(0, 12).join("\n  ")}`);
  } else if (seeds === 1)
    console.log(`seed ${seed}: ${r.ops} operations, ${r.events} events, ${r.kills} deaths, trace ${r.hash}`);
  progress(`${i + 1} of ${seeds} seeds, ${failures.length} failures`);
}
progress("");
const seconds = (Date.now() - started) / 1000;
console.log(
  `${seeds} seeds in ${seconds.toFixed(1)} s: ${ops} operations, ${kills} deaths, ${failures.length} failures`,
);
await report({ seeds, seconds, ops, kills, failures });
process.exit(failures.length > 0 ? 1 : 0);
