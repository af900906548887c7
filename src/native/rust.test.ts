/** The addon's own tests (`cargo test`): what has no face in JavaScript. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

test.each([
  [
    "the lease clock goes on where CLOCK_BOOTTIME stands still, and is nothing else where that does not",
    "lease_clock",
    5,
  ],
  ["what a connection holds is what its peer has not read, and not what it has", "net_conn", 1],
  ["a ring ends at once also before Linux 5.19, where not all can be cancelled together", "ring", 1],
])("%s", { timeout: 180_000 }, (_, module, count) => {
  const cargo = spawnSync("cargo", ["test", "--release", "--locked", "--lib", module], {
    cwd: join(import.meta.dirname, "../../native"),
    encoding: "utf8",
  });
  expect(cargo.stdout, cargo.stderr).toContain(`test result: ok. ${count} passed; 0 failed`);
});
