/** Bytes of files between the caller's buffers and the volume, in pieces that fit the lent memory. */
import { Errno } from "../lib/errno.ts";
import { errseqSample, type IsTold } from "../lib/errseq.ts";
import { FsError } from "../lib/fs_error.ts";
import { fsync, readFile, setattr, writeFile } from "../vfs/file.ts";
import { closeInode, openInode } from "../vfs/namespace.ts";
import { atimeIsDue, touchAtime } from "../volume/dir/attr.ts";
import { dinodeOf, type Inode, inodeLock } from "../volume/inode.ts";
import { invalidArg, systemError } from "./errors.ts";
import { BUFFER_BYTES, type OpenVolume } from "./open_volume.ts";

/** An open file: keeps its inode, and its data after the last name is gone, until `close`. */
export class OpenFile implements IsTold {
  readonly v: OpenVolume;
  readonly inode: Inode;
  readonly writes: boolean;
  readonly is_dir: boolean;
  f_wb_err: number;
  #open = true;
  #atime_seen = false;

  /** To be made while somebody holds the inode, or in the operation that makes it: nobody must wipe it in between. */
  constructor(v: OpenVolume, inode: Inode, writes: boolean, is_dir: boolean) {
    this.v = v;
    this.inode = inode;
    this.writes = writes;
    this.is_dir = is_dir;
    this.f_wb_err = errseqSample(inode.wb_err);
    openInode(inode, writes);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeInode(this.v.osb, this.inode, this.writes);
  }

  /** Fills `into` from `position`; answers how many bytes there were. */
  async read(into: Uint8Array, position: number): Promise<number> {
    const { v, inode } = this;
    if (this.is_dir) throw systemError(Errno.EISDIR, { syscall: "read" });
    let got = 0;
    while (got < into.length) {
      const n = await v.withBuffer(async (addr) => {
        const len = Math.min(BUFFER_BYTES, into.length - got);
        const n = await v.call<number>({ syscall: "read" }, (done) =>
          readFile(v.osb, inode, { offset: position + got, len, addr }, done),
        );
        into.set(v.osb.arena.u8.subarray(addr, addr + n), got);
        return n;
      });
      got += n;
      if (n === 0) break;
    }
    return got;
  }

  /** The time of access moves, at most once a handle, when it is due (relatime's quantum). */
  async accessed(): Promise<void> {
    const { v, inode } = this;
    if (this.#atime_seen || v.readonly || v.osb.options.noatime) return;
    this.#atime_seen = true;
    const due = await v.run({ syscall: "read" }, (op) => atimeIsDue(op, dinodeOf(op, inodeLock(op, inode))));
    if (due) await v.run({ syscall: "read" }, (op) => touchAtime(op, inode));
  }

  /** Writes at `position`, or at the end with `append`; answers how many bytes were written, fewer only when space ran out. */
  async write(from: Uint8Array, position: number, append: boolean): Promise<number> {
    const { v, inode } = this;
    let put = 0;
    while (put < from.length) {
      const n = await v.withBuffer((addr) => {
        const len = Math.min(BUFFER_BYTES, from.length - put);
        v.osb.arena.u8.set(from.subarray(put, put + len), addr);
        return v.call<number>({ syscall: "write" }, (done) => {
          v.checkWritable();
          writeFile(v.osb, inode, { offset: position + put, len, addr, append, file: this }, done);
        });
      });
      put += n;
      if (n === 0) break;
    }
    return put;
  }

  /** As write, until all is written. ENOSPC when that cannot be. */
  async writeAll(from: Uint8Array, position: number, append: boolean): Promise<void> {
    for (let put = 0; put < from.length; ) {
      const n = await this.write(from.subarray(put), position + put, append);
      if (n === 0) throw new FsError(Errno.ENOSPC, "api.write", { ino: this.inode.ino });
      put += n;
    }
  }

  sync(datasync: boolean): Promise<void> {
    const { v, inode } = this;
    return v.call({ syscall: datasync ? "fdatasync" : "fsync" }, (done) => fsync(v.osb, inode, datasync, done, this));
  }

  async truncate(size: number, syscall: string): Promise<void> {
    const { v, inode } = this;
    await v.call({ syscall }, (done) => {
      v.checkWritable();
      setattr(v.osb, inode, { size }, done);
    });
  }
}

/** Data that writeFile takes: text, bytes, or what gives them piece by piece. */
export type FileData =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

/** The bytes of what node's write functions take as data; `name` is the argument's. */
export function bytesOf(
  data: string | NodeJS.ArrayBufferView,
  name: string,
  encoding?: BufferEncoding | null,
): Uint8Array {
  if (typeof data === "string") return Buffer.from(data, encoding || "utf8");
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw invalidArg(name, "of type string or an instance of Buffer, TypedArray, or DataView", data);
}

/** The bytes of a file's data, piece by piece; what is no data is refused before the first one is asked for. */
export function piecesOf(
  data: FileData,
  encoding: BufferEncoding | null | undefined,
): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  const iterable = typeof data === "object" && data !== null && !ArrayBuffer.isView(data);
  if (!iterable || !(Symbol.iterator in data || Symbol.asyncIterator in data))
    return [bytesOf(data as string, "data", encoding)];
  return (async function* () {
    for await (const piece of data)
      yield typeof piece === "string" || ArrayBuffer.isView(piece)
        ? bytesOf(piece, "data", encoding)
        : Buffer.from(piece);
  })();
}
