#!/usr/bin/env node
/**
 * How steady the disk heartbeat is while JavaScript does its worst: every CPU burns in a worker, the main thread makes garbage in large
 * pieces and is stuck for a second at a time. Prints the longest time between two heartbeat writes and how long writes took.
 *
 *   node bench/heartbeat/run.mjs [--seconds 30] [--interval-ms 2000] [--file PATH]
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { loadTs, option } from "../../test/support/run_ts.mjs";

const seconds = option("seconds", 30);
const interval_ms = option("interval-ms", 2000);
const dir = mkdtempSync(join(tmpdir(), "ocfs2-hb-"));
const path = option("file", join(dir, "disk"));
const { DiskHeartbeat } = await loadTs("src/native/heartbeat.ts");

writeFileSync(path, "");
truncateSync(path, 255 * 512);
const burn =
  "for (let x = 0;;) { const a = []; for (let i = 0; i < 1e5; i++) a.push({ i, s: String(i) }); x += a.length; }";
const workers = Array.from({ length: availableParallelism() }, () => new Worker(burn, { eval: true }));

const beats = [];
const hb = new DiskHeartbeat(
  {
    ...{ path, offset_bytes: 0, slot_bytes: 512, node: 1, generation: 1n, dead_ms: 14_000, interval_ms },
    ...{ lease_ms: 7000, fence_ms: 12_000, lease: 0, global: false, first: 0, last: 254 },
  },
  (beat) => beats.push(beat),
  () => {
    const written = beats.slice(2);
    const gaps = written.map((b, i) => b.submit_ms - beats[i + 1].submit_ms).sort((a, b) => a - b);
    const writes = written.map((b) => b.complete_ms - b.submit_ms).sort((a, b) => a - b);
    const line = (what, all) =>
      console.log(`${what}: median ${all[all.length >> 1].toFixed(1)} ms, longest ${all.at(-1).toFixed(1)} ms`);
    console.log(
      `${written.length} beats of ${interval_ms} ms, ${workers.length} burning workers, main thread stuck for 1 s at a time`,
    );
    line("between two writes", gaps);
    line("a write", writes);
    console.log(`samples lost: ${beats.at(-1).lost}`);
    rmSync(dir, { recursive: true, force: true });
    process.exit(0);
  },
);

const end = Date.now() + seconds * 1000;
let kept = [];
(function stuck() {
  for (const until = Date.now() + 1000; Date.now() < until; ) {
    kept.push(new Array(1000).fill(until));
    if (kept.length > 20_000) kept = [];
  }
  if (Date.now() >= end) hb.stop(true);
  setTimeout(stuck, 5);
})();
