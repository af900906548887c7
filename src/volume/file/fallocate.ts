/**
 * fallocate: allocate (as unwritten extents), keep size, punch a hole, zero a range (file.c: __ocfs2_change_file_space,
 * ocfs2_allocate_unwritten_extents, ocfs2_remove_inode_range).
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { LockSet } from "../../dlmglue/lock_set.ts";
import { EXT_FLAGS, FEATURE_INCOMPAT, FEATURE_RO_COMPAT } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import { getClusters, voidExtentMap } from "../extents/extent_map.ts";
import { dinodeExtentTree, insertExtent } from "../extents/extent_tree.ts";
import { dinodeOf, type Inode, inodeChanged, inodeExclusive, inodeLock, inodeRelease, rwLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { checkChangeable, inlineRoom, isInline, maxFileBytes, touch, waitIoIdle } from "./file_io.ts";
import { convertInlineToExtents } from "./inline_data.ts";
import { removeClusters, zeroRange } from "./truncate.ts";
import { shortenGap } from "./write.ts";

export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;

/** Claims in one operation. */
const CLAIMS_PER_STEP = 16;
/** Bytes that one operation zeroes. */
const ZERO_STEP_BYTES = 1 << 20;

/** Allocates the holes of [cpos, end) as unwritten, a bounded number of claims; returns where to go on. */
function allocateStep(op: Op, inode: Inode, bh: Bh, cpos: number, end: number): number {
  const { osb } = op;
  let at = cpos;
  let goal = 0;
  for (let claims = 0; at < end && claims < CLAIMS_PER_STEP; ) {
    const ext = getClusters(op, inode, at);
    const n = Math.min(ext.clusters, end - at);
    if (ext.p_cluster !== 0) {
      goal = ext.p_cluster + n;
      at += n;
      continue;
    }
    const got = claimClusters(op, 1, n, goal, inode);
    op.modify(bh);
    insertExtent(
      op,
      dinodeExtentTree(op, inode, bh),
      at,
      osb.clustersToBlocks(got.p_cluster),
      got.clusters,
      EXT_FLAGS.UNWRITTEN,
    );
    voidExtentMap(op, inode);
    goal = got.p_cluster + got.clusters;
    at += got.clusters;
    claims++;
  }
  inodeChanged(op, inode);
  return at;
}

/** fallocate(2) without and with KEEP_SIZE. ENOSPC leaves what was allocated so far behind the end of the file or in its holes. */
function* allocate(
  osb: Osb,
  inode: Inode,
  offset: number,
  len: number,
  keep_size: boolean,
  locks: LockSet,
): Task<void> {
  const cs = osb.geo.clustersize;
  const end = offset + len;
  const inline = yield* wait(
    osb.step((op) => {
      rwLock(op, inode, true);
      const bh = inodeLock(op, inode, true);
      const di = dinodeOf(op, bh);
      checkChangeable(inode, di);
      if (end > maxFileBytes(osb)) throw new FsError(Errno.EFBIG, "file.fallocate", { ino: inode.ino, end });
      inodeExclusive(inode, locks);
      if (!isInline(di)) return false;
      op.modify(bh);
      if (end <= inlineRoom(osb, di).bytes) {
        if (!keep_size && end > di.i_size) {
          const room = inlineRoom(osb, di);
          osb.cache.u8.fill(0, room.addr + di.i_size, room.addr + end);
          di.i_size = end;
        }
        touch(op, di);
        inodeChanged(op, inode);
        return true;
      }
      convertInlineToExtents(op, inode, bh);
      inodeChanged(op, inode);
      return false;
    }, locks),
  );
  if (inline) return;
  const last = Math.ceil(end / cs);
  for (let cpos = Math.floor(offset / cs); cpos < last; ) {
    const from = cpos;
    cpos = yield* wait(osb.step((op) => allocateStep(op, inode, inodeLock(op, inode, true), from, last), locks));
  }
  const size = keep_size ? 0 : end;
  while (!(yield* wait(osb.step((op) => allocated(op, inode, size), locks))));
}

