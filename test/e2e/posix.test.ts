/**
 * What programs get from the system calls, each request of FUSE and each rule of errno among them: test/support/posix.py asks, posix.expected has the
 * answers. They are ext4's, but for what OCFS2 has otherwise: no collapse and insert, direct I/O of any alignment, attributes of 64 KiB, and
 * space behind the end of a file that UNRESVSP takes away; and what FUSE does not tell of setuid and setgid (docs/FUSE.md).
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, fsckUnavailable, KEPT_SPACE } from "../support/judges.ts";
import { mountUnavailable, withMount } from "../support/mount.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, runAsync } from "../support/sh.ts";

const unavailable =
  mountUnavailable() ?? fsckUnavailable() ?? (missing("python3").length > 0 ? "no python3" : undefined);
if (unavailable !== undefined) console.warn(`SKIPPED: system calls on a mount: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("system calls on a mount", () => {
  test.each([
    ["of one node", {}, []],
    ["of which every lock is called off at random", { options: "lockdomain=random:11" }, ["called-off"]],
  ])("%s", async (_, mount, args) => {
    const image = join(tempDir("ocfs2-posix"), "image");
    mkfs(image, 300, ["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=16M"]);
    await withMount(
      image,
      async (dir) => {
        const ran = await runAsync(["python3", join(repoRoot, "test/support/posix.py"), dir, ...args], {
          timeout_ms: 110_000,
        });
        expect(ran.stderr).toBe("");
        await expect(ran.stdout).toMatchFileSnapshot(join(import.meta.dirname, "posix.expected"));
      },
      mount,
    );
    expect(fsck(image).findings.filter((line) => !KEPT_SPACE.test(line))).toEqual([]);
  });
});
