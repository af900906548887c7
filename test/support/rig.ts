/**
 * A real Linux OCFS2 node as the reference: Debian's User Mode Linux (kernel 6.1 with ocfs2) boots on an image as an
 * ordinary process within seconds, without KVM. What it reads from our volumes, and what we read from its, is the test.
 * Runs in network and process namespaces of its own, so that nothing of it is left when this process dies, however it dies.
 * The packages are unpacked to a cache outside the repository ($OCFS2_RIG_CACHE, else ~/.cache/ocfs2-rig).
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { Duplex, Readable, Writable } from "node:stream";
import { atExit, tempDir } from "./cleanup.ts";
import { missing, run, sh, trySh } from "./sh.ts";

const BOOT_TIMEOUT_MS = 60_000;

export const repoRoot = ((): string => {
  for (let dir = import.meta.dirname; ; dir = resolve(dir, "..")) if (existsSync(join(dir, "biome.json"))) return dir;
})();

/** The folder with our scripts for the node, as seen from inside it too. */
export const rigScripts = join(repoRoot, "scripts", "rig");

export const rigCache = (): string =>
  process.env["OCFS2_RIG_CACHE"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "ocfs2-rig");

const kernelPath = (): string => join(rigCache(), "usr/bin/linux.uml");

/** Why no kernel node can run on this machine; undefined when one can, if need be after setupRig. */
export function rigUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return "a kernel node needs root";
  if (process.arch !== "x64") return "User Mode Linux is for x86-64";
  const lacking = missing("unshare", "setpriv");
  if (lacking.length > 0) return `not installed: ${lacking.join(", ")} (package util-linux)`;
  if (!existsSync(kernelPath()) && missing("apt-get", "dpkg").length > 0)
    return `${kernelPath()} is not there, and there is no apt-get to fetch Debian's user-mode-linux with`;
  return undefined;
}

/** Fetches and unpacks Debian's user-mode-linux and ocfs2-tools, once. Throws when they are not to be had. */
export function setupRig(): void {
  const cache = rigCache();
  if (existsSync(kernelPath()) && existsSync(join(cache, "sbin/mount.ocfs2"))) return;
  const deb = join(cache, "deb");
  mkdirSync(deb, { recursive: true });
  for (const name of ["user-mode-linux", "ocfs2-tools"]) {
    const here = (): string | undefined => readdirSync(deb).find((f) => f.startsWith(`${name}_`));
    if (here() === undefined && trySh(["apt-get", "download", name], { cwd: deb }).status !== 0) {
      sh(["apt-get", "update", "-qq"]);
      sh(["apt-get", "download", name], { cwd: deb });
    }
    sh(["dpkg", "-x", join(deb, here()!), cache]);
  }
}

