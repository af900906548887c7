/**
 * We and the kernel on one volume, by turns. Ours first: the workload through our mount, unmount, fsck.ocfs2 finds nothing, and a kernel
 * node reads every attribute and every byte as our own second mount does. Then the reverse: the kernel runs the workload on the
 * volume as we left it, and we read what it reads. Then each deletes and changes what the other wrote, and the volume is judged again.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildC } from "../support/build_c.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs, type OptionSet } from "../support/images.ts";
import { DEPTH_OF_ANOTHER, diffLines, fsckAsync, KEPT_SPACE } from "../support/judges.ts";
import { withMount } from "../support/mount.ts";
import { hostManifest, type KernelNode, kernelManifest, repoRoot, rigScripts, withKernelNode } from "../support/rig.ts";
import { run, runAsync, sh } from "../support/sh.ts";

export { OPTION_SETS } from "../support/images.ts";

export interface InteropOptions {
  readonly set: OptionSet;
  readonly seed: number;
  /** Percent of the full workload. */
  readonly scale: number;
  readonly size_mib: number;
  /** Without the source tree and git. */
  readonly small?: boolean;
  readonly onStep?: (step: string) => void;
}

export interface InteropStep {
  readonly step: string;
  readonly seconds: number;
  readonly problems: string[];
}

/** Steps that a run without problems has. One with fewer ended where the kernel alone damages a volume, too. */
export const STEPS = 8;

/** The kernel miscounts these when it splits or changes buckets of xattrs, on volumes that we never touched too. */
const KERNELS_OWN = /^\[XATTR_(VALUE_LEN|FREE_START)_INVALID\]/;

let sources: { tar: string; repository: string } | undefined;

/** A real source tree as a tar, and a repository to clone. */
function makeSources(): { tar: string; repository: string } {
  if (sources !== undefined) return sources;
  const dir = tempDir("ocfs2-sources");
  const tar = join(dir, "tree.tar");
  const folders = [
    "src",
    "test",
    "docs",
    "scripts",
    "node_modules/@types",
    "node_modules/vitest",
    "node_modules/isomorphic-git",
  ];
  sh(["tar", "-C", repoRoot, "-cf", tar, ...folders.filter((f) => existsSync(join(repoRoot, f)))]);
  const repository = join(dir, "repository");
  if (existsSync(join(repoRoot, ".git"))) sh(["git", "clone", "-q", "--bare", repoRoot, repository]);
  else {
    sh(["git", "init", "-q", "--bare", repository]);
  }
  sources = { tar, repository };
  return sources;
}

/**
 * A kernel stops in BUG_ON(why == RESTART_META) of ocfs2_xattr_extend_allocation when free space is in pieces smaller than a value.
 * We write such values, and it reads them; it is only not asked to write them.
 */
const KERNEL_XATTR_BYTES = 3000;

function workloadArgs(options: InteropOptions, at: string, host: string, seed: number): string[] {
  const xattr = String(host === "" ? 60_000 : KERNEL_XATTR_BYTES);
  const program = `${host}${buildC("workload.c")}`;
  if (options.small === true) return [program, "-s", String(seed), "-k", String(options.scale), "-x", xattr, at];
  const { tar, repository } = makeSources();
  const script = `${host}${rigScripts}/workload.sh`;
  return [
    "bash",
    script,
    at,
    program,
    `${host}${tar}`,
    `${host}${repository}`,
    String(seed),
    String(options.scale),
    xattr,
  ];
}

/** The kernel's workload, in a folder of its own. */
async function kernelWork(node: KernelNode, options: InteropOptions): Promise<void> {
  await node.run("mkdir /o/kernel");
  await node.run(workloadArgs(options, "/o/kernel", "/host", options.seed + 1).join(" "), 1_800_000);
}

/** Lines of a manifest that no file system can keep alike: the root's own line when its times moved with lost+found. */
const problemsOf = (step: string, a: string, b: string): string[] => {
  const diff = diffLines(a, b);
  return diff.length === 0 ? [] : [`${step}: ${diff.length} lines differ`, ...diff.slice(0, 12)];
};

