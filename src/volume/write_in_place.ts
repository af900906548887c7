/**
 * Writes of metadata that the journal does not cover: the slot map, and the journal inodes' own dirty flags
 * (ocfs2_write_block). Durable when they return.
 */
import { type Bh, NO_TID } from "../block/buffer_cache.ts";
import { deviceFlush, deviceWrite } from "../block/device.ts";
import { FEATURE_INCOMPAT } from "../format/disk/index.ts";
import { assert } from "../lib/fs_error.ts";
import type { Task } from "../lib/task.ts";
import { waitOn } from "../lib/wait.ts";
import type { Osb } from "./osb.ts";

/** Before a block is changed that may be on its way to the disk: two writes of it at a time arrive in any order. Throws Wait. */
export function waitForWriteInPlace(bh: Bh): void {
  if (bh.reading) waitOn(bh.waiters);
}

/** The caller changed `bh` in the same turn; nothing else changes it until this returns. */
export function* writeBlockInPlace(osb: Osb, bh: Bh): Task<void> {
  assert(!bh.in_running && bh.checkpoint_tid === NO_TID, `block ${bh.blkno} belongs to the journal`);
  const bytes = osb.geo.blocksize;
  if (osb.incompat(FEATURE_INCOMPAT.META_ECC) && bh.kind !== null && bh.kind.check_off >= 0)
    osb.k.blockCheckCompute(bh.addr, bytes, bh.kind.check_off);
  bh.reading = true; // pinned: not evicted while it is written
  try {
    yield* deviceWrite(osb.dev, bh.addr, bytes, bh.blkno * bytes, true);
    yield* deviceFlush(osb.dev);
  } finally {
    bh.reading = false;
    bh.waiters.wakeAll();
  }
}
