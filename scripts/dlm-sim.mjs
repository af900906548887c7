#!/usr/bin/env node
/**
 * Histories of a lock domain, from seeds: node scripts/dlm-sim.mjs [--from 1] [--seeds 1000] [--delay 5] [--dead 2000]. Each seed is a cluster of two to eight nodes that
 * lock, die, leave and come back; a seed that fails is printed with what the referee saw, and runs again alone with --from SEED --seeds 1.
 * --delay: longest of a message, in ms; --dead: until a death is noticed. The nearer these two are, the more of what is under way a death meets: --delay 20 --dead 30.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    from: { type: "string", default: "1" },
    seeds: { type: "string", default: "1000" },
    delay: { type: "string", default: "5" },
    dead: { type: "string", default: "2000" },
  },
});
const dir = mkdtempSync(join(tmpdir(), "dlm-sim-"));
const root = new URL("..", import.meta.url).pathname;
writeFileSync(
  join(dir, "main.ts"),
  `
import { World } from ${JSON.stringify(join(root, "test/support/dlm_clients.ts"))};
import { mlogSet } from ${JSON.stringify(join(root, "src/lib/masklog.ts"))};
const [from, seeds, delay_ms, dead_ms] = process.argv.slice(2).map(Number);
mlogSet("NOTICE", "off");
const NAMES = ["M1L", "M2L", "M3L", "O1", "O2", "W1"];
const total = { seeds, failed: 0, messages: 0, grants: 0, refusals: 0, cancels: 0, lvbs_lost: 0 };
for (let seed = from; seed < from + seeds; seed++) {
  const world = new World({ seed, delay_ms, dead_ms });
  const names = NAMES.slice(0, 1 + seed % NAMES.length);
  try {
    if (seed % 3 === 0) world.play(2 + seed % 7, names, 10000, seed % 5);
    else world.churn(2 + seed % 7, names, 20000, seed % 3 === 1 ? 5000 : 0);
  } catch (err) {
    world.referee.fault(err.stack);
  }
  if (world.referee.faults.length > 0) {
    total.failed++;
    console.log("seed", seed, world.referee.faults.slice(0, 3));
  }
  total.messages += world.cluster.messages;
  for (const key of ["grants", "refusals", "cancels", "lvbs_lost"]) total[key] += world.referee[key];
}
console.log(total);
process.exitCode = total.failed > 0 ? 1 : 0;
`,
);
try {
  execFileSync(
    join(root, "node_modules/.bin/esbuild"),
    [
      join(dir, "main.ts"),
      "--bundle",
      "--platform=node",
      "--format=esm",
      `--outfile=${dir}/main.mjs`,
      "--log-level=error",
    ],
    { stdio: "inherit" },
  );
  execFileSync(
    process.execPath,
    ["--enable-source-maps", join(dir, "main.mjs"), values.from, values.seeds, values.delay, values.dead],
    {
      stdio: "inherit",
    },
  );
} catch (err) {
  process.exitCode = err.status ?? 1;
} finally {
  rmSync(dir, { recursive: true, force: true });
}
