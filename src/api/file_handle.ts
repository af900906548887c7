/** FileHandle: an open file with node's methods. It has its own position; calls that give none move it. */
import { createInterface, type Interface } from "node:readline";
import type { ReadableStream } from "node:stream/web";
import { isDir, isLnk, isReg } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { create, getattr } from "../vfs/namespace.ts";
import type { Inode } from "../volume/inode.ts";
import { changeAttr } from "./attributes.ts";
import { type CallInfo, codedError, hasCode, systemError, throwIfAborted } from "./errors.ts";
import { bytesOf, OpenFile } from "./file_data.ts";
import { idOf, lengthOf, modeOf, placeOf } from "./numbers.ts";
import { type OpenFlags, openFlags } from "./open_flags.ts";
import type { OpenVolume } from "./open_volume.ts";
import { type PathLike, type Place, pathBytes, pathText } from "./path.ts";
import { BigIntStats, Stats } from "./stats.ts";
import {
  type ReadStream,
  type ReadStreamOptions,
  readStream,
  type WriteStream,
  type WriteStreamOptions,
  writeStream,
} from "./streams.ts";
import { type TimeLike, timesOf } from "./times.ts";

/** Data that writeFile takes: text, bytes, or what gives them piece by piece. */
export type FileData =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

export interface ReadFileOptions {
  readonly encoding?: BufferEncoding | null;
  readonly flag?: string | number;
  readonly signal?: AbortSignal;
}

export interface WriteFileOptions {
  readonly encoding?: BufferEncoding | null;
  readonly mode?: string | number;
  readonly flag?: string | number;
  /** The data is durable when the promise is fulfilled. */
  readonly flush?: boolean;
  readonly signal?: AbortSignal;
}

export interface ReadOptions<B> {
  readonly buffer?: B;
  readonly offset?: number | null;
  readonly length?: number | null;
  readonly position?: number | bigint | null;
}

const READ_DEFAULT_BYTES = 16384;
const CHUNK_BYTES = 1 << 19;
const FS_IMMUTABLE_FL = 0x10;
const FS_APPEND_FL = 0x20;

const openError = (errno: number, ino?: number): FsError => new FsError(errno, "api.open", { ino });

/** What open(2) answers for a place, before anything is done there. */
function checkOpen(v: OpenVolume, place: Place, f: OpenFlags): void {
  const { attr } = place;
  // What open would make is no directory, whatever is there (open_last_lookups).
  if (f.create && place.slash && place.last === "norm") throw openError(Errno.EISDIR, attr?.ino);
  if (attr === undefined) {
    if (!f.create) throw openError(Errno.ENOENT);
    v.checkWritable();
    return;
  }
  if (f.create && f.exclusive) throw openError(Errno.EEXIST, attr.ino);
  if (isLnk(attr.mode)) throw openError(f.directory ? Errno.ENOTDIR : Errno.ELOOP, attr.ino);
  const dir = isDir(attr.mode);
  if (dir && (f.create || f.writes || f.truncate)) throw openError(Errno.EISDIR, attr.ino);
  if (!dir && (f.directory || place.slash)) throw openError(Errno.ENOTDIR, attr.ino);
  if (!dir && !isReg(attr.mode)) throw openError(Errno.ENXIO, attr.ino);
  if (f.writes || f.truncate) v.checkWritable();
  if (f.writes && (attr.flags & FS_IMMUTABLE_FL) !== 0) throw openError(Errno.EPERM, attr.ino);
  if ((attr.flags & FS_APPEND_FL) !== 0 && ((f.writes && !f.append) || f.truncate))
    throw openError(Errno.EPERM, attr.ino);
}

/** Opens what is at a place, or makes it. */
async function openAt(v: OpenVolume, call: CallInfo, place: Place, f: OpenFlags, mode: number): Promise<OpenFile> {
  if (place.attr !== undefined) return new OpenFile(v, v.osb.inodes.get(place.attr.ino), f.writes);
  let file: OpenFile | undefined;
  await v.run(call, (op) => {
    const { ino } = create(op, place.parent, place.name, mode, v.cred);
    op.onSuccess(() => {
      file = new OpenFile(v, op.osb.inodes.get(ino), f.writes);
    });
  });
  return file!;
}

