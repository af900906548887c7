/**
 * Reading file data: from the dinode, from dirty pages, or straight from the disk into the caller's buffer
 * (aops.c: ocfs2_readpage, ocfs2_get_block; file.c: ocfs2_file_read_iter). A request is one plan, made in one run under the
 * lock, and then all its disk reads at the same time.
 */
import { PAGE_BYTES } from "../../block/data_cache.ts";
import { PR } from "../../dlmglue/lock_res.ts";
import { EXT_FLAGS } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import type { Callback } from "../../lib/task.ts";
import { type WaitQueue, waitOn } from "../../lib/wait.ts";
import { getClusters } from "../extents/extent_map.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { clusterOffset, type IoRun, inlineRoom, ioEnded, ioStarted, isInline, pnoOf, pushRun } from "./file_io.ts";

export interface ReadRequest {
  /** Byte offset in the file. */
  readonly offset: number;
  /** Bytes wanted; the buffer at `addr` has room for as many. */
  readonly len: number;
  /** Arena address; a page boundary makes the read go without a copy. */
  readonly addr: number;
  /** Under the lock at EX: pages of a file that is mapped for writing, which become dirty without a request. */
  readonly ex?: () => boolean;
  /** For pages of the kernel's cache (LockSet.fills_pages). */
  readonly fills_pages?: boolean;
  /** What it must come behind, asked whenever it is planned. */
  readonly behind?: () => WaitQueue | undefined;
  /** O_DIRECT: what the disk has, where other nodes write past our cache (coherency=buffered). */
  readonly direct?: boolean;
}

interface ReadPlan {
  readonly bytes: number;
  readonly runs: IoRun[];
}

const NOTHING: ReadPlan = { bytes: 0, runs: [] };

/** Fills what needs no disk, and lists the rest. Running it again is harmless. */
function planRead(op: Op, inode: Inode, req: ReadRequest): ReadPlan {
  const { osb } = op;
  const { u8 } = osb.cache;
  const ex = req.ex?.() === true;
  op.locks.fills_pages = req.fills_pages === true;
  // An earlier run may have got the lock at PR.
  const meta = osb.glue.metaLock(inode);
  const behind = req.behind?.();
  if (behind !== undefined) {
    // It may want the lock that an earlier run has got.
    if (op.locks.level(meta) !== undefined) op.locks.release(meta);
    waitOn(behind);
  }
  if (ex && op.locks.level(meta) === PR) op.locks.release(meta);
  const di = dinodeOf(op, inodeLock(op, inode, ex));
  // What a direct write maps but has not yet written must not be seen.
  if (inode.alloc_ios > 0) waitOn(inode.io_idle);
  const size = di.i_size;
  if (req.offset >= size || req.len === 0) return NOTHING;
  const bytes = Math.min(req.len, size - req.offset);
  if (isInline(di)) {
    const from = inlineRoom(osb, di).addr + req.offset;
    u8.copyWithin(req.addr, from, from + bytes);
    return { bytes, runs: [] };
  }
  const runs: IoRun[] = [];
  const cs = osb.geo.clustersize;
  const end = req.offset + bytes;
  for (let pos = req.offset; pos < end; ) {
    const cpos = Math.floor(pos / cs);
    const ext = getClusters(op, inode, cpos);
    const stop = Math.min(end, (cpos + ext.clusters) * cs);
    const addr = req.addr + (pos - req.offset);
    if (ext.p_cluster === 0 || (ext.flags & EXT_FLAGS.UNWRITTEN) !== 0) u8.fill(0, addr, addr + (stop - pos));
    else planExtent(op, inode, req, runs, pos, stop, addr, clusterOffset(osb, ext.p_cluster) + (pos - cpos * cs));
    pos = stop;
  }
  return { bytes, runs };
}

/** One written extent: whole aligned pages that are not cached come from the disk, the rest from the data cache. */
function planExtent(
  op: Op,
  inode: Inode,
  req: ReadRequest,
  runs: IoRun[],
  pos: number,
  stop: number,
  addr: number,
  disk: number,
): void {
  const { data, cache, dev } = op.osb;
  const u8 = cache.u8;
  // What the kernel keeps must not be of before a direct write that ends meanwhile: it forgets its pages when it begins one, not always when that has ended.
  // And what a direct read would find on the disk may be of before what was in a page of ours, which went when the write began.
  const first = pnoOf(disk);
  data.waitWrittenPast(first, pnoOf(disk + (stop - pos) - 1) - first + 1);
  // Under the lock at PR all that is cached is clean, and may be older than what another node wrote directly.
  const from_disk = req.direct === true && op.osb.options.coherency === "buffered" && inode.meta_lockres?.level === PR;
  const aligned = addr % dev.alignment_bytes === disk % dev.alignment_bytes && addr % dev.alignment_bytes === 0;
  if (aligned && (inode.pages === null || from_disk) && (stop - pos) % dev.alignment_bytes === 0) {
    pushRun(runs, addr, stop - pos, disk);
    return;
  }
  while (pos < stop) {
    const in_page = disk % PAGE_BYTES;
    const n = Math.min(PAGE_BYTES - in_page, stop - pos);
    const pno = pnoOf(disk);
    const cached = inode.pages === null ? undefined : data.peek(pno);
    // The last page of a file may be read whole when the caller's buffer has the room.
    const whole = in_page === 0 && addr % dev.alignment_bytes === 0 && addr + PAGE_BYTES <= req.addr + req.len;
    if (cached !== undefined) {
      cached.old = false;
      u8.copyWithin(addr, cached.addr + in_page, cached.addr + in_page + n);
    } else if (whole) pushRun(runs, addr, PAGE_BYTES, disk);
    else {
      const page = data.read(inode, pno);
      u8.copyWithin(addr, page.addr + in_page, page.addr + in_page + n);
    }
    pos += n;
    addr += n;
    disk += n;
  }
}

/** Reads up to `len` bytes; answers how many there were (0 at the end of the file). EIO when the device fails. */
export function readFile(osb: Osb, inode: Inode, req: ReadRequest, done: Callback<number>): void {
  osb.exec(
    (op) => {
      const plan = planRead(op, inode, req);
      // Counted while the lock is held: whoever gives it up right afterwards waits for what is in flight.
      if (plan.runs.length > 0) op.onSuccess(() => ioStarted(inode));
      return plan;
    },
    (err, plan) => {
      if (err) {
        done(err);
        return;
      }
      const { bytes, runs } = plan!;
      if (runs.length === 0) {
        done(null, bytes);
        return;
      }
      let left = runs.length;
      let failure = 0;
      for (const run of runs) {
        osb.dev.read(run.addr, run.len, run.offset, (res) => {
          if (res < 0) failure = -res;
          else if (res < run.len) failure = Errno.EIO;
          if (--left > 0) return;
          ioEnded(inode);
          if (failure !== 0) done(new FsError(failure, "file.read", { ino: inode.ino, offset: req.offset }));
          else done(null, bytes);
        });
      }
    },
  );
}
