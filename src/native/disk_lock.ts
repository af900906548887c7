/**
 * A volume is open for writing in one place of this machine at a time. The lock is one of an open file (F_OFD_SETLK), and a loop device and the file
 * behind it are two files: whoever has the one would not hear of who has the other. So the file behind is locked with the device.
 */
import { readFileSync, statSync } from "node:fs";
import { Errno } from "../lib/errno.ts";
import { check, FsError } from "../lib/fs_error.ts";
import { closeFd, O, ofdTryLock, openFile } from "./index.ts";

/** Documentation/admin-guide/devices.txt. */
const LOOP_MAJOR = 7;

/** The file that a loop device shows from its first byte on; undefined for anything else. */
export function fileBehind(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true || ((stat.rdev >>> 8) & 0xfff) !== LOOP_MAJOR) return undefined;
  const minor = (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00);
  try {
    const of = (what: string): string =>
      readFileSync(`/sys/dev/block/${LOOP_MAJOR}:${minor}/loop/${what}`, "utf8").trimEnd();
    return Number(of("offset")) === 0 ? of("backing_file") : undefined;
  } catch {
    // A loop device without a file.
    return undefined;
  }
}

function lock(fd: number, path: string, exclusive: boolean): void {
  const locked = ofdTryLock(fd, exclusive);
  if (locked === -Errno.EAGAIN || locked === -Errno.EACCES)
    throw new FsError(Errno.EBUSY, "device.lock", { device: path });
  check(locked, "device.lock", { device: path });
}

/** Locks the disk that is open as `fd`; EBUSY. The lock goes with `fd` and with what is returned, which ends the rest of it. */
export function lockDisk(fd: number, path: string, exclusive: boolean): () => void {
  lock(fd, path, exclusive);
  const file = fileBehind(path);
  const behind = file === undefined ? -1 : openFile(file, exclusive ? O.RDWR : O.RDONLY, 0);
  // One that is gone, or not for us: nobody else opens it by its name either.
  if (behind < 0) return () => {};
  try {
    lock(behind, file!, exclusive);
  } catch (err) {
    closeFd(behind);
    throw err;
  }
  return () => closeFd(behind);
}
