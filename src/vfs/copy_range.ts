/**
 * copy_file_range(2): whole clusters are shared where both files may be in one refcount tree, the rest is copied
 * (the kernel's vfs_copy_file_range with ocfs2_remap_file_range behind it).
 */
import { isReg } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { type Callback, spawn, type Task, wait } from "../lib/task.ts";
import { WaitQueue } from "../lib/wait.ts";
import { getattr } from "../volume/dir/attr.ts";
import { readFile } from "../volume/file/read.ts";
import { writeFile } from "../volume/file/write.ts";
import type { Inode } from "../volume/inode.ts";
import type { Osb } from "../volume/osb.ts";
import { shareRangeTask } from "../volume/refcount/index.ts";

/** Bytes copied at a time. */
const CHUNK_BYTES = 1 << 20;

/** A buffer in the arena, which is never given back; copies take turns at it, a chunk each. */
interface Scratch {
  readonly addr: number;
  busy: boolean;
  readonly free: WaitQueue;
}

const scratches = new WeakMap<Osb, Scratch>();

function* takeScratch(osb: Osb): Task<Scratch> {
  let s = scratches.get(osb);
  if (s === undefined) {
    s = { addr: osb.arena.alloc(CHUNK_BYTES, 4096), busy: false, free: new WaitQueue() };
    scratches.set(osb, s);
  }
  const { free } = s;
  while (s.busy) yield* wait<void>((cb) => free.add(() => cb(null)));
  s.busy = true;
  return s;
}

/** Copies up to `len` bytes, at most a chunk; how many. 0 at the end of the source. */
function* copyChunk(osb: Osb, src: Inode, s_off: number, dst: Inode, d_off: number, len: number): Task<number> {
  const s = yield* takeScratch(osb);
  try {
    const { addr } = s;
    const got = yield* wait<number>((cb) =>
      readFile(osb, src, { offset: s_off, len: Math.min(len, CHUNK_BYTES), addr }, cb),
    );
    if (got === 0) return 0;
    return yield* wait<number>((cb) => writeFile(osb, dst, { offset: d_off, len: got, addr }, cb));
  } finally {
    s.busy = false;
    s.free.wakeAll();
  }
}

/** Sizes of both files, when their range may be copied. */
function* checkRange(
  osb: Osb,
  src: Inode,
  s_off: number,
  dst: Inode,
  d_off: number,
  len: number,
): Task<[number, number]> {
  const s = yield* wait(osb.step((op) => getattr(op, src)));
  const d = yield* wait(osb.step((op) => getattr(op, dst)));
  const details = { src: src.ino, src_offset: s_off, dst: dst.ino, dst_offset: d_off, len };
  if (!isReg(s.mode) || !isReg(d.mode)) throw new FsError(Errno.EINVAL, "copy_range", details);
  const n = Math.min(len, s.size - s_off);
  if (src === dst && s_off < d_off + n && d_off < s_off + n)
    throw new FsError(Errno.EINVAL, "copy_range", { ...details, found: "ranges that overlap" });
  return [s.size, d.size];
}

function* copyRange(osb: Osb, src: Inode, src_off: number, dst: Inode, dst_off: number, len: number): Task<number> {
  const cs = osb.geo.clustersize;
  const [s_size, d_size] = yield* checkRange(osb, src, src_off, dst, dst_off, len);
  const total = Math.min(len, Math.max(0, s_size - src_off));
  let may_share = src_off % cs === dst_off % cs;
  let done = 0;
  try {
    while (done < total) {
      const s_off = src_off + done;
      const d_off = dst_off + done;
      let left = total - done;
      if (may_share && s_off % cs !== 0) left = Math.min(left, cs - (s_off % cs));
      else if (may_share) {
        const to_eof = s_off + left === s_size && d_off + left >= d_size;
        const whole = to_eof ? left : left - (left % cs);
        const shared = yield* shareRangeTask(osb, { src, src_offset: s_off, dst, dst_offset: d_off, len: whole });
        done += shared;
        may_share = shared > 0 && shared === whole && done < total;
        if (shared > 0) continue;
      }
      const n = yield* copyChunk(osb, src, s_off, dst, d_off, left);
      done += n;
      if (n === 0) break;
    }
  } catch (err) {
    if (done === 0) throw err;
  }
  return done;
}

/**
 * Copies `len` bytes; `done` gets how many, fewer at the end of the source or when something failed after some. EINVAL
 * (no regular files, ranges of one file that overlap), EPERM (immutable), EFBIG, ENOSPC, EIO.
 */
export function copyFileRange(
  osb: Osb,
  src: Inode,
  src_offset: number,
  dst: Inode,
  dst_offset: number,
  len: number,
  done: Callback<number>,
): void {
  spawn(copyRange(osb, src, src_offset, dst, dst_offset, len), done);
}
