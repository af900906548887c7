/**
 * The volume with the face of node:fs/promises: a program that takes such an `fs` works on the volume as it is. What differs
 * is in docs/LIBRARY.md.
 */
import { constants } from "node:fs";
import { isDir } from "../format/disk/index.ts";
import * as attributes from "./attributes.ts";
import { copyFile } from "./copy_file.ts";
import { type Dir, type OpendirOptions, opendir, type ReaddirOptions, readdir } from "./directory.ts";
import { codedError, hasCode, throwIfAborted } from "./errors.ts";
import { type FileData, piecesOf } from "./file_data.ts";
import {
  type FileHandle,
  openFile,
  type ReadFileOptions,
  type WriteFileOptions,
  writeOptionsOf,
} from "./file_handle.ts";
import * as names from "./names.ts";
import { idOf, modeOf } from "./numbers.ts";
import type { OpenVolume } from "./open_volume.ts";
import { booleanOf, type Encoding, type NameOptions, nameIn, objectOf, optionsOf } from "./options.ts";
import type { PathLike } from "./path.ts";
import type { BigIntStats, Dirent, Stats, StatsFs } from "./stats.ts";
import { type TimeLike, timesOf } from "./times.ts";
import { type CopyOptions, cp, type RmOptions, rm } from "./tree.ts";

type BufferOption = { readonly encoding: "buffer" } | "buffer";

/** The name that `read` answers, in the encoding that was asked for. */
async function named(options: NameOptions | undefined, read: () => Promise<Buffer>): Promise<string | Buffer> {
  const { encoding } = optionsOf<{ readonly encoding?: Encoding | null }>(options);
  return nameIn(await read(), encoding);
}

export interface MkdirOptions {
  readonly recursive?: boolean | undefined;
  readonly mode?: string | number | undefined;
}

export class FsPromises {
  readonly #v: OpenVolume;
  /** Those of node:fs: COPYFILE_EXCL, O_RDWR, … */
  readonly constants: typeof constants = constants;

  /** Made by Volume.open. Its functions may be taken off it: `const { readFile } = volume.promises`. */
  constructor(v: OpenVolume) {
    this.#v = v;
    const proto = FsPromises.prototype as unknown as Record<string, unknown>;
    for (const name of Object.getOwnPropertyNames(proto)) {
      const fn = proto[name];
      if (name === "constructor" || typeof fn !== "function") continue;
      const bound = fn.bind(this) as (...args: unknown[]) => Promise<unknown>;
      const value = name === "watch" ? bound : (...args: unknown[]) => v.whole(() => bound(...args));
      Object.defineProperty(this, name, { value, enumerable: true, configurable: true, writable: true });
    }
  }

