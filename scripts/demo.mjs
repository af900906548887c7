#!/usr/bin/env node
/**
 * `npm run demo`: real work on a volume of ours. Makes an OCFS2 volume in a sparse file with our own mkfs, mounts it, clones
 * this repository into it, installs and builds it there, loads it with direct I/O, unmounts, and has fsck.ocfs2 judge it. As
 * root the same work runs on ext4 in a loop device, for the table at the end. Nothing is left behind, also after Ctrl-C.
 *
 * As root it then brings up a cluster on this machine (demo_cluster.mjs).
 *
 * `--help` has the options. `--mount-options lockdomain=random:1 --no-ext4 --nodes 0`: the build with every lock called off at random.
 */
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { clusterDemo } from "./demo_cluster.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const ocfs2 = [process.execPath, join(root, "bin", "ocfs2")];
const { values: options } = parseArgs({
  options: {
    size: { type: "string", default: "6144" },
    "no-ext4": { type: "boolean", default: false },
    nodes: { type: "string", default: "2" },
    "only-cluster": { type: "boolean", default: false },
    "mount-options": { type: "string" },
    keep: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(
    `usage: npm run demo -- [OPTIONS]
Builds this repository on a volume of its own making, and on N nodes that share one.

  --size MIB               size of the volumes (6144)
  --mount-options OPTIONS  as of mount -o, for the volume of one node; lockdomain=random:SEED calls every lock off at random
  --no-ext4                not the same on ext4 and ext3
  --nodes N                nodes of the cluster (2); 0: no cluster
  --only-cluster           the cluster alone
  --keep                   leave the images for a look`,
  );
  process.exit(0);
}

const is_root = process.getuid?.() === 0;
const have = (tool) =>
  spawnSync("sh", ["-c", `PATH=$PATH:/usr/sbin:/sbin; command -v ${tool}`], { stdio: "ignore" }).status === 0;
const work = realpathSync(mkdtempSync(join(tmpdir(), "ocfs2-demo-")));
/** What must be undone, last first. */
const undo = [];
const children = new Set();
let stopped = null;

const isMounted = (dir) =>
  readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[1] === dir);

/** Takes a mount away, gently and then by force. In a process group of its own, which Ctrl-C does not reach. */
function unmount(dir, argv) {
  if (isMounted(dir)) spawnSync(argv[0], argv.slice(1), { stdio: "inherit", detached: true });
  if (isMounted(dir)) spawnSync("umount", ["-l", dir], { stdio: "inherit", detached: true });
}

function cleanUp() {
  while (undo.length > 0) {
    const step = undo.pop();
    try {
      step();
    } catch (err) {
      console.error(`demo: ${err.message}`);
    }
  }
  if (options.keep) console.log(`kept: ${work}`);
  else if (readFileSync("/proc/self/mounts", "utf8").includes(`${work}/`))
    console.error(`demo: ${work} is still in use`);
  else rmSync(work, { recursive: true, force: true });
}

function endChildren(how) {
  for (const child of children) if (!child.uninterrupted) process.kill(-child.pid, how);
}

/** What ran beside what has failed or was stopped: it works on the mounts, or is about to make one. */
async function lastChildren() {
  if (stopped === null) endChildren("SIGTERM");
  await Promise.all([...children].map((child) => new Promise((ok) => child.once("close", ok))));
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    // Who asks twice means it.
    const how = stopped === null ? "SIGTERM" : "SIGKILL";
    stopped = signal;
    endChildren(how);
  });
}

class StepFailed extends Error {}

/** A command that is short, and that must not be left half done: mount and umount. */
const toItsEnd = { uninterrupted: true };

/** Runs a command in a process group of its own; its output goes to a log that is shown when it fails. */
function run(argv, cwd, env = {}, how = {}) {
  if (stopped !== null) throw new StepFailed(`stopped by ${stopped}`);
  const log = join(work, "log");
  return new Promise((resolve, reject) => {
    const output = [];
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    child.uninterrupted = how.uninterrupted === true;
    children.add(child);
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => output.push(data));
    child.on("error", (err) => children.delete(child) && reject(new StepFailed(`${argv[0]}: ${err.message}`)));
    child.on("close", (code, signal) => {
      children.delete(child);
      const text = Buffer.concat(output).toString();
      writeFileSync(log, text);
      if (stopped !== null) reject(new StepFailed(`stopped by ${stopped}`));
      else if (code === 0) resolve(text);
      else
        reject(
          new StepFailed(`${argv.join(" ")} ended with ${signal ?? code}:\n${text.split("\n").slice(-25).join("\n")}`),
        );
    });
  });
}

