/** Extended attributes: GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR. */
import { FEATURE_INCOMPAT } from "../format/disk/index.ts";
import {
  FUSE_COMPAT_SETXATTR_IN_SIZE,
  FUSE_SETXATTR_ACL_KILL_SGID,
  FUSE_SETXATTR_EXT,
  FuseGetxattrIn,
  FuseGetxattrOut,
  FuseSetxattrIn,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import type { Callback } from "../lib/task.ts";
import { type Inode, inodeLock } from "../volume/inode.ts";
import type { Osb } from "../volume/osb.ts";
import { getxattr as get, listxattrBytes, removexattr as remove, setxattr as set } from "../volume/xattr/index.ts";
import type { Session } from "./session.ts";

const CAPABILITY = "security.capability";

/** Answers with a value, or with its size when none is asked for. */
function replyValue(s: Session, unique: number, size: number, value: Uint8Array): void {
  if (size === 0) {
    FuseGetxattrOut.at(s.dv as DataView, s.bodyOut(FuseGetxattrOut.size)).size = value.length;
    s.reply(unique, FuseGetxattrOut.size);
  } else if (value.length > size) s.fail(unique, Errno.ERANGE);
  else {
    s.u8.set(value, s.bodyOut(0));
    s.reply(unique, value.length);
  }
}

export function getxattr(s: Session): void {
  const { size } = FuseGetxattrIn.at(s.dv as DataView, s.body);
  const name = s.nameAt(s.body + FuseGetxattrIn.size);
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => get(op, inode, name),
    (value, unique) => {
      if (value === undefined) s.fail(unique, Errno.ENODATA);
      else replyValue(s, unique, size, value);
    },
  );
}

export function listxattr(s: Session): void {
  const { size } = FuseGetxattrIn.at(s.dv as DataView, s.body);
  const inode = s.inode(s.nodeid);
  // The request does not say who has CAP_SYS_ADMIN; root mostly has.
  const with_trusted = s.uid === 0;
  s.run(
    (op) => listxattrBytes(op, inode, with_trusted),
    (names, unique) => replyValue(s, unique, size, names),
  );
}

export function setxattr(s: Session): void {
  const { unique } = s;
  const ext = (s.init_flags & FUSE_SETXATTR_EXT) !== 0;
  const head = ext ? FuseSetxattrIn.size : FUSE_COMPAT_SETXATTR_IN_SIZE;
  const q = FuseSetxattrIn.at(s.dv as DataView, s.body);
  const { size, flags } = q;
  const kill_sgid = ext && (q.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
  const name = s.nameAt(s.body + head);
  const at = s.body + head + name.length + 1;
  if (s.end - at < size) {
    s.fail(unique, Errno.EINVAL);
    return;
  }
  const value = s.u8.slice(at, at + size);
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => set(op, inode, name, value, flags, { kill_sgid }),
    () => s.replyEmpty(unique),
  );
}

export function removexattr(s: Session): void {
  const name = s.nameAt(s.body);
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => remove(op, inode, name),
    (_, unique) => s.replyEmpty(unique),
  );
}

/**
 * A direct write takes file capabilities away, whoever writes (security_inode_killpriv). Buffered writes need nothing: there
 * the kernel asks for the attribute and removes it itself. Most files have none, so the lock is not taken at EX to look.
 */
export function killCapabilities(osb: Osb, inode: Inode, done: Callback<void>): void {
  if (!osb.incompat(FEATURE_INCOMPAT.XATTR)) {
    done(null);
    return;
  }
  osb.exec(
    (op) => get(op, inode, CAPABILITY) !== undefined,
    (err, has) => {
      if (err || !has) done(err);
      else
        osb.exec((op) => {
          inodeLock(op, inode, true);
          if (get(op, inode, CAPABILITY) !== undefined) remove(op, inode, CAPABILITY);
        }, done);
    },
  );
}
