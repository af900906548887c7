/** What is mounted where, by the kernel's own list: asking a mount itself could wait for the process that asks. */
import { readFileSync } from "node:fs";

export interface MountEntry {
  readonly major_minor: string;
  readonly dir: string;
  readonly type: string;
  readonly source: string;
}

/** mountinfo writes blanks and backslashes as \040. */
const unescaped = (s: string): string =>
  s.replace(/\\([0-7]{3})/g, (_, o: string) => String.fromCharCode(Number.parseInt(o, 8)));

/** As this process sees it, or another one: each may have a tree of its own. */
export function mountTable(pid: number | "self" = "self"): MountEntry[] {
  const list: MountEntry[] = [];
  for (const line of Buffer.from(readFileSync(`/proc/${pid}/mountinfo`))
    .toString("latin1")
    .split("\n")) {
    const f = line.split(" ");
    const dash = f.indexOf("-");
    if (dash < 0) continue;
    const bytes = (s: string): string => Buffer.from(unescaped(s), "latin1").toString("utf8");
    list.push({ major_minor: f[2]!, dir: bytes(f[4]!), type: f[dash + 1]!, source: bytes(f[dash + 2]!) });
  }
  return list;
}

/** The topmost mount at `dir`. */
export const mountAt = (dir: string, pid: number | "self" = "self"): MountEntry | undefined =>
  mountTable(pid).findLast((m) => m.dir === dir);
