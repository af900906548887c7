/**
 * The allocators against sets of what they gave out: nothing twice, nothing lost, counts that agree at every level, full
 * volumes, fragmented ones, crashed ones; at the end fsck.ocfs2 finds a volume on which every bit has an owner.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkAllocator } from "../../../test/support/allocator_check.ts";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import type { Arena } from "../../lib/arena.ts";
import { type Random, seededRandom } from "../../lib/clock.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, FsError } from "../../lib/fs_error.ts";
import { wait } from "../../lib/task.ts";
import { RandomBastDomain } from "../../stackglue/random_bast.ts";
import { dinodeOf, readDinode } from "../inode.ts";
import type { Osb } from "../osb.ts";
import { openAllocator } from "./chain.ts";
import { growAllocator } from "./group_alloc.ts";
import {
  claimClusters,
  claimInode,
  claimMetadata,
  freeClusters,
  freeInodeBit,
  freeMetadataBlock,
  type SuballocResult,
  truncateLogFlush,
  volumeStat,
} from "./suballoc.ts";

interface Run {
  p_cluster: number;
  clusters: number;
}

const origin = (r: SuballocResult) => ({
  slot: r.suballoc_slot,
  bit: r.suballoc_bit,
  loc: r.suballoc_loc,
  blkno: r.blkno,
});

class Owned {
  readonly osb: Osb;
  readonly clusters = new Set<number>();
  readonly runs: Run[] = [];
  readonly meta: SuballocResult[] = [];
  readonly inodes: SuballocResult[] = [];
  readonly blocks = new Set<number>();

  constructor(osb: Osb) {
    this.osb = osb;
  }

  claim(min: number, max: number, goal = 0): Run | "ENOSPC" {
    let got: Run;
    try {
      got = this.osb.runSync((op) => claimClusters(op, min, max, goal));
    } catch (err) {
      if (err instanceof FsError && err.errno === Errno.ENOSPC) return "ENOSPC";
      throw err;
    }
    expect(got.clusters).toBeGreaterThanOrEqual(min);
    expect(got.clusters).toBeLessThanOrEqual(max);
    for (let i = 0; i < got.clusters; i++) {
      const c = got.p_cluster + i;
      if (this.clusters.has(c) || this.blocks.has(c * this.osb.geo.blocks_per_cluster))
        throw new Error(`cluster ${c} given out twice`);
      this.clusters.add(c);
    }
    this.runs.push(got);
    return got;
  }

  freeRun(i: number): void {
    const [run] = this.runs.splice(i, 1);
    this.osb.runSync((op) => freeClusters(op, run!.p_cluster, run!.clusters));
    for (let n = 0; n < run!.clusters; n++) this.clusters.delete(run!.p_cluster + n);
  }

  block(kind: "meta" | "inode", count = 1): boolean {
    const { osb } = this;
    let got: SuballocResult[];
    try {
      got = osb.runSync((op) =>
        kind === "meta" ? claimMetadata(op, count) : [claimInode(op, osb.inodes.get(osb.geo.root_blkno))],
      );
    } catch (err) {
      if (err instanceof FsError && err.errno === Errno.ENOSPC) return false;
      throw err;
    }
    expect(got.length).toBe(count);
    for (const r of got) {
      if (this.blocks.has(r.blkno) || this.clusters.has(osb.blocksToClusters(r.blkno)))
        throw new Error(`block ${r.blkno} given out twice`);
      this.blocks.add(r.blkno);
      (kind === "meta" ? this.meta : this.inodes).push(r);
    }
    return true;
  }

  freeBlock(kind: "meta" | "inode", i: number): void {
    const [r] = (kind === "meta" ? this.meta : this.inodes).splice(i, 1);
    this.osb.runSync((op) => (kind === "meta" ? freeMetadataBlock : freeInodeBit)(op, origin(r!)));
    this.blocks.delete(r!.blkno);
  }

  check(): void {
    this.osb.runSync((op) => {
      checkAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
      for (let slot = 0; slot < op.osb.geo.max_slots; slot++) {
        checkAllocator(op, SYSTEM_INODE.EXTENT_ALLOC, slot);
        checkAllocator(op, SYSTEM_INODE.INODE_ALLOC, slot);
      }
    });
  }

  freeAll(): void {
    while (this.runs.length > 0) this.freeRun(this.runs.length - 1);
    while (this.meta.length > 0) this.freeBlock("meta", 0);
    while (this.inodes.length > 0) this.freeBlock("inode", 0);
  }
}

const flush = (v: TestVolume): void => v.osb.runTaskSync(truncateLogFlush(v.osb));
const stat = (v: TestVolume) => v.osb.runSync((op) => volumeStat(op));

/** A volume whose device, and other node, behave as `mode` says; `poke` lets the other node ask for something. */
function open(image: Uint8Array, mode: string, seed: number) {
  const domain = mode.includes("locks") ? new RandomBastDomain({ random: seededRandom(seed + 9) }) : undefined;
  const makeDevice = (arena: Arena, data: Uint8Array): DelayedDevice => {
    const dev = new DelayedDevice(arena, data, seed);
    if (domain !== undefined) dev.alsoHappens = () => domain.poke();
    return dev;
  };
  const v = openImage(image, { localalloc_mb: 4 }, mode === "" ? undefined : makeDevice, domain);
  const poke = (): void => {
    for (let i = 0; i < 3; i++) domain?.poke();
  };
  return { v, poke, basts: (): number | undefined => domain?.basts };
}

