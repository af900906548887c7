/**
 * What each cluster lock of an inode does when it is given up (dlmglue.c: ocfs2_inode_lops, ocfs2_data_convert_worker;
 * docs/LOCKING.md). The order is the rule: kernel caches, data, journal, log emptied, then the convert.
 */
import type { GlueOps } from "../dlmglue/dlmglue.ts";
import { EX, type LockLevel, type LockRes, PR } from "../dlmglue/lock_res.ts";
import { type Task, type Thunk, wait } from "../lib/task.ts";
import type { Inode } from "./inode.ts";
import type { Osb } from "./osb.ts";

/** Set by the mount: the kernel's caches behind FUSE. */
export interface KernelCaches {
  /**
   * Drops what the kernel caches of the inode (`to` NL) or only may no longer write (`to` PR). Answers when the last
   * notification has returned. The gate is shut meanwhile, but for what the notifications wait for.
   */
  invalidate(inode: Inode, to: LockLevel): Thunk<void>;
}

export function glueOps(osb: () => Osb): GlueOps {
  return {
    meta: {
      letter: "M",
      *downconvert(res: LockRes, to: LockLevel): Task<void> {
        const o = osb();
        const inode = res.data as Inode;
        if (o.kernel_caches !== null) {
          // Rule 4: what the notifications wait for is served until the last of them has returned.
          yield* wait(o.kernel_caches.invalidate(inode, to));
          yield* wait<void>((cb) => res.whenIdle(to, () => cb(null)));
          res.gate_shut = true;
        }
        // What goes straight between the disk and a request was planned under the lock, and ends under it.
        while (inode.io_in_flight > 0) yield* wait<void>((cb) => inode.io_idle.add(() => cb(null)));
        if (res.level === EX) {
          if (inode.dirty_pages > 0 || inode.pages_in_flight > 0) yield* wait(o.data.flushOwner(inode));
          yield* wait(o.journal.flush);
        }
        if (to < PR) {
          inode.epoch++;
          inode.dropCaches();
          o.cache.purge(inode);
          o.data.dropOwner(inode);
        }
      },
    },
    rw: { letter: "W" },
    open: { letter: "O" },
    rename: { letter: "R" },
    super: { letter: "S" },
  };
}
