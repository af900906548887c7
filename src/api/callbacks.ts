/**
 * `volume.fs`: the same with callbacks, and streams, for programs written for plain node:fs. The synchronous functions
 * are not there: a disk cannot be waited for without holding up the process.
 */
import { constants } from "node:fs";
import { callbackify } from "node:util";
import { codedError } from "./errors.ts";
import type { FileHandle } from "./file_handle.ts";
import type { PathLike } from "./path.ts";
import type { FsPromises } from "./promises.ts";
import {
  type ReadStream,
  type ReadStreamOptions,
  readStream,
  type WriteStream,
  type WriteStreamOptions,
  writeStream,
} from "./streams.ts";

// biome-ignore lint/suspicious/noExplicitAny: a callback's arguments are those of the promise
type Callback = (err: NodeJS.ErrnoException | null, ...values: any[]) => void;
/** The promise's arguments, and a callback behind them. */
type CallbackFunction = (...args: [...unknown[], Callback]) => void;

/** Names that have the same arguments with callbacks as with promises. */
const SAME = [
  ...["readFile", "writeFile", "appendFile", "copyFile", "truncate", "mkdir", "mkdtemp", "rmdir", "unlink", "rm"],
  ...["rename", "link", "symlink", "readlink", "realpath", "cp", "readdir", "opendir", "stat", "lstat", "statfs"],
  ...["access", "chmod", "chown", "lchown", "utimes", "lutimes"],
] as const;

/** Functions on a descriptor, and the handle's method behind each. */
const BY_FD = {
  fstat: "stat",
  ftruncate: "truncate",
  fchmod: "chmod",
  fchown: "chown",
  futimes: "utimes",
  fsync: "sync",
  fdatasync: "datasync",
} as const;

type Same = { readonly [K in (typeof SAME)[number]]: CallbackFunction };
type ByFd = { readonly [K in keyof typeof BY_FD]: CallbackFunction };

export interface FsCallbacks extends Same, ByFd {
  readonly promises: FsPromises;
  readonly constants: typeof constants;
  readonly open: CallbackFunction;
  readonly close: CallbackFunction;
  readonly read: CallbackFunction;
  readonly write: CallbackFunction;
  readonly exists: (path: PathLike, cb: (there: boolean) => void) => void;
  createReadStream(
    path: PathLike,
    options?: BufferEncoding | (ReadStreamOptions & { flags?: string | number }),
  ): ReadStream;
  createWriteStream(
    path: PathLike,
    options?: BufferEncoding | (WriteStreamOptions & { flags?: string | number; mode?: string | number }),
  ): WriteStream;
}

/** Lets a function that answers a promise be called with a callback; `missing` ones in the middle may be left out. */
const withCallback = (fn: (...args: never[]) => Promise<unknown>): CallbackFunction =>
  callbackify(fn as (...args: unknown[]) => Promise<unknown>) as unknown as CallbackFunction;

export function makeCallbacks(promises: FsPromises): FsCallbacks {
  const handles = new Map<number, FileHandle>();
  const handleOf = (fd: number): FileHandle => {
    const handle = handles.get(fd);
    if (handle === undefined) throw codedError("EBADF", "EBADF: bad file descriptor");
    return handle;
  };
  const out: Record<string, unknown> = { promises, constants };
  for (const name of SAME) out[name] = withCallback(promises[name].bind(promises) as never);
  for (const [name, method] of Object.entries(BY_FD))
    out[name] = withCallback(async (fd: number, ...args: unknown[]) =>
      (handleOf(fd)[method] as (...a: unknown[]) => Promise<unknown>)(...args),
    );
  out["open"] = withCallback(async (path: PathLike, flags?: string | number, mode?: string | number) => {
    const handle = await promises.open(path, flags, mode);
    handles.set(handle.fd, handle);
    return handle.fd;
  });
  out["close"] = withCallback(async (fd: number) => {
    const handle = handleOf(fd);
    handles.delete(fd);
    await handle.close();
  });
  // node calls back with the count and the buffer.
  out["read"] = (fd: number, ...rest: unknown[]) => {
    const cb = rest.pop() as Callback;
    Promise.resolve()
      .then(() => (handleOf(fd).read as (...a: unknown[]) => Promise<{ bytesRead: number; buffer: unknown }>)(...rest))
      .then(
        ({ bytesRead, buffer }) => process.nextTick(cb, null, bytesRead, buffer),
        (err) => process.nextTick(cb, err),
      );
  };
  out["write"] = (fd: number, ...rest: unknown[]) => {
    const cb = rest.pop() as Callback;
    Promise.resolve()
      .then(() =>
        (handleOf(fd).write as (...a: unknown[]) => Promise<{ bytesWritten: number; buffer: unknown }>)(...rest),
      )
      .then(
        ({ bytesWritten, buffer }) => process.nextTick(cb, null, bytesWritten, buffer),
        (err) => process.nextTick(cb, err),
      );
  };
  out["exists"] = (path: PathLike, cb: (there: boolean) => void) => {
    promises.exists(path).then(
      (there) => process.nextTick(cb, there),
      () => process.nextTick(cb, false),
    );
  };
  out["createReadStream"] = (path: PathLike, options?: BufferEncoding | (ReadStreamOptions & { flags?: string })) => {
    const o = typeof options === "string" ? { encoding: options } : (options ?? {});
    return readStream(() => promises.open(path, "flags" in o ? o.flags : "r"), o);
  };
  out["createWriteStream"] = (
    path: PathLike,
    options?: BufferEncoding | (WriteStreamOptions & { flags?: string; mode?: string | number }),
  ) => {
    const o: WriteStreamOptions & { flags?: string; mode?: string | number } =
      typeof options === "string" ? { encoding: options } : (options ?? {});
    return writeStream(() => promises.open(path, o.flags ?? "w", o.mode), o);
  };
  return out as unknown as FsCallbacks;
}
