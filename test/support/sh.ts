/** Running other programs: the judges, the workload, mkfs. A failure carries what the program said. */
import { type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const MAX_OUTPUT = 1 << 30;
const SBIN = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/** The environment for other programs: plain messages, and the folders that hold the tools of file systems. */
export const toolEnv = (): NodeJS.ProcessEnv => ({
  ...process.env,
  LC_ALL: "C",
  PATH: [process.env["PATH"] ?? "/usr/bin:/bin", ...SBIN].join(delimiter),
});

/** The path of a program, or undefined. */
export function which(program: string): string | undefined {
  for (const dir of (toolEnv()["PATH"] ?? "").split(delimiter)) {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return join(dir, program);
    } catch {}
  }
  return undefined;
}

/** Those of the programs that are not installed. */
export const missing = (...programs: string[]): string[] => programs.filter((p) => which(p) === undefined);

/** Runs a program to its end, whatever its status. The event loop stands still meanwhile. */
export function trySh(argv: readonly string[], options: SpawnSyncOptions = {}): Ran {
  const [program = "", ...args] = argv;
  const ran = spawnSync(program, args, { maxBuffer: MAX_OUTPUT, env: toolEnv(), ...options, encoding: "utf8" });
  if (ran.error !== undefined) throw ran.error;
  return { status: ran.status ?? 128, stdout: ran.stdout ?? "", stderr: ran.stderr ?? "" };
}

function fail(argv: readonly string[], ran: Ran): never {
  const said = `${ran.stdout}${ran.stderr}`.trimEnd().split("\n").slice(-20).join("\n");
  throw new Error(`${argv.join(" ")}: status ${ran.status}\n${said}`);
}

/** Runs a program; its standard output. Throws when its status is not 0. */
export function sh(argv: readonly string[], options: SpawnSyncOptions = {}): string {
  const ran = trySh(argv, options);
  if (ran.status !== 0) fail(argv, ran);
  return ran.stdout;
}

/** As trySh, without holding up the event loop; ends the program (and its children) after `timeout_ms`, with status 124. */
export function runAsync(
  argv: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; timeout_ms?: number; onLine?: (line: string) => void } = {},
): Promise<Ran> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env ?? toolEnv(),
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let stdout = "";
    let stderr = "";
    let line = "";
    let late = false;
    const kill = (): void => {
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {}
    };
    process.once("exit", kill);
    const timer =
      options.timeout_ms === undefined
        ? undefined
        : setTimeout(() => {
            late = true;
            kill();
          }, options.timeout_ms);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      if (options.onLine === undefined) return;
      const lines = (line + text).split("\n");
      line = lines.pop()!;
      for (const l of lines) options.onLine(l);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const done = (): void => {
      process.removeListener("exit", kill);
      clearTimeout(timer);
    };
    child.once("error", (err) => {
      done();
      reject(err);
    });
    child.once("close", (code, signal) => {
      done();
      resolve({ status: late ? 124 : (code ?? (signal ? 128 : 1)), stdout, stderr });
    });
  });
}

/** As runAsync; throws when the status is not 0. */
export async function run(argv: readonly string[], options: Parameters<typeof runAsync>[1] = {}): Promise<string> {
  const ran = await runAsync(argv, options);
  if (ran.status !== 0) fail(argv, ran);
  return ran.stdout;
}