function judge(image: Uint8Array): void {
  const judged = fsck(image);
  expect(judged.clean, judged.output).toBe(true);
}

const VOLUMES: [string, string[]][] = [
  ["512 byte blocks", ["-b", "512", "-C", "4K", "-N", "2", "-J", "size=4M", "--fs-features=noindexed-dirs"]],
  ["4K blocks, 8K clusters", ["-b", "4K", "-C", "8K", "-N", "2", "-J", "size=4M", "--fs-features=noindexed-dirs"]],
  [
    "no discontig, metaecc",
    ["-b", "1K", "-C", "4K", "-N", "2", "-J", "size=4M", "--fs-features=noindexed-dirs,nodiscontig-bg,metaecc"],
  ],
];

describe.skipIf(!haveTool("mkfs.ocfs2"))("allocators", () => {
  for (const [name, args] of VOLUMES) {
    for (const mode of ["", ", I/O that completes late", ", I/O that completes late and locks that are asked for"]) {
      test(`random claims and frees, ${name}${mode}: nothing twice, nothing lost`, () => {
        const fresh = mkfsImage(args, 64);
        fc.assert(
          fc.property(fc.nat(), (seed) => {
            const image = fresh.slice();
            const { v, poke, basts } = open(image, mode, seed);
            const own = new Owned(v.osb);
            const random: Random = seededRandom(seed + 1);
            const below = (n: number): number => random.u32() % n;
            for (let i = 0; i < 250; i++) {
              switch (below(9)) {
                case 0:
                case 1:
                  own.claim(1, 1 + below(30), below(4) === 0 ? below(16000) : 0);
                  break;
                case 2: {
                  const min = 1 + below(600);
                  own.claim(min, min + below(600));
                  break;
                }
                case 3:
                  own.block("meta", 1 + below(5));
                  break;
                case 4:
                  own.block("inode");
                  break;
                case 5:
                case 6:
                  if (own.runs.length > 0) own.freeRun(below(own.runs.length));
                  break;
                case 7:
                  if (own.meta.length > 0) own.freeBlock("meta", below(own.meta.length));
                  break;
                default:
                  if (own.inodes.length > 0) own.freeBlock("inode", below(own.inodes.length));
              }
              if (i % 25 === 0) own.check();
              poke();
            }
            own.check();
            own.freeAll();
            own.check();
            v.close();
            expect(basts() ?? 100).toBeGreaterThanOrEqual(100);
            judge(image);
          }),
          { numRuns: mode.includes("locks") ? 1 : 2, seed: 11, endOnFailure: true },
        );
      }, 120_000);
    }
  }

  for (const mode of ["", ", locks that are asked for"])
    test(`a full volume${mode}: every cluster is given out once, ENOSPC, and frees in the truncate log are found in time`, () => {
      const image = mkfsImage(VOLUMES[0]![1], 64);
      const { v } = open(image, mode, 4);
      const own = new Owned(v.osb);
      const free = stat(v).free_clusters;
      while (own.claim(1, 700) !== "ENOSPC");
      expect(own.clusters.size).toBe(free);
      expect(stat(v).free_clusters).toBe(0);
      own.check();
      const most = own.runs.reduce((a, b) => (a.clusters > b.clusters ? a : b));
      own.freeRun(own.runs.indexOf(most));
      // Nothing is free by the bitmap; the claim itself has the log flushed.
      expect(stat(v).free_clusters).toBe(0);
      expect(own.claim(most.clusters, most.clusters)).not.toBe("ENOSPC");
      own.freeAll();
      v.close();
      judge(image);
    });

  test("no run is long enough for a group: it is made of pieces, and freed blocks find their way back into it", () => {
    const image = mkfsImage(VOLUMES[0]![1], 64);
    const v = openImage(image, { localalloc_mb: 0 });
    const own = new Owned(v.osb);
    while (own.claim(1, 30) !== "ENOSPC");
    // Every third run is freed: no free run has more than 30 clusters.
    own.runs.sort((a, b) => a.p_cluster - b.p_cluster);
    for (let i = own.runs.length - 1; i >= 0; i -= 3) own.freeRun(i);
    flush(v);
    for (let i = 0; i < 3000; i++) expect(own.block("inode")).toBe(true);
    const { discontig } = v.osb.runSync((op) => checkAllocator(op, SYSTEM_INODE.INODE_ALLOC, 0));
    expect(discontig).toBeGreaterThan(0);
    expect(own.inodes.some((r) => r.suballoc_loc !== 0)).toBe(true);
    own.freeAll();
    own.check();
    v.close();
    judge(image);
  });

  for (const mode of ["", ", locks that are asked for"])
    test(`our own allocator is empty and cannot grow${mode}: another slot's is robbed`, () => {
      const image = mkfsImage(VOLUMES[1]![1], 64);
      const { v } = open(image, mode, 5);
      const own = new Owned(v.osb);
      v.osb.runSync((op) => growAllocator(op, openAllocator(op, SYSTEM_INODE.EXTENT_ALLOC, 1)));
      while (own.claim(1, 500) !== "ENOSPC");
      let blocks = 0;
      while (own.block("meta")) blocks++;
      expect(blocks).toBeGreaterThan(10);
      expect(own.meta.some((r) => r.suballoc_slot === 1)).toBe(true);
      own.freeAll();
      own.check();
      v.close();
      judge(image);
    });

  test("a crash with a window and a full truncate log: the next mount returns all of it", () => {
    const image = mkfsImage(VOLUMES[1]![1], 64);
    const before = fsck(image);
    expect(before.clean).toBe(true);
    const first = openImage(image);
    const free = stat(first).free_clusters;
    const own = new Owned(first.osb);
    for (let i = 0; i < 40; i++) own.claim(1, 5);
    own.claim(900, 900);
    own.freeAll();
    first.osb.runTaskSync(wait(first.osb.journal.periodic));
    // Never closed: what the disk has is all there is.
    const second = openImage(image);
    expect(stat(second).free_clusters).toBe(free);
    const di = second.osb.runSync((op) => {
      const d = dinodeOf(op, readDinode(op, second.osb.sysfile(SYSTEM_INODE.TRUNCATE_LOG, 0)));
      return d.i_dealloc.tl_used;
    });
    expect(di).toBe(0);
    second.close();
    judge(image);
  });

  test("bits that are free already, or belong to another block, are corruptions, not assertions", () => {
    const image = mkfsImage(VOLUMES[1]![1], 64);
    const v = openImage(image);
    const own = new Owned(v.osb);
    own.block("meta", 3);
    const r = own.meta[1]!;
    own.freeBlock("meta", 1);
    const free = (o: ReturnType<typeof origin>) => () => v.osb.runSync((op) => freeMetadataBlock(op, o));
    expect(free(origin(r))).toThrow(Corruption);
    expect(free({ ...origin(own.meta[0]!), bit: 9 })).toThrow(Corruption);
    expect(free({ ...origin(own.meta[0]!), slot: 77 })).toThrow(Corruption);
    own.check();
    own.freeAll();
    v.close();
    judge(image);
  });

  test.each([
    ["resv_level=2: stay contiguous each", 2, 1, 5],
    ["resv_level=0: take the clusters by turns", 0, 60, 60],
  ] as const)("two files written by turns, %s", (_, resv_level, least, most) => {
    const image = mkfsImage(VOLUMES[1]![1], 64);
    const v = openImage(image, { resv_level });
    const { osb } = v;
    const files = [osb.inodes.get(900001), osb.inodes.get(900002)];
    const runs: Run[][] = [[], []];
    for (let i = 0; i < 120; i++) {
      const f = i & 1;
      // Inodes that are on no disk: the directory test is answered from the root's dinode.
      const got = osb.runSync((op) =>
        claimClusters(op, 1, 1, 0, Object.assign(files[f]!, { ino: osb.geo.root_blkno })),
      );
      const last = runs[f]![runs[f]!.length - 1];
      if (last !== undefined && last.p_cluster + last.clusters === got.p_cluster) last.clusters += got.clusters;
      else runs[f]!.push(got);
    }
    for (const { length } of runs) expect([length >= least, length <= most, length]).toEqual([true, true, length]);
    for (const r of runs.flat()) osb.runSync((op) => freeClusters(op, r.p_cluster, r.clusters));
    v.close();
    judge(image);
  });
});
