/**
 * Two nodes and the program turns.c on both: kernel beside kernel, ours beside ours, ours beside a kernel node, each pair alone in a cluster
 * of its own, so that a new lock is asked of one other node only. All pairs stand at the same time and are measured by turns, each with the
 * sides changed too, so that whatever else the machine does meets all alike.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { clusterImage } from "../../test/cluster/image.ts";
import { KernelMember, OurMember } from "../../test/cluster/members.ts";
import { atExit, tempDir } from "../../test/support/cleanup.ts";
import { addressOf, ClusterRig } from "../../test/support/cluster_rig.ts";
import { ocfs2 } from "../../test/support/mount.ts";
import { repoRoot } from "../../test/support/rig.ts";
import { run, runAsync, sh, trySh } from "../../test/support/sh.ts";

export type Kind = "ours" | "kernel";
/** Nanoseconds, by measurement. */
export type Samples = Map<string, number[]>;
/** What was asked of the disk. */
export interface DiskIo {
  readonly writes: number;
  readonly flushes: number;
}

/** Parts of turns.c, each a run of its own. */
export const PARTS = [
  ...["round-trip", "cached-locks", "new-locks", "one-lock"],
  ...["cached-file", "shared-file", "read-file", "many-files"],
] as const;
/** In it each side takes the file from the other `turns` times. */
const HAND_OVERS = "shared-file";

const RUN_TIMEOUT_MS = 240_000;
const DOMAIN = "bench";

export interface Side {
  readonly kind: Kind;
  readonly address: string;
  /** Makes a folder for one run, on one of the two only. */
  makeDir(name: string): Promise<unknown>;
  /** A folder of the volume, and one of dlmfs, as the program sees them. */
  dir(name: string): string;
  readonly dlm: string;
  turns(args: readonly string[]): Promise<string>;
  io(): Promise<DiskIo>;
  close(): Promise<void>;
}

async function kernelSide(rig: ClusterRig, number: number, program: string): Promise<Side> {
  const member = new KernelMember(rig.nameOf(number), await rig.kernel(number));
  // Without it the kernel's ocfs2 flushes no disk; ours does unless it is told not to.
  await member.node.mount("barrier=1");
  await member.run(`mkdir /dlm/${DOMAIN}`);
  return {
    kind: "kernel",
    address: addressOf(number),
    makeDir: (name) => member.run(`mkdir /o/${name}`),
    dir: (name) => `/o/${name}`,
    dlm: `/dlm/${DOMAIN}`,
    turns: (args) => member.node.run(`/host${program} ${args.join(" ")}`, RUN_TIMEOUT_MS),
    async io() {
      // Documentation/block/stat.rst. A durable write to a disk with a cache is a write and a flush.
      const stat = (await member.run("cat /sys/block/ubda/stat")).trim().split(/\s+/).map(Number);
      return { writes: stat[4]!, flushes: stat[15]! };
    },
    async close() {
      await member.run(`rmdir /dlm/${DOMAIN}`);
      await member.node.unmount();
      await member.node.stop();
    },
  };
}

/** A node of ours with a mount, and its locks as files. */
export class OurSide implements Side {
  readonly kind = "ours";
  readonly address: string;
  readonly member: OurMember;
  readonly #rig: ClusterRig;
  readonly #program: string;
  readonly #dlmfs: string;
  #stop = (): void => {};

