/** Refcount trees: loading this file makes shared extents writable, wipeable and shareable (refcounttree.c). */
import { wait } from "../../lib/task.ts";
import { inode_hooks } from "../dir/inode_hooks.ts";
import { cow_hooks } from "../file/refcount_hooks.ts";
import { inodeLock } from "../inode.ts";
import { freeRefcounted, refcountCow, refcountedRun, tryLeave } from "./cow.ts";
import { leaveRefcountTree } from "./tree.ts";

export { type SharedRange, shareRangeTask } from "./range.ts";
export { type ReflinkOptions, reflinkTask } from "./reflink.ts";

cow_hooks.refcountCow = refcountCow;
cow_hooks.refcountedRun = refcountedRun;
cow_hooks.freeRefcounted = freeRefcounted;
cow_hooks.tryLeave = tryLeave;

inode_hooks.removeRefcountTree = function* (osb, inode, locks) {
  yield* wait(osb.step((op) => leaveRefcountTree(op, inode, inodeLock(op, inode, true)), locks));
};
