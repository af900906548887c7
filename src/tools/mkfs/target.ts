/** The file or block device that a volume is made on: opened so that nobody else has it, sized, discarded, written. */
import fs from "node:fs";
import { Errno, errnoName } from "../../lib/errno.ts";
import {
  blkDiscard,
  blkLogicalSize,
  blkReadonly,
  blkZeroout,
  closeFd,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  fallocateSync,
  fdSize,
  O,
  ofdTryLock,
  openFile,
} from "../../native/index.ts";
import { problemOf } from "../problem.ts";
import type { ReadAt } from "../read_super.ts";
import { GIB, MIB, MkfsError, type TargetShape } from "./params.ts";
import type { MkfsSink } from "./write.ts";

const MIN_SECTOR_BYTES = 512;
/** A discard of more than this at a time would hold the device up for long. */
const DISCARD_STEP_BYTES = 2 * GIB;

const reason = (rc: number): string => errnoName(-rc);

export interface Target extends TargetShape {
  readonly fd: number;
  readonly is_block_device: boolean;
  /** Why others must be thought to use it, if so: the kernel or another process holds it. */
  readonly held: string | undefined;
  readonly readAt: ReadAt;
  close(): void;
}

/** Opens a device for formatting. Throws MkfsError when there is no such device or it cannot be written. */
export function openTarget(path: string): Target {
  const stat = fs.statSync(path, { throwIfNoEntry: false });
  if (!stat) throw new MkfsError(`${path} does not exist; for a file, make it first: truncate -s SIZE ${path}`);
  const is_block_device = stat.isBlockDevice();
  if (!is_block_device && !stat.isFile()) {
    throw new MkfsError(`${path} is neither a block device nor a regular file; give one that is`);
  }
  let held: string | undefined;
  let fd = openFile(path, O.RDWR | (is_block_device ? O.EXCL : 0), 0);
  if (fd === -Errno.EBUSY) {
    held = `${path} is in use by the system; unmount it or take it out of its array or volume group first`;
    fd = openFile(path, O.RDWR, 0);
  }
  if (fd < 0) throw new MkfsError(`cannot open ${path} for writing: ${reason(fd)}; check its permissions`);
  // A mount of ours holds this lock as long as it lives.
  const lock = ofdTryLock(fd, true);
  if (lock === -Errno.EAGAIN || lock === -Errno.EACCES) {
    held ??= `${path} is in use by another process; unmount it first, or see "ocfs2 node status"`;
  }
  const size_bytes = fdSize(fd);
  const sector = is_block_device ? blkLogicalSize(fd) : MIN_SECTOR_BYTES;
  return {
    name: path,
    fd,
    is_block_device,
    held,
    size_bytes,
    sector_bytes: sector > 0 ? sector : MIN_SECTOR_BYTES,
    readAt(off, len) {
      const buf = new Uint8Array(len);
      return buf.subarray(0, off < size_bytes ? fs.readSync(fd, buf, 0, len, off) : 0);
    },
    close: () => void closeFd(fd),
  };
}

/** Throws away what the volume's part of the device holds. Says whether it reads as zeros now; a device may promise nothing. */
function discard(t: Target, len_bytes: number): boolean {
  if (!t.is_block_device) {
    return fallocateSync(t.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, len_bytes) === 0;
  }
  for (let off = 0; off < len_bytes; off += DISCARD_STEP_BYTES) {
    if (blkDiscard(t.fd, off, Math.min(DISCARD_STEP_BYTES, len_bytes - off)) !== 0) break;
  }
  return false;
}

const isEmpty = (t: Target): boolean => !t.is_block_device && fs.fstatSync(t.fd).blocks === 0;

/**
 * A sink that writes to the device. `discard_bytes`: how much of it to discard first, 0 for --nodiscard. Zeros are only written where
 * something else may be: an empty file and a hole need none.
 */
export function targetSink(t: Target, discard_bytes: number): MkfsSink {
  // Root may open it for writing all the same; it is the writes that fail then.
  if (blkReadonly(t.fd) === 1)
    throw new MkfsError(`${t.name} is read-only; make it writable with "blockdev --setrw ${t.name}"`);
  const zeroed = isEmpty(t) || (discard_bytes > 0 && discard(t, discard_bytes));
  const write = (bytes: Uint8Array, off: number): void => {
    for (let done = 0; done < bytes.length; ) {
      try {
        done += fs.writeSync(t.fd, bytes, done, bytes.length - done, off + done);
      } catch (err) {
        throw writeFailed(t, err);
      }
    }
  };
  return {
    write,
    zero(off, len) {
      if (zeroed) return;
      if (t.is_block_device) {
        if (blkZeroout(t.fd, off, len) !== 0) writeZeros(write, off, len);
      } else {
        clearFile(t, write, off, len);
      }
    },
    sync() {
      try {
        fs.fsyncSync(t.fd);
      } catch (err) {
        throw writeFailed(t, err);
      }
    },
  };
}

const writeFailed = (t: Target, err: unknown): MkfsError =>
  new MkfsError(`${t.name} cannot be written, and holds no volume now: ${problemOf(err, "it")}`);

type Write = MkfsSink["write"];

function writeZeros(write: Write, off: number, len: number): void {
  const zeros = new Uint8Array(Math.min(MIB, len));
  for (let at = 0; at < len; at += zeros.length) write(zeros.subarray(0, Math.min(zeros.length, len - at)), off + at);
}

/** A file may be allocated on purpose, so what is zero stays as it is. */
function clearFile(t: Target, write: Write, off: number, len: number): void {
  const zeros = Buffer.alloc(Math.min(MIB, len));
  for (let at = 0; at < len; at += zeros.length) {
    const part = zeros.subarray(0, Math.min(zeros.length, len - at));
    if (!part.equals(t.readAt(off + at, part.length))) write(part, off + at);
  }
}
