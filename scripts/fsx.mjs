#!/usr/bin/env node
// fsx over our mount, on volumes of every kind in turn (test/e2e/fsx.ts): random operations against a model, no difference allowed.
//   node scripts/fsx.mjs --ops 1000000 --mount-options lockdomain=random:1
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine("node scripts/fsx.mjs", "Random operations on files of our mount, compared with a model.", {
  ops: [1_000_000, "N", "operations in all, in equal parts on each kind of volume"],
  seed: [1, "N", "the seed; a failure names its own"],
  jobs: [2, "N", "processes at once, each with a file of its own"],
  set: ["", "PART", "only the kinds of volumes with this in their names"],
  "mount-options": ["", "OPTIONS", "as of mount -o; lockdomain=random:SEED calls every lock off at random"],
  stall: [180, "SECONDS", "a process that does not end 1000 operations in this time hangs"],
});
const { fsxRun, OPTION_SETS } = await loadTs("test/e2e/fsx.ts");
const sets = OPTION_SETS.filter((set) => set.name.includes(o.set));
const each = Math.ceil(o.ops / sets.length);
const bar = new Progress(each * sets.length, "operations");
const started = Date.now();
const failures = [];
let total = 0;
for (const set of sets) {
  const began = Date.now();
  const shown = (n) => bar.at(total + n, `${failures.length} failures, ${set.name}`);
  shown(0);
  const result = await fsxRun({
    set,
    seed: o.seed,
    ops: each,
    jobs: o.jobs,
    stall_ms: o.stall * 1000,
    ...(o["mount-options"] === "" ? {} : { mountOptions: o["mount-options"] }),
    onOps: shown,
  });
  bar.clear();
  total += result.ops;
  failures.push(...result.failures);
  const seconds = (Date.now() - began) / 1000;
  console.log(`${set.name}: ${result.ops} operations in ${seconds.toFixed(0)} s, ${result.failures.length} failures`);
  for (const failure of result.failures) console.log(`  ${failure.replaceAll("\n", "\n  ")}`);
}
const seconds = Math.round((Date.now() - started) / 1000);
console.log(`fsx: ${total} operations in ${seconds} s: ${failures.length} failures`);
await report({ operations: total, seconds, failures });
process.exit(failures.length > 0 ? 1 : 0);
