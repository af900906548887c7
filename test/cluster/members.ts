/** Nodes of a cluster as a test sees them, ours and the kernel's alike: a folder, and commands that run where it is. */
import { readFileSync, writeFileSync } from "node:fs";
import { Control } from "../../src/cli/control.ts";
import { atExit, forceUnmount } from "../support/cleanup.ts";
import type { ClusterRig } from "../support/cluster_rig.ts";
import { isMounted, mountPoint, ocfs2 } from "../support/mount.ts";
import type { KernelNode } from "../support/rig.ts";
import { runAsync, trySh } from "../support/sh.ts";

const COMMAND_TIMEOUT_MS = 60_000;

export interface Member {
  readonly name: string;
  /** Where the volume is mounted; "$D" in commands. */
  readonly dir: string;
  /** Runs a shell command; its output. Throws when its status is not 0. */
  run(command: string, timeout_ms?: number): Promise<string>;
}

export class KernelMember implements Member {
  readonly name: string;
  readonly dir = "/o";
  readonly node: KernelNode;

  constructor(name: string, node: KernelNode) {
    this.name = name;
    this.node = node;
  }

  run(command: string, timeout_ms = COMMAND_TIMEOUT_MS): Promise<string> {
    return this.node.run(`D=/o; ${command}`, timeout_ms);
  }
}

interface NodeStatus {
  readonly pid: number;
  readonly mounts: {
    readonly dir: string;
    readonly slot: number;
    readonly io: { readonly reads: number; readonly writes: number; readonly flushes: number };
  }[];
  readonly heartbeat: { readonly worst_gap_ms: number }[];
}

/** A node of ours: its process serves the mount, started by "ocfs2 mount" as a user would. */
export class OurMember implements Member {
  readonly name: string;
  readonly dir: string;
  readonly number: number;
  readonly #rig: ClusterRig;
  #pid = 0;
  readonly #forget: () => void;

  constructor(rig: ClusterRig, number: number) {
    this.#rig = rig;
    this.number = number;
    this.name = rig.nameOf(number);
    this.dir = mountPoint();
    this.#forget = atExit(() => {
      if (this.#pid !== 0) this.kill();
      if (isMounted(this.dir)) forceUnmount(this.dir);
    });
  }

  get pid(): number {
    return this.#pid;
  }

  /** `disk`: another way to the image than the image itself. */
  async mount(options = "", disk = this.#rig.image): Promise<void> {
    const o = [`node=${this.name}`, `config=${this.#rig.conf}`, ...(options === "" ? [] : [options])].join(",");
    const argv = [...this.#rig.prefix, ocfs2, "mount", "-o", o, disk, this.dir];
    const ran = await runAsync(argv, { timeout_ms: 120_000 });
    if (ran.status !== 0) throw new Error(`mount of ${this.name}: ${ran.stderr}\n${this.log()}`);
    this.#pid = (await this.status()).pid;
  }

  async status(): Promise<NodeStatus> {
    const ran = await runAsync([ocfs2, "node", "status", "--node", this.name, "--json"], { timeout_ms: 10_000 });
    return JSON.parse(ran.stdout) as NodeStatus;
  }

  /** Who masters the lock resources that this node knows: how many, by node number. */
  async masters(): Promise<Map<number, number>> {
    const argv = [ocfs2, "debugfs", "--node", this.name, "-R", "dlm_locks", this.#rig.image];
    const ran = await runAsync(argv, { timeout_ms: 60_000 });
    if (ran.status !== 0 || ran.stderr !== "") throw new Error(`dlm_locks of ${this.name}: ${ran.stderr}`);
    const counts = new Map<number, number>();
    for (const m of ran.stdout.matchAll(/^Lockres: .* Owner: (\d+) /gm))
      counts.set(Number(m[1]), (counts.get(Number(m[1])) ?? 0) + 1);
    return counts;
  }

  /** What the node knows of its locks (fs_locks, dlm_locks), or where its operations wait (op_waits). */
  async state(what: string): Promise<string> {
    const control = await Control.open(this.dir);
    if (control === undefined) return "its process does not answer";
    let text = "";
    for (let a = await control.ask({ type: "locks", what }); a !== null && a["text"] !== ""; a = await control.next())
      text += a["text"] ?? JSON.stringify(a);
    control.close();
    return text;
  }

  async unmount(timeout_ms = 120_000): Promise<void> {
    const ran = await runAsync([ocfs2, "umount", this.dir], { timeout_ms });
    if (ran.status !== 0) throw new Error(`umount of ${this.name}: ${ran.stderr}\n${this.log()}`);
    this.#pid = 0;
  }

  /** kill -9. */
  kill(): void {
    // 0 would be everybody's here.
    if (this.#pid !== 0) {
      try {
        process.kill(this.#pid, "SIGKILL");
      } catch {}
    }
    this.#pid = 0;
    if (isMounted(this.dir)) trySh(["umount", "-l", this.dir]);
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.#pid, signal);
  }

  async run(command: string, timeout_ms = COMMAND_TIMEOUT_MS): Promise<string> {
    // Without its mount the folder takes everything.
    if (!isMounted(this.dir)) throw new Error(`${this.name} has no mount any more\n${this.log()}`);
    const ran = await runAsync(["bash", "-c", `D=${this.dir}; ${command}`], { timeout_ms });
    if (ran.status !== 0)
      throw new Error(
        `on ${this.name}: ${command}: status ${ran.status}\n${ran.stdout}${ran.stderr}\nits log:\n${this.log()}`,
      );
    return ran.stdout;
  }

  /** What its process said, the end of it. */
  log(): string {
    try {
      const text = readFileSync(`/run/ocfs2/node-${this.name}.log`, "utf8");
      return text.split("\n").slice(-140).join("\n");
    } catch {
      return "";
    }
  }

  clearLog(): void {
    writeFileSync(`/run/ocfs2/node-${this.name}.log`, "");
  }

  close(): void {
    this.#forget();
  }
}
