/** The tree of buckets where it is large, deep, or has names that hash alike; and its end when the inode goes. */
import { describe, expect, test } from "vitest";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { expectSound } from "../../../test/support/xattr_judge.ts";
import { XattrBlock } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { enospc, type FsError } from "../../lib/fs_error.ts";
import { wait } from "../../lib/task.ts";
import { create, unlink } from "../../vfs/namespace.ts";
import { volumeStat } from "../alloc/suballoc.ts";
import * as namei from "../dir/namei.ts";
import { wipeInode } from "../dir/wipe.ts";
import { dinodeOf, type Inode, inodeLock, readDinode } from "../inode.ts";
import { getxattr, listxattr, removexattr, setxattr } from "./index.ts";
import { nameHash } from "./name.ts";
import { createBucket, isIndexed, readXattrBlock } from "./place.ts";
import { findExtent, numBuckets } from "./tree.ts";

const CRED = { uid: 0, gid: 0, umask: 0o22 };
const bytesOf = (text: string): Uint8Array => Buffer.from(text);

function newFile(v: TestVolume, name: string): Inode {
  const { ino } = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, bytesOf(name), 0o100644, CRED));
  return v.osb.inodes.get(ino);
}

/** Depth of the tree, and the number of buckets in each of its extents, from the last one down. */
function shape(v: TestVolume, inode: Inode): { depth: number; buckets: number[] } {
  return v.osb.runSync((op) => {
    const xb_bh = readXattrBlock(op, inode, inodeLock(op, inode))!;
    expect(isIndexed(op, xb_bh)).toBe(true);
    const depth = XattrBlock.at(v.osb.cache.dv, xb_bh.addr).xb_root.xt_list.l_tree_depth;
    const buckets: number[] = [];
    for (let hash = 0xffffffff; hash >= 0; ) {
      const extent = findExtent(op, inode, xb_bh, hash)!;
      buckets.push(numBuckets(op, inode, extent));
      hash = extent.cpos - 1;
    }
    return { depth, buckets };
  });
}

function expectValues(v: TestVolume, inode: Inode, model: ReadonlyMap<string, string>): void {
  expect(v.osb.runSync((op) => listxattr(op, inode)).sort()).toEqual([...model.keys()].sort());
  const wrong: string[] = [];
  for (const [name, value] of model) {
    const got = v.osb.runSync((op) => getxattr(op, inode, name));
    if (got === undefined || Buffer.from(got).toString() !== value) wrong.push(name);
  }
  expect(wrong).toEqual([]);
}

const errnoOf = (fn: () => void): number => {
  try {
    fn();
    return 0;
  } catch (err) {
    return (err as FsError).errno;
  }
};

