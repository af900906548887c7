/** Inodes that say of their own body what cannot be: whoever reads or changes the file hears of an error, and nothing else is touched. */
import { describe, expect, test } from "vitest";
import { haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { type Dinode, EXT_FLAGS, ExtentRec, XattrEntry } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import { fallocate, fsync, readFile, setattr, writeFile } from "../../vfs/file.ts";
import { create } from "../../vfs/namespace.ts";
import { recAt } from "../extents/extent_list.ts";
import { dinodeExtentTree, extentRecords } from "../extents/extent_tree.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import { reflinkTask } from "../refcount/index.ts";
import { type Area, countOf, ENTRY_BYTES, fits, HEADER_BYTES, nameOf, valueOffOf } from "../xattr/area.ts";
import { findXattr } from "../xattr/change.ts";
import { getxattr, removexattr, setxattr } from "../xattr/index.ts";
import { parseName } from "../xattr/name.ts";
import { blockPlace, readXattrBlock } from "../xattr/place.ts";
import { valueTree } from "../xattr/value.ts";

const CRED = { uid: 0, gid: 0, umask: 0o22 };
const EIO = expect.objectContaining({ errno: Errno.EIO });

class Volume {
  readonly v: TestVolume;
  readonly addr: number;
  constructor(args: readonly string[]) {
    this.v = openImage(mkfsImage(args, 32));
    this.addr = this.v.osb.arena.alloc(1 << 16, 4096);
  }
  file(name: string): Inode {
    const { osb } = this.v;
    return osb.inodes.get(osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o100644, CRED)).ino);
  }
  damage(inode: Inode, fn: (di: Dinode) => void): void {
    this.v.osb.runSync((op) => {
      const bh = inodeLock(op, inode, true);
      op.modify(bh);
      fn(dinodeOf(op, bh));
    });
  }
  run<T>(task: Task<T>): T {
    return this.v.osb.runTaskSync(task);
  }
  write(inode: Inode, offset: number, len: number): number {
    const { addr } = this;
    return this.run(wait<number>((cb) => writeFile(this.v.osb, inode, { offset, len, addr }, cb)));
  }
  read(inode: Inode, offset: number, len: number): number {
    const { addr } = this;
    return this.run(wait<number>((cb) => readFile(this.v.osb, inode, { offset, len, addr }, cb)));
  }
  setSize(inode: Inode, size: number): void {
    this.run(wait((cb) => setattr(this.v.osb, inode, { size }, cb)));
  }
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("a file with a damaged inode", () => {
  test.each([
    ["more room than there is", (di: Dinode) => (di.i_data.id_count = 60_000)],
    ["more data than room", (di: Dinode) => (di.i_size = 50_000)],
  ])("that has its data in it, and claims %s", (_, damage) => {
    const t = new Volume(["-b", "4K", "-C", "4K"]);
    const { osb } = t.v;
    const inode = t.file("inline");
    t.write(inode, 0, 100);
    t.damage(inode, (di) => void damage(di));
    const bh = osb.cache.any(inode.ino)!;
    const behind = (): Uint8Array => osb.arena.u8.slice(bh.addr + 4096, bh.addr + 65_536);
    const before = behind();
    expect(() => t.write(inode, 3000, 20_000)).toThrow(EIO);
    expect(() => t.setSize(inode, 10)).toThrow(EIO);
    expect(() => t.read(inode, 0, 50_000)).toThrow(EIO);
    expect(() => t.run(wait<void>((cb) => fallocate(osb, inode, 0, 0, 30_000, cb)))).toThrow(EIO);
    expect(() => t.run(wait<void>((cb) => fallocate(osb, inode, 3, 0, 30_000, cb)))).toThrow(EIO);
    // What lies behind its block in memory are other blocks.
    expect(Buffer.compare(behind(), before)).toBe(0);
    const root = osb.inodes.get(osb.geo.root_blkno);
    expect(() => t.run(reflinkTask(osb, inode, root, Buffer.from("link"), { preserve: false, cred: CRED }))).toThrow(
      EIO,
    );
  });

  test("whose last extent has no clusters is not cut for ever", () => {
    const t = new Volume(["-b", "4K", "-C", "4K", "--fs-features=noinline-data"]);
    const inode = t.file("f");
    t.write(inode, 0, 4096);
    t.write(inode, 16384, 4096);
    t.damage(inode, (di) => void (di.i_list.l_recs.at(1).e_leaf_clusters = 0));
    let runs = 0;
    const { osb } = t.v;
    const exec = osb.exec.bind(osb);
    osb.exec = (fn, done, locks) => {
      if (++runs > 1000) throw new Error("it goes on for ever");
      exec(fn, done, locks);
    };
    expect(() => t.setSize(inode, 0)).toThrow(EIO);
  });

  test("whose attribute has a value outside of the volume: nothing is written there", () => {
    const t = new Volume(["-b", "4K", "-C", "4K"]);
    const { osb } = t.v;
    const inode = t.file("f");
    const set = (byte: number) => osb.runSync((op) => setxattr(op, inode, "user.x", new Uint8Array(5000).fill(byte)));
    set(1);
    osb.runSync((op) => {
      const { place, i } = findXattr(op, inode, inodeLock(op, inode, true), parseName(osb, "user.x"))!;
      place.modify(op);
      const et = valueTree(op, inode, place, i);
      ExtentRec.at(osb.cache.dv, recAt(et.el_addr, 0)).e_blkno = osb.clustersToBlocks(osb.geo.clusters);
    });
    expect(() => osb.runSync((op) => getxattr(op, inode, "user.x"))).toThrow(EIO);
    expect(() => set(2)).toThrow(EIO);
    expect(() => osb.runSync((op) => removexattr(op, inode, "user.x"))).toThrow(EIO);
    t.v.close();
  });

  test("whose attributes lie over each other hears of it when they are to move", () => {
    const t = new Volume(["-b", "4K", "-C", "4K"]);
    const { osb } = t.v;
    const inode = t.file("f");
    const set = (name: string, len: number) => osb.runSync((op) => setxattr(op, inode, name, new Uint8Array(len)));
    for (let i = 0; i < 90; i++) set(`user.${i}`, 4);
    const blockOf = (op: Op) => blockPlace(op, readXattrBlock(op, inode, inodeLock(op, inode, true))!);
    osb.runSync((op) => {
      const place = blockOf(op);
      place.modify(op);
      const { base, dv, size } = place.area;
      for (let i = 0; i < countOf(place.area); i++)
        if (valueOffOf(place.area, i) + 80 < size)
          XattrEntry.at(dv, base + HEADER_BYTES + i * ENTRY_BYTES).xe_value_size = 80;
    });
    expect(() => osb.runSync(blockOf)).not.toThrow();
    expect(() => {
      for (let i = 0; i < 90; i++) set(`user.more-${i}`, 60);
    }).toThrow(EIO);
    t.v.close();
  });

  test("whose attributes begin at one place hears of it when one of them grows", () => {
    const t = new Volume(["-b", "4K", "-C", "4K"]);
    const { osb } = t.v;
    const errors: unknown[] = [];
    for (let filler = 0; filler < 64; filler += 4) {
      const inode = t.file(`f${filler}`);
      const set = (name: string, len: number) => osb.runSync((op) => setxattr(op, inode, name, new Uint8Array(len)));
      const inBlock = <T>(fn: (area: Area) => T): T =>
        osb.runSync((op) => {
          const place = blockPlace(op, readXattrBlock(op, inode, inodeLock(op, inode, true))!);
          place.modify(op);
          return fn(place.area);
        });
      // So that the inode's own room is used up.
      for (let i = 0; i < 3; i++) set(`user.own${i}`, 70);
      set("user.filler", filler);
      for (let i = 10; i === 10 || inBlock((area) => fits(area, 2, 40)); i++) set(`user.${i}`, 40);
      const last = inBlock((area) => {
        const at = (i: number) => XattrEntry.at(area.dv, area.base + HEADER_BYTES + i * ENTRY_BYTES);
        const n = countOf(area);
        at(n - 2).xe_name_offset = at(n - 1).xe_name_offset;
        return Buffer.from(nameOf(area, n - 1)).toString();
      });
      try {
        set(`user.${last}`, 80);
      } catch (err) {
        errors.push(err);
      }
    }
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.filter((err) => !(err instanceof Corruption))).toEqual([]);
    t.v.close();
  });

  test("whose cluster another file has, too: who comes second to write to it hears of it", () => {
    const t = new Volume(["-b", "4K", "-C", "4K", "--fs-features=noinline-data"]);
    const { osb } = t.v;
    const [a, b] = [t.file("a"), t.file("b")];
    t.write(a, 0, 4096);
    t.write(b, 0, 4096);
    t.run(wait<void>((cb) => fsync(osb, b, false, cb)));
    const blkno = osb.runSync((op) => dinodeOf(op, inodeLock(op, a)).i_list.l_recs.at(0).e_blkno);
    t.damage(b, (di) => void (di.i_list.l_recs.at(0).e_blkno = blkno));
    b.dropCaches();
    t.write(a, 0, 100);
    expect(() => t.write(b, 10, 100)).toThrow(EIO);
    expect(() => t.write(b, 0, 4096)).toThrow(EIO);
    t.damage(b, (di) => {
      di.i_list.l_recs.at(0).e_flags = EXT_FLAGS.REFCOUNTED;
    });
    expect(() => t.write(b, 10, 100)).toThrow(EIO);
    t.v.close();
  });

  test("whose tree leads to one leaf more than once is not walked through for ever", () => {
    const t = new Volume(["-b", "4K", "-C", "4K"]);
    const { osb } = t.v;
    const inode = t.file("f");
    for (let i = 0; i < 300; i++) t.write(inode, 8192 * i, 4096);
    const extents = () =>
      osb.runSync((op) => [...extentRecords(op, dinodeExtentTree(op, inode, inodeLock(op, inode)))].length);
    expect(extents()).toBe(300);
    t.damage(inode, (di) => {
      const { l_tree_depth, l_recs } = di.i_list;
      expect(l_tree_depth).toBe(1);
      const { e_blkno } = l_recs.at(0);
      l_recs.at(1).e_blkno = e_blkno;
    });
    expect(extents).toThrow(EIO);
  });
});
