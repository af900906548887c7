/**
 * What is unpacked and built: the part of Debian's linux-source that a kernel without any option needs (about 27,000 files), made
 * once into a plain tar outside the repository; where linux-source is not installed, this repository with what it depends on.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { tempDir } from "../../test/support/cleanup.ts";
import { repoRoot } from "../../test/support/rig.ts";
import { missing, sh } from "../../test/support/sh.ts";

export interface Tree {
  readonly name: string;
  readonly tar: string;
  readonly tar_bytes: number;
  readonly files: number;
  /** The folder that the tar makes. */
  readonly top: string;
  /** Shell commands that build it, run in the folder; undefined where it cannot be built, with the reason. */
  readonly build: readonly string[] | undefined;
  readonly why_not: string | undefined;
}

/** Sources that a kernel without options does not compile. Their Kconfig and Makefile files stay. */
const LEFT_OUT = ["gpu", "net", "media", "staging", "infiniband", "scsi", "iio", "clk", "usb", "hwmon", "pinctrl"]
  .map((name) => `*/drivers/${name}/*.[ch]`)
  .concat(["*/Documentation/*/*", "*/sound/*.[ch]", "*/samples/*.[ch]", "*/tools/testing/*", "*/tools/perf/*"])
  .concat(["*/arch/[a-wyz]*/*.[chS]", "*/arch/xtensa/*.[chS]", "*/arch/*/*.dts*", "*/arch/[a-wyz]*/*defconfig*"]);

const cacheDir = (): string => join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "ocfs2-bench");

function linuxSource(): string | undefined {
  if (!existsSync("/usr/src")) return undefined;
  const found = readdirSync("/usr/src").filter((name) => /^linux-source-[\d.]+\.tar\.xz$/.test(name));
  return found.length === 0 ? undefined : join("/usr/src", found.sort().at(-1)!);
}

const countFiles = (tar: string): number =>
  sh(["tar", "-tf", tar])
    .split("\n")
    .filter((line) => line !== "" && !line.endsWith("/")).length;

/** The tree, made if need be: that takes about a minute once. */
export function makeTree(onStep: (what: string) => void = () => {}): Tree {
  const source = linuxSource();
  if (source !== undefined) {
    const top = source.slice("/usr/src/".length, -".tar.xz".length);
    // Another part is another file.
    const part = createHash("sha256").update(LEFT_OUT.join()).digest("hex").slice(0, 8);
    const tar = join(cacheDir(), `${top}-${part}.tar`);
    if (!existsSync(tar)) {
      onStep(`unpacking ${source}, once`);
      mkdirSync(cacheDir(), { recursive: true });
      const dir = tempDir("ocfs2-bench", { base: cacheDir() });
      sh(["tar", "-C", dir, "-xf", source, "--wildcards", ...LEFT_OUT.map((pattern) => `--exclude=${pattern}`)]);
      sh(["tar", "-C", dir, "-cf", `${tar}.new`, top]);
      renameSync(`${tar}.new`, tar);
      rmSync(dir, { recursive: true });
    }
    const lacking = missing("make", "gcc", "flex", "bison", "bc");
    const ok = lacking.length === 0;
    return {
      ...{ name: `part of ${top}`, tar, tar_bytes: statSync(tar).size, files: countFiles(tar), top },
      build: ok ? ["make -s allnoconfig", "make -s -j2 vmlinux"] : undefined,
      why_not: ok ? undefined : `not installed: ${lacking.join(", ")}`,
    };
  }
  const dir = tempDir("ocfs2-bench");
  const tar = join(dir, "tree.tar");
  const folders = ["src", "test", "docs", "scripts", "bench", "node_modules"].filter((f) =>
    existsSync(join(repoRoot, f)),
  );
  sh(["tar", "-C", repoRoot, "--transform=s,^,tree/,", "-cf", tar, ...folders]);
  return {
    ...{
      name: "this repository",
      tar,
      tar_bytes: statSync(tar).size,
      files: countFiles(tar),
      top: "tree",
      build: undefined,
    },
    why_not: "linux-source is not installed (Debian: apt-get install linux-source flex bison bc)",
  };
}
