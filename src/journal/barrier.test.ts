import { expect, test } from "vitest";
import { haveTool, mkfsImage, openImage } from "../../test/support/volume.ts";
import type { IoDone } from "../block/device.ts";
import { MemoryDevice } from "../block/memory_device.ts";
import { JBD2_COMMIT_BLOCK, JBD2_MAGIC_NUMBER } from "../format/jbd2/index.ts";
import type { Arena } from "../lib/arena.ts";
import { all, wait } from "../lib/task.ts";
import { fsync, type WriteRequest, writeFile } from "../vfs/file.ts";
import { create } from "../vfs/namespace.ts";
import type { MountOptions } from "../volume/mount_options.ts";

/** Answers in the order in which it was asked, when somebody waits; keeps commit blocks back when told to. */
class Queue extends MemoryDevice {
  readonly #arena: Arena;
  readonly #queue: (() => void)[] = [];
  readonly held: (() => void)[] = [];
  hold = false;
  /** What was done, in order. */
  readonly diary: ("data" | "dsync" | "flush begins" | "flush")[] = [];

  constructor(arena: Arena, data: Uint8Array) {
    super(arena, data);
    this.#arena = arena;
  }

  override read(addr: number, len: number, offset: number, done: IoDone): void {
    this.#queue.push(() => super.read(addr, len, offset, done));
  }

  override write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    const go = (): void => {
      this.diary.push(dsync ? "dsync" : "data");
      super.write(addr, len, offset, done, dsync);
    };
    const { dv } = this.#arena;
    const commit = dv.getUint32(addr) === JBD2_MAGIC_NUMBER && dv.getUint32(addr + 4) === JBD2_COMMIT_BLOCK;
    (commit && this.hold ? this.held : this.#queue).push(go);
  }

  override flush(done: IoDone): void {
    this.diary.push("flush begins");
    const { written } = this.durability;
    this.#queue.push(() => {
      this.diary.push("flush");
      this.durability.flush(written);
      done(0);
    });
  }

  override pump(): boolean {
    const go = this.#queue.shift();
    go?.();
    return go !== undefined;
  }

  release(): void {
    this.hold = false;
    this.#queue.push(...this.held.splice(0));
  }
}

function file(pages: number, options: Partial<MountOptions> = {}) {
  let dev: Queue | undefined;
  const image = mkfsImage(["-b", "4096", "-C", "4096", "-J", "size=4M", "-N", "1"], 64);
  const v = openImage(image, options, (arena, data) => {
    dev = new Queue(arena, data);
    return dev;
  });
  const { osb } = v;
  const cred = { uid: 0, gid: 0, umask: 0o022 };
  const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from("file"), 0o644, cred));
  const inode = osb.inodes.get(ino);
  const addr = osb.arena.alloc(65536, 4096);
  const put = (page: number, n: number, how: Partial<WriteRequest> = {}): void => {
    osb.arena.u8.fill(page + 1, addr, addr + n * 4096);
    osb.runTaskSync(
      wait<number>((cb) => writeFile(osb, inode, { offset: page * 4096, len: n * 4096, addr, ...how }, cb)),
    );
  };
  put(0, pages);
  osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));
  osb.runTaskSync(wait(osb.journal.flush));
  dev!.diary.length = 0;
  return { v, osb, inode, put, dev: dev! };
}

const noMkfs = !haveTool("mkfs.ocfs2");

test.skipIf(noMkfs)("what fdatasync has written behind the flush of a commit under way gets one of its own", () => {
  const { v, osb, inode, put, dev } = file(4);
  put(4, 4);
  dev.hold = true;
  osb.journal.startCommit();
  while (dev.held.length === 0) osb.pump();
  expect(dev.diary.slice(-2)).toEqual(["flush begins", "flush"]);
  // The commit block is on its way; the same file is written to in place.
  put(0, 4);
  let answer: unknown;
  fsync(osb, inode, true, (err) => {
    answer = err;
  });
  while (osb.pump());
  expect(answer).toBeUndefined();
  expect(dev.diary.slice(-1)).toEqual(["data"]);
  dev.release();
  while (answer === undefined && osb.pump());
  expect(answer).toBeNull();
  expect(dev.diary.slice(-4)).toEqual(["data", "dsync", "flush begins", "flush"]);
  v.close();
});

