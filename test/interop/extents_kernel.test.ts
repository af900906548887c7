/**
 * Extent trees that we made, changed by a kernel, and the other way round. The kernel is strict in ways that fsck.ocfs2 is
 * not: it refuses to rotate records through a leaf with room, and it BUGs on much else.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../../src/lib/clock.ts";
import { create, lookup } from "../../src/vfs/namespace.ts";
import { claimClusters, freeClusters } from "../../src/volume/alloc/suballoc.ts";
import {
  changeExtentFlag,
  dinodeExtentTree,
  extentRecords,
  insertExtent,
  removeExtent,
} from "../../src/volume/extents/extent_tree.ts";
import { dinodeOf, type Inode, inodeLockModify } from "../../src/volume/inode.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { tempDir } from "../support/cleanup.ts";
import { checkExtentTree } from "../support/extent_tree_check.ts";
import { fsckClean } from "../support/judges.ts";
import { rigUnavailable, withKernelNode } from "../support/rig.ts";
import { haveTool, mkfsImage, openImage, writeSparse } from "../support/volume.ts";

const SPAN = 6000;
const KEPT = ["shifted", "split", "cut", "deep"];
const cred = { uid: 0, gid: 0, umask: 0o22 };

/** A file of single clusters with holes between them, inserted in a random order; returns the clusters that are mapped. */
function scatter(osb: Osb, name: string, root: number, max_shift: number, random: Random): Set<number> {
  const attr = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o100644, cred));
  const inode = osb.inodes.get(attr.ino);
  const mapped = new Set<number>();
  // Made a file of extents by hand: an empty list over the inline data.
  osb.runSync((op) => {
    const bh = inodeLockModify(op, inode);
    const di = dinodeOf(op, bh);
    di.i_dyn_features &= ~1;
    osb.cache.u8.fill(0, di.i_list.off, bh.addr + osb.geo.blocksize);
    di.i_list.l_count = root;
    di.i_size = SPAN * osb.geo.clustersize;
  });
  for (let i = 0; i < 900; i++) {
    const cpos = (random.u32() % (SPAN >> 1)) * 2;
    if (mapped.has(cpos)) continue;
    mapped.add(cpos);
    osb.runSync((op) => {
      const bh = inodeLockModify(op, inode);
      const { p_cluster } = claimClusters(op, 1, 1);
      const et = { ...dinodeExtentTree(op, inode, bh), max_shift };
      insertExtent(op, et, cpos, osb.clustersToBlocks(p_cluster), 1, cpos % 3 === 0 ? 1 : 0);
    });
  }
  return mapped;
}

/** Reads "what file cluster clusters" lines: w writes, p punches a hole (fallocate is call 285 on x86-64), t truncates. */
const CHANGER = `
while (<STDIN>) {
  my ($what, $name, $at, $n) = split;
  open(my $f, "+<", "/o/$name") or die "open $name: $!";
  if ($what eq "w") { sysseek($f, $at * 4096, 0); syswrite($f, "x" x 4096) == 4096 or die "write $at: $!"; }
  if ($what eq "p") { syscall(285, fileno($f), 3, $at * 4096, $n * 4096) == 0 or die "punch $at: $!"; }
  if ($what eq "t") { truncate($f, $at * 4096) or die "truncate: $!"; }
}`;

const fileOf = (osb: Osb, name: string): Inode =>
  osb.inodes.get(osb.runSync((op) => lookup(op, osb.geo.root_blkno, Buffer.from(name))!.ino));

const clustersOf = (osb: Osb, inode: Inode): Set<number> =>
  osb.runSync((op) => {
    const out = new Set<number>();
    for (const e of extentRecords(op, dinodeExtentTree(op, inode, inodeLockModify(op, inode))))
      for (let i = 0; i < e.clusters; i++) out.add(e.cpos + i);
    return out;
  });

