/**
 * Writing file data (aops.c: ocfs2_write_begin/end_nolock; file.c: ocfs2_file_write_iter). Space is allocated in the write
 * itself; buffered data goes to dirty pages, direct data from the request's buffer to the disk. Data of newly mapped
 * clusters is ordered: the transaction that maps them commits after the data is on the disk.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { PAGE_BYTES, type Page } from "../../block/data_cache.ts";
import { EX, NL, PR } from "../../dlmglue/lock_res.ts";
import { LockSet } from "../../dlmglue/lock_set.ts";
import {
  type Dinode,
  DYN_FEATURES,
  EXT_FLAGS,
  FEATURE_INCOMPAT,
  I_ATTR,
  isReg,
  maxInlineDataWithXattr,
  S_ISGID,
  S_ISUID,
} from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import type { IsTold } from "../../lib/errseq.ts";
import { assert, FsError } from "../../lib/fs_error.ts";
import { type Callback, spawn, type Task, wait } from "../../lib/task.ts";
import { waitOn } from "../../lib/wait.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import { type InGroup, withoutSuid } from "../dir/attr.ts";
import { getClusters, voidExtentMap } from "../extents/extent_map.ts";
import { changeExtentFlag, dinodeExtentTree, insertExtent } from "../extents/extent_tree.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock, rwLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import {
  clusterOffset,
  type IoRun,
  inlineRoom,
  ioEnded,
  ioStarted,
  isInline,
  maxFileBytes,
  pnoOf,
  pushRun,
  staysInline,
  touch,
  waitIoIdle,
} from "./file_io.ts";
import { convertInlineToExtents } from "./inline_data.ts";
import { cow_hooks } from "./refcount_hooks.ts";

export interface WriteRequest {
  readonly offset: number;
  readonly len: number;
  readonly addr: number;
  /** O_APPEND: the offset is the end of the file, whatever `offset` says. */
  readonly append?: boolean;
  /** O_DIRECT: past the data cache where alignment allows. */
  readonly direct?: boolean;
  /** Clear setuid and setgid as a write by a user without CAP_FSETID must, who is in these groups. */
  readonly kill_suid?: InGroup | undefined;
  /** Durable when it is answered: O_DSYNC, or O_SYNC with times and all. */
  readonly sync?: "data" | "all" | undefined;
  /** The open file, which hears of failed write-backs where the write is made durable. */
  readonly file?: IsTold | undefined;
  /** The kernel writes back: goes on while the file's lock is being given up (LockSet.exempt). */
  readonly exempt?: boolean;
  /** The first part of [from, to) that is not written by now, asked whenever a part is planned; empty at `to` when all is. */
  readonly todo?: (from: number, to: number) => { readonly from: number; readonly to: number };
}

/** What O_DIRECT asks for, and the alignment allows: past the data cache. */
export const goesPast = (osb: Osb, direct: boolean | undefined, offset: number, len: number, addr: number): boolean =>
  direct === true && offset % PAGE_BYTES === 0 && len % PAGE_BYTES === 0 && addr % osb.dev.alignment_bytes === 0;

/** Pages to fill once the operation has succeeded, and direct runs to send then. */
interface WritePlan {
  readonly fills: Fill[];
  readonly runs: IoRun[];
  /** Where on the disk the direct runs go to what the file did not show before. */
  readonly stale: { readonly disk: number; readonly len: number }[];
  /** The direct runs go to clusters that the running transaction maps, or behind the end that the file had before it. */
  allocated: boolean;
  /** Bytes of the request that this deals with, when it is not all that was asked. */
  bytes?: number;
  /** Nothing of the request was written yet: a part of the gap before it was filled (extendNoHoles). */
  gap?: true;
}

const newPlan = (runs: IoRun[] = []): WritePlan => ({ fills: [], runs, stale: [], allocated: false });

/** `page` gets `n` bytes from arena address `from` at `at`; with from < 0 zeros. */
export interface Fill {
  readonly page: Page;
  readonly at: number;
  readonly n: number;
  readonly from: number;
}

/** Mapped bytes that one operation zeroes between the old end of a file and the new one; one piece more may go beyond. */
const MAX_ZERO_BYTES = 1 << 20;

