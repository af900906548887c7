/** Two loop devices over one file have a page cache each, as two machines with one disk. */
import { closeSync, openSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { atExit, tempDir } from "../../test/support/cleanup.ts";
import { missing, sh, trySh } from "../../test/support/sh.ts";
import { openReader } from "./disk_reader.ts";

const image = (bytes: number): string => {
  const path = join(tempDir("ocfs2-reader"), "image");
  writeFileSync(
    path,
    Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + (i >> 8)) & 255),
  );
  return path;
};

test("a file is read from any place, in any length, to its end", () => {
  const path = image(10_000);
  const reader = openReader(path);
  expect([...reader.readAt(9_990, 100)]).toEqual(Array.from({ length: 10 }, (_, i) => ((9_990 + i) * 7 + 39) & 255));
  expect(reader.readAt(20_000, 1)).toHaveLength(0);
  reader.close();
  expect(() => openReader(`${path}.none`)).toThrow("ENOENT");
});

const why = process.getuid?.() !== 0 ? "loop devices need root" : missing("losetup").length > 0 ? "no losetup" : "";
if (why !== "") console.warn(`SKIPPED: reading a shared disk: ${why}`);

test.skipIf(why !== "")(
  "what another machine has written to a shared disk is seen, whatever this one has in its page cache",
  () => {
    const path = image(3 << 20);
    const [here, there] = [0, 1].map(() => {
      const loop = sh(["losetup", "-f", "--show", path]).trim();
      atExit(() => trySh(["losetup", "-d", loop]));
      return loop;
    }) as [string, string];
    // Somebody here has it open, and has read it.
    const fd = openSync(here, "r");
    const cached = new Uint8Array(4096);
    readSync(fd, cached, 0, 4096, 8192);
    sh(["dd", "if=/dev/zero", `of=${there}`, "bs=4096", "seek=2", "count=1", "oflag=direct", "status=none"]);
    readSync(fd, cached, 0, 4096, 8192);
    expect(cached.some((b) => b !== 0)).toBe(true);

    const reader = openReader(here);
    expect(reader.readAt(8192, 4096).every((b) => b === 0)).toBe(true);
    // Across the edges of what is read at a time, from and to odd places.
    const all = reader.readAt(1, (3 << 20) + 100);
    expect(all).toHaveLength((3 << 20) - 1);
    for (const at of [1, 511, 4095, (1 << 20) - 1, 1 << 20, (2 << 20) + 3, (3 << 20) - 1])
      expect(all[at - 1]).toBe((at * 7 + (at >> 8)) & 255);
    reader.close();
    closeSync(fd);
  },
);
