#!/usr/bin/env node
/**
 * Simulated clusters (docs/SIMULATION.md): each seed is one history of 2 to 8 whole nodes over a simulated disk, network and clock, with faults.
 *   npm run sim -- --seeds 1000 [--seed FIRST] [--jobs N] [--steps N] [--nodes N] [--faults N] [--sabotage RULE,…] [--kernel] [--more disks,…] [--json FILE]
 *   npm run sim -- --seed N --trace      one seed again, with its history
 */
import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { flag, loadTs, option, progress, report } from "../test/support/run_ts.mjs";

/** More of a CPU than any seed takes; what takes more turns for ever. On a loaded machine, or one that stood still, that is long. */
const SEED_CPU_S = 300;
/** It waits for something that does not come. */
const SEED_S = 3600;
/** More than there are CPUs: half of a seed's time fsck.ocfs2 sleeps (in io_destroy(2), eleven times 40 ms). */
const JOBS = 2 * availableParallelism();

const more = {};
for (const name of ["steps", "nodes", "faults"]) if (process.argv.includes(`--${name}`)) more[name] = option(name, 0);
const sabotage = option("sabotage", "");
if (sabotage !== "") more.sabotage = sabotage.split(",");
if (flag("kernel")) more.kernel = true;
const wide = option("more", "");
if (wide !== "") Object.assign(more, { kernel: true, more: wide.split(",") });
if (flag("trace")) more.trace = true;

/** Runs the seeds that it is given, one after the other. */
async function child() {
  const { wholeRun } = await loadTs("test/sim/whole/run.ts");
  process.on("message", (seed) => {
    const r = wholeRun({ seed, ...more });
    // Nobody may be left to hear it.
    process.send({ ...r, trace: flag("trace") ? r.trace : [] }, () => {});
  });
  process.on("disconnect", () => process.exit(0));
  process.send("ready");
}

function add(total, counts) {
  for (const [key, value] of Object.entries(counts)) {
    if (typeof value === "number") total[key] = (total[key] ?? 0) + value;
    else if (typeof value === "object" && !Array.isArray(value)) add((total[key] ??= {}), value);
  }
}

const again = (seed) => {
  const words = process.argv.slice(2);
  for (const name of ["seed", "seeds", "jobs", "json"]) {
    const at = words.indexOf(`--${name}`);
    if (at >= 0) words.splice(at, 2);
  }
  return ["npm run sim -- --seed", seed, ...words.filter((w) => w !== "--trace"), "--trace"].join(" ");
};

/** Seconds of CPU that a process has used: utime and stime of proc(5), in hundredths. */
function cpuOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13);
  return (Number(utime) + Number(stime)) / 100;
}

/** Ends a runner whose seed does not end. */
function watch(runner) {
  const [began_s, began_cpu_s] = [performance.now() / 1000, cpuOf(runner.pid)];
  return setInterval(() => {
    if (cpuOf(runner.pid) - began_cpu_s > SEED_CPU_S || performance.now() / 1000 - began_s > SEED_S)
      runner.kill("SIGKILL");
  }, 5000);
}

async function parent() {
  const first = option("seed", 1);
  const seeds = option("seeds", flag("trace") ? 1 : 100);
  const started = Date.now();
  const failures = [];
  const total = {};
  let [next, over] = [first, 0];
  const say = () => {
    const line = `${over} of ${seeds} seeds, ${failures.length} failures`;
    progress(line);
    if (!process.stderr.isTTY && over % 100 === 0)
      console.log(`${line}, ${Math.round((Date.now() - started) / 1000)} s`);
  };
  const failed = (seed, problem, hash) => {
    failures.push({ seed, problem, hash });
    progress("");
    console.log(`FAILED: ${again(seed)}`);
    console.log(`  ${problem.split("\n").slice(0, 12).join("\n  ")}`);
  };
  const finished = (r) => {
    over++;
    for (const line of r.trace) console.log(line);
    if (r.problem !== undefined) failed(r.seed, r.problem, r.hash);
    else if (seeds === 1) console.log(`seed ${r.seed}: ${r.ops} operations, ${r.events} events, history ${r.hash}`);
    const { seed: _, ...counts } = r;
    add(total, counts);
    say();
  };
  const work = () =>
    new Promise((resolve) => {
      const runner = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), "--child"]);
      let seed = null;
      let timer;
      runner.on("message", (r) => {
        clearInterval(timer);
        if (r !== "ready") finished(r);
        seed = null;
        if (next >= first + seeds) {
          runner.disconnect();
          return;
        }
        seed = next++;
        timer = watch(runner);
        runner.send(seed);
      });
      runner.on("exit", (code, signal) => {
        clearInterval(timer);
        if (seed !== null) {
          over++;
          failed(seed, `its process ended (${signal ?? code}): it turns for ever, or has no memory`, "");
        } else if (code !== 0) failed(0, `the simulation does not run (${signal ?? code})`, "");
        resolve(seed !== null);
      });
    });
  // Who dies over a seed is replaced.
  const worker = async () => {
    while (next < first + seeds && (await work()));
  };
  await Promise.all(Array.from({ length: Math.min(option("jobs", JOBS), seeds) }, worker));
  progress("");
  const seconds = (Date.now() - started) / 1000;
  const { faults = {}, ...counts } = total;
  const text = (of) =>
    Object.entries(of)
      .map(([key, n]) => `${n} ${key}`)
      .join(", ");
  console.log(`${seeds} seeds in ${seconds.toFixed(1)} s, ${failures.length} failures: ${text(counts)}`);
  if (Object.keys(faults).length > 0) console.log(`faults: ${text(faults)}`);
  await report({ first, seeds, seconds, ...total, failures });
  process.exit(failures.length > 0 ? 1 : 0);
}

if (flag("help"))
  console.log(
    "usage: npm run sim -- [--seeds N] [--seed FIRST] [--jobs N] [--steps N] [--nodes N] [--faults N] [--sabotage RULE,…] [--kernel] [--more disks,…] [--trace] [--json FILE]",
  );
else if (flag("child")) await child();
else await parent();