/** What kind of cluster the write meets. */
interface Piece {
  /** Byte range of the file that lies contiguously in one extent. */
  pos: number;
  stop: number;
  /** Byte offset on the disk of `pos`. */
  disk: number;
  /** The clusters held nothing before: what the write leaves out of their pages is zero. */
  fresh: boolean;
  /** Copy on write put others in place of those that the file shared: what is to be written was not copied. */
  moved: boolean;
}

/** Makes every cluster of [pos, end) mapped and written, and says where each piece lies. */
export function mapForWrite(
  op: Op,
  inode: Inode,
  bh: Bh,
  pos: number,
  end: number,
): { pieces: Piece[]; changed: boolean } {
  const { osb } = op;
  const cs = osb.geo.clustersize;
  const pieces: Piece[] = [];
  let changed = false;
  const last = Math.floor((end - 1) / cs);
  let goal = 0;
  for (let cpos = Math.floor(pos / cs); cpos <= last; ) {
    let ext = getClusters(op, inode, cpos);
    let fresh = false;
    const { p_cluster: before_cow } = ext;
    if (ext.p_cluster === 0) {
      if (goal === 0 && cpos > 0) {
        const before = getClusters(op, inode, cpos - 1);
        if (before.p_cluster !== 0) goal = before.p_cluster + 1;
      }
      const want = Math.min(ext.clusters, last - cpos + 1);
      const got = claimClusters(op, 1, want, goal, inode);
      insertExtent(op, dinodeExtentTree(op, inode, bh), cpos, osb.clustersToBlocks(got.p_cluster), got.clusters, 0);
      voidExtentMap(op, inode);
      ext = { p_cluster: got.p_cluster, clusters: got.clusters, flags: 0 };
      goal = got.p_cluster + got.clusters;
      fresh = true;
      changed = true;
    } else {
      if ((ext.flags & EXT_FLAGS.REFCOUNTED) !== 0) {
        waitIoIdle(inode);
        const n = Math.min(ext.clusters, last - cpos + 1);
        cow_hooks.refcountCow(op, inode, bh, cpos, n, pos, end);
        voidExtentMap(op, inode);
        ext = getClusters(op, inode, cpos);
        changed = true;
      }
      if ((ext.flags & EXT_FLAGS.UNWRITTEN) !== 0) {
        const n = Math.min(ext.clusters, last - cpos + 1);
        changeExtentFlag(op, dinodeExtentTree(op, inode, bh), cpos, n, 0, EXT_FLAGS.UNWRITTEN);
        voidExtentMap(op, inode);
        ext = { p_cluster: ext.p_cluster, clusters: n, flags: ext.flags };
        fresh = true;
        changed = true;
      }
      goal = ext.p_cluster + ext.clusters;
    }
    const clusters = Math.min(ext.clusters, last - cpos + 1);
    const from = Math.max(pos, cpos * cs);
    pieces.push({
      pos: from,
      stop: Math.min(end, (cpos + clusters) * cs),
      disk: clusterOffset(osb, ext.p_cluster) + (from - cpos * cs),
      fresh,
      moved: before_cow !== ext.p_cluster,
    });
    cpos += clusters;
  }
  return { pieces, changed };
}

/** Plans buffered pages of one piece. Fresh pieces are zeroed around the write: back to the cluster, forward to what the file will show. */
function planPiece(
  op: Op,
  inode: Inode,
  plan: WritePlan,
  p: Piece,
  addr: number,
  old_size: number,
  show_end: number,
): void {
  const { data, geo } = op.osb;
  const cs = geo.clustersize;
  if (p.fresh) {
    const lead = p.pos % cs;
    if (lead > 0) planZero(op, inode, plan.fills, p.disk - lead, p.disk - (p.disk % PAGE_BYTES));
    const tail_end = Math.min(Math.ceil(p.stop / cs) * cs, Math.ceil(show_end / PAGE_BYTES) * PAGE_BYTES);
    const disk_end = p.disk + (p.stop - p.pos);
    if (tail_end > p.stop)
      planZero(op, inode, plan.fills, Math.ceil(disk_end / PAGE_BYTES) * PAGE_BYTES, disk_end + (tail_end - p.stop));
  }
  for (let pos = p.pos, disk = p.disk; pos < p.stop; ) {
    const at = disk % PAGE_BYTES;
    const n = Math.min(PAGE_BYTES - at, p.stop - pos);
    const pno = pnoOf(disk);
    // A page wholly behind the old end of the file holds nothing that anybody wrote.
    const fresh = p.fresh || pos - at >= old_size;
    const page = n < PAGE_BYTES && !fresh ? data.read(inode, pno) : data.reserve(inode, pno);
    if (n < PAGE_BYTES && fresh) {
      if (at > 0) plan.fills.push({ page, at: 0, n: at, from: -1 });
      if (at + n < PAGE_BYTES) plan.fills.push({ page, at: at + n, n: PAGE_BYTES - at - n, from: -1 });
    }
    plan.fills.push({ page, at, n, from: addr + (pos - p.pos) });
    pos += n;
    disk += n;
  }
}

