/** The index of a directory where a cluster has so many leaves that to fill or split one changes thousands of blocks. */
import { describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage } from "../../../test/support/volume.ts";
import { create, lookup, mkdir, nameOf } from "../../vfs/namespace.ts";
import type { Osb } from "../osb.ts";
import { dxHash, putName } from "./name.ts";

const CRED = { uid: 0, gid: 0, umask: 0 };

/** One name for each leaf of a cluster, and for the first leaf more than it holds. */
function namesForAllLeaves(osb: Osb, too_many: number): string[] {
  const leaves = osb.geo.blocks_per_cluster;
  const in_leaf = new Map<number, number>();
  const names: string[] = [];
  for (let i = 0; in_leaf.size < leaves || in_leaf.get(0)! < too_many; i++) {
    const text = `file-${i}`;
    const leaf = dxHash(osb, putName(osb, nameOf(text)), text.length).minor & (leaves - 1);
    const n = in_leaf.get(leaf) ?? 0;
    if (n >= (leaf === 0 ? too_many : 1)) continue;
    in_leaf.set(leaf, n + 1);
    names.push(text);
  }
  return names;
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("a directory whose index has clusters of 1 MiB", () => {
  for (const blocksize of ["512", "1K", "4K"])
    test(`gets its first leaves, and splits them, in one operation: blocks of ${blocksize}`, () => {
      const image = mkfsImage(["-b", blocksize, "-C", "1M", "-N", "1", "-J", "size=9M"], 64);
      const known = fsck(image).findings;
      const v = openImage(image);
      const { osb } = v;
      const dir = osb.runSync((op) => mkdir(op, osb.geo.root_blkno, nameOf("d"), 0o755, CRED));
      const per_leaf = (osb.geo.blocksize - 64) >> 4;
      const names = namesForAllLeaves(osb, per_leaf + 2);
      const made = new Map<string, number>();
      for (const text of names) made.set(text, osb.runSync((op) => create(op, dir.ino, nameOf(text), 0o644, CRED)).ino);
      for (const [text, ino] of made)
        expect(osb.runSync((op) => lookup(op, dir.ino, nameOf(text)))).toMatchObject({ ino });
      v.close();
      expect(fsck(image, known).findings).toEqual(known);
    });
});
