/**
 * pjdfstest: POSIX' rules for names, owners, modes and times, 8,827 assertions of others. Its sources are not ours and not in this
 * repository: PJDFSTEST_DIR names a checkout. It is compiled in a temporary folder, without its configure script.
 */
import { spawn } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "../support/cleanup.ts";
import { missing, sh, toolEnv } from "../support/sh.ts";

/** What Linux and glibc have of what pjdfstest's configure looks for. */
const CONFIG_H = [
  ...["FACCESSAT", "FCHMODAT", "FCHOWNAT", "FSTATAT", "LINKAT", "MKDIRAT", "MKFIFOAT", "MKNODAT", "OPENAT"],
  ...["POSIX_FALLOCATE", "READLINKAT", "RENAMEAT", "SYMLINKAT", "UNLINKAT", "UTIMENSAT", "SYS_SYSMACROS_H"],
]
  .map((name) => `#define HAVE_${name} 1\n`)
  .concat([
    "#define HAVE_STRUCT_STAT_ST_ATIM 1\n",
    "#define HAVE_STRUCT_STAT_ST_CTIM 1\n",
    "#define HAVE_STRUCT_STAT_ST_MTIM 1\n",
  ])
  .join("");

/** Why it cannot be run here, with what to do about it; undefined when it can. */
export function pjdfstestUnavailable(): string | undefined {
  const dir = process.env["PJDFSTEST_DIR"];
  if (dir === undefined || !existsSync(join(dir, "pjdfstest.c")))
    return "set PJDFSTEST_DIR to a checkout of pjd/pjdfstest (the folder with pjdfstest.c and tests/)";
  if (process.getuid?.() !== 0) return "pjdfstest needs root";
  const not = missing("gcc", "bash");
  return not.length === 0 ? undefined : `not installed: ${not.join(", ")}`;
}

export interface PjdResult {
  /** Test files. */
  readonly files: number;
  readonly passed: number;
  /** "chmod/00.t 12 - tried … expected … got …", sorted. */
  readonly failed: string[];
}

/** Compiles it and copies its tests; the folder. */
export function buildPjdfstest(): string {
  const from = process.env["PJDFSTEST_DIR"]!;
  const dir = tempDir("ocfs2-pjdfstest");
  cpSync(join(from, "tests"), join(dir, "tests"), { recursive: true });
  // Some assertions (a rename moves ctime) are made of certain file systems only; they hold for this one too.
  appendFileSync(join(dir, "tests", "conf"), '\nfs="EXT4"\n');
  writeFileSync(join(dir, "config.h"), CONFIG_H);
  sh([
    "gcc",
    "-w",
    "-O1",
    "-D_GNU_SOURCE",
    "-DHAVE_CONFIG_H",
    "-I",
    dir,
    "-o",
    join(dir, "pjdfstest"),
    join(from, "pjdfstest.c"),
  ]);
  return dir;
}

export const testFiles = (dir: string, only: string): string[] =>
  readdirSync(join(dir, "tests"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".t") && name.includes(only))
    .sort();

function runFile(
  dir: string,
  file: string,
  cwd: string,
  timeout_ms: number,
): Promise<{ passed: number; failed: string[] }> {
  return new Promise((resolve) => {
    const child = spawn("bash", [join(dir, "tests", file)], {
      cwd,
      env: toolEnv(),
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
    });
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (more: string) => {
      text += more;
    });
    const timer = setTimeout(() => {
      text += `not ok 0 - no end after ${timeout_ms / 1000} s\n`;
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {}
    }, timeout_ms);
    child.once("close", () => {
      clearTimeout(timer);
      const failed: string[] = [];
      let passed = 0;
      let planned = -1;
      for (const line of text.split("\n")) {
        const plan = /^1\.\.(\d+)/.exec(line);
        if (plan !== null) planned = Number(plan[1]);
        else if (/^not ok .*# TODO/.test(line) || line.startsWith("ok ")) passed++;
        else if (line.startsWith("not ok ")) failed.push(`${file} ${line.slice("not ok ".length)}`);
      }
      if (planned < 0) failed.push(`${file} 0 - no plan: the test did not run`);
      else if (passed + failed.length < planned)
        failed.push(`${file} 0 - only ${passed + failed.length} of ${planned} ran`);
      resolve({ passed, failed });
    });
  });
}

/** Runs the tests whose names hold `only` on a mount, `jobs` at a time. */
export async function runPjdfstest(
  dir: string,
  mount: string,
  options: { jobs?: number; only?: string; timeout_ms?: number; onFile?: (done: number, of: number) => void } = {},
): Promise<PjdResult> {
  const files = testFiles(dir, options.only ?? "");
  const queue = [...files];
  const failed: string[] = [];
  let passed = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const cwd = join(mount, file.replaceAll("/", "_"));
      mkdirSync(cwd, { mode: 0o755 });
      const result = await runFile(dir, file, cwd, options.timeout_ms ?? 900_000);
      passed += result.passed;
      failed.push(...result.failed);
      options.onFile?.(++done, files.length);
    }
  };
  await Promise.all(Array.from({ length: options.jobs ?? 8 }, worker));
  return { files: files.length, passed, failed: failed.sort() };
}

/** "chmod/00.t 12" of a failed assertion: its name, without what was seen. */
export const assertionName = (failed: string): string => failed.split(" ").slice(0, 2).join(" ");
