/** Files and trees from a volume into a mounted file system: dump and rdump. */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  futimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type Dinode, isDir, isLnk, isReg } from "../../format/disk/index.ts";
import { problemOf } from "../problem.ts";
import { type DebugVolume, textOf } from "./image.ts";
import type { Out } from "./print.ts";

const PAUSE_MS = 1;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Writes all of it. A pipe that is node's standard output does not wait for its reader. Throws EPIPE as it is, all else in words that begin with `name`. */
export function writeAll(fd: number, bytes: Uint8Array, name: string): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (err) {
      const { code } = err as NodeJS.ErrnoException;
      if (code === "EPIPE") throw err;
      if (code !== "EAGAIN") throw new Error(problemOf(err, name));
      Atomics.wait(pause, 0, 0, PAUSE_MS);
    }
  }
}

/** Writes a file's contents to a descriptor; `name` is of what that leads to. */
export function writeOut(v: DebugVolume, di: Dinode, fd: number, name: string): void {
  for (const piece of v.data(di)) writeAll(fd, piece, name);
}

/** `preserve`: mode, owner and times too. */
export function dumpFile(
  v: DebugVolume,
  di: Dinode,
  to: string,
  preserve: boolean,
  flags: string | number = "w",
): void {
  if (isLnk(di.i_mode)) {
    symlinkSync(textOf(v.symlinkTarget(di)), to);
    return;
  }
  const fd = openSync(to, flags, 0o666);
  try {
    writeOut(v, di, fd, to);
    if (!preserve) return;
    fchmodSync(fd, di.i_mode & 0o7777);
    fchownSync(fd, di.i_uid, di.i_gid);
    futimesSync(fd, di.i_atime, di.i_mtime);
  } finally {
    closeSync(fd);
  }
}

/** A damaged folder may have a name twice: a file is not written through the symbolic link that was just made of the first. */
const NEW_OR_OWN = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;

/** A tree with modes, owners and times; devices, sockets and pipes are left out. */
export function dumpTree(out: Out, v: DebugVolume, ino: number, to: string, verbose: boolean): void {
  const di = v.inode(ino);
  if (verbose && !isLnk(di.i_mode)) out(to);
  if (isLnk(di.i_mode) || isReg(di.i_mode)) {
    dumpFile(v, di, to, true, NEW_OR_OWN);
    return;
  }
  if (!isDir(di.i_mode)) return;
  mkdirSync(to, 0o700);
  for (const e of v.entries(ino)) {
    const name = textOf(e.name);
    // A name on a damaged disk must not lead out of the target.
    if (name === "." || name === ".." || name.includes("/")) continue;
    dumpTree(out, v, e.ino, join(to, name), verbose);
  }
  chmodSync(to, di.i_mode & 0o7777);
  chownSync(to, di.i_uid, di.i_gid);
  utimesSync(to, di.i_atime, di.i_mtime);
}
