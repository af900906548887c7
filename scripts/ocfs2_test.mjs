#!/usr/bin/env node
// ocfs2-test's programs for several nodes on nodes of ours (test/cluster/ocfs2_test_run.ts). OCFS2TEST_DIR names its checkout.
//   OCFS2TEST_DIR=… node scripts/ocfs2_test.mjs --nodes 3
// Ends with 0 when all passed, and fsck.ocfs2 finds nothing afterwards.
import { commandLine, Progress } from "../test/support/command_line.mjs";
import { loadTs, report } from "../test/support/run_ts.mjs";

const o = commandLine(
  "OCFS2TEST_DIR=CHECKOUT node scripts/ocfs2_test.mjs",
  "What OCFS2's makers test several nodes with, by a checkout of markfasheh/ocfs2-test.",
  {
    nodes: [2, "N", "nodes of ours, 2 to 4"],
    scale: [1, "F", "how much longer than by default"],
    only: ["", "PART", "only the tests with this in their command line"],
    timeout: [600, "S", "seconds that one test may take"],
  },
);
const suite = await loadTs("test/cluster/ocfs2_test_run.ts");
const why =
  suite.ocfs2TestUnavailable() ?? (o.nodes < 2 || o.nodes > 4 ? `--nodes ${o.nodes}: it must be 2 to 4` : undefined);
if (why !== undefined) {
  console.error(`ocfs2-test: ${why}`);
  process.exit(2);
}
const started = Date.now();
const bar = new Progress(suite.SUITE.length, "tests");
const result = await suite.runOcfs2Test(suite.buildOcfs2Test(), {
  ...{ nodes: o.nodes, scale: o.scale, only: o.only, timeout_s: o.timeout },
  onTest: (done, name) => bar.at(done, name),
});
bar.clear();
for (const t of result.tests)
  console.log(
    `${t.failure === "" ? "passed" : "FAILED"} ${t.seconds.toFixed(1).padStart(6)} s  ${t.name}${t.failure === "" ? "" : `: ${t.failure}`}`,
  );
for (const line of result.findings) console.log(`fsck.ocfs2: ${line}`);
const failed = result.tests.filter((t) => t.failure !== "").length;
const seconds = Math.round((Date.now() - started) / 1000);
console.log(
  `${result.tests.length - failed} of ${result.tests.length} on ${o.nodes} nodes, ${result.findings.length} findings of fsck.ocfs2, ${seconds} s`,
);
await report({ nodes: o.nodes, seconds, ...result });
process.exit(failed > 0 || result.findings.length > 0 || result.tests.length === 0 ? 1 : 0);
