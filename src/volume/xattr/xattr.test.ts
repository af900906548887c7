/** Attributes of many inodes against a Map: random sets, replacements and removals, at every block and cluster size. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { expectSound } from "../../../test/support/xattr_judge.ts";
import { type Random, seededRandom } from "../../lib/clock.ts";
import { wait } from "../../lib/task.ts";
import { create, mkdir } from "../../vfs/namespace.ts";
import type { Inode } from "../inode.ts";
import { getxattr, listxattr, listxattrBytes, removexattr, setxattr } from "./index.ts";

const CRED = { uid: 0, gid: 0, umask: 0o22 };
const PREFIXES = ["user.", "trusted.", "security."];

type Model = Map<string, Uint8Array>;

/** Lengths around every boundary: nothing, local, the longest local, outside, several blocks, several clusters. */
const LENGTHS = [0, 1, 3, 4, 79, 80, 81, 100, 500, 4096, 4097, 9000];

function bytesFor(random: Random, len: number): Uint8Array {
  const seed = random.u32();
  return Uint8Array.from({ length: len }, (_, i) => (seed + i * 13 + (i >> 7)) & 255);
}

function nameFor(random: Random, names: number): string {
  const n = random.u32() % names;
  // Short and long names, some not ASCII; each number always gives the same one.
  const tail = n % 7 === 0 ? "é".repeat(20) : n % 5 === 0 ? "x".repeat(200) : "";
  return `${PREFIXES[n % 3]}n${n}${tail}`;
}

/** What happens between operations: commits, checkpoints, and blocks that leave the cache as when a lock was lost. */
function interlude(v: TestVolume, inode: Inode, random: Random): void {
  const kind = random.u32() % 24;
  if (kind < 3) v.osb.runTaskSync(wait(v.osb.journal.periodic));
  if (kind !== 3) return;
  v.osb.runTaskSync(wait(v.osb.journal.flush));
  v.osb.cache.purge(inode);
  inode.epoch++;
  inode.dropCaches();
}

function change(v: TestVolume, inode: Inode, model: Model, random: Random, names: number, removing: number): void {
  const name = nameFor(random, names);
  if (random.u32() % 100 < removing) {
    const there = model.delete(name);
    const remove = (): void => v.osb.runSync((op) => removexattr(op, inode, name));
    if (there) remove();
    else expect(remove).toThrow("ENODATA");
    return;
  }
  const big = random.u32() % 40 === 0;
  const len = big ? 20_000 + (random.u32() % 45_000) : LENGTHS[random.u32() % LENGTHS.length]!;
  const value = bytesFor(random, big || random.u32() % 3 === 0 ? len : len % 81);
  v.osb.runSync((op) => setxattr(op, inode, name, value));
  model.set(name, value);
}

function compare(v: TestVolume, inode: Inode, model: Model): void {
  const listed = v.osb.runSync((op) => listxattr(op, inode));
  expect(listed.sort()).toEqual([...model.keys()].sort());
  for (const [name, value] of model) {
    const got = v.osb.runSync((op) => getxattr(op, inode, name));
    if (got === undefined || Buffer.compare(got, value) !== 0)
      expect(`${name}: ${got?.length} bytes of another value`).toBe(`${name}: ${value.length} bytes`);
  }
  expect(v.osb.runSync((op) => getxattr(op, inode, "user.none"))).toBeUndefined();
}

