/** Open files by the number that the kernel hands back with each request. */
import { errseqSample, type IsTold } from "../lib/errseq.ts";
import type { Flock, FlockKind } from "../volume/file/flock.ts";
import type { Inode } from "../volume/inode.ts";

export const O_ACCMODE = 3;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
const O_DIRECT = 0o40000;

export const mayWrite = (flags: number): boolean => (flags & O_ACCMODE) !== 0;

export class FileHandle implements IsTold {
  readonly fh: number;
  readonly inode: Inode;
  /** O_* of the open. */
  readonly flags: number;
  /** flock(2) of a clustered mount, once it was asked for. */
  flock: { readonly lock: Flock; busy: FlockKind | null; readonly waiting: (() => void)[] } | null = null;
  /** The first read of a handle may move atime. */
  was_read = false;
  /** Opened for writing while chattr +a held: writes without O_APPEND are refused. */
  append_only = false;
  f_wb_err: number;
  /** The kernel was told to send reads and writes past its cache. */
  past_cache = false;

  constructor(fh: number, inode: Inode, flags: number) {
    this.fh = fh;
    this.inode = inode;
    this.flags = flags;
    this.f_wb_err = errseqSample(inode.wb_err);
  }

  get mayWrite(): boolean {
    return mayWrite(this.flags);
  }

  get append(): boolean {
    return (this.flags & O_APPEND) !== 0;
  }
}

/** O_DIRECT of a request's flags: fcntl can change it after the open. */
export const isDirect = (flags: number): boolean => (flags & O_DIRECT) !== 0;

export class Handles {
  readonly #table: (FileHandle | null)[] = [null];
  readonly #free: number[] = [];
  count = 0;

  open(inode: Inode, flags: number): FileHandle {
    const fh = this.#free.pop() ?? this.#table.length;
    const handle = new FileHandle(fh, inode, flags);
    this.#table[fh] = handle;
    this.count++;
    return handle;
  }

  /** Undefined for a number that is not open. */
  get(fh: number): FileHandle | undefined {
    return this.#table[fh] ?? undefined;
  }

  close(fh: number): FileHandle | undefined {
    const handle = this.#table[fh] ?? undefined;
    if (handle === undefined) return undefined;
    this.#table[fh] = null;
    this.#free.push(fh);
    this.count--;
    return handle;
  }

  *values(): IterableIterator<FileHandle> {
    for (const h of this.#table) if (h !== null) yield h;
  }
}