/** The size and times after an allocation; false: call again. A truncation that was cut short may have left clusters behind the end of the file. */
function allocated(op: Op, inode: Inode, size: number): boolean {
  rwLock(op, inode, true);
  const bh = inodeLock(op, inode, true);
  if (shortenGap(op, inode, bh, size)) return false;
  op.modify(bh);
  const di = dinodeOf(op, bh);
  if (size > di.i_size) {
    zeroRange(op, inode, bh, di.i_size, size);
    di.i_size = size;
  }
  touch(op, di);
  inodeChanged(op, inode);
  return true;
}

/** Makes [offset, offset + len) read as zeros and frees the whole clusters in it. */
function* punch(osb: Osb, inode: Inode, offset: number, len: number, locks: LockSet): Task<void> {
  const cs = osb.geo.clustersize;
  const end = yield* wait(
    osb.step((op) => {
      rwLock(op, inode, true);
      const bh = inodeLock(op, inode, true);
      const di = dinodeOf(op, bh);
      checkChangeable(inode, di);
      inodeExclusive(inode, locks);
      waitIoIdle(inode);
      op.modify(bh);
      touch(op, di);
      inodeChanged(op, inode);
      const size = di.i_size;
      if (isInline(di)) {
        const room = inlineRoom(osb, di);
        osb.cache.u8.fill(0, room.addr + Math.min(offset, size), room.addr + Math.min(offset + len, size));
        return undefined;
      }
      return Math.min(offset + len, Math.max(size, Math.ceil(size / cs) * cs));
    }, locks),
  );
  if (end === undefined) return;
  // Behind the end of the file preallocated clusters go too.
  const hole_end = Math.floor((offset + len) / cs);
  const hole_start = Math.ceil(offset / cs);
  const edges: [number, number][] =
    hole_start < hole_end
      ? [
          [offset, Math.min(end, hole_start * cs)],
          [hole_end * cs, end],
        ]
      : [[offset, end]];
  for (const [a, b] of edges) {
    for (let at = a; at < b; at += ZERO_STEP_BYTES) {
      const from = at;
      const to = Math.min(b, at + ZERO_STEP_BYTES);
      yield* wait(
        osb.step((op) => {
          rwLock(op, inode, true);
          const bh = inodeLock(op, inode, true);
          op.modify(bh);
          zeroRange(op, inode, bh, from, to);
        }, locks),
      );
    }
  }
  if (hole_start < hole_end) yield* removeClusters(osb, inode, hole_start, hole_end, locks);
}

/**
 * fallocate(2). Modes: 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE with or without KEEP_SIZE; EOPNOTSUPP for others, EFBIG,
 * ENOSPC, EPERM.
 */
export function* fallocateTask(osb: Osb, inode: Inode, mode: number, offset: number, len: number): Task<void> {
  const known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  const punching = (mode & FALLOC_FL_PUNCH_HOLE) !== 0;
  const zeroing = (mode & FALLOC_FL_ZERO_RANGE) !== 0;
  const keep_size = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  if ((mode & ~known) !== 0 || (punching && (zeroing || !keep_size)))
    throw new FsError(Errno.EOPNOTSUPP, "file.fallocate", { mode });
  if (offset < 0 || len <= 0) throw new FsError(Errno.EINVAL, "file.fallocate", { offset, len });
  // ocfs2_writes_unwritten_extents: without holes and unwritten extents there is nothing to do it with.
  if (!osb.incompat(FEATURE_INCOMPAT.SPARSE_ALLOC) || !osb.roCompat(FEATURE_RO_COMPAT.UNWRITTEN))
    throw new FsError(Errno.EOPNOTSUPP, "file.fallocate", { mode, found: "no sparse or unwritten feature" });
  const locks = new LockSet();
  try {
    if (punching || zeroing) yield* punch(osb, inode, offset, len, locks);
    if (!punching) yield* allocate(osb, inode, offset, len, keep_size, locks);
  } finally {
    inodeRelease(inode, locks);
    locks.releaseAll();
  }
}