const tty = process.stderr.isTTY === true;
/** Times a step and shows that it runs. */
async function timed(label, work_fn) {
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const tick = tty
    ? setInterval(() => process.stderr.write(`\r  ${label} … ${seconds().toFixed(0)} s `), 500)
    : undefined;
  if (!tty) process.stderr.write(`  ${label}\n`);
  try {
    await work_fn();
  } finally {
    clearInterval(tick);
    if (tty) process.stderr.write(`\r\x1b[K`);
  }
  const s = seconds();
  if (tty) process.stderr.write(`  ${label}: ${s.toFixed(1)} s\n`);
  return s;
}

const jobs = String(availableParallelism());
const cargo_env = { CARGO_BUILD_JOBS: jobs, CARGO_NET_RETRY: "5" };

/** The work, the same on every file system; each row is [label, seconds]. */
async function workload(dir) {
  const rows = [];
  const step = async (label, fn) => rows.push([label, await timed(label, fn)]);
  const repo = join(dir, "ocfs2");
  await step("git clone", () => run(["git", "clone", "-q", "--no-hardlinks", root, repo]));
  const install = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  await step("npm install", () => run(install, repo));
  await step(`native, wasm and bundles, ${jobs} jobs`, async () => {
    const script =
      "node scripts/build_native.mjs & native=$!; node scripts/build_asm.mjs & asm=$!; " +
      "wait $native && wait $asm && node scripts/build.mjs";
    await run(["bash", "-c", script], repo, cargo_env);
    for (const made of ["native/ocfs2.node", "dist/ocfs2.wasm", "dist/cli_help.cjs"])
      if (!existsSync(join(repo, made))) throw new StepFailed(`the build left no ${made}`);
  });
  await step("tsc", () => run(["npx", "tsc", "-p", "."], repo));
  await step("git status, grep", async () => {
    const changed = await run(["git", "status", "--porcelain"], repo);
    if (changed.trim() !== "") throw new StepFailed(`the build changed tracked files:\n${changed}`);
    await run(["grep", "-rq", "ocfs2_dinode", "src"], repo);
  });
  if (have("fio")) {
    const file = join(dir, "fio.dat");
    const fio = ["fio", "--output-format=json", "--name=demo", `--filename=${file}`, "--size=256M", "--direct=1"];
    await step("fio, direct: write 256 MiB", () =>
      run([...fio, "--rw=write", "--bs=1M", "--ioengine=libaio", "--iodepth=8", "--verify=crc32c", "--do_verify=1"]),
    );
    const out = await run([
      ...fio,
      ..."--rw=randrw --bs=4k --ioengine=libaio --iodepth=32 --runtime=5 --time_based".split(" "),
    ]);
    const job = JSON.parse(out.slice(out.indexOf("{"))).jobs[0];
    rows.push(["fio, direct: random 4 KiB, IOPS", Math.round(job.read.iops + job.write.iops), "iops"]);
  }
  await step("rm -r", () => run(["rm", "-r", repo]));
  return rows;
}

function sparse(path) {
  writeFileSync(path, "");
  truncateSync(path, Number(options.size) * 2 ** 20);
}

async function onOcfs2() {
  const image = join(work, "ocfs2.img");
  const dir = join(work, "ocfs2");
  sparse(image);
  mkdirSync(dir);
  const rows = [];
  rows.push(["mkfs", await timed("mkfs", () => run([...ocfs2, "mkfs", "-q", "-M", "local", image]))]);
  undo.push(() => unmount(dir, [...ocfs2, "umount", dir]));
  const o = options["mount-options"] === undefined ? [] : ["-o", options["mount-options"]];
  const mount = [...ocfs2, "mount", ...o, image, dir];
  rows.push(["mount", await timed("mount", () => run(mount, undefined, {}, toItsEnd))]);
  rows.push(...(await workload(dir)));
  const umount = [...ocfs2, "umount", dir];
  rows.push(["umount", await timed("umount", () => run(umount, undefined, {}, toItsEnd))]);
  await fsck(image);
  rmSync(image);
  return rows;
}

