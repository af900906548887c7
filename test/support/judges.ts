/**
 * The judges: programs that know OCFS2 and are not ours. fsck.ocfs2 says whether a volume is whole, debugfs.ocfs2 what
 * lies where, the kernel (rig.ts) what a program would see. What they say is compared, never what we think of ourselves.
 */
import { statSync } from "node:fs";
import { missing, type Ran, run, runAsync, trySh, which } from "./sh.ts";

export interface Fsck {
  readonly status: number;
  /** What it found to be wrong, one line each; empty for a whole volume. */
  readonly findings: string[];
  readonly output: string;
}

/** What fsck.ocfs2 -fn says about a volume with nothing wrong. Everything else is a finding. */
const HARMLESS = [
  /^$/,
  /^fsck\.ocfs2 \d/,
  /^Checking OCFS2 filesystem in /,
  /^ {2}(Label|UUID|Number of blocks|Block size|Number of clusters|Cluster size|Number of slots): /,
  /^\*\* Skipping slot recovery because -n was given\. \*\*$/,
  / was run with -f, check forced\.$/,
  /^Pass (0a: Checking cluster allocation chains|0b: Checking inode allocation chains)$/,
  /^Pass (0c: Checking extent block allocation chains|1: Checking inodes and blocks)$/,
  // Runs on a volume with reflinks; what is wrong with them has lines of its own.
  /^Pass 1[b-d]: /,
  /^Pass (2: Checking directory entries|3: Checking directory connectivity)$/,
  /^Pass (4a: Checking for orphaned inodes|4b: Checking inodes link counts)$/,
  /^Pass 5: Checking quota information$/,
  /^All passes succeeded\.$/,
];

/** Space behind the end of a file, which fallocate may leave: fsck.ocfs2 reports what a kernel's leaves, too. */
export const KEPT_SPACE = /^\[INODE_SPARSE_SIZE\]/;

/** An image of which fsck.ocfs2 can keep everything, twice. */
const SMALL = 128 << 20;

function fsckArgv(args: readonly string[], image: string): string[] {
  const argv = ["fsck.ocfs2", ...args, image];
  // It locks a cache of all memory that it may have, which takes longer than the check: as a user without
  // that right it goes on without. A thousand crash states are then checked in minutes.
  if (process.getuid?.() !== 0 || missing("setpriv", "prlimit").length > 0) return argv;
  const drop = ["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
  const limits = ["--memlock=65536:65536"];
  // It begins with a cache of 1 GiB, prepares that, is refused, and goes on with half of it: most of its time on a small volume.
  const image_file = statSync(image);
  if (image_file.isFile() && image_file.size <= SMALL) limits.push(`--as=${2 * SMALL}`);
  return ["setpriv", ...drop, "prlimit", ...limits, ...argv];
}

function verdict(ran: Ran, allowed: readonly string[]): Fsck {
  const output = `${ran.stdout}${ran.stderr}`;
  const lines = output.split("\n").map((line) => line.trimEnd());
  const findings = lines.filter((line) => !HARMLESS.some((h) => h.test(line)) && !allowed.includes(line));
  if (ran.status !== 0) findings.push(`exit status ${ran.status}`);
  return { status: ran.status, findings, output };
}

/** Why fsck.ocfs2 cannot be asked; undefined when it can. */
export const fsckUnavailable = (): string | undefined =>
  which("fsck.ocfs2") === undefined ? "fsck.ocfs2 is not installed (Debian: apt-get install ocfs2-tools)" : undefined;

/**
 * Checks a volume that is not mounted, changing nothing. `allowed` are lines that the volume had before we touched it:
 * Debian's mkfs leaves the lost+found of some volumes without its index, for one.
 */
export const fsck = (image: string, allowed: readonly string[] = []): Fsck =>
  verdict(trySh(fsckArgv(["-fn"], image)), allowed);

export const fsckAsync = async (image: string, allowed: readonly string[] = []): Promise<Fsck> =>
  verdict(await runAsync(fsckArgv(["-fn"], image), { timeout_ms: 600_000 }), allowed);

/**
 * An error of fsck.ocfs2's own, which the kernel's volumes get as well: it does not forget the depth of one attribute value's tree
 * before it looks at the next value in the block (xattr.c, check_xattr_value: one extent_info for all). A tree that is wrong looks the
 * same to it, and what it names is not always the inode. So whoever lets this pass reads all attributes and all data of the volume with a
 * reader that checks each block's depth against its parent's: ours does (volume/extents/path.ts, readChild).
 */
export const DEPTH_OF_ANOTHER =
  /^\[EXTENT_LIST_DEPTH\] Extent list in (?:inode|owner) \d+ is recorded as being at depth 1 but we expect it to be at depth 0\./;

/** Throws, with what fsck.ocfs2 said, unless the volume is whole. */
export async function fsckClean(image: string, allowed: readonly string[] = []): Promise<void> {
  const { findings } = await fsckAsync(image, allowed);
  if (findings.length > 0)
    throw new Error(`fsck.ocfs2 -fn ${image}:\n${findings.slice(0, 40).join("\n")}\n(${findings.length} lines)`);
}

/** Replays journals and repairs; the codes of what was repaired ("[CODE] …" lines). */
export async function fsckRepair(image: string): Promise<string[]> {
  const once = async (): Promise<{ status: number; lines: string[] }> => {
    const ran = await runAsync(fsckArgv(["-fy"], image), { timeout_ms: 600_000 });
    return { status: ran.status, lines: `${ran.stdout}${ran.stderr}`.split("\n") };
  };
  let { status, lines } = await once();
  // After a replay Debian's looks for a cluster service, even on a local volume, and gives up. The replay is done, though.
  if (status === 8 && lines.some((line) => line.endsWith("journal replayed successfully.")))
    ({ status, lines } = await once());
  const repaired = lines.filter((line) => /^\[[A-Z_0-9]+\]/.test(line));
  // 1: errors were corrected.
  if (status > 1) repaired.push(`exit status ${status}: ${lines.slice(-6).join(" ")}`);
  return repaired;
}

/** The output of a debugfs.ocfs2 command; it writes errors among it and ends with 0. */
export const debugfs = (image: string, command: string): Promise<string> =>
  run(["debugfs.ocfs2", "-n", "-R", command, image]);

/**
 * Lines that differ between two manifests, "-" for the first and "+" for the second; empty when they are equal. `ignore` drops
 * lines from both.
 */
export function diffLines(a: string, b: string, ignore?: (line: string) => boolean): string[] {
  if (a === b) return [];
  const keep = (text: string): string[] => text.split("\n").filter((line) => ignore === undefined || !ignore(line));
  const count = new Map<string, number>();
  for (const line of keep(a)) count.set(line, (count.get(line) ?? 0) + 1);
  const out: string[] = [];
  for (const line of keep(b)) {
    const n = count.get(line) ?? 0;
    if (n === 0) out.push(`+ ${line}`);
    else count.set(line, n - 1);
  }
  for (const [line, n] of count) if (n > 0) out.push(`- ${line}`);
  return out.sort((x, y) => (x.slice(2) < y.slice(2) ? -1 : 1));
}
