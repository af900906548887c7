/**
 * A mount of ours in a child process, through bin/ocfs2 as a user would. In a child, because a process that touches the mount
 * that it serves waits for itself, and because tests kill it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Control } from "../../src/cli/control.ts";
import { atExit, forceUnmount, tempDir } from "./cleanup.ts";
import { repoRoot } from "./rig.ts";
import { runAsync, toolEnv, trySh } from "./sh.ts";

const READY_TIMEOUT_MS = 120_000;
const END_TIMEOUT_MS = 120_000;
/** In place of the status of a process that does not end, as timeout(1) has it. */
const STANDS_STILL = 124;

export const ocfs2 = join(repoRoot, "bin", "ocfs2");

/** Why nothing can be mounted here; undefined when it can. */
export function mountUnavailable(): string | undefined {
  if (!existsSync(ocfs2)) return "bin/ocfs2 is not there";
  if (!existsSync("/dev/fuse")) return "there is no /dev/fuse";
  if (process.getuid?.() !== 0) return "needs root";
  return undefined;
}

/** True when something is mounted at `dir`, by the kernel's own list (asking the mount itself could hang). */
export const isMounted = (dir: string): boolean =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[4] === dir);

/** For a shell in a mount namespace of its own: takes other tests' mounts out of it, whose ends would wait for it. */
export const dropOtherMounts = (keep = ""): string =>
  `awk '$3 ~ /^fuse.ocfs2/ && $2 != "${keep}" { print $2 }' /proc/self/mounts | xargs -r umount -i -l`;

/** An empty folder to mount on. Never removed with its contents: they could be those of a volume. */
export function mountPoint(): string {
  const dir = mkdtempSync(join(tmpdir(), "ocfs2-mnt-"));
  atExit(() => {
    if (!isMounted(dir)) rmdirSync(dir);
  });
  return dir;
}

const pause = (ms: number): Promise<void> => new Promise((ok) => setTimeout(ok, ms));

export interface MountOptions {
  readonly dir?: string;
  /** For -o. */
  readonly options?: string;
  readonly env?: Record<string, string>;
  /** Arguments of node itself. */
  readonly nodeArgs?: readonly string[];
}

export class Mount {
  readonly image: string;
  readonly dir: string;
  readonly #child: ChildProcess;
  readonly #log: string;
  readonly #forget: () => void;
  readonly #ended: Promise<number>;

  private constructor(image: string, dir: string, child: ChildProcess, log: string) {
    this.image = image;
    this.dir = dir;
    this.#child = child;
    this.#log = log;
    this.#ended = new Promise((ok) => child.once("exit", (code, signal) => ok(code ?? (signal ? 128 : 1))));
    this.#forget = atExit(() => {
      if (isMounted(dir)) forceUnmount(dir);
      this.#child.kill("SIGKILL");
      if (isMounted(dir)) forceUnmount(dir);
    });
  }

  /** Mounts; throws with what the process said when it does not. */
  static async start(image: string, options: MountOptions = {}): Promise<Mount> {
    const dir = options.dir ?? mountPoint();
    const logDir = tempDir("ocfs2-log");
    const log = join(logDir, "log");
    writeFileSync(log, "");
    const o = options.options === undefined ? [] : ["-o", options.options];
    const args = [...(options.nodeArgs ?? []), ocfs2, "mount", "-f", ...o, resolve(image), dir];
    const child = spawn("sh", ["-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", log, process.execPath, ...args], {
      stdio: "ignore",
      env: { ...toolEnv(), OCFS2_DEBUG: "1", ...options.env },
    });
    const mount = new Mount(image, dir, child, log);
    let status: number | undefined;
    mount.#ended.then((code) => {
      status = code;
    });
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!isMounted(dir)) {
      if (status !== undefined || performance.now() > deadline) {
        mount.kill();
        throw new Error(
          `mount of ${image}: ${status === undefined ? "not ready in time" : `status ${status}`}\n${mount.log()}`,
        );
      }
      await pause(10);
    }
    // The first request is answered when the volume is open: what went wrong before that is the mount's failure.
    const seen = await runAsync(["stat", "-c", "%i", dir], { timeout_ms: READY_TIMEOUT_MS });
    if (seen.status !== 0) {
      mount.kill();
      throw new Error(`mount of ${image}: ${seen.stderr}\n${mount.log()}`);
    }
    return mount;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What the process said so far. */
  log(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, "utf8") : "";
  }

  /** Unmounts as a user does and waits for the end of the process; throws when it does not end with 0. */
  async unmount(): Promise<void> {
    const ran = trySh(["umount", this.dir]);
    if (ran.status !== 0) throw new Error(`umount ${this.dir}: ${ran.stderr}`);
    const code = await this.ended(END_TIMEOUT_MS);
    const stands = code === STANDS_STILL ? `\n${await this.#whereItStands()}` : "";
    const log = this.log() + stands;
    this.#forget();
    if (code !== 0) throw new Error(`the mount ended with ${code}\n${log}`);
  }

  /** What a process that does not end waits for: its operations and requests, and each of its threads in the kernel. */
  async #whereItStands(): Promise<string> {
    const lines: string[] = [];
    const control = await Control.open(this.dir);
    if (control === undefined) lines.push("nobody answers on its socket");
    else {
      const asked = (async () => {
        lines.push(JSON.stringify(await control.ask({ type: "status" })));
        for (let a = await control.ask({ type: "locks", what: "op_waits" }); a !== null; a = await control.next()) {
          if (a["text"] === "") break;
          lines.push(String(a["text"] ?? JSON.stringify(a)));
        }
      })();
      await Promise.race([asked, pause(10_000)]);
      control.close();
    }
    const proc = `/proc/${this.pid}/task`;
    for (const tid of existsSync(proc) ? readdirSync(proc) : [])
      for (const what of ["comm", "wchan", "syscall", "stack"])
        lines.push(`${tid} ${what}: ${trySh(["cat", `${proc}/${tid}/${what}`]).stdout.trim()}`);
    return lines.join("\n");
  }

  /** The status of the process once it has ended, STANDS_STILL when it does not in time. */
  async ended(timeout_ms: number): Promise<number> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<number>((ok) => {
      timer = setTimeout(() => ok(STANDS_STILL), timeout_ms);
    });
    const code = await Promise.race([this.#ended, late]);
    clearTimeout(timer);
    return code;
  }

  /** kill -9, as a crash; the mount point is freed. */
  async kill9(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
    this.#forget();
  }

  /** Ends it by force, at once: for clean-up. */
  kill(): void {
    this.#forget();
  }
}

/** Mounts, runs `fn`, unmounts. */
export async function withMount<T>(
  image: string,
  fn: (dir: string, mount: Mount) => Promise<T>,
  options: MountOptions = {},
): Promise<T> {
  const mount = await Mount.start(image, options);
  try {
    const result = await fn(mount.dir, mount);
    await mount.unmount();
    return result;
  } catch (err) {
    const log = mount.log().trimEnd();
    if (err instanceof Error && log !== "" && !err.message.includes(log)) err.message += `\nthe mount said:\n${log}`;
    throw err;
  } finally {
    mount.kill();
  }
}
