#!/usr/bin/env node
// pjdfstest over our mount, or over what it is compared with. PJDFSTEST_DIR names its checkout (test/e2e/pjdfstest_run.ts).
//   PJDFSTEST_DIR=… node scripts/pjdfstest.mjs --mount-options lockdomain=random:1
// Ends with 0 when nothing failed but what test/e2e/pjdfstest.expected lists.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report, root } from "../test/support/run_ts.mjs";

const o = commandLine(
  "PJDFSTEST_DIR=CHECKOUT node scripts/pjdfstest.mjs",
  "POSIX' rules for names, owners, modes and times, by a checkout of pjd/pjdfstest.",
  {
    on: ["ours", "ours|bindfs|ext4|fuse2fs", "the file system"],
    only: ["", "PART", "only the test files with this in their paths"],
    jobs: [8, "N", "test files at once"],
    "mount-options": ["", "OPTIONS", "as of mount -o; lockdomain=random:SEED calls every lock off at random"],
    mkfs: ["", '"ARGS"', "arguments of mkfs.ocfs2"],
    update: [false, "", "print the lines for test/e2e/pjdfstest.expected"],
  },
);
const pjd = await loadTs("test/e2e/pjdfstest_run.ts");
const { startTarget } = await loadTs("test/support/targets.ts");
const why = pjd.pjdfstestUnavailable();
if (why !== undefined) {
  console.error(`pjdfstest: ${why}`);
  process.exit(2);
}
const { on, mkfs } = o;
const mountOptions = o["mount-options"];
const started = Date.now();
const dir = pjd.buildPjdfstest();
const target = await startTarget(on, {
  size_mib: 1024,
  ...(mountOptions === "" ? {} : { mountOptions }),
  ...(mkfs === "" ? {} : { mkfs: mkfs.split(" ") }),
});
const bar = new Progress(pjd.testFiles(dir, o.only).length, "test files");
const result = await pjd.runPjdfstest(dir, target.dir, {
  jobs: o.jobs,
  only: o.only,
  onFile: (done) => bar.at(done),
});
bar.clear();
await target.stop();

const seconds = Math.round((Date.now() - started) / 1000);
const expected = new Set(
  on !== "ours"
    ? []
    : readFileSync(join(root, "test", "e2e", "pjdfstest.expected"), "utf8")
        .split("\n")
        .filter((line) => line !== "" && !line.startsWith("#"))
        .map(pjd.assertionName),
);
const unexpected = result.failed.filter((f) => !expected.has(pjd.assertionName(f)));
for (const f of result.failed) console.log(`${expected.has(pjd.assertionName(f)) ? "expected" : "FAILED"}  ${f}`);
if (o.update) for (const f of unexpected) console.log(`${pjd.assertionName(f)} ${f.split(" - ").slice(1).join(" - ")}`);
const total = result.passed + result.failed.length;
console.log(
  `pjdfstest on ${on}: ${total} assertions in ${result.files} files, ${result.failed.length} failed (${unexpected.length} unexpected), ${seconds} s`,
);
await report({ on, mountOptions, assertions: total, seconds, failed: result.failed, unexpected });
process.exit(unexpected.length > 0 ? 1 : 0);
