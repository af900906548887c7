/** One region of directory entries against a Map, at every block size; and what bad entries do. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Bh } from "../../block/buffer_cache.ts";
import { dirRecLen } from "../../format/disk/index.ts";
import { plainArena } from "../../lib/arena.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { createTwinKernels } from "../../wasm/kernels.ts";
import type { Osb } from "../osb.ts";
import {
  checkTrailer,
  countEntriesIn,
  deleteEntryAt,
  entryAt,
  fillInitialEntries,
  fillUnused,
  findEntryIn,
  findRoomIn,
  initTrailer,
  insertEntryAt,
  largestRoomIn,
  type Region,
  settleOffset,
  stretchLastEntry,
  trailerOff,
} from "./dirblock.ts";
import { nameOf, putName } from "./name.ts";

function fakeOsb(blocksize: number): Osb {
  const arena = plainArena(1 << 16);
  const k = createTwinKernels(arena.u8);
  return { arena, k, cache: arena, geo: { blocksize } } as unknown as Osb;
}

function region(osb: Osb, size: number): Region {
  return { addr: osb.arena.alloc(4096), size, blkno: 77 };
}

const find = (osb: Osb, r: Region, name: string): number =>
  findEntryIn(osb, r, putName(osb, nameOf(name)), nameOf(name).length);

/** Offset, rec_len and name ("-" for unused) of each entry. */
function chain(osb: Osb, r: Region): [number, number, string][] {
  const out: [number, number, string][] = [];
  for (let at = 0; at < r.size; ) {
    const de = entryAt(osb, r, at);
    out.push([at, de.rec_len, de.inode === 0 ? "-" : Buffer.from(de.name.bytes(de.name_len)).toString()]);
    at += de.rec_len;
  }
  return out;
}

test("a new directory has . and .., and all the room behind ..", () => {
  const osb = fakeOsb(512);
  const r = region(osb, 448);
  expect(fillInitialEntries(osb, r, 100, 50)).toBe(448 - 32);
  expect(chain(osb, r)).toEqual([
    [0, 16, "."],
    [16, 432, ".."],
  ]);
  expect(largestRoomIn(osb, r)).toBe(416);
});

test("inserting splits, deleting gives the room to the entry before", () => {
  const osb = fakeOsb(512);
  const r = region(osb, 128);
  fillInitialEntries(osb, r, 100, 50);
  insertEntryAt(osb, r, findRoomIn(osb, r, dirRecLen(4)), nameOf("aaaa"), 1, 1);
  insertEntryAt(osb, r, findRoomIn(osb, r, dirRecLen(5)), nameOf("bbbbb"), 2, 1);
  expect(chain(osb, r)).toEqual([
    [0, 16, "."],
    [16, 16, ".."],
    [32, 16, "aaaa"],
    [48, 80, "bbbbb"],
  ]);
  deleteEntryAt(osb, r, find(osb, r, "aaaa"));
  expect(chain(osb, r)).toEqual([
    [0, 16, "."],
    [16, 32, ".."],
    [48, 80, "bbbbb"],
  ]);
  expect(settleOffset(osb, r, 32)).toBe(48);
  deleteEntryAt(osb, r, find(osb, r, "."));
  expect(chain(osb, r)[0]).toEqual([0, 16, "-"]);
  expect(findRoomIn(osb, r, 16)).toBe(0);
});

test("entries moved to a larger region cover it", () => {
  const osb = fakeOsb(512);
  const r = region(osb, 200);
  fillInitialEntries(osb, r, 100, 50);
  stretchLastEntry(osb, { ...r, size: 448 }, 200);
  expect(chain(osb, { ...r, size: 448 })).toEqual([
    [0, 16, "."],
    [16, 432, ".."],
  ]);
});

describe.each([512, 1024, 2048, 4096])("a block of %i bytes", (blocksize) => {
  test("holds what a Map holds, without a gap, however names come and go", () => {
    const name = fc.oneof(
      fc.stringMatching(/^[a-d]{1,3}$/),
      fc.integer({ min: 1, max: 255 }).map((n) => "x".repeat(n)),
    );
    const steps = fc.array(fc.tuple(fc.boolean(), name), { maxLength: 150 });
    fc.assert(
      fc.property(steps, fc.boolean(), (ops, trailer) => {
        const osb = fakeOsb(blocksize);
        const r = region(osb, trailer ? trailerOff(blocksize) : blocksize);
        fillUnused(osb, r);
        const model = new Map<string, number>();
        ops.forEach(([add, text], i) => {
          if (add && !model.has(text)) {
            const need = dirRecLen(text.length);
            const room = findRoomIn(osb, r, need);
            expect(room >= 0).toBe(largestRoomIn(osb, r) >= need);
            if (room < 0) return;
            insertEntryAt(osb, r, room, nameOf(text), i + 1, 1);
            model.set(text, i + 1);
          } else if (!add && model.has(text)) {
            deleteEntryAt(osb, r, find(osb, r, text));
            model.delete(text);
          }
        });
        const all = chain(osb, r);
        expect(all.reduce((sum, [, len]) => sum + len, 0)).toBe(r.size);
        expect(
          all
            .filter(([, , n]) => n !== "-")
            .map(([, , n]) => n)
            .sort(),
        ).toEqual([...model.keys()].sort());
        expect(countEntriesIn(osb, r)).toBe(model.size);
        for (const [text, ino] of model) expect(entryAt(osb, r, find(osb, r, text)).inode).toBe(ino);
        expect(find(osb, r, "nobody")).toBe(-1);
      }),
      { numRuns: 60 },
    );
  });
});

describe("a block that is not sound", () => {
  const broken: [string, (osb: Osb, r: Region) => void][] = [
    ["a rec_len of 0", (osb, r) => (entryAt(osb, r, 16).rec_len = 0)],
    ["a rec_len that is no multiple of 4", (osb, r) => (entryAt(osb, r, 16).rec_len = 18)],
    ["an entry that leaves the block", (osb, r) => (entryAt(osb, r, 16).rec_len = 512)],
    ["a name longer than its entry", (osb, r) => (entryAt(osb, r, 0).name_len = 40)],
    ["a rest too small for an entry", (osb, r) => (entryAt(osb, r, 16).rec_len = 424)],
  ];
  test.each(broken)("%s is corruption, not a loop or a wrong name", (_, damage) => {
    const osb = fakeOsb(512);
    const r = region(osb, 448);
    fillInitialEntries(osb, r, 100, 50);
    damage(osb, r);
    expect(() => find(osb, r, "x")).toThrow(Corruption);
    expect(() => findRoomIn(osb, r, 4000)).toThrow(Corruption);
    expect(() => largestRoomIn(osb, r)).toThrow(Corruption);
    expect(() => countEntriesIn(osb, r)).toThrow(Corruption);
  });

  test("a trailer of another block or directory is refused", () => {
    const osb = fakeOsb(512);
    const bh = { addr: osb.arena.alloc(512), blkno: 9 } as Bh;
    expect(() => checkTrailer(osb, bh, 5)).toThrow(/no trailer/);
    initTrailer(osb, bh, 5, 100);
    checkTrailer(osb, bh, 5);
    expect(() => checkTrailer(osb, bh, 6)).toThrow(/another block/);
    expect(() => checkTrailer(osb, { ...bh, blkno: 10 } as Bh, 5)).toThrow(/another block/);
  });
});
