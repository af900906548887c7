/**
 * A tree of names against a model of a tree: every operation does what the model does or fails as the model says it must;
 * at the end the walk, debugfs.ocfs2 and fsck.ocfs2 agree. Then the same operations many at a time, on a disk that answers late.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../../src/lib/clock.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { wait } from "../../src/lib/task.ts";
import { RandomBastDomain } from "../../src/stackglue/random_bast.ts";
import { writeFile } from "../../src/vfs/file.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { openDir } from "../../src/volume/dir/dir.ts";
import { lockDir } from "../../src/volume/dir/iget.ts";
import { nameOf, nameText } from "../../src/volume/dir/name.ts";
import { readAll } from "../../src/volume/dir/readdir.ts";
import { wipesIdle } from "../../src/volume/dir/wipe.ts";
import type { Op } from "../../src/volume/op.ts";
import type { Osb } from "../../src/volume/osb.ts";
import type { Arena } from "../../src/wasm/arena.ts";
import { DelayedDevice } from "../support/delayed_device.ts";
import { missing, toolEnv } from "../support/sh.ts";
import { fsck, mkfsImage, openImage, type TestVolume, writeSparse } from "../support/volume.ts";
import { checkDir } from "./dir_check.ts";

const cred = { uid: 0, gid: 0, umask: 0o22 };
const J = ["-J", "size=4M"];
/** Name, mkfs arguments, size in MiB, whether to try many operations at a time and another node, too. */
const VOLUMES: [string, string[], number, boolean][] = [
  ["4K blocks", [...J, "-b", "4K", "-C", "4K"], 64, true],
  ["1K blocks, 32K clusters, metaecc", [...J, "-b", "1K", "-C", "32K", "--fs-features=metaecc"], 64, true],
  ["2K blocks, linear", [...J, "-b", "2K", "-C", "8K", "--fs-features=noindexed-dirs"], 48, false],
  ["1K blocks, no inline data", [...J, "-b", "1K", "-C", "4K", "--fs-features=noinline-data"], 48, false],
];

interface Node {
  readonly ino: number;
  readonly type: "dir" | "file" | "link";
  nlink: number;
  parent: Node | null;
  readonly entries: Map<string, Node>;
}

const newNode = (ino: number, type: Node["type"], parent: Node | null): Node => ({
  ino,
  type,
  nlink: type === "dir" ? 2 : 1,
  parent,
  entries: new Map(),
});

/** True when `below` is `node` or lies below it. */
function holds(node: Node, below: Node): boolean {
  for (let at: Node | null = below; at !== null; at = at.parent) if (at === node) return true;
  return false;
}

class Tree {
  readonly osb: Osb;
  readonly root: Node;
  readonly dirs: Node[];
  readonly #random: Random;
  made = 0;
  failed = 0;

  constructor(v: TestVolume, seed: number) {
    this.osb = v.osb;
    this.root = newNode(v.osb.geo.root_blkno, "dir", null);
    this.root.nlink = 3;
    this.dirs = [this.root];
    this.#random = seededRandom(seed);
  }

  below(n: number): number {
    return this.#random.u32() % n;
  }

  anyDir(): Node {
    return this.dirs[this.below(this.dirs.length)]!;
  }

  anyName(): string {
    return this.below(4) === 0 ? `a-longer-name-${this.below(60)}-${"z".repeat(this.below(90))}` : `n${this.below(24)}`;
  }

  /** Runs; compares the errno with what the model allows (an empty list: success). */
  try<T>(allowed: string[], fn: (op: Op) => T): T | undefined {
    try {
      const value = this.osb.runSync(fn);
      expect(allowed, "the model expected a failure").toEqual([]);
      this.made++;
      return value;
    } catch (err) {
      if (!(err instanceof FsError)) throw err;
      expect(allowed, String(err)).toContain(err.code);
      this.failed++;
      return undefined;
    }
  }

  make(): void {
    const dir = this.anyDir();
    const name = this.anyName();
    const kind = this.below(5);
    const taken = dir.entries.has(name) ? ["EEXIST"] : [];
    const attr = this.try(taken, (op) => {
      if (kind === 0 || this.dirs.length < 4) return ns.mkdir(op, dir.ino, nameOf(name), 0o755, cred);
      if (kind === 1) return ns.symlink(op, dir.ino, nameOf(name), nameOf("t".repeat(3000)), cred);
      return ns.create(op, dir.ino, nameOf(name), 0o644, cred);
    });
    if (attr === undefined) return;
    const type = (attr.mode & 0o170000) === 0o040000 ? "dir" : kind === 1 ? "link" : "file";
    const node = newNode(attr.ino, type, type === "dir" ? dir : null);
    dir.entries.set(name, node);
    if (type === "dir") {
      dir.nlink++;
      this.dirs.push(node);
    } else if (kind === 4) this.fill(node);
  }

