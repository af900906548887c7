/** Whole trees: rm, and cp. Many operations; what stops one half-way leaves what is done so far, as with node. */
import { constants } from "node:fs";
import { DT, isDir } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import type { Attr } from "../vfs/namespace.ts";
import * as ns from "../vfs/namespace.ts";
import { changePath } from "./attributes.ts";
import { copyFile } from "./copy_file.ts";
import { entriesOf } from "./directory.ts";
import { codedError, hasCode, systemError } from "./errors.ts";
import * as names from "./names.ts";
import type { OpenVolume } from "./open_volume.ts";
import { find, type PathLike, type Place, pathBytes, pathText, walk } from "./path.ts";
import { timesOf } from "./times.ts";

export interface RmOptions {
  /** What is not there is no error. */
  readonly force?: boolean;
  readonly recursive?: boolean;
  /** As node has them; nothing here fails in a way that would be better the next time. */
  readonly maxRetries?: number;
  readonly retryDelay?: number;
}

/** Empties a directory, deepest first. */
async function empty(v: OpenVolume, dir: number, path: string): Promise<void> {
  for (const e of await entriesOf(v, dir, path)) {
    const below = `${path}/${e.name.toString("utf8")}`;
    const is_dir = e.dt === DT.DIR;
    if (is_dir) await empty(v, e.ino, below);
    try {
      await v.change({ syscall: is_dir ? "rmdir" : "unlink", path: below }, (op) => {
        if (is_dir) ns.rmdir(op, dir, e.name);
        else ns.unlink(op, dir, e.name);
      });
    } catch (err) {
      // Somebody else was faster.
      if (!hasCode(err, "ENOENT")) throw err;
    }
  }
}

export async function rm(v: OpenVolume, path: PathLike, o: RmOptions): Promise<void> {
  const bytes = pathBytes(path);
  const text = pathText(path);
  let attr: Attr;
  try {
    attr = await v.run({ syscall: "lstat", path: text }, (op) => find(op, bytes, false));
  } catch (err) {
    if (o.force === true && hasCode(err, "ENOENT")) return;
    throw err;
  }
  if (!isDir(attr.mode)) {
    await names.unlink(v, path);
    return;
  }
  if (o.recursive !== true) throw dirWithoutRecursive("ERR_FS_EISDIR", "Path is a directory", "rm", text);
  await empty(v, attr.ino, text.replace(/\/+$/, ""));
  await names.rmdir(v, path);
}

function dirWithoutRecursive(code: string, what: string, syscall: string, path: string): Error {
  const err = codedError(code, `${what}: ${syscall} returned EISDIR (is a directory) ${path}`);
  err.name = "SystemError";
  return Object.assign(err, { errno: Errno.EISDIR, syscall, path });
}

// cp ------------------------------------------------------------------------------------------------------------------

export interface CopyOptions {
  readonly recursive?: boolean;
  /** What is there is replaced; so it is unless this is false. */
  readonly force?: boolean;
  /** With force false: what is there is an error. */
  readonly errorOnExist?: boolean;
  readonly preserveTimestamps?: boolean;
  /** Symlinks are copied as what they lead to. */
  readonly dereference?: boolean;
  /** Symlinks keep their text; otherwise a relative one is made to lead to the same place. */
  readonly verbatimSymlinks?: boolean;
  /** False leaves a file or tree out. */
  readonly filter?: (source: string, destination: string) => boolean | Promise<boolean>;
  readonly mode?: number;
}

const cpError = (code: string, errno: number, message: string, path: string): Error => {
  const err = codedError(code, `${message}: ${path}`);
  err.name = "SystemError";
  return Object.assign(err, { errno, syscall: "cp", path });
};

async function attrAt(v: OpenVolume, path: string, follow: boolean): Promise<Attr | undefined> {
  return v.run({ syscall: follow ? "stat" : "lstat", path }, (op) => walk(op, pathBytes(path), follow).attr);
}

/** Where the copy is to be; undefined when directories on the way are missing too. */
async function destinationOf(v: OpenVolume, dest: string): Promise<Place | undefined> {
  try {
    return await v.run({ syscall: "cp", path: dest }, (op) => walk(op, pathBytes(dest), true, true));
  } catch (err) {
    if (hasCode(err, "ENOENT")) return undefined;
    throw err;
  }
}

