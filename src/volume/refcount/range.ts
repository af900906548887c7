/**
 * Sharing a range of clusters between two files that exist (refcounttree.c: ocfs2_reflink_remap_blocks; file.c:
 * ocfs2_remap_file_range). What FICLONERANGE would do; copy_file_range uses it for the whole clusters of its range.
 *
 * Differs from the kernel: a cluster is never mapped twice by one file, for fsck.ocfs2 stops with a failed assertion on such
 * files. So a file shares nothing with itself, and sharing ends before a cluster that the destination has already.
 */
import { LockSet } from "../../dlmglue/lock_set.ts";
import { DYN_FEATURES, EXT_FLAGS, FEATURE_INCOMPAT, I_FLAGS } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { assert, FsError } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import { getClusters } from "../extents/extent_map.ts";
import { dinodeExtentTree, extentRecords } from "../extents/extent_tree.ts";
import { checkChangeable, isInline, maxFileBytes, touch, waitIoIdle } from "../file/file_io.ts";
import { convertInlineToExtents } from "../file/inline_data.ts";
import { removeStep, zeroRange } from "../file/truncate.ts";
import { shortenGap } from "../file/write.ts";
import { dinodeOf, type Inode, inodeChanged, inodeExclusive, inodeLock, inodeRelease, rwLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { boundedRun } from "./counts.ts";
import { commonTree, flushSource, mayShare, type Side, shareClusters } from "./share.ts";
import { leaveRefcountTree, refcountLoc } from "./tree.ts";

export interface SharedRange {
  readonly src: Inode;
  /** Multiple of the cluster size. */
  readonly src_offset: number;
  readonly dst: Inode;
  /** Multiple of the cluster size. */
  readonly dst_offset: number;
  /** Multiple of the cluster size, or up to the end of the source and not short of the destination's. */
  readonly len: number;
}

/** Both inodes, locked at EX in the order of their numbers: first who may write to them, then what they are (ocfs2_reflink_inodes_lock). */
function lockSides(op: Op, r: SharedRange): { src: Side; dst: Side } {
  const { src, dst } = r;
  const [first, second] = src.ino < dst.ino ? [src, dst] : [dst, src];
  rwLock(op, first, true);
  rwLock(op, second, true);
  if (src.ino < dst.ino) {
    const bh = inodeLock(op, src, true);
    return { src: { inode: src, bh }, dst: { inode: dst, bh: inodeLock(op, dst, true) } };
  }
  const bh = inodeLock(op, dst, true);
  return { src: { inode: src, bh: inodeLock(op, src, true) }, dst: { inode: dst, bh } };
}

/** Takes a file that shares nothing any more out of its tree, which it is in from former times (ocfs2_try_remove_refcount_tree). */
function leaveIfAlone(op: Op, side: Side): void {
  const di = dinodeOf(op, side.bh);
  // An attribute's value may be shared too.
  if (isInline(di) || (di.i_dyn_features & (DYN_FEATURES.HAS_XATTR | DYN_FEATURES.INLINE_XATTR)) !== 0) return;
  for (const e of extentRecords(op, dinodeExtentTree(op, side.inode, side.bh)))
    if ((e.flags & EXT_FLAGS.REFCOUNTED) !== 0) return;
  leaveRefcountTree(op, side.inode, side.bh);
}

/** Keeps others off both files, and checks whether the range can be shared, trees apart. */
function begin(op: Op, r: SharedRange, locks: LockSet): boolean {
  const { src, dst } = lockSides(op, r);
  const [first, second] = r.src.ino < r.dst.ino ? [r.src, r.dst] : [r.dst, r.src];
  inodeExclusive(first, locks);
  inodeExclusive(second, locks);
  waitIoIdle(r.src);
  waitIoIdle(r.dst);
  const s_di = dinodeOf(op, src.bh);
  const d_di = dinodeOf(op, dst.bh);
  checkChangeable(r.dst, d_di);
  if (((s_di.i_flags | d_di.i_flags) & I_FLAGS.SYSTEM) !== 0)
    throw new FsError(Errno.EINVAL, "range", { src: r.src.ino, dst: r.dst.ino, found: "a system file" });
  if (r.dst_offset + r.len > maxFileBytes(op.osb))
    throw new FsError(Errno.EFBIG, "range", { dst: r.dst.ino, offset: r.dst_offset, len: r.len });
  const whole = r.len % op.osb.geo.clustersize === 0 && r.src_offset + r.len <= s_di.i_size;
  const to_eof = r.src_offset + r.len === s_di.i_size && r.dst_offset + r.len >= d_di.i_size;
  // What lies between the end of the destination and the range would be a hole.
  const no_hole =
    op.osb.incompat(FEATURE_INCOMPAT.SPARSE_ALLOC) ||
    r.dst_offset <= op.osb.clustersForBytes(d_di.i_size) * op.osb.geo.clustersize;
  return !isInline(s_di) && (whole || to_eof) && no_hole;
}

/**
 * True when the files are in one tree or can be: one that is in another without need leaves it. In operations of their
 * own, so that no two trees are locked at the same time.
 */
function* meetInOneTree(osb: Osb, r: SharedRange, locks: LockSet): Task<boolean> {
  for (const leaver of ["dst", "src"] as const) {
    const may = yield* wait(
      osb.step((op) => {
        const sides = lockSides(op, r);
        if (mayShare(op, sides.src, sides.dst)) return true;
        leaveIfAlone(op, sides[leaver]);
        return false;
      }, locks),
    );
    if (may) return true;
  }
  return yield* wait(
    osb.step((op) => {
      const { src, dst } = lockSides(op, r);
      return mayShare(op, src, dst);
    }, locks),
  );
}

/** The destination as a file with extents, its bytes before the range as they will read; false: call again. */
function prepareDst(op: Op, r: SharedRange): boolean {
  const { dst } = lockSides(op, r);
  const di = dinodeOf(op, dst.bh);
  if (shortenGap(op, r.dst, dst.bh, r.dst_offset)) return false;
  op.modify(dst.bh);
  if (isInline(di)) convertInlineToExtents(op, r.dst, dst.bh);
  if (r.dst_offset > di.i_size) zeroRange(op, r.dst, dst.bh, di.i_size, r.dst_offset);
  inodeChanged(op, r.dst);
  return true;
}

/** A shared run of the destination, in clusters of the disk. */
interface Run {
  readonly p_cluster: number;
  readonly clusters: number;
}

/** The destination's shared clusters before we begin: what it may not get a second time. In the order of the disk. */
function sharedRuns(op: Op, r: SharedRange): Run[] {
  const { osb } = op;
  const { dst } = lockSides(op, r);
  if (refcountLoc(op, dst.bh) === 0) return [];
  const runs: Run[] = [];
  for (const e of extentRecords(op, dinodeExtentTree(op, r.dst, dst.bh)))
    if ((e.flags & EXT_FLAGS.REFCOUNTED) !== 0)
      runs.push({ p_cluster: osb.blocksToClusters(e.blkno), clusters: e.clusters });
  return runs.sort((a, b) => a.p_cluster - b.p_cluster);
}

/** How many of the clusters from `p_cluster` on come before the first that is in `runs`. */
export function clearOf(runs: readonly Run[], p_cluster: number, clusters: number): number {
  let lo = 0;
  let hi = runs.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    const run = runs[mid]!;
    if (run.p_cluster + run.clusters <= p_cluster) lo = mid + 1;
    else hi = mid;
  }
  const next = runs[lo];
  return next === undefined ? clusters : Math.min(clusters, Math.max(0, next.p_cluster - p_cluster));
}