  /** Some data, so that a wipe has clusters to free. */
  fill(node: Node): void {
    const { osb } = this;
    const addr = osb.undo_base;
    const inode = osb.inodes.get(node.ino);
    osb.runTaskSync(
      wait<number>((cb) => writeFile(osb, inode, { offset: 4096 * this.below(20), len: 5000, addr }, cb)),
    );
  }

  drop(node: Node): void {
    node.nlink = node.type === "dir" ? 0 : node.nlink - 1;
    if (node.type === "dir") this.dirs.splice(this.dirs.indexOf(node), 1);
  }

  remove(): void {
    const dir = this.anyDir();
    const name = this.anyName();
    const node = dir.entries.get(name);
    const as_dir = node === undefined ? this.below(2) === 0 : (node.type === "dir") !== (this.below(8) === 0);
    const allowed: string[] = [];
    if (node === undefined) allowed.push("ENOENT");
    else if (as_dir && node.type !== "dir") allowed.push("ENOTDIR");
    else if (!as_dir && node.type === "dir") allowed.push("EISDIR");
    else if (node.type === "dir" && node.entries.size > 0) allowed.push("ENOTEMPTY");
    const gone = this.try(allowed, (op) =>
      as_dir ? ns.rmdir(op, dir.ino, nameOf(name)) : ns.unlink(op, dir.ino, nameOf(name)),
    );
    if (gone === undefined || node === undefined) return;
    dir.entries.delete(name);
    if (node.type === "dir") dir.nlink--;
    this.drop(node);
    expect(gone.nlink).toBe(node.nlink);
  }

  link(): void {
    const from = this.anyDir();
    const [name, node] = [...from.entries][this.below(Math.max(1, from.entries.size))] ?? [];
    if (node === undefined || name === undefined) return;
    const dir = this.anyDir();
    const to = this.anyName();
    const allowed: string[] = [];
    if (dir.entries.has(to)) allowed.push("EEXIST");
    if (node.type === "dir") allowed.push("EPERM");
    if (this.try(allowed, (op) => ns.link(op, node.ino, dir.ino, nameOf(to))) === undefined) return;
    dir.entries.set(to, node);
    node.nlink++;
  }

  rename(): void {
    const [od, nd] = [this.anyDir(), this.below(3) === 0 ? null : this.anyDir()];
    const to_dir = nd ?? od;
    const [on, nn] = [this.anyName(), this.anyName()];
    const flags = [0, 0, 0, ns.RENAME_NOREPLACE, ns.RENAME_EXCHANGE, ns.RENAME_EXCHANGE][this.below(6)]!;
    const src = od.entries.get(on);
    const dst = to_dir.entries.get(nn);
    const exchange = flags === ns.RENAME_EXCHANGE;
    const allowed: string[] = [];
    if (src === undefined) allowed.push("ENOENT");
    else {
      if (exchange && dst === undefined) allowed.push("ENOENT");
      if (flags === ns.RENAME_NOREPLACE && dst !== undefined) allowed.push("EEXIST");
      if (src.type === "dir" && holds(src, to_dir)) allowed.push("EINVAL");
      if (exchange && dst?.type === "dir" && holds(dst, od)) allowed.push("EINVAL");
      if (!exchange && dst !== undefined && dst !== src) {
        if (src.type === "dir" && dst.type !== "dir") allowed.push("ENOTDIR");
        if (src.type !== "dir" && dst.type === "dir") allowed.push("EISDIR");
        if (dst.type === "dir" && dst.entries.size > 0) allowed.push("ENOTEMPTY");
      }
    }
    const before = this.made;
    this.try(allowed, (op) => ns.rename(op, od.ino, nameOf(on), to_dir.ino, nameOf(nn), flags));
    if (this.made === before || src === undefined || src === dst) return;
    if (exchange && dst !== undefined) {
      od.entries.set(on, dst);
      to_dir.entries.set(nn, src);
      this.adopt(dst, to_dir, od);
    } else {
      od.entries.delete(on);
      to_dir.entries.set(nn, src);
      if (dst !== undefined) {
        if (dst.type === "dir") to_dir.nlink--;
        this.drop(dst);
      }
    }
    this.adopt(src, od, to_dir);
  }

