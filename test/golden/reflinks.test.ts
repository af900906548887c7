/**
 * Volumes on which a Linux kernel made `clone` of `big` and wrote to it: both read as the kernel read them, and what is
 * shared can be written to and freed in any order.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { EXT_FLAGS } from "../../src/format/disk/index.ts";
import { lookup } from "../../src/vfs/namespace.ts";
import { Bench, File, pattern } from "../support/reflink_bench.ts";
import { missing } from "../support/sh.ts";
import { fsck, haveTool, openImage } from "../support/volume.ts";

const fixture = (name: string): string => new URL(`../fixtures/volumes/${name}`, import.meta.url).pathname;

const unpack = (name: string): Uint8Array =>
  new Uint8Array(execFileSync("xz", ["-dc", fixture(`${name}.img.xz`)], { maxBuffer: 1 << 28 }));

const kernelMd5 = (name: string, file: string): string =>
  new RegExp(`^([0-9a-f]{32})  \\./${file}$`, "m").exec(
    gunzipSync(readFileSync(fixture(`${name}.txt.gz`))).toString(),
  )![1]!;

/** A file that the volume has, with its contents as we read them. */
function adopt(b: Bench, name: string): File {
  const { osb } = b.v;
  const attr = osb.runSync((op) => lookup(op, osb.geo.root_blkno, Buffer.from(name))!);
  const f = new File(name, attr.ino);
  for (let at = 0; at < attr.size; at += 1 << 20) f.write(at, b.read(f, at, 1 << 20));
  b.files.push(f);
  return f;
}

const md5 = (f: File): string => createHash("md5").update(f.bytes.subarray(0, f.size)).digest("hex");

describe.skipIf(missing("xz").length > 0)("a kernel's reflinks", () => {
  for (const name of ["default", "bs512", "bs1k-cs32k", "dirty"]) {
    for (const first of ["big", "clone"] as const) {
      test(`${name}: read, written to, cloned again, and ${first} deleted first`, () => {
        const image = unpack(name);
        // What fsck.ocfs2 has to say of a volume before its journal is replayed is no measure.
        const judge = haveTool("fsck.ocfs2") && name !== "dirty";
        const known = judge ? fsck(image).findings : [];
        const b = new Bench(openImage(image));
        const big = adopt(b, "big");
        const clone = adopt(b, "clone");
        expect([md5(big), md5(clone)]).toEqual([kernelMd5(name, "big"), kernelMd5(name, "clone")]);
        const shared = Array.from({ length: 12 }, (_, i) => b.flags(big, i << 17) & EXT_FLAGS.REFCOUNTED);
        expect(shared).toContain(EXT_FLAGS.REFCOUNTED);
        const third = b.reflink(clone);
        b.write(clone, 3000, pattern(70_000, 1));
        b.write(third, 900_001, pattern(5, 2));
        b.write(big, 1_500_000, pattern(100_000, 3));
        b.check("after writes");
        b.remove(first === "big" ? big : clone);
        b.check(`without ${first}`);
        b.remove(first === "big" ? clone : big);
        b.check("the third alone");
        b.close();
        if (!judge) return;
        const judged = fsck(image, known);
        expect(judged.clean, judged.output).toBe(true);
      });
    }
  }
});
