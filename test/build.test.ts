/** bin/ocfs2 builds what is stale at each start: sources that a checkout made newer without changing them must not be built over and over. */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, symlinkSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempDir } from "./support/cleanup.ts";
import { repoRoot } from "./support/rig.ts";

const isStale = (root: string): boolean =>
  execFileSync(process.execPath, [
    "--input-type=module",
    "-e",
    `console.log((await import(${JSON.stringify(join(root, "scripts/build.mjs"))})).isStale())`,
  ])
    .toString()
    .trim() === "true";

test("sources that are newer and the same are looked at once", () => {
  const root = tempDir("ocfs2-build");
  for (const name of ["package.json", "package-lock.json", "src", "asm", "scripts", "bin", "dist"])
    cpSync(join(repoRoot, name), join(root, name), { recursive: true, preserveTimestamps: true });
  mkdirSync(join(root, "native", "target"), { recursive: true });
  for (const name of ["Cargo.toml", "Cargo.lock", "src", "ocfs2.node", "target/ocfs2.node.sha256"])
    if (existsSync(join(repoRoot, "native", name)))
      cpSync(join(repoRoot, "native", name), join(root, "native", name), { recursive: true, preserveTimestamps: true });
  symlinkSync(join(repoRoot, "node_modules"), join(root, "node_modules"));
  const now = new Date(Date.now() - 1000);
  for (const name of ["asm", "asm/index.ts", "native/src", "native/src/lib.rs", "src", "src/cli/main.ts"])
    utimesSync(join(root, name), now, now);
  expect(isStale(root)).toBe(true);
  execFileSync(process.execPath, [join(root, "bin", "ocfs2"), "--help"]);
  expect(isStale(root)).toBe(false);
});
