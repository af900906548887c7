/**
 * What a slot has set aside of the bitmap when its owner ends without returning it: a kernel node mounts into the slot if its journal is dirty, and
 * refuses if it is clean (ocfs2_load_local_alloc). So whoever cannot return it leaves the journal dirty.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { Dinode, JOURNAL_FLAGS, SYSTEM_INODE } from "../../src/format/disk/index.ts";
import { wait } from "../../src/lib/task.ts";
import { fsync, writeFile } from "../../src/vfs/file.ts";
import { create } from "../../src/vfs/namespace.ts";
import { tempDir } from "../support/cleanup.ts";
import { fsck } from "../support/judges.ts";
import { rigUnavailable, withKernelNode } from "../support/rig.ts";
import { haveTool, mkfsImage, openImage, writeSparse } from "../support/volume.ts";

const BLOCK = 4096;

test.skipIf(rigUnavailable() !== undefined || !haveTool("mkfs.ocfs2"))(
  "a kernel node mounts what a read-only mount of ours has replayed",
  async () => {
    const v = openImage(mkfsImage(["-b", String(BLOCK), "-C", "4096", "-J", "size=4M", "-N", "1"], 64));
    const { osb } = v;
    const cred = { uid: 0, gid: 0, umask: 0 };
    const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from("f"), 0o644, cred));
    const inode = osb.inodes.get(ino);
    const addr = osb.arena.alloc(65536, BLOCK);
    osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: 0, len: 65536, addr }, cb)));
    osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));

    const image = v.dev.data.slice();
    openImage(image, { ro: true }).close();
    const dir = tempDir("ocfs2-set-aside");
    const [ours, clean] = [join(dir, "ours"), join(dir, "clean")];
    writeSparse(ours, image);
    expect(await withKernelNode(ours, (node) => node.run("stat -c %s /o/f"))).toBe("65536\n");
    const judged = fsck(ours);
    expect(judged.findings, judged.output).toEqual([]);

    const di = Dinode.at(new DataView(image.buffer), osb.sysfile(SYSTEM_INODE.JOURNAL).ino * BLOCK);
    di.ij_flags &= ~JOURNAL_FLAGS.DIRTY;
    writeSparse(clean, image);
    await expect(withKernelNode(clean, (node) => node.run("true"))).rejects.toThrow("unrecovered local alloc");
  },
  300_000,
);
