/**
 * fsck.ocfs2 on volumes with attributes, without two errors of its own, both of which the kernel's volumes get as well:
 * the depth of another value's tree (judges.ts), and that it takes the length of a value for 16 bits, so that 65536 is 0 to it.
 */
import { expect } from "vitest";
import { DYN_FEATURES, isDir, isReg } from "../../src/format/disk/index.ts";
import { openDir } from "../../src/volume/dir/dir_data.ts";
import { readAll } from "../../src/volume/dir/readdir.ts";
import { dinodeExtentTree } from "../../src/volume/extents/extent_tree.ts";
import { extentRecords } from "../../src/volume/extents/lookup.ts";
import { dinodeOf, inodeLock } from "../../src/volume/inode.ts";
import { getxattr, listxattr } from "../../src/volume/xattr/xattr.ts";
import { DEPTH_OF_ANOTHER } from "./judges.ts";
import { fsck, openImage } from "./volume.ts";

const LENGTH_OF_16_BITS = /^\[XATTR_VALUE_LEN_INVALID\] /;

/** Every attribute and every extent of every file; throws where a block's depth is not what its parent's says. */
function readAllTrees(image: Uint8Array): void {
  const v = openImage(image);
  const { osb } = v;
  const seen = new Set<number>();
  const todo = [osb.geo.root_blkno];
  for (let ino = todo.pop(); ino !== undefined; ino = todo.pop()) {
    if (seen.has(ino)) continue;
    seen.add(ino);
    osb.runSync((op) => {
      const inode = osb.inodes.get(ino);
      const di_bh = inodeLock(op, inode);
      for (const name of listxattr(op, inode)) getxattr(op, inode, name);
      const { i_mode, i_dyn_features } = dinodeOf(op, di_bh);
      if ((isReg(i_mode) || isDir(i_mode)) && (i_dyn_features & DYN_FEATURES.INLINE_DATA) === 0)
        for (const _ of extentRecords(op, dinodeExtentTree(op, inode, di_bh)));
      if (isDir(i_mode)) todo.push(...readAll(openDir(op, inode, di_bh)).map((entry) => entry.ino));
    });
  }
  v.close();
}

/** What fsck.ocfs2 has to say that is neither `known` nor its own error. `max_value`: a value of 65536 bytes is there. */
export function findings(image: Uint8Array, known: readonly string[], max_value = false): string[] {
  const found = fsck(image, known).findings.filter(
    (f) => !known.includes(f) && !(max_value && LENGTH_OF_16_BITS.test(f)),
  );
  if (!found.some((f) => DEPTH_OF_ANOTHER.test(f))) return found;
  readAllTrees(image.slice());
  return found.filter((f) => !DEPTH_OF_ANOTHER.test(f));
}

/** Fails with what fsck.ocfs2 said. */
export function expectSound(image: Uint8Array, known: readonly string[], where = ""): void {
  expect(findings(image, known), `fsck.ocfs2 ${where}`).toEqual([]);
}
