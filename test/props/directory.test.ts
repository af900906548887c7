/**
 * A directory against a Map, in every shape that a volume's features and block size give it; judged by checkDir after each
 * round and by fsck.ocfs2 at the end.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as ns from "../../src/vfs/namespace.ts";
import { nameOf, nameText } from "../../src/volume/dir/name.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { DelayedDevice } from "../support/delayed_device.ts";
import { missing } from "../support/sh.ts";
import { fsck, mkfsImage, openImage, type TestVolume } from "../support/volume.ts";
import { checkDir } from "./dir_check.ts";

const cred = { uid: 0, gid: 0, umask: 0o22 };
const J = ["-J", "size=4M"];
const BIG = ["-J", "size=16M"];
/** Name, mkfs arguments, size in MiB, whether the device answers late and the cache is as small as can be. */
const VOLUMES: [string, string[], number, boolean][] = [
  ["512-byte blocks", [...J, "-b", "512", "-C", "4K"], 48, false],
  ["1K blocks, 32K clusters, late I/O", [...J, "-b", "1K", "-C", "32K"], 64, true],
  ["2K blocks, metaecc", [...J, "-b", "2K", "-C", "4K", "--fs-features=metaecc"], 64, false],
  ["4K blocks, 1M clusters", [...BIG, "-b", "4K", "-C", "1M"], 256, false],
  ["4K blocks, late I/O", [...J, "-b", "4K", "-C", "4K"], 64, true],
  ["512-byte blocks, no inline data", [...J, "-b", "512", "-C", "4K", "--fs-features=noinline-data"], 48, false],
  ["1K blocks, linear", [...J, "-b", "1K", "-C", "4K", "--fs-features=noindexed-dirs"], 48, false],
  ["2K blocks, linear, metaecc", [...J, "-b", "2K", "-C", "4K", "--fs-features=noindexed-dirs,metaecc"], 48, true],
  [
    "512-byte blocks, linear, no inline",
    [...J, "-b", "512", "-C", "4K", "--fs-features=noindexed-dirs,noinline-data"],
    48,
    false,
  ],
];

type Step =
  | { kind: "add" | "delete" | "find"; name: string }
  | { kind: "bulk"; prefix: string; count: number }
  | { kind: "purge"; keep: number }
  | { kind: "rename"; name: string; to: string };

const short = fc.stringMatching(/^[a-f]{1,2}$/);
const anyName = fc.oneof(
  { weight: 4, arbitrary: short },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 255 }).map((n) => "n".repeat(n)) },
  { weight: 1, arbitrary: fc.constantFrom("ä", "名前", "naïve", "é".repeat(127)) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constantFrom("add" as const, "delete", "find"), name: anyName }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rename" as const), name: anyName, to: anyName }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("bulk" as const),
      prefix: fc.constantFrom("p", "long-prefix-".repeat(6), "q".repeat(200)),
      count: fc.integer({ min: 1, max: 40 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("purge" as const), keep: fc.integer({ min: 2, max: 9 }) }) },
);

/** Runs steps on one directory and on a Map beside it. */
class Pair {
  readonly model = new Map<string, number>();
  readonly osb: Osb;
  readonly dir: number;
  constructor(osb: Osb, dir: number) {
    this.osb = osb;
    this.dir = dir;
  }

  add(name: string): void {
    if (this.model.has(name)) {
      expect(() => this.osb.runSync((op) => ns.create(op, this.dir, nameOf(name), 0o644, cred))).toThrow(/EEXIST/);
      return;
    }
    this.model.set(name, this.osb.runSync((op) => ns.create(op, this.dir, nameOf(name), 0o644, cred)).ino);
  }

  delete(name: string): void {
    if (!this.model.delete(name)) {
      expect(() => this.osb.runSync((op) => ns.unlink(op, this.dir, nameOf(name)))).toThrow(/ENOENT/);
      return;
    }
    expect(this.osb.runSync((op) => ns.unlink(op, this.dir, nameOf(name))).nlink).toBe(0);
  }

  run(s: Step): void {
    if (s.kind === "add") this.add(s.name);
    else if (s.kind === "delete") this.delete(s.name);
    else if (s.kind === "find")
      expect(this.osb.runSync((op) => ns.lookup(op, this.dir, nameOf(s.name)))?.ino).toBe(this.model.get(s.name));
    else if (s.kind === "bulk") for (let i = 0; i < s.count; i++) this.add(`${s.prefix}${i}`);
    else if (s.kind === "rename") this.rename(s.name, s.to);
    else if (s.kind === "purge")
      for (const [i, name] of [...this.model.keys()].entries()) if (i % s.keep !== 0) this.delete(name);
  }

  rename(name: string, to: string): void {
    const ino = this.model.get(name);
    const go = (): void => {
      this.osb.runSync((op) => ns.rename(op, this.dir, nameOf(name), this.dir, nameOf(to)));
    };
    if (ino === undefined) {
      expect(go).toThrow(/ENOENT/);
      return;
    }
    go();
    this.model.delete(name);
    this.model.set(to, ino);
  }

