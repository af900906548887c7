import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as F from "../format/fuse/index.ts";
import { plainArena } from "../lib/arena.ts";
import type { Attr } from "../volume/dir/attr.ts";
import { docTables, withTables } from "./doc_tables.ts";
import { type CachePolicy, INIT_FLAGS, negotiate, openFlags } from "./flags.ts";
import { Handles } from "./handles.ts";
import { HeldRanges } from "./held_ranges.ts";
import { opTable } from "./op_table.ts";
import { HELD, putEntry } from "./reply.ts";
import { dataReplyOf, MAX_WRITE, payloadOf, REQUEST_BYTES, REQUEST_LEAD, requestOf, Slots } from "./slots.ts";

const LOCAL: CachePolicy = {
  clustered: false,
  writeback_cache: false,
  mountpoints: false,
  names_cool_ms: 0,
  local_flocks: false,
  acl: true,
};
const CLUSTERED: CachePolicy = { ...LOCAL, clustered: true };
const ALL = 0xffffffff;

describe("INIT", () => {
  test("every flag of the protocol has a row, and no flag has two", () => {
    const named = [
      ...Object.values(F.FUSE_INIT_FLAGS),
      ...Object.values(F.FUSE_INIT_FLAGS2).map((f) => f * 2 ** 32),
    ].filter((f) => f !== F.FUSE_INIT_RESERVED && f !== F.FUSE_FILE_OPS);
    const rows = INIT_FLAGS.map((r) => r.flag);
    expect(new Set(rows).size).toBe(rows.length);
    expect(rows.sort((a, b) => a - b)).toEqual(named.sort((a, b) => a - b));
  });

  test("only what the kernel offers is set", () => {
    expect(negotiate(LOCAL, 0, 0)).toEqual({ flags: 0, flags2: 0 });
    expect(negotiate(LOCAL, F.FUSE_ASYNC_DIO, 0)).toEqual({ flags: F.FUSE_ASYNC_DIO, flags2: 0 });
    expect(negotiate(LOCAL, 0, 0x10)).toEqual({ flags: 0, flags2: 0x10 });
  });

  test("the writeback cache is an option, of local mounts", () => {
    const has = (p: CachePolicy): boolean => (negotiate(p, ALL, ALL).flags & F.FUSE_WRITEBACK_CACHE) !== 0;
    expect(has(LOCAL)).toBe(false);
    expect(has({ ...LOCAL, writeback_cache: true })).toBe(true);
    expect(has({ ...CLUSTERED, writeback_cache: true })).toBe(false);
  });

  test("noacl switches POSIX ACLs off", () => {
    expect(negotiate(LOCAL, ALL, ALL).flags & F.FUSE_POSIX_ACL).not.toBe(0);
    expect(negotiate({ ...LOCAL, acl: false }, ALL, ALL).flags & F.FUSE_POSIX_ACL).toBe(0);
  });
});

describe("OPEN", () => {
  const O_DIRECT = 0o40000;
  const O_APPEND = 0o2000;
  test.each([
    ["a plain open", LOCAL, 0, F.FOPEN_KEEP_CACHE],
    ["O_DIRECT", LOCAL, O_DIRECT, F.FOPEN_KEEP_CACHE | F.FOPEN_DIRECT_IO | F.FOPEN_PARALLEL_DIRECT_WRITES],
    ["O_APPEND on one node", LOCAL, O_APPEND, F.FOPEN_KEEP_CACHE],
    ["O_DIRECT beside the writeback cache", { ...LOCAL, writeback_cache: true }, O_DIRECT, F.FOPEN_KEEP_CACHE],
    ["O_APPEND in a cluster", CLUSTERED, O_APPEND, F.FOPEN_KEEP_CACHE | F.FOPEN_DIRECT_IO],
    ["both in a cluster", CLUSTERED, O_APPEND | O_DIRECT, F.FOPEN_KEEP_CACHE | F.FOPEN_DIRECT_IO],
  ])("%s", (_, policy, flags, expected) => {
    expect(openFlags(policy, flags)).toBe(expected);
  });
});

test("every request has a row", () => {
  const left = Object.values(F.FUSE_OPCODE).filter((op) => opTable[op] === undefined);
  // Answers to what we never ask (retrieve), and the windows of virtiofs.
  expect(left).toEqual([F.FUSE_NOTIFY_REPLY, F.FUSE_SETUPMAPPING, F.FUSE_REMOVEMAPPING]);
});

test("docs/FUSE.md has the tables of the code", async () => {
  const path = join(import.meta.dirname, "../../docs/FUSE.md");
  await expect(withTables(readFileSync(path, "utf8"))).toMatchFileSnapshot(path);
  expect(Object.keys(docTables())).toHaveLength(3);
});

