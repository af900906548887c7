/**
 * What each cluster lock of an inode does when it is given up (dlmglue.c: ocfs2_inode_lops, ocfs2_data_convert_worker;
 * docs/LOCKING.md). The order is the rule: kernel caches, data, journal, log emptied, LVB, then the convert.
 */
import type { GlueOps } from "../dlmglue/dlmglue.ts";
import { EX, LOCK_TYPES, type LockLevel, type LockRes, NL, PR } from "../dlmglue/lock_res.ts";
import { all, asThunk, type Task, type Thunk, wait } from "../lib/task.ts";
import { lookIfUnused } from "./dir/wipe.ts";
import type { Inode } from "./inode.ts";
import { lvbIsTrustable, stuffMetaLvb } from "./meta_lvb.ts";
import type { Osb } from "./osb.ts";

/** Set by the mount: the kernel's caches behind FUSE. */
export interface KernelCaches {
  /**
   * Drops what the kernel caches of the inode (`to` NL) or only may no longer write (`to` PR). Answers when the last
   * notification has returned. The gate is shut meanwhile, but for what the notifications wait for.
   */
  invalidate(inode: Inode, to: LockLevel): Thunk<void>;
  /** What the kernel takes for the inode's attributes may be old: it asks again. */
  doubtAttributes(inode: Inode): void;
  /** What the kernel keeps in these bytes of a file is not what the file has: it goes. Answers when it is gone. */
  drop(inode: Inode, ranges: readonly { readonly from: number; readonly to: number }[]): Thunk<void>;
  /**
   * Nobody has these open, and there are too many inodes: the kernel forgets those of them that it has no other use for, and says so. Answers when
   * it has been asked; waits for nothing that others wait for.
   */
  forget?(inodes: readonly Inode[]): Thunk<void>;
  /**
   * Another node is about to change the name that leads to `ino` in directory `parent`: the kernel must forget it. Waits for
   * nothing (docs/LOCKING.md, "Names").
   */
  invalidateEntry?(parent: number, ino: number): void;
}

/** I/O that goes past the caches has ended: what comes later waits at the gate. */
function* ioIdle(osb: Osb, inode: Inode): Task<void> {
  if (osb.sabotage.has("io_drain")) return;
  while (inode.io_in_flight > 0) yield* wait<void>((cb) => inode.io_idle.add(() => osb.ready(() => cb(null))));
}

/** The inode's data is on the device, and nothing of what was changed until now is left in the log. */
function* writeBack(o: Osb, inode: Inode): Task<void> {
  const works: Thunk<void>[] = [o.journal!.flush];
  if (inode.dirty_pages > 0 || inode.pages_in_flight > 0) works.push(o.data.flushOwner(inode, o.options.barrier));
  yield* all(works);
}

function* metaDownconvert(o: Osb, res: LockRes, to: LockLevel): Task<void> {
  const inode = res.data as Inode;
  const dirty = res.level === EX && o.journal !== undefined;
  if (res.level === EX && !o.sabotage.has("unshared")) yield* o.unshared.coverGoes(inode);
  yield* ioIdle(o, inode);
  if (o.kernel_caches !== null) {
    // Rule 4: what the notifications wait for is served until the last of them has returned.
    // What is dirty already is written meanwhile: most often nothing is left to write afterwards.
    const meanwhile = dirty ? [asThunk(() => writeBack(o, inode))] : [];
    yield* all<void>([o.kernel_caches.invalidate(inode, to), ...meanwhile]);
    yield* wait<void>((cb) => res.whenIdle(to, () => cb(null)));
    res.gate_shut = true;
    yield* ioIdle(o, inode);
  }
  if (dirty) {
    yield* writeBack(o, inode);
    stuffMetaLvb(o, inode, res);
  }
  if (to >= PR) return;
  // Whoever uses it last, here or there, deletes it then.
  inode.orphaned = false;
  // Without a user nobody here keeps others from deleting it. Before the convert: who deletes tries the open lock next.
  if (!inode.inUse && inode.task_count === 0) yield* o.glue.giveUpTask(inode.open_lockres);
  if (inode.inUse || (inode.open_lockres !== null && inode.open_lockres.level > NL)) inode.maybe_orphaned = true;
  inode.lvb_fresh = false;
  if (o.sabotage.has("epoch")) return;
  inode.epoch++;
  inode.dropCaches();
  o.cache.purge(inode);
  o.data.dropOwner(inode);
}

export function glueOps(osb: () => Osb): GlueOps {
  return {
    meta: {
      ...LOCK_TYPES.meta,
      downconvert: (res, to) => metaDownconvert(osb(), res, to),
      granted(res) {
        const inode = res.data as Inode;
        inode.lvb_fresh = true;
        inode.others_wrote = osb().glue.domain.clustered;
        if (!lvbIsTrustable(inode, res)) osb().glue.stats.refreshed(res.stats);
      },
    },
    rw: LOCK_TYPES.rw,
    open: {
      ...LOCK_TYPES.open,
      // Kept for as long as the inode is in use: who wants to delete it only tries for EX. Who uses it as well waits for PR, so EX, which an attempt to
      // delete what had the block before has left, goes.
      keeps: (res) => ((res.data as Inode).inUse || (res.data as Inode).pins > 0 ? PR : NL),
      // Who tries for it before we have the meta lock, too, is refused and leaves the deletion to us.
      granted(res) {
        if (res.level === PR) (res.data as Inode).maybe_orphaned = true;
      },
      idle: (res) => lookIfUnused(osb(), res.data as Inode),
    },
  };
}
