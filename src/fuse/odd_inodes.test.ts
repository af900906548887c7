/** Inodes that only a damaged disk has, or a node of the kernel's: what a program may set there, it may see here, and no more comes of it. */
import { describe, expect, test } from "vitest";
import { bytesOf } from "../../test/sim/whole/kernel/connection.ts";
import { CRED } from "../../test/support/reflink_bench.ts";
import { SessionRig } from "../../test/support/session_rig.ts";
import { haveTool, mkfsImage } from "../../test/support/volume.ts";
import type { MemoryDevice } from "../block/memory_device.ts";
import { Dinode, DirEntry } from "../format/disk/index.ts";
import * as F from "../format/fuse/index.ts";
import { MetaLvb } from "../format/wire/lvb.ts";
import { Errno } from "../lib/errno.ts";
import { getattr } from "../volume/dir/attr.ts";
import type { Inode } from "../volume/inode.ts";
import { stuffMetaLvb } from "../volume/meta_lvb.ts";
import { reflinkTask } from "../volume/refcount/index.ts";

const BLOCK = 4096;
const NAME = Buffer.from("f\0");
const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32) : new Uint8Array(0);

type Field = "i_mode" | "i_size" | "i_rdev" | "i_atime" | "i_mtime" | "i_ctime";

/** A volume with one file or device, of which byte `byte` of a field is `value`. */
function withByte(mode: number, field: Field, byte: number, value: number): { data: Uint8Array; ino: number } {
  const data = image.slice();
  const rig = new SessionRig(data);
  const q = F.FuseMknodIn.alloc();
  q.mode = mode;
  q.rdev = 5;
  const made = rig.answerOf(F.FUSE_MKNOD, F.FUSE_ROOT_ID, 0, bytesOf(q), NAME);
  const ino = F.FuseEntryOut.from(made.body).nodeid;
  rig.v.close();
  data[ino * BLOCK + Dinode.fields[field].off + byte] = value;
  return { data, ino };
}

test.skipIf(image.length === 0).each<[Field, number, number]>([
  ["i_mode", 1, 0o060],
  ["i_size", 7, 0x80],
  ["i_size", 7, 0x10],
])("a damaged %s is EIO: the kernel would refuse it, and never forget the lookup that was counted", (...damage) => {
  const { data, ino } = withByte(0o100644, ...damage);
  const { v, ...rig } = open(data);
  expect(rig.lookup().error).toBe(-Errno.EIO);
  expect(v.osb.inodes.peek(ino)?.nlookup ?? 0).toBe(0);
  // Nor is it handed on to the next node, which looks at the disk.
  const inode = v.osb.inodes.get(ino);
  stuffMetaLvb(v.osb, inode, inode.meta_lockres!);
  if (damage[0] === "i_size") expect(MetaLvb.from(inode.meta_lockres!.lvb).lvb_version).toBe(0);
  expect(rig.broken).toEqual([]);
  v.close();
});

test.skipIf(image.length === 0).each<[Field, number, number]>([
  ["i_rdev", 5, 0x10],
  ["i_atime", 7, 0x10],
  ["i_mtime", 7, 0x80],
  ["i_ctime", 7, 0x7f],
])("an %s that no answer has room for is shown as near as one comes", (...odd) => {
  const { data, ino } = withByte(odd[0] === "i_rdev" ? 0o020644 : 0o100644, ...odd);
  const { v, ...rig } = open(data);
  const { error, body } = rig.lookup();
  expect([error, rig.broken]).toEqual([0, []]);
  const { rdev, atime, mtime, ctime } = F.FuseEntryOut.from(body).attr;
  if (odd[0] === "i_rdev") expect(rdev).toBe(5);
  if (odd[0] === "i_atime") expect(atime).toBe(Number.MAX_SAFE_INTEGER);
  if (odd[0] === "i_mtime") {
    expect(mtime).toBe(-Number.MAX_SAFE_INTEGER);
    const { osb } = v;
    const [root, f] = [osb.geo.root_blkno, ino].map((n) => osb.inodes.get(n)) as [Inode, Inode];
    const how = { preserve: true, cred: CRED };
    const clone = osb.runTaskSync(reflinkTask(osb, f, root, Buffer.from("clone"), how));
    expect(osb.runSync((op) => getattr(op, clone)).mtime).toBe(mtime);
  }
  if (odd[0] === "i_ctime") expect(ctime).toBe(Number.MAX_SAFE_INTEGER);
  v.close();
});

function open(data: Uint8Array) {
  const rig = new SessionRig(data);
  const broken: string[] = [];
  rig.v.osb.onAssertion = (err) => void broken.push(err.message);
  return {
    v: rig.v,
    broken,
    lookup: () => rig.answerOf(F.FUSE_LOOKUP, F.FUSE_ROOT_ID, 0, NAME),
    list: (q: Uint8Array) => rig.answerOf(F.FUSE_READDIRPLUS, F.FUSE_ROOT_ID, 0, q),
  };
}

/** A volume with these files; the inode of the first. */
function withFiles(names: readonly string[]): { data: Uint8Array; ino: number } {
  const data = image.slice();
  const rig = new SessionRig(data);
  const { nodeid } = names.map((name) => rig.create(name))[0]!;
  rig.v.close();
  return { data, ino: nodeid };
}

describe.skipIf(image.length === 0)("one bad inode hides no other name from ls -l", () => {
  const names = ["astray", "beside"];

  function listed(data: Uint8Array, how: (dev: MemoryDevice) => void = () => {}): string {
    const { v, ...rig } = open(data);
    how(v.dev);
    const q = F.FuseReadIn.alloc();
    q.size = 4096;
    const { error, body } = rig.list(bytesOf(q));
    expect(error).toBe(0);
    v.close();
    return Buffer.from(body).toString("latin1");
  }

  test("whose number is behind the end of the disk", () => {
    const { data, ino } = withFiles(names);
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt(ino));
    const disk = Buffer.from(data.buffer);
    const nameAt = (at: number): string => disk.toString("latin1", at + DirEntry.size, at + DirEntry.size + 6);
    let at = disk.indexOf(number);
    while (at >= 0 && nameAt(at) !== names[0]) at = disk.indexOf(number, at + 1);
    disk.writeBigUInt64LE(1n << 40n, at);
    const list = listed(data);
    for (const name of names) expect(list).toContain(name);
  });

  test("that cannot be read", () => {
    const { data, ino } = withFiles(names);
    const list = listed(data, (dev) => {
      const read = dev.read.bind(dev);
      dev.read = (addr, len, offset, done) =>
        offset === ino * BLOCK ? done(-Errno.EIO) : read(addr, len, offset, done);
    });
    for (const name of names) expect(list).toContain(name);
  });
});