describe.skipIf(!haveTool("mkfs.ocfs2") || rigUnavailable() !== undefined)(
  "extent trees between us and a kernel",
  () => {
    test("a kernel fills, punches, cuts and removes files with trees of ours; we go on with what it left", async () => {
      const image = mkfsImage(
        ["-b", "512", "-C", "4K", "-N", "2", "-J", "size=4M", "--fs-features=noindexed-dirs"],
        128,
      );
      const v = openImage(image);
      const random = seededRandom(Number(process.env["OCFS2_TEST_SEED"] ?? 5));
      const names = ["shifted", "split", "removed", "cut", "deep"];
      const maps = new Map<string, Set<number>>();
      for (const name of names)
        maps.set(name, scatter(v.osb, name, name === "deep" ? 1 : 19, name === "shifted" ? 64 : 0, random));
      // Half of one file goes again: leaves that were left short.
      const cut = fileOf(v.osb, "cut");
      for (let i = 0; i < 250; i++) {
        const cpos = (random.u32() % (SPAN >> 1)) * 2;
        if (!maps.get("cut")!.delete(cpos)) continue;
        v.osb.runSync((op) => {
          const et = { ...dinodeExtentTree(op, cut, inodeLockModify(op, cut)), max_shift: 0 };
          const [e] = extentRecords(op, et, cpos);
          removeExtent(op, et, cpos, 1);
          freeClusters(op, op.osb.blocksToClusters(e!.blkno), 1);
        });
      }
      for (const name of names) {
        const inode = fileOf(v.osb, name);
        v.osb.runSync((op) => checkExtentTree(op, dinodeExtentTree(op, inode, inodeLockModify(op, inode))));
      }
      v.close();
      const dir = tempDir("ocfs2-extents");
      const path = join(dir, "img");
      writeSparse(path, image);
      await fsckClean(path);

      // One process for all: starting one takes a user-mode kernel longer than a thousand writes.
      const lines: string[] = [];
      for (const name of KEPT) {
        const map = maps.get(name)!;
        for (let i = 0; i < 150; i++) {
          const cpos = (random.u32() % (SPAN >> 1)) * 2 + (i & 1);
          map.add(cpos);
          lines.push(`w ${name} ${cpos} 1`);
        }
        for (let i = 0; i < 80; i++) {
          const cpos = random.u32() % (SPAN - 20);
          const n = 1 + (random.u32() % 12);
          for (let c = cpos; c < cpos + n; c++) map.delete(c);
          lines.push(`p ${name} ${cpos} ${n}`);
        }
      }
      const end = 4000;
      for (const c of [...maps.get("split")!]) if (c >= end) maps.get("split")!.delete(c);
      lines.push(`t split ${end} 0`);
      await withKernelNode(path, async (node) => {
        await node.run(`set -e\nperl -e '${CHANGER}' <<'END'\n${lines.join("\n")}\nEND\nrm /o/removed`, 40000);
      });
      await fsckClean(path);

      const back = new Uint8Array(readFileSync(path));
      const w = openImage(back);
      for (const name of KEPT) {
        const inode = fileOf(w.osb, name);
        expect([...clustersOf(w.osb, inode)].sort((a, b) => a - b)).toEqual([...maps.get(name)!].sort((a, b) => a - b));
        for (let i = 0; i < 300; i++) {
          const cpos = random.u32() % end;
          w.osb.runSync((op) => {
            const et = dinodeExtentTree(op, inode, inodeLockModify(op, inode));
            const [e] = extentRecords(op, et, cpos);
            if (e === undefined || e.cpos > cpos) {
              const { p_cluster } = claimClusters(op, 1, 1);
              insertExtent(op, et, cpos, op.osb.clustersToBlocks(p_cluster), 1, 1);
            } else if (i % 3 === 0) {
              removeExtent(op, et, cpos, 1);
              freeClusters(op, op.osb.blocksToClusters(e.blkno) + cpos - e.cpos, 1);
            } else changeExtentFlag(op, et, cpos, 1, 0, 1);
          });
        }
      }
      w.close();
      writeSparse(path, back);
      await fsckClean(path);
      await withKernelNode(path, async (node) => {
        await node.run("cat /o/* > /dev/null; rm /o/shifted /o/split /o/cut /o/deep && sync");
      });
      await fsckClean(path);
    }, 300_000);
  },
);
