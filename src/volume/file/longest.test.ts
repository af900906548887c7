/** The end of the longest file, and sizes that lead behind it. */
import { describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { Errno } from "../../lib/errno.ts";
import { wait } from "../../lib/task.ts";
import { readFile, setattr, writeFile } from "../../vfs/file.ts";
import { create } from "../../vfs/namespace.ts";
import { seekData } from "../extents/extent_map.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import { fallocateTask } from "./fallocate.ts";
import { maxFileBytes } from "./file_io.ts";

const CRED = { uid: 0, gid: 0, umask: 0o22 };
const PUNCH = 3;

function fileOn(v: TestVolume): Inode {
  const { ino } = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, Buffer.from("long"), 0o100644, CRED));
  return v.osb.inodes.get(ino);
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("the longest file", () => {
  test("is read, written, punched and cut at its end, and no byte longer", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K"], 32);
    const v = openImage(image);
    const { osb } = v;
    const inode = fileOn(v);
    const addr = osb.arena.alloc(4096, 4096);
    const setSize = (size: number) => osb.runTaskSync(wait((cb) => setattr(osb, inode, { size }, cb)));
    const read = (offset: number, len: number) =>
      osb.runTaskSync(wait<number>((cb) => readFile(osb, inode, { offset, len, addr }, cb)));
    const write = (offset: number, len: number) =>
      osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset, len, addr }, cb)));

    const end = maxFileBytes(osb);
    expect(end).toBe(2 ** 44 - 4096);
    expect(() => setSize(end + 1)).toThrow(expect.objectContaining({ errno: Errno.EFBIG }));
    setSize(end);
    expect(read(end - 3, 100)).toBe(3);
    osb.arena.u8.fill(7, addr, addr + 4096);
    expect(() => write(end - 3, 4)).toThrow(expect.objectContaining({ errno: Errno.EFBIG }));
    expect(write(end - 3, 3)).toBe(3);
    osb.arena.u8.fill(0, addr, addr + 4096);
    expect(read(end - 5, 100)).toBe(5);
    expect([...osb.arena.u8.subarray(addr, addr + 5)]).toEqual([0, 0, 7, 7, 7]);
    expect(osb.runSync((op) => seekData(op, inode, 0))).toBe(end - 4096);
    osb.runTaskSync(fallocateTask(osb, inode, PUNCH, end - 4096, 4096));
    expect(osb.runSync((op) => seekData(op, inode, 0))).toBe(undefined);
    setSize(5);
    setSize(end);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("is what a damaged size is not: who reads behind it hears of an error, and the file can be cut", () => {
    const v = openImage(mkfsImage(["-b", "4K", "-C", "4K", "--fs-features=noinline-data,noindexed-dirs"], 32));
    const { osb } = v;
    const inode = fileOn(v);
    const addr = osb.arena.alloc(65536, 4096);
    const size = 2 ** 50;
    osb.runSync((op) => {
      const bh = inodeLock(op, inode, true);
      op.modify(bh);
      dinodeOf(op, bh).i_size = size;
    });
    for (const offset of [size - 65536, maxFileBytes(osb), maxFileBytes(osb) - 4096])
      expect(() =>
        osb.runTaskSync(wait<number>((cb) => readFile(osb, inode, { offset, len: 65536, addr }, cb))),
      ).toThrow(expect.objectContaining({ errno: Errno.EIO }));
    osb.runTaskSync(wait((cb) => setattr(osb, inode, { size: 0 }, cb)));
    v.close();
  });
});
