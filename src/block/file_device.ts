/**
 * A file or block device without a ring: FileDevice answers through node's event loop (the library), SyncFileDevice before the
 * call returns (tools, tests). Both go through the page cache, so they need no alignment; neither is under the write
 * gate, so neither may serve a mounted clustered volume.
 */
import * as fs from "node:fs";
import type { Arena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { check } from "../lib/fs_error.ts";
import { lockDisk } from "../native/disk_lock.ts";
import {
  type ArenaHandle,
  closeFd,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  fallocateSync,
  fdatasyncSync,
  fdSize,
  O,
  openFile,
  preadSync,
  pwriteSync,
  registerArena,
} from "../native/index.ts";
import { type BlockDevice, Durability, type IoDone } from "./device.ts";
import { DeviceEnd } from "./device_end.ts";

interface Opened {
  readonly fd: number;
  readonly size_bytes: number;
  /** Ends what of the lock does not go with the file. */
  readonly unlock: () => void;
}

/** How a file is opened and closed; `open` answers a descriptor or -errno. */
interface Descriptors {
  readonly open: (path: string, flags: number, mode: number) => number;
  readonly close: (fd: number) => void;
}

const errnoOf = (err: unknown): number => {
  const { errno } = err as NodeJS.ErrnoException;
  return typeof errno === "number" ? errno : -Errno.EIO;
};

const BY_ADDON: Descriptors = { open: openFile, close: closeFd };

/** node closes what a worker thread has opened when that ends, however it ends; the volume would be locked until the process does. */
const BY_NODE: Descriptors = {
  open(path, flags, mode) {
    try {
      return fs.openSync(path, flags, mode);
    } catch (err) {
      return errnoOf(err);
    }
  },
  close: fs.closeSync,
};

/** Opens and locks, as the mount does: a volume is open for writing in one place of this machine at a time. */
function open(path: string, readonly: boolean, by: Descriptors): Opened {
  const fd = check(by.open(path, readonly ? O.RDONLY : O.RDWR, 0), "device.open", { device: path });
  try {
    const size_bytes = check(fdSize(fd), "device.size", { device: path });
    return { fd, size_bytes, unlock: lockDisk(fd, path, !readonly) };
  } catch (err) {
    by.close(fd);
    throw err;
  }
}

export class FileDevice implements BlockDevice {
  readonly name: string;
  readonly readonly: boolean;
  readonly alignment_bytes = 1;
  readonly size_bytes: number;
  readonly durability = new Durability();
  readonly #arena: Arena;
  readonly #fd: number;
  readonly #unlock: () => void;
  readonly #end: DeviceEnd;

  constructor(arena: Arena, path: string, options: { readonly?: boolean } = {}) {
    this.#arena = arena;
    this.name = path;
    this.readonly = options.readonly ?? false;
    const opened = open(path, this.readonly, BY_NODE);
    this.#fd = opened.fd;
    this.#unlock = opened.unlock;
    this.size_bytes = opened.size_bytes;
    this.#end = new DeviceEnd(path, opened.fd, opened.size_bytes);
  }

  read(addr: number, len: number, offset: number, done: IoDone): void {
    let got = 0;
    const go = (): void =>
      fs.read(this.#fd, this.#arena.u8, addr + got, len - got, offset + got, (err, n) => {
        if (err !== null) return err.code === "EINTR" ? go() : done(errnoOf(err));
        got += n;
        if (got >= len) done(got);
        else if (n === 0) done(this.#end.isLost(offset, len) ? -Errno.EIO : got);
        else go();
      });
    go();
  }

  write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    if (this.readonly || this.#end.isLost(offset, len)) {
      done(this.readonly ? -Errno.EROFS : -Errno.EIO);
      return;
    }
    let put = 0;
    const go = (): void =>
      fs.write(this.#fd, this.#arena.u8, addr + put, len - put, offset + put, (err, n) => {
        if (err !== null) return err.code === "EINTR" ? go() : done(errnoOf(err));
        put += n;
        this.durability.written++;
        if (put < len && n > 0) go();
        else if (dsync && put === len) this.flush((res) => done(res < 0 ? res : put));
        else done(put);
      });
    go();
  }

  readv(iov: readonly number[], offset: number, done: IoDone): void {
    this.#each(iov, offset, done, (addr, len, at, cb) => this.read(addr, len, at, cb));
  }

  writev(iov: readonly number[], offset: number, done: IoDone): void {
    this.#each(iov, offset, done, (addr, len, at, cb) => this.write(addr, len, at, cb));
  }

  #each(
    iov: readonly number[],
    offset: number,
    done: IoDone,
    one: (addr: number, len: number, at: number, cb: IoDone) => void,
  ): void {
    let total = 0;
    const next = (i: number): void => {
      if (i >= iov.length) {
        done(total);
        return;
      }
      one(iov[i]!, iov[i + 1]!, offset + total, (res) => {
        if (res < 0) {
          done(res);
          return;
        }
        total += res;
        if (res < iov[i + 1]!) done(total);
        else next(i + 2);
      });
    };
    next(0);
  }

  flush(done: IoDone): void {
    const { written } = this.durability;
    fs.fdatasync(this.#fd, (err) => {
      if (err === null) this.durability.flush(written);
      done(err === null ? 0 : errnoOf(err));
    });
  }

  discard(_offset: number, _len: number, done: IoDone): void {
    done(0);
  }

  submit(): void {}

  /** Completions come from the event loop: there is nothing to wait for here. */
  pump(): boolean {
    return false;
  }

  close(): void {
    BY_NODE.close(this.#fd);
    this.#unlock();
  }
}

