/** Inodes that a node knows: how many stay, and that those that are gone are. */
import { expect, test } from "vitest";
import { leftOf } from "../../test/support/garbage.ts";
import { haveTool, mkfsImage, openImage } from "../../test/support/volume.ts";
import { wait } from "../lib/task.ts";
import { writeFile } from "../vfs/file.ts";
import { create, unlink } from "../vfs/namespace.ts";
import type { Inode } from "./inode.ts";

const noMkfs = !haveTool("mkfs.ocfs2");
const BOUND = 64;
const CAME = 600;
const AT_A_TIME = 40;
/** Blocks in memory, each of which keeps the inode whose it was last. */
const BLOCKS = 256;

function volume() {
  const image = mkfsImage(["-b", "4096", "-C", "4096", "-J", "size=4M", "-N", "1"], 64);
  const { osb, close } = openImage(image, { cached_inodes: BOUND, cache_bytes: BLOCKS * 4096 });
  const root = osb.geo.root_blkno;
  const name = (n: number): Uint8Array => Buffer.from(`f${n}`);
  const make = (n: number): Inode =>
    osb.inodes.get(osb.runSync((op) => create(op, root, name(n), 0o644, { uid: 0, gid: 0, umask: 0 })).ino);
  const remove = (n: number): void => {
    osb.runSync((op) => unlink(op, root, name(n)));
    while (osb.pump());
  };
  return { osb, make, remove, close };
}

test.skipIf(noMkfs)("files that were written go, and their clean data with them", () => {
  const { osb, make, close } = volume();
  const addr = osb.arena.alloc(8192, 4096);
  for (let n = 0; n < 4 * BOUND; n++) {
    const inode = make(n);
    osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: 0, len: 8192, addr }, cb)));
  }
  osb.runTaskSync(wait(osb.journal.flush));
  while (osb.inodes.size > BOUND && osb.pump());
  expect(osb.inodes.size).toBeLessThanOrEqual(BOUND);
  expect(osb.data.size).toBeLessThanOrEqual(2 * BOUND);
  close();
});

test.skipIf(noMkfs)("inodes of deleted files are garbage, while the cache's hand rests", async () => {
  const { osb, make, remove, close } = volume();
  for (let n = 0; n < 2 * BOUND; n++) make(n);
  while (osb.pump());
  expect(osb.inodes.evicted).toBeGreaterThan(0);
  for (let n = 0; n < 2 * BOUND; n++) remove(n);
  const evicted = osb.inodes.evicted;
  const left = await leftOf(CAME, AT_A_TIME, make, remove);
  expect(osb.inodes.evicted).toBe(evicted);
  expect(left).toBeLessThan(BLOCKS);
  close();
});
