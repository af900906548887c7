/**
 * Two nodes and the program turns.c on both: kernel beside kernel, ours beside ours, ours beside a kernel node, each pair alone in a cluster
 * of its own, so that a new lock is asked of one other node only. Each pair runs twice, with the sides changed.
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

const RUN_TIMEOUT_MS = 240_000;
const DOMAIN = "bench";

interface Side {
  readonly kind: Kind;
  readonly address: string;
  /** Makes a folder for one run, on one of the two only. */
  makeDir(name: string): Promise<unknown>;
  turns(side: "a" | "b", address: string, dir: string, turns: number): Promise<string>;
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
    turns: (side, address, dir, turns) =>
      member.node.run(`/host${program} ${side} ${address} /o/${dir} /dlm/${DOMAIN} ${turns}`, RUN_TIMEOUT_MS),
    async close() {
      await member.run(`rmdir /dlm/${DOMAIN}`);
      await member.node.unmount();
      await member.node.stop();
    },
  };
}

async function ourSide(rig: ClusterRig, number: number, program: string): Promise<Side> {
  const member = new OurMember(rig, number);
  const dlm = join(tempDir("ocfs2-bench-dlm"), "dlm");
  mkdirSync(dlm);
  const node = ["--node", member.name];
  await run([...rig.prefix, ocfs2, "node", "start", "--config", rig.conf, ...node, "--dlmfs", dlm]);
  const stop = atExit(() => trySh([ocfs2, "node", "stop", ...node]));
  await member.mount();
  await run(["mkdir", join(dlm, DOMAIN)]);
  return {
    kind: "ours",
    address: addressOf(number),
    makeDir: (name) => run(["mkdir", join(member.dir, name)]),
    async turns(side, address, dir, turns) {
      const argv = [program, side, address, join(member.dir, dir), join(dlm, DOMAIN), String(turns)];
      const ran = await runAsync([...rig.prefix, ...argv], { timeout_ms: RUN_TIMEOUT_MS });
      if (ran.status !== 0)
        throw new Error(`turns on ${member.name}: status ${ran.status} ${ran.stderr}\n${member.log()}`);
      return ran.stdout;
    },
    async close() {
      await run(["rmdir", join(dlm, DOMAIN)]);
      await member.unmount();
      stop();
      member.close();
    },
  };
}

function collect(text: string, into: Samples): void {
  for (const line of text.split("\n")) {
    const [name = "", ...ns] = line.split(" ");
    if (name !== "") into.set(name, [...(into.get(name) ?? []), ...ns.map(Number)]);
  }
}

/** A column of the table: nodes of one kind, beside one of their own kind or of the other. */
export type Column = "kernel beside kernel" | "ours beside ours" | "ours beside kernel" | "kernel beside ours";
export const PAIRS: readonly (readonly [Kind, Kind])[] = [
  ["kernel", "kernel"],
  ["ours", "ours"],
  ["ours", "kernel"],
];

export interface PairOptions {
  readonly turns: number;
  /** Where the volume's image lies. */
  readonly base: string;
  readonly onStep: (what: string) => void;
}

/** Brings both nodes up, measures, takes them down. */
export async function measurePair(
  kinds: readonly [Kind, Kind],
  { turns, base, onStep }: PairOptions,
  into: Map<Column, Samples>,
): Promise<void> {
  const program = join(tempDir("ocfs2-turns"), "turns");
  sh(["gcc", "-O2", "-Wall", "-o", program, join(repoRoot, "bench/lock/turns.c")]);
  const numbers = kinds.map((kind, i) => (kind === "kernel" ? 1 + i : 11 + i));
  const rig = new ClusterRig(clusterImage(512, undefined, base), numbers);
  const pair = kinds.join(" and ");
  onStep(`${pair}: starting`);
  const [one, two] = await Promise.all(
    kinds.map((kind, i) => (kind === "kernel" ? kernelSide : ourSide)(rig, numbers[i]!, program)),
  );
  const samples = (side: Side, other: Side): Samples => {
    const column = `${side.kind} beside ${other.kind}` as Column;
    if (!into.has(column)) into.set(column, new Map());
    return into.get(column)!;
  };
  for (const [round, [a, b]] of (
    [
      [one!, two!],
      [two!, one!],
    ] as const
  ).entries()) {
    onStep(`${pair}: ${round + 1} of 2`);
    const dir = `round${round}`;
    await a.makeDir(dir);
    const [said_a, said_b] = await Promise.all([
      a.turns("a", a.address, dir, turns),
      b.turns("b", a.address, dir, turns),
    ]);
    collect(said_a, samples(a, b));
    collect(said_b, samples(b, a));
  }
  await two!.close();
  await one!.close();
  rig.close();
}
