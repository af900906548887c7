/** What metaecc is for: one wrong bit of a metadata block is corrected when the block is read, more are found, and nothing of them is believed. */
import { expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage } from "../../test/support/volume.ts";
import { BlockCheck, Dinode, XattrBlock } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { wait } from "../lib/task.ts";
import { copyFileRange } from "../vfs/copy_range.ts";
import { writeFile } from "../vfs/file.ts";
import { create, getattr, lookup, mkdir, unlink } from "../vfs/namespace.ts";
import { freeMetadataBlock } from "./alloc/suballoc.ts";
import { lockInode } from "./dir/iget.ts";
import { lockRefcountTree } from "./refcount/tree.ts";
import { createXattrBlock } from "./xattr/place.ts";

const BLOCK = 4096;
const F = Dinode.fields;
const CRC = F.i_check.off + BlockCheck.fields.bc_crc32e.off;
const ECC = F.i_check.off + BlockCheck.fields.bc_ecc.off;
const cred = { uid: 7, gid: 0, umask: 0 };

/** A volume with a file in an indexed folder outside of its inode, and the image as it is after unmounting. */
function volume(): { image: Uint8Array; file: number; dir: number } {
  const image = mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "--fs-features=metaecc,noinline-data"], 64);
  const v = openImage(image);
  const { osb } = v;
  const { ino: dir } = osb.runSync((op) => mkdir(op, osb.geo.root_blkno, Buffer.from("dir"), 0o755, cred));
  const { ino: file } = osb.runSync((op) => create(op, dir, Buffer.from("file"), 0o644, cred));
  v.close();
  return { image, file, dir };
}

const flip = (image: Uint8Array, blkno: number, bits: readonly number[]): void => {
  for (const bit of bits) image[blkno * BLOCK + (bit >> 3)]! ^= 1 << (bit & 7);
};

test.skipIf(!haveTool("mkfs.ocfs2")).each([
  ["in the signature", 3],
  ["in the owner", F.i_uid.off * 8],
  ["in the last word", BLOCK * 8 - 1],
  ["in the Hamming code itself", ECC * 8 + 5],
])("one wrong bit of a dinode, %s, is corrected", (_, bit) => {
  const { image, file, dir } = volume();
  flip(image, file, [bit]);
  const v = openImage(image);
  const { osb } = v;
  expect(osb.runSync((op) => getattr(op, file))).toMatchObject({ ino: file, uid: 7, mode: 0o100644 });
  expect(osb.runSync((op) => lookup(op, dir, Buffer.from("file")))!.ino).toBe(file);
  expect(osb.readonly_reason).toBe(null);
  v.close();
});

test.skipIf(!haveTool("mkfs.ocfs2")).each([
  ["two wrong bits", [F.i_uid.off * 8, F.i_gid.off * 8 + 1]],
  // As in the kernel: what was corrected must have this checksum.
  ["one in the checksum", [CRC * 8]],
])("%s are an error", (_, bits) => {
  const { image, file } = volume();
  flip(image, file, bits);
  const v = openImage(image);
  const { osb } = v;
  expect(() => osb.runSync((op) => getattr(op, file))).toThrow(expect.objectContaining({ errno: Errno.EIO }));
  v.close();
});

test.skipIf(!haveTool("mkfs.ocfs2"))(
  "a block that is given back and taken again in one operation has its checksum",
  () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "--fs-features=metaecc"], 64);
    const v = openImage(image);
    const { osb } = v;
    const root = osb.geo.root_blkno;
    const addr = osb.arena.alloc(1 << 14, 4096);
    const make = (name: string) => {
      const inode = osb.inodes.get(osb.runSync((op) => create(op, root, Buffer.from(name), 0o644, cred)).ino);
      osb.runTaskSync(wait((cb) => writeFile(osb, inode, { offset: 0, len: 1 << 14, addr }, cb)));
      return inode;
    };
    const copy = (from: ReturnType<typeof make>, to: ReturnType<typeof make>) =>
      osb.runTaskSync(wait((cb) => copyFileRange(osb, from, 0, to, 0, 1 << 14, cb)));
    const [a, b, c] = [make("a"), make("b"), make("c")];
    const treeOf = (inode: typeof a) => osb.runSync((op) => lockInode(op, inode).di.i_refcount_loc);
    copy(a, b);
    const tree = treeOf(b);
    osb.runSync((op) => unlink(op, root, Buffer.from("a")));
    while (osb.pump());
    // It leaves the tree, of which it is the last user, and joins a new one, which begins in the same place.
    copy(c, b);
    expect(treeOf(b)).toBe(tree);
    v.close();
    expect(fsck(image).findings).toEqual([]);
    const again = openImage(image);
    again.osb.runSync((op) => lockRefcountTree(op, tree));
    again.close();
  },
);

test.skipIf(!haveTool("mkfs.ocfs2"))("a block that is given back, taken again and then not is what it was", () => {
  const image = mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "--fs-features=metaecc"], 64);
  const v = openImage(image);
  const { osb } = v;
  const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from("file"), 0o644, cred));
  const inode = osb.inodes.get(ino);
  const { blkno, bit } = osb.runSync((op) => {
    const bh = createXattrBlock(op, inode, lockInode(op, inode, true).di_bh);
    return { blkno: bh.blkno, bit: XattrBlock.at(osb.cache.dv, bh.addr).xb_suballoc_bit };
  });
  expect(() =>
    osb.runSync((op) => {
      freeMetadataBlock(op, { slot: 0, bit, loc: 0, blkno });
      op.create(inode, blkno, osb.kinds.extent_block);
      throw new FsError(Errno.ENOSPC, "no room for the rest");
    }),
  ).toThrow("no room for the rest");
  osb.runSync((op) => op.read(inode, blkno, osb.kinds.xattr_block));
  v.close();
  const again = openImage(image);
  again.osb.runSync((op) => op.read(again.osb.inodes.get(ino), blkno, again.osb.kinds.xattr_block));
  again.close();
});