const KINDS: [string, string[]][] = [
  ["4K blocks, 4K clusters", ["-b", "4K", "-C", "4K"]],
  ["4K blocks, 4K clusters, metaecc, inline data", ["-b", "4K", "-C", "4K", "--fs-features=metaecc,inline-data"]],
  ["4K blocks, 1M clusters, no inline data", ["-b", "4K", "-C", "1M", "--fs-features=noinline-data,noindexed-dirs"]],
  ["2K blocks, 8K clusters, metaecc", ["-b", "2K", "-C", "8K", "--fs-features=metaecc"]],
  ["1K blocks, 32K clusters, metaecc, inline data", ["-b", "1K", "-C", "32K", "--fs-features=metaecc,inline-data"]],
  ["512 blocks, 4K clusters, metaecc", ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=metaecc"]],
  ["512 blocks, 64K clusters, inline data", ["-b", "512", "-C", "64K", "-J", "size=4M", "--fs-features=inline-data"]],
];

function images(): { of(args: string[]): Uint8Array } {
  const made = new Map<string, Uint8Array>();
  return {
    of(args) {
      const key = args.join(" ");
      let image = made.get(key);
      if (image === undefined) made.set(key, (image = mkfsImage(args, args.includes("1M") ? 160 : 64)));
      return image.slice();
    },
  };
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("attributes against a Map", { timeout: 120_000 }, () => {
  const image = images();
  for (const [name, args] of KINDS) {
    // Late I/O finds what re-runs and commits in between break: where a bucket is one block and where it is several.
    for (const late of args.join().includes("metaecc") ? [false, true] : [false]) {
      test(`${name}${late ? ", I/O that completes late" : ""}`, () => {
        const bytes = image.of(args);
        const known = fsck(bytes).findings;
        const random = seededRandom(late ? 31 : 7);
        const open = (): TestVolume =>
          openImage(bytes, {}, late ? (arena, data) => new DelayedDevice(arena, data, 5) : undefined);
        let v = open();
        const inos = [
          v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, Buffer.from("few"), 0o100644, CRED)).ino,
          v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, Buffer.from("many"), 0o100644, CRED)).ino,
          v.osb.runSync((op) => mkdir(op, v.osb.geo.root_blkno, Buffer.from("dir"), 0o755, CRED)).ino,
        ];
        const names = [6, 400, 60];
        const models: Model[] = inos.map(() => new Map());
        for (const removing of [10, 80]) {
          inos.forEach((ino, f) => {
            const inode = v.osb.inodes.get(ino);
            for (let i = 0; i < [30, 300, 80][f]!; i++) {
              change(v, inode, models[f]!, random, names[f]!, removing);
              interlude(v, inode, random);
            }
            compare(v, inode, models[f]!);
          });
          v.close();
          expectSound(bytes, known);
          v = open();
          for (const [f, ino] of inos.entries()) compare(v, v.osb.inodes.get(ino), models[f]!);
        }
        v.close();
      });
    }
  }

  test("a name with a NUL in it, which nobody can ask for, hides none of the others", () => {
    const bytes = image.of(["-b", "4K", "-C", "4K"]);
    let v = openImage(bytes);
    const { ino } = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, Buffer.from("file"), 0o644, CRED));
    const set = (name: string): void =>
      v.osb.runSync((op) => setxattr(op, v.osb.inodes.get(ino), name, bytesFor(seededRandom(1), 9)));
    set("user.one");
    set("user.spoiled");
    set("user.two");
    v.close();
    const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = all.indexOf("spoiled"); at >= 0; at = all.indexOf("spoiled", at)) all[at + 2] = 0;
    v = openImage(bytes);
    const inode = v.osb.inodes.get(ino);
    expect(v.osb.runSync((op) => listxattr(op, inode)).sort()).toEqual(["user.one", "user.two"]);
    expect(Buffer.from(v.osb.runSync((op) => listxattrBytes(op, inode))).toString()).toMatch(
      /^user\.[a-z]+\0user\.[a-z]+\0$/,
    );
    expect(v.osb.runSync((op) => getxattr(op, inode, "user.two"))).toEqual(bytesFor(seededRandom(1), 9));
    v.close();
  });

  test("any sequence on one file of a small-block volume", () => {
    const bytes = image.of(["-b", "1K", "-C", "4K", "--fs-features=metaecc"]);
    const step = fc.record({
      name: fc.integer({ min: 0, max: 30 }),
      len: fc.constantFrom(...LENGTHS),
      remove: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.boolean(), (steps, with_data) => {
        const v = openImage(bytes.slice());
        const { ino } = v.osb.runSync((op) =>
          (with_data ? create : mkdir)(op, v.osb.geo.root_blkno, Buffer.from("f"), 0o100644, CRED),
        );
        const inode = v.osb.inodes.get(ino);
        const model: Model = new Map();
        const random = seededRandom(3);
        for (const { name, len, remove } of steps) {
          const key = `user.${"n".repeat(name * 7)}${name}`;
          if (remove && model.has(key)) {
            v.osb.runSync((op) => removexattr(op, inode, key));
            model.delete(key);
          } else {
            const value = bytesFor(random, len);
            v.osb.runSync((op) => setxattr(op, inode, key, value));
            model.set(key, value);
          }
        }
        compare(v, inode, model);
        v.close();
      }),
      { numRuns: 15, seed: 11 },
    );
  });
});