  // Files -------------------------------------------------------------------------------------------------------------
  async open(path: PathLike, flags?: string | number, mode?: string | number): Promise<FileHandle> {
    return openFile(this.#v, path, flags, mode);
  }

  readFile(path: PathLike | FileHandle, options?: (ReadFileOptions & { encoding?: null }) | null): Promise<Buffer>;
  readFile(
    path: PathLike | FileHandle,
    options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding,
  ): Promise<string>;
  readFile(path: PathLike | FileHandle, options?: ReadFileOptions | BufferEncoding | null): Promise<string | Buffer>;
  async readFile(
    path: PathLike | FileHandle,
    options?: ReadFileOptions | BufferEncoding | null,
  ): Promise<string | Buffer> {
    const o = optionsOf<ReadFileOptions>(options);
    if (isHandle(path)) return path.readFile(o);
    throwIfAborted(o.signal);
    await using handle = await openFile(this.#v, path, o.flag || "r");
    return await handle.readFile(o);
  }

  async writeFile(
    path: PathLike | FileHandle,
    data: FileData,
    options?: WriteFileOptions | BufferEncoding | null,
  ): Promise<void> {
    return this.#write(path, data, options, "w");
  }

  async appendFile(
    path: PathLike | FileHandle,
    data: FileData,
    options?: WriteFileOptions | BufferEncoding | null,
  ): Promise<void> {
    return this.#write(path, data, options, "a");
  }

  async #write(
    path: PathLike | FileHandle,
    data: FileData,
    options: WriteFileOptions | BufferEncoding | null | undefined,
    flag: string,
  ): Promise<void> {
    const o = writeOptionsOf(options);
    const pieces = piecesOf(data, o.encoding);
    if (isHandle(path)) return path.writeFile(pieces, o);
    throwIfAborted(o.signal);
    await using handle = await openFile(this.#v, path, o.flag || flag, o.mode);
    await handle.writeFile(pieces, o);
  }

  /** `mode`: constants.COPYFILE_EXCL. Clusters are shared where the volume has the refcount feature. */
  async copyFile(src: PathLike, dest: PathLike, mode?: number): Promise<void> {
    return copyFile(this.#v, src, dest, mode);
  }

  async truncate(path: PathLike, len = 0): Promise<void> {
    return attributes.truncate(this.#v, path, len);
  }

  // Names -------------------------------------------------------------------------------------------------------------
  mkdir(path: PathLike, options: MkdirOptions & { recursive: true }): Promise<string | undefined>;
  mkdir(path: PathLike, options?: MkdirOptions | string | number | null): Promise<undefined>;
  async mkdir(path: PathLike, options?: MkdirOptions | string | number | null): Promise<string | undefined> {
    const o: MkdirOptions =
      typeof options === "number" || typeof options === "string" ? { mode: options } : (options ?? {});
    if (booleanOf(o.recursive, "options.recursive")) return names.mkdirp(this.#v, path, o.mode);
    await names.mkdir(this.#v, path, o.mode);
    return undefined;
  }

  mkdtemp(prefix: PathLike, options: BufferOption): Promise<Buffer>;
  mkdtemp(prefix: PathLike, options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<string>;
  async mkdtemp(prefix: PathLike, options?: NameOptions): Promise<string | Buffer> {
    return named(options, () => names.mkdtemp(this.#v, prefix));
  }

  /** `recursive` is what node has in older programs' stead of `rm`. */
  async rmdir(path: PathLike, options?: RmOptions): Promise<void> {
    if (booleanOf(objectOf(options).recursive, "options.recursive")) {
      const { mode } = await attributes.attrOfPath(this.#v, path, true, "stat");
      if (isDir(mode)) return rm(this.#v, path, { recursive: true });
    }
    return names.rmdir(this.#v, path);
  }

  async unlink(path: PathLike): Promise<void> {
    return names.unlink(this.#v, path);
  }

  async rm(path: PathLike, options?: RmOptions): Promise<void> {
    return rm(this.#v, path, objectOf(options));
  }

  async rename(oldPath: PathLike, newPath: PathLike): Promise<void> {
    return names.rename(this.#v, oldPath, newPath);
  }

  async link(existingPath: PathLike, newPath: PathLike): Promise<void> {
    return names.link(this.#v, existingPath, newPath);
  }

  /** `type` is node's, for Windows; it is not looked at. */
  async symlink(target: PathLike, path: PathLike, _type?: string | null): Promise<void> {
    return names.symlink(this.#v, target, path);
  }

  readlink(path: PathLike, options: BufferOption): Promise<Buffer>;
  readlink(path: PathLike, options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<string>;
  async readlink(path: PathLike, options?: NameOptions): Promise<string | Buffer> {
    return named(options, () => names.readlink(this.#v, path));
  }

  realpath(path: PathLike, options: BufferOption): Promise<Buffer>;
  realpath(path: PathLike, options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<string>;
  async realpath(path: PathLike, options?: NameOptions): Promise<string | Buffer> {
    return named(options, () => names.realpath(this.#v, path));
  }

  async cp(src: PathLike, dest: PathLike, options?: CopyOptions): Promise<void> {
    return cp(this.#v, src, dest, objectOf(options));
  }

  // Directories -------------------------------------------------------------------------------------------------------
  readdir(
    path: PathLike,
    options: { encoding: "buffer"; withFileTypes?: false; recursive?: boolean } | "buffer",
  ): Promise<Buffer[]>;
  readdir(
    path: PathLike,
    options: { encoding: "buffer"; withFileTypes: true; recursive?: boolean },
  ): Promise<Dirent<Buffer>[]>;
  readdir(
    path: PathLike,
    options: { encoding?: BufferEncoding | null; withFileTypes: true; recursive?: boolean },
  ): Promise<Dirent[]>;
  readdir(
    path: PathLike,
    options?: { encoding?: BufferEncoding | null; withFileTypes?: false; recursive?: boolean } | BufferEncoding | null,
  ): Promise<string[]>;
  async readdir(
    path: PathLike,
    options?: { encoding?: Encoding | null; withFileTypes?: boolean; recursive?: boolean } | Encoding | null,
  ): Promise<unknown> {
    return readdir(this.#v, path, optionsOf<ReaddirOptions>(options));
  }

  async opendir(path: PathLike, options?: OpendirOptions | BufferEncoding | null): Promise<Dir> {
    return opendir(this.#v, path, optionsOf<OpendirOptions>(options));
  }

  // Attributes --------------------------------------------------------------------------------------------------------
  stat(path: PathLike, options?: { bigint?: false }): Promise<Stats>;
  stat(path: PathLike, options: { bigint: true }): Promise<BigIntStats>;
  async stat(path: PathLike, options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    return attributes.stat(this.#v, path, true, options?.bigint === true);
  }

  lstat(path: PathLike, options?: { bigint?: false }): Promise<Stats>;
  lstat(path: PathLike, options: { bigint: true }): Promise<BigIntStats>;
  async lstat(path: PathLike, options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    return attributes.stat(this.#v, path, false, options?.bigint === true);
  }

  statfs(path: PathLike, options?: { bigint?: false }): Promise<StatsFs>;
  statfs(path: PathLike, options: { bigint: true }): Promise<StatsFs<bigint>>;
  async statfs(path: PathLike, options?: { bigint?: boolean }): Promise<StatsFs | StatsFs<bigint>> {
    return attributes.statfs(this.#v, path, options?.bigint === true);
  }

  /** As root: what is there may be read and written. */
  async access(path: PathLike, mode?: number): Promise<void> {
    return attributes.access(this.#v, path, mode);
  }

  /** True when something is there; a symlink that leads nowhere is nothing. */
  async exists(path: PathLike): Promise<boolean> {
    try {
      await attributes.access(this.#v, path);
      return true;
    } catch (err) {
      if (hasCode(err, "ENOENT") || hasCode(err, "ENOTDIR") || hasCode(err, "ELOOP")) return false;
      throw err;
    }
  }

  async chmod(path: PathLike, mode: string | number): Promise<void> {
    return attributes.changePath(this.#v, path, true, "chmod", { mode: modeOf(mode) });
  }

  async chown(path: PathLike, uid: number, gid: number): Promise<void> {
    return attributes.changePath(this.#v, path, true, "chown", { uid: idOf(uid, "uid"), gid: idOf(gid, "gid") });
  }

  async lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    return attributes.changePath(this.#v, path, false, "lchown", { uid: idOf(uid, "uid"), gid: idOf(gid, "gid") });
  }

  async utimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
    return attributes.changePath(this.#v, path, true, "utime", timesOf(atime, mtime));
  }

  async lutimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
    return attributes.changePath(this.#v, path, false, "lutime", timesOf(atime, mtime));
  }

  // Extended attributes -----------------------------------------------------------------------------------------------
  /** The value of "user.comment" or the like. ENODATA when there is none. */
  async getxattr(path: PathLike, name: string): Promise<Buffer> {
    return attributes.getxattr(this.#v, path, name, true);
  }

  async lgetxattr(path: PathLike, name: string): Promise<Buffer> {
    return attributes.getxattr(this.#v, path, name, false);
  }

  async setxattr(
    path: PathLike,
    name: string,
    value: string | Uint8Array,
    options?: attributes.SetxattrOptions,
  ): Promise<void> {
    return attributes.setxattr(this.#v, path, name, Buffer.from(value as string), options ?? {}, true);
  }

  async lsetxattr(
    path: PathLike,
    name: string,
    value: string | Uint8Array,
    options?: attributes.SetxattrOptions,
  ): Promise<void> {
    return attributes.setxattr(this.#v, path, name, Buffer.from(value as string), options ?? {}, false);
  }

  async removexattr(path: PathLike, name: string): Promise<void> {
    return attributes.removexattr(this.#v, path, name, true);
  }

  async lremovexattr(path: PathLike, name: string): Promise<void> {
    return attributes.removexattr(this.#v, path, name, false);
  }

  async listxattr(path: PathLike): Promise<string[]> {
    return attributes.listxattr(this.#v, path, true);
  }

  async llistxattr(path: PathLike): Promise<string[]> {
    return attributes.listxattr(this.#v, path, false);
  }

  // What a volume cannot do -------------------------------------------------------------------------------------------
  /** Not to be had: other nodes change the volume without telling. */
  watch(_path: PathLike, _options?: unknown): never {
    throw codedError("ERR_FEATURE_UNAVAILABLE_ON_PLATFORM", "The feature watch is unavailable on an OCFS2 volume");
  }

  /** Not to be had on Linux. */
  async lchmod(_path: PathLike, _mode: string | number): Promise<void> {
    throw codedError("ERR_METHOD_NOT_IMPLEMENTED", "The lchmod() method is not implemented");
  }
}

const isHandle = (path: PathLike | FileHandle): path is FileHandle =>
  typeof path === "object" && path !== null && "readFile" in path && typeof path.readFile === "function";
