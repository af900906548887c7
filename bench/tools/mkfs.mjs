// How long `ocfs2 mkfs` takes beside Debian's mkfs.ocfs2, on the same sparse files in the same folder, by turns: the least and the
// median of wall times, and their ratio (below 1: ours is faster). Both end with the volume on the disk.
//
//   node bench/tools/mkfs.mjs [--runs 5] [--dir FOLDER] [--json FILE]
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    dir: { type: "string", default: tmpdir() },
    json: { type: "string" },
  },
});
const runs = Number(values.runs);
const ocfs2 = fileURLToPath(new URL("../../bin/ocfs2", import.meta.url));

const MIB = 2 ** 20;
const CASES = [
  ["64 MiB, local", 64 * MIB, ["-M", "local"]],
  ["1 GiB, local", 1024 * MIB, ["-M", "local"]],
  ["1 GiB, metaecc, 4 slots", 1024 * MIB, ["-N", "4", "--fs-features=metaecc"]],
  ["20 GiB, 8 slots", 20 * 1024 * MIB, ["-N", "8"]],
  ["100 GiB, 8 slots", 100 * 1024 * MIB, ["-N", "8"]],
  ["1 TiB, 2 slots, metaecc", 2 ** 40, ["-N", "2", "--fs-features=metaecc"]],
  ["4 TiB, 2 slots", 2 ** 42, ["-N", "2"]],
];

const dir = mkdtempSync(join(values.dir, "ocfs2-bench-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

function time(argv, size) {
  const image = join(dir, "image");
  const fd = openSync(image, "w");
  ftruncateSync(fd, size);
  closeSync(fd);
  const start = performance.now();
  const ran = spawnSync(argv[0], [...argv.slice(1), image], { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
  const ms = performance.now() - start;
  if (ran.error) throw ran.error;
  if (ran.status !== 0) throw new Error(`${argv.join(" ")}: ${ran.stderr}`);
  const bytes = statSync(image).blocks * 512;
  rmSync(image);
  return { ms, bytes };
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

const rows = [];
time([ocfs2, "mkfs", "-q"], 64 * MIB); // builds what is stale
// An installed package does not look whether it must.
process.env.OCFS2_NO_BUILD = "1";
for (const [name, size, args] of CASES) {
  const ours = [];
  const theirs = [];
  for (let i = 0; i < runs; i++) {
    ours.push(time([ocfs2, "mkfs", "-q", ...args], size));
    theirs.push(time(["mkfs.ocfs2", "-q", ...args], size));
  }
  const ms = (list) => list.map((x) => x.ms);
  const row = {
    name,
    ours_ms: Math.min(...ms(ours)),
    theirs_ms: Math.min(...ms(theirs)),
    ours_median_ms: median(ms(ours)),
    theirs_median_ms: median(ms(theirs)),
    ours_bytes: ours[0].bytes,
    theirs_bytes: theirs[0].bytes,
  };
  row.ratio = row.ours_ms / row.theirs_ms;
  row.median_ratio = row.ours_median_ms / row.theirs_median_ms;
  rows.push(row);
  const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;
  console.log(
    `${name.padEnd(26)} ours ${row.ours_ms.toFixed(0).padStart(6)} ms (median ${row.ours_median_ms.toFixed(0)})` +
      `  mkfs.ocfs2 ${row.theirs_ms.toFixed(0).padStart(6)} ms (median ${row.theirs_median_ms.toFixed(0)})` +
      `  ratio ${row.ratio.toFixed(2)} (median ${row.median_ratio.toFixed(2)})  ${mib(row.ours_bytes)} : ${mib(row.theirs_bytes)}`,
  );
}
if (values.json) writeFileSync(values.json, `${JSON.stringify({ runs, rows }, null, 2)}\n`);
