/**
 * open(2) with O_CREAT of a name that was not there when the kernel looked it up, and is when we do. Between two nodes it is a race
 * (test/cluster/rules.test.ts, "users_create"); here the request is put to a session, as the kernel would send it.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bytesOf } from "../../test/sim/whole/kernel/connection.ts";
import { SessionRig } from "../../test/support/session_rig.ts";
import { fsck, haveTool, mkfsImage, type TestVolume } from "../../test/support/volume.ts";
import { I_ATTR, isDir, isLnk } from "../format/disk/index.ts";
import * as F from "../format/fuse/index.ts";
import { Errno, errnoName } from "../lib/errno.ts";
import { wait } from "../lib/task.ts";
import { setattr } from "../vfs/file.ts";
import * as ns from "../vfs/namespace.ts";
import { dinodeOf, inodeLockModify } from "../volume/inode.ts";
import { closeHandle } from "./ops_file.ts";

const [O_RDONLY, O_WRONLY, O_RDWR] = [0, 1, 2];
const [O_CREAT, O_EXCL, O_TRUNC, O_APPEND] = [0o100, 0o200, 0o1000, 0o2000];
const ALICE = 1000;
const BOB = 1001;
const EX = 5;

const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "1K", "-C", "4K"], 32) : new Uint8Array(0);

describe.skipIf(image.length === 0)("CREATE of a name that another node has made", () => {
  let rig: SessionRig;
  let v: TestVolume;
  let data: Uint8Array;
  /** Of the file that a test makes. */
  let name: Buffer;

  /** What open(2) of the user gets of CREATE: the answer's error, or the inode number and the handle. */
  function create(flags: number, uid: number): string | { ino: number; fh: number; size: number } {
    const q = F.FuseCreateIn.alloc();
    q.flags = flags | O_CREAT;
    q.mode = 0o100644;
    const { error, body } = rig.answerOf(F.FUSE_CREATE, F.FUSE_ROOT_ID, uid, bytesOf(q), name, Buffer.alloc(1));
    if (error !== 0) return errnoName(-error);
    const out = F.FuseEntryOut.from(body);
    return { ino: out.nodeid, fh: F.FuseOpenOut.from(body, F.FuseEntryOut.size).fh, size: out.attr.size };
  }

  const make = (mode: number): number =>
    v.osb.runSync((op) => {
      const [root, cred] = [v.osb.geo.root_blkno, { uid: ALICE, gid: ALICE, umask: 0 }];
      if (isDir(mode)) return ns.mkdir(op, root, name, mode, cred);
      return isLnk(mode) ? ns.symlink(op, root, name, name, cred) : ns.mknod(op, root, name, mode, 0, cred);
    }).ino;
  const chattr = (ino: number, bits: number): void =>
    v.osb.runSync((op) => {
      dinodeOf(op, inodeLockModify(op, v.osb.inodes.get(ino))).i_attr = bits;
    });

  beforeAll(() => {
    data = image.slice();
    rig = new SessionRig(data);
    v = rig.v;
  });

  beforeEach((test) => {
    name = Buffer.from(test.task.id);
  });

  afterEach(() => {
    for (const handle of [...rig.session.handles.values()]) closeHandle(rig.session, handle.fh);
  });

  afterAll(() => {
    v.close();
    expect(fsck(data).clean).toBe(true);
  });

  test("its owner gets it, with the lock at EX when it may be written", () => {
    const ino = make(0o100644);
    expect(create(O_RDWR, ALICE)).toMatchObject({ ino });
    const inode = v.osb.inodes.get(ino);
    expect([inode.meta_lockres!.level, inode.nlookup, inode.writer_count]).toEqual([EX, 1, 1]);
  });

  test("O_TRUNC empties it", () => {
    const ino = make(0o100644);
    v.osb.runTaskSync(wait((cb) => setattr(v.osb, v.osb.inodes.get(ino), { size: 5000 }, cb)));
    expect(create(O_WRONLY, ALICE)).toMatchObject({ ino, size: 5000 });
    expect(create(O_WRONLY | O_TRUNC, ALICE)).toMatchObject({ ino, size: 0 });
  });

  test("O_EXCL fails", () => {
    make(0o100644);
    expect(create(O_RDWR | O_EXCL, ALICE)).toBe("EEXIST");
  });

  // ESTALE: open(2) looks the name up again and checks what it finds itself.
  test.each([
    ["another user's file that nobody else may read", 0o100600, O_RDONLY, BOB],
    ["another user's file that all may write: its groups and ACLs only the kernel knows", 0o100666, O_RDWR, BOB],
    ["root, whose privileges only the kernel knows", 0o100600, O_RDWR, 0],
    ["one's own file that may not be written", 0o100444, O_RDWR, ALICE],
    ["one's own file that may not be emptied", 0o100444, O_RDONLY | O_TRUNC, ALICE],
    ["one's own file that may not be read", 0o100200, O_RDWR, ALICE],
    ["a folder", 0o040755, O_RDONLY, ALICE],
    ["a symlink", 0o120777, O_RDWR, ALICE],
    ["a fifo", 0o010644, O_RDWR, ALICE],
  ])("%s", (_, mode, flags, uid) => {
    make(mode);
    expect(create(flags, uid)).toBe("ESTALE");
    expect(rig.session.handles.count).toBe(0);
  });

  test.each([
    ["immutable, for writing", I_ATTR.IMMUTABLE, O_RDWR, "EPERM"],
    ["append-only, for writing", I_ATTR.APPEND, O_RDWR, "EPERM"],
    ["append-only, to be emptied", I_ATTR.APPEND, O_WRONLY | O_APPEND | O_TRUNC, "EPERM"],
  ])("a file that is %s", (_, bits, flags, expected) => {
    const ino = make(0o100644);
    chattr(ino, bits);
    expect(create(flags, ALICE)).toBe(expected);
    expect([rig.session.handles.count, v.osb.inodes.get(ino).nlookup]).toEqual([0, 0]);
    chattr(ino, 0);
  });

  test("an append-only file, for appending: a write elsewhere is refused", () => {
    const ino = make(0o100644);
    chattr(ino, I_ATTR.APPEND);
    const { fh } = create(O_WRONLY | O_APPEND, ALICE) as { fh: number };
    const q = F.FuseWriteIn.alloc();
    [q.fh, q.size, q.flags] = [fh, 1, O_WRONLY];
    expect(rig.answerOf(F.FUSE_WRITE, ino, ALICE, bytesOf(q), Buffer.from("x")).error).toBe(-Errno.EPERM);
    q.flags |= O_APPEND;
    expect(rig.answerOf(F.FUSE_WRITE, ino, ALICE, bytesOf(q), Buffer.from("x")).error).toBe(0);
    chattr(ino, 0);
  });
});
