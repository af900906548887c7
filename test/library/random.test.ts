/**
 * Random programs over a few names, run on node:fs/promises in a folder and on a volume: each call answers or fails alike, and
 * in the end both trees are the same. Finds what the listed steps of conformance.test.ts do not think of.
 */
import * as node_promises from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { FsPromises } from "../../src/api/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { lacksTools, newImage, onVolume } from "./support.ts";

type Call = [name: string, ...args: unknown[]];

const name = fc.constantFrom("a", "b", "c");
/** A path of one to three names, sometimes with dots or a slash behind it. */
const path = fc
  .tuple(fc.array(name, { minLength: 1, maxLength: 3 }), fc.constantFrom("", "", "", "", "", "/", "/.", "/.."))
  .map(([names, tail]) => `/${names.join("/")}${tail}`);
const target = fc.oneof(
  name,
  fc.tuple(name, name).map(([x, y]) => `../${x}/${y}`),
  fc.constantFrom(".", "..", "c/b/a"),
);
const size = fc.constantFrom(0, 1, 100, 4000, 70_000);

const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("mkdir"), path) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("mkdirp"), path) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("write"), path, size) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("append"), path, size) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("create"), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("read"), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("list"), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("stat"), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("lstat"), path) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("realpath"), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("unlink"), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("rmdir"), path) },
  { weight: 5, arbitrary: fc.tuple(fc.constant("rename"), path, path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("link"), path, path) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("symlink"), target, path) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("readlink"), path) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("truncate"), path, size) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("copy"), path, path) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("rm"), path) },
);

async function perform(fs: FsPromises, root: string, [what, ...args]: Call): Promise<unknown> {
  const at = (i = 0): string => `${root}${args[i] as string}`;
  const data = (): Buffer => Buffer.alloc(args[1] as number, "data ");
  const strip = (text: string | undefined): string | undefined => text?.replaceAll(root, "");
  switch (what) {
    case "mkdir":
      return fs.mkdir(at());
    case "mkdirp":
      // Where a symlink leads nowhere, node's errors depend on its own way of trying.
      return strip(await fs.mkdir(at(), { recursive: true }).catch(() => "failed"));
    case "write":
      return fs.writeFile(at(), data());
    case "append":
      return fs.appendFile(at(), data());
    case "create":
      return fs.writeFile(at(), "", { flag: "wx" });
    case "read":
      return (await fs.readFile(at())).toString("latin1");
    case "list":
      return (await fs.readdir(at())).sort();
    case "stat":
    case "lstat": {
      const s = await fs[what](at());
      // Some file systems count no subdirectories.
      return [s.mode, s.isDirectory() ? -1 : s.nlink, s.isDirectory() ? -1 : s.size];
    }
    case "realpath": {
      const real = await fs.realpath(at());
      return real.startsWith(root) ? strip(real) : "above";
    }
    case "unlink":
      return fs.unlink(at());
    case "rmdir":
      return fs.rmdir(at());
    case "rename":
      return fs.rename(at(), at(1));
    case "link":
      return fs.link(at(), at(1));
    case "symlink":
      return fs.symlink(args[0] as string, at(1));
    case "readlink":
      return fs.readlink(at());
    case "truncate":
      return fs.truncate(at(), args[1] as number);
    case "copy":
      // libuv removes the destination when the source turns out to be a directory.
      if ((await fs.stat(at())).isDirectory()) return undefined;
      return fs.copyFile(at(), at(1));
    default:
      // ".." at the end of a path may lead out of the folder.
      return at().endsWith(".") ? undefined : fs.rm(at().replace(/\/$/, ""), { recursive: true });
  }
}

async function answer(fs: FsPromises, root: string, c: Call): Promise<unknown> {
  try {
    return { value: (await perform(fs, root, c)) ?? null };
  } catch (err) {
    const e = err as NodeJS.ErrnoException;
    return { code: e.code, syscall: e.syscall, message: e.message.replaceAll(root, "") };
  }
}

async function treeOf(fs: FsPromises, dir: string): Promise<string[]> {
  const out: string[] = [];
  for (const e of (await fs.readdir(dir, { withFileTypes: true })).sort((x, y) => (x.name < y.name ? -1 : 1))) {
    const p = `${dir}/${e.name}`;
    if (e.isDirectory()) out.push(`${e.name}/`, ...(await treeOf(fs, p)).map((line) => `${e.name}/${line}`));
    else if (e.isSymbolicLink()) out.push(`${e.name} -> ${await fs.readlink(p)}`);
    else out.push(`${e.name} ${(await fs.lstat(p)).nlink} ${(await fs.readFile(p)).toString("latin1")}`);
  }
  return out;
}

describe.skipIf(lacksTools)("random programs", () => {
  test("answer on a volume as they do in a folder", async () => {
    const folder = tempDir("ocfs2-random");
    await onVolume(newImage(["-b", "1K", "-C", "4K"]), async (v) => {
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(call, { minLength: 20, maxLength: 60 }), async (calls) => {
          // Below folders that ".." may lead to.
          const below = `/run-${runs++}/upper/lower/top`;
          const theirs = node_promises as unknown as FsPromises;
          await theirs.mkdir(folder + below, { recursive: true });
          await v.promises.mkdir(below, { recursive: true });
          for (const c of calls)
            expect(await answer(v.promises, below, c), JSON.stringify(c)).toEqual(
              await answer(theirs, folder + below, c),
            );
          expect(await treeOf(v.promises, below)).toEqual(await treeOf(theirs, folder + below));
        }),
        // OCFS2_SEED and OCFS2_RUNS look further.
        { seed: Number(process.env["OCFS2_SEED"] ?? 1), numRuns: Number(process.env["OCFS2_RUNS"] ?? 60) },
      );
    });
  });
});
