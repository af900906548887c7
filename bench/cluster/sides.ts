/** Two places to build in at the same time: two local mounts, or two nodes of one cluster; ours or the kernel's. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Control } from "../../src/cli/control.ts";
import type { VolumeStatus } from "../../src/cli/worker_messages.ts";
import { clusterImage } from "../../test/cluster/image.ts";
import { OurMember } from "../../test/cluster/members.ts";
import { tempDir } from "../../test/support/cleanup.ts";
import { ClusterRig } from "../../test/support/cluster_rig.ts";
import { Mount } from "../../test/support/mount.ts";
import { KernelNode } from "../../test/support/rig.ts";
import { runAsync, sh } from "../../test/support/sh.ts";

export const SETTINGS = ["ours-local", "ours-clustered", "kernel-local", "kernel-clustered"] as const;
export type Setting = (typeof SETTINGS)[number];

const IMAGE_MIB = 2048;
const PHASE_TIMEOUT_MS = 1_800_000;
const KERNEL_MEM = "1G";
/** Without it the kernel's ocfs2 flushes no disk; ours does unless it is told not to. */
const KERNEL_OPTIONS = "barrier=1";

export type Work = Record<string, number>;

export interface Side {
  /** The path by which a file of this machine is known there. */
  path(host: string): string;
  /** Runs a shell command in the volume's root. */
  run(command: string): Promise<void>;
  /** What the node has done since the mount; undefined for the kernel's. */
  work(): Promise<Work | undefined>;
}

export interface Pair {
  readonly sides: readonly Side[];
  close(): Promise<void>;
}

const TICK_MS = 10;

/** What a process has had of the CPUs: says what a phase costs also where other work runs beside it. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13);
  return (Number(utime) + Number(stime)) * TICK_MS;
}

async function workAt(dir: string): Promise<Work> {
  const control = await Control.open(dir);
  if (control === undefined) throw new Error(`nobody serves ${dir}`);
  const status = (await control.ask({ type: "status" })) as unknown as VolumeStatus & { readonly pid: number };
  control.close();
  const { counts, journal, thread, basts, notifications, domain, pid } = status;
  const named = (what: string, figures: Readonly<Record<string, number>>): [string, number][] =>
    Object.entries(figures).map(([name, n]) => [`${what}${name}`, n]);
  return Object.fromEntries([
    ...named("", { "CPU, ms": cpuMs(pid) }),
    ...named("", counts),
    ...named("", { BASTs: basts, notifications, "collections, ms": thread.gc_total_ms }),
    ...named("journal ", journal ?? {}),
    ...named("", (domain?.["sent"] as Record<string, number> | undefined) ?? {}),
  ]);
}

const ourSide = (dir: string): Side => ({
  path: (host) => host,
  async run(command) {
    const ran = await runAsync(["bash", "-c", `cd ${dir}; ${command}`], { timeout_ms: PHASE_TIMEOUT_MS });
    if (ran.status !== 0) throw new Error(`${command}: status ${ran.status}\n${ran.stderr}`);
  },
  work: () => workAt(dir),
});

const kernelSide = (node: KernelNode): Side => ({
  path: (host) => `/host${host}`,
  run: async (command) => void (await node.run(`cd /o; ${command}`, PHASE_TIMEOUT_MS)),
  work: () => Promise.resolve(undefined),
});

function localImage(base: string): string {
  const image = join(tempDir("ocfs2-bench-local", { base }), "image");
  sh(["truncate", "-s", `${IMAGE_MIB}M`, image]);
  sh(["mkfs.ocfs2", "-q", "-F", "-M", "local", "-N", "4", "-b", "4K", "-C", "4K", image]);
  return image;
}

async function ourLocal(base: string): Promise<Pair> {
  const mounts = await Promise.all([Mount.start(localImage(base)), Mount.start(localImage(base))]);
  return {
    sides: mounts.map((m) => ourSide(m.dir)),
    close: async () => void (await Promise.all(mounts.map((m) => m.unmount()))),
  };
}

async function ourClustered(base: string): Promise<Pair> {
  const rig = new ClusterRig(clusterImage(2 * IMAGE_MIB, undefined, base), [11, 12]);
  const members = [new OurMember(rig, 11), new OurMember(rig, 12)];
  for (const m of members) await m.mount();
  return {
    sides: members.map((m) => ourSide(m.dir)),
    async close() {
      for (const m of members) {
        await m.unmount();
        m.close();
      }
      rig.close();
    },
  };
}

async function kernelPair(nodes: readonly KernelNode[], after: () => void): Promise<Pair> {
  for (const node of nodes) await node.mount(KERNEL_OPTIONS);
  return {
    sides: nodes.map(kernelSide),
    async close() {
      for (const node of nodes) {
        await node.unmount();
        await node.stop();
      }
      after();
    },
  };
}

async function kernelLocal(base: string): Promise<Pair> {
  const boot = (): Promise<KernelNode> => KernelNode.boot(localImage(base), { mem: KERNEL_MEM });
  return kernelPair(await Promise.all([boot(), boot()]), () => {});
}

async function kernelClustered(base: string): Promise<Pair> {
  const rig = new ClusterRig(clusterImage(2 * IMAGE_MIB, undefined, base), [1, 2]);
  return kernelPair(await Promise.all([rig.kernel(1, KERNEL_MEM), rig.kernel(2, KERNEL_MEM)]), () => rig.close());
}

const START: Readonly<Record<Setting, (base: string) => Promise<Pair>>> = {
  "ours-local": ourLocal,
  "ours-clustered": ourClustered,
  "kernel-local": kernelLocal,
  "kernel-clustered": kernelClustered,
};

export const startPair = (setting: Setting, base: string): Promise<Pair> => START[setting](base);
