/**
 * Puts the parts of a volume together: what lies lower calls what lies beside or above it through hooks, and here they are
 * set, in one place.
 */
import { tryOpenLock } from "./dir/cluster_hooks.ts";
import { dentryLocks } from "./dir/dentry_locks.ts";
import { inode_hooks } from "./dir/inode_hooks.ts";
import { removeClusters } from "./file/truncate.ts";
import "./refcount/index.ts";
import "./xattr/index.ts";

inode_hooks.removeClusters = removeClusters;
inode_hooks.tryOpenLock = tryOpenLock;
inode_hooks.remoteDentryDelete = (op, dir, inode) => dentryLocks(op.osb).remoteDelete(op, dir, inode);
