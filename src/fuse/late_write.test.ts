/**
 * A WRITE that waits for its lock while the kernel writes its page back, with what a mapping has stored there: others may write there before it is carried out.
 * On two nodes it is a race of three programs; here the requests are put to a session, as the kernel would send them.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bytesOf } from "../../test/sim/whole/kernel/connection.ts";
import { SessionRig } from "../../test/support/session_rig.ts";
import { fsck, haveTool, mkfsImage } from "../../test/support/volume.ts";
import { EX } from "../dlmglue/lock_res.ts";
import * as F from "../format/fuse/index.ts";
import { readFile } from "../vfs/file.ts";
import type { Inode } from "../volume/inode.ts";
import { closeHandle } from "./ops_file.ts";

const PAGE = 4096;
const O_RDWR = 2;
const O_DIRECT = 0o40000;
const ROOT = 0;
const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32) : new Uint8Array(0);

describe.skipIf(image.length === 0)("a WRITE whose page is written back while it waits", () => {
  let rig: SessionRig;
  let data: Uint8Array;
  let inode: Inode;
  let fh: number;
  /** What the kernel was told to drop, and how it says that it has. */
  let dropped: { from: number; to: number }[];
  let gone: (() => void) | undefined;
  /** The kernel has given up all of the file; the lock goes, and comes back, as a WRITE waits for it. */
  let calledBack: (() => void) | undefined;

  beforeEach(() => {
    data = image.slice();
    rig = new SessionRig(data);
    const made = rig.create("f");
    inode = rig.v.osb.inodes.get(made.nodeid);
    rig.v.osb.runTaskSync(rig.v.osb.unshared.shareAll([inode]));
    fh = made.fh;
    [dropped, gone, calledBack] = [[], undefined, undefined];
    rig.v.osb.kernel_caches = {
      invalidate: (of) => (cb) => {
        if (of !== inode) return cb(null);
        Object.assign(inode.meta_lockres!, { gate_shut: true, serving: true });
        calledBack = () => {
          inode.meta_lockres!.serving = false;
          cb(null);
        };
      },
      doubtAttributes() {},
      drop: (_, ranges) => (cb) => {
        dropped.push(...ranges);
        gone = () => cb(null);
      },
      invalidateEntry: () => undefined,
    };
    expect(write("1", 0).reply?.error).toBe(0);
  });

  afterEach(() => {
    closeHandle(rig.session, fh);
    rig.v.osb.kernel_caches = null;
    rig.v.close();
    expect(fsck(data).clean).toBe(true);
  });

  /** Of the first page. */
  function write(letter: string, write_flags: number, flags = O_RDWR) {
    const q = F.FuseWriteIn.alloc();
    [q.fh, q.size, q.flags, q.write_flags] = [fh, PAGE, flags, write_flags];
    const asked = rig.ask(F.FUSE_WRITE, inode.ino, ROOT, bytesOf(q), Buffer.alloc(PAGE, letter));
    rig.settle(() => asked.reply !== undefined);
    return asked;
  }

  /** The first byte of the file. */
  function first(): string {
    const { osb } = rig.v;
    const addr = osb.arena.alloc(PAGE, PAGE);
    let read = -1;
    readFile(osb, inode, { offset: 0, len: PAGE, addr }, (_, n) => (read = n!));
    rig.settle(() => read >= 0);
    return String.fromCharCode(osb.arena.u8[addr]!);
  }

  /** Another node wants the lock: nothing goes on but what the kernel's answer waits for. */
  function callOff(): void {
    inode.meta_lockres!.bast(EX);
    rig.settle(() => calledBack !== undefined);
  }

  test("is not written over what others have written since, and answered when the kernel has dropped its page", () => {
    callOff();
    const late = write("2", 0);
    expect(late.reply).toBeUndefined();
    expect(write("3", F.FUSE_WRITE_CACHE).reply?.error).toBe(0);
    calledBack!();
    rig.settle(() => gone !== undefined);
    expect([late.reply, dropped]).toEqual([undefined, [{ from: 0, to: PAGE }]]);
    gone!();
    rig.settle(() => late.reply !== undefined);
    expect([late.reply?.error, first()]).toEqual([0, "3"]);
  });

  test("is carried out in full where it went past the pages", () => {
    callOff();
    const late = write("2", 0, O_RDWR | O_DIRECT);
    expect(late.reply).toBeUndefined();
    expect(write("3", F.FUSE_WRITE_CACHE).reply?.error).toBe(0);
    calledBack!();
    rig.settle(() => late.reply !== undefined);
    expect([late.reply?.error, dropped, first()]).toEqual([0, [], "2"]);
  });
});
