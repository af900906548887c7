/** A volume that a kernel node makes larger while ours have it mounted: what lies in the new part is no damage. */
import { expect, test } from "vitest";
import { clusterImage, SimCluster, type SimNode } from "../../../test/support/cluster.ts";
import { fsck, haveTool } from "../../../test/support/volume.ts";
import { Dinode, SYSTEM_INODE } from "../../format/disk/index.ts";
import { wait } from "../../lib/task.ts";
import { copyFileRange } from "../../vfs/copy_range.ts";
import { fallocate, readFile, setattr, writeFile } from "../../vfs/file.ts";
import { create, lookup } from "../../vfs/namespace.ts";
import { getClusters } from "../extents/extent_map.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import { setxattr } from "../xattr/index.ts";
import { groupOf, openAllocator, readGroup } from "./chain.ts";
import { trimTask, volumeStat } from "./suballoc.ts";

const CRED = { uid: 0, gid: 0, umask: 0 };
const [OLD_MIB, NEW_MIB] = [48, 80];
const BYTES = 1 << 20;

/** What OCFS2_IOC_GROUP_EXTEND does (ocfs2_group_extend): the last group gets the clusters, then the superblock says so. */
function grow(c: SimCluster, node: SimNode): void {
  const clusters = ((NEW_MIB - OLD_MIB) << 20) / node.osb.geo.clustersize;
  const total = c.op(node, (op) => {
    const ca = openAllocator(op, SYSTEM_INODE.GLOBAL_BITMAP);
    const group = readGroup(op, ca, op.osb.geo.first_cluster_group_blkno);
    op.modify(ca.bh);
    op.modify(group);
    const gd = groupOf(op, group);
    const di = dinodeOf(op, ca.bh);
    const rec = di.i_chain.cl_recs.at(gd.bg_chain);
    gd.bg_bits += clusters;
    gd.bg_free_bits_count += clusters;
    rec.c_total += clusters;
    rec.c_free += clusters;
    di.i_total += clusters;
    di.i_clusters += clusters;
    di.i_size = di.i_clusters * op.osb.geo.clustersize;
    return di.i_clusters;
  });
  Dinode.at(new DataView(c.disk.buffer), 2 * node.osb.geo.blocksize).i_clusters = total;
}

test.skipIf(!haveTool("fsck.ocfs2"))(
  "a volume grows under two nodes: both write to its new part, read there, and give it back",
  () => {
    const image = new Uint8Array(NEW_MIB << 20);
    image.set(clusterImage({ blockSize: "4K" }, OLD_MIB, 2));
    const c = new SimCluster({ seed: 3, image });
    const nodes = [c.mount(1), c.mount(2)] as const;
    const rootOf = (node: SimNode): number => node.osb.geo.root_blkno;
    const file = (node: SimNode, name: string): Inode =>
      node.osb.inodes.get(c.op(node, (op) => create(op, rootOf(node), Buffer.from(name), 0o644, CRED)).ino);
    const open = (node: SimNode, name: string): Inode =>
      node.osb.inodes.get(c.op(node, (op) => lookup(op, rootOf(node), Buffer.from(name)))!.ino);
    const buffers = new Map(nodes.map((node) => [node, node.osb.arena.alloc(BYTES, 4096)]));

    const all = c.op(nodes[0], volumeStat).free_clusters * nodes[0].osb.geo.clustersize;
    const full = file(nodes[0], "full");
    c.task(
      nodes[0],
      wait<void>((cb) => fallocate(nodes[0].osb, full, 0, 0, all - (4 << 20), cb)),
    );
    grow(c, nodes[0]);
    const new_part = { start: OLD_MIB << 20, len: (NEW_MIB - OLD_MIB) << 20, min_bytes: 0 };
    expect(c.task(nodes[1], trimTask(nodes[1].osb, new_part))).toBe(new_part.len);
    for (const [i, node] of nodes.entries()) {
      const { osb } = node;
      const addr = buffers.get(node)!;
      const inode = file(node, `new${i}`);
      for (let mib = 0; mib < 6; mib++) {
        osb.arena.u8.fill(10 * i + mib, addr, addr + BYTES);
        const req = { offset: mib * BYTES, len: BYTES, addr };
        c.task(
          node,
          wait<number>((cb) => writeFile(osb, inode, req, cb)),
        );
      }
      c.op(node, (op) => {
        inodeLock(op, inode);
        expect(getClusters(op, inode, 6 * 256 - 1).p_cluster).toBeGreaterThan((OLD_MIB << 20) / osb.geo.clustersize);
      });
      c.op(node, (op) => setxattr(op, inode, "user.long", new Uint8Array(20_000).fill(i)));
    }
    for (const [i, node] of nodes.entries()) {
      const { osb } = node;
      const addr = buffers.get(node)!;
      const inode = open(node, `new${1 - i}`);
      const copy = file(node, `copy${i}`);
      for (let mib = 0; mib < 6; mib++) {
        const req = { offset: mib * BYTES, len: BYTES, addr };
        expect(
          c.task(
            node,
            wait<number>((cb) => readFile(osb, inode, req, cb)),
          ),
        ).toBe(BYTES);
        expect(osb.arena.u8.subarray(addr, addr + BYTES).every((b) => b === 10 * (1 - i) + mib)).toBe(true);
      }
      c.task(
        node,
        wait<number>((cb) => copyFileRange(osb, inode, 0, copy, 0, 6 * BYTES, cb)),
      );
      c.task(
        node,
        wait((cb) => setattr(osb, inode, { size: 5000 }, cb)),
      );
    }
    for (const node of nodes) c.umount(node);
    c.dispose();
    expect(fsck(image).findings).toEqual([]);
  },
);
