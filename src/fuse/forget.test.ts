/** FORGET beside an answer about the same inode that is still on its way. */
import { expect, test } from "vitest";
import { bytesOf } from "../../test/sim/whole/kernel/connection.ts";
import { SessionRig } from "../../test/support/session_rig.ts";
import { fsck, haveTool, mkfsImage } from "../../test/support/volume.ts";
import * as F from "../format/fuse/index.ts";

test.skipIf(!haveTool("mkfs.ocfs2"))(
  "the kernel is told to ask for the attributes again when it has forgotten less than it was told of",
  () => {
    const data = mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32);
    const rig = new SessionRig(data);
    const { osb } = rig.v;
    const doubted: number[] = [];
    osb.kernel_caches = {
      invalidate: () => (cb) => cb(null),
      doubtAttributes: (inode) => void doubted.push(inode.ino),
      drop: () => (cb) => cb(null),
      invalidateEntry: () => undefined,
    };
    const q = F.FuseMknodIn.alloc();
    q.mode = 0o100644;
    const made = rig.answerOf(F.FUSE_MKNOD, F.FUSE_ROOT_ID, 0, bytesOf(q), Buffer.from("f\0"));
    const ino = F.FuseEntryOut.from(made.body).nodeid;
    rig.answerOf(F.FUSE_LOOKUP, F.FUSE_ROOT_ID, 0, Buffer.from("f\0"));
    expect(osb.inodes.get(ino).nlookup).toBe(2);
    const forget = F.FuseForgetIn.alloc();
    forget.nlookup = 1;
    for (const [left, told] of [
      [1, [ino]],
      [0, [ino]],
    ] as const) {
      rig.ask(F.FUSE_FORGET, ino, 0, bytesOf(forget));
      rig.settle(() => osb.inodes.get(ino).nlookup === left);
      expect([osb.inodes.get(ino).nlookup, doubted]).toEqual([left, told]);
    }
    osb.kernel_caches = null;
    rig.v.close();
    expect(fsck(data).clean).toBe(true);
  },
);
