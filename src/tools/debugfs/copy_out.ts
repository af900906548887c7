/** Files and trees from a volume into a mounted file system: dump and rdump. */
import {
  chmodSync,
  chownSync,
  closeSync,
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
import { type DebugVolume, textOf } from "./image.ts";
import type { Out } from "./print.ts";

/** Writes a file's contents to a descriptor. */
export function writeOut(v: DebugVolume, di: Dinode, fd: number): void {
  for (const piece of v.data(di)) for (let at = 0; at < piece.length; ) at += writeSync(fd, piece, at);
}

/** `preserve`: mode, owner and times too. */
export function dumpFile(v: DebugVolume, di: Dinode, to: string, preserve: boolean): void {
  if (isLnk(di.i_mode)) {
    symlinkSync(textOf(v.symlinkTarget(di)), to);
    return;
  }
  const fd = openSync(to, "w", 0o666);
  try {
    writeOut(v, di, fd);
    if (!preserve) return;
    fchmodSync(fd, di.i_mode & 0o7777);
    fchownSync(fd, di.i_uid, di.i_gid);
    futimesSync(fd, di.i_atime, di.i_mtime);
  } finally {
    closeSync(fd);
  }
}

/** A tree with modes, owners and times; devices, sockets and pipes are left out. */
export function dumpTree(out: Out, v: DebugVolume, ino: number, to: string, verbose: boolean): void {
  const di = v.inode(ino);
  if (verbose && !isLnk(di.i_mode)) out(to);
  if (isLnk(di.i_mode) || isReg(di.i_mode)) {
    dumpFile(v, di, to, true);
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
