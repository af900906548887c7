/**
 * Volumes that a Linux kernel wrote: every name, type, link count, size, block count and time reads back as the kernel listed
 * them, by walking and by looking each path up. test/fixtures/volumes/*.txt.gz is `find -printf "%i %f %n %U %G %s %b %T@ %p"`.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type Attr, getattr, lookup, readlink } from "../../src/vfs/namespace.ts";
import { nameOf, nameText } from "../../src/volume/dir/name.ts";
import { type DirRecord, readdir } from "../../src/volume/dir/readdir.ts";
import type { Op } from "../../src/volume/op.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { missing } from "../support/sh.ts";
import { openImage } from "../support/volume.ts";

const VOLUMES = ["default", "bs512", "bs1k-cs32k", "dirty"];
const fixture = (name: string): string => new URL(`../fixtures/volumes/${name}`, import.meta.url).pathname;

const unpack = (name: string): Uint8Array =>
  new Uint8Array(execFileSync("xz", ["-dc", fixture(`${name}.img.xz`)], { maxBuffer: 1 << 28 }));

const listing = (name: string): string[] =>
  gunzipSync(readFileSync(fixture(`${name}.txt.gz`)))
    .toString()
    .split("\n")
    .filter((line) => /^\d+ [0-9a-f]{4} /.test(line))
    .sort();

const lineOf = (a: Attr, path: string): string =>
  [a.ino, a.mode.toString(16), a.nlink, a.uid, a.gid, a.size, a.blocks, a.mtime, path].join(" ");

/** Reads a directory a few entries at a time, as readdir(3) does over FUSE. */
function listDir(osb: Osb, ino: number): DirRecord[] {
  const out: DirRecord[] = [];
  for (let pos = 0; ; ) {
    const [part, next] = osb.runSync((op): [DirRecord[], number] => {
      const got: DirRecord[] = [];
      const end = readdir(op, osb.inodes.get(ino), pos, (child, dt, addr, len, behind) => {
        if (got.length === 7) return false;
        got.push({ ino: child, dt, name: osb.cache.u8.slice(addr, addr + len), next: behind });
        return true;
      });
      return [got, end];
    });
    if (part.length === 0) return out;
    expect(next).toBeGreaterThanOrEqual(part.at(-1)!.next);
    out.push(...part);
    pos = part.at(-1)!.next;
  }
}

/** Every path below a directory with its attributes. */
function walk(osb: Osb, ino: number, path: string, out: string[]): void {
  const attr = osb.runSync((op) => getattr(op, ino));
  out.push(lineOf(attr, path));
  if (attr.mode >> 12 !== 4) return;
  const names = listDir(osb, ino);
  expect(names.slice(0, 2).map((r) => nameText(r.name))).toEqual([".", ".."]);
  for (const r of names.slice(2)) {
    walk(osb, r.ino, `${path}/${nameText(r.name)}`, out);
    expect(osb.runSync((op) => getattr(op, r.ino)).mode >> 12, nameText(r.name)).toBe(r.dt);
  }
}

function lookupPath(op: Op, osb: Osb, path: string): Attr | undefined {
  let attr: Attr | undefined = getattr(op, osb.geo.root_blkno);
  for (const part of path.split("/").slice(1)) attr = attr && lookup(op, attr.ino, nameOf(part));
  return attr;
}

describe.skipIf(missing("xz").length > 0)("directories that a kernel wrote", () => {
  test.each(VOLUMES)("%s: the walk gives the kernel's listing", (name) => {
    const v = openImage(unpack(name), { ro: name !== "dirty" });
    const lines: string[] = [];
    walk(v.osb, v.osb.geo.root_blkno, ".", lines);
    expect(lines.sort()).toEqual(listing(name));
    v.close();
  });

  test.each(VOLUMES)("%s: every path is found, and no other name is", (name) => {
    const v = openImage(unpack(name), { ro: name !== "dirty" });
    const { osb } = v;
    for (const line of listing(name)) {
      const path = line.split(" ").slice(8).join(" ");
      const attr = osb.runSync((op) => lookupPath(op, osb, path));
      expect(attr && lineOf(attr, path)).toBe(line);
      if (path === ".") continue;
      const dir = osb.runSync((op) => lookupPath(op, osb, path.slice(0, path.lastIndexOf("/"))));
      expect(osb.runSync((op) => lookup(op, dir!.ino, nameOf(`${path.slice(path.lastIndexOf("/") + 1)}x`)))).toBe(
        undefined,
      );
    }
    v.close();
  });

  test("symlinks, in the inode and in a cluster, have their targets", () => {
    for (const name of VOLUMES) {
      const v = openImage(unpack(name), { ro: name !== "dirty" });
      const target = (path: string): string =>
        v.osb.runSync((op) => nameText(readlink(op, lookupPath(op, v.osb, path)!.ino)));
      expect(target("./sym"), name).toBe("small");
      const long = target("./longsym");
      expect(long.length, name).toBe(200);
      expect(createHash("md5").update(`${long}\n`).digest("hex"), name).toBe("062071ce1c3d613336e1622477b16195");
      v.close();
    }
  });
});
