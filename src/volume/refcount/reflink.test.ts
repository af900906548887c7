/** Reflinks against plain buffers: random changes of several clones of several files, then fsck.ocfs2 and a remount judge. */
import { describe, expect, test } from "vitest";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { alternate, Bench, CRED, changes, type File, pattern } from "../../../test/support/reflink_bench.ts";
import { fsck, haveTool, mkfsImage, openImage } from "../../../test/support/volume.ts";
import type { IoDone } from "../../block/device.ts";
import { MemoryDevice } from "../../block/memory_device.ts";
import { EXT_FLAGS } from "../../format/disk/index.ts";
import type { Arena } from "../../lib/arena.ts";
import { seededRandom } from "../../lib/clock.ts";
import { spawn, type Task, type Thunk, wait } from "../../lib/task.ts";
import { RandomBastDomain } from "../../stackglue/random_bast.ts";
import { readFile, setattr, writeFile } from "../../vfs/file.ts";
import { getattr, lookup } from "../../vfs/namespace.ts";
import * as namei from "../dir/namei.ts";
import { wipeInode } from "../dir/wipe.ts";
import { dinodeOf, inodeLock } from "../inode.ts";
import { getxattr, listxattr, removexattr, setxattr } from "../xattr/index.ts";
import { cowRange } from "./cow.ts";
import { reflinkTask, shareRangeTask } from "./index.ts";
import { clearOf } from "./range.ts";

/** The same task, which lets `tick` go by before each of its steps. */
function* slowly<T>(task: Task<T>, tick: Thunk<void>): Task<T> {
  let r = task.next();
  while (r.done !== true) {
    yield* wait(tick);
    let value: unknown;
    try {
      value = yield r.value;
    } catch (err) {
      r = task.throw(err);
      continue;
    }
    r = task.next(value);
  }
  return r.value;
}

/** Keeps some writes back until the test lets them go. */
class HoldingDevice extends MemoryDevice {
  hold: (addr: number) => boolean = () => false;
  readonly held: (() => void)[] = [];

  override write(addr: number, len: number, offset: number, done: IoDone): void {
    if (this.hold(addr)) this.held.push(() => super.write(addr, len, offset, done));
    else super.write(addr, len, offset, done);
  }
}

