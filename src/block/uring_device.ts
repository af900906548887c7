/**
 * A file or block device through the loop's ring: what a mounted volume uses. O_DIRECT where the file system of the file has it,
 * straight between the disk and the arena.
 *
 * Long transfers go in pieces at the same time; a short one (signals, the end of a page of a sparse file) is continued
 * until it is whole or truly at the end. All of that is here, so that a caller sees a length or an errno.
 */

import { Errno } from "../lib/errno.ts";
import { check, FsError } from "../lib/fs_error.ts";
import { lockDisk } from "../native/disk_lock.ts";
import {
  blkLogicalSize,
  blkReadonly,
  closeFd,
  dioOffsetAlign,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  fdMode,
  fdSize,
  O,
  openFile,
  RWF_DSYNC,
} from "../native/index.ts";
import type { Loop } from "../native/loop.ts";
import { type BlockDevice, Durability, type IoDone } from "./device.ts";
import { DeviceEnd } from "./device_end.ts";

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFBLK = 0o060000;
/** Between two tries of a write that the gate refused. */
const GATE_MS = 50;
/** Longest single transfer. */
const MAX_TRANSFER = 2 << 20;
/** Most pieces of one vectored transfer (UIO_MAXIOV). */
const MAX_PIECES = 1024;

export interface OpenedDevice {
  readonly fd: number;
  readonly size_bytes: number;
  readonly alignment_bytes: number;
  readonly is_block_device: boolean;
  readonly direct: boolean;
  /** Ends what of the lock does not go with the file. */
  readonly unlock: () => void;
}

function alignmentOf(fd: number, is_block_device: boolean): number {
  const align = dioOffsetAlign(fd);
  // 0: O_DIRECT is accepted and ignored.
  if (align >= 0) return Math.max(align, 1);
  // Before Linux 6.1 nobody tells. A device takes whole sectors; most files take 512.
  return is_block_device ? check(blkLogicalSize(fd), "device.sector") : 512;
}

/**
 * Opens `path` for a volume and locks it against a second mount on this machine; `shared`: only against one that is not of the
 * cluster. FsError: EBUSY when somebody else has it, EINVAL for what is neither a file nor a block device, else what open(2) says.
 */
export function openDevice(path: string, readonly: boolean, shared = false): OpenedDevice {
  const mode = readonly ? O.RDONLY : O.RDWR;
  let direct = true;
  let fd = openFile(path, mode | O.DIRECT, 0);
  if (fd === -Errno.EINVAL) {
    direct = false;
    fd = openFile(path, mode, 0);
  }
  check(fd, "device.open", { device: path });
  try {
    const type = check(fdMode(fd), "device.stat", { device: path }) & S_IFMT;
    const is_block_device = type === S_IFBLK;
    if (!is_block_device && type !== S_IFREG)
      throw new FsError(Errno.EINVAL, "device.open", { device: path, found: "neither a file nor a block device" });
    if (is_block_device && !readonly && !shared) {
      // Root may open a read-only device for writing; it is the writes that fail then.
      if (blkReadonly(fd) === 1) throw new FsError(Errno.EROFS, "device.open", { device: path });
      // O_EXCL on a block device: refused while the kernel has it mounted or another node of ours holds it.
      const exclusive = openFile(path, mode | (direct ? O.DIRECT : 0) | O.EXCL, 0);
      check(exclusive, "device.open", { device: path });
      closeFd(fd);
      fd = exclusive;
    }
    const unlock = lockDisk(fd, path, !readonly && !shared);
    return {
      fd,
      size_bytes: check(fdSize(fd), "device.size", { device: path }),
      alignment_bytes: direct ? alignmentOf(fd, is_block_device) : 1,
      is_block_device,
      direct,
      unlock,
    };
  } catch (err) {
    closeFd(fd);
    throw err;
  }
}

/** A device that fails, or went away (ENODEV, ENXIO, EREMOTEIO ...), is EIO to programs; a full file system below us is ENOSPC. */
const failure = (res: number): number => (res >= 0 || res === -Errno.ENOSPC || res === -Errno.EROFS ? res : -Errno.EIO);

