/**
 * A program from the ecosystem that takes its own fs: isomorphic-git makes a repository on a volume, and works in it. fsck.ocfs2
 * judges the volume, and the real git a copy of the repository that was read out of it.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import git from "isomorphic-git";
import { describe, expect, test } from "vitest";
import type { Volume } from "../../src/api/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { withMount } from "../support/mount.ts";
import { missing, run, sh } from "../support/sh.ts";
import { lacksTools, newImage, onVolume } from "./support.ts";

const author = { name: "A", email: "a@example.org", timestamp: 1_700_000_000, timezoneOffset: 0 };

/** Copies a tree out of a volume. */
async function copyOut(v: Volume, from: string, to: string): Promise<void> {
  mkdirSync(to, { recursive: true });
  for (const e of await v.promises.readdir(from, { withFileTypes: true })) {
    if (e.isDirectory()) await copyOut(v, `${from}/${e.name}`, join(to, e.name));
    else writeFileSync(join(to, e.name), await v.promises.readFile(`${from}/${e.name}`));
  }
}

type GitFs = Parameters<typeof git.init>[0]["fs"];

/** Two branches of twenty commits over a hundred files, merged; back to the first commit and again to the last. */
async function work(fs: GitFs, promises: Volume["promises"], dir: string) {
  await git.init({ fs, dir, defaultBranch: "main" });
  const file = (i: number) => `src/part-${i % 7}/file-${i}.txt`;
  for (let i = 0; i < 100; i++) {
    await promises.mkdir(`${dir}/src/part-${i % 7}`, { recursive: true });
    await promises.writeFile(`${dir}/${file(i)}`, `file ${i}\n`.repeat(i * 20));
  }
  await git.add({ fs, dir, filepath: "." });
  const first = await git.commit({ fs, dir, author, message: "first" });
  for (const branch of ["main", "side"]) {
    if (branch === "side") {
      await git.branch({ fs, dir, ref: "side", object: first });
      await git.checkout({ fs, dir, ref: "side" });
    }
    for (let i = 0; i < 20; i++) {
      const path = file(branch === "main" ? i : 50 + i);
      await promises.appendFile(`${dir}/${path}`, `${branch} ${i}\n`);
      if (i === 7) {
        const gone = file(branch === "main" ? 30 : 80);
        await promises.unlink(`${dir}/${gone}`);
        await git.remove({ fs, dir, filepath: gone });
      }
      await git.add({ fs, dir, filepath: path });
      await git.commit({ fs, dir, author, message: `${branch} ${i}` });
    }
  }
  await git.checkout({ fs, dir, ref: "main" });
  await git.merge({ fs, dir, ours: "main", theirs: "side", author });
  await git.checkout({ fs, dir, ref: first });
  const at_first = await git.listFiles({ fs, dir });
  await git.checkout({ fs, dir, ref: "main", force: true });
  const status = await git.statusMatrix({ fs, dir });
  return {
    log: new Set((await git.log({ fs, dir })).map((c) => c.oid)).size,
    at_first: at_first.length,
    files: status.length,
    changed: status.filter(([, head, worktree, stage]) => head !== 1 || worktree !== 1 || stage !== 1),
  };
}

const canMount = process.getuid?.() === 0 && existsSync("/dev/fuse");

describe.skipIf(lacksTools || missing("git").length > 0)("isomorphic-git on a volume", () => {
  for (const face of ["the volume itself", "volume.fs"]) {
    test(`with ${face} as its fs: git finds nothing wrong with the repository`, async () => {
      const image = newImage();
      const dir = "/home/repo";
      await onVolume(image, async (v) => {
        await v.promises.mkdir(dir, { recursive: true });
        const done = await work((face === "volume.fs" ? v.fs : v) as unknown as GitFs, v.promises, dir);

        expect(done).toMatchObject({ log: 42, at_first: 100, files: 98, changed: [] });
      });
      const out = join(tempDir("ocfs2-git"), "repo");
      await onVolume(image, (v) => copyOut(v, dir, out), { readonly: true });
      sh(["git", "-C", out, "fsck", "--strict"]);
      expect(sh(["git", "-C", out, "status", "--porcelain"])).toBe("");
      expect(sh(["git", "-C", out, "rev-list", "--count", "HEAD"]).trim()).toBe("42");
      expect(readFileSync(join(out, "src/part-0/file-0.txt"), "utf8")).toBe("main 0\n");
    });
  }

  test.skipIf(!canMount)("and git goes on with it on a mount, and isomorphic-git after that", async () => {
    const image = newImage();
    const dir = "/repo";
    await onVolume(image, async (v) => {
      await v.promises.mkdir(dir);
      await work(v as unknown as GitFs, v.promises, dir);
    });
    await withMount(image, async (mount) => {
      const repo = join(mount, "repo");
      const gitHere = (...args: string[]) =>
        run(["git", "-C", repo, "-c", "user.name=B", "-c", "user.email=b@example.org", ...args]);
      await gitHere("fsck", "--strict");
      expect(await gitHere("status", "--porcelain")).toBe("");
      await run(["sh", "-c", 'echo more >> "$1/src/part-0/file-0.txt"', "sh", repo]);
      await gitHere("commit", "-qam", "from the mount");
      await gitHere("gc", "-q");
      expect((await gitHere("rev-list", "--count", "HEAD")).trim()).toBe("43");
    });
    await onVolume(image, async (v) => {
      const [last] = await git.log({ fs: v as unknown as GitFs, dir, depth: 1 });
      expect(last?.commit.message).toBe("from the mount\n");
      expect(await v.promises.readFile(`${dir}/src/part-0/file-0.txt`, "utf8")).toBe("main 0\nmore\n");
    });
  });
});
