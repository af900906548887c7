/**
 * Files and folders opened by their handles on a mount whose kernel knows nothing of them yet, as an NFS server does: from a folder it finds
 * the way to the root by "..".
 */
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable, withMount } from "../support/mount.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, runAsync } from "../support/sh.ts";

const unavailable =
  mountUnavailable() ?? fsckUnavailable() ?? (missing("python3").length > 0 ? "no python3" : undefined);
if (unavailable !== undefined) console.warn(`SKIPPED: file handles: ${unavailable}`);

const FOLDERS = ["above", "above/below"];
const PATHS = [...FOLDERS, "above/below/file", "file", "."];

test.skipIf(unavailable !== undefined)("handles outlast the mount that gave them", async () => {
  const dir = tempDir("ocfs2-handles");
  const [image, handles] = [join(dir, "image"), join(dir, "handles")];
  mkfs(image, 64, ["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"]);
  const script = join(repoRoot, "test/support/handles.py");
  const ran = async (at: string, command: string): Promise<string> => {
    const r = await runAsync(["sh", "-ec", `cd ${at}; python3 ${script} ${command}`], { timeout_ms: 30_000 });
    expect(r.stderr).toBe("");
    return r.stdout;
  };
  const wanted = await withMount(image, async (at) => {
    mkdirSync(join(at, "above/below"), { recursive: true });
    for (const path of PATHS) if (path.endsWith("file")) writeFileSync(join(at, path), path);
    writeFileSync(handles, await ran(at, `names ${PATHS.join(" ")}`));
    return PATHS.map((path) => statSync(join(at, path)).ino);
  });
  await withMount(image, async (at) => {
    const lines = (await ran(at, `opens < ${handles}`)).trim().split("\n");
    expect(lines.map((line) => Number(line.split(" ").at(-1)))).toEqual(wanted);
    // Of folders the path is known then.
    expect(lines.slice(0, FOLDERS.length).map((line) => line.split(" ")[0])).toEqual(FOLDERS.map((path) => `/${path}`));
    writeFileSync(join(at, "still"), "writable");
    expect(readFileSync(join(at, "above/below/file"), "utf8")).toBe("above/below/file");
  });
  expect(fsck(image).findings).toEqual([]);
});
