/**
 * What writing and freeing need of refcounted extents; refcounttree sets these when it is loaded (the import goes up otherwise).
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";

export interface CowHooks {
  /**
   * Gives the file clusters of its own for some or all of [cpos, cpos + clusters), at least the first, with the old
   * contents but for bytes [keep_from, keep_to), which will be written whole. Joins the pages it copies to the data cache.
   */
  refcountCow(
    op: Op,
    inode: Inode,
    di_bh: Bh,
    cpos: number,
    clusters: number,
    keep_from: number,
    keep_to: number,
  ): void;
  /**
   * How many of these shared clusters of one record, at least one, may be given to `freeRefcounted` in one operation: each may have
   * a count of its own, and so need a record of its own in the truncate log.
   */
  refcountedRun(op: Op, inode: Inode, di_bh: Bh, p_cluster: number, clusters: number): number;
  /** Frees clusters that may be shared: counts down, and frees those that nobody else has. */
  freeRefcounted(op: Op, inode: Inode, di_bh: Bh, p_cluster: number, clusters: number): void;
  /** A file that has nothing left that could be shared leaves its tree, and so may join another one. */
  tryLeave(op: Op, inode: Inode, di_bh: Bh): void;
}

const missing = (): never => {
  throw new FsError(Errno.EOPNOTSUPP, "refcount", { found: "refcount trees are not loaded" });
};

export const cow_hooks: CowHooks = {
  refcountCow: missing,
  refcountedRun: missing,
  freeRefcounted: missing,
  tryLeave: () => {},
};
