/**
 * ACLs of inodes: kept as attributes with numbers of their own, in an encoding without the version that user space's has
 * (acl.c). The access ACL and the mode change together or a chmod would not take effect; a new inode gets its directory's
 * default ACL.
 *
 * FUSE: with POSIX ACLs switched on the kernel checks them and leaves to us what is here: mode from ACL, ACL from mode, and
 * inheritance. Creating requests must then come with the umask apart (FUSE_DONT_MASK), for a default ACL replaces it.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { isDir, isLnk, S_ISGID, XATTR_INDEX } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { getNolock, setNolock } from "./change.ts";
import { hasXattr, type XattrKey } from "./name.ts";
import {
  type Acl,
  aclFromDisk,
  aclFromXattr,
  aclToDisk,
  aclToXattr,
  checkAcl,
  chmodAclEntries,
  equivMode,
  inheritAcl,
} from "./posix_acl.ts";

export type AclType = "access" | "default";

const NO_NAME = new Uint8Array(0);
const KEYS: Readonly<Record<AclType, XattrKey>> = {
  access: { index: XATTR_INDEX.POSIX_ACL_ACCESS, name: NO_NAME },
  default: { index: XATTR_INDEX.POSIX_ACL_DEFAULT, name: NO_NAME },
};

/** Whether the volume and the mount have ACLs. */
const aclsEnabled = (osb: Osb): boolean => osb.options.acl && hasXattr(osb);

/** An ACL of an inode whose lock is held, null when it has none (ocfs2_get_acl_nolock). */
export function readAcl(op: Op, inode: Inode, di_bh: Bh, type: AclType): Acl | null {
  const bytes = getNolock(op, inode, di_bh, KEYS[type]);
  return bytes === undefined ? null : aclFromDisk(bytes, inode.ino);
}

/** An ACL of an inode, null when it has none or the mount has ACLs switched off (ocfs2_iop_get_acl). */
export function getAcl(op: Op, inode: Inode, type: AclType): Acl | null {
  return aclsEnabled(op.osb) ? readAcl(op, inode, inodeLock(op, inode), type) : null;
}

/** The value of system.posix_acl_access or _default (posix_acl_xattr_get). */
export function getAclXattr(op: Op, inode: Inode, di_bh: Bh, type: AclType): Uint8Array | undefined {
  refuseLink(dinodeOf(op, di_bh).i_mode, "acl.get");
  const acl = readAcl(op, inode, di_bh, type);
  return acl === null ? undefined : aclToXattr(acl);
}

function refuseLink(mode: number, where: string): void {
  if (isLnk(mode)) throw new FsError(Errno.EOPNOTSUPP, where, { found: "a symbolic link" });
}

/** Sets (or, for null, removes) an ACL from the value of a system.posix_acl_* attribute (set_posix_acl). */
export function setAclXattr(
  op: Op,
  inode: Inode,
  di_bh: Bh,
  type: AclType,
  value: Uint8Array | null,
  kill_sgid: boolean,
): void {
  setAclLocked(op, inode, di_bh, type, value === null ? null : aclFromXattr(value), kill_sgid);
}

/**
 * Sets or removes an ACL (ocfs2_iop_set_acl). The access ACL sets the mode too, and is not stored when the mode says it
 * all. EINVAL: not an ACL; EACCES: a default ACL for what is no directory; EOPNOTSUPP: a link, or no ACLs here.
 * `kill_sgid`: the caller is not in the file's group and may not keep the set-group-ID bit.
 */
export function setAcl(op: Op, inode: Inode, type: AclType, acl: Acl | null, kill_sgid = false): void {
  if (!aclsEnabled(op.osb)) throw new FsError(Errno.EOPNOTSUPP, "acl.set", { ino: inode.ino });
  setAclLocked(op, inode, inodeLock(op, inode, true), type, acl, kill_sgid);
}