test.skipIf(noMkfs)(
  "fsync and fdatasync flush what was written back before they were asked, for want of memory say",
  () => {
    const { v, osb, inode, put, dev } = file(4);
    for (const datasync of [true, false]) {
      put(0, 2);
      // The times of the file are on the disk, too: there is nothing to commit.
      osb.runTaskSync(wait(osb.journal.flush));
      osb.data.writeback(2);
      while (osb.pump());
      expect([inode.dirty_pages, inode.pages_in_flight, dev.durability.unflushed]).toEqual([0, 0, true]);
      dev.diary.length = 0;
      osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, datasync, cb)));
      expect(dev.diary).toEqual(["flush begins", "flush"]);
      osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, datasync, cb)));
      expect(dev.diary).toEqual(["flush begins", "flush"]);
    }
    v.close();
  },
);

test.skipIf(noMkfs)("few writes are made durable each by itself, many by a flush", () => {
  const { v, osb, inode, put, dev } = file(8);
  const synced = (): string[] => {
    dev.diary.length = 0;
    osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));
    return [...dev.diary];
  };
  // Data, log, commit block: one flush covers the first two.
  const flushed = ["data", "data", "flush begins", "flush", "dsync"];
  put(3, 1);
  expect(synced()).toEqual(flushed);
  put(0, 8);
  expect(synced()).toEqual(flushed);
  // Block and tail.
  dev.diary.length = 0;
  osb.runTaskSync(wait(osb.journal.flush));
  expect(dev.diary).toEqual(["dsync", "dsync"]);
  // As a lock is given up: data and log at the same time, commit block, block, tail.
  put(3, 1);
  dev.diary.length = 0;
  osb.runTaskSync(all([osb.journal.flush, osb.data.flushOwner(inode, true)]));
  expect(dev.diary).toEqual(["dsync", "dsync", "dsync", "dsync", "dsync"]);
  v.close();
});

test.skipIf(noMkfs)("a direct write that is to be durable when it is answered", () => {
  const { v, put, dev } = file(8);
  const direct = (page: number, sync: WriteRequest["sync"]): string[] => {
    dev.diary.length = 0;
    put(page, 1, { direct: true, sync });
    return [...dev.diary];
  };
  expect(direct(0, undefined)).toEqual(["data"]);
  // In place: times alone are no data.
  expect(direct(0, "data")).toEqual(["data", "flush begins", "flush"]);
  // Longer: data and log, then the commit block.
  expect(direct(8, "data")).toEqual(["data", "data", "flush begins", "flush", "dsync"]);
  expect(direct(0, "all").slice(-1)).toEqual(["dsync"]);
  v.close();
});

test.skipIf(noMkfs)(
  "-o barrier=0: the disk has no cache that could lose something, and is never asked to flush it",
  () => {
    const { v, osb, inode, put, dev } = file(8, { barrier: false });
    put(3, 1);
    put(8, 1);
    osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));
    put(0, 8);
    osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, true, cb)));
    osb.runTaskSync(wait(osb.journal.flush));
    expect(new Set(dev.diary)).toEqual(new Set(["data"]));
    v.close();
  },
);

test.skipIf(noMkfs).each([
  ["ordered", 0],
  ["writeback", 3],
] as const)("-o data=%s: %i pages of new clusters are still to be written when these are committed", (data, left) => {
  const { v, osb, inode, put } = file(1, { data });
  put(1, 3);
  osb.runTaskSync(wait(osb.journal.flush));
  expect(inode.dirty_pages).toBe(left);
  v.close();
});
