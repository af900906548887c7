#!/usr/bin/env node
// How long after its lease a node's last write still reaches the device: node bench/fence/run.mjs [--trials 300] [--json FILE]. Takes root.
import { loadTs, option, report } from "../../test/support/run_ts.mjs";

const trials = option("trials", 300);
const { measure } = await loadTs("bench/fence/window.ts");
const results = [];
for (const load of [false, true])
  for (const depth of [1, 32, 256]) {
    const r = await measure(trials, depth, load);
    const sorted = r.late_ms.toSorted((a, b) => a - b);
    const at = (p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))].toFixed(2);
    console.log(
      `${depth} writes under way${load ? ", every CPU burning" : ""}: the last one comes ${at(0.5)} ms after the lease (median), ${at(0.99)} (99 %), ${at(1)} (longest of ${trials})`,
    );
    results.push({ depth, load, ...r });
  }
await report(results);
process.exit(0);
