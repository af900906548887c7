/**
 * Random system calls on our mount and on ext4, and what they say and change compared line by line (test/support/differ.c). What the two are known to do
 * otherwise is in the table below; the program does not ask for it, or takes no notice of it. After the unmount fsck.ocfs2 finds nothing.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { buildC } from "../support/build_c.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, KEPT_SPACE } from "../support/judges.ts";
import { withMount } from "../support/mount.ts";
import { runAsync, sh } from "../support/sh.ts";
import { startTarget } from "../support/targets.ts";

/** What is left out, and whose way it is. */
export const KNOWN: readonly (readonly [what: string, why: string])[] = [
  ["fallocate, other modes than allocating, punching and zeroing", "neither the kernel's ocfs2 nor FUSE has them"],
  ["fallocate beyond RLIMIT_FSIZE", "EFBIG on both, but ext4 moves mtime and ctime"],
  ["fallocate of append-only files", "EPERM by the kernel's ocfs2 (__ocfs2_change_file_space); ext4 allocates"],
  ["RENAME_WHITEOUT", "EINVAL by the kernel's ocfs2"],
  ["O_DIRECT that is not aligned", "EINVAL on ext4; ours takes any"],
  ["O_DIRECT and O_APPEND, or a limit within a block", "EINVAL on ext4, as above"],
  ["SEEK_DATA and SEEK_HOLE", "a matter of blocks: what is no data has to be zeros, no more is compared"],
  ["sizes of folders, offsets in them, the order of names and of attributes", "each file system's own"],
  ["times before 1901-12-13 20:45:53", "ext4 begins there"],
  ["the block size of statfs(2)", "that of clusters, by the kernel's ocfs2"],
  ["symlinks of 4095 bytes", "ext4 has to find room in a block"],
  ["flags that new files inherit", "ext4's nodump and noatime; OCFS2 has no such thing"],
  ["ctime when an attribute gets the value that it has", "moves in OCFS2 (__ocfs2_xattr_set_handle)"],
  ["writes to what became immutable after it was opened", "EPERM on ext4 alone"],
  ["a write that takes setuid from an append-only file", "EPERM by notify_change; ours takes it"],
  ["which of two reasons is given for what chattr and something else forbid", "FUSE asks last (docs/FUSE.md)"],
  ["access(2), F_SETFL and mmap(2) of what chattr forbids", "docs/FUSE.md"],
  ["times of pipes and devices that are written to", "docs/FUSE.md"],
  ["chown(-1, -1)", "docs/FUSE.md"],
  ["RWF_NOAPPEND; on two nodes RWF_APPEND, and O_APPEND by F_SETFL", "docs/FUSE.md"],
  ["on two nodes: times before 1970", "0 seconds where a lock's value tells of them (ocfs2_pack_timespec)"],
  [
    "on two nodes: getcwd(2); locks other than flock, leases, pipes",
    "docs/FUSE.md; on their node alone, by the kernel's ocfs2, too",
  ],
  [
    "with -o writeback_cache: times of two changes within a tick of the clock, and by chattr",
    "FUSE inodes have their times from the kernel then",
  ],
  ["atime, of reads", "docs/FUSE.md: both are mounted with noatime"],
];

export interface DifferOptions {
  readonly seed: number;
  readonly seeds: number;
  /** Calls of each seed. */
  readonly calls: number;
  /** chattr, too: of errors only that there is one is compared then. */
  readonly chattr?: boolean;
  readonly mountOptions?: string;
  readonly mkfs?: readonly string[];
  readonly onSeed?: (done: number) => void;
}

export interface DifferResult {
  readonly calls: number;
  readonly differences: string[];
}

const SHOWN_BEFORE = 6;
const SEED_TIMEOUT_MS = 600_000;

/** The first line that is not the same, with what came before it; undefined when there is none. */
export function firstDifference(ext4: string, ours: string): string | undefined {
  if (ext4 === ours) return undefined;
  const [a, b] = [ext4.split("\n"), ours.split("\n")];
  const at = a.findIndex((line, i) => line !== b[i]);
  const n = at < 0 ? a.length : at;
  const before = a.slice(Math.max(0, n - SHOWN_BEFORE), n).map((line) => `  ${line}`);
  return [...before, `  ext4: ${a[n]}`, `  ours: ${b[n]}`].join("\n");
}

export async function differRun(options: DifferOptions): Promise<DifferResult> {
  const program = buildC("differ.c");
  const image = join(tempDir("ocfs2-differ"), "image");
  mkfs(image, 1024, options.mkfs ?? []);
  const known = fsck(image).findings;
  const differences: string[] = [];
  const flags = [
    ...(options.chattr === true ? ["-a"] : []),
    ...(options.mountOptions?.includes("writeback_cache") ? ["-t"] : []),
  ];
  const one = async (at: string, seed: number, more: readonly string[]): Promise<string> => {
    const dir = join(at, String(seed));
    mkdirSync(dir);
    const argv = [program, ...more, ...flags, String(seed), String(options.calls), dir];
    const ran = await runAsync(argv, { timeout_ms: SEED_TIMEOUT_MS });
    sh(["sh", "-c", 'chattr -R -f -ia "$1"; rm -rf "$1"', "sh", dir]);
    return ran.status === 0 ? ran.stdout : `${ran.stdout}ended with ${ran.status}: ${ran.stderr}`;
  };
  const ext4 = await startTarget("ext4", { size_mib: 1024, mkfsExt4: ["-O", "ea_inode"], mountExt4: "noatime" });
  const o = ["noatime", ...(options.mountOptions === undefined ? [] : [options.mountOptions])].join(",");
  try {
    await withMount(
      image,
      async (dir) => {
        for (let i = 0; i < options.seeds; i++) {
          const seed = options.seed + i;
          const said = await Promise.all([one(ext4.dir, seed, ["-k"]), one(dir, seed, [])]);
          const difference = firstDifference(...said);
          if (difference !== undefined) differences.push(`seed ${seed}:\n${difference}`);
          options.onSeed?.(i + 1);
        }
      },
      { options: o },
    );
  } finally {
    await ext4.stop();
  }
  const findings = fsck(image, known).findings.filter((line) => !KEPT_SPACE.test(line));
  return { calls: options.seeds * options.calls, differences: [...differences, ...findings.map((f) => `fsck: ${f}`)] };
}