export class SyncFileDevice implements BlockDevice {
  readonly name: string;
  readonly readonly: boolean;
  readonly alignment_bytes = 1;
  readonly size_bytes: number;
  readonly durability = new Durability();
  readonly #handle: ArenaHandle;
  readonly #fd: number;
  readonly #unlock: () => void;

  constructor(arena: Arena, path: string, options: { readonly?: boolean } = {}) {
    this.#handle = registerArena(arena.u8);
    this.name = path;
    this.readonly = options.readonly ?? false;
    const opened = open(path, this.readonly, BY_ADDON);
    this.#fd = opened.fd;
    this.#unlock = opened.unlock;
    this.size_bytes = opened.size_bytes;
  }

  read(addr: number, len: number, offset: number, done: IoDone): void {
    done(preadSync(this.#handle, this.#fd, addr, len, offset));
  }

  write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    if (this.readonly) {
      done(-Errno.EROFS);
      return;
    }
    const res = this.#put(addr, len, offset);
    const flushed = dsync && res >= 0 ? this.#flush() : 0;
    done(flushed < 0 ? flushed : res);
  }

  readv(iov: readonly number[], offset: number, done: IoDone): void {
    this.#each(iov, offset, done, (addr, len, at) => preadSync(this.#handle, this.#fd, addr, len, at));
  }

  writev(iov: readonly number[], offset: number, done: IoDone): void {
    if (this.readonly) {
      done(-Errno.EROFS);
      return;
    }
    this.#each(iov, offset, done, (addr, len, at) => this.#put(addr, len, at));
  }

  #put(addr: number, len: number, offset: number): number {
    this.durability.written++;
    return pwriteSync(this.#handle, this.#fd, addr, len, offset);
  }

  #flush(): number {
    const res = fdatasyncSync(this.#fd);
    if (res === 0) this.durability.flush(this.durability.written);
    return res;
  }

  #each(
    iov: readonly number[],
    offset: number,
    done: IoDone,
    one: (addr: number, len: number, at: number) => number,
  ): void {
    let total = 0;
    for (let i = 0; i < iov.length; i += 2) {
      const res = one(iov[i]!, iov[i + 1]!, offset + total);
      if (res < 0) {
        done(res);
        return;
      }
      total += res;
      if (res < iov[i + 1]!) break;
    }
    done(total);
  }

  flush(done: IoDone): void {
    done(this.#flush());
  }

  discard(offset: number, len: number, done: IoDone): void {
    done(fallocateSync(this.#fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len));
  }

  submit(): void {}

  pump(): boolean {
    return false;
  }

  close(): void {
    BY_ADDON.close(this.#fd);
    this.#unlock();
  }
}