/** Opens a file as open(2) does, with node's flags. `as`: the call that errors name, when it is not open. */
export async function openFile(
  v: OpenVolume,
  path: PathLike,
  flags?: string | number,
  mode?: string | number,
  as?: CallInfo,
): Promise<FileHandle> {
  const bytes = pathBytes(path);
  const f = openFlags(flags);
  const new_mode = modeOf(mode, 0o666);
  const call = as ?? { syscall: "open", path: pathText(path) };
  const how = { follow: !f.nofollow && !(f.create && f.exclusive), names_end: f.create };
  return v.at(call, bytes, how, async (place) => {
    await v.run(call, () => checkOpen(v, place, f));
    let file: OpenFile;
    try {
      file = await openAt(v, call, place, f, new_mode);
    } catch (err) {
      // Somebody else made it meanwhile.
      if (hasCode(err, "EEXIST") && !f.exclusive) return openFile(v, path, flags, mode, as);
      throw err;
    }
    const handle = new FileHandle(v, file, f);
    const { attr } = place;
    if (!f.truncate || attr === undefined || attr.size === 0) return handle;
    try {
      await file.truncate(0, "open");
    } catch (err) {
      await handle.close();
      throw err;
    }
    return handle;
  });
}

let next_fd = 3;

export class FileHandle implements AsyncDisposable {
  /** A number for messages and maps; no descriptor of the process. */
  readonly fd: number;
  readonly #v: OpenVolume;
  readonly #file: OpenFile;
  readonly #flags: OpenFlags;
  #position = 0;
  #closed = false;

  /** Made by `open`. */
  constructor(v: OpenVolume, file: OpenFile, flags: OpenFlags) {
    this.fd = next_fd++;
    this.#v = v;
    this.#file = file;
    this.#flags = flags;
    v.handles.add(this);
  }

