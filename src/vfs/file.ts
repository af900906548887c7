/**
 * Operations on files by inode, speaking errno and callbacks: what FUSE and the library call (file.c). Each calls `done`
 * once, before it returns if nothing had to be waited for.
 */
import { NO_TID } from "../block/buffer_cache.ts";
import { LockSet } from "../dlmglue/lock_set.ts";
import { type Dinode, I_ATTR, S_IFMT } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { errseqCheck, errseqCheckAndAdvance, errseqSample, type IsTold } from "../lib/errseq.ts";
import { FsError } from "../lib/fs_error.ts";
import { type Callback, spawn, type Task, wait } from "../lib/task.ts";
import { volumeStat } from "../volume/alloc/suballoc.ts";
import { type Attr, attrOf, getattr, type InGroup, secondsOf, withoutSuid } from "../volume/dir/attr.ts";
import { seekData, seekHole } from "../volume/extents/extent_map.ts";
import { fallocateTask } from "../volume/file/fallocate.ts";
import { truncateTask } from "../volume/file/truncate.ts";
import { goesPast, type WriteRequest, writeFile as write } from "../volume/file/write.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import type { Osb } from "../volume/osb.ts";
import { chmodAcl } from "../volume/xattr/acl.ts";

export { type ReadRequest, readFile } from "../volume/file/read.ts";
export type { WriteRequest } from "../volume/file/write.ts";

export interface Timestamp {
  readonly sec: number;
  readonly nsec: number;
}

/** What setattr changes; absent fields stay. `size` comes first, as truncate(2) would. */
export interface AttrChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Timestamp | "now";
  readonly mtime?: Timestamp | "now";
  readonly ctime?: Timestamp;
  /** Setuid and setgid go, as whoever asks is in these groups. */
  readonly kill_suid?: InGroup;
  /** The kernel tells of times that it kept itself: of a file that may not be changed any more, too. */
  readonly kernels_own?: boolean;
}

/** The kernel lets nobody change these of an immutable or append-only inode (notify_change). */
function checkAttrChange(inode: Inode, di: Dinode, changes: AttrChanges): void {
  if (changes.kernels_own === true) return;
  const explicit =
    changes.mode !== undefined ||
    changes.uid !== undefined ||
    changes.gid !== undefined ||
    typeof changes.atime === "object" ||
    typeof changes.mtime === "object" ||
    // utimensat(2) with UTIME_OMIT; both to now is utime(2) without times.
    (changes.atime === undefined) !== (changes.mtime === undefined);
  const bits = explicit ? I_ATTR.IMMUTABLE | I_ATTR.APPEND : I_ATTR.IMMUTABLE;
  if ((di.i_attr & bits) !== 0) throw new FsError(Errno.EPERM, "file.setattr", { ino: inode.ino, i_attr: di.i_attr });
}

function applyAttr(op: Op, inode: Inode, di: Dinode, changes: AttrChanges): void {
  checkAttrChange(inode, di, changes);
  const { now } = op;
  if (changes.kill_suid !== undefined) di.i_mode = withoutSuid(di.i_mode, di.i_gid, changes.kill_suid);
  if (changes.mode !== undefined) {
    di.i_mode = (di.i_mode & S_IFMT) | (changes.mode & 0o7777);
    chmodAcl(op, inode);
  }
  if (changes.uid !== undefined) di.i_uid = changes.uid;
  if (changes.gid !== undefined) di.i_gid = changes.gid;
  if (changes.atime !== undefined) {
    const t = changes.atime === "now" ? now : changes.atime;
    di.i_atime = secondsOf(t.sec);
    di.i_atime_nsec = t.nsec;
  }
  if (changes.mtime !== undefined) {
    const t = changes.mtime === "now" ? now : changes.mtime;
    di.i_mtime = secondsOf(t.sec);
    di.i_mtime_nsec = t.nsec;
  }
  const c = changes.ctime ?? now;
  di.i_ctime = secondsOf(c.sec);
  di.i_ctime_nsec = c.nsec;
}

/** chmod, chown, utimes, truncate in one (ocfs2_setattr). Answers the new attributes. */
export function setattr(osb: Osb, inode: Inode, changes: AttrChanges, done: Callback<Attr>): void {
  if (changes.size !== undefined) {
    spawn(setattrSize(osb, inode, changes, changes.size), done);
    return;
  }
  osb.exec((op) => {
    const bh = inodeLock(op, inode, true);
    op.modify(bh);
    const di = dinodeOf(op, bh);
    applyAttr(op, inode, di, changes);
    inodeChanged(op, inode, false);
    return attrOf(osb, di);
  }, done);
}

function* setattrSize(osb: Osb, inode: Inode, changes: AttrChanges, size: number): Task<Attr> {
  const locks = new LockSet();
  // The kernel holds back what it has to write until the size is set, and a notification waits for that.
  locks.exempt = true;
  try {
    yield* truncateTask(osb, inode, size, locks, (op, bh) => {
      const { size: _, ...others } = changes;
      if (Object.values(others).some((v) => v !== undefined)) applyAttr(op, inode, dinodeOf(op, bh), others);
    });
    return yield* wait(osb.step((op) => getattr(op, inode), locks));
  } finally {
    locks.releaseAll();
  }
}

