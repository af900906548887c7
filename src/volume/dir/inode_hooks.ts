/**
 * What making and wiping an inode needs of parts that lie beside or above directories: attributes, refcount trees, file
 * data, other nodes. Each part puts its functions in here when it is loaded; so nothing here imports them.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { DYN_FEATURES } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

export interface InodeHooks {
  /**
   * The new inode gets the ACLs that its directory's default ACL says (ocfs2_init_acl). Returns the mode it shall have; undefined
   * when the directory has no default ACL: then the umask applies. `mode` is what the caller asked for.
   */
  inheritAcl(op: Op, dir: Inode, dir_bh: Bh, inode: Inode, di_bh: Bh, mode: number): number | undefined;
  /** Frees all attributes outside of the dinode, as steps with `locks`, the inode exclusive (ocfs2_xattr_remove). */
  removeXattrs(osb: Osb, inode: Inode, locks: LockSet): Task<void>;
  /** Leaves the refcount tree, and frees it after its last user (ocfs2_remove_refcount_tree). */
  removeRefcountTree(osb: Osb, inode: Inode, locks: LockSet): Task<void>;
  /** Unmaps and frees clusters [cpos, end) of the file, as steps with `locks`, the inode exclusive. */
  removeClusters(osb: Osb, inode: Inode, cpos: number, end: number, locks: LockSet): Task<void>;
  /** True when no other node has the inode open: its open lock was got at EX without waiting (ocfs2_try_open_lock). */
  tryOpenLock(op: Op, inode: Inode): boolean;
  /**
   * Other nodes must forget what they know of this name before it changes (ocfs2_remote_dentry_delete): the place for
   * dentry locks. Called under the locks of directory and inode, before the first change.
   */
  remoteDentryDelete(op: Op, dir: Inode, inode: Inode): void;
}

const missing = (what: string, ino: number): never => {
  throw new FsError(Errno.EOPNOTSUPP, "inode_hooks", { ino, missing: what });
};

/** Until a part is loaded: nothing to do where nothing can be, an error where something would be left behind. */
export const inode_hooks: InodeHooks = {
  inheritAcl: () => undefined,
  *removeXattrs(osb, inode, locks) {
    const has = yield* wait(
      osb.step((op) => (dinodeOf(op, inodeLock(op, inode, true)).i_xattr_loc !== 0 ? "xattr" : ""), locks),
    );
    if (has !== "") missing(has, inode.ino);
  },
  *removeRefcountTree(osb, inode, locks) {
    const dyn = yield* wait(osb.step((op) => dinodeOf(op, inodeLock(op, inode, true)).i_dyn_features, locks));
    if ((dyn & DYN_FEATURES.HAS_REFCOUNT) !== 0) missing("refcount tree", inode.ino);
  },
  // biome-ignore lint/correctness/useYield: a task that only fails
  *removeClusters(_osb, inode) {
    missing("removeClusters", inode.ino);
  },
  tryOpenLock: () => true,
  remoteDentryDelete() {},
};
