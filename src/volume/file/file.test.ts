/** File data against a plain buffer: random writes, reads, truncates, punches; then fsck.ocfs2 judges the volume. */
import { describe, expect, test } from "vitest";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { KEPT_SPACE } from "../../../test/support/judges.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { EXT_FLAGS, I_ATTR } from "../../format/disk/index.ts";
import type { Arena } from "../../lib/arena.ts";
import { type Random, seededRandom } from "../../lib/clock.ts";
import { Errno } from "../../lib/errno.ts";
import { all, asThunk, type Task, wait } from "../../lib/task.ts";
import { RandomBastDomain } from "../../stackglue/random_bast.ts";
import { copyFileRange } from "../../vfs/copy_range.ts";
import { fsync, readFile, setattr, writeFile } from "../../vfs/file.ts";
import { create } from "../../vfs/namespace.ts";
import { atimeIsDue } from "../dir/attr.ts";
import { getClusters } from "../extents/extent_map.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock } from "../inode.ts";
import type { Osb } from "../osb.ts";
import { commonTree, type Side, shareClusters } from "../refcount/share.ts";
import { fallocateTask } from "./fallocate.ts";

const KINDS: [string, string[]][] = [
  ["4K blocks, 4K clusters", ["-b", "4K", "-C", "4K"]],
  ["1K blocks, 32K clusters", ["-b", "1K", "-C", "32K"]],
  ["512 blocks, 4K clusters", ["-b", "512", "-C", "4K", "-J", "size=4M"]],
  ["4K blocks, 1M clusters, metaecc", ["-b", "4K", "-C", "1M", "--fs-features=metaecc"]],
  ["no inline data, no unwritten", ["-b", "2K", "-C", "8K", "--fs-features=noinline-data,nounwritten,noindexed-dirs"]],
  ["inline data, no holes", ["-b", "1K", "-C", "4K", "--fs-features=nosparse,nounwritten"]],
];
const MAX = 3 << 20;

class Model {
  size = 0;
  readonly bytes = new Uint8Array(MAX);
  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
    this.size = Math.max(this.size, offset + data.length);
  }
  truncate(size: number): void {
    if (size < this.size) this.bytes.fill(0, size);
    this.size = size;
  }
}

function runOps(
  v: TestVolume,
  inode: Inode,
  model: Model,
  random: Random,
  ops: number,
  punching: boolean,
  between = (): void => {},
): void {
  const { osb } = v;
  const addr = osb.arena.alloc(1 << 20, 4096);
  const below = (n: number): number => random.u32() % n;
  for (let i = 0; i < ops; i++) {
    between();
    const kind = below(punching ? 10 : 8);
    const big = below(8) === 0;
    const offset = below(big ? MAX - (1 << 20) : 200_000);
    const len = 1 + below(big ? 1 << 20 : below(2) === 0 ? 300 : 20_000);
    if (kind < 4) {
      const direct = kind === 3;
      const [o, l] = direct ? [offset & ~4095, Math.max(4096, len & ~4095)] : [offset, len];
      const data = new Uint8Array(l).map((_, n) => (n * 31 + i * 7 + (n >> 8)) & 255);
      osb.arena.u8.set(data, addr);
      const n = osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: o, len: l, addr, direct }, cb)));
      expect(n).toBe(l);
      model.write(o, data);
    } else if (kind < 6) {
      const n = osb.runTaskSync(wait<number>((cb) => readFile(osb, inode, { offset, len, addr }, cb)));
      expect(n).toBe(Math.max(0, Math.min(len, model.size - offset)));
      const got = Buffer.from(osb.arena.u8.subarray(addr, addr + n));
      const want = model.bytes.subarray(offset, offset + n);
      const diff = got.findIndex((b, at) => b !== want[at]);
      expect(diff < 0 ? "same" : `op ${i}: byte ${offset + diff} differs`).toBe("same");
    } else if (kind === 6) {
      const size = below(3) === 0 ? below(300) : offset;
      osb.runTaskSync(wait((cb) => setattr(osb, inode, { size }, cb)));
      model.truncate(size);
    } else if (kind === 7) osb.runTaskSync(wait((cb) => fsync(osb, inode, false, cb)));
    else {
      const l = Math.min(len, MAX - offset);
      const mode = kind === 8 ? 3 : [0, 1, 0x10, 0x11][below(4)]!;
      osb.runTaskSync(fallocateTask(osb, inode, mode, offset, l));
      const end = offset + l;
      if (mode === 3 || (mode & 0x10) !== 0) model.bytes.fill(0, offset, Math.min(end, Math.max(model.size, 0)));
      if (mode === 0 || mode === 0x10) model.size = Math.max(model.size, end);
    }
  }
  // And once more after everything was written and the caches are cold.
  osb.runTaskSync(wait((cb) => fsync(osb, inode, false, cb)));
  for (let at = 0; at < model.size; at += 1 << 20) {
    const n = osb.runTaskSync(wait<number>((cb) => readFile(osb, inode, { offset: at, len: 1 << 20, addr }, cb)));
    const same = Buffer.compare(osb.arena.u8.subarray(addr, addr + n), model.bytes.subarray(at, at + n)) === 0;
    expect(same, `contents at ${at} after sync`).toBe(true);
  }
}

