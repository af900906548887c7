#!/usr/bin/env node
// Extents per file after parallel appends: the allocator's reservations have to keep writers apart. Four writers of 1 GiB each by default,
// on a fresh volume in a sparse file; once with large writes, once with small ones.
//   node bench/mount/extents.mjs [--writers 4] [--mib 1024] [--dir FOLDER] [--mkfs "ARGS"] [--json FILE]      (root)
import { spawn, spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { option, report } from "../../test/support/run_ts.mjs";

const ocfs2 = fileURLToPath(new URL("../../bin/ocfs2", import.meta.url));
const writers = option("writers", 4);
const mib = option("mib", 1024);
const dir = mkdtempSync(join(option("dir", tmpdir()), "ocfs2-extents-"));
const image = join(dir, "image");
const mnt = join(dir, "mnt");

function run(argv) {
  const ran = spawnSync(argv[0], argv.slice(1), { encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`${argv.join(" ")}: ${ran.stderr}`);
  return ran.stdout;
}
const cli = (...args) => run([process.execPath, ocfs2, ...args]);

/** What a program does that appends: dd does not know how long the file will be. */
const append = (path, bytes) =>
  new Promise((ok, no) => {
    const count = String((mib << 20) / bytes);
    const dd = spawn(
      "dd",
      ["if=/dev/zero", `of=${path}`, `bs=${bytes}`, `count=${count}`, "oflag=append", "conv=notrunc,fsync"],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let said = "";
    dd.stderr.on("data", (text) => (said += text));
    dd.on("close", (status) => (status === 0 ? ok() : no(new Error(said))));
  });

const results = [];
let mounted = false;
try {
  mkdirSync(mnt);
  for (const bytes of [1 << 20, 1 << 16, 1 << 12]) {
    const fd = openSync(image, "w");
    ftruncateSync(fd, (writers * mib * 2 + 2048) * 2 ** 20);
    closeSync(fd);
    const args = option("mkfs", "");
    cli("mkfs", "-q", "-F", "-M", "local", ...(args === "" ? [] : args.split(" ")), image);
    cli("mount", image, mnt);
    mounted = true;
    const began = performance.now();
    await Promise.all(Array.from({ length: writers }, (_, i) => append(join(mnt, `file${i}`), bytes)));
    const seconds = (performance.now() - began) / 1000;
    cli("umount", mnt);
    mounted = false;
    const extents = Array.from({ length: writers }, (_, i) =>
      Number(/extents: (\d+)/.exec(cli("debugfs", "-R", `frag /file${i}`, image))[1]),
    );
    const mib_per_s = Math.round((writers * mib) / seconds);
    results.push({ write_bytes: bytes, extents, mib_per_s });
    console.log(
      `${writers} writers of ${mib} MiB, ${bytes / 1024} KiB a write: ${extents.join(", ")} extents; ${mib_per_s} MiB/s together`,
    );
  }
  await report({ writers, mib, results });
} finally {
  if (mounted) spawnSync(process.execPath, [ocfs2, "umount", "-l", mnt]);
  rmSync(dir, { recursive: true, force: true });
}
