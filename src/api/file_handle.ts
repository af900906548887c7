/** FileHandle: an open file with node's methods. It has its own position; calls that give none move it. */
import { EventEmitter } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { ReadableStream } from "node:stream/web";
import { isDir, isLnk, isReg } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { create, getattr } from "../vfs/namespace.ts";
import type { Inode } from "../volume/inode.ts";
import { type Changes, changeAttr } from "./attributes.ts";
import { type CallInfo, codedError, hasCode, invalidArg, systemError, throwIfAborted } from "./errors.ts";
import { bytesOf, type FileData, OpenFile, piecesOf } from "./file_data.ts";
import { idOf, lengthOf, modeOf, placeOf } from "./numbers.ts";
import { type OpenFlags, openFlags } from "./open_flags.ts";
import type { OpenVolume } from "./open_volume.ts";
import { booleanOf, optionsOf } from "./options.ts";
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

export interface ReadFileOptions {
  readonly encoding?: BufferEncoding | null | undefined;
  readonly flag?: string | number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface WriteFileOptions {
  readonly encoding?: BufferEncoding | null | undefined;
  readonly mode?: string | number | undefined;
  readonly flag?: string | number | undefined;
  /** The data is durable when the promise is fulfilled. */
  readonly flush?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ReadOptions<B> {
  readonly buffer?: B | undefined;
  readonly offset?: number | null | undefined;
  readonly length?: number | null | undefined;
  readonly position?: number | bigint | null | undefined;
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
  const { attr } = place;
  if (attr !== undefined) return new OpenFile(v, v.osb.inodes.get(attr.ino), f.writes, isDir(attr.mode));
  let file: OpenFile | undefined;
  await v.run(call, (op) => {
    const { ino } = create(op, place.parent, place.name, mode, v.cred);
    op.onSuccess(() => {
      file = new OpenFile(v, op.osb.inodes.get(ino), f.writes, false);
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

export class FileHandle extends EventEmitter implements AsyncDisposable {
  readonly #fd = next_fd++;
  readonly #v: OpenVolume;
  readonly #file: OpenFile;
  readonly #flags: OpenFlags;
  #position = 0;
  /** Settles when the position is free. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Calls at work; the file is closed when none is left. */
  #running = 0;
  #closing: Promise<void> | null = null;
  #ended: (() => void) | null = null;
  #closed = false;

  /** Made by `open`. */
  constructor(v: OpenVolume, file: OpenFile, flags: OpenFlags) {
    super();
    this.#v = v;
    this.#file = file;
    this.#flags = flags;
    v.handles.add(this);
  }

  /** A number for messages and maps; no descriptor of the process. -1 once the handle is closed. */
  get fd(): number {
    return this.#closed ? -1 : this.#fd;
  }

  /** Runs a call. Neither the file nor the volume is closed before it has ended: what has no name left would be wiped under it. */
  async #call<T>(syscall: string, work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw Object.assign(codedError("EBADF", "file closed"), { syscall });
    this.#running++;
    try {
      return await this.#v.held(work);
    } finally {
      if (--this.#running === 0 && this.#closing !== null) this.abandon();
    }
  }

  #may(right: "reads" | "writes", syscall: string): void {
    if (!this.#flags[right]) throw systemError(Errno.EBADF, { syscall });
  }

  /** Lets calls have the handle's position one after the other (f_pos_lock): two that were started together do not get one place. */
  #atPosition(transfer: (at: number) => Promise<number>): Promise<number> {
    const moved = this.#turn.then(() => transfer(this.#position));
    this.#turn = moved.catch(() => {});
    return moved;
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
    first?: B | ReadOptions<B> | null,
    second?: number | null | Omit<ReadOptions<B>, "buffer">,
    third?: number | null,
    fourth?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: B }> {
    return this.#call("read", async () => {
      let o: ReadOptions<B>;
      if (!ArrayBuffer.isView(first)) o = first ?? {};
      else if (typeof second === "object" && second !== null) o = { ...second, buffer: first };
      else o = { buffer: first, offset: second ?? 0, length: third ?? null, position: fourth ?? null };
      if (typeof o !== "object") throw invalidArg("options", "of type object", o);
      const buffer = (o.buffer === undefined ? Buffer.alloc(READ_DEFAULT_BYTES) : o.buffer) as B;
      if (!ArrayBuffer.isView(buffer))
        throw invalidArg("buffer", "an instance of Buffer, TypedArray, or DataView", buffer);
      const into = part(bytesOf(buffer, "buffer"), o.offset, o.length);
      if (into.length === 0) return { bytesRead: 0, buffer };
      this.#may("reads", "read");
      return { bytesRead: await this.#readAt(into, o.position), buffer };
    });
  }

  async #readAt(into: Uint8Array, position: number | bigint | null | undefined): Promise<number> {
    const place = placeOf(position);
    const n =
      place !== undefined
        ? await this.#file.read(into, place)
        : await this.#atPosition(async (at) => {
            const n = await this.#file.read(into, at);
            this.#position = at + n;
            return n;
          });
    if (!this.#flags.noatime) await this.#file.accessed();
    return n;
  }

  /** Fills buffers one after the other. */
  async readv<B extends readonly NodeJS.ArrayBufferView[]>(
    buffers: B,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffers: B }> {
    return this.#call("readv", async () => {
      const parts = viewsOf(buffers);
      this.#may("reads", "read");
      const all = Buffer.allocUnsafe(parts.reduce((sum, b) => sum + b.length, 0));
      const bytesRead = await this.#readAt(all, position);
      const got = all.subarray(0, bytesRead);
      let at = 0;
      for (const b of parts) {
        b.set(got.subarray(at, at + b.length));
        at += b.length;
      }
      return { bytesRead, buffers };
    });
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
    return this.#call("write", async () => {
      if (ArrayBuffer.isView(data) && data.byteLength === 0) return { bytesWritten: 0, buffer: data };
      let from: Uint8Array;
      let at: number | null | undefined;
      if (typeof data === "string") {
        from = bytesOf(data, "buffer", third as BufferEncoding | null | undefined);
        at = second as number | null | undefined;
      } else if (typeof second === "object" && second !== null) {
        from = part(bytesOf(data, "buffer"), second.offset, second.length);
        at = second.position;
      } else {
        from = part(bytesOf(data, "buffer"), second, third as number | null | undefined);
        at = position;
      }
      this.#may("writes", "write");
      return { bytesWritten: await this.#writeAt(from, at), buffer: data };
    });
  }