export async function cp(v: OpenVolume, source: PathLike, destination: PathLike, o: CopyOptions): Promise<void> {
  const src = pathText(source);
  const dest = pathText(destination);
  const follow = o.dereference === true;
  const src_real = await v.run({ syscall: "cp", path: src }, (op) => walk(op, pathBytes(src), true).names);
  const dest_real = await destinationOf(v, dest);
  const attr = await attrAt(v, src, follow);
  if (attr === undefined) throw systemError(Errno.ENOENT, { syscall: follow ? "stat" : "lstat", path: src });
  if (attr.ino === dest_real?.attr?.ino)
    throw cpError(
      "ERR_FS_CP_EINVAL",
      Errno.EINVAL,
      "Invalid src or dest: cp returned EINVAL (src and dest cannot be the same)",
      dest,
    );
  const inside = src_real.every((name, i) => Buffer.compare(name, dest_real?.names[i] ?? Buffer.alloc(0)) === 0);
  if (isDir(attr.mode) && inside && (dest_real?.names.length ?? 0) > src_real.length)
    throw cpError(
      "ERR_FS_CP_EINVAL",
      Errno.EINVAL,
      `Invalid src or dest: cp returned EINVAL (cannot copy ${src} to a subdirectory of self)`,
      dest,
    );
  const above = dest.replace(/\/+$/, "").replace(/\/?[^/]*$/, "");
  if (above !== "") await names.mkdirp(v, above);
  await copyAny(v, src, dest, o);
}

async function copyAny(v: OpenVolume, src: string, dest: string, o: CopyOptions): Promise<void> {
  if (o.filter !== undefined && !(await o.filter(src, dest))) return;
  const follow = o.dereference === true;
  const from = await attrAt(v, src, follow);
  if (from === undefined) throw systemError(Errno.ENOENT, { syscall: "lstat", path: src });
  const to = await attrAt(v, dest, follow);
  const type = from.mode & constants.S_IFMT;
  if (to !== undefined && isDir(from.mode) && !isDir(to.mode))
    throw cpError(
      "ERR_FS_CP_DIR_TO_NON_DIR",
      Errno.EISDIR,
      `Cannot overwrite non-directory with directory: cp returned EISDIR (cannot overwrite non-directory ${dest} with directory ${src})`,
      dest,
    );
  if (to !== undefined && !isDir(from.mode) && isDir(to.mode))
    throw cpError(
      "ERR_FS_CP_NON_DIR_TO_DIR",
      Errno.ENOTDIR,
      `Cannot overwrite directory with non-directory: cp returned ENOTDIR (cannot overwrite directory ${dest} with non-directory ${src})`,
      dest,
    );
  if (isDir(from.mode)) await copyDir(v, src, dest, o, from, to);
  else if (type === constants.S_IFREG) await copyRegular(v, src, dest, o, from, to);
  else if (type === constants.S_IFLNK) await copyLink(v, src, dest, o, to);
  else
    throw cpError(
      "ERR_FS_CP_FIFO_PIPE",
      Errno.EINVAL,
      "Cannot copy a FIFO, socket or device: cp returned EINVAL",
      dest,
    );
}

async function copyDir(v: OpenVolume, src: string, dest: string, o: CopyOptions, from: Attr, to: Attr | undefined) {
  if (o.recursive !== true)
    throw cpError(
      "ERR_FS_EISDIR",
      Errno.EISDIR,
      `Recursive option not enabled, cannot copy a directory: cp returned EISDIR (${src} is a directory (not copied))`,
      src,
    );
  if (to === undefined) await names.mkdir(v, dest);
  for (const e of await entriesOf(v, from.ino, src)) {
    const name = e.name.toString("utf8");
    await copyAny(v, `${src.replace(/\/+$/, "")}/${name}`, `${dest.replace(/\/+$/, "")}/${name}`, o);
  }
  if (to === undefined) await changePath(v, dest, true, "chmod", { mode: from.mode });
}

/** Whether something that is there is to be replaced; throws where that is an error. */
function replaces(dest: string, o: CopyOptions): boolean {
  if (o.force !== false) return true;
  if (o.errorOnExist === true)
    throw cpError(
      "ERR_FS_CP_EEXIST",
      Errno.EEXIST,
      `Target already exists: cp returned EEXIST (${dest} already exists)`,
      dest,
    );
  return false;
}

async function copyRegular(v: OpenVolume, src: string, dest: string, o: CopyOptions, from: Attr, to: Attr | undefined) {
  if (to !== undefined) {
    if (!replaces(dest, o)) return;
    await names.unlink(v, dest);
  }
  await copyFile(v, src, dest, o.mode ?? 0);
  if (o.preserveTimestamps !== true) return;
  const atime = from.atime + from.atime_nsec / 1e9;
  const mtime = from.mtime + from.mtime_nsec / 1e9;
  await changePath(v, dest, true, "utime", timesOf(atime, mtime));
}

async function copyLink(v: OpenVolume, src: string, dest: string, o: CopyOptions, to: Attr | undefined): Promise<void> {
  let target = await names.readlink(v, src);
  if (o.verbatimSymlinks !== true && target[0] !== 0x2f) {
    const above = src.replace(/\/+$/, "").replace(/[^/]*$/, "");
    target = Buffer.concat([Buffer.from(above.startsWith("/") ? above : `/${above}`), target]);
  }
  if (to !== undefined) {
    if (!replaces(dest, o)) return;
    await names.unlink(v, dest);
  }
  await names.symlink(v, target, dest);
}
