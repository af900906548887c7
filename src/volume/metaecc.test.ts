/** What metaecc is for: one wrong bit of a metadata block is corrected when the block is read, more are found, and nothing of them is believed. */
import { expect, test } from "vitest";
import { haveTool, mkfsImage, openImage } from "../../test/support/volume.ts";
import { BlockCheck, Dinode } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { create, getattr, lookup, mkdir } from "../vfs/namespace.ts";

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
