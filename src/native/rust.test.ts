/** The addon's own tests (`cargo test`): what has no face in JavaScript. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

test("the lease clock goes on where CLOCK_BOOTTIME stands still, and is nothing else where that does not", {
  timeout: 180_000,
}, () => {
  const cargo = spawnSync("cargo", ["test", "--release", "--locked", "--lib", "lease_clock"], {
    cwd: join(import.meta.dirname, "../../native"),
    encoding: "utf8",
  });
  expect(cargo.stdout, cargo.stderr).toMatch(/test result: ok\. 5 passed; 0 failed/);
});
