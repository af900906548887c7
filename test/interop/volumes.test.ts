/**
 * Volumes that a Linux kernel wrote, through our mount: every stat field and every md5 is what the kernel saw, the journal of `dirty`
 * was replayed, the unmount leaves what fsck.ocfs2 calls clean, and all is there as before.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { fsck, fsckClean, fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable, withMount } from "../support/mount.ts";
import { capture, capturedVolumes, readCapture, unpackVolume } from "../support/volumes.ts";

const unavailable = mountUnavailable() ?? fsckUnavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: captured volumes through a mount: ${unavailable}`);

describe.skipIf(unavailable !== undefined)("a volume that a kernel wrote", () => {
  test.each(capturedVolumes())("%s is seen as the kernel saw it", { timeout: 300_000 }, async (name) => {
    const image = join(tempDir("ocfs2-captured"), "image");
    unpackVolume(name, image);
    const known = fsck(image).findings.filter((line) => line.startsWith("[DX_TREE_MISSING]"));
    const kernel = readCapture(name);
    expect(kernel.stats.length).toBeGreaterThan(5);
    expect(kernel.md5.length).toBeGreaterThan(3);

    for (const options of ["rw", "ro"]) {
      const ours = await withMount(image, async (dir) => capture(dir), { options });
      expect(ours.stats).toEqual(kernel.stats);
      expect(ours.md5).toEqual(kernel.md5);
    }
    await fsckClean(image, known);
  });
});