function setAclLocked(op: Op, inode: Inode, di_bh: Bh, type: AclType, acl: Acl | null, kill_sgid: boolean): void {
  const { i_mode } = dinodeOf(op, di_bh);
  refuseLink(i_mode, "acl.set");
  if (type === "default" && !isDir(i_mode)) {
    if (acl !== null) throw new FsError(Errno.EACCES, "acl.set", { ino: inode.ino, found: "no directory" });
    return;
  }
  if (acl !== null) checkAcl(acl);
  let stored = acl;
  if (type === "access" && acl !== null) {
    const { mode, whole } = equivMode(acl, i_mode);
    setMode(op, inode, di_bh, kill_sgid ? mode & ~S_ISGID : mode);
    if (whole) stored = null;
  }
  writeAcl(op, inode, di_bh, type, stored);
}

const writeAcl = (op: Op, inode: Inode, di_bh: Bh, type: AclType, acl: Acl | null): void =>
  setNolock(op, inode, di_bh, KEYS[type], acl === null ? null : aclToDisk(acl));

/** ocfs2_acl_set_mode */
function setMode(op: Op, inode: Inode, di_bh: Bh, mode: number): void {
  op.modify(di_bh);
  const di = dinodeOf(op, di_bh);
  di.i_mode = mode;
  di.i_ctime = op.now.sec;
  di.i_ctime_nsec = op.now.nsec;
  inodeChanged(op, inode, false);
}

/**
 * Makes the access ACL agree with the mode that chmod has just put into the dinode, whose lock is held at EX
 * (ocfs2_acl_chmod). Does nothing for an inode without an ACL.
 */
export function chmodAcl(op: Op, inode: Inode): void {
  const di_bh = readDinode(op, inode);
  const { i_mode } = dinodeOf(op, di_bh);
  if (isLnk(i_mode) || !aclsEnabled(op.osb)) return;
  const acl = readAcl(op, inode, di_bh, "access");
  if (acl !== null) writeAcl(op, inode, di_bh, "access", chmodAclEntries(acl, i_mode));
}

/** What a new inode's mode and ACLs will be (struct ocfs2_acl_state). */
export interface AclState {
  readonly mode: number;
  readonly acl: Acl | null;
  readonly default_acl: Acl | null;
}

/**
 * Mode and ACLs of an inode about to be made in `dir`, whose lock is held. `mode` is what was asked for, not yet masked;
 * the umask counts only where the directory has no default ACL (ocfs2_acl_init_prepare).
 */
export function prepareAcl(op: Op, dir: Inode, mode: number, umask: number): AclState {
  const none = { acl: null, default_acl: null };
  if (isLnk(mode)) return { mode, ...none };
  const default_acl = aclsEnabled(op.osb) ? readAcl(op, dir, readDinode(op, dir), "default") : null;
  if (default_acl === null) return { mode: mode & ~(umask & 0o777), ...none };
  return { ...inheritAcl(default_acl, mode), default_acl: isDir(mode) ? default_acl : null };
}

/** Gives a new inode, whose dinode is in this operation and locked, its mode and ACLs (ocfs2_init_acl). */
export function initAcl(op: Op, inode: Inode, state: AclState): void {
  const di_bh = readDinode(op, inode);
  if (state.default_acl !== null) writeAcl(op, inode, di_bh, "default", state.default_acl);
  if (dinodeOf(op, di_bh).i_mode !== state.mode) setMode(op, inode, di_bh, state.mode);
  if (state.acl !== null) writeAcl(op, inode, di_bh, "access", state.acl);
}

/**
 * For namei's create: a new inode under a directory with a default ACL gets its ACLs; returns its mode. undefined when there
 * is no default ACL, and the umask applies.
 */
export function inheritAclHook(
  op: Op,
  dir: Inode,
  dir_bh: Bh,
  inode: Inode,
  _di_bh: Bh,
  mode: number,
): number | undefined {
  if (!aclsEnabled(op.osb) || readAcl(op, dir, dir_bh, "default") === null) return undefined;
  const state = prepareAcl(op, dir, mode, 0);
  initAcl(op, inode, state);
  return state.mode;
}
