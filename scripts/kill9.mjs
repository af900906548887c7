#!/usr/bin/env node
// kill -9 of the node process under sqlite3 and fsynced appends (test/crash/kill9_run.ts): nothing acknowledged is lost.
//   node scripts/kill9.mjs --times 20 [--seed N] [--mount-options O] [--json FILE]
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log("usage: node scripts/kill9.mjs [--times N] [--seed N] [--mount-options O] [--json FILE]");
  process.exit(0);
}
const { kill9Run, kill9Unavailable } = await loadTs("test/crash/kill9_run.ts");
const { mountUnavailable } = await loadTs("test/support/mount.ts");
const why = mountUnavailable() ?? kill9Unavailable();
if (why !== undefined) {
  console.error(`kill9: ${why}`);
  process.exit(2);
}
const started = Date.now();
const mountOptions = option("mount-options", "");
const result = await kill9Run({
  times: option("times", 20),
  seed: option("seed", 1),
  ...(mountOptions === "" ? {} : { mountOptions }),
  onRound: (n, acknowledged) => progress(`killed ${n} times, ${acknowledged} acknowledged`),
});
progress("");
for (const problem of result.problems) console.log(`  ${problem}`);
const seconds = Math.round((Date.now() - started) / 1000);
console.log(
  `kill -9: ${result.rounds} times in ${seconds} s, ${result.rows} rows, ${result.records} records and ${result.names} names acknowledged, ${result.problems.length} problems`,
);
await report({ ...result, seconds });
process.exit(result.problems.length > 0 ? 1 : 0);