/** An empty file in the root. */
function newFile(osb: Osb, name: string): Inode {
  const cred = { uid: 0, gid: 0, umask: 0 };
  return osb.inodes.get(osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o100644, cred)).ino);
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("file data", () => {
  for (const [name, args] of KINDS) {
    for (const mode of ["", ", I/O that completes late", ", every lock called off at random"]) {
      test(`${name}${mode}: as a plain buffer has it, and fsck finds nothing`, () => {
        const image = mkfsImage(args, 64);
        const known = fsck(image).findings;
        const random = seededRandom(mode.length + 5);
        const domain = mode.includes("lock") ? new RandomBastDomain({ random: seededRandom(3) }) : undefined;
        const late = (arena: Arena, data: Uint8Array): DelayedDevice => {
          const dev = new DelayedDevice(arena, data, 99);
          if (domain !== undefined) dev.alsoHappens = () => domain.poke();
          return dev;
        };
        const v = openImage(image, {}, mode === "" ? undefined : late, domain);
        const cred = { uid: 0, gid: 0, umask: 0o22 };
        const models: [Inode, Model][] = [];
        for (let f = 0; f < 3; f++) {
          const attr = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, Buffer.from(`file${f}`), 0o100644, cred));
          models.push([v.osb.inodes.get(attr.ino), new Model()]);
        }
        for (const [inode, model] of models)
          runOps(v, inode, model, random, 60, !args.join().includes("nounwritten"), () => {
            for (let n = 0; n < 4; n++) domain?.poke();
          });
        v.close();
        if (domain !== undefined) expect(domain.basts).toBeGreaterThan(150);
        const judged = fsck(image, known);
        expect(judged.clean, judged.output).toBe(true);
        const again = openImage(image);
        const addr = again.osb.arena.alloc(1 << 20, 4096);
        for (const [old, model] of models) {
          const inode = again.osb.inodes.get(old.ino);
          for (let at = 0; at < model.size; at += 1 << 20) {
            const n = again.osb.runTaskSync(
              wait<number>((cb) => readFile(again.osb, inode, { offset: at, len: 1 << 20, addr }, cb)),
            );
            const same =
              Buffer.compare(again.osb.arena.u8.subarray(addr, addr + n), model.bytes.subarray(at, at + n)) === 0;
            expect(same, `contents at ${at} after remount`).toBe(true);
          }
        }
        again.close();
      });
    }
  }

  test("atime is due when it is older than atime_quantum, and never with noatime", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "-J", "size=4M", "-N", "1"], 64);
    const cred = { uid: 0, gid: 0, umask: 0 };
    for (const [options, due] of [
      [{}, [false, true]],
      [{ atime_quantum_s: 5 }, [true, true]],
      [{ atime_quantum_s: 500 }, [false, false]],
      [{ noatime: true }, [false, false]],
    ] as const) {
      const { osb, close } = openImage(image.slice(), options);
      const made = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from("f"), 0o100644, cred));
      const inode = osb.inodes.get(made.ino);
      const isDue = (age_s: number): boolean => {
        const sec = Math.floor(Date.now() / 1000) - age_s;
        osb.runTaskSync(wait((cb) => setattr(osb, inode, { atime: { sec, nsec: 0 } }, cb)));
        return osb.runSync((op) => atimeIsDue(op, dinodeOf(op, inodeLock(op, inode))));
      };
      expect([isDue(30), isDue(90)], JSON.stringify(options)).toEqual(due);
      close();
    }
  });

  test.each([
    ["truncate", (osb: Osb, inode: Inode) => osb.runTaskSync(wait((cb) => setattr(osb, inode, { size: 20_000 }, cb)))],
    [
      "a write behind its end",
      (osb: Osb, inode: Inode, addr: number) =>
        osb.runTaskSync(wait((cb) => writeFile(osb, inode, { offset: 19_999, len: 1, addr }, cb))),
    ],
  ] as const)("a file in its inode grows by %s where files have no holes", (_, grow) => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "--fs-features=nosparse,nounwritten,inline-data"], 32);
    const v = openImage(image);
    const { osb } = v;
    const inode = newFile(osb, "small");
    const addr = osb.arena.alloc(1 << 15, 4096);
    osb.arena.u8.fill(7, addr, addr + 100);
    osb.runTaskSync(wait((cb) => writeFile(osb, inode, { offset: 0, len: 100, addr }, cb)));
    osb.runTaskSync(wait((cb) => setattr(osb, inode, { size: 200 }, cb)));
    expect(osb.runSync((op) => dinodeOf(op, inodeLock(op, inode)).i_clusters)).toBe(0);
    osb.arena.u8[addr] = 0;
    grow(osb, inode, addr);
    const n = osb.runTaskSync(wait<number>((cb) => readFile(osb, inode, { offset: 0, len: 1 << 15, addr }, cb)));
    const want = new Uint8Array(20_000).fill(7, 0, 100);
    expect(Buffer.compare(osb.arena.u8.subarray(addr, addr + n), want)).toBe(0);
    expect(osb.runSync((op) => dinodeOf(op, inodeLock(op, inode)).i_clusters)).toBe(5);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("fallocate shows nothing of what a truncation that was cut short has left behind the end of a file", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K"], 32);
    const v = openImage(image);
    const { osb } = v;
    const inode = newFile(osb, "cut");
    const len = 3 << 20;
    const addr = osb.arena.alloc(len, 4096);
    osb.arena.u8.fill(7, addr, addr + len);
    osb.runTaskSync(wait((cb) => writeFile(osb, inode, { offset: 0, len, addr }, cb)));
    // The first operation of a truncation: the node died after it.
    osb.runSync((op) => {
      const bh = inodeLock(op, inode, true);
      op.modify(bh);
      dinodeOf(op, bh).i_size = 100;
    });
    osb.runTaskSync(fallocateTask(osb, inode, 0, 0, len));
    osb.runTaskSync(wait((cb) => readFile(osb, inode, { offset: 0, len, addr }, cb)));
    expect(osb.arena.u8.subarray(addr, addr + len).lastIndexOf(7)).toBe(99);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("a write far behind the end of a file copies nothing of what is shared there and unwritten", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "-J", "size=4M"], 32);
    const v = openImage(image);
    const { osb } = v;
    const [a, b] = [newFile(osb, "a"), newFile(osb, "b")];
    const KEEP_SIZE = 1;
    osb.runTaskSync(fallocateTask(osb, a, KEEP_SIZE, 0, 8 << 20));
    // A kernel's reflink shares what lies behind the end of the file as well.
    for (let cpos = 0; cpos < 2048; )
      cpos += osb.runSync((op) => {
        const [src, dst] = [a, b].map((inode) => ({ inode, bh: inodeLock(op, inode, true) })) as [Side, Side];
        for (const { bh } of [src, dst]) op.modify(bh);
        const ext = getClusters(op, a, cpos);
        const run = { ...ext, clusters: Math.min(ext.clusters, 2048 - cpos) };
        shareClusters(op, commonTree(op, src, dst), src, cpos, dst, cpos, run);
        return run.clusters;
      });
    const addr = osb.arena.alloc(4096, 4096);
    osb.runTaskSync(wait((cb) => writeFile(osb, b, { offset: (8 << 20) - 1, len: 1, addr }, cb)));
    const { UNWRITTEN, REFCOUNTED } = EXT_FLAGS;
    expect(osb.runSync((op) => getClusters(op, b, 0).flags)).toBe(UNWRITTEN | REFCOUNTED);
    expect(osb.runSync((op) => getClusters(op, b, 2047).flags)).toBe(0);
    v.close();
    expect(fsck(image).findings.filter((f) => !KEPT_SPACE.test(f))).toEqual([]);
  });

  test("a file that cannot grow as far as it should keeps its size, where files have no holes", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "--fs-features=nosparse,nounwritten"], 32);
    const v = openImage(image);
    const { osb } = v;
    const inode = newFile(osb, "small");
    const addr = osb.arena.alloc(4096, 4096);
    osb.runTaskSync(wait((cb) => writeFile(osb, inode, { offset: 0, len: 4096, addr }, cb)));
    const grow = (size: number) => osb.runTaskSync(wait((cb) => setattr(osb, inode, { size }, cb)));
    expect(() => grow(64 << 20)).toThrow(expect.objectContaining({ errno: Errno.ENOSPC }));
    const write = { offset: 64 << 20, len: 1, addr };
    expect(() => osb.runTaskSync(wait((cb) => writeFile(osb, inode, write, cb)))).toThrow(
      expect.objectContaining({ errno: Errno.ENOSPC }),
    );
    expect(osb.runSync((op) => dinodeOf(op, inodeLock(op, inode)).i_size)).toBe(4096);
    // What was taken for it is the file's until it is cut, as the kernel has it.
    grow(4096);
    grow(1 << 20);
    osb.runTaskSync(wait((cb) => readFile(osb, inode, { offset: (1 << 20) - 4096, len: 4096, addr }, cb)));
    expect(osb.arena.u8.subarray(addr, addr + 4096).every((b) => b === 0)).toBe(true);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  /** A volume of 32 MiB, and a MiB to fill it with. */
  const toFill = () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K"], 32);
    const v = openImage(image);
    return { image, v, osb: v.osb, addr: v.osb.arena.alloc(1 << 20, 4096) };
  };
  const NO_ROOM = expect.objectContaining({ errno: Errno.ENOSPC });

  test("a write for which there is not enough room writes what there is room for", () => {
    const { image, v, osb, addr } = toFill();
    const full = newFile(osb, "full");
    const write = (offset: number, len: number) =>
      osb.runTaskSync(wait<number>((cb) => writeFile(osb, full, { offset, len, addr }, cb)));
    let size = 0;
    let last = 1 << 20;
    for (; last === 1 << 20; size += last) last = write(size, 1 << 20);
    expect(last).toBeGreaterThan(0);
    for (const len of [1 << 20, 4096]) expect(() => write(size, len)).toThrow(NO_ROOM);
    expect(osb.runSync((op) => dinodeOf(op, inodeLock(op, full)).i_size)).toBe(size);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("an append for which there is not enough room is one piece", () => {
    const { image, v, osb, addr } = toFill();
    const full = newFile(osb, "full");
    const append = (): number =>
      osb.runTaskSync(wait<number>((cb) => writeFile(osb, full, { offset: 0, len: 1 << 20, addr, append: true }, cb)));
    const pieces: number[] = [];
    expect(() => {
      for (;;) pieces.push(append());
    }).toThrow(NO_ROOM);
    // A second piece would have taken what the next append takes.
    expect(pieces.filter((n) => n < 1 << 20).length).toBeGreaterThan(1);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("a write far behind the end of a file for which there is no room leaves its size", () => {
    const { image, v, osb, addr } = toFill();
    const inode = newFile(osb, "small");
    const write = (offset: number) =>
      osb.runTaskSync(wait((cb) => writeFile(osb, inode, { offset, len: 4096, addr }, cb)));
    write(0);
    const full = newFile(osb, "full");
    let offset = 0;
    const fill = (len: number): void => {
      for (;;) offset += osb.runTaskSync(wait<number>((cb) => writeFile(osb, full, { offset, len, addr }, cb)));
    };
    for (const len of [1 << 20, 4096]) expect(() => fill(len)).toThrow(NO_ROOM);
    expect(() => write(10 * 2 ** 30)).toThrow(NO_ROOM);
    expect(osb.runSync((op) => dinodeOf(op, inodeLock(op, inode)).i_size)).toBe(4096);
    v.close();
    expect(fsck(image).findings.filter((f) => !KEPT_SPACE.test(f))).toEqual([]);
  });

  test("copy_file_range behind the end of a file leaves no hole where files have none", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "--fs-features=nosparse,nounwritten"], 32);
    const v = openImage(image);
    const { osb } = v;
    const [from, to] = [newFile(osb, "from"), newFile(osb, "to")];
    const addr = osb.arena.alloc(1 << 16, 4096);
    osb.arena.u8.fill(7, addr, addr + 16_384);
    osb.runTaskSync(wait((cb) => writeFile(osb, from, { offset: 0, len: 16_384, addr }, cb)));
    expect(osb.runTaskSync(wait((cb) => copyFileRange(osb, from, 0, to, 32_768, 16_384, cb)))).toBe(16_384);
    osb.runTaskSync(wait((cb) => readFile(osb, to, { offset: 0, len: 1 << 16, addr }, cb)));
    expect(osb.arena.u8.subarray(addr, addr + 32_768).every((b) => b === 0)).toBe(true);
    expect(osb.arena.u8.subarray(addr + 32_768, addr + 49_152).every((b) => b === 7)).toBe(true);
    v.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("a file that leaves its inode grows with zeros, whatever its new cluster held", () => {
    const image = mkfsImage(["-b", "4K", "-C", "64K", "-J", "size=4M", "-N", "1"], 64);
    // What is free is full of old data.
    const [from, chunk] = [8 << 20, 64 << 10];
    const nothing = new Uint8Array(chunk);
    for (let at = from; at < image.length; at += chunk)
      if (Buffer.compare(image.subarray(at, at + chunk), nothing) === 0) image.fill(0xaa, at, at + chunk);
    const { osb, close } = openImage(image);
    const addr = osb.arena.alloc(1 << 17, 4096);
    const make = (name: string): Inode => newFile(osb, name);
    const source = make("source");
    osb.runTaskSync(fallocateTask(osb, source, 0, 0, 1 << 16));
    const grown: ((inode: Inode) => unknown)[] = [
      (inode) => osb.runTaskSync(wait((cb) => setattr(osb, inode, { size: 60_000 }, cb))),
      // Shares the source's cluster behind its own.
      (inode) => osb.runTaskSync(wait<number>((cb) => copyFileRange(osb, source, 0, inode, 1 << 16, 1 << 16, cb))),
      (inode) => osb.runTaskSync(fallocateTask(osb, inode, 0, 0, 60_000)),
      (inode) => osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: 59_999, len: 1, addr }, cb))),
    ];
    for (const [i, grow] of grown.entries()) {
      const inode = make(`f${i}`);
      osb.arena.u8.fill(7, addr, addr + 100);
      osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: 0, len: 100, addr }, cb)));
      osb.arena.u8[addr] = 0;
      grow(inode);
      const n = osb.runTaskSync(
        wait<number>((cb) => readFile(osb, inode, { offset: 0, len: 1 << 17, addr: addr }, cb)),
      );
      expect(n).toBeGreaterThanOrEqual(60_000);
      const seen = osb.arena.u8.subarray(addr, addr + n);
      expect([seen.findLastIndex((byte) => byte !== 0), seen[0], seen[99]], `way ${i}`).toEqual([99, 7, 7]);
    }
    close();
  });

  test.each([
    [
      "a read of a part",
      (osb: Osb, inode: Inode, addr: number) =>
        wait<number>((cb) => readFile(osb, inode, { offset: 100, len: 10, addr: addr + 1 }, cb)),
      0,
    ],
    [
      "a write of a part",
      (osb: Osb, inode: Inode, addr: number) =>
        wait<number>((cb) => writeFile(osb, inode, { offset: 4096, len: 10, addr }, cb)),
      10,
    ],
  ])("what a direct write puts on the disk outlasts %s that runs beside it", (_, beside, others) => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"], 32);
    for (let seed = 1; seed <= 20; seed++) {
      const { osb, close } = openImage(image.slice(), {}, (arena, data) => new DelayedDevice(arena, data, seed));
      const [page, addr] = [osb.arena.alloc(8192, 4096), osb.arena.alloc(8192, 4096)];
      const inode = newFile(osb, "f");
      const direct = (byte: number): Task<number> => {
        osb.arena.u8.fill(byte, page, page + 8192);
        return wait<number>((cb) => writeFile(osb, inode, { offset: 0, len: 8192, addr: page, direct: true }, cb));
      };
      osb.runTaskSync(direct(1));
      osb.arena.u8.fill(3, addr, addr + 16);
      osb.runTaskSync(all([asThunk(() => direct(2)), asThunk(() => beside(osb, inode, addr))]));
      // Makes the page that the read may have left dirty.
      osb.arena.u8.fill(4, addr, addr + 16);
      osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: 50, len: 10, addr }, cb)));
      osb.runTaskSync(wait((cb) => fsync(osb, inode, false, cb)));
      osb.runTaskSync(wait<number>((cb) => readFile(osb, inode, { offset: 0, len: 8192, addr }, cb)));
      const seen = Buffer.from(osb.arena.u8.subarray(addr, addr + 8192));
      const wanted = Buffer.alloc(8192, 2).fill(4, 50, 60);
      // The one that ran beside it may come before it or after.
      if (seen[4096] !== 2) wanted.fill(3, 4096, 4096 + others);
      expect(seen.equals(wanted), `seed ${seed}`).toBe(true);
      close();
    }
  });

  test("a direct read beside a direct write sees what was in memory before it, or what it writes; not what the disk had", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"], 32);
    for (let seed = 1; seed <= 20; seed++) {
      const { osb, close } = openImage(image.slice(), {}, (arena, data) => new DelayedDevice(arena, data, seed));
      const [page, addr] = [osb.arena.alloc(4096, 4096), osb.arena.alloc(4096, 4096)];
      const inode = newFile(osb, "f");
      const write = (byte: number, direct: boolean): Task<number> => {
        osb.arena.u8.fill(byte, page, page + 4096);
        return wait<number>((cb) => writeFile(osb, inode, { offset: 0, len: 4096, addr: page, direct }, cb));
      };
      osb.runTaskSync(write(1, true));
      osb.runTaskSync(write(2, false));
      const read = wait<number>((cb) => readFile(osb, inode, { offset: 0, len: 4096, addr, direct: true }, cb));
      osb.runTaskSync(all([asThunk(() => write(3, true)), asThunk(() => read)]));
      expect([2, 3], `seed ${seed}`).toContain(osb.arena.u8[addr]);
      close();
    }
  });

  test.each([4096, 1000])(
    "a direct write to %i is on the device when it is answered, and tells of the device's error",
    (offset) => {
      const image = mkfsImage(["-b", "4K", "-C", "4K"], 64);
      const { osb, dev, close } = openImage(image);
      const addr = osb.arena.alloc(16384, 4096);
      const inode = newFile(osb, "f");
      const write = (byte: number, direct: boolean): unknown => {
        osb.arena.u8.fill(byte, addr, addr + 8192);
        let answer: unknown;
        writeFile(osb, inode, { offset, len: 8192, addr, direct }, (err, n) => {
          answer = err ?? n;
        });
        while (osb.pump());
        return answer;
      };
      expect(write(1, false)).toBe(8192);
      osb.runTaskSync(wait((cb) => fsync(osb, inode, false, cb)));
      const disk = Buffer.from(dev.data.buffer, dev.data.byteOffset, dev.data.length);
      const at = disk.indexOf(Buffer.alloc(8192, 1));
      expect(at).toBeGreaterThan(0);
      expect(write(2, true)).toBe(8192);
      expect(disk.subarray(at, at + 8192).equals(Buffer.alloc(8192, 2))).toBe(true);
      expect(inode.dirty_pages).toBe(0);
      const good = dev.write;
      dev.write = (_addr, _len, _offset, done) => done(-Errno.EIO);
      expect(write(3, true)).toMatchObject({ errno: Errno.EIO });
      dev.write = good;
      close();
    },
  );

  test.each([
    ["chattr +S: a write is durable when it is answered", I_ATTR.SYNC, 4096],
    ["without it not until it is asked for", 0, 0],
  ])("%s", (_, i_attr, kept) => {
    const image = mkfsImage(["-b", "4K", "-C", "4K"], 64);
    const { osb, dev } = openImage(image);
    const addr = osb.arena.alloc(8192, 4096);
    osb.arena.u8.fill(7, addr, addr + 4096);
    const inode = newFile(osb, "f");
    osb.runSync((op) => {
      const bh = inodeLock(op, inode, true);
      op.modify(bh);
      dinodeOf(op, bh).i_attr = i_attr;
      inodeChanged(op, inode);
    });
    osb.runTaskSync(wait((cb) => fsync(osb, inode, false, cb)));
    osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: 0, len: 4096, addr }, cb)));

    const crashed = openImage(dev.data.slice());
    const to = crashed.osb.arena.alloc(8192, 4096);
    const there = crashed.osb.inodes.get(inode.ino);
    const n = crashed.osb.runTaskSync(
      wait<number>((cb) => readFile(crashed.osb, there, { offset: 0, len: 4096, addr: to }, cb)),
    );
    expect(n).toBe(kept);
    expect(crashed.osb.arena.u8.subarray(to, to + n).every((byte) => byte === 7)).toBe(true);
    crashed.close();
  });
});
