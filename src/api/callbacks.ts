/**
 * `volume.fs`: the same with callbacks, and streams, for programs written for plain node:fs. The synchronous functions
 * are not there: a disk cannot be waited for without holding up the process.
 */
import { constants } from "node:fs";
import { callbackify, promisify } from "node:util";
import { Errno } from "../lib/errno.ts";
import { invalidArg, systemError } from "./errors.ts";
import type { FileHandle } from "./file_handle.ts";
import type { PathLike } from "./path.ts";
import type { FsPromises } from "./promises.ts";
import {
  type ReadStream,
  type ReadStreamOptions,
  readStreamAt,
  type StreamFile,
  type WriteStream,
  type WriteStreamOptions,
  writeStreamAt,
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

/** Those that call back with a count and what was read or written, and what both are called in the handle's answer. */
const TRANSFERS = {
  read: ["bytesRead", "buffer"],
  readv: ["bytesRead", "buffers"],
  write: ["bytesWritten", "buffer"],
  writev: ["bytesWritten", "buffers"],
} as const;

type Same = { readonly [K in (typeof SAME)[number]]: CallbackFunction };
type ByFd = { readonly [K in keyof typeof BY_FD | keyof typeof TRANSFERS]: CallbackFunction };

export interface FsCallbacks extends Same, ByFd {
  readonly promises: FsPromises;
  readonly constants: typeof constants;
  readonly open: CallbackFunction;
  readonly close: CallbackFunction;
  readonly exists: (path: PathLike, cb: (there: boolean) => void) => void;
  readonly watch: FsPromises["watch"];
  createReadStream(path: PathLike, options?: BufferEncoding | (ReadStreamOptions & StreamFile) | null): ReadStream;
  createWriteStream(path: PathLike, options?: BufferEncoding | (WriteStreamOptions & StreamFile) | null): WriteStream;
}

type Run = (...args: unknown[]) => Promise<unknown>;

/** Lets a function that answers a promise be called with a callback, too; promisified, it is `fn` itself. */
function withCallback(fn: Run, call: (...args: never[]) => void = callbackify(fn)): CallbackFunction {
  Object.defineProperty(call, promisify.custom, { value: fn });
  return call as unknown as CallbackFunction;
}

export function makeCallbacks(promises: FsPromises): FsCallbacks {
  const handles = new Map<number, FileHandle>();
  const handleOf = (fd: unknown, syscall: string): FileHandle => {
    if (typeof fd !== "number") throw invalidArg("fd", "of type number", fd);
    const handle = handles.get(fd);
    if (handle === undefined) throw systemError(Errno.EBADF, { syscall });
    return handle;
  };
  const out: Record<string, unknown> = { promises, constants, watch: promises.watch };
  for (const name of SAME) out[name] = withCallback(promises[name] as Run);
  for (const name of ["readFile", "writeFile", "appendFile"] as const)
    out[name] = withCallback(async (file, ...args) =>
      (promises[name] as Run)(typeof file === "number" ? handleOf(file, name) : file, ...args),
    );
  for (const [name, method] of Object.entries(BY_FD))
    out[name] = withCallback(async (fd, ...args) => (handleOf(fd, name)[method] as Run)(...args));
  out["open"] = withCallback(async (path, flags, mode) => {
    const handle = await promises.open(path as PathLike, flags as string, mode as number);
    const { fd } = handle;
    handles.set(fd, handle);
    return fd;
  });
  out["close"] = withCallback(async (fd) => {
    const handle = handleOf(fd, "close");
    handles.delete(fd as number);
    await handle.close();
  });
  for (const [name, [count, what]] of Object.entries(TRANSFERS)) {
    const run: Run = async (fd, ...args) => (handleOf(fd, name)[name as keyof typeof TRANSFERS] as Run)(...args);
    out[name] = withCallback(run, (...args: unknown[]) => {
      const cb = args.pop() as Callback;
      if (typeof cb !== "function") throw invalidArg("cb", "of type function", cb);
      run(...args).then(
        (done) => process.nextTick(cb, null, (done as never)[count], (done as never)[what]),
        (err) => process.nextTick(cb, err),
      );
    });
  }
  out["exists"] = withCallback(promises.exists as Run, (path: PathLike, cb: (there: boolean) => void) => {
    if (typeof cb !== "function") throw invalidArg("cb", "of type function", cb);
    promises.exists(path).then(
      (there) => process.nextTick(cb, there),
      () => process.nextTick(cb, false),
    );
  });
  out["createReadStream"] = readStreamAt.bind(null, out);
  out["createWriteStream"] = writeStreamAt.bind(null, out);
  return out as unknown as FsCallbacks;
}
