/**
 * Extent trees against a map of clusters: random inserts, removals, marks and moves in trees of small nodes, each step
 * followed by a walk that checks every rule of the shape; at the end fsck.ocfs2 judges the volume.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkExtentTree } from "../../../test/support/extent_tree_check.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { OCFS2_EXT_UNWRITTEN } from "../../format/disk/index.ts";
import { type Random, seededRandom } from "../../lib/clock.ts";
import { create } from "../../vfs/namespace.ts";
import { claimClusters, freeClusters } from "../alloc/suballoc.ts";
import { dinodeOf, type Inode, inodeLockModify } from "../inode.ts";
import type { Op } from "../op.ts";
import { setCount } from "./extent_list.ts";
import { getBlocks, getClusters, seekData, seekHole } from "./extent_map.ts";
import {
  changeExtentFlag,
  dinodeExtentTree,
  type ExtentTree,
  extentRecords,
  insertExtent,
  lastExtent,
  lookupExtent,
  removeExtent,
  replaceExtent,
} from "./extent_tree.ts";

const SPAN = 4000;
const cred = { uid: 0, gid: 0, umask: 0o22 };

/** What the file maps, cluster by cluster. */
class Model {
  readonly phys = new Uint32Array(SPAN + 64);
  readonly flags = new Uint8Array(SPAN + 64);
  get mapped(): number {
    return this.phys.reduce((n, p) => n + (p ? 1 : 0), 0);
  }
}

class Bench {
  readonly v: TestVolume;
  readonly inode: Inode;
  readonly model = new Model();
  readonly max_shift: number;
  depth = 0;

  constructor(image: Uint8Array, name: string, root_records: number, max_shift: number) {
    this.v = openImage(image);
    this.max_shift = max_shift;
    const { osb } = this.v;
    const attr = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o100644, cred));
    this.inode = osb.inodes.get(attr.ino);
    osb.runSync((op) => {
      const bh = inodeLockModify(op, this.inode);
      const di = dinodeOf(op, bh);
      di.i_dyn_features &= ~1;
      di.i_list.l_tree_depth = 0;
      di.i_list.l_next_free_rec = 0;
      osb.cache.u8.fill(0, di.i_list.off, bh.addr + osb.geo.blocksize);
      setCount(osb.cache.dv, di.i_list.off, root_records);
      di.i_size = (SPAN + 64) * osb.geo.clustersize;
    });
  }

  change<T>(fn: (op: Op, et: ExtentTree) => T): T {
    return this.v.osb.runSync((op) => {
      const bh = inodeLockModify(op, this.inode);
      return fn(op, { ...dinodeExtentTree(op, this.inode, bh), max_shift: this.max_shift });
    });
  }

  insert(cpos: number, want: number, flags: number): void {
    const { model } = this;
    let n = 0;
    while (n < want && cpos + n < SPAN && model.phys[cpos + n] === 0) n++;
    if (n === 0) return;
    this.change((op, et) => {
      const got = claimClusters(op, 1, n);
      insertExtent(op, et, cpos, op.osb.clustersToBlocks(got.p_cluster), got.clusters, flags);
      op.onSuccess(() => {
        for (let i = 0; i < got.clusters; i++) {
          model.phys[cpos + i] = got.p_cluster + i;
          model.flags[cpos + i] = flags;
        }
      });
    });
  }

  remove(cpos: number, n: number): void {
    const { model } = this;
    const end = Math.min(SPAN, cpos + n);
    this.change((op, et) => {
      removeExtent(op, et, cpos, end - cpos);
      for (let c = cpos; c < end; c++) {
        const p = model.phys[c]!;
        if (p !== 0) freeClusters(op, p, 1);
      }
    });
    model.phys.fill(0, cpos, end);
    model.flags.fill(0, cpos, end);
  }

  /** The mapped run from `cpos` on, n clusters at most. */
  run(cpos: number, n: number): number {
    let len = 0;
    while (len < n && cpos + len < SPAN && this.model.phys[cpos + len] !== 0) len++;
    return len;
  }

  mark(cpos: number, n: number, set: number, clear: number): void {
    const len = this.run(cpos, n);
    if (len === 0) return;
    this.change((op, et) => changeExtentFlag(op, et, cpos, len, set, clear));
    for (let i = 0; i < len; i++) this.model.flags[cpos + i] = (this.model.flags[cpos + i]! | set) & ~clear;
  }

  replace(cpos: number, n: number): void {
    const { model } = this;
    const len = this.run(cpos, n);
    if (len === 0) return;
    this.change((op, et) => {
      const got = claimClusters(op, 1, len);
      replaceExtent(op, et, cpos, got.clusters, op.osb.clustersToBlocks(got.p_cluster), 0);
      for (let i = 0; i < got.clusters; i++) freeClusters(op, model.phys[cpos + i]!, 1);
      op.onSuccess(() => {
        for (let i = 0; i < got.clusters; i++) {
          model.phys[cpos + i] = got.p_cluster + i;
          model.flags[cpos + i] = 0;
        }
      });
    });
  }

  check(): void {
    const { osb } = this.v;
    const { model } = this;
    const shape = osb.runSync((op) => {
      const bh = inodeLockModify(op, this.inode);
      return checkExtentTree(op, dinodeExtentTree(op, this.inode, bh));
    });
    this.depth = shape.depth;
    let at = 0;
    for (const e of shape.records) {
      for (; at < e.cpos; at++) if (model.phys[at] !== 0) throw new Error(`cluster ${at} is not in the tree`);
      const p = osb.blocksToClusters(e.blkno);
      for (let i = 0; i < e.clusters; i++, at++) {
        if (model.phys[at] !== p + i) throw new Error(`cluster ${at} is at ${p + i}, not at ${model.phys[at]}`);
        if (model.flags[at] !== e.flags) throw new Error(`cluster ${at} has flags ${e.flags}`);
      }
    }
    for (; at < SPAN; at++) if (model.phys[at] !== 0) throw new Error(`cluster ${at} is not in the tree`);
  }

  /** Lookups of all kinds at random places. */
  checkLookups(random: Random, times: number): void {
    const { osb } = this.v;
    const { model, inode } = this;
    osb.runSync((op) => {
      for (let i = 0; i < times; i++) {
        const c = random.u32() % SPAN;
        const e = lookupExtent(op, dinodeExtentTree(op, inode, inodeLockModify(op, inode)), c);
        const got = getClusters(op, inode, c);
        const p = model.phys[c]!;
        expect([got.p_cluster, got.flags]).toEqual([p, model.flags[c]]);
        expect(got.clusters).toBeGreaterThan(0);
        expect(e.cpos + e.clusters).toBe(c + got.clusters);
        if (p === 0) {
          const next = model.phys.findIndex((x, n) => n >= c && x !== 0);
          expect(got.clusters).toBe(next < 0 ? 0xffffffff - c : next - c);
        }
        const b = getBlocks(op, inode, c * osb.geo.blocks_per_cluster + 3);
        expect(b.p_blkno).toBe(p === 0 ? 0 : p * osb.geo.blocks_per_cluster + 3);
        const is_data = (n: number): boolean => model.phys[n] !== 0 && model.flags[n] === 0;
        let d = c;
        while (d < SPAN && !is_data(d)) d++;
        expect(seekData(op, inode, c * osb.geo.clustersize + 1)).toBe(
          d >= SPAN ? undefined : d === c ? c * osb.geo.clustersize + 1 : d * osb.geo.clustersize,
        );
        let h = c;
        while (h < SPAN && is_data(h)) h++;
        expect(seekHole(op, inode, c * osb.geo.clustersize)).toBe(h * osb.geo.clustersize);
      }
      const all = [...extentRecords(op, dinodeExtentTree(op, inode, inodeLockModify(op, inode)), 100)];
      expect(all.every((e) => e.cpos + e.clusters > 100)).toBe(true);
    });
  }
}