export class UringDevice implements BlockDevice {
  readonly name: string;
  size_bytes: number;
  readonly readonly: boolean;
  readonly alignment_bytes: number;
  readonly is_block_device: boolean;
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #unlock: () => void;
  readonly #end: DeviceEnd;
  #in_flight = 0;
  #closed = false;
  readonly durability = new Durability();
  /** What was asked of the disk; a durable write is a flush too. */
  readonly io = { reads: 0, writes: 0, flushes: 0 };

  constructor(loop: Loop, path: string, opened: OpenedDevice, readonly: boolean) {
    this.#loop = loop;
    this.#fd = opened.fd;
    this.#unlock = opened.unlock;
    this.name = path;
    this.size_bytes = opened.size_bytes;
    this.alignment_bytes = opened.alignment_bytes;
    this.is_block_device = opened.is_block_device;
    this.readonly = readonly;
    this.#end = new DeviceEnd(path, opened.fd, opened.size_bytes);
  }

  measure(): void {
    this.size_bytes = Math.max(this.size_bytes, fdSize(this.#fd));
  }

  /** Operations that the kernel has, or will have with the next submit. */
  get inFlight(): number {
    return this.#in_flight;
  }

  read(addr: number, len: number, offset: number, done: IoDone): void {
    this.io.reads++;
    if (len <= MAX_TRANSFER) this.#one(false, addr, len, offset, 0, done);
    else this.#pieces(false, addr, len, offset, 0, done);
  }

  write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    if (this.#refuses(offset, len, done)) return;
    const flags = dsync ? RWF_DSYNC : 0;
    this.io.writes++;
    if (dsync) this.io.flushes++;
    if (len <= MAX_TRANSFER) this.#one(true, addr, len, offset, flags, done);
    else this.#pieces(true, addr, len, offset, flags, done);
  }

  /** A block device refuses by itself what lies behind its end. */
  #refuses(offset: number, len: number, done: IoDone): boolean {
    const is_lost = !this.is_block_device && this.#end.isLost(offset, len, this.#loop.turns);
    const errno = this.readonly ? Errno.EROFS : is_lost ? Errno.EIO : 0;
    if (errno !== 0) done(-errno);
    return errno !== 0;
  }

  /** One transfer, continued while it comes back short. */
  #one(write: boolean, addr: number, len: number, offset: number, flags: number, done: IoDone): void {
    let got = 0;
    const { ring } = this.#loop;
    const go = (): void => {
      this.#in_flight++;
      const id = this.#loop.expect((res) => {
        if (write && res === -Errno.ESHUTDOWN) {
          this.#hold(go);
          return;
        }
        this.#in_flight--;
        if (res === -Errno.EINTR || res === -Errno.EAGAIN) {
          go();
          return;
        }
        if (res < 0) {
          done(got > 0 && !write ? got : failure(res));
          return;
        }
        got += res;
        if (write && flags === 0) this.durability.written++;
        if (got >= len) done(got);
        else if (res === 0) done(this.#end.isLost(offset, len) ? -Errno.EIO : got);
        else go();
      });
      if (write) ring.write(this.#fd, addr + got, len - got, offset + got, id, flags);
      else ring.read(this.#fd, addr + got, len - got, offset + got, id);
    };
    go();
  }

  /**
   * The write gate is shut: our heartbeat is late. Nothing is lost yet; either it comes, and the gate opens, or this process ends. To fail the
   * write would end the node in any case, for its journal would be aborted.
   */
  #hold(go: () => void): void {
    this.#loop.after(GATE_MS, () => {
      this.#in_flight--;
      go();
    });
  }

  #pieces(write: boolean, addr: number, len: number, offset: number, flags: number, done: IoDone): void {
    const join = new Join(done);
    for (let at = 0; at < len; at += MAX_TRANSFER) {
      const n = Math.min(MAX_TRANSFER, len - at);
      this.#one(write, addr + at, n, offset + at, flags, join.part(n));
    }
    join.ready();
  }

  readv(iov: readonly number[], offset: number, done: IoDone): void {
    this.#vectored(false, iov, offset, done);
  }

  writev(iov: readonly number[], offset: number, done: IoDone): void {
    let len = 0;
    for (let i = 1; i < iov.length; i += 2) len += iov[i]!;
    if (this.#refuses(offset, len, done)) return;
    this.#vectored(true, iov, offset, done);
  }

  #vectored(write: boolean, iov: readonly number[], offset: number, done: IoDone): void {
    if (iov.length === 2) {
      if (write) this.write(iov[0]!, iov[1]!, offset, done);
      else this.read(iov[0]!, iov[1]!, offset, done);
      return;
    }
    if (write) this.io.writes++;
    else this.io.reads++;
    const join = new Join(done);
    let at = offset;
    for (let from = 0; from < iov.length; ) {
      let to = from;
      let len = 0;
      while (to < iov.length && to - from < MAX_PIECES * 2 && (len === 0 || len + iov[to + 1]! <= MAX_TRANSFER)) {
        len += iov[to + 1]!;
        to += 2;
      }
      this.#vector(write, iov, from, to, len, at, join.part(len));
      at += len;
      from = to;
    }
    join.ready();
  }

  #vector(
    write: boolean,
    iov: readonly number[],
    from: number,
    to: number,
    len: number,
    offset: number,
    done: IoDone,
  ): void {
    const { ring } = this.#loop;
    const go = (): void => {
      this.#in_flight++;
      const id = this.#loop.expect((res) => {
        if (write && res === -Errno.ESHUTDOWN) {
          this.#hold(go);
          return;
        }
        this.#in_flight--;
        if (res === -Errno.EINTR || res === -Errno.EAGAIN) {
          go();
          return;
        }
        if (write && res > 0) this.durability.written++;
        if (res < 0 || res === len) {
          done(failure(res));
          return;
        }
        if (res === 0) {
          done(this.#end.isLost(offset, len) ? -Errno.EIO : 0);
          return;
        }
        // Short: the rest goes piece by piece.
        const rest = remainder(iov, from, to, res);
        this.#vectored(write, rest, offset + res, (more) => done(more < 0 ? more : res + more));
      });
      const table = this.#loop.table(iov, from, to);
      if (write) ring.writev(this.#fd, table, (to - from) >> 1, offset, id);
      else ring.readv(this.#fd, table, (to - from) >> 1, offset, id);
    };
    go();
  }

  flush(done: IoDone): void {
    this.io.flushes++;
    const go = (): void => {
      this.#in_flight++;
      const { written } = this.durability;
      const id = this.#loop.expect((res) => {
        this.#in_flight--;
        if (res === -Errno.EINTR || res === -Errno.EAGAIN) {
          go();
          return;
        }
        if (res >= 0) this.durability.flush(written);
        done(failure(res));
      });
      this.#loop.ring.fsync(this.#fd, true, id);
    };
    go();
  }

  discard(offset: number, len: number, done: IoDone): void {
    if (this.readonly) {
      done(-Errno.EROFS);
      return;
    }
    this.#in_flight++;
    const id = this.#loop.expect((res) => {
      this.#in_flight--;
      done(res);
    });
    this.#loop.ring.fallocate(this.#fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len, id);
  }

  submit(): void {
    if (this.#loop.ring.queued > 0) this.#loop.submit();
  }

  pump(): boolean {
    if (this.#in_flight === 0) return false;
    this.#loop.pump();
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeFd(this.#fd);
    this.#unlock();
  }
}

/** Several transfers that answer as one: the bytes from the front that are whole, or the first errno. */
class Join {
  readonly #done: IoDone;
  readonly #want: number[] = [];
  readonly #got: number[] = [];
  #left = 1;

  constructor(done: IoDone) {
    this.#done = done;
  }

  part(want: number): IoDone {
    const i = this.#want.push(want) - 1;
    this.#left++;
    return (res) => {
      this.#got[i] = res;
      this.#settle();
    };
  }

  /** All parts were started. */
  ready(): void {
    this.#settle();
  }

  #settle(): void {
    if (--this.#left > 0) return;
    let total = 0;
    for (let i = 0; i < this.#want.length; i++) {
      const got = this.#got[i]!;
      if (got < 0) {
        this.#done(got);
        return;
      }
      total += got;
      if (got < this.#want[i]!) break;
    }
    this.#done(total);
  }
}

/** The pieces of iov[from..to) behind the first `skip` bytes. */
function remainder(iov: readonly number[], from: number, to: number, skip: number): number[] {
  const rest: number[] = [];
  for (let i = from; i < to; i += 2) {
    const len = iov[i + 1]!;
    if (skip >= len) skip -= len;
    else {
      rest.push(iov[i]! + skip, len - skip);
      skip = 0;
    }
  }
  return rest;
}
