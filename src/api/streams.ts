/** Streams over an open file, with the options of node's createReadStream and createWriteStream. */
import { Readable, Writable } from "node:stream";
import type { FileHandle } from "./file_handle.ts";

export interface ReadStreamOptions {
  readonly encoding?: BufferEncoding;
  /** First and last byte, both included. */
  readonly start?: number;
  readonly end?: number;
  readonly highWaterMark?: number;
  /** The file is closed with the stream; so it is unless this is false. */
  readonly autoClose?: boolean;
  readonly signal?: AbortSignal;
}

export interface WriteStreamOptions {
  readonly encoding?: BufferEncoding;
  readonly start?: number;
  readonly highWaterMark?: number;
  readonly autoClose?: boolean;
  /** The data is durable before the file is closed. */
  readonly flush?: boolean;
  readonly signal?: AbortSignal;
}

/** A Readable with what node's ReadStream tells besides. */
export type ReadStream = Readable & { bytesRead: number };
export type WriteStream = Writable & { bytesWritten: number };

const READ_AHEAD_BYTES = 1 << 16;

/** Reads a file from the moment on at which somebody listens; `open` is asked once. */
export function readStream(open: () => Promise<FileHandle>, o: ReadStreamOptions = {}): ReadStream {
  let handle: FileHandle | undefined;
  let at = o.start;
  const stop = o.end === undefined ? Number.POSITIVE_INFINITY : o.end + 1;
  let left = stop - (o.start ?? 0);
  const stream = new Readable({
    highWaterMark: o.highWaterMark ?? READ_AHEAD_BYTES,
    ...(o.encoding === undefined ? {} : { encoding: o.encoding }),
    ...(o.signal === undefined ? {} : { signal: o.signal }),
    construct(done) {
      open().then((h) => {
        handle = h;
        done();
      }, done);
    },
    read(size) {
      const want = Math.min(size, left);
      if (want <= 0) {
        stream.push(null);
        return;
      }
      handle!.read(Buffer.allocUnsafe(want), 0, want, at ?? null).then(
        ({ bytesRead, buffer }) => {
          left -= bytesRead;
          stream.bytesRead += bytesRead;
          if (at !== undefined) at += bytesRead;
          stream.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
        },
        (err: Error) => stream.destroy(err),
      );
    },
    destroy(err, done) {
      if (handle === undefined || o.autoClose === false) done(err);
      else
        handle.close().then(
          () => done(err),
          (close_err: Error) => done(err ?? close_err),
        );
    },
  }) as ReadStream;
  stream.bytesRead = 0;
  return stream;
}

/** Writes a file from `start` on, or from the handle's position. */
export function writeStream(open: () => Promise<FileHandle>, o: WriteStreamOptions = {}): WriteStream {
  let handle: FileHandle | undefined;
  let at = o.start;
  const put = async (bytes: Buffer): Promise<void> => {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle!.write(bytes, done, bytes.length - done, at ?? null);
      done += bytesWritten;
      stream.bytesWritten += bytesWritten;
      if (at !== undefined) at += bytesWritten;
    }
  };
  const stream = new Writable({
    defaultEncoding: o.encoding ?? "utf8",
    ...(o.highWaterMark === undefined ? {} : { highWaterMark: o.highWaterMark }),
    ...(o.signal === undefined ? {} : { signal: o.signal }),
    construct(done) {
      open().then((h) => {
        handle = h;
        done();
      }, done);
    },
    write(chunk: Buffer, _encoding, done) {
      put(chunk).then(() => done(), done);
    },
    writev(chunks, done) {
      put(Buffer.concat(chunks.map((c) => c.chunk as Buffer))).then(() => done(), done);
    },
    final(done) {
      if (o.flush === true) handle!.sync().then(() => done(), done);
      else done();
    },
    destroy(err, done) {
      if (handle === undefined || o.autoClose === false) done(err);
      else
        handle.close().then(
          () => done(err),
          (close_err: Error) => done(err ?? close_err),
        );
    },
  }) as WriteStream;
  stream.bytesWritten = 0;
  return stream;
}
