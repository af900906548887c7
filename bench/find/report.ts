/** Figures of bench/find as tables and as a plot. */
import { barsSvg } from "../plot.ts";
import type { FindFigures, NodeFigures, Step } from "./measure.ts";

const MIB = 1 << 20;
const mib = (bytes: number): string => (bytes / MIB).toFixed(0);
const sum = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0);
const ratio = (n: number, of: number): string => (of === 0 ? "" : (n / of).toFixed(2));
const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [line(head), `|---|${"--:|".repeat(head.length - 1)}`, ...rows.map(line)].join("\n");

/** Who masters each new name is asked once of every other node: of one, here. */
const masteries = (n: NodeFigures): number => n.messages["MASTER_REQUEST"] ?? 0;

function stepRow(s: Step): (string | number)[] {
  const lookups = s.nodes.reduce((all, n) => all + (n.requests["LOOKUP"] ?? 0), 0);
  const notes = s.nodes.reduce((all, n) => all + n.notifications, 0);
  return [
    s.what,
    s.files,
    s.seconds.toFixed(1),
    (s.files / s.seconds).toFixed(0),
    lookups,
    ratio(
      s.nodes.reduce((all, n) => all + masteries(n), 0),
      lookups,
    ),
    ratio(
      s.nodes.reduce((all, n) => all + sum(n.messages), 0),
      s.files,
    ),
    notes,
    (notes / s.seconds).toFixed(0),
  ];
}

const nodeRow = (s: Step, n: NodeFigures): (string | number)[] => [
  s.what,
  n.node,
  n.inodes,
  n.locks,
  n.lock_resources,
  mib(n.heap_bytes),
  mib(n.heap_peak_bytes),
  mib(n.array_buffers_bytes),
  mib(n.rss_peak_bytes),
  n.gc_worst_ms.toFixed(1),
  n.gc_total_ms.toFixed(0),
  n.cpu_s.toFixed(1),
];

export function toMarkdown(f: FindFigures): string {
  return [
    table(
      [
        "step",
        "files",
        "s",
        "files/s",
        "LOOKUPs",
        "masteries a LOOKUP",
        "messages a file",
        "notifications",
        "a second",
      ],
      f.steps.map(stepRow),
    ),
    "",
    table(
      [
        "step",
        "node",
        "inodes",
        "locks",
        "lock resources",
        "heap, MiB",
        "peak",
        "tables, MiB",
        "RSS peak, MiB",
        "worst collection, ms",
        "all, ms",
        "CPU, s",
      ],
      f.steps.flatMap((s) => s.nodes.map((n) => nodeRow(s, n))),
    ),
    "",
    `On the first node after its first find, heap and tables: ${f.bytes_a_lock.toFixed(0)} bytes a lock resource, ${f.bytes_an_inode.toFixed(0)} an inode.`,
    "",
  ].join("\n");
}

export const toSvg = (f: FindFigures): string =>
  barsSvg(
    `find over ${f.files} files on two nodes: files a second`,
    ["files/s"],
    f.steps.map((s) => ({ name: s.what, values: [s.files / s.seconds] })),
  );