/** The kind of a finding: its code, or for those about attributes that they are, since which of them it is hangs on bytes of values. */
const kindOf = (finding: string): string => finding.match(/^\[(XATTR(?=_)|\w+)/)?.[1] ?? finding;

/** What fsck.ocfs2 finds on a volume that only the kernel had, after the work that it does on ours. */
async function kernelAlone(options: InteropOptions): Promise<string[]> {
  const image = join(tempDir("ocfs2-alone"), "image");
  mkfs(image, options.set.size_mib ?? options.size_mib, options.set.args);
  const known = (await fsckAsync(image)).findings;
  await withKernelNode(image, (node) => kernelWork(node, options));
  return (await fsckAsync(image, known)).findings;
}

/** Runs all of it for one option set; the steps with what went wrong in each. */
export async function interopRun(options: InteropOptions): Promise<InteropStep[]> {
  const { set } = options;
  const dir = tempDir("ocfs2-interop");
  const image = join(dir, "image");
  mkfs(image, set.size_mib ?? options.size_mib, set.args);
  const known = (await fsckAsync(image)).findings;
  const mountOptions = set.mountOptions === undefined ? {} : { options: set.mountOptions };
  const steps: InteropStep[] = [];

  const step = async (name: string, work: () => Promise<string[]>): Promise<boolean> => {
    options.onStep?.(name);
    const began = performance.now();
    let problems: string[];
    try {
      problems = await work();
    } catch (err) {
      problems = [err instanceof Error ? err.message : String(err)];
    }
    steps.push({ step: name, seconds: (performance.now() - began) / 1000, problems });
    return problems.length === 0;
  };
  const judge = async (): Promise<string[]> => {
    const { findings } = await fsckAsync(image, known);
    const left = findings.filter((line) => !KEPT_SPACE.test(line));
    const sound = await soundTrees(left);
    return left.filter((line) => !sound.includes(line)).slice(0, 20);
  };
  const ours = <T>(fn: (at: string) => Promise<T>): Promise<T> => withMount(image, fn, mountOptions);
  /** Those about the depth of a tree, where every attribute and every byte of the volume can be read: fsck.ocfs2 is wrong there. */
  const soundTrees = async (findings: readonly string[]): Promise<string[]> => {
    const doubted = findings.filter((line) => DEPTH_OF_ANOTHER.test(line));
    if (doubted.length === 0) return [];
    const script =
      'getfattr -R --absolute-names -h -d -m - -- "$1" >/dev/null; find "$1" -xdev -type f -exec cat {} + >/dev/null';
    const read = await ours((at) => runAsync(["bash", "-ec", script, "sh", at], { timeout_ms: 600_000 }));
    return read.status === 0 && read.stderr === "" ? doubted : [];
  };

  let live = "";
  let theirs = "";
  const ok = await step("we write", async () => {
    live = await ours(async (at) => {
      sh(["mkdir", join(at, "ours")]);
      await run(workloadArgs(options, join(at, "ours"), "", options.seed), { timeout_ms: 1_800_000 });
      return hostManifest(at);
    });
    return [];
  });
  if (!ok) return steps;
  await step("fsck after us", judge);
  await step("the kernel reads", async () => {
    const kernel = await withKernelNode(image, kernelManifest, "ro");
    return problemsOf("our live mount (-), the kernel (+)", live, kernel);
  });
  await step("the kernel writes", async () => {
    theirs = await withKernelNode(image, async (node) => {
      await kernelWork(node, options);
      // And into what is ours.
      await node.run(
        "cd /o/ours; rm -rf storm/d1 names bigdir; [ -e tree ] && rm -rf tree/src; for f in churn/*; do echo more >>$f; done",
      );
      // From the disk: what the kernel holds in memory of a folder's blocks, for one, is not always what it has written.
      await node.unmount();
      await node.mount("ro");
      return kernelManifest(node);
    });
    return [];
  });
  let damaged: string[] = [];
  await step("fsck after the kernel", async () => {
    const findings = await judge();
    known.push(...findings.filter((line) => KERNELS_OWN.test(line)));
    damaged = findings.filter((line) => !KERNELS_OWN.test(line));
    if (damaged.length === 0) return [];
    const alone = new Set((await kernelAlone(options)).map(kindOf));
    return damaged.filter((line) => !alone.has(kindOf(line)));
  });
  // It lays attributes of a bucket over each other, in some orders of setting them: which those are, only luck says.
  if (damaged.length > 0 && steps.at(-1)!.problems.length === 0) {
    await step(`the kernel alone damages a volume so: ${[...new Set(damaged.map(kindOf))].join(", ")}`, async () => []);
    return steps;
  }
  await step("we read", async () => {
    const { ro } = { ro: set.mountOptions === undefined ? "ro" : `ro,${set.mountOptions}` };
    const seen = await withMount(image, hostManifest, { options: ro });
    return problemsOf("the kernel (-), our mount (+)", theirs, seen);
  });
  await step("we change what is theirs", async () => {
    live = await ours(async (at) => {
      const script =
        "rm -rf storm/d2 names bigdir; for f in churn/*; do echo more >>$f; done; rm -rf reflink/clone-1; truncate -s 70000 reflink/base";
      await run(["bash", "-c", `cd ${at}/kernel && { ${script}; }`]);
      return hostManifest(at);
    });
    return judge();
  });
  await step("the kernel reads again", async () => {
    const kernel = await withKernelNode(image, kernelManifest, "ro");
    return problemsOf("our live mount (-), the kernel (+)", live, kernel);
  });
  return steps;
}
