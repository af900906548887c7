/** Attributes: GETATTR, STATX, SETATTR, READLINK. */
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FuseSetattrIn,
} from "../format/fuse/index.ts";
import { type AttrChanges, setattr as setattrOf, type Timestamp } from "../vfs/file.ts";
import { type Attr, getattr as getattrOf } from "../volume/dir/attr.ts";
import { readlink as readlinkOf } from "../volume/dir/symlink.ts";
import type { Inode } from "../volume/inode.ts";
import { replyAttr, replyStatx } from "./reply.ts";
import type { Session } from "./session.ts";

export function getattr(s: Session): void {
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => getattrOf(op, inode),
    (attr, unique) => replyAttr(s, unique, attr),
  );
}

export function statx(s: Session): void {
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => getattrOf(op, inode),
    (attr, unique) => replyStatx(s, unique, attr),
  );
}

/** `setattr` of vfs. */
export function changeAttr(
  s: Session,
  inode: Inode,
  changes: AttrChanges,
  ok: (attr: Attr) => void,
  failed: (err: unknown) => void,
): void {
  const answered = changes.size === undefined ? (): void => {} : s.pages.serve(inode.ino);
  setattrOf(s.osb, inode, changes, (err, attr) => {
    answered();
    if (err) failed(err);
    else ok(attr!);
  });
}

/**
 * A SETATTR that sets nothing is chown(-1, -1), which takes setuid and setgid away as every chown does. But it may as well come before a write by
 * who may not give setuid, and takes them away by itself. So only root's and the owner's is a chown.
 */
function setNothing(s: Session, inode: Inode): void {
  const { uid } = s;
  const kill_suid = s.callersGroups();
  s.run(
    (op) => getattrOf(op, inode),
    (was, unique) => {
      const ok = (attr: Attr): void => replyAttr(s, unique, attr, true);
      if (uid !== 0 && uid !== was.uid) ok(was);
      else changeAttr(s, inode, { kill_suid }, ok, (err) => s.error(unique, err));
    },
  );
}

const time = (sec: number, nsec: number): Timestamp => ({ sec, nsec });

export function setattr(s: Session): void {
  const { unique } = s;
  const inode = s.inode(s.nodeid);
  const q = FuseSetattrIn.at(s.dv as DataView, s.body);
  const { valid } = q;
  const changes: { -readonly [K in keyof AttrChanges]: AttrChanges[K] } = {};
  if (valid & FATTR_MODE) changes.mode = q.mode & 0o7777;
  if (valid & FATTR_UID) changes.uid = q.uid;
  if (valid & FATTR_GID) changes.gid = q.gid;
  if (valid & FATTR_SIZE) changes.size = q.size;
  if (valid & FATTR_ATIME) changes.atime = valid & FATTR_ATIME_NOW ? "now" : time(q.atime, q.atimensec);
  if (valid & FATTR_MTIME) changes.mtime = valid & FATTR_MTIME_NOW ? "now" : time(q.mtime, q.mtimensec);
  if (valid & FATTR_CTIME) changes.ctime = time(q.ctime, q.ctimensec);
  if (valid & FATTR_KILL_SUIDGID) changes.kill_suid = s.callersGroups();
  if ((valid & ~FATTR_FH) === 0) {
    setNothing(s, inode);
    return;
  }
  // The times of what its writeback cache took in before.
  if (s.policy.writeback_cache && (valid & ~FATTR_FH) === (FATTR_MTIME | FATTR_CTIME)) changes.kernels_own = true;
  changeAttr(
    s,
    inode,
    changes,
    (attr) => replyAttr(s, unique, attr, true),
    (err) => s.error(unique, err),
  );
}

export function readlink(s: Session): void {
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => readlinkOf(op, inode),
    (target, unique) => {
      s.u8.set(target, s.bodyOut(0));
      s.reply(unique, target.length);
    },
  );
}