async function fsck(image) {
  if (!have("fsck.ocfs2")) {
    console.log("fsck.ocfs2 is not installed: the volume was not judged");
    return;
  }
  const out = await run(["sh", "-c", `PATH=$PATH:/usr/sbin:/sbin; exec fsck.ocfs2 -fn ${image}`]);
  const findings = out.split("\n").filter((line) => /^\[[A-Z0-9_]+\]/.test(line));
  if (findings.length > 0) throw new StepFailed(`fsck.ocfs2 found:\n${findings.join("\n")}`);
  console.log("fsck.ocfs2 -fn: clean");
}

async function onExt4() {
  const image = join(work, "ext4.img");
  const dir = join(work, "ext4");
  sparse(image);
  mkdirSync(dir);
  const rows = [["mkfs", await timed("mkfs", () => run(["mkfs.ext4", "-q", "-F", image]))]];
  undo.push(() => unmount(dir, ["umount", dir]));
  const mount = ["mount", "-o", "loop", image, dir];
  rows.push(["mount", await timed("mount", () => run(mount, undefined, {}, toItsEnd))]);
  rows.push(...(await workload(dir)));
  rows.push(["umount", await timed("umount", () => run(["umount", dir], undefined, {}, toItsEnd))]);
  rmSync(image);
  return rows;
}

function table(ours, theirs, name = "ext4") {
  const other = new Map(theirs ?? []);
  const show = (v, unit) => (v === undefined ? "" : unit === "iops" ? String(v) : v.toFixed(2));
  const lines = [["", "ocfs2 (s)", theirs === null ? "" : `${name} (s)`, theirs === null ? "" : "ratio"]];
  for (const [label, value, unit] of ours) {
    const o = other.get(label);
    lines.push([label, show(value, unit), show(o, unit), o === undefined ? "" : (value / o).toFixed(2)]);
  }
  const widths = [0, 1, 2, 3].map((i) => Math.max(...lines.map((l) => l[i].length)));
  for (const l of lines)
    console.log(l.map((c, i) => (i === 0 ? c.padEnd(widths[0]) : c.padStart(widths[i]))).join("  "));
}

const knows = (fs) => readFileSync("/proc/filesystems", "utf8").includes(fs);

async function local() {
  console.error("On OCFS2, through our mount:");
  const ours = await onOcfs2();
  let theirs = null;
  if (is_root && !options["no-ext4"] && have("mkfs.ext4") && knows("ext4")) {
    console.error("The same on ext4 in a loop device:");
    theirs = await onExt4();
  }
  console.log(`\n${readFileSync(join(root, "package.json"), "utf8").match(/"version": "(.*?)"/)[1]}, ${jobs} CPUs`);
  table(ours, theirs);
}

async function cluster(nodes) {
  console.error(`\nA cluster of ${nodes} nodes on this machine, on one volume:`);
  const d = { run, timed, undo, unmount, sparse, fsck, work, root, ocfs2, toItsEnd, StepFailed };
  const beside = !options["no-ext4"] && have("mkfs.ext3") && (knows("ext3") || knows("ext4"));
  const rows = await clusterDemo(d, nodes, beside);
  console.log(`\n${nodes} nodes, ${jobs} CPUs`);
  const theirs = rows.filter(([, , other]) => other !== undefined).map(([label, , other]) => [label, other]);
  table(
    rows.map(([label, value]) => [label, value]),
    beside ? theirs : null,
    "ext3",
  );
}

try {
  const nodes = Number(options.nodes);
  if (!options["only-cluster"]) await local();
  if (nodes > 0 && is_root) await cluster(nodes);
  else if (nodes > 0) console.log("the cluster's nodes are mounted by root: not shown");
} catch (err) {
  if (!(err instanceof StepFailed)) throw err;
  console.error(`demo: ${err.message}`);
  process.exitCode = stopped === null ? 1 : 130;
} finally {
  await lastChildren();
  cleanUp();
}