  adopt(node: Node, from: Node, to: Node): void {
    if (node.type !== "dir") return;
    from.nlink--;
    to.nlink++;
    node.parent = to;
  }

  step(): void {
    const kind = this.below(16);
    if (kind < 7) this.make();
    else if (kind < 11) this.remove();
    else if (kind < 12) this.link();
    else this.rename();
  }

  /** Every directory has the model's names, inodes, links and parent. */
  check(osb: Osb): void {
    for (const dir of this.dirs) {
      const listed = listDir(osb, dir.ino);
      const up = listed.get("..");
      expect(up).toBe((dir.parent ?? dir).ino);
      listed.delete(".");
      listed.delete("..");
      listed.delete("lost+found");
      expect([...listed].sort()).toEqual([...dir.entries].map(([n, node]) => [n, node.ino]).sort());
      checkDir(osb, dir.ino);
      for (const node of [dir, ...dir.entries.values()])
        expect(osb.runSync((op) => ns.getattr(op, node.ino)).nlink, `links of ${node.ino}`).toBe(node.nlink);
    }
  }

  paths(): Map<string, Node> {
    const out = new Map<string, Node>();
    const walk = (node: Node, path: string): void => {
      out.set(path === "" ? "/" : path, node);
      for (const [name, child] of node.entries) if (child.type === "dir") walk(child, `${path}/${name}`);
    };
    walk(this.root, "");
    return out;
  }
}

function listDir(osb: Osb, ino: number): Map<string, number> {
  return osb.runSync((op) => {
    const d = lockDir(op, osb.inodes.get(ino));
    return new Map(readAll(openDir(op, d.inode, d.di_bh)).map((r) => [nameText(r.name), r.ino]));
  });
}

