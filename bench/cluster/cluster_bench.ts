/**
 * Two nodes build at the same time, each in its own tree: what the cluster costs where nothing is shared. Each phase begins on
 * both sides at once; its time is that of the slower side, of several rounds the least.
 */
import { barsSvg } from "../plot.ts";
import { SETTINGS, type Setting, type Side, startPair, type Work } from "./sides.ts";
import { makeTree, type Tree } from "./tree.ts";

export { clusterUnavailable } from "../../test/support/cluster_rig.ts";
export { SETTINGS } from "./sides.ts";

/** In the side's own folder; $TAR is the tree. */
const PHASES: readonly (readonly [name: string, command: string])[] = [
  ["untar", "tar -xf $TAR"],
  ["build", "make -s -j2 -C tree prog > /dev/null"],
  ["find", "find tree -size +0 -name '*.o' > /dev/null"],
  ["grep", "grep -r 'no such text' tree > /dev/null; [ $? = 1 ]"],
  ["copy", "cp -r tree copy"],
  ["rm", "rm -r tree copy"],
  ["sync", "sync -f ."],
];
const TOTAL = "all";

export interface ClusterBenchOptions {
  readonly files: number;
  readonly rounds: number;
  readonly settings: readonly Setting[];
  readonly base: string;
  readonly onStep: (what: string) => void;
}

export interface ClusterBench {
  readonly tree: { readonly files: number; readonly sources: number };
  readonly rounds: number;
  /** Seconds, by setting and phase, the least of the rounds; "all" for the sum. */
  readonly seconds: Partial<Record<Setting, Record<string, number>>>;
  /** What our first node did in each phase of the last round. */
  readonly work: Partial<Record<Setting, Record<string, Work>>>;
}

const less = (after: Work, before: Work): Work =>
  Object.fromEntries(
    Object.entries(after)
      .map(([name, n]) => [name, Math.round(n - (before[name] ?? 0))] as const)
      .filter(([, n]) => n !== 0),
  );

async function phase(side: Side, index: number, command: string, tar: string): Promise<number> {
  const began = performance.now();
  await side.run(`mkdir -p own${index} && cd own${index} && TAR=${side.path(tar)}; ${command}`);
  return (performance.now() - began) / 1000;
}

interface Measured {
  readonly seconds: Record<string, number>;
  readonly work: Record<string, Work>;
}

async function measure(setting: Setting, tree: Tree, o: ClusterBenchOptions): Promise<Measured> {
  o.onStep(`${setting}: starting`);
  const pair = await startPair(setting, o.base);
  const seconds: Record<string, number> = { [TOTAL]: 0 };
  const work: Record<string, Work> = {};
  for (const [name, command] of PHASES) {
    o.onStep(`${setting}: ${name}`);
    const before = await pair.sides[0]!.work();
    const took = Math.max(...(await Promise.all(pair.sides.map((s, i) => phase(s, i, command, tree.tar)))));
    const after = await pair.sides[0]!.work();
    if (before !== undefined && after !== undefined) work[name] = less(after, before);
    seconds[name] = took;
    seconds[TOTAL]! += took;
  }
  await pair.close();
  return { seconds, work };
}

export async function runClusterBench(o: ClusterBenchOptions): Promise<ClusterBench> {
  for (const s of o.settings)
    if (!SETTINGS.includes(s)) throw new Error(`no such setting: ${s} (${SETTINGS.join(", ")})`);
  const tree = makeTree(o.files);
  const bench: ClusterBench = {
    ...{ tree: { files: tree.files, sources: tree.sources }, rounds: o.rounds },
    ...{ seconds: {}, work: {} },
  };
  for (let round = 0; round < o.rounds; round++)
    for (const setting of o.settings) {
      const { seconds, work } = await measure(setting, tree, o);
      const best = (bench.seconds[setting] ??= seconds);
      for (const [name, s] of Object.entries(seconds)) best[name] = Math.min(best[name]!, s);
      if (setting.startsWith("ours")) bench.work[setting] = work;
    }
  return bench;
}

const NAMES = [...PHASES.map(([name]) => name), TOTAL];

/** Clustered ÷ local. */
function ratio(bench: ClusterBench, who: "ours" | "kernel", name: string): number | undefined {
  const [local, clustered] = [bench.seconds[`${who}-local`]?.[name], bench.seconds[`${who}-clustered`]?.[name]];
  return local === undefined || clustered === undefined ? undefined : clustered / local;
}

const table = (rows: readonly (readonly string[])[]): string => {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(rows[0]!), `|---|${"--:|".repeat(rows[0]!.length - 1)}`, ...rows.slice(1).map(line)].join("\n");
};

function workTable(bench: ClusterBench, setting: Setting): string {
  const work = bench.work[setting]!;
  const names = [...new Set(PHASES.flatMap(([p]) => Object.keys(work[p] ?? {})))];
  const head = [`${setting}, first node`, ...PHASES.map(([p]) => p)];
  return table([head, ...names.map((n) => [n, ...PHASES.map(([p]) => String(work[p]?.[n] ?? ""))])]);
}

export function toMarkdown(bench: ClusterBench): string {
  const { tree, rounds } = bench;
  const head = ["seconds", ...SETTINGS, "ours, clustered ÷ local", "kernel, clustered ÷ local"];
  const rows = NAMES.map((name) => [
    name,
    ...SETTINGS.map((s) => bench.seconds[s]?.[name]?.toFixed(2) ?? ""),
    ratio(bench, "ours", name)?.toFixed(2) ?? "",
    ratio(bench, "kernel", name)?.toFixed(2) ?? "",
  ]);
  const what = `Two at once, each its own tree of ${tree.files} files, ${tree.sources} of them C sources; the least of ${rounds}.`;
  const works = (Object.keys(bench.work) as Setting[]).map((s) => workTable(bench, s));
  return `${[what, table([head, ...rows]), ...works].join("\n\n")}\n`;
}

export const toSvg = (bench: ClusterBench): string =>
  barsSvg(
    "A build on each of two nodes at once, seconds",
    SETTINGS,
    NAMES.map((name) => ({ name, values: SETTINGS.map((s) => bench.seconds[s]?.[name]) })),
  );
