/** The package as a program has it that installed it: what is in it, and its declarations, with none of this repository's settings. */
import { execFile } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { repoRoot } from "../support/rig.ts";

const run = promisify(execFile);

const PROGRAM = `
import type * as node_fs from "node:fs/promises";
import { type BigIntStats, type Dirent, type FileHandle, LockSpace, type ReadStream, type Stats, Volume } from "ocfs2";

const volume: Volume = await Volume.open("image", { readonly: true, uid: undefined });
const fs = volume.promises;
export const same: Pick<typeof node_fs, "access" | "chmod" | "copyFile" | "mkdir" | "rename" | "rm" | "rmdir" | "symlink" | "unlink" | "utimes"> = fs;
export const text: string = await fs.readFile("/a", "utf8");
export const bytes: Buffer = await fs.readFile("/a", { signal: undefined });
export const names: string[] = await fs.readdir("/");
export const entries: Dirent[] = await fs.readdir("/", { withFileTypes: true });
export const stats: Stats = await fs.stat("/a");
export const big: BigIntStats = await fs.stat("/a", { bigint: true });
export const first: string | undefined = await fs.mkdir("/x/y", { recursive: true });
const handle: FileHandle = await fs.open("/a", "r+");
handle.once("close", () => {});
export const { bytesRead } = await handle.read(Buffer.alloc(3), 0, 3, null);
export const stream: ReadStream = handle.createReadStream({ start: 1 });
for await (const line of handle.readLines()) console.log(line);
for await (const entry of await fs.opendir("/", { recursive: true })) console.log(entry.name, entry.isFile());
volume.fs.readFile("/a", (err: unknown, data: Buffer) => console.log(err, data));
const space: LockSpace = await LockSpace.join("things");
await space.close();
await volume.close();
`;

describe("the package", () => {
  test.concurrent.each([
    ["node16", "node16"],
    ["bundler", "esnext"],
  ])(
    "has declarations that a program with moduleResolution %s compiles against, all checked",
    async (resolution, module) => {
      const dir = tempDir("ocfs2-types");
      mkdirSync(join(dir, "node_modules", "@types"), { recursive: true });
      symlinkSync(repoRoot, join(dir, "node_modules", "ocfs2"));
      symlinkSync(join(repoRoot, "node_modules", "@types", "node"), join(dir, "node_modules", "@types", "node"));
      writeFileSync(join(dir, "package.json"), '{ "type": "module" }');
      writeFileSync(join(dir, "program.ts"), PROGRAM);
      const compilerOptions = {
        ...{
          module,
          moduleResolution: resolution,
          target: "es2022",
          lib: ["es2022", "esnext.disposable"],
          types: ["node"],
        },
        ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true },
      };
      writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["program.ts"] }));
      const tsc = join(repoRoot, "node_modules", ".bin", "tsc");
      const said = await run(tsc, ["-p", dir]).then(
        () => "",
        (err: { stdout: string }) => err.stdout,
      );
      expect(said).toBe("");
    },
  );

  test.concurrent("has what a program needs, and nothing that tests leave behind", async () => {
    const left = join(repoRoot, "dist", `left.${process.pid}.mjs`);
    writeFileSync(left, "");
    try {
      const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: repoRoot });
      const files = (JSON.parse(stdout) as { files: { path: string }[] }[])[0]!.files.map((f) => f.path);
      for (const needed of ["dist/index.js", "dist/ocfs2.wasm", "dist/pool_worker.js", "native/ocfs2.node"])
        expect(files).toContain(needed);
      for (const needed of [
        "bin/ocfs2",
        "dist/cli_help.cjs",
        "bin/start.js",
        "dist/types/api/index.d.ts",
        "LICENSE",
        "README.md",
      ])
        expect(files).toContain(needed);
      expect(files.filter((f) => !/^(bin|dist|docs|native)\/|^(LICENSE|README\.md|package\.json)$/.test(f))).toEqual(
        [],
      );
      expect(files.filter((f) => /\.mjs$|\.test\.|\.ts$/.test(f) && !f.endsWith(".d.ts"))).toEqual([]);
    } finally {
      rmSync(left, { force: true });
    }
  });
});