  constructor(rig: ClusterRig, number: number, program: string) {
    this.#rig = rig;
    this.#program = program;
    this.member = new OurMember(rig, number);
    this.address = addressOf(number);
    this.#dlmfs = join(tempDir("ocfs2-bench-dlm"), "dlm");
    mkdirSync(this.#dlmfs);
  }

  /** Starts the node and mounts; how long the mount took. */
  async start(options = ""): Promise<number> {
    const { prefix, conf } = this.#rig;
    const node = ["--node", this.member.name];
    await run([...prefix, ocfs2, "node", "start", "--config", conf, ...node, "--dlmfs", this.#dlmfs]);
    this.#stop = atExit(() => trySh([ocfs2, "node", "stop", ...node]));
    const from_ms = performance.now();
    await this.member.mount(options);
    const mount_ms = performance.now() - from_ms;
    await run(["mkdir", this.dlm]);
    return mount_ms;
  }

  get dlm(): string {
    return join(this.#dlmfs, DOMAIN);
  }

  makeDir(name: string): Promise<unknown> {
    return run(["mkdir", this.dir(name)]);
  }

  dir(name: string): string {
    return join(this.member.dir, name);
  }

  async turns(args: readonly string[]): Promise<string> {
    const ran = await runAsync([...this.#rig.prefix, this.#program, ...args], { timeout_ms: RUN_TIMEOUT_MS });
    if (ran.status !== 0)
      throw new Error(`turns on ${this.member.name}: status ${ran.status} ${ran.stderr}\n${this.member.log()}`);
    return ran.stdout;
  }

  async io(): Promise<DiskIo> {
    return (await this.member.status()).mounts[0]!.io;
  }

  /** kill -9; it may be started again. */
  kill(): void {
    this.member.kill();
    trySh(["umount", "-l", this.#dlmfs]);
  }

  async close(): Promise<void> {
    await run(["rmdir", this.dlm]);
    await this.member.unmount();
    this.#stop();
    this.member.close();
  }
}

async function ourSide(rig: ClusterRig, number: number, program: string): Promise<Side> {
  const side = new OurSide(rig, number, program);
  await side.start();
  return side;
}

/** turns.c, compiled. */
export function turnsProgram(): string {
  const program = join(tempDir("ocfs2-turns"), "turns");
  sh(["gcc", "-O2", "-Wall", "-o", program, join(repoRoot, "bench/lock/turns.c")]);
  return program;
}

/** Runs one part of turns.c on two nodes; what each of them said. */
export async function runTurns(
  part: string,
  turns: number,
  dir: string,
  a: Side,
  b: Side,
): Promise<[Samples, Samples]> {
  await a.makeDir(dir);
  const args = (letter: "a" | "b", side: Side): string[] => [
    ...[letter, a.address, side.dir(dir), side.dlm, String(turns), part],
  ];
  const said = await Promise.all([a.turns(args("a", a)), b.turns(args("b", b))]);
  return said.map((text) => {
    const samples: Samples = new Map();
    collect(text, samples);
    return samples;
  }) as [Samples, Samples];
}

const add = (into: Samples, name: string, ns: readonly number[]): void =>
  void into.set(name, [...(into.get(name) ?? []), ...ns]);

function collect(text: string, into: Samples): void {
  for (const line of text.split("\n")) {
    const [name = "", ...ns] = line.split(" ");
    if (name !== "") add(into, name, ns.map(Number));
  }
}

/** A column of the table: nodes of one kind, beside one of their own kind or of the other. */
export type Column = "kernel beside kernel" | "ours beside ours" | "ours beside kernel" | "kernel beside ours";
export const PAIRS: readonly (readonly [Kind, Kind])[] = [
  ["kernel", "kernel"],
  ["ours", "ours"],
  ["ours", "kernel"],
];

export interface Figures {
  readonly samples: Map<Column, Samples>;
  /** By pair: of both disks together, for each time that the shared file went to the other side. */
  readonly hand_overs: Map<string, DiskIo[]>;
}

export interface Pair {
  readonly name: string;
  /** Both programs, once; `changed`: the second node makes what is shared. */
  measure(part: string, dir: string, changed: boolean, into: Figures): Promise<void>;
  close(): Promise<void>;
}

export interface PairOptions {
  readonly turns: number;
  /** Where the volume's image lies. */
  readonly base: string;
}

/** Brings both nodes up. */
export async function startPair(kinds: readonly [Kind, Kind], { turns, base }: PairOptions): Promise<Pair> {
  const program = turnsProgram();
  const numbers = kinds.map((kind, i) => (kind === "kernel" ? 1 + i : 11 + i));
  const rig = new ClusterRig(clusterImage(512, undefined, base), numbers);
  const [one, two] = await Promise.all(
    kinds.map((kind, i) => (kind === "kernel" ? kernelSide : ourSide)(rig, numbers[i]!, program)),
  );
  const name = kinds.join("-");
  const samples = (side: Side, other: Side, into: Figures): Samples => {
    const column = `${side.kind} beside ${other.kind}` as Column;
    if (!into.samples.has(column)) into.samples.set(column, new Map());
    return into.samples.get(column)!;
  };
  const io = async (): Promise<DiskIo> => {
    const [a, b] = await Promise.all([one!.io(), two!.io()]);
    return { writes: a.writes + b.writes, flushes: a.flushes + b.flushes };
  };
  return {
    name,
    async measure(part, dir, changed, into) {
      const [a, b] = changed ? [two!, one!] : [one!, two!];
      const before = part === HAND_OVERS ? await io() : null;
      const [said_a, said_b] = await runTurns(part, turns, dir, a, b);
      for (const [name, ns] of said_a) add(samples(a, b, into), name, ns);
      for (const [name, ns] of said_b) add(samples(b, a, into), name, ns);
      if (before === null) return;
      const after = await io();
      const each = (n: number): number => n / (2 * turns);
      const list = into.hand_overs.get(name) ?? [];
      list.push({ writes: each(after.writes - before.writes), flushes: each(after.flushes - before.flushes) });
      into.hand_overs.set(name, list);
    },
    async close() {
      await two!.close();
      await one!.close();
      rig.close();
    },
  };
}