/** What debugfs.ocfs2 lists in each directory, by path. */
function debugfsList(image: Uint8Array, paths: string[]): Map<string, [string, number][]> {
  const dir = mkdtempSync(join(tmpdir(), "ocfs2-debugfs-"));
  try {
    writeSparse(join(dir, "img"), image);
    writeFileSync(join(dir, "cmds"), paths.map((p) => `ls -l ${p}\n`).join(""));
    const r = spawnSync("debugfs.ocfs2", ["-n", "-f", join(dir, "cmds"), join(dir, "img")], {
      encoding: "utf8",
      env: toolEnv(),
      maxBuffer: 1 << 28,
    });
    const lists = r.stdout.split(/(?=\n?^\t\d+ +\S+ .* \.$)/m).map((part) =>
      part
        .split("\n")
        .map((l) => /^\t(\d+) +\S+ +\d+ +\d+ +\d+ +\d+ +\S+ \S+ (.*)$/.exec(l))
        .filter((m) => m !== null)
        .map((m): [string, number] => [m[2]!, Number(m[1])]),
    );
    const full = lists.filter((l) => l.length > 0);
    return new Map(paths.map((p, i) => [p, full[i] ?? []]));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function judge(image: Uint8Array): void {
  const judged = fsck(image);
  const lines = judged.output.split("\n").filter((l) => !/^\[DX_TREE_MISSING\] Directory \d{1,2} /.test(l));
  expect(
    lines.filter((l) => /\[[A-Z_]+\]|[Ee]rror|corrupt/.test(l)),
    judged.output,
  ).toEqual([]);
}

const close = (v: TestVolume, domain?: RandomBastDomain): void => {
  if (domain === undefined) while (v.osb.pump());
  v.osb.runTaskSync(wipesIdle(v.osb));
  v.close();
};

/** A disk that answers late, and other nodes that ask for locks meanwhile. */
const lateDevice =
  (seed: number, domain?: RandomBastDomain) =>
  (arena: Arena, data: Uint8Array): DelayedDevice => {
    const dev = new DelayedDevice(arena, data, seed);
    if (domain !== undefined) dev.alsoHappens = () => domain.poke();
    return dev;
  };

describe.skipIf(missing("mkfs.ocfs2", "fsck.ocfs2", "debugfs.ocfs2").length > 0).each(VOLUMES)(
  "%s",
  (_name, args, mib, more) => {
    test("a tree under random operations is the model's tree, and the tools say so too", () => {
      const image = mkfsImage(args, mib);
      const v = openImage(image);
      const tree = new Tree(v, 11);
      for (let i = 0; i < 1500; i++) tree.step();
      expect(tree.made).toBeGreaterThan(400);
      expect(tree.failed).toBeGreaterThan(200);
      while (v.osb.pump());
      tree.check(v.osb);
      close(v);
      judge(image);
      const paths = tree.paths();
      for (const [path, listed] of debugfsList(image, [...paths.keys()])) {
        const names = listed.filter(([n]) => n !== "." && n !== ".." && n !== "lost+found");
        const want = [...paths.get(path)!.entries].map(([n, node]) => [n, node.ino]);
        expect(names.sort(), path).toEqual(want.sort());
      }
      const again = openImage(image);
      tree.check(again.osb);
      again.close();
    });

    test("the same on a disk that answers late, with a cache that holds little", () => {
      const image = mkfsImage(args, mib);
      const v = openImage(image, { cache_bytes: 1 << 19 }, (arena, data) => new DelayedDevice(arena, data, 3));
      const tree = new Tree(v, 23);
      for (let i = 0; i < 300; i++) tree.step();
      tree.check(v.osb);
      close(v);
      judge(image);
    });

    test.runIf(more)("the same while another node asks for every lock", () => {
      const image = mkfsImage(args, mib);
      const domain = new RandomBastDomain({ random: seededRandom(4) });
      const v = openImage(image, { cache_bytes: 1 << 20 }, lateDevice(3, domain), domain);
      const tree = new Tree(v, 31);
      for (let i = 0; i < 250; i++) {
        tree.step();
        for (let n = 0; n < 3; n++) domain.poke();
      }
      expect(domain.basts).toBeGreaterThan(200);
      tree.check(v.osb);
      close(v, domain);
      judge(image);
    });

    test.runIf(more).each(["", ", while another node asks for every lock"])(
      "many operations at a time leave a sound volume%s",
      (how) => {
        const image = mkfsImage(args, mib);
        const domain = how === "" ? undefined : new RandomBastDomain({ random: seededRandom(6) });
        const v = openImage(image, { cache_bytes: 1 << 20 }, lateDevice(5, domain), domain);
        const { osb } = v;
        const random = seededRandom(99);
        const below = (n: number): number => random.u32() % n;
        const dirs = [osb.geo.root_blkno];
        for (let i = 0; i < 5; i++)
          dirs.push(osb.runSync((op) => ns.mkdir(op, dirs[below(dirs.length)]!, nameOf(`dir${i}`), 0o755, cred)).ino);
        let running = 0;
        let done = 0;
        const answers = new Map<string, number>();
        for (let i = 0; i < 800; i++) {
          const [d1, d2] = [dirs[below(dirs.length)]!, dirs[below(dirs.length)]!];
          const [n1, n2] = [nameOf(`n${below(40)}`), nameOf(`n${below(40)}`)];
          const kind = below(8);
          const flags = kind === 7 && below(2) === 0 ? ns.RENAME_EXCHANGE : 0;
          running++;
          osb.exec(
            (op): unknown => {
              if (kind < 3) return ns.create(op, d1, n1, 0o644, cred);
              if (kind < 4) return ns.mkdir(op, d1, n1, 0o755, cred);
              if (kind < 6) return ns.unlink(op, d1, n1);
              return ns.rename(op, d1, n1, d2, n2, flags);
            },
            (err) => {
              running--;
              done++;
              const answer = err instanceof FsError ? err.code : err ? String(err) : "ok";
              answers.set(answer, (answers.get(answer) ?? 0) + 1);
            },
          );
          domain?.poke();
          if (running > 20) while (running > 10) expect(osb.pump()).toBe(true);
        }
        while (running > 0) expect(osb.pump()).toBe(true);
        expect(done).toBe(800);
        expect(
          [...answers.keys()].filter((a) => !/^(ok|EEXIST|ENOENT|EISDIR|ENOTDIR|ENOTEMPTY|EINVAL|ESTALE)$/.test(a)),
        ).toEqual([]);
        expect(answers.get("ok")).toBeGreaterThan(150);
        if (domain === undefined) while (osb.pump());
        for (const dir of dirs) {
          const alive = osb.runSync((op) => ns.getattr(op, dir).nlink > 0);
          if (alive) checkDir(osb, dir);
        }
        close(v, domain);
        judge(image);
      },
    );
  },
);
