import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../test/support/volume.ts";
import { JBD2_MAGIC_NUMBER, JBD2_SUPERBLOCK_V2 } from "../format/jbd2/index.ts";
import { wait } from "../lib/task.ts";
import { fsync } from "../vfs/file.ts";
import { create, lookup } from "../vfs/namespace.ts";

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

const noMkfs = !haveTool("mkfs.ocfs2");
const newImage = (): Uint8Array => mkfsImage(["-b", "4096", "-C", "4096", "-J", "size=4M", "-N", "1"], 64);
const CRED = { uid: 0, gid: 0, umask: 0o022 };

/** The journal's superblock in an image. */
function superblockOf(image: Uint8Array): DataView {
  const dv = new DataView(image.buffer, image.byteOffset);
  for (let at = 0; at < image.length; at += 4096)
    if (dv.getUint32(at) === JBD2_MAGIC_NUMBER && dv.getUint32(at + 4) === JBD2_SUPERBLOCK_V2)
      return new DataView(image.buffer, image.byteOffset + at, 4096);
  throw new Error("no journal");
}
const S_SEQUENCE = 0x18;

function make({ osb }: TestVolume, name: string): void {
  const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o644, CRED));
  osb.runTaskSync(wait<void>((cb) => fsync(osb, osb.inodes.get(ino), false, cb)));
}

/** What is there after a cut now. */
function afterCut({ dev }: TestVolume, names: readonly string[]): string[] {
  const v = openImage(dev.data.slice());
  const { osb } = v;
  const there = names.filter((n) => osb.runSync((op) => lookup(op, osb.geo.root_blkno, Buffer.from(n))) !== undefined);
  v.close();
  return there;
}

test.skipIf(noMkfs)("a transaction that has data and no blocks: what is committed behind it is found", () => {
  const v = openImage(newImage());
  const { journal } = v.osb;
  make(v, "before");
  journal.orderData(v.osb.inodes.get(v.osb.geo.root_blkno));
  v.osb.runTaskSync(wait(journal.commitTid(journal.running_tid)));
  make(v, "behind");
  expect(afterCut(v, ["before", "behind"])).toEqual(["before", "behind"]);
  v.close();
});

test.skipIf(noMkfs)("the number of transactions wraps: the one with number 0 is as good as any other", () => {
  const image = newImage();
  superblockOf(image).setUint32(S_SEQUENCE, 0xffffffff);
  const v = openImage(image);
  const names = ["last", "zero", "one"];
  for (const name of names) {
    make(v, name);
    expect(afterCut(v, names).at(-1)).toBe(name);
    // What the log alone has stays in memory.
    v.osb.cache.forget(0, Number.MAX_SAFE_INTEGER);
  }
  expect(v.osb.journal.running_tid).toBeLessThan(10);
  v.close();
  expect(fsck(image).findings).toEqual([]);
  expect(afterCut(v, names)).toEqual(names);
});
