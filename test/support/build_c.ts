/** Small programs of ours in C, for what TypeScript cannot do (mmap, fallocate, copy_file_range): compiled when a test wants them. */
import { basename, join } from "node:path";
import { tempDir } from "./cleanup.ts";
import { repoRoot } from "./rig.ts";
import { sh, which } from "./sh.ts";

export const ccUnavailable = (): string | undefined =>
  which("gcc") === undefined ? "gcc is not installed (Debian: apt-get install gcc libc6-dev)" : undefined;

const built = new Map<string, string>();

/** The path of the program from a C file in test/support. */
export function buildC(name: string): string {
  let program = built.get(name);
  if (program === undefined) {
    program = join(tempDir("ocfs2-c"), basename(name, ".c"));
    sh(["gcc", "-O2", "-Wall", "-o", program, join(repoRoot, "test", "support", name)]);
    built.set(name, program);
  }
  return program;
}
