/** The plan of a volume on its own: it never puts two things in one place, takes exactly what its bitmap says, and cuts hashes well. */
import { describe, expect, test } from "vitest";
import { GroupDesc } from "../../format/disk/index.ts";
import { seededRandom, systemClock } from "../../lib/clock.ts";
import { cutRanges } from "./dx.ts";
import { figureGeometry, planMkfs, STAGES } from "./index.ts";
import { parseOptions } from "./options.ts";
import { MIB } from "./params.ts";
import { writeVolume } from "./write.ts";

const OPTIONS: [number, object][] = [
  [40, {}],
  [300, { mount: "local" }],
  [600, { fsFeatures: "noinline-data,metaecc,usrquota,grpquota", nodeSlots: "3" }],
  [900, { blockSize: "512", nodeSlots: "30", journalOptions: "size=4M", fsFeatures: "metaecc" }],
  [4000, { blockSize: "2K", clusterSize: "16K", nodeSlots: "255", journalOptions: "size=4M" }],
  [3000, { blockSize: "4K", clusterSize: "1M" }],
  [400_000, { nodeSlots: "2" }],
];

const world = { clock: systemClock, random: seededRandom(7) };

describe.each(OPTIONS)("%i MiB %j", (size_mib, raw) => {
  const target = { name: "disk", size_bytes: size_mib * MIB, sector_bytes: 512 };
  const plan = planMkfs(parseOptions(raw).params, target, world);
  const g = plan.geometry;
  const pieces = STAGES.flatMap((stage) => [...plan.stages[stage].pieces]);

  test("no block is written twice, none outside", () => {
    const taken = new Set<number>();
    for (const piece of pieces) {
      for (let b = piece.blkno; b < piece.blkno + piece.blocks; b++) {
        expect(taken.has(b)).toBe(false);
        taken.add(b);
      }
      expect(piece.blkno + piece.blocks).toBeLessThanOrEqual(g.blocks);
    }
  });

  test("what is written lies in used clusters, and the free counts are those of the bitmap", () => {
    const bitmaps = new Map<number, Uint8Array>();
    const block = new DataView(new ArrayBuffer(g.block_size));
    let free = 0;
    for (const piece of plan.stages.bitmaps.pieces) {
      new Uint8Array(block.buffer).fill(0);
      piece.render(block, 0);
      const gd = GroupDesc.at(block, 0);
      const bits = gd.bg_bitmap.bytes(gd.bg_size).slice();
      const group = Math.floor(piece.blkno / g.bpc / g.global_cpg);
      bitmaps.set(group, bits);
      let used = 0;
      for (let i = 0; i < gd.bg_bits; i++) used += (bits[i >> 3]! >> (i & 7)) & 1;
      expect(gd.bg_bits - used).toBe(gd.bg_free_bits_count);
      free += gd.bg_free_bits_count;
    }
    expect(bitmaps.size).toBe(g.cluster_groups);
    expect(free).toBeGreaterThan(0);
    for (const piece of pieces) {
      const cluster = Math.floor(piece.blkno / g.bpc);
      const bit = cluster % g.global_cpg;
      const bits = bitmaps.get(Math.floor(cluster / g.global_cpg))!;
      expect((bits[bit >> 3]! >> (bit & 7)) & 1).toBe(1);
    }
  });
});

test("the super block is written last, and everything else is on the disk before it", () => {
  const target = { name: "disk", size_bytes: 300 * MIB, sector_bytes: 512 };
  const plan = planMkfs(parseOptions({}).params, target, world);
  const calls: string[] = [];
  writeVolume(plan, {
    write: (_, off) => calls.push(off === 0 ? "super" : "other"),
    zero: () => calls.push("zero"),
    sync: () => calls.push("sync"),
  });
  expect(calls.slice(-3)).toEqual(["sync", "super", "sync"]);
  expect(calls.slice(0, -3)).not.toContain("super");
});

test("a failed write is not swallowed, and leaves no super block", () => {
  const target = { name: "disk", size_bytes: 300 * MIB, sector_bytes: 512 };
  const plan = planMkfs(parseOptions({}).params, target, world);
  let super_written = false;
  let left = 5;
  const sink = {
    write(_: Uint8Array, off: number): void {
      if (--left === 0) throw new Error("disk full");
      super_written ||= off === 0;
    },
    zero() {},
    sync() {},
  };
  expect(() => writeVolume(plan, sink)).toThrow("disk full");
  expect(super_written).toBe(false);
});

describe("the hashes of a directory are cut into ranges", () => {
  const params = parseOptions({ blockSize: "512", clusterSize: "4K" }).params;
  const g = figureGeometry(params, { name: "disk", size_bytes: 400 * MIB, sector_bytes: 512 });
  const random = seededRandom(99);
  const some = (n: number) =>
    Array.from({ length: n }, () => ({ major: random.u32(), minor: random.u32(), dirent_blk: 9 }));

  test("few entries stay in the root", () => expect(cutRanges(some(19), g)).toEqual([]));

  test.each([20, 100, 500, 1500])("%i entries", (n) => {
    const entries = some(n);
    const ranges = cutRanges(entries, g)!;
    expect(ranges[0]!.cpos).toBe(0);
    expect(ranges.flatMap((r) => r.entries).length).toBe(n);
    ranges.forEach((range, i) => {
      const next = ranges[i + 1]?.cpos ?? 2 ** 32;
      expect(range.cpos).toBeLessThan(next);
      const leaves = new Map<number, number>();
      for (const e of range.entries) {
        expect(e.major >= range.cpos && e.major < next).toBe(true);
        leaves.set(e.minor & 7, (leaves.get(e.minor & 7) ?? 0) + 1);
      }
      for (const used of leaves.values()) expect(used).toBeLessThanOrEqual(29);
    });
  });

  test("too many for the root's extents, or all of one hash, are left without an index", () => {
    expect(cutRanges(some(20_000), g)).toBeUndefined();
    expect(
      cutRanges(
        some(100).map((e) => ({ ...e, major: 5, minor: 8 })),
        g,
      ),
    ).toBeUndefined();
  });
});