const KINDS: [string, string[]][] = [
  ["4K blocks, 4K clusters", ["-b", "4K", "-C", "4K"]],
  ["1K blocks, 32K clusters", ["-b", "1K", "-C", "32K"]],
  ["512 blocks, 4K clusters", ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=noindexed-dirs"]],
  ["4K blocks, 1M clusters, metaecc", ["-b", "4K", "-C", "1M", "--fs-features=metaecc"]],
  ["no inline data, no unwritten", ["-b", "2K", "-C", "8K", "--fs-features=noinline-data,nounwritten,noindexed-dirs"]],
];

describe.skipIf(!haveTool("mkfs.ocfs2"))("reflinks", () => {
  for (const [name, args] of KINDS) {
    for (const mode of ["", ", I/O that completes late", ", every lock called off at random"]) {
      test(`${name}${mode}: each file as a plain buffer has it`, () => {
        const image = mkfsImage(args, 128);
        const domain = mode.includes("lock") ? new RandomBastDomain({ random: seededRandom(3) }) : undefined;
        const late = (arena: Arena, data: Uint8Array): DelayedDevice => {
          const dev = new DelayedDevice(arena, data, 99);
          if (domain !== undefined) dev.alsoHappens = () => domain.poke();
          return dev;
        };
        const b = new Bench(openImage(image, {}, mode === "" ? undefined : late, domain));
        for (let i = 0; i < 2; i++) b.write(b.create(), 0, pattern(i === 0 ? 900_000 : 150, i));
        const random = seededRandom(mode.length + 5);
        const unwritten = !args.join().includes("nounwritten");
        for (let round = 0; round < 3; round++) {
          changes(b, random, 60, unwritten, () => {
            for (let n = 0; n < 4; n++) domain?.poke();
          });
          b.check(`round ${round}`);
        }
        if (domain !== undefined) expect(domain.basts).toBeGreaterThan(150);
        // What was allocated behind the end of a file is a finding for fsck.ocfs2, whoever did it.
        for (const f of b.files) b.setSize(f, f.size);
        for (const f of b.files) b.sync(f);
        b.check("after sync");
        b.close();
        const judged = fsck(image);
        expect(judged.clean, judged.output).toBe(true);
        const again = new Bench(openImage(image));
        again.files = b.files;
        for (const f of again.files) {
          const attr = again.v.osb.runSync((op) => lookup(op, again.v.osb.geo.root_blkno, Buffer.from(f.name)));
          expect(attr?.ino).toBe(f.ino);
        }
        again.check("after remount");
        // And all gone again, trees and all.
        for (const f of [...again.files]) again.remove(f);
        again.close();
        const empty = fsck(image);
        expect(empty.clean, empty.output).toBe(true);
      });
    }
  }

  const small = (): Uint8Array => mkfsImage(["-b", "4K", "-C", "4K"], 128);
  const MIB = 1 << 20;
  const clean = (b: Bench, image: Uint8Array): void => {
    b.close();
    const judged = fsck(image);
    expect(judged.clean, judged.output).toBe(true);
  };

  test("a clone takes no clusters; each write takes what it changes, and the last owner writes in place", () => {
    const image = small();
    const b = new Bench(openImage(image));
    const a = b.create();
    for (let i = 0; i < 3; i++) b.write(a, i * MIB, pattern(MIB, i));
    b.write(a, 100, pattern(5000, 9));
    const before = b.used(a);
    const free = b.free();
    const c = b.reflink(a);
    expect([b.flags(a, 0), b.flags(c, 0)]).toEqual([EXT_FLAGS.REFCOUNTED, EXT_FLAGS.REFCOUNTED]);
    expect(b.used(c)).toBe(before);
    // Nothing but metadata: a group of extent blocks at most.
    expect(free - b.free()).toBeLessThan(before);
    b.write(c, MIB + 5, pattern(10, 3));
    expect([b.flags(c, MIB), b.flags(c, 0)]).toEqual([0, EXT_FLAGS.REFCOUNTED]);
    const place = b.place(a, MIB);
    expect(b.place(c, MIB)).not.toBe(place);
    // The other one is the last owner of what was copied.
    b.write(a, MIB + 700, pattern(10, 4));
    expect([b.flags(a, MIB), b.place(a, MIB)]).toEqual([0, place]);
    b.check("after both wrote");
    clean(b, image);
  });

  test("copy_file_range shares whole clusters, copies the rest, and shares nothing twice", () => {
    const image = small();
    const b = new Bench(openImage(image));
    const [a, c, d] = [b.create(), b.create(), b.create()];
    b.write(a, 0, pattern(MIB, 1));
    b.write(a, MIB, pattern(1234, 2));
    b.write(c, 0, pattern(20_000, 3));
    b.copy(a, 0, c, 0, MIB + 1234);
    expect([b.place(c, 0), b.place(c, MIB)]).toEqual([b.place(a, 0), b.place(a, MIB)]);
    // Unaligned ends are copied, the middle is shared.
    b.copy(a, 100, d, 100, 40_000);
    expect([b.place(d, 0) === b.place(a, 0), b.place(d, 8192) === b.place(a, 8192)]).toEqual([false, true]);
    // Not aligned to each other: copied.
    b.copy(a, 0, d, 500_000, 8192);
    expect(b.flags(d, 503_808)).toBe(0);
    // The same clusters a second time, and within one file: copied, for fsck.ocfs2 knows no such file.
    b.copy(a, 8192, d, 1 << 20, 8192);
    expect(b.flags(d, 1 << 20)).toBe(0);
    b.copy(a, 0, a, 2 * MIB, 65_536);
    expect(b.flags(a, 2 * MIB)).toBe(0);
    // Once more over itself: they are shared already.
    const free = b.free();
    b.copy(a, 0, c, 0, MIB);
    expect(b.free()).toBe(free);
    b.check("after copies");
    clean(b, image);
  });

  test("files of two trees copy; one that gave up all that it shared may join another tree", () => {
    const image = small();
    const b = new Bench(openImage(image));
    const [a, c] = [b.create(), b.create()];
    b.write(a, 0, pattern(100_000, 1));
    b.write(c, 0, pattern(100_000, 2));
    b.reflink(a);
    const e = b.reflink(c);
    b.copy(a, 0, e, 0, 65_536);
    expect(b.flags(e, 0)).toBe(0);
    // The copy has given it clusters of its own throughout.
    b.copy(a, 0, e, 0, 65_536);
    expect(b.place(e, 0)).toBe(b.place(a, 0));
    b.check("after copies");
    clean(b, image);
  });

  for (const [name, args] of KINDS.slice(0, 3)) {
    test(`${name}: every other cluster shared, then freed: one run a count`, () => {
      const image = mkfsImage(args, 128);
      const b = new Bench(openImage(image));
      const [a, c] = alternate(b, 600);
      const e = b.reflink(c);
      b.check("after holes");
      b.remove(a);
      b.remove(e);
      b.check("after removal");
      b.close();
      const judged = fsck(image);
      expect(judged.clean, judged.output).toBe(true);
      const again = new Bench(openImage(image));
      again.files = b.files;
      again.check("after remount");
      again.remove(c);
      clean(again, image);
    });
  }

  for (const preserve of [true, false]) {
    test(`attributes ${preserve ? "are all" : "but ACLs and security labels are"} those of the origin`, () => {
      const image = mkfsImage(["-b", "4K", "-C", "4K"], 128);
      const b = new Bench(openImage(image));
      const { osb } = b.v;
      const [a, inline] = [b.create(), b.create()];
      b.write(a, 0, pattern(50_000, 1));
      b.write(inline, 0, pattern(200, 2));
      const set = (f: File, key: string, len: number): void =>
        osb.runSync((op) => setxattr(op, b.inode(f), key, pattern(len, key.length)));
      for (const f of [a, inline]) {
        set(f, "security.selinux", 20);
        set(f, "user.short", 30);
        set(f, "user.long", 50_000);
      }
      for (let i = 0; i < 400; i++) set(a, `user.name-${i}`, 60 + (i % 50));
      osb.runTaskSync(wait((cb) => setattr(osb, b.inode(a), { mode: 0o751, uid: 7, mtime: { sec: 5, nsec: 6 } }, cb)));
      for (const f of [a, inline]) {
        const c = b.reflink(f, preserve);
        const names = (x: File): string[] => osb.runSync((op) => listxattr(op, b.inode(x)).sort());
        expect(names(c)).toEqual(names(f).filter((n) => preserve || !n.startsWith("security.")));
        for (const n of names(c)) {
          const [x, y] = [c, f].map((g) => osb.runSync((op) => getxattr(op, b.inode(g), n)));
          expect(Buffer.compare(x!, y!), n).toBe(0);
        }
        const [x, y] = [c, f].map((g) => osb.runSync((op) => getattr(op, g.ino)));
        expect([x!.mode, x!.nlink]).toEqual([preserve ? y!.mode : y!.mode & ~0o022, 1]);
        expect(x!.uid).toBe(preserve ? y!.uid : 0);
        if (f === a) expect(x!.mtime === y!.mtime).toBe(preserve);
      }
      b.check("after reflinks");
      clean(b, image);
    });
  }

  test("a reflink that fails leaves nothing behind", () => {
    const image = small();
    const b = new Bench(openImage(image));
    const { osb } = b.v;
    const root = osb.inodes.get(osb.geo.root_blkno);
    const a = b.create();
    b.write(a, 0, pattern(100_000, 1));
    const make = (src: number, name: string): unknown =>
      osb.runTaskSync(reflinkTask(osb, osb.inodes.get(src), root, Buffer.from(name), { preserve: false, cred: CRED }));
    expect(() => make(a.ino, a.name)).toThrow(/EEXIST/);
    expect(() => make(root.ino, "x")).toThrow(/EPERM/);
    expect(() => make(a.ino, "x".repeat(256))).toThrow(/ENAMETOOLONG/);
    clean(b, image);
  });

  test("what was copied for a write is on the disk when the commit is", () => {
    const image = small();
    const b = new Bench(openImage(image, {}, (arena, data) => new DelayedDevice(arena, data, 8)));
    const { osb } = b.v;
    const a = b.create();
    b.write(a, 0, pattern(300_000, 1));
    const c = b.reflink(a);
    b.write(c, 50_000, pattern(20, 2));
    let committed = false;
    osb.journal.commitTid(b.inode(c).sync_tid)(() => {
      committed = true;
    });
    while (!committed) osb.pump();
    const crashed = image.slice();
    const again = new Bench(openImage(crashed));
    again.files = b.files;
    again.check("after the crash");
    clean(again, crashed);
  });

  test("the mapping of a direct write to a clone is not committed before its data is on the disk", () => {
    const image = small();
    let dev: HoldingDevice | undefined;
    const b = new Bench(
      openImage(image, {}, (arena, data) => {
        dev = new HoldingDevice(arena, data);
        return dev;
      }),
    );
    const { osb } = b.v;
    const a = b.create();
    b.write(a, 0, pattern(200_000, 1));
    const c = b.reflink(a);
    b.sync(c);
    const data = pattern(65_536, 8);
    osb.arena.u8.set(data, b.addr);
    dev!.hold = (addr) => addr === b.addr;
    writeFile(osb, b.inode(c), { offset: 4096, len: data.length, addr: b.addr, direct: true }, () => {});
    c.write(4096, data);
    let committed = false;
    osb.journal.commitTid(b.inode(c).sync_tid)(() => {
      committed = true;
    });
    while (osb.pump());
    expect([dev!.held.length, committed]).toEqual([1, false]);
    for (const write of dev!.held) write();
    while (osb.pump());
    expect(committed).toBe(true);
    dev!.hold = () => false;
    b.check("after the commit");
    clean(b, image);
  });

  test("a crash while clusters become shared or free: the origin is whole, what was begun is gone or done", () => {
    const image = mkfsImage(["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=noindexed-dirs"], 64);
    const b = new Bench(openImage(image, {}, (arena, data) => new DelayedDevice(arena, data, 5)));
    const { osb } = b.v;
    const [a, c] = alternate(b, 400);
    const d = b.create();
    for (const f of b.files) b.sync(f);
    const cred = CRED;
    const root = osb.inodes.get(osb.geo.root_blkno);
    const crashed: Uint8Array[] = [];
    const random = seededRandom(4);
    /** Runs a task with a commit and some of its I/O between any two steps; keeps what a crash would leave now and then. */
    const interrupt = <T>(task: Task<T>): T => {
      const ticks: (() => void)[] = [];
      let done = false;
      let result: T | undefined;
      spawn(
        slowly(task, (cb) => ticks.push(() => cb(null))),
        (err, value) => {
          expect(err).toBeNull();
          done = true;
          result = value;
        },
      );
      for (let n = 1; !done; n++) {
        osb.journal.startCommit();
        for (let i = random.u32() % 12; i > 0; i--) osb.pump();
        if (n % 29 === 0) crashed.push(image.slice());
        const tick = ticks.shift();
        if (tick !== undefined) tick();
        else osb.pump();
      }
      return result as T;
    };
    const range = { src: b.inode(c), src_offset: 0, dst: b.inode(d), dst_offset: 0, len: c.size };
    interrupt(reflinkTask(osb, b.inode(a), root, Buffer.from("clone"), { preserve: true, cred }));
    expect(interrupt(shareRangeTask(osb, range))).toBe(c.size);
    const clone = osb.runSync((op) => namei.unlink(op, root, Buffer.from("clone")));
    expect(interrupt(wipeInode(osb, clone))).toBe(true);
    expect(crashed.length).toBeGreaterThan(8);
    for (const left of crashed) {
      const again = new Bench(openImage(left));
      again.files = [a, c];
      again.check("after the crash");
      again.files = b.files.filter((f) => f !== d);
      again.close();
      const judged = fsck(left);
      expect(judged.clean, judged.output).toBe(true);
    }
  });

  test("a file without clusters whose last long attribute is removed leaves its tree", () => {
    const image = small();
    const b = new Bench(openImage(image));
    const { osb } = b.v;
    const a = b.create();
    osb.runSync((op) => setxattr(op, b.inode(a), "user.long", pattern(5000, 1)));
    osb.runSync((op) => setxattr(op, b.inode(a), "user.short", pattern(5, 2)));
    b.write(a, 0, pattern(10_000, 3));
    const c = b.reflink(a, true);
    b.setSize(a, 0);
    const tree = (f: File): number => osb.runSync((op) => dinodeOf(op, inodeLock(op, b.inode(f))).i_refcount_loc);
    expect(tree(a)).not.toBe(0);
    osb.runSync((op) => removexattr(op, b.inode(a), "user.short"));
    expect(tree(a)).toBe(tree(c));
    osb.runSync((op) => removexattr(op, b.inode(a), "user.long"));
    expect([tree(a), tree(c) !== 0]).toEqual([0, true]);
    expect(osb.runSync((op) => getxattr(op, b.inode(c), "user.long"))).toEqual(pattern(5000, 1));
    clean(b, image);
  });

  test("the last owner writes in place only when the others are gone on the disk, too", () => {
    const image = small();
    const b = new Bench(openImage(image));
    const { osb } = b.v;
    const a = b.create();
    b.write(a, 0, pattern(40_000, 1));
    const c = b.reflink(a);
    for (const f of [a, c]) b.sync(f);
    osb.runTaskSync(wait(osb.journal.flush));
    const place = b.place(a, 8192);
    b.remove(c);
    for (let i = 0; i < 1000 && osb.pump(); i++);
    b.write(a, 8192, pattern(4096, 2));
    expect(b.place(a, 8192)).toBe(place);
    // The power goes once the data is written, whatever of the journal is.
    osb.runTaskSync(wait(osb.data.flushAll()));
    const again = openImage(image.slice());
    const old = again.osb.runSync((op) => lookup(op, again.osb.geo.root_blkno, Buffer.from(c.name)));
    const addr = again.osb.arena.alloc(1 << 16, 4096);
    if (old !== undefined) {
      const inode = again.osb.inodes.get(old.ino);
      const n = again.osb.runTaskSync(
        wait<number>((cb) => readFile(again.osb, inode, { offset: 0, len: 1 << 16, addr }, cb)),
      );
      expect(Buffer.compare(again.osb.arena.u8.slice(addr, addr + n), pattern(40_000, 1))).toBe(0);
    }
    b.check("after all");
    clean(b, image);
  });

  test("a full volume: ENOSPC, and no file has changed", () => {
    const image = mkfsImage(["-b", "4K", "-C", "32K", "-N", "1", "-J", "size=4M"], 40);
    const b = new Bench(openImage(image));
    const a = b.create();
    b.write(a, 0, pattern(MIB, 1));
    const c = b.reflink(a);
    const filler = b.create();
    let at = 0;
    const put = (f: File, offset: number, len: number): number => {
      b.v.osb.arena.u8.set(pattern(len, 5), b.addr);
      return b.v.osb.runTaskSync(
        wait<number>((cb) => writeFile(b.v.osb, b.inode(f), { offset, len, addr: b.addr }, cb)),
      );
    };
    expect(() => {
      for (;;) at += put(filler, at, 65_536);
    }).toThrow(/ENOSPC/);
    expect(() => put(c, 100, 10)).toThrow(/ENOSPC/);
    b.files = [a, c];
    b.check("after ENOSPC");
    b.sync(a);
    b.check("and a sync");
    clean(b, image);
  });
});

describe("which clusters a write copies", () => {
  test("pieces of the extent from its start, never short of the write's first cluster", () => {
    const e = (cpos: number, clusters: number) => ({ cpos, clusters, blkno: 1, flags: EXT_FLAGS.REFCOUNTED });
    expect(cowRange(e(10, 100), 50, 1, 256)).toEqual({ start: 10, end: 110 });
    expect(cowRange(e(10, 1000), 50, 1, 256)).toEqual({ start: 10, end: 266 });
    expect(cowRange(e(10, 1000), 300, 1, 256)).toEqual({ start: 266, end: 522 });
    expect(cowRange(e(10, 1000), 1000, 1, 256)).toEqual({ start: 754, end: 1010 });
    expect(cowRange(e(10, 1000), 500, 300, 256)).toEqual({ start: 266, end: 1010 });
    expect(cowRange(e(0, 1000), 0, 300, 256)).toEqual({ start: 0, end: 512 });
  });

  test("how far a run is clear of those that the file has", () => {
    const runs = [
      { p_cluster: 10, clusters: 5 },
      { p_cluster: 20, clusters: 1 },
    ];
    const cases = [0, 9, 10, 14, 15, 20, 21].map((p) => clearOf(runs, p, 8));
    expect(cases).toEqual([8, 1, 0, 0, 5, 0, 8]);
  });
});
