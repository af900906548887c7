/** What is mounted where, by the kernel's own list: asking a mount itself could wait for the process that asks. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export interface MountEntry {
  readonly major_minor: string;
  readonly dir: string;
  readonly type: string;
  readonly source: string;
  /** Those of the file system itself: for FUSE with the user whose mount it is. */
  readonly options: string;
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
    list.push({
      major_minor: f[2]!,
      dir: bytes(f[4]!),
      type: f[dash + 1]!,
      source: bytes(f[dash + 2]!),
      options: f[dash + 3] ?? "",
    });
  }
  return list;
}

/** The topmost mount at `dir`. */
export const mountAt = (dir: string, pid: number | "self" = "self"): MountEntry | undefined =>
  mountTable(pid).findLast((m) => m.dir === dir);

/**
 * Where a file system is mounted still: in each tree of mounts at one place, with a process that sees it there. A container that was started while
 * it was mounted here has a copy of the mount, and keeps the file system as long as it runs.
 */
export function stillMounted(
  major_minor: string,
): { readonly pid: number; readonly comm: string; readonly dir: string }[] {
  const found = new Map<string, { pid: number; comm: string; dir: string }>();
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    try {
      const tree = readlinkSync(`/proc/${pid}/ns/mnt`);
      if (found.has(tree)) continue;
      const dir = mountTable(pid).find((m) => m.major_minor === major_minor)?.dir;
      if (dir !== undefined) found.set(tree, { pid, comm: readFileSync(`/proc/${pid}/comm`, "utf8").trim(), dir });
    } catch {
      // It has ended meanwhile, or is somebody else's.
    }
  }
  return [...found.values()];
}
