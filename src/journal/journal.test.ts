import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { fsck, openImage } from "../../test/support/volume.ts";

const dirty = new URL("../../test/fixtures/volumes/dirty.img.xz", import.meta.url).pathname;

test.skipIf(!existsSync(dirty))("a kernel's dirty journal is replayed, and fsck.ocfs2 finds nothing", () => {
  const image = new Uint8Array(execFileSync("xz", ["-dc", dirty], { maxBuffer: 1 << 28 }));
  expect(fsck(image).clean).toBe(false);
  const v = openImage(image, { ro: true });
  v.close();
  const judged = fsck(image);
  expect(judged.output).not.toMatch(/journal/i);
  expect(judged.clean, judged.output).toBe(true);
});
