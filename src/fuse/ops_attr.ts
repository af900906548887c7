/** Attributes: GETATTR, STATX, SETATTR, READLINK. */
import { LockSet } from "../dlmglue/lock_set.ts";
import { S_ISGID, S_ISUID } from "../format/disk/index.ts";
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

const S_IXGRP = 0o010;

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

/** What is left of a mode when somebody without CAP_FSETID changes the contents or the owner (setattr_should_drop_suidgid). */
export function withoutSuid(mode: number): number {
  let left = mode & ~S_ISUID;
  if ((mode & S_IXGRP) !== 0) left &= ~S_ISGID;
  return left;
}

/** As `setattr` of vfs, and clears setuid and setgid with it. */
export function changeAttr(
  s: Session,
  inode: Inode,
  changes: AttrChanges,
  kill_suid: boolean,
  ok: (attr: Attr) => void,
  failed: (err: unknown) => void,
): void {
  const { osb } = s;
  const answered = changes.size === undefined ? (): void => {} : s.pages.serve(inode.ino);
  const go = (all: AttrChanges): void =>
    setattrOf(osb, inode, all, (err, attr) => {
      answered();
      if (err) failed(err);
      else ok(attr!);
    });
  if (!kill_suid) {
    go(changes);
    return;
  }
  const locks = new LockSet();
  locks.exempt = changes.size !== undefined;
  osb.exec(
    (op) => getattrOf(op, inode).mode,
    (err, was) => {
      locks.releaseAll();
      if (err) {
        answered();
        failed(err);
        return;
      }
      const mode = changes.mode ?? was!;
      go(withoutSuid(mode) === mode ? changes : { ...changes, mode: withoutSuid(mode) });
    },
    locks,
  );
}

/** A time of the request. Seconds beyond what a number holds exactly (in 285 million years) are cut there. */
const time = (sec: number, nsec: number): Timestamp => ({
  sec: Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, sec)),
  nsec,
});

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
  // The times of what its writeback cache took in before.
  if (s.policy.writeback_cache && (valid & ~FATTR_FH) === (FATTR_MTIME | FATTR_CTIME)) changes.kernels_own = true;
  changeAttr(
    s,
    inode,
    changes,
    (valid & FATTR_KILL_SUIDGID) !== 0,
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
