/**
 * The attributes of one inode for another: a reflink's (ocfs2_reflink_xattrs). The kernel lets both share the clusters of long
 * values; we copy them. They are few and short beside file data, and a value that is set anew would lose its sharing anyway.
 */
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { XATTR_INDEX } from "../../format/disk/index.ts";
import { type Task, wait } from "../../lib/task.ts";
import { type Inode, inodeLock } from "../inode.ts";
import type { Osb } from "../osb.ts";
import { getNolock, setNolock } from "./change.ts";
import { isAclIndex, type XattrKey } from "./name.ts";
import { keysOf } from "./xattr.ts";

/**
 * Gives `dst` the attributes of `src`, one operation each; without `preserve` no ACLs and no security attributes. `locks`
 * keeps others off both inodes.
 */
export function* copyXattrs(osb: Osb, src: Inode, dst: Inode, preserve: boolean, locks: LockSet): Task<void> {
  const keys = yield* wait(osb.step((op) => keysOf(op, src, inodeLock(op, src, true)), locks));
  const wanted = (key: XattrKey): boolean => preserve || !(isAclIndex(key.index) || key.index === XATTR_INDEX.SECURITY);
  for (const key of keys.filter(wanted))
    yield* wait(
      osb.step((op) => {
        const value = getNolock(op, src, inodeLock(op, src, true), key);
        if (value !== undefined) setNolock(op, dst, inodeLock(op, dst, true), key, value);
      }, locks),
    );
}