describe.skipIf(!haveTool("mkfs.ocfs2"))("the tree of buckets", { timeout: 120_000 }, () => {
  test.each([
    ["512 blocks, 4K clusters, metaecc", ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=metaecc"]],
    ["1K blocks, 8K clusters", ["-b", "1K", "-C", "8K", "-J", "size=4M"]],
  ])("%s: several levels deep, and all of it free again when the file goes", (_, args) => {
    const image = mkfsImage(args, 128);
    const known = fsck(image).findings;
    let v = openImage(image);
    const keep = newFile(v, "keep");
    const gone = newFile(v, "gone");
    const free = (): number => v.osb.runSync((op) => volumeStat(op).free_clusters);
    const before = free();
    const model = new Map<string, string>();
    // By turns, with values of their own clusters in between: so no two clusters of one tree lie side by side.
    const tail = "t".repeat(180);
    for (let i = 0; i < 900; i++) {
      const value = i % 10 === 0 ? "v".repeat(3000 + i) : "s".repeat(80);
      for (const inode of [gone, keep]) v.osb.runSync((op) => setxattr(op, inode, `user.${i}${tail}`, bytesOf(value)));
      model.set(`user.${i}${tail}`, value);
    }
    const { depth, buckets } = shape(v, keep);
    expect(depth).toBeGreaterThan(0);
    expect(buckets.length).toBeGreaterThan(25);
    expectValues(v, keep, model);
    v.close();
    expectSound(image, known);

    v = openImage(image, {}, (arena, data) => new DelayedDevice(arena, data, 3));
    const again = v.osb.inodes.get(keep.ino);
    expectValues(v, again, model);
    for (const inode of [v.osb.inodes.get(gone.ino), again]) {
      const name = inode === again ? "keep" : "gone";
      v.osb.runSync((op) => unlink(op, v.osb.geo.root_blkno, bytesOf(name)));
      while (v.osb.pump());
      expect(v.osb.inodes.peek(inode.ino)).toBeUndefined();
    }
    v.close();
    expectSound(image, known);
    v = openImage(image);
    // Extent blocks stay in their allocator: its groups are the only clusters that do not come back.
    expect(before - free()).toBeLessThan(600);
    v.close();
    expectSound(image, known);
  });

  test.each([
    ["4K blocks", ["-b", "4K", "-C", "1M", "--fs-features=metaecc"]],
    ["512 blocks", ["-b", "512", "-C", "1M", "--fs-features=metaecc"]],
  ])("clusters of 1 MiB, %s: more buckets side by side than one operation can move", (_, args) => {
    const image = mkfsImage(args, 256);
    const known = fsck(image).findings;
    let v = openImage(image);
    const inode = newFile(v, "f");
    const names = Array.from({ length: 3600 }, (_, i) => `user.${i}${"t".repeat(200)}`);
    const hash = new Map(names.map((n) => [n, nameHash(v.osb.geo.uuid_hash, bytesOf(n.slice(5)))]));
    // From the largest hash down: each new bucket comes before all others, which have to move.
    names.sort((a, b) => hash.get(b)! - hash.get(a)!);
    const model = new Map<string, string>();
    for (const name of names) {
      v.osb.runSync((op) => setxattr(op, inode, name, bytesOf(name.slice(5, 60))));
      model.set(name, name.slice(5, 60));
    }
    const { buckets } = shape(v, inode);
    expect(Math.max(...buckets)).toBeLessThanOrEqual(256);
    expect(buckets.reduce((a, b) => a + b)).toBeGreaterThan(256);
    expect(buckets.length).toBeGreaterThan(1);
    expectValues(v, inode, model);
    v.close();
    expectSound(image, known);
    v = openImage(image);
    expectValues(v, v.osb.inodes.get(inode.ino), model);
    v.close();
  });

  /** Texts of `2 * pairs` characters that hash alike: two neighbours can be changed so that the second undoes the first. */
  const alike = (pairs: number, i: number): string =>
    Array.from({ length: pairs }, (_, n) => ((i >> n) & 1 ? "`A" : "aa")).join("");

  test("names with one hash: as many as a bucket holds, then ENOSPC; neighbours are not disturbed", () => {
    const image = mkfsImage(["-b", "1K", "-C", "4K", "--fs-features=metaecc"], 64);
    const known = fsck(image).findings;
    const v = openImage(image);
    const inode = newFile(v, "f");
    const model = new Map<string, string>();
    const set = (name: string): number => {
      const errno = errnoOf(() => v.osb.runSync((op) => setxattr(op, inode, name, bytesOf(name.slice(-3)))));
      if (errno === 0) model.set(name, name.slice(-3));
      return errno;
    };
    const first = nameHash(7, bytesOf(alike(9, 0)));
    expect(nameHash(7, bytesOf(alike(9, 341)))).toBe(first);
    let refused = 0;
    for (let i = 0; i < 400; i++) {
      const errno = set(`user.${alike(9, i)}`);
      if (errno !== 0) {
        expect(errno).toBe(Errno.ENOSPC);
        refused++;
      }
    }
    expect(model.size).toBeGreaterThan(60);
    expect(refused).toBeGreaterThan(100);
    // Hashes right below and above, and far away: there must be a place for each.
    for (const end of ["b", "c", "`", "d", "e"])
      for (let i = 0; i < 10; i++) expect(set(`user.${alike(8, i)}a${end}`)).toBe(0);
    for (let i = 0; i < 300; i++) expect(set(`user.other${i}`)).toBe(0);
    expectValues(v, inode, model);
    for (const name of [...model.keys()].filter((n) => n.includes("aa"))) {
      v.osb.runSync((op) => removexattr(op, inode, name));
      model.delete(name);
    }
    expectValues(v, inode, model);
    // The empty buckets are used again.
    for (let i = 0; i < 40; i++) expect(set(`user.${alike(9, i)}`)).toBe(0);
    expectValues(v, inode, model);
    v.close();
    expectSound(image, known);
  });

  test("hashes side by side, each with a bucket full of names: set or refused, never lost", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K"], 64);
    const known = fsck(image).findings;
    const v = openImage(image);
    const inode = newFile(v, "f");
    const model = new Map<string, string>();
    let refused = 0;
    // Sixty-four hashes in a row, each with two thirds of a bucket: extents that would come to lie over each other.
    for (let round = 0; round < 26; round++)
      for (let end = 0; end < 64; end++) {
        const name = `user.${"z".repeat(20)}${alike(7, round)}${String.fromCharCode(64 + end)}`;
        const value = "v".repeat(60);
        const errno = errnoOf(() => v.osb.runSync((op) => setxattr(op, inode, name, bytesOf(value))));
        expect([0, Errno.ENOSPC]).toContain(errno);
        if (errno === 0) model.set(name, value);
        else refused++;
      }
    expect(model.size + refused).toBe(26 * 64);
    expect(model.size).toBeGreaterThan(1500);
    expectValues(v, inode, model);
    v.close();
    expectSound(image, known);
    const again = openImage(image);
    again.osb.runSync((op) => unlink(op, again.osb.geo.root_blkno, bytesOf("f")));
    while (again.osb.pump());
    expect(again.osb.inodes.peek(inode.ino)).toBeUndefined();
    again.close();
    expectSound(image, known);
  });

  test("an inode with a thousand long values is wiped in bounded steps, also when a step is interrupted by a crash", () => {
    const image = mkfsImage(["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=metaecc"], 128);
    const known = fsck(image).findings;
    let v = openImage(image);
    const inode = newFile(v, "f");
    for (let i = 0; i < 1000; i++) v.osb.runSync((op) => setxattr(op, inode, `user.${i}`, bytesOf("x".repeat(9000))));
    v.osb.runSync((op) => namei.unlink(op, v.osb.inodes.get(v.osb.geo.root_blkno), bytesOf("f")));
    // Some steps only, each of which leaves a sound inode; then the volume is closed with the orphan in it.
    const task = wipeInode(v.osb, inode);
    let step = task.next();
    for (let i = 0; i < 40 && step.done !== true; i++) {
      let answer: { err: unknown; value: unknown } | undefined;
      step.value((err, value) => {
        answer = { err, value };
      });
      while (answer === undefined) v.osb.pump();
      expect(answer.err ?? null).toBeNull();
      step = task.next(answer.value);
    }
    expect(step.done).toBe(false);
    const left = v.osb.runSync((op) => dinodeOf(op, readDinode(op, inode)).i_xattr_loc);
    expect(left).not.toBe(0);
    task.return(false);
    v.close();
    const half = fsck(image, known);
    // The orphan itself is what fsck remarks on, with exit code 0 after -n.
    expect(half.findings.filter((f) => f.includes("XATTR") || f.includes("EB_") || f.includes("CLUSTER"))).toEqual([]);
    v = openImage(image);
    while (v.osb.pump());
    v.close();
    expectSound(image, known);
  });

  test("a bucket that an undone operation had begun to overwrite goes to the log with its checksum", () => {
    const image = mkfsImage(["-b", "1K", "-C", "4K", "--fs-features=metaecc"], 64);
    const v = openImage(image);
    const inode = newFile(v, "f");
    const model = new Map<string, string>();
    const set = (name: string, value: string): void => {
      v.osb.runSync((op) => setxattr(op, inode, name, bytesOf(value)));
      model.set(name, value);
    };
    for (let i = 0; i < 46; i++) set(`user.${i}`, "v".repeat(60));
    expect(shape(v, inode).buckets).toEqual([1]);
    v.osb.runTaskSync(wait(v.osb.journal.flush));
    for (let i = 0; i < 46; i++) set(`user.${i}`, "w".repeat(60));
    const refused = (): void =>
      v.osb.runSync((op) => {
        const xb_bh = readXattrBlock(op, inode, inodeLock(op, inode, true))!;
        const extent = findExtent(op, inode, xb_bh, 0)!;
        // As when the journal is full: it happens at any of the bucket's blocks.
        const create = op.create.bind(op);
        let blocks = 0;
        op.create = (ci, blkno, kind) => {
          if (++blocks === 4) throw enospc("test");
          return create(ci, blkno, kind);
        };
        createBucket(op, inode, extent.blkno);
      });
    expect(errnoOf(refused)).toBe(Errno.ENOSPC);
    v.osb.runTaskSync(wait(v.osb.journal.flush));
    v.osb.cache.purge(inode);
    inode.epoch++;
    inode.dropCaches();
    expectValues(v, inode, model);
    v.close();
  });
});