/** Counts that one operation raises. */
const RECS_PER_STEP = 16;

/**
 * Shares some clusters, `done` of them being shared already; returns how many, 0 when the next one cannot be
 * (ocfs2_reflink_remap_extent).
 */
function rangeStep(op: Op, r: SharedRange, runs: readonly Run[], done: number, clusters: number): number {
  const { clustersize } = op.osb.geo;
  const { src, dst } = lockSides(op, r);
  const s_cpos = r.src_offset / clustersize + done;
  const d_cpos = r.dst_offset / clustersize + done;
  const ext = getClusters(op, r.src, s_cpos);
  const old = getClusters(op, r.dst, d_cpos);
  let n = Math.min(ext.clusters, clusters - done);
  const shared = (ext.flags & EXT_FLAGS.REFCOUNTED) !== 0;
  if (ext.p_cluster !== 0 && ext.p_cluster === old.p_cluster) return Math.min(n, old.clusters);
  if (shared) n = clearOf(runs, ext.p_cluster, n);
  if (n === 0) return 0;
  if (shared) n = boundedRun(op, commonTree(op, src, dst), ext.p_cluster, n, RECS_PER_STEP);
  op.modify(dst.bh);
  const next = removeStep(op, r.dst, dst.bh, d_cpos, d_cpos + n);
  if (next !== undefined) n = Math.min(n, next - d_cpos);
  // Taking the destination's last cluster away may have taken it out of its tree.
  if (ext.p_cluster !== 0)
    shareClusters(op, commonTree(op, src, dst), src, s_cpos, dst, d_cpos, { ...ext, clusters: n });
  const di = dinodeOf(op, dst.bh);
  di.i_size = Math.max(di.i_size, r.dst_offset + Math.min(r.len, (done + n) * clustersize));
  touch(op, di);
  inodeChanged(op, r.dst);
  return n;
}

/**
 * Makes the destination's range the source's, sharing its clusters. Returns the bytes shared, from the start of the range: fewer than
 * `len` where the rest cannot be shared and must be copied; 0 when nothing can, for one because the files are in
 * different refcount trees. EPERM (immutable, append-only), EINVAL, EFBIG, ENOSPC.
 */
export function* shareRangeTask(osb: Osb, r: SharedRange): Task<number> {
  const { clustersize } = osb.geo;
  assert(r.src_offset % clustersize === 0 && r.dst_offset % clustersize === 0, "a shared range is not aligned");
  if (!osb.incompat(FEATURE_INCOMPAT.REFCOUNT_TREE) || r.src === r.dst || r.len === 0) return 0;
  const locks = new LockSet();
  const clusters = Math.ceil(r.len / clustersize);
  let done = 0;
  r.src.task_count++;
  r.dst.task_count++;
  try {
    if (!(yield* wait(osb.step((op) => begin(op, r, locks), locks)))) return 0;
    if (!(yield* meetInOneTree(osb, r, locks))) return 0;
    yield* flushSource(osb, r.src, (op) => void lockSides(op, r), locks);
    while (!(yield* wait(osb.step((op) => prepareDst(op, r), locks))));
    const runs = yield* wait(osb.step((op) => sharedRuns(op, r), locks));
    while (done < clusters) {
      const from = done;
      const n = yield* wait(osb.step((op) => rangeStep(op, r, runs, from, clusters), locks));
      if (n === 0) break;
      done += n;
    }
  } catch (err) {
    // What was shared stays; the caller goes on behind it and meets the failure again.
    if (done === 0) throw err;
  } finally {
    r.src.task_count--;
    r.dst.task_count--;
    inodeRelease(r.src, locks);
    inodeRelease(r.dst, locks);
    locks.releaseAll();
  }
  return Math.min(r.len, done * clustersize);
}