describe("slots", () => {
  const slots = (large: number, small: number): Slots =>
    new Slots(plainArena((large + 1) * (MAX_WRITE + 8192) + small * 80_000), large, small);

  test("a WRITE's payload and a READ's data begin on a page, and a request fits", () => {
    const slot = slots(2, 1).takeReceive();
    expect(payloadOf(slot) % 4096).toBe(0);
    expect(requestOf(slot) + REQUEST_LEAD).toBe(payloadOf(slot));
    expect(dataReplyOf(slot) + F.FuseOutHeader.size).toBe(payloadOf(slot));
    expect(REQUEST_BYTES).toBe(F.FuseInHeader.size + F.FuseWriteIn.size + MAX_WRITE);
  });

  test("the last large slot is kept for receiving", () => {
    const s = slots(3, 0);
    s.takeReceive();
    expect(s.take(MAX_WRITE)).toBeDefined();
    expect(s.take(MAX_WRITE)).toBeUndefined();
    expect(s.takeReceive()).toBeGreaterThan(0);
  });

  test("small requests take small slots, and large ones when there are none", () => {
    const s = slots(3, 1);
    const a = s.take(4096)!;
    const b = s.take(4096)!;
    expect(b - a).toBeLessThan(0);
    expect(s.take(65537)).toBeDefined();
  });

  test("who waits goes first, in order", () => {
    const s = slots(1, 1);
    const slot = s.take(1)!;
    const order: string[] = [];
    s.wait(1, (got) => {
      order.push("first");
      s.give(got);
    });
    s.wait(1, () => order.push("second"));
    expect(s.take(1)).toBeUndefined();
    s.runWaiting();
    expect(order).toEqual([]);
    s.give(slot);
    // A slot that is free is not for who comes now.
    expect(s.take(1)).toBeUndefined();
    s.runWaiting();
    expect(order).toEqual(["first", "second"]);
  });

  test("a slot that is given back twice is found out", () => {
    const s = slots(1, 1);
    const slot = s.take(1)!;
    s.give(slot);
    expect(() => s.give(slot)).toThrow("twice");
  });
});

describe("pages that requests hold", () => {
  const PAGE = 4096;
  test.each([
    ["whole pages", 0, 2 * PAGE, []],
    ["the end of a page is missing", 0, PAGE + 1, [[PAGE, 2 * PAGE]]],
    ["inside of a page", 10, 20, [[0, PAGE]]],
    ["from inside of a page to its end", 10, PAGE - 10, [[0, PAGE]]],
    // The first page was uptodate, or the request would end in it.
    ["from inside of a page over whole ones", 10, 2 * PAGE - 10, []],
    ["nothing", 10, 0, []],
  ])("a WRITE, %s", (_, offset, len, expected) => {
    const held = new HeldRanges();
    const release = held.addPartial(7, offset, len);
    expect(held.of(7).map((r) => [r.from, r.to])).toEqual(expected);
    release();
    expect(held.of(7)).toEqual([]);
  });

  test("an invalidation goes around them", () => {
    const held = new HeldRanges();
    held.add(1, 3 * PAGE + 5, PAGE);
    held.add(1, 0, 1);
    held.add(2, 9 * PAGE, 1);
    expect(HeldRanges.around(held.of(1))).toEqual([
      { off: PAGE, len: 2 * PAGE },
      { off: 5 * PAGE, len: 0 },
    ]);
    expect(HeldRanges.around([])).toEqual([{ off: 0, len: 0 }]);
  });
});

test("handles: numbers are used again, never 0", () => {
  const handles = new Handles();
  const inode = {} as Parameters<Handles["open"]>[0];
  const a = handles.open(inode, 2);
  const b = handles.open(inode, 0);
  expect([a.fh, b.fh]).toEqual([1, 2]);
  expect([a.mayWrite, b.mayWrite]).toEqual([true, false]);
  expect(handles.close(a.fh)).toBe(a);
  expect(handles.close(a.fh)).toBeUndefined();
  expect(handles.get(a.fh)).toBeUndefined();
  expect(handles.open(inode, 0).fh).toBe(1);
  expect(handles.count).toBe(2);
});

test("an entry carries what stat shows, large numbers and old times included", () => {
  const dv = new DataView(new ArrayBuffer(256));
  const attr: Attr = {
    ino: 2 ** 40 + 1,
    generation: 0xdeadbeef,
    mode: 0o100644,
    nlink: 3,
    uid: 0xfffffffe,
    gid: 5,
    rdev: 0x801,
    size: 2 ** 50,
    blocks: 2 ** 41,
    blksize: 4096,
    atime: -1,
    atime_nsec: 999_999_999,
    mtime: 2 ** 33,
    mtime_nsec: 1,
    ctime: 0,
    ctime_nsec: 0,
    flags: 0,
  };
  putEntry(dv, 64, attr, attr.ino, HELD);
  const out = F.FuseEntryOut.at(dv, 64);
  expect([out.nodeid, out.generation]).toEqual([attr.ino, attr.generation]);
  const a = out.attr;
  expect([a.ino, a.size, a.blocks, a.atime, a.atimensec, a.mtime]).toEqual([
    attr.ino,
    attr.size,
    attr.blocks,
    -1,
    999_999_999,
    2 ** 33,
  ]);
  expect([a.mode, a.nlink, a.uid, a.gid, a.rdev, a.blksize]).toEqual([0o100644, 3, 0xfffffffe, 5, 0x801, 4096]);
});