type Step = [kind: number, cpos: number, n: number];
const steps = (max: number): fc.Arbitrary<Step[]> =>
  fc.array(fc.tuple(fc.nat(9), fc.nat(SPAN - 1), fc.integer({ min: 1, max: 40 })), { maxLength: max, size: "max" });

function apply(b: Bench, [kind, cpos, n]: Step): void {
  if (kind < 4) b.insert(cpos, kind === 0 ? n : 1, kind & 1 ? OCFS2_EXT_UNWRITTEN : 0);
  else if (kind < 6) b.remove(cpos, kind === 4 ? n * 4 : 1);
  else if (kind === 6) b.mark(cpos, n, 0, OCFS2_EXT_UNWRITTEN);
  else if (kind === 7) b.mark(cpos, 1 + (n >> 3), OCFS2_EXT_UNWRITTEN, 0);
  else if (kind === 8) b.replace(cpos, n);
  else b.insert(SPAN - 1 - (cpos >> 5), 1, 0);
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("extent trees", () => {
  const small = haveTool("mkfs.ocfs2")
    ? mkfsImage(["-b", "512", "-C", "4K", "-N", "2", "-J", "size=4M", "--fs-features=noindexed-dirs"], 64)
    : new Uint8Array(0);

  for (const max_shift of [0, 1, 3, 64]) {
    test(`random changes of a tree of small nodes, max_shift ${max_shift}: as a map of clusters has it`, () => {
      fc.assert(
        fc.property(fc.nat(), steps(90), (seed, list) => {
          const image = small.slice();
          const b = new Bench(image, "f", 1 + (seed % 3), max_shift);
          const random = seededRandom(seed + 1);
          // A base that is deep already: single clusters with holes between them, in a random order.
          const base = seed % 2 === 0 ? 0 : 900;
          for (let i = 0; i < base; i++) b.insert((random.u32() % (SPAN >> 1)) * 2, 1, i & 1);
          b.check();
          for (const s of list) {
            apply(b, s);
            b.check();
          }
          b.checkLookups(random, 40);
          b.v.close();
          const judged = fsck(image);
          if (!judged.clean) throw new Error(judged.output);
        }),
        { numRuns: 3, seed: 7 + max_shift, endOnFailure: true },
      );
    }, 240_000);
  }

  test("a tree of depth 3 and more, filled in a random order, emptied in another", () => {
    const image = small.slice();
    const b = new Bench(image, "deep", 1, 4);
    const random = seededRandom(3);
    for (let i = 0; i < 2400; i++) b.insert((random.u32() % (SPAN >> 1)) * 2, 1, 0);
    b.check();
    expect(b.depth).toBeGreaterThanOrEqual(3);
    b.checkLookups(random, 200);
    for (let i = 0; i < 1500; i++) {
      b.remove(random.u32() % SPAN, 1 + (random.u32() % 3));
      if (i % 50 === 0) b.check();
    }
    b.check();
    for (;;) {
      const last = b.change((op, et) => lastExtent(op, et));
      if (last === undefined) break;
      // From the back and from the front by turns, some clusters at once.
      if (last.cpos & 2) b.remove(Math.max(0, last.cpos - 20), 21);
      else b.remove(0, b.model.phys.findIndex((p) => p !== 0) + 9);
      if (last.cpos % 8 === 0) b.check();
    }
    b.check();
    expect(b.depth).toBe(0);
    b.v.close();
    const judged = fsck(image);
    expect(judged.clean, judged.output).toBe(true);
  }, 120_000);
});
