/**
 * Real work on our mount, on ext4 in a loop device and on fuse2fs, all in image files in one folder, by turns: a tar unpacked, read,
 * searched, built and deleted, and fio. Absolute figures are this machine's; the ratios to ext4 in the same run are what counts.
 * Caches are dropped before what is to be cold. Each figure is the median of the rounds.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { missing, run, runAsync } from "../../test/support/sh.ts";
import { startTarget, type Target, type TargetOptions, targetUnavailable } from "../../test/support/targets.ts";
import { makeTree, type Tree } from "./tree.ts";

export interface MountBenchOptions {
  readonly targets: readonly string[];
  readonly rounds: number;
  readonly build: boolean;
  /** Seconds of each fio job; 0: no fio. */
  readonly fio_s: number;
  /** Where the images lie; a temporary folder by default. */
  readonly base?: string;
  readonly mountOptions?: string;
  readonly mkfs?: readonly string[];
  readonly only?: string;
  readonly onStep?: (what: string) => void;
}

/** One figure: of time, less is better; of rate, more. */
export interface Figure {
  readonly phase: string;
  readonly unit: "s" | "MB/s" | "IOPS";
  /** By target, of all rounds. */
  readonly samples: Record<string, number[]>;
}

export interface MountBench {
  readonly machine: Record<string, string>;
  readonly tree: { name: string; files: number; tar_bytes: number };
  readonly figures: Figure[];
  readonly notes: string[];
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

async function dropCaches(): Promise<void> {
  await run(["sync"]);
  writeFileSync("/proc/sys/vm/drop_caches", "3");
}

async function timed(argv: readonly string[], cwd?: string): Promise<number> {
  const began = performance.now();
  await run(argv, { ...(cwd === undefined ? {} : { cwd }), timeout_ms: 3_600_000 });
  return (performance.now() - began) / 1000;
}

interface FioJob {
  readonly phase: string;
  readonly args: readonly string[];
  readonly unit: "MB/s" | "IOPS";
  readonly cold?: boolean;
}

const FIO_SIZE = "512M";
const FIO_JOBS: readonly FioJob[] = [
  { phase: "fio: sequential write, buffered, 1 MiB", args: ["--rw=write", "--bs=1M", "--end_fsync=1"], unit: "MB/s" },
  { phase: "fio: sequential read, buffered, cold, 1 MiB", args: ["--rw=read", "--bs=1M"], unit: "MB/s", cold: true },
  {
    phase: "fio: sequential write, direct, 1 MiB, depth 8",
    args: ["--rw=write", "--bs=1M", "--direct=1", "--iodepth=8"],
    unit: "MB/s",
  },
  {
    phase: "fio: sequential read, direct, 1 MiB, depth 8",
    args: ["--rw=read", "--bs=1M", "--direct=1", "--iodepth=8"],
    unit: "MB/s",
  },
  {
    phase: "fio: random read, direct, 4 KiB, depth 32",
    args: ["--rw=randread", "--bs=4k", "--direct=1", "--iodepth=32"],
    unit: "IOPS",
  },
  {
    phase: "fio: random write, direct, 4 KiB, depth 32",
    args: ["--rw=randwrite", "--bs=4k", "--direct=1", "--iodepth=32"],
    unit: "IOPS",
  },
  { phase: "fio: random read, buffered, cold, 4 KiB", args: ["--rw=randread", "--bs=4k"], unit: "IOPS", cold: true },
  { phase: "fio: random write, buffered, 4 KiB", args: ["--rw=randwrite", "--bs=4k", "--end_fsync=1"], unit: "IOPS" },
  { phase: "fio: write and fdatasync, 4 KiB", args: ["--rw=write", "--bs=4k", "--fdatasync=1"], unit: "IOPS" },
];

interface FioOutput {
  readonly jobs: { read: { bw_bytes: number; iops: number }; write: { bw_bytes: number; iops: number } }[];
}

async function fio(file: string, job: FioJob, seconds: number): Promise<number> {
  const engine = job.args.some((a) => a.startsWith("--iodepth")) ? "libaio" : "psync";
  const common = [
    "--name=bench",
    `--filename=${file}`,
    `--size=${FIO_SIZE}`,
    `--ioengine=${engine}`,
    "--output-format=json",
  ];
  // Appending with a sync each is bounded by time; the rest covers the file at most once, or ends in time.
  const bound = [
    `--runtime=${seconds}`,
    ...(job.args.includes("--rw=randread") ? ["--time_based"] : []),
    "--randrepeat=1",
  ];
  const out = await run(["fio", ...common, ...bound, ...job.args], { timeout_ms: (seconds + 600) * 1000 });
  const { read, write } = (JSON.parse(out.slice(out.indexOf("{"))) as FioOutput).jobs[0]!;
  const side = job.args.some((a) => a.endsWith("read")) ? read : write;
  return job.unit === "IOPS" ? side.iops : side.bw_bytes / 1e6;
}

/** Runs the bench. A target that cannot be had is left out, and a phase that fails on one is noted. */
export async function runMountBench(options: MountBenchOptions): Promise<MountBench> {
  const step = options.onStep ?? (() => {});
  const notes: string[] = [];
  const names: string[] = [];
  for (const name of options.targets) {
    const why = targetUnavailable(name);
    if (why === undefined) names.push(name);
    else notes.push(`${name} is left out: ${why}`);
  }
  const wanted = (phase: string): boolean => options.only === undefined || phase.includes(options.only);
  const tree = makeTree(step);
  if (options.build && tree.build === undefined) notes.push(`nothing is built: ${tree.why_not}`);
  if (options.fio_s > 0 && missing("fio").length > 0) notes.push("fio is not installed");
  const figures = new Map<string, Figure>();
  const record = (phase: string, unit: Figure["unit"], target: string, value: number): void => {
    let figure = figures.get(phase);
    if (figure === undefined) {
      figure = { phase, unit, samples: {} };
      figures.set(phase, figure);
    }
    figure.samples[target] ??= [];
    figure.samples[target].push(value);
  };
  const targetOptions: TargetOptions = {
    size_mib: 6144,
    ...(options.base === undefined ? {} : { base: options.base }),
  };
  const oursOptions: TargetOptions = {
    ...targetOptions,
    ...(options.mountOptions === undefined ? {} : { mountOptions: options.mountOptions }),
    ...(options.mkfs === undefined ? {} : { mkfs: options.mkfs }),
  };

  for (let round = 0; round < options.rounds; round++) {
    // By turns, and in another order each round, so that no target always has the warm machine.
    const order = names.map((_, i) => names[(i + round) % names.length]!);
    for (const name of order) {
      const target = await startTarget(name, name === "ours" ? oursOptions : targetOptions);
      try {
        await onTarget(target, tree, options, wanted, record, (what) => step(`round ${round + 1}, ${name}: ${what}`));
        await target.stop();
      } catch (err) {
        notes.push(`${name}: ${err instanceof Error ? err.message.split("\n").slice(0, 6).join(" | ") : String(err)}`);
        await target.stop().catch(() => {});
      }
    }
  }
  return {
    machine: {
      processors: `${cpus().length} × ${cpus()[0]?.model ?? "?"}`,
      memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
      system: `Linux ${release()} ${arch()}, Node ${process.version}`,
      rounds: String(options.rounds),
    },
    tree: { name: tree.name, files: tree.files, tar_bytes: tree.tar_bytes },
    figures: [...figures.values()],
    notes,
  };
}

async function onTarget(
  target: Target,
  tree: Tree,
  options: MountBenchOptions,
  wanted: (phase: string) => boolean,
  record: (phase: string, unit: Figure["unit"], target: string, value: number) => void,
  step: (what: string) => void,
): Promise<void> {
  const work = join(target.dir, "work");
  mkdirSync(work);
  const top = join(work, tree.top);
  const phase = async (name: string, argv: readonly string[], cwd: string, cold = false): Promise<void> => {
    if (!wanted(name)) return;
    step(name);
    if (cold) await dropCaches();
    record(name, "s", target.name, await timed(argv, cwd));
  };
  // What is measured is bounded by the file system, not by a tar in a cold cache.
  await run(["sh", "-c", 'cat "$1" >/dev/null', "sh", tree.tar]);
  const treeWanted = ["untar", "find", "read", "build", "copy", "rm"].some((p) => wanted(p));
  if (treeWanted) {
    step("untar");
    record(
      "untar and sync",
      "s",
      target.name,
      await timed(["sh", "-c", 'tar -xf "$1" && sync -f .', "sh", tree.tar], work),
    );
    await phase("find -size, cold", ["find", top, "-size", "+1000k"], work, true);
    await phase("find -size, warm", ["find", top, "-size", "+1000k"], work);
    await phase("read all files, cold", ["sh", "-c", 'tar -cf - "$1" | cat >/dev/null', "sh", tree.top], work, true);
    await phase("read all files, warm", ["sh", "-c", 'tar -cf - "$1" | cat >/dev/null', "sh", tree.top], work);
    if (options.build && tree.build !== undefined && wanted("build")) {
      step("build");
      let seconds = 0;
      for (const command of tree.build) seconds += await timed(["sh", "-c", command], top);
      record("kernel build (allnoconfig, -j2)", "s", target.name, seconds);
    }
    await phase("cp -a and sync", ["sh", "-c", 'cp -a "$1" copy && sync -f .', "sh", tree.top], work);
    await phase("rm -r and sync", ["sh", "-c", 'rm -rf "$1" copy && sync -f .', "sh", tree.top], work);
  }
  if (options.fio_s <= 0 || missing("fio").length > 0) return;
  const file = join(work, "fio");
  for (const job of FIO_JOBS) {
    if (!wanted(job.phase)) continue;
    step(job.phase);
    if (job.args.some((a) => a.includes("read")) && !(await hasSize(file)))
      await run(["dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=512", "status=none", "conv=fsync"]);
    if (job.cold === true) await dropCaches();
    record(job.phase, job.unit, target.name, await fio(file, job, options.fio_s));
  }
}

async function hasSize(file: string): Promise<boolean> {
  const ran = await runAsync(["stat", "-c", "%s", file]);
  return ran.status === 0 && Number(ran.stdout) >= 512 * 2 ** 20;
}

/** How many times as fast as ext4: over 1 is faster. */
export function ratio(figure: Figure, target: string, base = "ext4"): number | undefined {
  const a = figure.samples[base];
  const b = figure.samples[target];
  if (a === undefined || b === undefined) return undefined;
  return figure.unit === "s" ? median(a) / median(b) : median(b) / median(a);
}

const short = (value: number): string =>
  value >= 1000 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

export function toMarkdown(bench: MountBench): string {
  const targets = [...new Set(bench.figures.flatMap((f) => Object.keys(f.samples)))].sort(byFame);
  const others = targets.filter((t) => t !== "ext4");
  const lines = [
    `${bench.machine["processors"]}, ${bench.machine["memory"]}, ${bench.machine["system"]}; ${bench.machine["rounds"]} rounds; ` +
      `${bench.tree.name}: ${bench.tree.files} files, ${(bench.tree.tar_bytes / 1e6).toFixed(0)} MB.`,
    "The speed beside ext4 in the same run: over 1 is faster.",
    "",
    `| | ${targets.map((t) => label(t)).join(" | ")} | ${others.map((t) => `${label(t)} / ext4`).join(" | ")} |`,
    `|---|${targets.map(() => "---:").join("|")}|${others.map(() => "---:").join("|")}|`,
  ];
  for (const f of bench.figures) {
    const values = targets.map((t) => (f.samples[t] === undefined ? "–" : `${short(median(f.samples[t]))} ${f.unit}`));
    const ratios = others.map((t) => ratio(f, t)?.toFixed(2) ?? "–");
    lines.push(`| ${f.phase} | ${values.join(" | ")} | ${ratios.map((r) => `**${r}**`).join(" | ")} |`);
  }
  if (bench.notes.length > 0) lines.push("", ...bench.notes.map((n) => `- ${n}`));
  return `${lines.join("\n")}\n`;
}

const FAME = ["ext4", "ours", "fuse2fs", "bindfs"];
const byFame = (a: string, b: string): number => FAME.indexOf(a) - FAME.indexOf(b);
const label = (target: string): string => (target === "ours" ? "ocfs2" : target);

/** Bars of the speed beside ext4 on a logarithmic scale. */
export function toSvg(bench: MountBench): string {
  const targets = ["ours", "fuse2fs", "bindfs"].filter((t) => bench.figures.some((f) => f.samples[t] !== undefined));
  const colours: Record<string, string> = { ours: "#1f6feb", fuse2fs: "#9aa4af", bindfs: "#d29922" };
  const bar = 11;
  const gap = 10;
  const left = 330;
  const width = 960;
  const low = 0.02;
  const high = 4;
  const x = (r: number): number =>
    left + (Math.log(Math.min(high, Math.max(low, r)) / low) / Math.log(high / low)) * (width - left - 60);
  const row = targets.length * (bar + 2) + gap;
  const height = 70 + bench.figures.length * row + 20;
  const text = (at: number, y: number, s: string, more = ""): string =>
    `<text x="${at.toFixed(1)}" y="${y.toFixed(1)}" font-size="12" font-family="sans-serif" fill="#24292f" ${more}>${s}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(12, 22, "Speed beside ext4 in the same run (1 = as fast as ext4)", 'font-weight="bold"'),
  ];
  targets.forEach((t, i) => {
    parts.push(`<rect x="${left + i * 110}" y="32" width="12" height="12" fill="${colours[t]}"/>`);
    parts.push(text(left + 18 + i * 110, 42, label(t)));
  });
  for (const tick of [0.03, 0.1, 0.3, 1, 3]) {
    const at = x(tick).toFixed(1);
    const colour = tick === 1 ? "#57606a" : "#d8dee4";
    parts.push(`<line x1="${at}" y1="56" x2="${at}" y2="${height - 22}" stroke="${colour}"/>`);
    parts.push(text(x(tick), height - 8, String(tick), 'text-anchor="middle"'));
  }
  bench.figures.forEach((f, i) => {
    const y = 62 + i * row;
    parts.push(text(left - 8, y + (row - gap) / 2 + 4, f.phase, 'text-anchor="end"'));
    targets.forEach((t, j) => {
      const r = ratio(f, t);
      if (r === undefined) return;
      const top = y + j * (bar + 2);
      parts.push(
        `<rect x="${left}" y="${top}" width="${Math.max(1, x(r) - left).toFixed(1)}" height="${bar}" fill="${colours[t]}"/>`,
      );
      parts.push(text(Math.max(left, x(r)) + 4, top + bar - 1, r.toFixed(2), 'fill-opacity="0.8"'));
    });
  });
  parts.push("</svg>");
  return `${parts.join("\n")}\n`;
}
