/** Allocators on a damaged volume: what they would give out, or take back, is not theirs. */
import { describe, expect, test } from "vitest";
import { haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { create, mkdir } from "../../vfs/namespace.ts";
import { dinodeOf } from "../inode.ts";
import type { Op } from "../op.ts";
import { type ChainAllocator, claimBits, freeBits, groupOf, openAllocator, readGroup } from "./chain.ts";

const CRED = { uid: 0, gid: 0, umask: 0 };
const EIO = expect.objectContaining({ errno: Errno.EIO });

/** Clears a bit of the first group, and counts it as free. */
function clearBit(op: Op, ca: ChainAllocator, group: number, bit: number): void {
  const bh = readGroup(op, ca, group);
  op.modify(ca.bh);
  op.modify(bh);
  const gd = groupOf(op, bh);
  op.osb.k.clearRange(gd.bg_bitmap_off(0), bit, 1);
  gd.bg_free_bits_count += 1;
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("a group that counts its own descriptor as free", () => {
  const volume = (): TestVolume => openImage(mkfsImage(["-b", "4K", "-C", "4K"], 32));

  test.each(["superblock", "descriptor"])("does not give it out: the %s in the global bitmap", (what) => {
    const v = volume();
    const { osb } = v;
    const first = osb.geo.first_cluster_group_blkno;
    const bit = what === "superblock" ? 0 : osb.blocksToClusters(first);
    expect(() =>
      osb.runSync((op) => {
        const ca = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
        clearBit(op, ca, first, bit);
        claimBits(op, ca, 1, 1, first, 0);
      }),
    ).toThrow(EIO);
    expect(() =>
      osb.runSync((op) => freeBits(op, openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP), first, bit, 1)),
    ).toThrow(EIO);
    v.close();
  });

  test("does not give it out: the descriptor of a group of inodes", () => {
    const v = volume();
    const { osb } = v;
    const dir = osb.runSync((op) => mkdir(op, osb.geo.root_blkno, Buffer.from("d"), 0o755, CRED)).ino;
    const group = osb.runSync((op) => {
      const ca = openAllocator(op, SYSTEM_INODE.INODE_ALLOC, 0);
      const { c_blkno } = dinodeOf(op, ca.bh).i_chain.cl_recs.at(0);
      clearBit(op, ca, c_blkno, 0);
      return c_blkno;
    });
    expect(() => osb.runSync((op) => create(op, dir, Buffer.from("f"), 0o644, CRED))).toThrow(EIO);
    expect(() =>
      osb.runSync((op) => freeBits(op, openAllocator(op, SYSTEM_INODE.INODE_ALLOC, 0), group, 0, 1)),
    ).toThrow(EIO);
    v.close();
  });
});

test.skipIf(!haveTool("mkfs.ocfs2"))(
  "a chain that leads back into itself is not followed for ever, however large the volume",
  () => {
    const v = openImage(mkfsImage(["-b", "4K", "-C", "4K"], 32));
    const { osb } = v;
    let reads = 0;
    const read = osb.cache.read.bind(osb.cache);
    osb.cache.read = (...args) => {
      if (++reads > 100_000) throw new Error("it is followed for ever");
      return read(...args);
    };
    expect(() =>
      osb.runSync((op) => {
        const ca = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
        const bh = readGroup(op, ca, osb.geo.first_cluster_group_blkno);
        op.modify(ca.bh);
        op.modify(bh);
        groupOf(op, bh).bg_next_group = bh.blkno;
        const di = dinodeOf(op, ca.bh);
        di.i_total = 0xffff_fff0;
        di.i_chain.cl_recs.at(0).c_free = 8000;
        claimBits(op, ca, 8000, 8000);
      }),
    ).toThrow(EIO);
    v.close();
  },
);
