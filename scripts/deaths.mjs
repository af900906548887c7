#!/usr/bin/env node
/**
 * Deaths in a cluster, over and over: nodes of ours and a kernel node killed with -9 while the others work (test/cluster/deaths.test.ts), a
 * node that is stopped and goes on, a network that is cut. Each round ends with fsck.ocfs2.
 *
 * Options: --times N (default 10).
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values } = parseArgs({ options: { times: { type: "string", default: "10" } } });
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
let failed = 0;
for (let n = 1; n <= Number(values.times); n++) {
  const ran = spawnSync(
    process.execPath,
    [vitest, "run", "test/cluster/deaths.test.ts", "test/cluster/stopped.test.ts"],
    {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, OCFS2_LONG: "1", OCFS2_LONG_TESTS: "1" },
      encoding: "utf8",
    },
  );
  if (ran.status !== 0) {
    failed++;
    process.stdout.write(`${ran.stdout}${ran.stderr}`);
  }
  console.log(`round ${n}: ${ran.status === 0 ? "all survived" : "FAILED"}`);
}
console.log(`${values.times} rounds, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