/** Zeroes whole pages [disk, end) of the disk, both page-aligned. */
function planZero(op: Op, inode: Inode, fills: Fill[], disk: number, end: number): void {
  for (; disk < end; disk += PAGE_BYTES) {
    const page = op.osb.data.reserve(inode, pnoOf(disk));
    fills.push({ page, at: 0, n: PAGE_BYTES, from: -1 });
  }
}

/**
 * Zeroes what lies between the old end of the file and `pos` in clusters that are mapped (ocfs2_zero_extend): behind the end of a
 * file its last cluster may hold anything. Answers how far it came: one operation must never need more pages than the cache
 * can hold at once, or it waits for them for ever.
 */
export function zeroExtend(op: Op, inode: Inode, bh: Bh, fills: Fill[], old_size: number, pos: number): number {
  const { osb } = op;
  const cs = osb.geo.clustersize;
  const size = dinodeOf(op, bh).i_size;
  let mapped_bytes = 0;
  let at = old_size;
  while (at < pos && mapped_bytes < MAX_ZERO_BYTES) {
    const cpos = Math.floor(at / cs);
    let ext = getClusters(op, inode, cpos);
    if ((ext.flags & (EXT_FLAGS.REFCOUNTED | EXT_FLAGS.UNWRITTEN)) === EXT_FLAGS.REFCOUNTED) {
      waitIoIdle(inode);
      cow_hooks.refcountCow(op, inode, bh, cpos, 1, at, at);
      voidExtentMap(op, inode);
      ext = { ...getClusters(op, inode, cpos), clusters: 1 };
    }
    let stop = Math.min(pos, (cpos + ext.clusters) * cs);
    if (ext.p_cluster !== 0 && (ext.flags & EXT_FLAGS.UNWRITTEN) === 0) {
      stop = Math.min(stop, (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES + MAX_ZERO_BYTES);
      for (let p = at; p < stop; ) {
        const disk = clusterOffset(osb, ext.p_cluster) + (p - cpos * cs);
        const off = disk % PAGE_BYTES;
        const n = Math.min(PAGE_BYTES - off, stop - p);
        // A page behind the end of the file is zeroed whole. To read it would be in vain, and for ever where this operation has
        // just claimed its cluster: undone and run again, it claims another one.
        const whole = n === PAGE_BYTES || p - off >= size;
        const page = whole ? osb.data.reserve(inode, pnoOf(disk)) : osb.data.read(inode, pnoOf(disk));
        fills.push(whole ? { page, at: 0, n: PAGE_BYTES, from: -1 } : { page, at: off, n, from: -1 });
        p += n;
      }
      mapped_bytes += stop - at;
    }
    at = stop;
  }
  return at;
}

/** True when more of [from, to) is mapped and written than one operation zeroes. */
function hasMuchToZero(op: Op, inode: Inode, from: number, to: number): boolean {
  const cs = op.osb.geo.clustersize;
  let bytes = 0;
  for (let at = from; at < to && bytes < MAX_ZERO_BYTES; ) {
    const cpos = Math.floor(at / cs);
    const ext = getClusters(op, inode, cpos);
    const stop = Math.min(to, (cpos + ext.clusters) * cs);
    if (ext.p_cluster !== 0 && (ext.flags & EXT_FLAGS.UNWRITTEN) === 0) bytes += stop - at;
    at = stop;
  }
  return bytes >= MAX_ZERO_BYTES;
}

/**
 * A long gap behind the end of the file shrinks by what one operation can zero: the file grows to there, as ocfs2_zero_extend lets
 * it. False when what is left fits the operation that wants it: if that fails, the size is what it was.
 */
export function shortenGap(op: Op, inode: Inode, bh: Bh, to: number): boolean {
  const di = dinodeOf(op, bh);
  const size = di.i_size;
  if (to - size <= MAX_ZERO_BYTES || isInline(di) || !hasMuchToZero(op, inode, size, to)) return false;
  op.modify(bh);
  const fills: Fill[] = [];
  di.i_size = zeroExtend(op, inode, bh, fills, size, to);
  touch(op, di);
  inodeChanged(op, inode);
  if (fills.length > 0) op.orderData(inode);
  op.onSuccess(() => fillPages(op.osb, fills));
  return true;
}

/** Carries the fills out; when the operation has succeeded. */
export function fillPages(osb: Osb, fills: readonly Fill[]): void {
  const { u8 } = osb.cache;
  for (const f of fills) {
    const to = f.page.addr + f.at;
    if (f.from < 0) u8.fill(0, to, to + f.n);
    else u8.copyWithin(to, f.from, f.from + f.n);
    osb.data.filled(f.page);
  }
}

/**
 * Makes a file longer, with clusters and zeros, up to `to` or as far as one operation goes: volumes without the sparse feature
 * know no holes, and readers take one for corruption (ocfs2_extend_no_holes).
 */
export function extendNoHoles(op: Op, inode: Inode, bh: Bh, to: number): void {
  op.modify(bh);
  const di = dinodeOf(op, bh);
  const { osb } = op;
  const step = stepBytes(osb);
  if (isInline(di)) convertInlineToExtents(op, inode, bh);
  // First all clusters: when there are not enough, the size is still what it was.
  const mapped = di.i_clusters * osb.geo.clustersize;
  if (mapped < to) {
    mapForWrite(op, inode, bh, mapped, Math.min(to, mapped + step));
    inodeChanged(op, inode);
    return;
  }
  const size = di.i_size;
  const end = Math.min(to, size + step);
  const fills: Fill[] = [];
  di.i_size = zeroExtend(op, inode, bh, fills, size, end);
  touch(op, di);
  inodeChanged(op, inode);
  op.orderData(inode);
  op.onSuccess(() => fillPages(op.osb, fills));
}

function planWrite(op: Op, inode: Inode, req: WriteRequest, done_bytes: number, at: number, len: number): WritePlan {
  const { osb } = op;
  // What the kernel writes back comes under the meta
  // lock alone, as ocfs2_writepage does: whoever has the rw lock may wait for a meta lock that is given up only after this.
  if (req.exempt !== true) rwLock(op, inode, true);
  const bh = inodeLock(op, inode, true);
  if (inode.alloc_ios > 0 && !(req.direct ?? false)) waitOn(inode.io_idle);
  const di = dinodeOf(op, bh);
  if (!isReg(di.i_mode)) throw new FsError(Errno.EINVAL, "file.write", { ino: inode.ino, mode: di.i_mode });
  const size = di.i_size;
  const pos = req.append === true ? size : at;
  const end = pos + len;
  if (end > maxFileBytes(osb)) throw new FsError(Errno.EFBIG, "file.write", { ino: inode.ino, offset: pos });
  if (pos > size && !osb.incompat(FEATURE_INCOMPAT.SPARSE_ALLOC) && !staysInline(osb, di, end)) {
    extendNoHoles(op, inode, bh, pos);
    return { ...newPlan(), gap: true };
  }
  if (shortenGap(op, inode, bh, pos)) return { ...newPlan(), gap: true };
  op.modify(bh);
  const plan = newPlan();
  const addr = req.addr + done_bytes;
  let changed = end > size;
  if (startsInline(osb, di, end, req.direct === true)) setDataInline(osb, di);
  if (isInline(di)) {
    if (staysInline(osb, di, end)) {
      const room = inlineRoom(osb, di);
      const { u8 } = osb.cache;
      if (pos > size) u8.fill(0, room.addr + size, room.addr + pos);
      u8.copyWithin(room.addr + pos, addr, addr + len);
      finishWrite(op, inode, bh, end, req, true);
      return plan;
    }
    convertInlineToExtents(op, inode, bh);
    changed = true;
  }
  const zeroed = pos > size;
  if (zeroed) {
    const reached = zeroExtend(op, inode, bh, plan.fills, size, pos);
    assert(reached === pos, `a gap up to ${pos} was zeroed up to ${reached}`);
  }
  const mapped = mapForWrite(op, inode, bh, pos, end);
  const direct = goesPast(osb, req.direct, pos, len, addr);
  const show_end = Math.max(end, size);
  for (const p of mapped.pieces) {
    const from = addr + (p.pos - pos);
    if (!direct) planPiece(op, inode, plan, p, from, size, show_end);
    else {
      if (p.fresh) {
        // Whole pages are written; what the write leaves of the fresh clusters is zeroed through the cache.
        planPiece(op, inode, plan, { ...p, stop: p.pos }, from, size, p.pos);
        const cs = osb.geo.clustersize;
        const tail = Math.min(Math.ceil(p.stop / cs) * cs, Math.ceil(show_end / PAGE_BYTES) * PAGE_BYTES) - p.stop;
        const disk_end = p.disk + (p.stop - p.pos);
        if (tail > 0) planZero(op, inode, plan.fills, disk_end, disk_end + tail);
      }
      // Clusters that copy on write gave the file count as new too, and so does what was behind the end of the file.
      if (mapped.changed || end > size) plan.allocated = true;
      const first_new = p.fresh || p.moved ? p.pos : Math.max(p.pos, Math.ceil(size / PAGE_BYTES) * PAGE_BYTES);
      if (first_new < p.stop) plan.stale.push({ disk: p.disk + (first_new - p.pos), len: p.stop - first_new });
      osb.data.waitIdle(pnoOf(p.disk), (p.stop - p.pos) / PAGE_BYTES);
      pushRun(plan.runs, from, p.stop - p.pos, p.disk);
    }
  }
  if (changed || mapped.changed || zeroed) op.orderData(inode);
  finishWrite(op, inode, bh, end, req, changed || mapped.changed);
  return plan;
}

/** Where a direct write goes that changes nothing but data: within the file, to clusters that are there and the file's own. Else undefined. */
function runsInPlace(
  op: Op,
  inode: Inode,
  bh: Bh,
  req: WriteRequest,
  addr: number,
  pos: number,
  len: number,
): IoRun[] | undefined {
  const { osb } = op;
  const di = dinodeOf(op, bh);
  const end = pos + len;
  if (!goesPast(osb, req.direct, pos, len, addr) || !isReg(di.i_mode) || isInline(di) || end > di.i_size)
    return undefined;
  if (req.kill_suid !== undefined && (di.i_mode & (S_ISUID | S_ISGID)) !== 0) return undefined;
  inode.sync_writes = (di.i_attr & I_ATTR.SYNC) !== 0;
  const cs = osb.geo.clustersize;
  const runs: IoRun[] = [];
  for (let at = pos; at < end; ) {
    const cpos = Math.floor(at / cs);
    const ext = getClusters(op, inode, cpos);
    if (ext.p_cluster === 0 || ext.flags !== 0) return undefined;
    const stop = Math.min(end, (cpos + ext.clusters) * cs);
    const disk = clusterOffset(osb, ext.p_cluster) + (at - cpos * cs);
    osb.data.waitIdle(pnoOf(disk), (stop - at) / PAGE_BYTES);
    pushRun(runs, addr + (at - pos), stop - at, disk);
    at = stop;
  }
  return runs;
}

/**
 * With coherency=buffered a direct write in place needs neither lock at EX, so that nodes which write to one file at the same time do not
 * wait for each other (ocfs2_file_write_iter, ocfs2_dio_wr_get_block). The times of the file do not move then, as the kernel's
 * do not on the disk. Undefined: it is more than that, and nothing is held.
 */
function planInPlace(
  op: Op,
  inode: Inode,
  req: WriteRequest,
  addr: number,
  pos: number,
  len: number,
): IoRun[] | undefined {
  const { glue } = op.osb;
  const { locks } = op;
  const [meta, rw] = [glue.metaLock(inode), glue.rwLock(inode)];
  // Ours alone, and nobody else wants it: written as always, with the times.
  if (meta.level !== EX || meta.blocking !== NL) {
    rwLock(op, inode, false);
    const runs = runsInPlace(op, inode, inodeLock(op, inode), req, addr, pos, len);
    if (runs !== undefined) return runs;
  }
  for (const res of [meta, rw]) if (locks.level(res) === PR) locks.release(res);
  return undefined;
}

/** An empty file that stays small begins in its dinode (ocfs2_try_to_write_inline_data). */
function startsInline(osb: Osb, di: Dinode, end: number, direct: boolean): boolean {
  return (
    !direct &&
    osb.incompat(FEATURE_INCOMPAT.INLINE_DATA) &&
    di.i_size === 0 &&
    di.i_clusters === 0 &&
    !isInline(di) &&
    end <= maxInlineDataWithXattr(osb.geo.blocksize, di)
  );
}

/** ocfs2_set_inode_data_inline; the dinode is in the operation. */
function setDataInline(osb: Osb, di: Dinode): void {
  const { u8 } = osb.cache;
  const bytes = maxInlineDataWithXattr(osb.geo.blocksize, di);
  u8.fill(0, di.i_data.off, di.i_data.id_data_off(0) + bytes);
  di.i_dyn_features |= DYN_FEATURES.INLINE_DATA;
  di.i_data.id_count = bytes;
}

function finishWrite(op: Op, inode: Inode, bh: Bh, end: number, req: WriteRequest, datasync: boolean): void {
  const di = dinodeOf(op, bh);
  if (end > di.i_size) di.i_size = end;
  touch(op, di);
  inode.sync_writes = (di.i_attr & I_ATTR.SYNC) !== 0;
  if (req.kill_suid !== undefined) di.i_mode = withoutSuid(di.i_mode, di.i_gid, req.kill_suid);
  inodeChanged(op, inode, datasync);
}

/** As planWrite, of what the kernel has not written back meanwhile. */
function planTodo(op: Op, inode: Inode, req: WriteRequest, done_bytes: number, at: number, len: number): WritePlan {
  const { from, to } =
    req.append === true ? { from: at, to: at + len } : (req.todo?.(at, at + len) ?? { from: at, to: at + len });
  if (from === at) {
    const plan = planWrite(op, inode, req, done_bytes, at, to - at);
    plan.bytes = to - at;
    return plan;
  }
  if (req.kill_suid !== undefined) {
    const bh = inodeLock(op, inode, true);
    op.modify(bh);
    finishWrite(op, inode, bh, 0, req, true);
  }
  return { ...newPlan(), bytes: from - at };
}

/** Bytes that one operation writes: bounded, so that it fits the smallest journal however scattered free space is. */
function stepBytes(osb: Osb): number {
  const blocks = Math.min(256, osb.journal.max_transaction_blocks >> 3);
  return Math.max(osb.geo.clustersize, Math.min(1 << 20, blocks * osb.geo.clustersize));
}

/**
 * Writes `len` bytes; answers how many were written, fewer than asked only when space ran out after some. An append of up
 * to 1 MiB is whole: one operation, under one lock.
 */
export function writeFile(osb: Osb, inode: Inode, req: WriteRequest, done: Callback<number>): void {
  const cs = osb.geo.clustersize;
  let step = stepBytes(osb);
  /** There was room for a part only; what is appended ends with it, as somebody else's record may come before the next. */
  let is_short = false;
  let written = 0;
  let failure: unknown = null;
  let in_flight = 1;
  const settle = (): void => {
    if (--in_flight > 0) return;
    if (failure !== null && written === 0) done(failure);
    else if (failure !== null && !(failure instanceof FsError && failure.errno === Errno.ENOSPC)) done(failure);
    else done(null, written);
  };
  const buffered = osb.glue.domain.clustered && osb.options.coherency === "buffered";
  const next = (): void => {
    // Where that fails once it is not tried again: the locks at EX, once granted, are held.
    let in_place = buffered && req.direct === true && req.append !== true;
    const at = req.offset + written;
    const len = Math.min(req.len - written, step - (at % cs));
    let ended: Ended = (_errno, done) => done();
    const locks = new LockSet();
    locks.exempt = req.exempt === true;
    osb.exec(
      (op) => {
        const runs = in_place ? planInPlace(op, inode, req, req.addr + written, at, len) : undefined;
        in_place = runs !== undefined;
        const plan = runs !== undefined ? newPlan(runs) : planTodo(op, inode, req, written, at, len);
        op.onSuccess(() => {
          fillPages(osb, plan.fills);
          ended = startDirect(osb, inode, plan);
        });
        return plan;
      },
      (err, plan) => {
        locks.releaseAll();
        const clusters = Math.ceil(((at % cs) + len) / cs);
        if (err instanceof FsError && err.errno === Errno.ENOSPC && clusters > 1) {
          // There may be room for a part of it.
          step = (clusters >> 1) * cs;
          is_short = req.append === true;
          osb.ready(next);
          return;
        }
        if (err) failure = err;
        else if (plan!.gap === true) {
          osb.ready(next);
          return;
        } else {
          written += plan!.bytes ?? len;
          in_flight++;
          sendDirect(osb, plan!, (errno) => {
            if (errno !== 0) failure ??= new FsError(errno, "file.write.direct", { ino: inode.ino, offset: at });
            ended(errno, settle);
          });
        }
        if (err || written >= req.len || is_short) settle();
        else next();
      },
      locks,
    );
  };
  if (req.len === 0) done(null, 0);
  else next();
}

/** To be called when the direct runs of a plan are done, with the errno of what failed or 0. */
type Ended = (errno: number, done: () => void) => void;

/** What a write that failed has not put there is zero, not what the disk held before (ocfs2_dio_end_io leaves it unwritten). */
function* zeroStale(osb: Osb, inode: Inode, stale: WritePlan["stale"]): Task<void> {
  for (const { disk, len } of stale)
    for (let at = disk; at < disk + len; at += ZERO_STALE_BYTES) {
      const end = Math.min(disk + len, at + ZERO_STALE_BYTES);
      yield* wait(
        osb.step((op) => {
          const fills: Fill[] = [];
          planZero(op, inode, fills, at, end);
          op.onSuccess(() => fillPages(osb, fills));
        }),
      );
    }
  yield* wait(osb.data.flushOwner(inode));
}
const ZERO_STALE_BYTES = 1 << 18;

/**
 * The direct runs of a plan are on their way from here on. Called while the lock is held and the transaction that maps their
 * clusters runs: whoever gives up the one or commits the other right afterwards waits for them.
 */
function startDirect(osb: Osb, inode: Inode, plan: WritePlan): Ended {
  if (plan.runs.length === 0) return (_errno, done) => done();
  const data_done = plan.allocated ? osb.journal.dataIoStarted() : null;
  if (plan.allocated) inode.alloc_ios++;
  ioStarted(inode);
  // The plan has seen that the cache's copy is not under I/O.
  const passed = plan.runs.map((run) => osb.data.writePast(pnoOf(run.offset), run.len / PAGE_BYTES));
  return (errno, done) => {
    for (const end of passed) end(errno);
    const over = (): void => {
      if (plan.allocated) inode.alloc_ios--;
      ioEnded(inode);
      if (inode.alloc_ios === 0) inode.io_idle.wakeAll();
      inode.data_written = osb.dev.durability.written;
      data_done?.();
      done();
    };
    if (errno !== 0 && plan.stale.length > 0) spawn(zeroStale(osb, inode, plan.stale), over);
    else over();
  };
}

/** Sends the direct runs of a plan; answers an errno, 0 when all is on the device. */
function sendDirect(osb: Osb, plan: WritePlan, done: (errno: number) => void): void {
  let left = plan.runs.length;
  if (left === 0) {
    done(0);
    return;
  }
  let failure = 0;
  const early = osb.sabotage.has("direct_early");
  for (const run of plan.runs) {
    osb.dev.write(run.addr, run.len, run.offset, (res) => {
      if (res < 0) failure = -res;
      else if (res < run.len) failure = Errno.EIO;
      if (--left === 0 && !early) done(failure);
    });
  }
  if (early) done(0);
}
