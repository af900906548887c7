/** What programs see of names while the cluster locks that cover them come and go. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildC, ccUnavailable } from "../support/build_c.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable, withMount } from "../support/mount.ts";
import { run } from "../support/sh.ts";

const unavailable = mountUnavailable() ?? fsckUnavailable() ?? ccUnavailable();
if (unavailable !== undefined) console.warn(`SKIPPED: names on a mount: ${unavailable}`);

// When the kernel forgets a name before it looks it up again, a build that runs there fails here and there: "getcwd: no such file or directory".
test.skipIf(unavailable !== undefined)(
  "a program's folder keeps its path in folders that others take all the time",
  async () => {
    const image = join(tempDir("ocfs2-names"), "image");
    mkfs(image, 128);
    const said = await withMount(
      image,
      (at) => {
        const dir = join(at, "a", "b");
        mkdirSync(dir, { recursive: true });
        return run([buildC("getcwd_race.c"), dir, "500", "2500"], { timeout_ms: 60_000 });
      },
      { options: "lockdomain=random:1" },
    );
    const [asked = 0, none = 0] = said.trim().split(" ").map(Number);
    expect(asked).toBeGreaterThan(1000);
    expect(none).toBe(0);
    expect(fsck(image).findings).toEqual([]);
  },
);

// A listing that gave the kernel inodes to make waited there for the look-up of one of its names, which waited for the lock of an inode that was still to be made.
test.skipIf(unavailable !== undefined)(
  "who lists a folder and who looks its names up do not wait for each other",
  async () => {
    const image = join(tempDir("ocfs2-listing"), "image");
    mkfs(image, 128);
    const race = async (at: string): Promise<string> => {
      const dir = join(at, "a");
      mkdirSync(dir);
      return run([buildC("listing_race.c"), dir, "100", "5000"], { timeout_ms: 60_000 });
    };
    await withMount(image, race, { options: "lockdomain=random:1,namecool=0" });
    expect(fsck(image).findings).toEqual([]);
  },
);