  #check(syscall: string, right: "reads" | "writes" | null = null): void {
    if (this.#closed) throw Object.assign(codedError("EBADF", "file closed"), { syscall });
    if (right !== null && !this.#flags[right]) throw systemError(Errno.EBADF, { syscall });
  }

  /** Reads into a buffer, or into a new one of 16 KiB; from `position`, or from the handle's, which then moves on. */
  read<B extends NodeJS.ArrayBufferView = Buffer>(
    buffer: B,
    offset?: number | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: B }>;
  read<B extends NodeJS.ArrayBufferView = Buffer>(
    buffer: B,
    options: Omit<ReadOptions<B>, "buffer">,
  ): Promise<{ bytesRead: number; buffer: B }>;
  read<B extends NodeJS.ArrayBufferView = Buffer>(options?: ReadOptions<B>): Promise<{ bytesRead: number; buffer: B }>;
  async read<B extends NodeJS.ArrayBufferView>(
    first?: B | ReadOptions<B>,
    second?: number | null | Omit<ReadOptions<B>, "buffer">,
    third?: number | null,
    fourth?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: B }> {
    this.#check("read", "reads");
    let o: ReadOptions<B>;
    if (!ArrayBuffer.isView(first)) o = first ?? {};
    else if (typeof second === "object" && second !== null) o = { ...second, buffer: first };
    else o = { buffer: first, offset: second ?? 0, length: third ?? null, position: fourth ?? null };
    const buffer = (o.buffer ?? Buffer.alloc(READ_DEFAULT_BYTES)) as B;
    const into = part(bytesOf(buffer), o.offset, o.length);
    const bytesRead = await this.#readAt(into, o.position);
    return { bytesRead, buffer };
  }

  async #readAt(into: Uint8Array, position: number | bigint | null | undefined): Promise<number> {
    const place = placeOf(position);
    const own = place === undefined;
    const at = place ?? this.#position;
    const n = await this.#file.read(into, at);
    if (own) this.#position = at + n;
    if (!this.#flags.noatime) await this.#file.accessed();
    return n;
  }

  /** Fills buffers one after the other. */
  async readv<B extends readonly NodeJS.ArrayBufferView[]>(
    buffers: B,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffers: B }> {
    this.#check("readv", "reads");
    let bytesRead = 0;
    for (const b of buffers) {
      const into = bytesOf(b);
      const n = await this.#readAt(into, typeof position === "number" ? position + bytesRead : null);
      bytesRead += n;
      if (n < into.length) break;
    }
    return { bytesRead, buffers };
  }

  /** Writes bytes, or text; at `position`, or at the handle's, which then moves on. With O_APPEND always at the end. */
  write<B extends NodeJS.ArrayBufferView>(
    buffer: B,
    offset?: number | null | { offset?: number; length?: number; position?: number | null },
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: B }>;
  write(
    text: string,
    position?: number | null,
    encoding?: BufferEncoding | null,
  ): Promise<{ bytesWritten: number; buffer: string }>;
  async write(
    data: string | NodeJS.ArrayBufferView,
    second?: number | null | { offset?: number; length?: number; position?: number | null },
    third?: number | string | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: unknown }> {
    this.#check("write", "writes");
    let from: Uint8Array;
    let at: number | null | undefined;
    if (typeof data === "string") {
      from = bytesOf(data, third as BufferEncoding | null | undefined);
      at = second as number | null | undefined;
    } else if (typeof second === "object" && second !== null) {
      from = part(bytesOf(data), second.offset, second.length);
      at = second.position;
    } else {
      from = part(bytesOf(data), second, third as number | null | undefined);
      at = position;
    }
    return { bytesWritten: await this.#writeAt(from, at), buffer: data };
  }

  async #writeAt(from: Uint8Array, position: number | null | undefined): Promise<number> {
    const { append, sync, datasync } = this.#flags;
    const place = placeOf(position);
    const own = place === undefined;
    const at = place ?? this.#position;
    // Taken before the wait, so that writes that were started together do not land on one place.
    if (own) this.#position = at + from.length;
    const n = await this.#file.write(from, at, append);
    if (append && own) this.#position = (await this.#attr("write")).size;
    else if (own && n < from.length) this.#position = at + n;
    if (sync || datasync) await this.#file.sync(datasync && !sync);
    return n;
  }

  /** Writes buffers one after the other. */
  async writev<B extends readonly NodeJS.ArrayBufferView[]>(
    buffers: B,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: B }> {
    this.#check("writev", "writes");
    const from = Buffer.concat(buffers.map((b) => bytesOf(b)));
    return { bytesWritten: await this.#writeAt(from, position), buffers };
  }

  /** From the handle's position to the end. */
  readFile(options?: { encoding?: null; signal?: AbortSignal } | null): Promise<Buffer>;
  readFile(options: { encoding: BufferEncoding; signal?: AbortSignal } | BufferEncoding): Promise<string>;
  readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<Buffer | string>;
  async readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<Buffer | string> {
    const o = typeof options === "string" ? { encoding: options } : (options ?? {});
    this.#check("read", "reads");
    const { mode, size } = await this.#attr("read");
    if (isDir(mode)) throw systemError(Errno.EISDIR, { syscall: "read" });
    const chunks: Uint8Array[] = [];
    // One byte more than the size: the end shows in the same read.
    for (let want = Math.max(0, size - this.#position) + 1; ; want = CHUNK_BYTES) {
      throwIfAborted(o.signal);
      const chunk = Buffer.allocUnsafe(Math.min(want, 8 * CHUNK_BYTES));
      const n = await this.#readAt(chunk, null);
      chunks.push(chunk.subarray(0, n));
      if (n < chunk.length) break;
    }
    const all = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
    return o.encoding ? all.toString(o.encoding) : all;
  }

  /** Writes data at the handle's position. */
  async writeFile(data: FileData, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    const o = typeof options === "string" ? { encoding: options } : (options ?? {});
    this.#check("write", "writes");
    if (typeof data === "string" || ArrayBuffer.isView(data)) await this.#writeWhole(bytesOf(data, o.encoding), o);
    else for await (const piece of data) await this.#writeWhole(bytesOf(piece, o.encoding), o);
    if (o.flush === true) await this.sync();
  }

  async #writeWhole(from: Uint8Array, o: WriteFileOptions): Promise<void> {
    throwIfAborted(o.signal);
    for (let put = 0; put < from.length; ) {
      const n = await this.#writeAt(from.subarray(put), null);
      if (n === 0) throw systemError(Errno.ENOSPC, { syscall: "write" });
      put += n;
      throwIfAborted(o.signal);
    }
  }

  /** Writes data behind what is there. */
  async appendFile(data: FileData, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    await this.writeFile(data, options);
  }

  #attr(syscall: string) {
    const { inode } = this.#file;
    return this.#v.run({ syscall }, (op) => getattr(op, inode.ino));
  }

  stat(options?: { bigint?: false }): Promise<Stats>;
  stat(options: { bigint: true }): Promise<BigIntStats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    this.#check("fstat");
    const attr = await this.#attr("fstat");
    const dev = this.#v.osb.geo.uuid_hash;
    return options?.bigint === true ? new BigIntStats(attr, dev) : new Stats(attr, dev);
  }

