/** Lock costs as a table and as a plot: medians and the least in microseconds, kernel beside kernel, ours beside ours, and one of each. */
import { barsSvg } from "../plot.ts";
import type { Column, DiskIo, Samples } from "./pairs.ts";

const ROWS: readonly (readonly [measurement: string, what: string])[] = [
  ["lock.cached_pr", "a cached lock, PR (open and close)"],
  ["lock.cached_ex", "a cached lock, EX (open and close)"],
  ["lock.new_local", "a new lock, mastered here"],
  ["lock.new_remote", "a new lock, mastered by the other"],
  ["lock.up_asker_is_master", "PR to EX, the other called off, mastered here"],
  ["lock.up_holder_is_master", "PR to EX, the other called off, mastered there"],
  ["lock.pingpong", "one lock at EX by turns"],
  ["file.cached_stat", "fstat under a cached lock"],
  ["file.cached_write", "pwrite of a byte under a cached lock"],
  ["file.create", "a new file"],
  ["file.stat_of_others", "first stat of a file that the other made"],
  ["file.write_to_others", "open, pwrite, close of a file that both have looked at"],
  ["file.read_what_other_writes", "pread of what the other has just written"],
  ["file.write_what_other_reads", "pwrite of what the other has just read"],
  ["file.pingpong", "ping-pong: pread and pwrite of a counter by turns"],
  ["tcp_round_trip", "for scale: a byte there and back over TCP"],
];
export const COLUMNS: readonly Column[] = [
  "kernel beside kernel",
  "ours beside ours",
  "ours beside kernel",
  "kernel beside ours",
];

export interface Figure {
  readonly n: number;
  readonly least_us: number;
  readonly p10_us: number;
  readonly median_us: number;
  readonly p90_us: number;
}

export interface LockReport {
  readonly measurement: string;
  readonly what: string;
  readonly columns: Partial<Record<Column, Figure>>;
  /** Ours beside ours against kernel beside kernel, by the medians. */
  readonly ratio: number | undefined;
}

function figure(ns: readonly number[] | undefined): Figure | undefined {
  if (ns === undefined || ns.length === 0) return undefined;
  const sorted = ns.toSorted((a, b) => a - b);
  const at = (p: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]! / 1000;
  return { n: sorted.length, least_us: at(0), p10_us: at(0.1), median_us: at(0.5), p90_us: at(0.9) };
}

export function reportOf(samples: ReadonlyMap<Column, Samples>): LockReport[] {
  return ROWS.filter(([measurement]) => [...samples.values()].some((s) => s.has(measurement))).map(
    ([measurement, what]) => {
      const columns: Partial<Record<Column, Figure>> = {};
      for (const column of COLUMNS) {
        const f = figure(samples.get(column)?.get(measurement));
        if (f !== undefined) columns[column] = f;
      }
      const [kernel, ours] = [columns["kernel beside kernel"], columns["ours beside ours"]];
      const ratio = kernel === undefined || ours === undefined ? undefined : ours.median_us / kernel.median_us;
      return { measurement, what, columns, ratio };
    },
  );
}

const short = (n: number): string => n.toFixed(n < 10 ? 1 : 0);
const us = (f: Figure | undefined): string => (f === undefined ? "" : `${short(f.median_us)} (${short(f.least_us)})`);

export function toMarkdown(report: readonly LockReport[]): string {
  const head = ["µs, median (least)", ...COLUMNS, "ours–ours ÷ kernel–kernel"];
  const rows = report.map((r) => [r.what, ...COLUMNS.map((c) => us(r.columns[c])), r.ratio?.toFixed(2) ?? ""]);
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return `${[line(head), `|---|${"--:|".repeat(head.length - 1)}`, ...rows.map(line)].join("\n")}\n`;
}

/** Flushes are counted: what one costs depends on the disk. */
export function handOversText(hand_overs: ReadonlyMap<string, readonly DiskIo[]>): string {
  const mean = (list: readonly number[]): string => (list.reduce((a, b) => a + b, 0) / list.length).toFixed(1);
  const lines = [...hand_overs].map(
    ([pair, ios]) => `${pair} ${mean(ios.map((io) => io.writes))} writes, ${mean(ios.map((io) => io.flushes))} flushes`,
  );
  return lines.length === 0
    ? ""
    : `\nOf the disk, each time that the shared file goes to the other: ${lines.join("; ")}.\n`;
}

export const toSvg = (report: readonly LockReport[]): string =>
  barsSvg(
    "What a lock costs between two nodes, median, µs",
    COLUMNS,
    report.map((r) => ({ name: r.what, values: COLUMNS.map((c) => r.columns[c]?.median_us) })),
  );
