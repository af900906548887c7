/**
 * Extended attributes as setxattr(2) and its siblings see them (xattr.c: ocfs2_xattr_get, ocfs2_xattr_set,
 * ocfs2_listxattr). Names come with their namespace. The two POSIX ACLs are attributes too; acl.ts translates them.
 *
 * Who may do what is the VFS's question and answered above. Two of its rules are answered here, because only the disk
 * knows: an immutable or append-only inode keeps its attributes.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { DYN_FEATURES, I_ATTR, isDir, isLnk, isReg, XATTR_INDEX } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { einval, FsError } from "../../lib/fs_error.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import { type AclType, getAclXattr, setAclXattr } from "./acl.ts";
import { type Area, countOf, indexOf, nameOf } from "./area.ts";
import { getNolock, setNolock } from "./change.ts";
import {
  hasXattr,
  isAclIndex,
  keyText,
  namespaceEnabled,
  parseName,
  prefixOf,
  requireXattr,
  XATTR_CREATE,
  XATTR_REPLACE,
  XATTR_SIZE_MAX,
  type XattrKey,
  type XattrName,
} from "./name.ts";
import { blockPlace, inlinePlace, isIndexed, readXattrBlock } from "./place.ts";
import { eachBucket } from "./tree.ts";

const aclTypeOf = (index: number): AclType => (index === XATTR_INDEX.POSIX_ACL_ACCESS ? "access" : "default");

/**
 * The value of an attribute, undefined when the inode has none of that name (ENODATA to the user). ACLs come in the format of
 * posix_acl_xattr.h. ERANGE, EINVAL, EOPNOTSUPP for names as parseName has it.
 */
export function getxattr(op: Op, inode: Inode, name: XattrName): Uint8Array | undefined {
  const key = parseName(op.osb, name);
  const di_bh = inodeLock(op, inode);
  return isAclIndex(key.index) ? getAclXattr(op, inode, di_bh, aclTypeOf(key.index)) : getNolock(op, inode, di_bh, key);
}

export interface SetxattrOptions {
  /** FUSE_SETXATTR_ACL_KILL_SGID: setting the access ACL clears the set-group-ID bit. */
  readonly kill_sgid?: boolean;
}

/**
 * Sets an attribute. With XATTR_CREATE it must not be there (EEXIST), with XATTR_REPLACE it must (ENODATA). E2BIG: more
 * than 64 KiB; ENOSPC; EPERM: immutable or append-only inode; EROFS. Setting the access ACL sets the mode.
 */
export function setxattr(
  op: Op,
  inode: Inode,
  name: XattrName,
  value: Uint8Array,
  flags = 0,
  options: SetxattrOptions = {},
): void {
  const key = parseName(op.osb, name);
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw einval("xattr.set", { flags });
  if (value.length > XATTR_SIZE_MAX) throw new FsError(Errno.E2BIG, "xattr.set", { len: value.length });
  const di_bh = inodeLock(op, inode, true);
  checkMayChange(op, di_bh);
  if (isAclIndex(key.index)) setAclXattr(op, inode, di_bh, aclTypeOf(key.index), value, options.kill_sgid ?? false);
  else setNolock(op, inode, di_bh, key, value, flags);
}

/** Removes an attribute; ENODATA when there is none. Removing an ACL that is not there is no error, as in the kernel. */
export function removexattr(op: Op, inode: Inode, name: XattrName): void {
  const key = parseName(op.osb, name);
  const di_bh = inodeLock(op, inode, true);
  checkMayChange(op, di_bh);
  if (isAclIndex(key.index)) setAclXattr(op, inode, di_bh, aclTypeOf(key.index), null, false);
  else setNolock(op, inode, di_bh, key, null, XATTR_REPLACE);
}

function checkMayChange(op: Op, di_bh: Bh): void {
  if ((dinodeOf(op, di_bh).i_attr & (I_ATTR.IMMUTABLE | I_ATTR.APPEND)) !== 0)
    throw new FsError(Errno.EPERM, "xattr.set", { ino: di_bh.blkno, found: "immutable or append-only" });
}

/** The names of all attributes of an inode whose lock is held. */
export function keysOf(op: Op, inode: Inode, di_bh: Bh): XattrKey[] {
  const keys: XattrKey[] = [];
  if ((dinodeOf(op, di_bh).i_dyn_features & DYN_FEATURES.HAS_XATTR) === 0) return keys;
  const each = (area: Area): void => {
    for (let i = 0; i < countOf(area); i++) keys.push({ index: indexOf(area, i), name: nameOf(area, i) });
  };
  const inline = inlinePlace(op, di_bh);
  if (inline !== undefined) each(inline.area);
  const xb_bh = readXattrBlock(op, inode, di_bh);
  if (xb_bh === undefined) return keys;
  if (isIndexed(op, xb_bh)) eachBucket(op, inode, xb_bh, (place) => each(place.area));
  else each(blockPlace(op, xb_bh).area);
  return keys;
}

/**
 * Those that have a namespace and that the mount's options let be seen (ocfs2_xattr_list_entry), and a name that can be asked for. Linux 6.1 can
 * leave a name in a bucket under the value of another attribute; FUSE would refuse the whole list for a NUL in it.
 */
function visibleKeys(op: Op, inode: Inode): XattrKey[] {
  const bh = inodeLock(op, inode);
  // The kernel lists nothing of devices, FIFOs and sockets (ocfs2_special_file_iops), and so finds nothing to refuse there.
  const { i_mode } = dinodeOf(op, bh);
  if (!hasXattr(op.osb) && !isReg(i_mode) && !isDir(i_mode) && !isLnk(i_mode)) return [];
  requireXattr(op.osb);
  return keysOf(op, inode, bh).filter(
    ({ index, name }) => prefixOf(index) !== undefined && namespaceEnabled(op.osb, index) && !name.includes(0),
  );
}

/** The names of all attributes. Whoever answers a user without CAP_SYS_ADMIN leaves out "trusted.". */
export const listxattr = (op: Op, inode: Inode): string[] => visibleKeys(op, inode).map(keyText);

/** The names as listxattr(2) has them, a NUL behind each: exact for names that are not UTF-8. */
export function listxattrBytes(op: Op, inode: Inode, with_trusted = true): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { index, name } of visibleKeys(op, inode))
    if (with_trusted || index !== XATTR_INDEX.TRUSTED) parts.push(prefixOf(index)!, name, new Uint8Array(1));
  return Buffer.concat(parts);
}
