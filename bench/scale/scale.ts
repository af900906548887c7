/**
 * More and more nodes of ours on one volume, all on this machine: what a mount, a lock and a recovery cost as they become more. Locks are taken
 * by turns.c on the first and the last node: a new lock is asked of every node, one that the other has is called off.
 */
import { clusterImage } from "../../test/cluster/image.ts";
import type { OurMember } from "../../test/cluster/members.ts";
import { ClusterRig } from "../../test/support/cluster_rig.ts";
import { OurSide, runTurns, type Samples, turnsProgram } from "../lock/pairs.ts";
import { linesSvg } from "../plot.ts";

const MOUNT_OPTIONS = "cache=32M";

export interface ScaleRow {
  readonly nodes: number;
  readonly mount_s: number;
  /** Nobody has it; all are asked. */
  readonly new_lock_us: number;
  /** One lock at EX by turns. */
  readonly called_off_us: number;
  readonly shared_file_us: number;
  /** From kill -9 of a node to the first changes of another one, to a file too that the dead one had. */
  readonly recovery_s: number;
}

export interface ScaleOptions {
  /** At which numbers of nodes it is measured; ascending. */
  readonly counts: readonly number[];
  readonly turns: number;
  readonly image: string;
  readonly onStep: (what: string) => void;
  /** Looks at all of them before they are unmounted. */
  readonly look?: (members: readonly OurMember[]) => Promise<void>;
}

export const scaleImage = (base?: string): string =>
  clusterImage(1024, ["-N", "16", "-b", "4K", "-C", "4K", "-J", "size=8M"], base);

function medianUs(sides: readonly Samples[], name: string): number {
  const ns = sides.flatMap((s) => s.get(name) ?? []).sort((a, b) => a - b);
  return ns[ns.length >> 1]! / 1000;
}

async function recovery(dir: string, first: OurSide, victim: OurSide): Promise<number> {
  await victim.member.run(`echo y >>$D/${dir}/taken`);
  const from_ms = performance.now();
  victim.kill();
  await first.member.run(`touch $D/${dir}/after; ls $D >/dev/null; echo z >>$D/${dir}/taken`);
  const took_ms = performance.now() - from_ms;
  await victim.start(MOUNT_OPTIONS);
  return took_ms;
}

export async function measureScale({ counts, turns, image, onStep, look }: ScaleOptions): Promise<ScaleRow[]> {
  const numbers = Array.from({ length: Math.max(...counts) }, (_, i) => 11 + i);
  const rig = new ClusterRig(image, numbers);
  const program = turnsProgram();
  const sides: OurSide[] = [];
  const rows: ScaleRow[] = [];
  for (const number of numbers) {
    const side = new OurSide(rig, number, program);
    onStep(`node ${sides.length + 1}: mounting`);
    const mount_ms = await side.start(MOUNT_OPTIONS);
    sides.push(side);
    const nodes = sides.length;
    if (!counts.includes(nodes)) continue;
    onStep(`${nodes} nodes: locks`);
    const [first, last] = [sides[0]!, side];
    const said: Samples[] = [];
    for (const part of ["new-locks", "one-lock", "shared-file"])
      said.push(...(await runTurns(part, turns, `${part}${nodes}`, first, last)));
    onStep(`${nodes} nodes: the death of one`);
    rows.push({
      nodes,
      mount_s: mount_ms / 1000,
      new_lock_us: medianUs(said, "lock.new_local"),
      called_off_us: medianUs(said, "lock.pingpong"),
      shared_file_us: medianUs(said, "file.pingpong"),
      recovery_s: (await recovery(`new-locks${nodes}`, first, sides[1]!)) / 1000,
    });
  }
  await look?.(sides.map((s) => s.member));
  for (const side of sides) await side.close();
  rig.close();
  return rows;
}

export function toMarkdown(rows: readonly ScaleRow[]): string {
  const line = (r: ScaleRow): string =>
    `| ${r.nodes} | ${r.mount_s.toFixed(1)} | ${r.new_lock_us.toFixed(0)} | ${r.called_off_us.toFixed(0)} | ${r.shared_file_us.toFixed(0)} | ${r.recovery_s.toFixed(1)} |`;
  return `${[
    "| nodes | mount, s | new lock, µs | lock called off from another, µs | shared file by turns, µs | first changes after a death, s |",
    "|--:|--:|--:|--:|--:|--:|",
    ...rows.map(line),
  ].join("\n")}\n`;
}

export function toSvg(rows: readonly ScaleRow[]): string {
  const line = (name: string, of: (r: ScaleRow) => number) => ({
    name,
    points: rows.map((r) => [r.nodes, of(r)] as const),
  });
  return linesSvg("More nodes of ours on one volume", "nodes", [
    { unit: "s", lines: [line("mount", (r) => r.mount_s), line("recovery", (r) => r.recovery_s)] },
    {
      unit: "µs",
      lines: [
        line("new lock", (r) => r.new_lock_us),
        line("called off", (r) => r.called_off_us),
        line("shared file", (r) => r.shared_file_us),
      ],
    },
  ]);
}
