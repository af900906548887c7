/** Whole trees: rm, and cp. Many operations; what stops one half-way leaves what is done so far, as with node. */
import { constants } from "node:fs";
import { posix } from "node:path";
import { DT, isDir } from "../format/disk/index.ts";
import { byteName } from "../lib/byte_name.ts";
import { Errno } from "../lib/errno.ts";
import type { Attr } from "../vfs/namespace.ts";
import * as ns from "../vfs/namespace.ts";
import { changePath } from "./attributes.ts";
import { copyFile } from "./copy_file.ts";
import { entriesOf } from "./directory.ts";
import { codedError, hasCode, invalidArg, systemError } from "./errors.ts";
import * as names from "./names.ts";
import { integerOf } from "./numbers.ts";
import type { OpenVolume } from "./open_volume.ts";
import { booleanOf } from "./options.ts";
import { find, type PathLike, type Place, pathBytes, pathText, walk } from "./path.ts";
import { timesOf } from "./times.ts";

export interface RmOptions {
  /** What is not there is no error. */
  readonly force?: boolean | undefined;
  readonly recursive?: boolean | undefined;
  /** As node has them; nothing here fails in a way that would be better the next time. */
  readonly maxRetries?: number | undefined;
  readonly retryDelay?: number | undefined;
}

function checkRmOptions(o: RmOptions): void {
  booleanOf(o.force, "options.force");
  booleanOf(o.recursive, "options.recursive");
  integerOf(o.maxRetries ?? 0, "options.maxRetries", 0, 2 ** 32 - 1);
  integerOf(o.retryDelay ?? 0, "options.retryDelay", 0, 2 ** 31 - 1);
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
  checkRmOptions(o);
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
  readonly recursive?: boolean | undefined;
  /** What is there is replaced; so it is unless this is false. */
  readonly force?: boolean | undefined;
  /** With force false: what is there is an error. */
  readonly errorOnExist?: boolean | undefined;
  readonly preserveTimestamps?: boolean | undefined;
  /** Symlinks are copied as what they lead to. */
  readonly dereference?: boolean | undefined;
  /** Symlinks keep their text; otherwise a relative one is made to lead to the same place. */
  readonly verbatimSymlinks?: boolean | undefined;
  /** False leaves a file or tree out. */
  readonly filter?: ((source: string, destination: string) => boolean | Promise<boolean>) | undefined;
  readonly mode?: number | undefined;
}

const cpError = (code: string, errno: number, message: string, path: string): Error => {
  const err = codedError(code, `${message} ${path}`);
  err.name = "SystemError";
  return Object.assign(err, { errno, syscall: "cp", path });
};

/** Where a path ends; undefined when there is no directory that it would be in. */
async function placeAt(v: OpenVolume, path: string, follow: boolean): Promise<Place | undefined> {
  try {
    return await v.run({ syscall: follow ? "stat" : "lstat", path }, (op) => walk(op, pathBytes(path), follow));
  } catch (err) {
    if (hasCode(err, "ENOENT")) return undefined;
    throw err;
  }
}

/** Whether a path, or the last directory on the way to it that is there, is in a directory or is that itself. */
async function isWithin(v: OpenVolume, path: string, dir: number): Promise<boolean> {
  for (let at = posix.resolve("/", path); ; at = posix.dirname(at)) {
    const place = await placeAt(v, at, true);
    if (place?.attr !== undefined) return place.attr.ino === dir || place.dirs.includes(dir);
  }
}

function checkCopyOptions(o: CopyOptions): void {
  // One that is there without a value is none of node's either.
  for (const name of [
    "dereference",
    "errorOnExist",
    "force",
    "preserveTimestamps",
    "recursive",
    "verbatimSymlinks",
  ] as const)
    if (name in o && typeof o[name] !== "boolean") throw invalidArg(`options.${name}`, "of type boolean", o[name]);
  if (o.dereference === true && o.verbatimSymlinks === true)
    throw codedError(
      "ERR_INCOMPATIBLE_OPTION_PAIR",
      'Option "dereference" cannot be used in combination with option "verbatimSymlinks"',
      TypeError,
    );
  if (o.filter !== undefined && typeof o.filter !== "function")
    throw invalidArg("options.filter", "of type function", o.filter);
}

export async function cp(v: OpenVolume, source: PathLike, destination: PathLike, o: CopyOptions): Promise<void> {
  checkCopyOptions(o);
  pathBytes(source, "src");
  pathBytes(destination, "dest");
  const src = pathText(source);
  const dest = pathText(destination);
  await copyAny(v, src, dest, o, async (from) => {
    if (isDir(from.mode) && (await isWithin(v, dest, from.ino)))
      throw cpError(
        "ERR_FS_CP_EINVAL",
        Errno.EINVAL,
        `Invalid src or dest: cp returned EINVAL (cannot copy ${src} to a subdirectory of self ${dest})`,
        dest,
      );
    const above = posix.dirname(posix.resolve("/", dest));
    if (above !== "/") await names.mkdirp(v, above);
  });
}

/** `before`: what is done when the copy may begin. */
async function copyAny(
  v: OpenVolume,
  src: string,
  dest: string,
  o: CopyOptions,
  before?: (from: Attr) => Promise<void>,
): Promise<void> {
  if (o.filter !== undefined && !(await o.filter(src, dest))) return;
  const follow = o.dereference === true;
  const from = (await placeAt(v, src, follow))?.attr;
  if (from === undefined) throw systemError(Errno.ENOENT, { syscall: follow ? "stat" : "lstat", path: src });
  const to = (await placeAt(v, dest, follow))?.attr;
  const type = from.mode & constants.S_IFMT;
  if (from.ino === to?.ino)
    throw cpError(
      "ERR_FS_CP_EINVAL",
      Errno.EINVAL,
      "Invalid src or dest: cp returned EINVAL (src and dest cannot be the same)",
      dest,
    );
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
  await before?.(from);
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
    const above = byteName(posix.dirname(posix.resolve("/", src)));
    target = Buffer.from(posix.resolve(above, target.toString("latin1")), "latin1");
  }
  if (to !== undefined) {
    if (!replaces(dest, o)) return;
    await names.unlink(v, dest);
  }
  await names.symlink(v, target, dest);
}
