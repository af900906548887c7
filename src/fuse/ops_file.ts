/** Open files: OPEN, READ, WRITE, FSYNC, RELEASE, LSEEK, FALLOCATE. */
import { I_ATTR, S_ISGID, S_ISUID } from "../format/disk/index.ts";
import {
  FOPEN_DIRECT_IO,
  FUSE_FSYNC_FDATASYNC,
  FUSE_OPEN_KILL_SUIDGID,
  FUSE_READ_LOCKOWNER,
  FUSE_WRITE_CACHE,
  FUSE_WRITE_KILL_SUIDGID,
  FuseCopyFileRangeIn,
  FuseCopyFileRangeOut,
  FuseFallocateIn,
  FuseFsyncIn,
  FuseLseekIn,
  FuseLseekOut,
  FuseOpenIn,
  FuseReadIn,
  FuseReleaseIn,
  FuseWriteIn,
  FuseWriteOut,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import type { WaitQueue } from "../lib/wait.ts";
import { copyFileRange as copyFileRangeOf } from "../vfs/copy_range.ts";
import {
  fallocate as fallocateOf,
  fsync as fsyncOf,
  lseek as lseekOf,
  readFile,
  setattr,
  type WriteRequest,
  writeFile,
} from "../vfs/file.ts";
import { type Attr, atimeIsDue, getattr, type InGroup, touchAtime } from "../volume/dir/attr.ts";
import { dinodeOf, type Inode, inodeLock } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import { type FileHandle, isDirect, O_ACCMODE, O_APPEND, O_TRUNC } from "./handles.ts";
import { changeAttr } from "./ops_attr.ts";
import { dropFlock } from "./ops_lock.ts";
import { killCapabilities } from "./ops_xattr.ts";
import { replyOpen } from "./reply.ts";
import type { Session } from "./session.ts";
import { payloadOf, type Slot } from "./slots.ts";

const O_DSYNC = 0o10000;
const O_SYNC = 0o4010000;

/**
 * The kernel behind FUSE does not know immutable and append-only inodes, so opens are refused here (may_open). True for a file that may only be
 * appended to.
 */
function checkOpen(op: Op, inode: Inode, flags: number, ex: boolean): boolean {
  const { i_attr } = dinodeOf(op, inodeLock(op, inode, ex));
  if ((flags & (O_ACCMODE | O_TRUNC)) === 0 || (i_attr & (I_ATTR.IMMUTABLE | I_ATTR.APPEND)) === 0) return false;
  const appends = (flags & O_TRUNC) === 0 && (flags & O_APPEND) !== 0;
  if ((i_attr & I_ATTR.IMMUTABLE) !== 0 || !appends) throw new FsError(Errno.EPERM, "open", { ino: inode.ino, i_attr });
  return true;
}

/**
 * What the kernel leaves to us of O_SYNC, O_DSYNC, RWF_DSYNC and "-o sync" where FOPEN_DIRECT_IO was answered: it asks for FSYNC only behind writes
 * through its cache (fuse_direct_write_iter has no generic_write_sync).
 */
const syncOf = (flags: number): "data" | "all" | undefined =>
  (flags & O_DSYNC) === 0 ? undefined : (flags & O_SYNC) === O_SYNC ? "all" : "data";

const nothing = (): void => {};

/** Counts the open file and gives it a number. */
export function openHandle(s: Session, inode: Inode, flags: number): FileHandle {
  const handle = s.handles.open(inode, flags);
  handle.past_cache = (s.openFlags(flags) & FOPEN_DIRECT_IO) !== 0;
  s.vfs.open(s.osb, inode, handle.mayWrite);
  return handle;
}

export function closeHandle(s: Session, fh: number): void {
  const handle = s.handles.close(fh);
  if (handle === undefined) return;
  dropFlock(handle);
  s.vfs.release(s.osb, handle.inode, handle.mayWrite);
}

/**
 * Within an operation: checks the file and opens it.
 *
 * Pages of a file that is open for writing may become dirty through a mapping, and nobody is asked then. So such an open has
 * the lock at EX, and from then on giving EX up drops the pages (coherence, rule 8).
 */
export function openChecked(s: Session, op: Op, inode: Inode, flags: number, ok: (handle: FileHandle) => void): void {
  const append_only = checkOpen(op, inode, flags, s.writesUnderEx(flags));
  op.onSuccess(() => {
    const handle = openHandle(s, inode, flags);
    handle.append_only = append_only;
    ok(handle);
  });
}

/** What O_TRUNC takes away, by the open flags of OPEN or CREATE. */
export const killsSuid = (s: Session, open_flags: number): InGroup | undefined =>
  (open_flags & FUSE_OPEN_KILL_SUIDGID) === 0 ? undefined : s.callersGroups();

/** O_TRUNC of the file just opened; `ok` gets the attributes that it has then. A failure closes it again. */
export function truncateOpened(
  s: Session,
  handle: FileHandle,
  kill_suid: InGroup | undefined,
  ok: (attr: Attr | undefined) => void,
  failed: (err: unknown) => void,
): void {
  if ((handle.flags & O_TRUNC) === 0) {
    ok(undefined);
    return;
  }
  changeAttr(s, handle.inode, kill_suid === undefined ? { size: 0 } : { size: 0, kill_suid }, ok, (err) => {
    closeHandle(s, handle.fh);
    failed(err);
  });
}

export function open(s: Session): void {
  const { unique } = s;
  const inode = s.inode(s.nodeid);
  const q = FuseOpenIn.at(s.dv as DataView, s.body);
  const { flags } = q;
  const kill_suid = killsSuid(s, q.open_flags);
  let handle: FileHandle;
  s.run(
    (op) =>
      openChecked(s, op, inode, flags, (h) => {
        handle = h;
      }),
    () =>
      truncateOpened(
        s,
        handle,
        kill_suid,
        () => replyOpen(s, unique, handle.fh, s.openFlags(flags)),
        (err) => s.error(unique, err),
      ),
  );
}

export function release(s: Session): void {
  closeHandle(s, FuseReleaseIn.at(s.dv as DataView, s.body).fh);
  s.replyEmpty(s.unique);
}

/** The first read of an open file moves atime, as relatime does: when the file was changed since it was last read. */
function touchOnRead(s: Session, handle: FileHandle): void {
  if (handle.was_read) return;
  handle.was_read = true;
  const { osb } = s;
  if (osb.options.noatime || osb.readonly_reason !== null) return;
  const { inode } = handle;
  osb.exec(
    (op) => {
      const di = dinodeOf(op, inodeLock(op, inode));
      const stale = di.i_atime <= di.i_mtime || di.i_atime <= di.i_ctime;
      return stale && atimeIsDue(op, di);
    },
    (err, due) => {
      if (!err && due === true)
        osb.exec(
          (op) => touchAtime(op, inode),
          () => {},
        );
    },
  );
}

export function read(s: Session): void {
  const { unique } = s;
  const q = FuseReadIn.at(s.dv as DataView, s.body);
  const { offset, size, flags, read_flags } = q;
  const handle = s.handles.get(q.fh);
  if (handle === undefined) {
    s.fail(unique, Errno.EBADF);
    return;
  }
  const { inode } = handle;
  // Only what a program reads past the cache has an owner. O_DIRECT says nothing: such a file can be mapped, and its pages are filled by READs like others.
  const past_cache = (read_flags & FUSE_READ_LOCKOWNER) !== 0;
  const fills_pages = s.policy.clustered && !past_cache;
  // Asked whenever the read is planned: a writer may come while it waits.
  const ex = (): boolean => fills_pages && inode.writer_count > 0;
  const end = offset + (s.osb.sabotage.has("reads_behind") ? Math.min(size, 4096) : size);
  const behind = (): WaitQueue | undefined => (past_cache ? undefined : s.writes.before(inode.ino, offset, end));
  const release = fills_pages ? s.held.add(inode.ino, offset, size) : nothing;
  const direct = past_cache && isDirect(flags);
  const go = (slot: Slot): void => {
    const addr = payloadOf(slot);
    readFile(s.osb, inode, { offset, len: size, addr, ex, fills_pages, direct, behind }, (err, n) => {
      // The WRITE came while this was under way: what it found is old when it arrives.
      if (!err && behind() !== undefined) {
        go(slot);
        return;
      }
      release();
      if (err) s.error(unique, err);
      else {
        if (fills_pages) s.pages.filled(inode.ino, offset, size);
        s.replyPayload(unique, addr, n!);
      }
      s.slots.give(slot);
    });
  };
  const start = (slot: Slot): void => {
    go(slot);
    touchOnRead(s, handle);
  };
  const slot = s.slots.take(size);
  if (slot !== undefined) start(slot);
  else s.slots.wait(size, start);
}

export function replyWritten(s: Session, unique: number, bytes: number): void {
  const at = s.bodyOut(FuseWriteOut.size);
  FuseWriteOut.at(s.dv as DataView, at).size = bytes;
  s.reply(unique, FuseWriteOut.size);
}

/**
 * The payload is written from where it was received. If that takes longer than this turn the receive slot goes with it; when
 * slots are short the payload moves, to a small slot or to the heap, so that the next request can be received.
 */
export function write(s: Session): void {
  const { unique, u8 } = s;
  const q = FuseWriteIn.at(s.dv as DataView, s.body);
  const { offset, size, write_flags, flags } = q;
  const payload = s.body + FuseWriteIn.size;
  if (s.end - payload < size) {
    s.fail(unique, Errno.EINVAL);
    return;
  }
  // Not by the handle: what the kernel writes back later comes with any handle of the file.
  const inode = s.inode(s.nodeid);
  // What the kernel writes back goes on while the lock is being given up: the notification waits for it.
  const written_back = (write_flags & FUSE_WRITE_CACHE) !== 0;
  // fcntl(2) took O_APPEND away, which the kernel refuses where it knows of append-only files.
  const handle = written_back ? undefined : s.handles.get(q.fh);
  if ((flags & O_APPEND) === 0 && handle?.append_only === true) {
    s.fail(unique, Errno.EPERM);
    return;
  }
  const kill_suid = (write_flags & FUSE_WRITE_KILL_SUIDGID) === 0 ? undefined : s.callersGroups();
  const append = s.policy.clustered && (flags & O_APPEND) !== 0;
  // fcntl(2) has set O_APPEND: the kernel filled pages first, at what it took for the end of the file.
  const at_kernels_end = append && !isDirect(flags) && handle?.past_cache === false;
  // Where an append goes is known when it is there.
  const pending = written_back
    ? null
    : append
      ? s.writes.add(inode.ino, 0, Number.POSITIVE_INFINITY, false)
      : s.writes.add(inode.ino, offset, offset + size, !isDirect(flags));
  const request = (addr: number): WriteRequest => ({
    offset,
    len: size,
    addr,
    append,
    direct: isDirect(flags),
    kill_suid,
    sync: handle?.past_cache === true ? syncOf(flags) : undefined,
    file: handle,
    exempt: written_back,
    todo: (from, to) => pending?.todo(from, to) ?? { from, to },
  });
  // The answer waits for both, the write and this.
  let capabilities_gone = true;
  let answer = nothing;
  let failure: unknown = null;
  if (isDirect(flags)) {
    capabilities_gone = false;
    killCapabilities(s.osb, inode, (err) => {
      capabilities_gone = true;
      failure = err;
      answer();
    });
  }
  const holds_pages = s.policy.clustered && !written_back && !isDirect(flags);
  if (holds_pages) s.pages.covered(inode.ino, offset, size);
  const release = holds_pages ? s.held.addPartial(inode.ino, offset, size) : nothing;
  const served = written_back ? s.pages.serve(inode.ino) : nothing;
  const came_back = written_back && s.policy.clustered ? s.writes.back(inode.ino, offset, offset + size) : nothing;
  const go = (addr: number, after: () => void): void =>
    writeFile(s.osb, inode, request(addr), (err, n) => {
      served();
      came_back();
      // READs of these bytes go on: what is called back below may wait for them.
      if (pending !== null) s.writes.done(inode.ino, pending);
      else if (!err) s.writes.writtenBack(inode.ino, offset, offset + size);
      answer = () => {
        release();
        if (err ?? failure) s.error(unique, err ?? failure);
        else replyWritten(s, unique, n!);
        // Not before the answer, as the last of these pages may be locked until then.
        if (at_kernels_end && !s.ended)
          s.osb.kernel_caches?.drop(inode, [{ from: offset, to: Number.MAX_SAFE_INTEGER }])(nothing);
      };
      const old = pending?.written ?? [];
      if (old.length > 0 && s.osb.kernel_caches !== null && !s.ended) s.osb.kernel_caches.drop(inode, old)(answer);
      else if (capabilities_gone) answer();
      after();
    });
  if (s.slots.freeLarge > 0) {
    let answered = false;
    let kept: Slot = 0;
    go(payload, () => {
      answered = true;
      if (kept !== 0) s.slots.give(kept);
    });
    if (!answered) kept = s.keepReceiveSlot();
    return;
  }
  const start = (slot: Slot): void => go(payloadOf(slot), () => s.slots.give(slot));
  const slot = s.slots.take(size);
  if (slot !== undefined) {
    u8.copyWithin(payloadOf(slot), payload, payload + size);
    start(slot);
    return;
  }
  const copy = u8.slice(payload, payload + size);
  s.slots.wait(size, (later) => {
    u8.set(copy, payloadOf(later));
    start(later);
  });
}

/** FSYNC and FSYNCDIR. */
export function fsync(s: Session): void {
  const { unique } = s;
  const q = FuseFsyncIn.at(s.dv as DataView, s.body);
  const datasync = (q.fsync_flags & FUSE_FSYNC_FDATASYNC) !== 0;
  const answer = (err: unknown): void => {
    if (err) s.error(unique, err);
    else s.replyEmpty(unique);
  };
  fsyncOf(s.osb, s.inode(s.nodeid), datasync, answer, s.handles.get(q.fh));
}

export function lseek(s: Session): void {
  const q = FuseLseekIn.at(s.dv as DataView, s.body);
  const { offset, whence } = q;
  const inode = s.inode(s.nodeid);
  s.run(
    (op) => lseekOf(op, inode, offset, whence),
    (found, unique) => {
      FuseLseekOut.at(s.dv as DataView, s.bodyOut(FuseLseekOut.size)).offset = found;
      s.reply(unique, FuseLseekOut.size);
    },
  );
}

/**
 * Before FALLOCATE and COPY_FILE_RANGE, which say nothing of it: they change contents, so setuid and setgid go (file_modified), but when root asks, as
 * whoever has CAP_FSETID keeps them.
 */
function killSuid(s: Session, inode: Inode, go: () => void): void {
  const { unique, osb } = s;
  if (s.uid === 0) {
    go();
    return;
  }
  const kill_suid = s.callersGroups();
  s.run(
    (op) => getattr(op, inode).mode,
    (mode) => {
      if ((mode & (S_ISUID | S_ISGID)) === 0) go();
      else
        setattr(osb, inode, { kill_suid }, (err) => {
          if (err) s.error(unique, err);
          else go();
        });
    },
  );
}

export function fallocate(s: Session): void {
  const { unique, osb } = s;
  const { mode, offset, length } = FuseFallocateIn.at(s.dv as DataView, s.body);
  const inode = s.inode(s.nodeid);
  killSuid(s, inode, () =>
    fallocateOf(osb, inode, mode, offset, length, (err) => {
      if (err) s.error(unique, err);
      else s.replyEmpty(unique);
    }),
  );
}

/** COPY_FILE_RANGE and, since 7.45, COPY_FILE_RANGE_64: they differ in how much the answer can say. */
function copying(s: Session, ok: (bytes: number, unique: number) => void): void {
  const { unique, osb } = s;
  const { nodeid_out, off_in, off_out, len } = FuseCopyFileRangeIn.at(s.dv as DataView, s.body);
  const [from, to] = [s.inode(s.nodeid), s.inode(nodeid_out)];
  killSuid(s, to, () =>
    copyFileRangeOf(osb, from, off_in, to, off_out, len, (err, n) => {
      if (err) s.error(unique, err);
      else ok(n!, unique);
    }),
  );
}

export function copyFileRange(s: Session): void {
  copying(s, (bytes, unique) => replyWritten(s, unique, bytes));
}

export function copyFileRange64(s: Session): void {
  copying(s, (bytes, unique) => {
    FuseCopyFileRangeOut.at(s.dv as DataView, s.bodyOut(FuseCopyFileRangeOut.size)).bytes_copied = bytes;
    s.reply(unique, FuseCopyFileRangeOut.size);
  });
}
