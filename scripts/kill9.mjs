#!/usr/bin/env node
// kill -9 of the node process under sqlite3 and fsynced appends (test/crash/kill9_run.ts): nothing acknowledged is lost.
//   node scripts/kill9.mjs --times 20
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine(
  "node scripts/kill9.mjs",
  "kill -9 of a node under sqlite3, fsynced appends and fsynced renames.",
  {
    times: [20, "N", "how often it is killed"],
    seed: [1, "N", "the seed of the moments"],
    "mount-options": ["", "OPTIONS", "as of mount -o"],
  },
);
const { kill9Run, kill9Unavailable } = await loadTs("test/crash/kill9_run.ts");
const { mountUnavailable } = await loadTs("test/support/mount.ts");
const why = mountUnavailable() ?? kill9Unavailable();
if (why !== undefined) {
  console.error(`kill9: ${why}`);
  process.exit(2);
}
const started = Date.now();
const bar = new Progress(o.times, "kills");
bar.at(0);
const result = await kill9Run({
  times: o.times,
  seed: o.seed,
  ...(o["mount-options"] === "" ? {} : { mountOptions: o["mount-options"] }),
  onRound: (n, acknowledged) => bar.at(n, `${acknowledged} acknowledged`),
});
bar.clear();
for (const problem of result.problems) console.log(`  ${problem}`);
const seconds = Math.round((Date.now() - started) / 1000);
console.log(
  `kill -9: ${result.rounds} times in ${seconds} s, ${result.rows} rows, ${result.records} records and ${result.names} names acknowledged, ${result.problems.length} problems`,
);
await report({ ...result, seconds });
process.exit(result.problems.length > 0 ? 1 : 0);
