/** The inode's block is shared by its attributes and its body: data, extents, a link's target, a directory's entries. */
import { describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { expectSound } from "../../../test/support/xattr_judge.ts";
import {
  DYN_FEATURES,
  extentRecsPerInodeWithXattr,
  FEATURE_INCOMPAT,
  maxInlineDataWithXattr,
} from "../../format/disk/index.ts";
import { wait } from "../../lib/task.ts";
import { fsync, readFile, setattr, writeFile } from "../../vfs/file.ts";
import { create, lookup, mkdir, mknod, nameOf, readlink, symlink } from "../../vfs/namespace.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import { getxattr, listxattr, removexattr, setxattr } from "./index.ts";

const CRED = { uid: 0, gid: 0, umask: 0o22 };
const isInline = (v: TestVolume, inode: Inode): boolean =>
  v.osb.runSync((op) => (dinodeOf(op, inodeLock(op, inode)).i_dyn_features & DYN_FEATURES.INLINE_XATTR) !== 0);

/** As the kernel begins a file on a volume with the feature: its first bytes go into the inode. */
function beginInline(v: TestVolume, inode: Inode): void {
  if (!v.osb.incompat(FEATURE_INCOMPAT.INLINE_DATA)) return;
  v.osb.runSync((op) => {
    const bh = inodeLock(op, inode, true);
    op.modify(bh);
    const di = dinodeOf(op, bh);
    v.osb.cache.u8.fill(0, di.i_data.off, bh.addr + v.osb.geo.blocksize);
    di.i_dyn_features |= DYN_FEATURES.INLINE_DATA;
    di.i_data.id_count = maxInlineDataWithXattr(v.osb.geo.blocksize, di);
  });
}

/** What the body has left is what the attributes did not take: fsck.ocfs2 does not look at this, but the kernel relies on it. */
function expectRoom(v: TestVolume, inode: Inode, what: string): void {
  const { blocksize } = v.osb.geo;
  const [room, want] = v.osb.runSync((op) => {
    const di = dinodeOf(op, inodeLock(op, inode));
    return (di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0
      ? [di.i_data.id_count, maxInlineDataWithXattr(blocksize, di)]
      : [di.i_list.l_count, extentRecsPerInodeWithXattr(blocksize, di)];
  });
  expect(room, what).toBe(want);
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("attributes beside the inode's body", () => {
  test.each([
    ["4K blocks, inline data", ["-b", "4K", "-C", "4K", "--fs-features=inline-data"]],
    ["1K blocks, inline data, metaecc", ["-b", "1K", "-C", "4K", "--fs-features=inline-data,metaecc"]],
    ["4K blocks", ["-b", "4K", "-C", "4K", "--fs-features=noinline-data"]],
    ["512 blocks, inline data", ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=inline-data"]],
  ])("%s: files that grow and shrink under their attributes", (_, args: string[]) => {
    const image = mkfsImage(args, 64);
    const known = fsck(image).findings;
    let v = openImage(image);
    const addr = v.osb.arena.alloc(1 << 16, 4096);
    const sizes = [0, 1, 100, 250, 600, 3000, 3500, 3640, 3700, 3840, 5000, 60_000];
    const content = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 7 + n) & 255);
    const write = (inode: Inode, offset: number, data: Uint8Array): void => {
      v.osb.arena.u8.set(data, addr);
      v.osb.runTaskSync(wait<number>((cb) => writeFile(v.osb, inode, { offset, len: data.length, addr }, cb)));
    };
    const files = new Map<string, { inode: Inode; data: Uint8Array }>();
    for (const size of sizes)
      for (const target of sizes) {
        const name = `${size}to${target}`;
        const { ino } = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, nameOf(name), 0o644, CRED));
        const inode = v.osb.inodes.get(ino);
        beginInline(v, inode);
        let data = content(size);
        if (size > 0) write(inode, 0, data);
        v.osb.runSync((op) => setxattr(op, inode, "user.first", nameOf(name)));
        expectRoom(v, inode, name);
        if (target > size) {
          const more = content(target).subarray(size);
          write(inode, size, more);
          data = new Uint8Array(Buffer.concat([data, more]));
        } else {
          v.osb.runTaskSync(wait((cb) => setattr(v.osb, inode, { size: target }, cb)));
          data = data.slice(0, target);
        }
        v.osb.runSync((op) => setxattr(op, inode, "user.second", new Uint8Array(80).fill(target)));
        expectRoom(v, inode, name);
        if (target % 3 === 0) v.osb.runSync((op) => removexattr(op, inode, "user.first"));
        files.set(name, { inode, data });
      }
    for (const { inode } of files.values()) v.osb.runTaskSync(wait((cb) => fsync(v.osb, inode, false, cb)));
    v.close();
    expectSound(image, known);
    v = openImage(image);
    const buffer = v.osb.arena.alloc(1 << 16, 4096);
    let inlined = 0;
    for (const [name, { inode: old, data }] of files) {
      const inode = v.osb.inodes.get(old.ino);
      const n = v.osb.runTaskSync(
        wait<number>((cb) => readFile(v.osb, inode, { offset: 0, len: 1 << 16, addr: buffer }, cb)),
      );
      expect(n, name).toBe(data.length);
      expect(Buffer.compare(v.osb.arena.u8.subarray(buffer, buffer + n), data), name).toBe(0);
      const target = Number(name.split("to")[1]);
      expect(v.osb.runSync((op) => listxattr(op, inode)).sort()).toEqual(
        target % 3 === 0 ? ["user.second"] : ["user.first", "user.second"],
      );
      const second = v.osb.runSync((op) => getxattr(op, inode, "user.second"));
      expect(Buffer.compare(second!, new Uint8Array(80).fill(target)), name).toBe(0);
      if (isInline(v, inode)) inlined++;
    }
    // Blocks of 512 bytes have no room for attributes; in larger ones some files have it and some do not.
    if (v.osb.geo.blocksize === 512) expect(inlined).toBe(0);
    else expect(inlined).toBeGreaterThan(20);
    v.close();
  });

  test("links, directories and special files", () => {
    const image = mkfsImage(["-b", "1K", "-C", "4K", "--fs-features=inline-data"], 64);
    const known = fsck(image).findings;
    let v = openImage(image);
    const root = v.osb.geo.root_blkno;
    const targets = [1, 60, 400, 580, 700, 830, 1500].map((n) => "t".repeat(n));
    for (const t of targets) {
      const { ino } = v.osb.runSync((op) => symlink(op, root, nameOf(`l${t.length}`), nameOf(t), CRED));
      v.osb.runSync((op) => setxattr(op, v.osb.inodes.get(ino), "trusted.a", nameOf("value")));
    }
    const { ino: dir } = v.osb.runSync((op) => mkdir(op, root, nameOf("d"), 0o755, CRED));
    v.osb.runSync((op) => setxattr(op, v.osb.inodes.get(dir), "user.a", nameOf("before")));
    for (let i = 0; i < 100; i++) v.osb.runSync((op) => create(op, dir, nameOf(`some-name-${i}`), 0o644, CRED));
    v.osb.runSync((op) => setxattr(op, v.osb.inodes.get(dir), "user.b", nameOf("after")));
    const { ino: fifo } = v.osb.runSync((op) => mknod(op, root, nameOf("p"), 0o010644, 0, CRED));
    v.osb.runSync((op) => setxattr(op, v.osb.inodes.get(fifo), "trusted.a", nameOf("value")));
    v.close();
    expectSound(image, known);
    v = openImage(image);
    for (const t of targets) {
      const { ino } = v.osb.runSync((op) => lookup(op, root, nameOf(`l${t.length}`))!);
      expect(Buffer.from(v.osb.runSync((op) => readlink(op, ino))).toString()).toBe(t);
      expect(v.osb.runSync((op) => listxattr(op, v.osb.inodes.get(ino)))).toEqual(["trusted.a"]);
    }
    expect(v.osb.runSync((op) => listxattr(op, v.osb.inodes.get(dir))).sort()).toEqual(["user.a", "user.b"]);
    for (let i = 0; i < 100; i++)
      expect(v.osb.runSync((op) => lookup(op, dir, nameOf(`some-name-${i}`)))).toBeDefined();
    expect(v.osb.runSync((op) => listxattr(op, v.osb.inodes.get(fifo)))).toEqual(["trusted.a"]);
    v.close();
  });
});