/** What goes before the kernel's path where the processor has more registers than User Mode Linux keeps (uml_xstate.c). */
function xstateArgs(): string[] {
  if (!/^flags.*\bamx_tile\b/m.test(readFileSync("/proc/cpuinfo", "utf8"))) return [];
  const library = join(rigCache(), "uml_xstate.so");
  const source = join(repoRoot, "test/support/uml_xstate.c");
  if (!existsSync(library) || statSync(library).mtimeMs < statSync(source).mtimeMs) {
    // Other tests may do the same at this moment.
    const made = `${library}.${process.pid}`;
    sh(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", made, source]);
    renameSync(made, library);
  }
  return ["env", `LD_PRELOAD=${library}`];
}

// Debian's own complaints of a kernel without hardware are no findings; anything of these is. Those of OCFS2 name who was running: programs, and
// threads like "kworker/u2:0" and "dlm-47807839F77".
const COMPLAINT =
  /\bBUG\b|WARNING:|Oops|Call Trace|kernel panic|\(.{1,15},\d+,\d+\):\w+:\d+ ERROR|OCFS2: ERROR|ocfs2.*(corrupt|error)/i;

/** The lines of a console that no healthy volume makes the kernel say. */
export const complaintsIn = (console: string): string[] => console.split("\n").filter((line) => COMPLAINT.test(line));

/** For a message: the first of many lines. */
const someOf = (lines: readonly string[]): string =>
  [...lines.slice(0, 20), ...(lines.length > 20 ? [`… ${lines.length} lines in all`] : [])].join("\n");

/** The place of a kernel node in a cluster (test/support/cluster_rig.ts makes it). */
export interface RigCluster {
  /** Path of the network namespace. */
  readonly netns: string;
  /** The node's network device there. */
  readonly tap: string;
  readonly number: number;
  /** cluster.conf. */
  readonly conf: string;
  /** O2CB_HEARTBEAT_THRESHOLD. */
  readonly dead_threshold: number;
  /** O2CB_IDLE_TIMEOUT_MS. */
  readonly idle_timeout_ms: number;
}

const clusterArgs = (c: RigCluster): string[] => [
  `vec0:transport=tap,ifname=${c.tap},depth=64,mac=02:00:00:77:00:${c.number.toString(16).padStart(2, "0")}`,
  ...[`O2_CONF=${c.conf}`, `O2_NODE=${c.number}`, `O2_DEAD=${c.dead_threshold}`, `O2_IDLE=${c.idle_timeout_ms}`],
];

export class KernelNode {
  readonly image: string;
  readonly #child: ChildProcess;
  readonly #box: string;
  readonly #forget: () => void;
  #input = "";
  #next = 0;
  readonly #waiting = new Map<string, (status: number) => void>();
  #onReady: (() => void) | undefined;
  #onEnd: ((why: Error) => void)[] = [];
  #ended: Error | undefined;
  /** The console, once the node is gone. */
  #said: string | undefined;

  private constructor(image: string, child: ChildProcess, box: string) {
    this.image = image;
    this.#child = child;
    this.#box = box;
    this.#forget = atExit(() => this.#destroy());
    const output = child.stdio[4] as Duplex as Readable;
    output.setEncoding("utf8");
    output.on("data", (text: string) => this.#take(text));
    output.on("error", () => {});
    (child.stdio[3] as Writable).on("error", () => {});
    child.once("exit", () => {
      this.#ended = new Error(`the kernel node ended\n${this.console().split("\n").slice(-20).join("\n")}`);
      for (const fn of this.#onEnd) fn(this.#ended);
      this.#onEnd = [];
    });
  }

  /** Boots a node with `image` as /dev/ubda and `disks` as /dev/ubdb, ubdc, …, alone or as a node of a cluster. */
  static async boot(
    image: string,
    options: { mem?: string; cluster?: RigCluster; disks?: readonly string[] } = {},
  ): Promise<KernelNode> {
    setupRig();
    const box = tempDir("ocfs2-kernel");
    const log = openSync(join(box, "console"), "w");
    const { cluster } = options;
    const net = cluster === undefined ? ["unshare", "-n"] : ["nsenter", `--net=${cluster.netns}`, "unshare"];
    const argv = [
      ...["--pdeathsig", "KILL", ...net, "-p", "--fork", "--kill-child", ...xstateArgs(), kernelPath()],
      ...[`mem=${options.mem ?? "384M"}`, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw"],
      // c: no lock on the image, r would be read-only. Its own umid folder, or nodes on one machine would meet.
      ...[`ubdac=${resolve(image)}`, `uml_dir=${box}/uml`, "umid=node", `O2_CACHE=${rigCache()}`, `O2_BOX=${box}`],
      ...[`init=${join(rigScripts, "node_init.sh")}`, "con=null", "con0=null,fd:1", "con1=fd:3,fd:4"],
      ...(options.disks ?? []).map((path, i) => `ubd${"bcdefgh"[i]}c=${resolve(path)}`),
      ...(cluster === undefined ? [] : clusterArgs(cluster)),
    ];
    const child = spawn("setpriv", argv, { stdio: ["ignore", log, log, "pipe", "pipe"] });
    const node = new KernelNode(resolve(image), child, box);
    try {
      await node.#within(BOOT_TIMEOUT_MS, "boot", (ok) => {
        node.#onReady = () => ok(0);
      });
    } catch (err) {
      node.kill();
      throw err;
    }
    return node;
  }

  #take(text: string): void {
    const lines = (this.#input + text).split(/\r?\n/);
    this.#input = lines.pop()!;
    for (const line of lines) {
      if (line === "ready") this.#onReady?.();
      const [id = "", status] = line.split(" ");
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      waiting?.(Number(status));
    }
  }

  #within(timeout_ms: number, what: string, start: (ok: (n: number) => void) => void): Promise<number> {
    return new Promise((ok, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      const timer = setTimeout(() => {
        clearInterval(watch);
        const tail = this.console().split("\n").slice(-20).join("\n");
        reject(new Error(`the kernel node did not ${what} within ${timeout_ms} ms\n${tail}`));
      }, timeout_ms);
      // After a panic the kernel spins, and would until the time-out.
      const watch = setInterval(() => {
        if (this.console().includes("Kernel panic")) this.#child.kill("SIGKILL");
      }, 1000);
      const settle = (): void => {
        clearTimeout(timer);
        clearInterval(watch);
      };
      this.#onEnd.push((why) => {
        settle();
        reject(why);
      });
      start((n) => {
        settle();
        ok(n);
      });
    });
  }

  /** Runs a shell command in the node; status and output (both streams). The host's files are under /host there. */
  async tryRun(command: string, timeout_ms = 300_000): Promise<{ status: number; output: string }> {
    const id = `c${this.#next++}`;
    writeFileSync(join(this.#box, `${id}.cmd`), `${command}\n`);
    const status = await this.#within(timeout_ms, `finish "${command.slice(0, 100)}"`, (ok) => {
      this.#waiting.set(id, ok);
      (this.#child.stdio[3] as Writable).write(`${id}\n`);
    });
    return { status, output: readFileSync(join(this.#box, `${id}.out`), "utf8") };
  }

  /** As tryRun; the output. Throws when the status is not 0. */
  async run(command: string, timeout_ms?: number): Promise<string> {
    const { status, output } = await this.tryRun(command, timeout_ms);
    if (status !== 0) throw new Error(`in the kernel node: ${command}: status ${status}\n${output.slice(-2000)}`);
    return output;
  }

  /** Mounts the image at /o, as mount.ocfs2 does. */
  async mount(options = ""): Promise<void> {
    await this.run(`mount.ocfs2 ${options === "" ? "" : `-o ${options}`} /dev/ubda /o`);
  }

  async unmount(): Promise<void> {
    await this.run("umount /o");
  }

  /** All that the kernel said so far. */
  console(): string {
    return this.#said ?? readFileSync(join(this.#box, "console"), "utf8");
  }

  /** The lines of the console that no healthy volume makes the kernel say. */
  complaints(): string[] {
    return complaintsIn(this.console());
  }

  /** Powers the node off; throws when the kernel complained while it ran, of anything but `expected`. */
  async stop(expected?: RegExp): Promise<void> {
    const gone = new Promise<void>((ok) => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) ok();
      this.#child.once("exit", () => ok());
    });
    (this.#child.stdio[3] as Writable).write("poweroff\n");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 20_000);
    await gone;
    clearTimeout(timer);
    const complaints = this.complaints().filter((line) => expected?.test(line) !== true);
    this.#forget();
    if (complaints.length > 0) throw new Error(`the kernel complained:\n${someOf(complaints)}`);
  }

  /** Ends the node as a crash does. */
  kill(): void {
    this.#forget();
  }

  #destroy(): void {
    // Killing unshare kills its child, PID 1 of the namespace, and so everything in it.
    this.#child.kill("SIGKILL");
    this.#said = this.console();
    rmSync(this.#box, { recursive: true, force: true });
  }
}

/** Boots a node on the image, mounts it, runs `fn`, unmounts and powers off; throws when the kernel complained. */
export async function withKernelNode<T>(
  image: string,
  fn: (node: KernelNode) => Promise<T>,
  mountOptions = "",
): Promise<T> {
  const node = await KernelNode.boot(image);
  try {
    await node.mount(mountOptions);
    const result = await fn(node);
    await node.unmount();
    await node.stop();
    return result;
  } catch (err) {
    const complaints = node.complaints();
    if (complaints.length > 0 && err instanceof Error) err.message += `\nthe kernel said:\n${someOf(complaints)}`;
    throw err;
  } finally {
    node.kill();
  }
}

/** The manifest of the node's mount (scripts/rig/manifest.sh). */
export const kernelManifest = (node: KernelNode): Promise<string> =>
  node.run(`bash /host${rigScripts}/manifest.sh /o`, 600_000);

/** The same of a folder of this machine. */
export const hostManifest = (dir: string): Promise<string> => run(["bash", join(rigScripts, "manifest.sh"), dir]);

export const imageBytes = (path: string): number => statSync(path).size;
