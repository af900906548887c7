/** The captured volumes: what a Linux kernel wrote (*.img.xz), and what it saw in it (*.txt.gz). */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { repoRoot } from "./rig.ts";
import { sh } from "./sh.ts";

const folder = join(repoRoot, "test", "fixtures", "volumes");

export const capturedVolumes = (): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".img.xz"))
    .map((name) => basename(name, ".img.xz"))
    .sort();

/** Unpacks a captured volume, with holes where it is zero. */
export function unpackVolume(name: string, to: string): void {
  sh([
    "sh",
    "-c",
    'xz -dc "$1" | dd of="$2" bs=64K conv=sparse iflag=fullblock status=none',
    "sh",
    join(folder, `${name}.img.xz`),
    to,
  ]);
}

/** What the kernel saw: lines of stat fields, md5 sums by path. */
export interface Capture {
  /** "inode mode(hex) links uid gid size blocks mtime path", sorted by path. */
  readonly stats: string[];
  /** "md5  path", sorted. */
  readonly md5: string[];
}

const pathOf = (line: string): string =>
  line.slice(line.indexOf(" ./") < 0 ? line.lastIndexOf(" ") : line.indexOf(" ./"));
const byPath = (a: string, b: string): number => (pathOf(a) < pathOf(b) ? -1 : 1);

export function readCapture(name: string): Capture {
  const lines = gunzipSync(readFileSync(join(folder, `${name}.txt.gz`)))
    .toString()
    .split("\n");
  return {
    stats: lines.filter((line) => /^\d+ [0-9a-f]+ \d+ \d+ \d+ \d+ \d+ \d+ /.test(line)).sort(byPath),
    md5: lines.filter((line) => /^[0-9a-f]{32} {2}\.\//.test(line)).sort(byPath),
  };
}

/** The same of a folder of this machine. */
export function capture(dir: string): Capture {
  const format = "%i %n %U %G %s %b %T@ %p\\n";
  // The mode with the type in it, in hexadecimal, is stat's; find has no such field.
  const modes = new Map<string, string>();
  for (const line of sh(["sh", "-c", 'cd "$1" && find . -exec stat -c "%f %n" {} +', "sh", dir]).split("\n")) {
    const [mode = "", path = ""] = [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)];
    modes.set(path, mode);
  }
  const stats = sh(["sh", "-c", `cd "$1" && find . -printf '${format}'`, "sh", dir])
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [ino, nlink, uid, gid, size, blocks, mtime = "", ...rest] = line.split(" ");
      const path = rest.join(" ");
      return [ino, modes.get(path), nlink, uid, gid, size, blocks, mtime.split(".")[0], path].join(" ");
    });
  const md5 = sh(["sh", "-c", 'cd "$1" && find . -type f -exec md5sum {} +', "sh", dir]).split("\n");
  return {
    stats: stats.sort(byPath),
    md5: md5.filter((line) => line !== "").sort(byPath),
  };
}
