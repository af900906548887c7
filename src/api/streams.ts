/** Streams over a volume's files. They are node's own, which take the functions that they open, read, write and close with. */
import type { EventEmitter } from "node:events";
import { createReadStream, createWriteStream, type ReadStream, type WriteStream } from "node:fs";
import type { FileHandle } from "./file_handle.ts";
import type { PathLike } from "./path.ts";

export type { ReadStream, WriteStream };

interface StreamOptions {
  readonly encoding?: BufferEncoding | undefined;
  /** The first byte. */
  readonly start?: number | undefined;
  readonly highWaterMark?: number | undefined;
  /** The file is closed with the stream; so it is unless this is false. */
  readonly autoClose?: boolean | undefined;
  readonly emitClose?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ReadStreamOptions extends StreamOptions {
  /** The last byte, included. */
  readonly end?: number | undefined;
}

export interface WriteStreamOptions extends StreamOptions {
  /** The data is durable before the file is closed. */
  readonly flush?: boolean | undefined;
}

/** Where a file that is to be opened by its path is, and how it is opened. */
export interface StreamFile {
  readonly flags?: string | number | undefined;
  readonly mode?: string | number | undefined;
  /** One that is open already; the path is not looked at then. */
  readonly fd?: number | FileHandle | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: node's streams are typed for node:fs itself
type Functions = any;
type Callback = (err: Error | null, ...values: unknown[]) => void;

/** The functions of node:fs that a stream asks for, on one handle. */
function functionsOf(handle: FileHandle): Functions {
  return {
    read: (_fd: number, bytes: Buffer, offset: number, length: number, position: number, cb: Callback) =>
      handle.read(bytes, offset, length, position).then(({ bytesRead }) => cb(null, bytesRead, bytes), cb),
    write: (_fd: number, bytes: Buffer, offset: number, length: number, position: number, cb: Callback) =>
      handle.write(bytes, offset, length, position).then(({ bytesWritten }) => cb(null, bytesWritten, bytes), cb),
    writev: (_fd: number, all: Buffer[], position: number, cb: Callback) =>
      handle.writev(all, position).then(({ bytesWritten }) => cb(null, bytesWritten, all), cb),
    fsync: (_fd: number, cb: Callback) => handle.sync().then(() => cb(null), cb),
    close: (_fd: number, cb: Callback) => handle.close().then(() => cb(null), cb),
  };
}

const optionsOn = (handle: FileHandle, o: StreamOptions | undefined): Functions => ({
  ...o,
  fd: handle.fd,
  fs: functionsOf(handle),
});

/** Ends with the handle, as node's does. */
function ofHandle<S extends ReadStream | WriteStream>(handle: FileHandle, stream: S): S {
  const end = (): void => void stream.destroy();
  handle.once("close", end);
  (stream as EventEmitter).once("close", () => handle.off("close", end));
  return stream;
}

export function readStream(handle: FileHandle, o?: ReadStreamOptions): ReadStream {
  return ofHandle(handle, createReadStream("", optionsOn(handle, o)));
}

export function writeStream(handle: FileHandle, o?: WriteStreamOptions): WriteStream {
  return ofHandle(handle, createWriteStream("", optionsOn(handle, o)));
}

/** A stream that opens its file by `fs`, the volume's functions with callbacks. */
export function readStreamAt(
  fs: Functions,
  path: PathLike,
  options?: BufferEncoding | (ReadStreamOptions & StreamFile) | null,
): ReadStream {
  const o = typeof options === "string" ? { encoding: options } : (options ?? {});
  if ("fd" in o && typeof o.fd === "object" && o.fd !== null) return o.fd.createReadStream(o);
  return createReadStream(path as string, { ...o, fs } as Functions);
}

export function writeStreamAt(
  fs: Functions,
  path: PathLike,
  options?: BufferEncoding | (WriteStreamOptions & StreamFile) | null,
): WriteStream {
  const o = typeof options === "string" ? { encoding: options } : (options ?? {});
  if ("fd" in o && typeof o.fd === "object" && o.fd !== null) return o.fd.createWriteStream(o);
  return createWriteStream(path as string, { ...o, fs } as Functions);
}
