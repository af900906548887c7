/**
 * Values whose clusters are shared with reflinked files. Reading needs nothing; giving a shared cluster up lowers its count
 * in the refcount tree, which is the refcount code's work: it sets this hook when it is loaded.
 */
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";

export interface XattrRefcountHook {
  /** Takes the lock of the inode's refcount tree at EX: called after the inode's, before any allocator's. */
  lock(op: Op, inode: Inode): void;
  /** The inode no longer refers to these clusters: counts go down, what falls to none is freed (ocfs2_decrease_refcount). */
  decrease(op: Op, inode: Inode, p_cluster: number, clusters: number): void;
}

let hook: XattrRefcountHook | null = null;

export function setXattrRefcountHook(h: XattrRefcountHook | null): void {
  hook = h;
}

/** Throws EOPNOTSUPP while there is no refcount code. */
export function refcountHook(inode: Inode): XattrRefcountHook {
  if (hook === null)
    throw new FsError(Errno.EOPNOTSUPP, "xattr.refcount", {
      ino: inode.ino,
      found: "a value shared with reflinked files, but refcount trees are not loaded",
    });
  return hook;
}
