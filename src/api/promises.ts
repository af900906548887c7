/**
 * The volume with the face of node:fs/promises: a program that takes such an `fs` works on the volume as it is. What differs
 * is in docs/LIBRARY.md.
 */
import { constants } from "node:fs";
import * as attributes from "./attributes.ts";
import { copyFile } from "./copy_file.ts";
import { type Dir, opendir, readdir } from "./directory.ts";
import { codedError, hasCode } from "./errors.ts";
import {
  type FileData,
  type FileHandle,
  openFile,
  type ReadFileOptions,
  type WriteFileOptions,
} from "./file_handle.ts";
import * as names from "./names.ts";
import { idOf, modeOf } from "./numbers.ts";
import type { OpenVolume } from "./open_volume.ts";
import type { PathLike } from "./path.ts";
import type { BigIntStats, Dirent, Stats, StatsFs } from "./stats.ts";
import { type TimeLike, timesOf } from "./times.ts";
import { type CopyOptions, cp, type RmOptions, rm } from "./tree.ts";

type Encoding = BufferEncoding | "buffer";
type NameOptions = { readonly encoding?: Encoding | null } | Encoding | null;
type BufferOption = { readonly encoding: "buffer" } | "buffer";

const encodingOf = (o?: NameOptions): Encoding => (typeof o === "string" ? o : o?.encoding) ?? "utf8";

function named(bytes: Buffer, o?: NameOptions): string | Buffer {
  const encoding = encodingOf(o);
  return encoding === "buffer" ? bytes : bytes.toString(encoding);
}

export interface MkdirOptions {
  readonly recursive?: boolean;
  readonly mode?: string | number;
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
    const o = typeof options === "string" ? { encoding: options } : (options ?? {});
    if (isHandle(path)) return path.readFile(o);
    await using handle = await openFile(this.#v, path, o.flag ?? "r");
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
    const o = typeof options === "string" ? { encoding: options } : (options ?? {});
    if (isHandle(path)) return path.writeFile(data, o);
    await using handle = await openFile(this.#v, path, o.flag ?? flag, o.mode);
    await handle.writeFile(data, o);
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
    const o = typeof options === "object" && options !== null ? options : { mode: options ?? undefined };
    const mode = "mode" in o ? o.mode : undefined;
    if ("recursive" in o && o.recursive === true) return names.mkdirp(this.#v, path, mode);
    await names.mkdir(this.#v, path, mode);
    return undefined;
  }

  async mkdtemp(prefix: string, options?: NameOptions): Promise<string> {
    const made = await names.mkdtemp(this.#v, prefix);
    return named(Buffer.from(made), options) as string;
  }

  async rmdir(path: PathLike): Promise<void> {
    return names.rmdir(this.#v, path);
  }

  async unlink(path: PathLike): Promise<void> {
    return names.unlink(this.#v, path);
  }

  async rm(path: PathLike, options?: RmOptions): Promise<void> {
    return rm(this.#v, path, options ?? {});
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
    return named(await names.readlink(this.#v, path), options);
  }

  realpath(path: PathLike, options: BufferOption): Promise<Buffer>;
  realpath(path: PathLike, options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<string>;
  async realpath(path: PathLike, options?: NameOptions): Promise<string | Buffer> {
    return named(await names.realpath(this.#v, path), options);
  }

  async cp(src: PathLike, dest: PathLike, options?: CopyOptions): Promise<void> {
    return cp(this.#v, src, dest, options ?? {});
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
    return readdir(this.#v, path, typeof options === "string" ? { encoding: options } : (options ?? {}));
  }

  async opendir(path: PathLike): Promise<Dir> {
    return opendir(this.#v, path);
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
  typeof path === "object" && "readFile" in path && typeof path.readFile === "function";