/** fallocate(2); see fallocateTask for the modes. */
export function fallocate(
  osb: Osb,
  inode: Inode,
  mode: number,
  offset: number,
  len: number,
  done: Callback<void>,
): void {
  spawn(fallocateTask(osb, inode, mode, offset, len), done);
}

/**
 * fsync(2): the file's data, and the transaction that last changed it, are durable. Files that fsync at the same time share a
 * commit. Reports each failed write-back (EIO, ENOSPC) once to each open file.
 */
export function fsync(osb: Osb, inode: Inode, datasync: boolean, done: Callback<void>, file?: IsTold): void {
  spawn(fsyncTask(osb, inode, datasync, file ?? { f_wb_err: errseqSample(inode.wb_err) }), done);
}

function* fsyncTask(osb: Osb, inode: Inode, datasync: boolean, file: IsTold): Task<void> {
  if (osb.slot_num < 0) return;
  if (inode.dirty_pages > 0 || inode.pages_in_flight > 0) {
    const changed = datasync ? inode.datasync_tid : inode.sync_tid;
    const committed = changed === NO_TID || osb.journal.isCommitted(changed);
    yield* wait(osb.data.flushOwner(inode, osb.options.barrier && committed));
  }
  const errno = osb.sabotage.has("fsync_tells") ? 0 : errseqCheckAndAdvance(inode, file);
  if (errno !== 0) throw new FsError(errno, "file.fsync", { ino: inode.ino });
  const { journal } = osb;
  if (journal.aborted !== null) throw new FsError(Errno.EIO, "file.fsync", { ino: inode.ino, journal: "aborted" });
  const tid = datasync ? inode.datasync_tid : inode.sync_tid;
  const { data_written } = inode;
  if (tid !== NO_TID && !journal.isCommitted(tid)) yield* wait(journal.commitTid(tid));
  // A commit flushes the device, but one that was under way may have done so before the data was written; and what was written back
  // a while ago was flushed by nobody, as was what another node wrote back.
  const { others_wrote } = inode;
  if (!osb.options.barrier || !(others_wrote || osb.dev.durability.flushed < data_written)) return;
  inode.others_wrote = false;
  try {
    yield* wait(osb.sharedFlush);
  } catch (err) {
    inode.others_wrote ||= others_wrote;
    throw err;
  }
}

/**
 * Writes `len` bytes, and makes them durable where chattr +S or the request asks for it (ocfs2_file_write_iter); see writeFile of volume/file/write.ts. What the
 * kernel writes back was answered for long before. What a direct write had to leave to the cache is on the device when it is answered.
 */
export function writeFile(osb: Osb, inode: Inode, req: WriteRequest, done: Callback<number>): void {
  write(osb, inode, req, (err, n) => {
    const sync = inode.sync_writes ? "all" : req.sync;
    const written = (failed: unknown): void => (failed ? done(failed) : done(null, n));
    if (err || req.exempt === true) done(err, n);
    else if (sync !== undefined) fsync(osb, inode, sync === "data", written, req.file);
    else if (req.direct === true && !goesPast(osb, true, req.offset, req.len, req.addr))
      spawn(writeOut(osb, inode), written);
    else done(null, n);
  });
}

/** Pages of the file that are dirty are on the device, or that is EIO. */
function* writeOut(osb: Osb, inode: Inode): Task<void> {
  const since = errseqSample(inode.wb_err);
  yield* wait(osb.data.flushOwner(inode));
  const errno = errseqCheck(inode.wb_err, since);
  if (errno !== 0) throw new FsError(errno, "file.write.direct", { ino: inode.ino });
}

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** lseek(2) with SEEK_DATA or SEEK_HOLE. ENXIO behind the end of the file or without more data, EINVAL for other values. */
export function lseek(op: Op, inode: Inode, offset: number, whence: number): number {
  const size = dinodeOf(op, inodeLock(op, inode)).i_size;
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError(Errno.EINVAL, "file.lseek", { whence });
  const found =
    offset < 0 || offset >= size
      ? undefined
      : whence === SEEK_DATA
        ? seekData(op, inode, offset)
        : seekHole(op, inode, offset);
  if (found === undefined) throw new FsError(Errno.ENXIO, "file.lseek", { ino: inode.ino, offset, size });
  return found;
}

export interface StatFs {
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly bsize: number;
  readonly namelen: number;
}

/** statfs(2), in clusters as the kernel says it (ocfs2_statfs). */
export function statfs(op: Op): StatFs {
  const s = volumeStat(op);
  return {
    blocks: s.total_clusters,
    bfree: s.free_clusters,
    bavail: s.free_clusters,
    files: s.total_clusters,
    ffree: s.free_clusters,
    bsize: op.osb.geo.clustersize,
    namelen: 255,
  };
}
