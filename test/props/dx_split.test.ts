/**
 * Splits of a directory's index under hashes that a real name hash gives once in a lifetime: whole leaves of one hash,
 * hashes at both ends of the range, neighbours that fill a leaf. The hash is replaced by one that the name spells out.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Corruption } from "../../src/lib/fs_error.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { dxSplitHash } from "../../src/volume/dir/dx_grow.ts";
import { nameOf } from "../../src/volume/dir/name.ts";
import type { Kernels } from "../../src/wasm/kernels.ts";
import { missing } from "../support/sh.ts";
import { mkfsImage, openImage, type TestVolume } from "../support/volume.ts";
import { checkDir } from "./dir_check.ts";

const cred = { uid: 0, gid: 0, umask: 0o22 };
/** Entries of a leaf of 512 bytes. */
const LEAF = 29;
const BLOCKS_PER_CLUSTER = 8;

/** A name "h<major>-<minor>-<n>" hashes to what it says. */
function spelledHash(v: TestVolume): void {
  const { u8, dv } = v.osb.arena;
  const k: Kernels = {
    ...v.osb.k,
    dxHash(name, len, _s0, _s1, _signed, out) {
      const text = Buffer.from(u8.slice(name, name + len)).toString();
      const [, major, minor] = /^h(\d+)-(\d+)-/.exec(text) ?? ["", "0", "0"];
      dv.setUint32(out, Number(major), true);
      dv.setUint32(out + 4, Number(minor), true);
      return Number(major);
    },
  };
  (v.osb as { k: Kernels }).k = k;
}

describe("where a full leaf is split", () => {
  const full = (...majors: number[]): number[] => majors.sort((a, b) => a - b);

  test("at the median, or the first hash after it that is not the leaf's own first", () => {
    expect(dxSplitHash(full(1, 2, 3, 4), 0, 9)).toBe(3);
    expect(dxSplitHash(full(5, 5, 5, 5, 8, 9), 5, 7)).toBe(8);
    expect(dxSplitHash(full(5, 9, 9, 9), 0, 9)).toBe(9);
  });

  test("with one hash in the leaf, beside it", () => {
    expect(dxSplitHash([5, 5, 5], 5, 7)).toBe(6);
    expect(dxSplitHash([5, 5, 5], 0, 3)).toBe(5);
    expect(dxSplitHash([5, 5, 5], 0, 9)).toBe(9);
    expect(dxSplitHash([5, 5, 5], 0, 5)).toBe(undefined);
  });

  test("nowhere, if the entries lie below the leaf", () => {
    expect(() => dxSplitHash([1, 2], 7, 8)).toThrow(Corruption);
  });

  test("every split leaves both sides with less, or the new entry with an empty side", () => {
    const major = fc.oneof(
      fc.integer({ min: 0, max: 6 }),
      fc.constant(2 ** 32 - 1),
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    );
    fc.assert(
      fc.property(fc.array(major, { minLength: 2, maxLength: 12 }), major, fc.nat(3), (raw, insert, back) => {
        const majors = full(...raw);
        const cpos = Math.max(0, Math.min(majors[0]!, insert) - back);
        const split = dxSplitHash(majors, cpos, insert);
        if (split === undefined) {
          expect(new Set([...majors, insert]).size).toBe(1);
          return;
        }
        expect(split).toBeGreaterThan(cpos);
        expect(split).toBeLessThan(2 ** 32);
        const lower = majors.filter((m) => m < split).length;
        const into = insert < split ? lower : majors.length - lower;
        // Equal hashes at the median may all go up at once; the next split parts them from the rest.
        if (into === majors.length) expect(majors[0]).toBe(split);
      }),
    );
  });
});

describe.skipIf(missing("mkfs.ocfs2").length > 0)("an index of 512-byte blocks with 29 entries in a leaf", () => {
  const image = mkfsImage(["-J", "size=4M", "-b", "512", "-C", "4K"], 48);
  const v = openImage(image);
  spelledHash(v);
  const { osb } = v;
  let dirs = 0;

  const major = fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 5 }) },
    { weight: 1, arbitrary: fc.constantFrom(2 ** 32 - 1, 2 ** 32 - 2, 2 ** 31) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 2 ** 32 - 1 }) },
  );
  const batch = fc.tuple(major, fc.oneof(fc.constant(0), fc.nat(40)), fc.integer({ min: 1, max: LEAF + 1 }));

  test("takes every name whose block can hold it, and stays sound where it cannot", () => {
    fc.assert(
      fc.property(fc.array(batch, { minLength: 3, maxLength: 30 }), (batches) => {
        const dir = osb.runSync((op) =>
          ns.mkdir(op, osb.geo.root_blkno, nameOf(`h${++dirs * 7919}-${dirs}-`), 0o755, cred),
        ).ino;
        const names = new Set<string>();
        const per_hash = new Map<string, number>([["0/0", 2]]);
        let n = 0;
        for (const [hash, minor, count] of batches) {
          const key = `${hash}/${minor % BLOCKS_PER_CLUSTER}`;
          for (let i = 0; i < count; i++) {
            const name = `h${hash}-${minor}-${n++}`;
            const same = per_hash.get(key) ?? 0;
            const add = (): unknown => osb.runSync((op) => ns.create(op, dir, nameOf(name), 0o600, cred));
            if (same >= LEAF) {
              expect(add).toThrow(/ENOSPC/);
              continue;
            }
            add();
            names.add(name);
            per_hash.set(key, same + 1);
          }
        }
        expect(checkDir(osb, dir).names).toBe(names.size + 2);
        for (const name of names) {
          expect(osb.runSync((op) => ns.lookup(op, dir, nameOf(name)))).toBeDefined();
          osb.runSync((op) => ns.unlink(op, dir, nameOf(name)));
          // The names of orphans spell no hash: one at a time.
          while (osb.pump());
        }
        expect(checkDir(osb, dir).names).toBe(2);
      }),
      { numRuns: 40 },
    );
    v.close();
  });
});

test.skipIf(missing("mkfs.ocfs2").length > 0)(
  "a second split that no transaction of a small journal holds is ENOSPC",
  () => {
    // 256 leaves in a cluster, and 575 blocks in a transaction.
    const v = openImage(mkfsImage(["-b", "4K", "-C", "1M", "-N", "1", "-J", "size=9M"], 64));
    spelledHash(v);
    const { osb } = v;
    const dir = osb.runSync((op) => ns.mkdir(op, osb.geo.root_blkno, nameOf("h1-1-"), 0o755, cred)).ino;
    const create = (name: string) => osb.runSync((op) => ns.create(op, dir, nameOf(name), 0o600, cred));
    const unlink = (name: string) => osb.runSync((op) => ns.unlink(op, dir, nameOf(name)));
    const { leaf, leaves } = { leaf: 253, leaves: 256 };
    // A cluster that begins at hash 3, with one name in each leaf but the first.
    for (let n = 0; n < leaf; n++) create(`h3-0-${n}`);
    for (let n = 0; n < leaf; n++) unlink(`h3-0-${n}`);
    for (let minor = 1; minor < leaves; minor++) create(`h7-${minor}-0`);
    for (let n = 0; n < leaf; n++) create(`h${n < 200 ? 7 : 8}-0-${n}`);
    // The first split sends all of them up.
    expect(() => create("h7-0-253")).toThrow(/ENOSPC/);
    expect(checkDir(osb, dir).names).toBe(leaf + leaves - 1 + 2);
    create("h6-0-0");
    expect(checkDir(osb, dir).names).toBe(leaf + leaves + 2);
    v.close();
  },
);
