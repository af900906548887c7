#!/usr/bin/env node
// pjdfstest over our mount, or over what it is compared with. PJDFSTEST_DIR names its checkout (test/e2e/pjdfstest_run.ts).
//   PJDFSTEST_DIR=… node scripts/pjdfstest.mjs [--on ours|bindfs|ext4|fuse2fs] [--only PART] [--jobs N]
//     [--mount-options O] [--mkfs "ARGS"] [--update] [--json FILE]
// Ends with 0 when nothing failed but what test/e2e/pjdfstest.expected lists. --update prints the lines for that file.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { flag, loadTs, option, progress, report, root } from "../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    'usage: PJDFSTEST_DIR=CHECKOUT node scripts/pjdfstest.mjs [--on ours|bindfs|ext4|fuse2fs] [--only PART] [--jobs N] [--mount-options O] [--mkfs "ARGS"] [--update] [--json FILE]',
  );
  process.exit(0);
}
const pjd = await loadTs("test/e2e/pjdfstest_run.ts");
const { startTarget } = await loadTs("test/support/targets.ts");
const why = pjd.pjdfstestUnavailable();
if (why !== undefined) {
  console.error(`pjdfstest: ${why}`);
  process.exit(2);
}
const on = option("on", "ours");
const mountOptions = option("mount-options", "");
const mkfs = option("mkfs", "");
const started = Date.now();
const dir = pjd.buildPjdfstest();
const target = await startTarget(on, {
  size_mib: 1024,
  ...(mountOptions === "" ? {} : { mountOptions }),
  ...(mkfs === "" ? {} : { mkfs: mkfs.split(" ") }),
});
const result = await pjd.runPjdfstest(dir, target.dir, {
  jobs: option("jobs", 8),
  only: option("only", ""),
  onFile: (done, of) => progress(`${done} of ${of} files`),
});
progress("");
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
if (flag("update"))
  for (const f of unexpected) console.log(`${pjd.assertionName(f)} ${f.split(" - ").slice(1).join(" - ")}`);
const total = result.passed + result.failed.length;
console.log(
  `pjdfstest on ${on}: ${total} assertions in ${result.files} files, ${result.failed.length} failed (${unexpected.length} unexpected), ${seconds} s`,
);
await report({ on, mountOptions, assertions: total, seconds, failed: result.failed, unexpected });
process.exit(unexpected.length > 0 ? 1 : 0);
