#!/usr/bin/env node
/**
 * What crossing into the addon costs: ns a call of what the volume thread calls often, checksums, and 4 KiB random reads at depth 32
 * through Ring beside fio's io_uring engine on the same file.
 *
 *     node bench/kernels/native_call.mjs [file or device to read; without one a file of 512 MiB is made]
 *
 * Reads only, apart from the file that it makes. Runs of ours and of fio take turns: trust the ratio.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));
const bundle = join(root, ".cache", "bench", "native.mjs");
await build({
  entryPoints: [join(root, "src/native/index.ts")],
  outfile: bundle,
  bundle: true,
  platform: "node",
  format: "esm",
  logLevel: "error",
});
const native = await import(bundle);

const PAGE = 4096;
const DEPTH = 32;
const RUN_MS = 3000;
const ROUNDS = 3;

const u8 = new Uint8Array(new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true }).buffer);
const arena = native.registerArena(u8);

/** ns a call: the best of five runs. */
function ns(calls, run) {
  run(calls >> 2);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const begin = native.monotonicNs();
    run(calls);
    best = Math.min(best, (native.monotonicNs() - begin) / calls);
  }
  return best;
}

const row = (what, value, unit) => console.log(`${what.padEnd(58)}${value.padStart(10)} ${unit}`);

function each(f) {
  return (n) => {
    for (let i = 0; i < n; i++) f();
  };
}

const empty = native.eventfdCreate();
const zero = native.openFile("/dev/zero", native.O.RDONLY, 0);
const lease = native.leaseAlloc();
native.leaseSet(lease, Number.POSITIVE_INFINITY);
const ring = new native.Ring(64, u8, lease);

/** `n` reads of /dev/zero in submissions of 64: what a queued operation costs with everything that belongs to it. */
function zeroReads(n) {
  for (let i = 0; i < n; i += 64) {
    for (let j = 0; j < 64; j++) ring.read(zero, j * PAGE, 8, 0, j);
    ring.submitAndWait(64);
    ring.reap();
  }
}

row("leaseClockMs()", ns(2e6, each(native.leaseClockMs)).toFixed(0), "ns");
row(
  "leaseSet(lease, deadline)",
  ns(
    2e6,
    each(() => native.leaseSet(lease, 1e12)),
  ).toFixed(0),
  "ns",
);
row(
  "ring.reap(), nothing there",
  ns(
    2e6,
    each(() => ring.reap()),
  ).toFixed(0),
  "ns",
);
row(
  "ring.submit(), nothing queued",
  ns(
    2e6,
    each(() => ring.submit()),
  ).toFixed(0),
  "ns",
);
row(
  "fuseRead(), nothing there (a read(2) that answers EAGAIN)",
  ns(
    1e6,
    each(() => native.fuseRead(arena, empty, 0, 8)),
  ).toFixed(0),
  "ns",
);
row(
  "fuseReplyAndRead(), bad descriptor (two checks, one syscall)",
  ns(
    1e6,
    each(() => native.fuseReplyAndRead(arena, -1, 0, 16, PAGE, PAGE)),
  ).toFixed(0),
  "ns",
);
row("ring: read of /dev/zero, 64 a submission", ns(640_000, zeroReads).toFixed(0), "ns each");
for (const [name, crc] of [
  ["crc32Le", native.crc32Le],
  ["crc32c", native.crc32c],
]) {
  const perBlock = ns(
    2e5,
    each(() => crc(arena, 0, PAGE, 0)),
  );
  row(`${name} of 4 KiB`, (PAGE / perBlock).toFixed(1), `GB/s (${perBlock.toFixed(0)} ns)`);
}
ring.close();

/** IOPS of random 4 KiB reads, DEPTH in flight. */
function randomReads(fd, size) {
  const reads = new native.Ring(64, u8);
  const blocks = Math.floor(size / PAGE);
  let seed = 1;
  const next = (slot) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    reads.read(fd, slot * PAGE, PAGE, (seed % blocks) * PAGE, slot);
  };
  for (let slot = 0; slot < DEPTH; slot++) next(slot);
  const begin = native.monotonicNs();
  let done = 0;
  while (native.monotonicNs() - begin < RUN_MS * 1e6) {
    reads.submitAndWait(1);
    const n = reads.reap();
    for (let i = 0; i < n; i++) {
      if (reads.cq[2 * i + 1] !== PAGE) throw new Error(`read answered ${reads.cq[2 * i + 1]}`);
      next(reads.cq[2 * i]);
    }
    done += n;
  }
  const iops = (done / (native.monotonicNs() - begin)) * 1e9;
  reads.close();
  return iops;
}

function fioReads(path) {
  const args = `--name=x --filename=${path} --readonly --rw=randread --bs=4k --direct=1 --ioengine=io_uring --iodepth=${DEPTH} --time_based --runtime=${RUN_MS}ms --output-format=json`;
  const r = spawnSync("fio", args.split(" "), { encoding: "utf8" });
  return r.status === 0 ? JSON.parse(r.stdout.slice(r.stdout.indexOf("{"))).jobs[0].read.iops : undefined;
}

const dir = mkdtempSync(join(tmpdir(), "ocfs2-bench-"));
try {
  let path = process.argv[2];
  if (path === undefined) {
    path = join(dir, "data");
    const fd = native.openFile(path, native.O.RDWR | native.O.CREAT, 0o600);
    // Written, not only allocated: unwritten extents are read without the disk.
    for (let at = 0; at < 512 << 20; at += u8.length) native.pwriteSync(arena, fd, 0, u8.length, at);
    native.fdatasyncSync(fd);
    native.closeFd(fd);
  }
  const fd = native.openFile(path, native.O.RDONLY | native.O.DIRECT, 0);
  if (fd < 0) throw new Error(`${path} cannot be opened with O_DIRECT: errno ${-fd}`);
  for (let round = 0; round < ROUNDS; round++) {
    const ours = randomReads(fd, native.fdSize(fd));
    const fio = fioReads(path);
    const ratio = fio === undefined ? "(no fio)" : `IOPS; fio ${fio.toFixed(0)}; ratio ${(ours / fio).toFixed(2)}`;
    row(`4 KiB random reads, depth ${DEPTH}`, ours.toFixed(0), ratio);
  }
  native.closeFd(fd);
} finally {
  rmSync(dir, { recursive: true });
}
