/** The allocators over the life of a mount: start, stop, and the recovery of a slot whose owner died. */
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import { FsError } from "../../lib/fs_error.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { type Task, wait } from "../../lib/task.ts";
import type { Osb } from "../osb.ts";
import { allocState } from "./alloc_state.ts";
import { hasWindow, returnWindow } from "./localalloc.ts";
import { recordsIn, truncateLogRecover, truncateLogStop } from "./truncate_log.ts";

/**
 * Whether something of a slot must still be returned to the bitmap. A kernel node does not mount into a slot with a window whose journal is clean
 * (ocfs2_load_local_alloc); in one whose journal is dirty it returns the window.
 */
export function* slotHasRemains(osb: Osb, slot: number): Task<boolean> {
  try {
    return yield* wait(osb.step((op) => hasWindow(op, slot) || recordsIn(op, slot) > 0));
  } catch (err) {
    // Nobody knows.
    if (err instanceof FsError) return true;
    throw err;
  }
}

/** What is cached of the slot: another node may have written it, under its journal's lock. */
function forgetSlot(osb: Osb, slot: number): void {
  for (const type of [SYSTEM_INODE.LOCAL_ALLOC, SYSTEM_INODE.TRUNCATE_LOG]) osb.sysfile(type, slot).forget();
}

/** Mount: what an earlier owner of our slot left behind is returned (ocfs2_truncate_log_init, ocfs2_load_local_alloc). */
export function* allocStart(osb: Osb): Task<void> {
  const st = allocState(osb);
  st.stopping = false;
  yield* allocRecoverSlot(osb, osb.slot_num);
}

/** Unmount: the truncate log emptied, the local alloc's window given back (ocfs2_truncate_log_shutdown, ocfs2_shutdown_local_alloc). */
export function* allocStop(osb: Osb): Task<void> {
  yield* truncateLogStop(osb);
  yield* wait(osb.step((op) => returnWindow(op, osb.slot_num)));
}

/**
 * Recovery of a slot, after its journal was replayed: the rest of its local alloc's window and its truncate log
 * return to the bitmap. All in our own journal: the caller flushes it before anybody may take the slot. `isOurs`: false once somebody else sees to it.
 */
export function* allocRecoverSlot(osb: Osb, slot: number, isOurs = () => true): Task<void> {
  forgetSlot(osb, slot);
  if (!(yield* slotHasRemains(osb, slot))) return;
  // Who was at it before us has died, perhaps with it in its journal; to return it twice would free what is somebody else's.
  yield* osb.glue.recovered();
  forgetSlot(osb, slot);
  yield* wait(
    osb.step((op) => {
      if (!isOurs() || !hasWindow(op, slot)) return;
      mlog(ML.ALLOC, `local alloc of slot ${slot}: window returned`);
      returnWindow(op, slot);
      op.onSuccess(() => allocState(osb).steal.clear());
    }),
  );
  yield* truncateLogRecover(osb, slot, isOurs);
}