  list(): Map<string, number> {
    const got = new Map<string, number>();
    for (let pos = 0; ; ) {
      const part = this.osb.runSync((op) => {
        const out: [string, number, number][] = [];
        ns.readdir(op, this.dir, pos, (ino, _dt, addr, len, next) => {
          if (out.length === 50) return false;
          out.push([nameText(this.osb.cache.u8.slice(addr, addr + len)), ino, next]);
          return true;
        });
        return out;
      });
      if (part.length === 0) break;
      for (const [name, ino] of part) {
        expect(got.has(name), `${name} twice`).toBe(false);
        got.set(name, ino);
      }
      pos = part.at(-1)![2];
    }
    expect([got.delete("."), got.delete("..")]).toEqual([true, true]);
    return got;
  }

  check(): void {
    checkDir(this.osb, this.dir);
    expect([...this.list()].sort()).toEqual([...this.model].sort());
    const listed = [...this.model.keys()].map((name): [string, number | undefined] => [
      name,
      this.osb.runSync((op) => ns.lookup(op, this.dir, nameOf(name))?.ino),
    ]);
    expect(listed).toEqual([...this.model]);
  }
}

const fresh = (v: TestVolume, name: string): Pair => {
  const { osb } = v;
  return new Pair(osb, osb.runSync((op) => ns.mkdir(op, osb.geo.root_blkno, nameOf(name), 0o755, cred)).ino);
};

/** mkfs.ocfs2 itself leaves a system directory without an index where it does not fit its inode. */
function complaints(image: Uint8Array, system_dir: number): string {
  const { output } = fsck(image);
  const own = `[DX_TREE_MISSING] Directory ${system_dir} is missing index. Rebuild? n`;
  const lines = output.split("\n").filter((l) => l !== own);
  return lines.some((l) => /\[[A-Z_]+\]|[Ee]rror|corrupt/.test(l)) ? output : "";
}

describe.skipIf(missing("mkfs.ocfs2", "fsck.ocfs2").length > 0).each(VOLUMES)("%s", (_name, args, mib, late) => {
  let image: Uint8Array;
  let v: TestVolume;
  let dirs = 0;
  beforeAll(() => {
    image = mkfsImage(args, mib);
    v = late
      ? openImage(image, { cache_bytes: 1 << 20 }, (arena, data) => new DelayedDevice(arena, data, 7))
      : openImage(image);
  });
  afterAll(() => {
    const system_dir = v.osb.geo.system_dir_blkno;
    v.close();
    expect(complaints(image, system_dir)).toBe("");
  });

  test("whatever is done to it, a directory is what a Map is", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => {
        const pair = fresh(v, `dir${dirs++}`);
        for (const s of steps) pair.run(s);
        pair.check();
        for (const name of [...pair.model.keys()]) pair.delete(name);
        expect(checkDir(v.osb, pair.dir).names).toBe(2);
      }),
      { numRuns: late ? 8 : 15 },
    );
  });

  test("it grows by splitting and is emptied again, in any order", () => {
    const pair = fresh(v, "deep");
    const count = args.includes("--fs-features=noindexed-dirs") || late ? 500 : 2500;
    for (let i = 0; i < count; i++) pair.add(`name-${(i * 7919) % 99991}-${"x".repeat(i % 40)}`);
    pair.check();
    const names = [...pair.model.keys()];
    for (let i = 0; i < names.length; i++) pair.delete(names[(i * 617) % names.length]!);
    expect(pair.model.size).toBe(0);
    const empty = checkDir(v.osb, pair.dir);
    expect(empty.names).toBe(2);
    for (let i = 0; i < 300; i++) pair.add(`again-${i}`);
    expect(checkDir(v.osb, pair.dir).blocks, "room is used again").toBe(empty.blocks);
    for (let i = 0; i < 300; i++) pair.delete(`again-${i}`);
    v.osb.runSync((op) => ns.rmdir(op, v.osb.geo.root_blkno, nameOf("deep")));
  });

  test("a reader that goes on while names come and go sees each lasting name once", () => {
    const pair = fresh(v, "reading");
    for (let i = 0; i < 200; i++) pair.add(`lasting-${i}`);
    for (let i = 0; i < 200; i++) pair.add(`passing-${i}`);
    const seen: string[] = [];
    let round = 0;
    for (let pos = 0; ; ) {
      const part = v.osb.runSync((op) => {
        const out: [string, number][] = [];
        ns.readdir(op, pair.dir, pos, (_ino, _dt, addr, len, next) => {
          if (out.length === 5) return false;
          out.push([nameText(v.osb.cache.u8.slice(addr, addr + len)), next]);
          return true;
        });
        return out;
      });
      if (part.length === 0) break;
      seen.push(...part.map(([name]) => name));
      pos = part.at(-1)![1];
      pair.delete(`passing-${(round * 37) % 200}`);
      pair.add(`late-${round++}`);
      if (round > 150) break;
    }
    const lasting = seen.filter((n) => n.startsWith("lasting-"));
    expect(new Set(lasting).size).toBe(lasting.length);
    if (round <= 150) expect(lasting.length).toBe(200);
    pair.check();
  });
});
