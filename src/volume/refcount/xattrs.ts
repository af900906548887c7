/**
 * The attributes of a reflink (xattr.c: ocfs2_reflink_xattrs). Each is set anew with the value that the source has: an
 * operation for each, so that thousands of them stay bounded.
 */
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { DYN_FEATURES, XATTR_INDEX } from "../../format/disk/index.ts";
import { type Task, wait } from "../../lib/task.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { type Area, countOf, indexOf, nameOf } from "../xattr/area.ts";
import { getNolock, setNolock } from "../xattr/change.ts";
import type { XattrKey } from "../xattr/name.ts";
import { blockPlace, inlinePlace, isIndexed, readXattrBlock } from "../xattr/place.ts";
import { eachBucket } from "../xattr/tree.ts";

/** What a new file gets from its directory and not from the file that it is a reflink of. */
const NOT_PRESERVED: ReadonlySet<number> = new Set([
  XATTR_INDEX.SECURITY,
  XATTR_INDEX.POSIX_ACL_ACCESS,
  XATTR_INDEX.POSIX_ACL_DEFAULT,
]);

/** All attributes, whatever namespaces the mount's options let be seen. */
function allKeys(op: Op, inode: Inode): XattrKey[] {
  const bh = inodeLock(op, inode, true);
  const keys: XattrKey[] = [];
  if ((dinodeOf(op, bh).i_dyn_features & DYN_FEATURES.HAS_XATTR) === 0) return keys;
  const each = (area: Area): void => {
    for (let i = 0; i < countOf(area); i++) keys.push({ index: indexOf(area, i), name: nameOf(area, i) });
  };
  const inline = inlinePlace(op, bh);
  if (inline !== undefined) each(inline.area);
  const xb_bh = readXattrBlock(op, inode, bh);
  if (xb_bh === undefined) return keys;
  if (isIndexed(op, xb_bh)) eachBucket(op, inode, xb_bh, (place) => each(place.area));
  else each(blockPlace(op, xb_bh).area);
  return keys;
}

/**
 * Gives `dst` the attributes of `src`, as steps with `locks`, both inodes exclusive; without `preserve` no ACLs and no
 * security attributes.
 */
export function* copyXattrs(osb: Osb, src: Inode, dst: Inode, preserve: boolean, locks: LockSet): Task<void> {
  const keys = yield* wait(osb.step((op) => allKeys(op, src), locks));
  for (const key of keys) {
    if (!preserve && NOT_PRESERVED.has(key.index)) continue;
    yield* wait(
      osb.step((op) => {
        const value = getNolock(op, src, inodeLock(op, src, true), key);
        if (value !== undefined) setNolock(op, dst, inodeLock(op, dst, true), key, value);
      }, locks),
    );
  }
}
