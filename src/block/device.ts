/**
 * BlockDevice: what the file system needs of a disk. Addresses are arena addresses, offsets are bytes on the disk, both
 * multiples of `alignment_bytes`. `done` gets the byte count or a negative errno; it may be called before the call
 * returns (memory, synchronous files) or later from the device's pump (ring, event loop).
 * Implementations: MemoryDevice, FileDevice (tools, library), UringDevice (volume thread), RecordingDevice (crash tests).
 */
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { type Task, type Thunk, wait } from "../lib/task.ts";

export type IoDone = (res: number) => void;

/** What of a device's writes a cut would keep: counts of writes that are done. Those with dsync do not count. */
export class Durability {
  written = 0;
  /** As many of the first of them are durable. */
  flushed = 0;

  /** A write that is done may be lost. */
  get unflushed(): boolean {
    return this.flushed < this.written;
  }

  /** A flush has made durable what was written when it began. */
  flush(written_then: number): void {
    if (written_then > this.flushed) this.flushed = written_then;
  }
}

export interface BlockDevice {
  readonly name: string;
  readonly size_bytes: number;
  /** Asks for size_bytes anew: a disk may grow. */
  measure?(): void;
  readonly readonly: boolean;
  readonly alignment_bytes: number;
  readonly durability: Durability;
  read(addr: number, len_bytes: number, offset: number, done: IoDone): void;
  /** Writes; with `dsync` the data (and nothing else) is durable when done is called. */
  write(addr: number, len_bytes: number, offset: number, done: IoDone, dsync?: boolean): void;
  /** Scatter/gather: iov holds address and length by turns. */
  readv(iov: readonly number[], offset: number, done: IoDone): void;
  writev(iov: readonly number[], offset: number, done: IoDone): void;
  /** All writes that completed before are durable when done is called. */
  flush(done: IoDone): void;
  /** Tells the device that the range holds nothing of worth; may do nothing. */
  discard(offset: number, len_bytes: number, done: IoDone): void;
  /** Hands what was queued to the kernel. */
  submit(): void;
  /** Blocks until at least one completion was delivered; false if nothing is in flight. */
  pump(): boolean;
  close(): void;
}

const io =
  (where: string, offset: number, want: number, start: (done: IoDone) => void): Thunk<number> =>
  (cb) =>
    start((res) => {
      if (res < 0) cb(new FsError(-res, where, { offset, want }));
      else if (res < want) cb(new FsError(Errno.EIO, where, { offset, want, got: res }));
      else cb(null, res);
    });

export const readThunk = (dev: BlockDevice, addr: number, len: number, offset: number): Thunk<number> =>
  io("device.read", offset, len, (done) => dev.read(addr, len, offset, done));
export const writeThunk = (dev: BlockDevice, addr: number, len: number, offset: number, dsync = false): Thunk<number> =>
  io("device.write", offset, len, (done) => dev.write(addr, len, offset, done, dsync));
export const writevThunk = (dev: BlockDevice, iov: readonly number[], offset: number): Thunk<number> => {
  let want = 0;
  for (let i = 1; i < iov.length; i += 2) want += iov[i]!;
  return io("device.write", offset, want, (done) => dev.writev(iov, offset, done));
};
export const flushThunk = (dev: BlockDevice): Thunk<number> => io("device.flush", 0, 0, (done) => dev.flush(done));

export function* deviceRead(dev: BlockDevice, addr: number, len: number, offset: number): Task<void> {
  yield* wait(readThunk(dev, addr, len, offset));
}
export function* deviceWrite(dev: BlockDevice, addr: number, len: number, offset: number, dsync = false): Task<void> {
  yield* wait(writeThunk(dev, addr, len, offset, dsync));
}
export function* deviceFlush(dev: BlockDevice): Task<void> {
  yield* wait(flushThunk(dev));
}
