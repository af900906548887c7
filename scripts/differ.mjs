#!/usr/bin/env node
// Random system calls on our mount and on ext4, compared call by call (test/e2e/differ.ts): no difference allowed but those that it lists.
//   node scripts/differ.mjs --seeds 100 --mount-options lockdomain=random:7
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine("node scripts/differ.mjs", "Random system calls on our mount and on ext4, compared.", {
  seed: [1, "N", "the first seed"],
  seeds: [20, "N", "how many, in folders of their own"],
  calls: [3000, "N", "system calls of each seed"],
  chattr: [false, "", "immutable and append-only, too"],
  mkfs: ["-b 4K -C 4K -N 1", '"ARGS"', "arguments of mkfs.ocfs2"],
  "mount-options": ["", "OPTIONS", "as of mount -o; lockdomain=random:SEED calls every lock off at random"],
  known: [false, "", "print what is left out, and why"],
});
const { differRun, KNOWN } = await loadTs("test/e2e/differ.ts");
if (o.known) {
  for (const [what, why] of KNOWN) console.log(`${what}: ${why}`);
  process.exit(0);
}
const bar = new Progress(o.seeds, "seeds");
const started = Date.now();
const { calls, differences } = await differRun({
  seed: o.seed,
  seeds: o.seeds,
  calls: o.calls,
  chattr: o.chattr,
  mkfs: o.mkfs.split(" "),
  ...(o["mount-options"] === "" ? {} : { mountOptions: o["mount-options"] }),
  onSeed: (done) => bar.at(done),
});
bar.clear();
const seconds = Math.round((Date.now() - started) / 1000);
for (const difference of differences) console.log(difference);
console.log(`differ: ${calls} system calls in ${seconds} s: ${differences.length} differences`);
await report({ calls, seconds, differences });
process.exit(differences.length > 0 ? 1 : 0);
