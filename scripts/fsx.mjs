#!/usr/bin/env node
// fsx over our mount, on volumes of every kind in turn (test/e2e/fsx.ts): random operations against a model, no difference allowed.
//   node scripts/fsx.mjs --ops 1000000 [--seed N] [--jobs N] [--set NAME-PART] [-o OPTIONS] [--json FILE]
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    "usage: node scripts/fsx.mjs [--ops N] [--seed N] [--jobs N] [--set NAME-PART] [--mount-options O] [--json FILE]",
  );
  process.exit(0);
}
const { fsxRun, OPTION_SETS } = await loadTs("test/e2e/fsx.ts");
const ops = option("ops", 1_000_000);
const seed = option("seed", 1);
const only = option("set", "");
const options = option("mount-options", "");
const sets = OPTION_SETS.filter((set) => set.name.includes(only));
const started = Date.now();
const failures = [];
let total = 0;
const each = Math.ceil(ops / sets.length);
for (const set of sets) {
  const began = Date.now();
  const result = await fsxRun({
    set,
    seed,
    ops: each,
    jobs: option("jobs", 2),
    ...(options === "" ? {} : { mountOptions: options }),
    onOps: (n) => progress(`${total + n} of ${ops} operations, ${failures.length} failures`),
  });
  progress("");
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
