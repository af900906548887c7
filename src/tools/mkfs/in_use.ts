/**
 * Whether this machine uses a device: mounted, swapped on, behind a loop device. What the kernel refuses by O_EXCL and what another
 * process of ours holds by its lock is target.ts' knowledge. Mirrors ocfs2_check_mount_point of libocfs2's ismounted.c.
 */
import fs from "node:fs";
import { fileBehind } from "../../native/disk_lock.ts";

const unescaped = (s: string): string =>
  s.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

function lines(path: string): string[] {
  try {
    return fs.readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}

/** Whether two paths name one device or one file. */
function sameThing(a: fs.Stats, path: string): boolean {
  const b = path.startsWith("/") ? fs.statSync(path, { throwIfNoEntry: false }) : undefined;
  if (!b) return false;
  if (a.isBlockDevice()) return b.isBlockDevice() && a.rdev === b.rdev;
  return a.dev === b.dev && a.ino === b.ino;
}

function mountedAt(stat: fs.Stats): string | undefined {
  for (const line of lines("/proc/mounts")) {
    const [source = "", dir = ""] = line.split(" ").map(unescaped);
    if (sameThing(stat, source)) return dir;
  }
  // The root file system may be listed by a name that does not exist.
  return stat.isBlockDevice() && fs.statSync("/").dev === stat.rdev ? "/" : undefined;
}

const isSwap = (stat: fs.Stats): boolean =>
  lines("/proc/swaps")
    .slice(1)
    .some((line) => sameThing(stat, unescaped(line.split(/\s/)[0] ?? "")));

/** The loop device that a file is behind. */
function loopOf(stat: fs.Stats): string | undefined {
  if (!stat.isFile()) return undefined;
  let names: string[];
  try {
    names = fs.readdirSync("/sys/block").filter((n) => n.startsWith("loop"));
  } catch {
    return undefined;
  }
  return names.find((n) => sameThing(stat, lines(`/sys/block/${n}/loop/backing_file`)[0] ?? ""));
}

/** One path for a file and the loop devices that show it. */
export const diskOf = (path: string): string => fileBehind(path) ?? path;

/** Says how the device is used and what to do about it, or undefined when it is not. */
export function useOf(path: string, stat: fs.Stats): string | undefined {
  const dir = mountedAt(stat);
  if (dir !== undefined) return `${path} is mounted on ${dir}; unmount it first`;
  const file = fileBehind(path);
  const file_stat = file === undefined ? undefined : fs.statSync(file, { throwIfNoEntry: false });
  const file_dir = file_stat && mountedAt(file_stat);
  if (file_dir !== undefined) return `${path} shows ${file}, which is mounted on ${file_dir}; unmount it first`;
  if (isSwap(stat)) return `${path} is used as swap space; swapoff it first`;
  const loop = loopOf(stat);
  if (loop !== undefined)
    return `${path} is behind /dev/${loop}; "losetup -d /dev/${loop}" first, or format that device`;
  return undefined;
}
