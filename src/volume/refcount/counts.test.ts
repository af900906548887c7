/** The counts of a refcount tree against a plain map, in blocks so small that the tree grows and shrinks all the time. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { create } from "../../vfs/namespace.ts";
import { extentRecords, refcountExtentTree } from "../extents/extent_tree.ts";
import { type Inode, inodeLockModify } from "../inode.ts";
import type { Op } from "../op.ts";
import { boundedRun, decreaseRefcount, increaseRefcount, refcountOf } from "./counts.ts";
import { changeRecs, type Rec, readRecs } from "./records.ts";
import {
  createRefcountTree,
  isTree,
  type LockedTree,
  leaveRefcountTree,
  lockRefcountTree,
  rbOf,
  refcountLoc,
} from "./tree.ts";

describe("records of a block", () => {
  const CLUSTERS = 40;
  const expand = (recs: readonly Rec[]): number[] => {
    const counts = new Array<number>(CLUSTERS).fill(0);
    for (const r of recs) for (let i = 0; i < r.clusters; i++) counts[r.cpos + i] = r.refcount;
    return counts;
  };

  test("change as an array of counts does, and stay joined where they can", () => {
    const change = fc.record({
      from: fc.integer({ min: 0, max: CLUSTERS - 1 }),
      len: fc.integer({ min: 1, max: 12 }),
      up: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
        let recs: Rec[] = [];
        const model = new Array<number>(CLUSTERS).fill(0);
        for (const { from, len, up } of changes) {
          const to = Math.min(CLUSTERS, from + len);
          const freed = new Set<number>();
          const next = changeRecs(recs, from, to, up ? 1 : -1, (at, n) => {
            for (let i = 0; i < n; i++) freed.add(at + i);
          });
          if (!up && model.slice(from, to).includes(0)) {
            expect(next).toBeNull();
            continue;
          }
          const gone = new Set<number>();
          for (let i = from; i < to; i++) {
            model[i]! += up ? 1 : -1;
            if (model[i] === 0) gone.add(i);
          }
          recs = next!;
          expect(freed).toEqual(gone);
          expect(expand(recs)).toEqual(model);
          for (let i = 1; i < recs.length; i++) {
            const [a, b] = [recs[i - 1]!, recs[i]!];
            expect(a.cpos + a.clusters < b.cpos || a.refcount !== b.refcount).toBe(true);
          }
        }
      }),
    );
  });
});

/** All counts in the tree, after a look at its shape: every leaf where its extent record says, none empty. */
function dump(op: Op, t: LockedTree): { counts: Map<number, number>; leaves: number; depth: number } {
  const { osb } = op;
  const counts = new Map<number, number>();
  const put = (r: Rec): void => {
    for (let i = 0; i < r.clusters; i++) counts.set(r.cpos + i, r.refcount);
  };
  const root = rbOf(op, t.root_bh);
  if (!isTree(root)) {
    readRecs(op, root).forEach(put);
    return { counts, leaves: 0, depth: -1 };
  }
  const leaves = [...extentRecords(op, refcountExtentTree(op, t.tree, t.root_bh))];
  expect(root.rf_clusters).toBe(leaves.length);
  leaves.forEach((e, i) => {
    const rb = rbOf(op, op.read(t.tree, e.blkno, osb.kinds.refcount_block));
    expect({ clusters: e.clusters, cpos: rb.rf_cpos, parent: rb.rf_parent, generation: rb.rf_generation }).toEqual({
      clusters: 1,
      cpos: e.cpos,
      parent: t.root_bh.blkno,
      generation: root.rf_generation,
    });
    const recs = readRecs(op, rb);
    expect(recs.length).toBeGreaterThan(0);
    expect(recs[0]!.cpos).toBeGreaterThanOrEqual(e.cpos);
    const last = recs.at(-1)!;
    const next = leaves[i + 1]?.cpos ?? 2 ** 32;
    expect(last.cpos + last.clusters).toBeLessThanOrEqual(next);
    recs.forEach(put);
  });
  return { counts, leaves: leaves.length, depth: root.rf_list.l_tree_depth };
}

const CRED = { uid: 0, gid: 0, umask: 0o22 };

interface Bench {
  readonly v: TestVolume;
  readonly inode: Inode;
  run<T>(fn: (op: Op, t: LockedTree) => T): T;
}

