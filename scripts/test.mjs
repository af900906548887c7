#!/usr/bin/env node
/**
 * `npm test`: runs vitest with the arguments given and closes with one line that counts, "N passed, N failed, N skipped".
 * What has no test of its own but went wrong (a file that does not load, an error nobody caught, a run that ended
 * early) counts as failed; a run in which nothing passed is a failure too.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "ocfs2-npm-test-"));
const counts_file = join(dir, "counts.json");

const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const args = ["run", "--reporter=default", `--reporter=${join(root, "scripts", "test_reporter.mjs")}`];
const child = spawn(process.execPath, [vitest, ...args, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, OCFS2_TEST_COUNTS: counts_file },
  // A group of its own: a worker that turns for ever hears nothing, and must not outlive the run.
  detached: true,
});
const signalGroup = (signal) => {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // All of it has ended.
  }
};
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => signalGroup(signal));

child.on("close", (code, signal) => {
  signalGroup("SIGKILL");
  let counts;
  try {
    counts = JSON.parse(readFileSync(counts_file, "utf8"));
  } catch {
    counts = { passed: 0, failed: 1, skipped: 0 };
    console.error(`vitest ended early (${signal ?? code})`);
  }
  rmSync(dir, { recursive: true, force: true });
  if (code !== 0 && counts.failed === 0) counts.failed = 1;
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
  console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
  process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
});
