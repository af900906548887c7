#!/usr/bin/env node
/** node bench/lock/local.mjs [--count 1000000]: nanoseconds, bytes and pauses of local lock resources. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { count: { type: "string", default: "1000000" } } });
const root = new URL("../..", import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), "lock-bench-"));
const out = join(dir, "local_locks.mjs");
try {
  execFileSync(
    join(root, "node_modules/.bin/esbuild"),
    [
      join(root, "bench/lock/local_locks.ts"),
      "--bundle",
      "--platform=node",
      "--format=esm",
      `--outfile=${out}`,
      "--log-level=error",
    ],
    { stdio: "inherit" },
  );
  execFileSync(process.execPath, ["--expose-gc", "--max-old-space-size=4096", out, values.count], { stdio: "inherit" });
} finally {
  rmSync(dir, { recursive: true, force: true });
}
