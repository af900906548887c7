/**
 * bin/ocfs2 builds what is stale at each start: sources that a checkout made newer without changing them must not be built over and over.
 * And what V8 made of a bundle is used with that bundle, or not at all.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempDir } from "./support/cleanup.ts";
import { repoRoot } from "./support/rig.ts";

const isStale = (root: string): boolean =>
  execFileSync(process.execPath, ["-p", `require(${JSON.stringify(join(root, "scripts/built.cjs"))}).isStale()`])
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

test("what was not built is named", () => {
  const root = tempDir("ocfs2-unbuilt");
  cpSync(join(repoRoot, "bin"), join(root, "bin"), { recursive: true });
  const ran = spawnSync(process.execPath, [join(root, "bin", "ocfs2"), "--help"], { encoding: "utf8" });
  expect(ran).toMatchObject({
    status: 1,
    stderr: `ocfs2: ${root}/dist/cli_help.cjs is missing: run "npm run setup" first\n`,
  });
});

describe("the code cache of a bundle", () => {
  const root = tempDir("ocfs2-cache");
  for (const name of ["bin", "dist/cli_help.cjs"]) cpSync(join(repoRoot, name), join(root, name), { recursive: true });
  const made = join(repoRoot, "dist", `cli_help.${process.version}-${process.arch}.cache`);
  const path = join(root, "dist", `cli_help.${process.version}-${process.arch}.cache`);
  const flipped = (at: number): Buffer => {
    const bytes = readFileSync(made);
    bytes[at]! ^= 4;
    return bytes;
  };

  /** What V8 says of the cache that lies there: used, or why not. */
  const verdict = (): string => {
    const code = `
      const { cachedDataOf, compile } = require("./bin/start.js");
      const { readFileSync } = require("node:fs");
      const source = readFileSync("dist/cli_help.cjs", "latin1");
      const data = cachedDataOf(readFileSync(${JSON.stringify(path)}), source);
      const rejected = data && compile("dist/cli_help.cjs", source, data).cachedDataRejected;
      console.log(data === undefined ? "not its own" : rejected ? "rejected" : "used");`;
    return execFileSync(process.execPath, ["-e", code], { cwd: root, encoding: "utf8" }).trim();
  };

  test.each<[string, () => Buffer, string]>([
    ["as it was made", () => readFileSync(made), "used"],
    ["with a bit changed", () => flipped(readFileSync(made).length >> 2), "not its own"],
    ["of another bundle", () => flipped(0), "not its own"],
    ["cut short", () => readFileSync(made).subarray(0, 20_001), "not its own"],
    ["empty", () => Buffer.alloc(0), "not its own"],
  ])("%s", (_, bytes, expected) => {
    writeFileSync(path, bytes());
    expect(verdict()).toBe(expected);
    const told = execFileSync(process.execPath, [join(root, "bin", "start.js"), "--help"], { encoding: "utf8" });
    expect(told).toContain("mkfs");
  });
});