function makeBench(image: Uint8Array, late: boolean): Bench {
  const v = openImage(image, {}, late ? (arena, data) => new DelayedDevice(arena, data, 3) : undefined);
  const attr = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, Buffer.from("file"), 0o100644, CRED));
  const inode = v.osb.inodes.get(attr.ino);
  v.osb.runSync((op) => void createRefcountTree(op, inode, inodeLockModify(op, inode)));
  const run = <T>(fn: (op: Op, t: LockedTree) => T): T =>
    v.osb.runSync((op) => fn(op, lockRefcountTree(op, refcountLoc(op, inodeLockModify(op, inode)))));
  return { v, inode, run };
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("refcount tree", () => {
  for (const [name, args, late] of [
    ["512-byte blocks", ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=noindexed-dirs"], false],
    ["1K blocks with checksums, I/O that completes late", ["-b", "1K", "-C", "4K", "--fs-features=metaecc"], true],
  ] as const) {
    test(`${name}: counts as a map does`, () => {
      const image = mkfsImage(args, 64);
      const b = makeBench(image, late);
      const model = new Map<number, number>();
      const total = 12_000;
      let most_leaves = 0;
      let deepest = -1;
      const raise = (at: number, n: number): void => {
        b.run((op, t) => increaseRefcount(op, t, at, n));
        for (let c = at; c < at + n; c++) model.set(c, (model.get(c) ?? 0) + 1);
      };
      const lower = (at: number, n: number): void => {
        b.run((op, t) => decreaseRefcount(op, t, at, n, false));
        for (let c = at; c < at + n; c++) {
          const left = model.get(c)! - 1;
          if (left > 0) model.set(c, left);
          else model.delete(c);
        }
      };
      const check = (): void => {
        const got = b.run((op, t) => dump(op, t));
        most_leaves = Math.max(most_leaves, got.leaves);
        deepest = Math.max(deepest, got.depth);
        expect([...got.counts].sort((x, y) => x[0] - y[0])).toEqual([...model].sort((x, y) => x[0] - y[0]));
      };
      // Holes all over, so that records cannot join: from the middle to both sides, then at random.
      for (let i = 0; i < 900; i++) raise(total / 2 + (i % 2 === 0 ? i * 6 : -i * 6), 1 + (i % 5));
      check();
      const step = fc.tuple(fc.integer({ min: 0, max: total - 1 }), fc.integer({ min: 1, max: 40 }), fc.boolean());
      for (const [at, len, up] of fc.sample(step, { numRuns: 1200, seed: 11 })) {
        if (up) raise(at, len);
        else {
          // A run that is counted, from `at` on or behind it.
          let from = at;
          while (from < total && !model.has(from)) from++;
          let n = 0;
          while (n < len && model.has(from + n)) n++;
          if (n > 0) lower(from, n);
        }
      }
      check();
      expect(most_leaves).toBeGreaterThan(30);
      expect(deepest).toBeGreaterThanOrEqual(args[1] === "512" ? 1 : 0);
      for (const c of [0, 1, 17, 500, total - 1]) {
        const r = b.run((op, t) => refcountOf(op, t, c, 8));
        for (let i = 0; i < r.clusters; i++) expect(model.get(c + i) ?? 0).toBe(r.refcount);
      }
      expect(b.run((op, t) => boundedRun(op, t, 0, 64, 1000))).toBe(64);
      // The first leaves go; what comes in front of the new first one is put into that.
      for (let c = 0; c < 3000; c++) while (model.has(c)) lower(c, 1);
      check();
      raise(100, 3);
      raise(7, 2);
      check();
      // Down to nothing again, in an order of its own; the root holds records at the end.
      const order = [...model.keys()].sort((x, y) => ((x * 7919) % total) - ((y * 7919) % total));
      for (const c of order) while (model.has(c)) lower(c, 1);
      check();
      expect(b.run((op, t) => isTree(rbOf(op, t.root_bh)))).toBe(false);
      b.v.osb.runSync((op) => leaveRefcountTree(op, b.inode, inodeLockModify(op, b.inode)));
      b.v.close();
      const judged = fsck(image);
      expect(judged.clean, judged.output).toBe(true);
    });
  }

  test("what is not counted cannot be given up", () => {
    const b = makeBench(mkfsImage(["-b", "1K", "-C", "4K"], 64), false);
    b.run((op, t) => increaseRefcount(op, t, 100, 10));
    expect(() => b.run((op, t) => decreaseRefcount(op, t, 105, 10, false))).toThrow(/shared clusters without a count/);
    // The failed operation left nothing behind.
    expect(b.run((op, t) => refcountOf(op, t, 100, 20))).toEqual({ cpos: 100, clusters: 10, refcount: 1 });
  });
});