  async #writeAt(from: Uint8Array, position: number | null | undefined): Promise<number> {
    const { append, sync, datasync } = this.#flags;
    const place = placeOf(position);
    const n =
      place !== undefined
        ? await this.#file.write(from, place, append)
        : await this.#atPosition(async (at) => {
            const n = await this.#file.write(from, at, append);
            this.#position = append ? (await this.#attr("write")).size : at + n;
            return n;
          });
    if (sync || datasync) await this.#file.sync(datasync && !sync);
    return n;
  }

  /** Writes buffers one after the other. */
  async writev<B extends readonly NodeJS.ArrayBufferView[]>(
    buffers: B,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: B }> {
    return this.#call("writev", async () => {
      const from = Buffer.concat(viewsOf(buffers));
      if (buffers.length === 0) return { bytesWritten: 0, buffers };
      this.#may("writes", "write");
      return { bytesWritten: await this.#writeAt(from, position), buffers };
    });
  }

  /** From the handle's position to the end. */
  readFile(options?: { encoding?: null; signal?: AbortSignal } | null): Promise<Buffer>;
  readFile(options: { encoding: BufferEncoding; signal?: AbortSignal } | BufferEncoding): Promise<string>;
  readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<Buffer | string>;
  async readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<Buffer | string> {
    return this.#call("readFile", async () => {
      const o = optionsOf<ReadFileOptions>(options);
      throwIfAborted(o.signal);
      this.#may("reads", "read");
      const { size } = await this.#attr("read");
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
    });
  }

  /** Writes data at the handle's position. */
  async writeFile(data: FileData, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    return this.#call("writeFile", async () => {
      const o = writeOptionsOf(options);
      const pieces = piecesOf(data, o.encoding);
      throwIfAborted(o.signal);
      for await (const piece of pieces) await this.#writeWhole(piece, o);
      if (o.flush === true) await this.#file.sync(false);
    });
  }

  async #writeWhole(from: Uint8Array, o: WriteFileOptions): Promise<void> {
    throwIfAborted(o.signal);
    if (from.length > 0) this.#may("writes", "write");
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
    return this.#call("fstat", async () => {
      const attr = await this.#attr("fstat");
      const dev = this.#v.osb.geo.uuid_hash;
      return options?.bigint === true ? new BigIntStats(attr, dev) : new Stats(attr, dev);
    });
  }

  async truncate(len = 0): Promise<void> {
    return this.#call("ftruncate", async () => {
      const size = lengthOf(len);
      if (!this.#flags.writes) throw systemError(Errno.EINVAL, { syscall: "ftruncate" });
      await this.#file.truncate(size, "ftruncate");
    });
  }

  /** `syscall`: what errors of the file system name; libuv has a name of its own for one. */
  #change(method: string, changes: () => Changes, syscall = method): Promise<void> {
    return this.#call(method, async () => changeAttr(this.#v, { syscall }, this.#file.inode, changes()));
  }

  async chmod(mode: string | number): Promise<void> {
    return this.#change("fchmod", () => ({ mode: modeOf(mode) }));
  }

  async chown(uid: number, gid: number): Promise<void> {
    return this.#change("fchown", () => ({ uid: idOf(uid, "uid"), gid: idOf(gid, "gid") }));
  }

  async utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    return this.#change("futimes", () => timesOf(atime, mtime), "futime");
  }

  /** Data and metadata are durable (fsync). */
  async sync(): Promise<void> {
    return this.#call("fsync", () => this.#file.sync(false));
  }

  /** Data, and the metadata that is needed to read it, are durable (fdatasync). */
  async datasync(): Promise<void> {
    return this.#call("fdatasync", () => this.#file.sync(true));
  }

  createReadStream(options?: ReadStreamOptions): ReadStream {
    return readStream(this, options);
  }

  createWriteStream(options?: WriteStreamOptions): WriteStream {
    return writeStream(this, options);
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

  /** True once the handle or the volume was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Waits for the handle's calls that are at work. */
  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    if (this.#closing === null) {
      this.#closing = new Promise((ok) => {
        this.#ended = ok;
      });
      if (this.#running === 0) this.abandon();
      this.emit("close");
    }
    return this.#closing;
  }

  /** Nothing is done with the handle any more: it, or the volume, is being closed. For the library's own use. */
  abandon(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#v.handles.delete(this);
    this.#file.close();
    this.#ended?.();
    // What listens shall not stop a volume from being closed.
    if (this.#closing === null) process.nextTick(() => this.emit("close"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function viewsOf(buffers: readonly NodeJS.ArrayBufferView[]): Uint8Array[] {
  const given: unknown = buffers;
  if (!Array.isArray(given) || !given.every((b) => ArrayBuffer.isView(b)))
    throw invalidArg("buffers", "an instance of ArrayBufferView[]", given);
  return buffers.map((b) => bytesOf(b, "buffers"));
}

/** Options of writeFile, those that say no encoding, flag or mode included. */
export function writeOptionsOf(options: WriteFileOptions | BufferEncoding | null | undefined): WriteFileOptions {
  const o = optionsOf<WriteFileOptions>(options);
  booleanOf(o.flush ?? undefined, "options.flush");
  return o;
}

/** The stretch of a buffer that offset and length name. RangeError when it is not inside. */
function part(bytes: Uint8Array, offset?: number | null, length?: number | null): Uint8Array {
  const from = offset ?? 0;
  if (typeof from !== "number") throw invalidArg("offset", "of type number", from);
  const len = length ?? bytes.length - from;
  if (typeof len !== "number") throw invalidArg("length", "of type number", len);
  if (!Number.isInteger(from) || !Number.isInteger(len) || from < 0 || len < 0 || from + len > bytes.length)
    throw codedError(
      "ERR_OUT_OF_RANGE",
      `The value of "${from < 0 || from > bytes.length ? "offset" : "length"}" is out of range: ${bytes.length} bytes, offset ${from}, length ${len}.`,
      RangeError,
    );
  return bytes.subarray(from, from + len);
}
