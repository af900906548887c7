/**
 * From a path to an inode, within one operation: names looked up one by one, symlinks followed, as path_resolution(7) has
 * it. The root of the volume is "/"; a path that does not begin with a slash starts there too, since a volume has no
 * working directory. Because the walk and what is done at its end are one operation, nothing can change in between.
 */
import { fileURLToPath } from "node:url";
import { isDir, isLnk } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { type Attr, getattr, lookup, type Name, readlink } from "../vfs/namespace.ts";
import type { Op } from "../volume/op.ts";
import { codedError, invalidArg } from "./errors.ts";

/** A path: text (UTF-8), bytes, or a file: URL. */
export type PathLike = string | Uint8Array | URL;

/** PATH_MAX, the NUL included; and how many symlinks one walk follows (MAXSYMLINKS). */
const PATH_MAX = 4096;
const MAX_SYMLINKS = 40;
const SLASH = 0x2f;
const PERIOD = 0x2e;

/** The bytes of a path. TypeError with node's codes for what is none. */
export function pathBytes(path: PathLike, name = "path"): Uint8Array {
  const value = path instanceof URL ? fileURLToPath(path) : path;
  if (typeof value !== "string" && !(value instanceof Uint8Array))
    throw invalidArg(name, "of type string or an instance of Buffer or URL", value);
  const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
  if (bytes.includes(0))
    throw codedError(
      "ERR_INVALID_ARG_VALUE",
      `The argument '${name}' must be a string, Uint8Array, or URL without null bytes.`,
      TypeError,
    );
  return bytes;
}

/** A path for messages. */
export const pathText = (path: PathLike): string =>
  typeof path === "string" ? path : path instanceof URL ? fileURLToPath(path) : Buffer.from(path).toString("utf8");

/** Where a path ends. */
export interface Place {
  /** The directory, and the name in it. */
  readonly parent: number;
  readonly name: Name;
  /** "norm" for a name that can be made or removed; the path ended with ".", ".." or was the root otherwise. */
  readonly last: "norm" | "dot" | "dotdot" | "root";
  /** The path ended with a slash: it must be a directory. */
  readonly slash: boolean;
  /** What is there; undefined: nothing. */
  readonly attr: Attr | undefined;
  /** The directories from the root, the parent included. */
  readonly dirs: readonly number[];
  /** The names from the root, the last one included: what realpath answers. */
  readonly names: readonly Name[];
}

function components(path: Uint8Array): Name[] {
  const out: Name[] = [];
  for (let at = 0; at < path.length; ) {
    let end = path.indexOf(SLASH, at);
    if (end < 0) end = path.length;
    if (end > at) out.push(path.subarray(at, end));
    at = end + 1;
  }
  return out;
}

const isDot = (name: Name): boolean => name.length === 1 && name[0] === PERIOD;
const isDotDot = (name: Name): boolean => name.length === 2 && name[0] === PERIOD && name[1] === PERIOD;

const NO_NAME: Name = new Uint8Array(0);

const walkError = (errno: number, name: Name): FsError =>
  new FsError(errno, "path.walk", { name: Buffer.from(name).toString("utf8") });

/**
 * Walks a path. A symlink at its end is followed when `follow` says so (or a slash behind it, unless `names_end`: for
 * operations on the name itself, which answer for the slash themselves). Only a missing last component is an answer;
 * ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG on the way throw.
 */
export function walk(op: Op, path: Uint8Array, follow: boolean, names_end = false): Place {
  if (path.length === 0) throw walkError(Errno.ENOENT, path);
  if (path.length >= PATH_MAX) throw walkError(Errno.ENAMETOOLONG, path);
  const root = op.osb.geo.root_blkno;
  const dirs: number[] = [root];
  const names: Name[] = [];
  const todo = components(path).reverse();
  let slash = path[path.length - 1] === SLASH;
  let links = 0;
  let last: Place["last"] = "root";
  const here = (): number => dirs[dirs.length - 1]!;
  while (todo.length > 0) {
    const name = todo.pop()!;
    const at_end = todo.length === 0;
    if (isDot(name) || isDotDot(name)) {
      last = isDot(name) ? "dot" : "dotdot";
      if (last === "dotdot" && dirs.length > 1) {
        dirs.pop();
        names.pop();
      }
      continue;
    }
    last = "norm";
    const attr = lookup(op, here(), name);
    if (attr === undefined) {
      if (!at_end) throw walkError(Errno.ENOENT, name);
      return { parent: here(), name, last, slash, attr, dirs, names: [...names, name] };
    }
    if (isLnk(attr.mode) && (!at_end || (slash ? !names_end : follow))) {
      if (++links > MAX_SYMLINKS) throw walkError(Errno.ELOOP, name);
      const target = readlink(op, attr.ino);
      if (target.length === 0) throw walkError(Errno.ENOENT, name);
      if (target[0] === SLASH) {
        dirs.length = 1;
        names.length = 0;
        last = "root";
      }
      if (at_end && target[target.length - 1] === SLASH) slash = true;
      todo.push(...components(target).reverse());
      continue;
    }
    if (at_end) {
      if (slash && !names_end && !isDir(attr.mode)) throw walkError(Errno.ENOTDIR, name);
      return { parent: here(), name, last, slash, attr, dirs, names: [...names, name] };
    }
    if (!isDir(attr.mode)) throw walkError(Errno.ENOTDIR, name);
    dirs.push(attr.ino);
    names.push(name);
  }
  return { parent: here(), name: NO_NAME, last, slash, attr: getattr(op, here()), dirs, names };
}

/** What a path leads to. ENOENT when nothing. */
export function find(op: Op, path: Uint8Array, follow: boolean): Attr {
  const { attr, name } = walk(op, path, follow);
  if (attr === undefined) throw walkError(Errno.ENOENT, name);
  return attr;
}

/** Throws unless the place is free for a new name: EEXIST for what is there or cannot be a new name. */
export function checkNew(place: Place, is_dir: boolean): void {
  if (place.last !== "norm" || place.attr !== undefined) throw walkError(Errno.EEXIST, place.name);
  if (place.slash && !is_dir) throw walkError(Errno.ENOENT, place.name);
}

/** Names as a path from the root. */
export const joinNames = (names: readonly Name[]): Buffer =>
  Buffer.concat(names.length === 0 ? [Buffer.from("/")] : names.flatMap((n) => [Buffer.from("/"), n]));