  async truncate(len = 0): Promise<void> {
    this.#check("ftruncate");
    const size = lengthOf(len);
    if (!this.#flags.writes) throw systemError(Errno.EINVAL, { syscall: "ftruncate" });
    await this.#file.truncate(size, "ftruncate");
  }

  async chmod(mode: string | number): Promise<void> {
    this.#check("fchmod");
    await changeAttr(this.#v, { syscall: "fchmod" }, this.#file.inode, { mode: modeOf(mode) });
  }

  async chown(uid: number, gid: number): Promise<void> {
    this.#check("fchown");
    await changeAttr(this.#v, { syscall: "fchown" }, this.#file.inode, {
      uid: idOf(uid, "uid"),
      gid: idOf(gid, "gid"),
    });
  }

  async utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    this.#check("futime");
    await changeAttr(this.#v, { syscall: "futime" }, this.#file.inode, timesOf(atime, mtime));
  }

  /** Data and metadata are durable (fsync). */
  async sync(): Promise<void> {
    this.#check("fsync");
    await this.#file.sync(false);
  }

  /** Data, and the metadata that is needed to read it, are durable (fdatasync). */
  async datasync(): Promise<void> {
    this.#check("fdatasync");
    await this.#file.sync(true);
  }

  createReadStream(options?: ReadStreamOptions): ReadStream {
    return readStream(() => Promise.resolve(this), options);
  }

  createWriteStream(options?: WriteStreamOptions): WriteStream {
    return writeStream(() => Promise.resolve(this), options);
  }

  /** The lines of the file, without their ends: `for await (const line of handle.readLines())`. */
  readLines(options?: ReadStreamOptions): Interface {
    const input = this.createReadStream({ encoding: "utf8", ...options });
    return createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  }

  readableWebStream(): ReadableStream {
    const read = this.read.bind(this);
    return new globalThis.ReadableStream({
      async pull(controller) {
        const { bytesRead, buffer } = await read();
        if (bytesRead === 0) controller.close();
        else controller.enqueue(new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead));
      },
    }) as ReadableStream;
  }

  /** The inode; for the library's own use. */
  get inode(): Inode {
    return this.#file.inode;
  }

  /** True once `close` was called or the volume was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.abandon();
    this.#v.handles.delete(this);
  }

  /** The volume is being closed; for the library's own use. */
  abandon(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The stretch of a buffer that offset and length name. RangeError when it is not inside. */
function part(bytes: Uint8Array, offset?: number | null, length?: number | null): Uint8Array {
  const from = offset ?? 0;
  const len = length ?? bytes.length - from;
  if (!Number.isInteger(from) || !Number.isInteger(len) || from < 0 || len < 0 || from + len > bytes.length)
    throw codedError(
      "ERR_OUT_OF_RANGE",
      `The value of "${from < 0 || from > bytes.length ? "offset" : "length"}" is out of range: ${bytes.length} bytes, offset ${from}, length ${len}.`,
      RangeError,
    );
  return bytes.subarray(from, from + len);
}
