/** Reading directories: all at once, below one another, or entry by entry. */
import { isDir } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { readdir as readEntries } from "../vfs/namespace.ts";
import { isDots } from "../volume/dir/name.ts";
import { codedError } from "./errors.ts";
import type { OpenVolume } from "./open_volume.ts";
import { type Encoding, nameIn } from "./options.ts";
import { find, type PathLike, pathBytes, pathText } from "./path.ts";
import { Dirent } from "./stats.ts";

export interface RawEntry {
  readonly ino: number;
  readonly dt: number;
  readonly name: Buffer;
}

/** Entries of one operation: long directories are read in stretches, so that others get their turn. */
const STRETCH = 1024;

/** Reads on from `offset`; without entries at the end. "." and ".." are left out, but count for the end. */
async function readStretch(v: OpenVolume, ino: number, offset: number, path: string) {
  return v.run({ syscall: "scandir", path }, (op) => {
    const entries: RawEntry[] = [];
    let seen = 0;
    const next = readEntries(op, ino, offset, (child, dt, addr, len) => {
      if (entries.length >= STRETCH) return false;
      seen++;
      const name = Buffer.from(op.osb.arena.u8.subarray(addr, addr + len));
      if (!isDots(name)) entries.push({ ino: child, dt, name });
      return true;
    });
    return { entries, next, end: seen === 0 };
  });
}

/** All entries of a directory. */
export async function entriesOf(v: OpenVolume, ino: number, path: string): Promise<RawEntry[]> {
  const all: RawEntry[] = [];
  for (let offset = 0; ; ) {
    const { entries, next, end } = await readStretch(v, ino, offset, path);
    for (const e of entries) all.push(e);
    if (end) return all;
    offset = next;
  }
}

/** The directory's inode. ENOTDIR for anything else. */
export function findDir(v: OpenVolume, path: PathLike, syscall: string): Promise<number> {
  const bytes = pathBytes(path);
  return v.run({ syscall, path: pathText(path) }, (op) => {
    const attr = find(op, bytes, true);
    if (!isDir(attr.mode)) throw new FsError(Errno.ENOTDIR, "api.readdir", { ino: attr.ino });
    return attr.ino;
  });
}

export interface ReaddirOptions {
  readonly encoding?: Encoding | null | undefined;
  readonly withFileTypes?: boolean | undefined;
  readonly recursive?: boolean | undefined;
}

const join = (dir: string, name: string): string =>
  dir === "" || dir.endsWith("/") ? `${dir}${name}` : `${dir}/${name}`;

/** As node's readdir; with `recursive` the names are relative to `path`. */
export async function readdir(
  v: OpenVolume,
  path: PathLike,
  o: ReaddirOptions,
): Promise<(string | Buffer | Dirent<string | Buffer>)[]> {
  const { encoding, withFileTypes } = o;
  const top = pathText(path);
  const out: (string | Buffer | Dirent<string | Buffer>)[] = [];
  // Breadth first, as node has it. `below` is relative to `path`.
  const todo: { ino: number; below: string }[] = [{ ino: await findDir(v, path, "scandir"), below: "" }];
  for (let i = 0; i < todo.length; i++) {
    const { ino, below } = todo[i]!;
    const parent = below === "" ? top : join(top, below);
    for (const e of await entriesOf(v, ino, parent)) {
      const text = e.name.toString("utf8");
      if (withFileTypes === true) out.push(new Dirent<string | Buffer>(nameIn(e.name, encoding), parent, e.dt));
      else if (below === "") out.push(nameIn(e.name, encoding));
      else out.push(nameIn(Buffer.concat([Buffer.from(`${below}/`), e.name]), encoding));
      if (o.recursive === true && isDir(e.dt << 12)) todo.push({ ino: e.ino, below: join(below, text) });
    }
  }
  return out;
}

export interface OpendirOptions {
  readonly encoding?: Encoding | null | undefined;
  /** As node has it; entries are read in stretches of the library's own. */
  readonly bufferSize?: number | undefined;
  /** What is below, too. */
  readonly recursive?: boolean | undefined;
}

type DirCallback<T> = (err: unknown, value?: T) => void;

/** An open directory: `for await (const entry of dir)`. */
export class Dir implements AsyncIterable<Dirent>, AsyncDisposable {
  readonly path: string;
  readonly #v: OpenVolume;
  readonly #options: OpendirOptions;
  /** Directories that are still to be read; the first is being read, from `#offset` on. */
  readonly #todo: { readonly ino: number; readonly path: string }[];
  #offset = 0;
  #ready: RawEntry[] = [];
  #ready_path = "";
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** Made by `opendir`. */
  constructor(v: OpenVolume, ino: number, path: string, options: OpendirOptions) {
    this.#v = v;
    this.#todo = [{ ino, path }];
    this.path = path;
    this.#options = options;
  }

  /** The next entry, null at the end. */
  read(): Promise<Dirent | null>;
  read(callback: DirCallback<Dirent | null>): void;
  read(callback?: DirCallback<Dirent | null>): Promise<Dirent | null> | undefined {
    // One after the other: two that were started together do not get one entry.
    const entry = this.#turn.then(() => this.#next());
    this.#turn = entry.catch(() => {});
    return answered(entry, callback);
  }

  async #next(): Promise<Dirent | null> {
    if (this.#closed) throw codedError("ERR_DIR_CLOSED", "Directory handle was closed");
    while (this.#ready.length === 0) {
      const dir = this.#todo[0];
      if (dir === undefined) return null;
      const { entries, next, end } = await readStretch(this.#v, dir.ino, this.#offset, dir.path);
      this.#ready = entries.reverse();
      this.#ready_path = dir.path;
      this.#offset = end ? 0 : next;
      if (end) this.#todo.shift();
    }
    const e = this.#ready.pop()!;
    const path = this.#ready_path;
    if (this.#options.recursive === true && isDir(e.dt << 12))
      this.#todo.push({ ino: e.ino, path: join(path, e.name.toString("utf8")) });
    return new Dirent(nameIn(e.name, this.#options.encoding) as string, path, e.dt);
  }

  close(): Promise<void>;
  close(callback: DirCallback<void>): void;
  close(callback?: DirCallback<void>): Promise<void> | undefined {
    const closed = this.#closed;
    this.#closed = true;
    const done = closed
      ? Promise.reject<void>(codedError("ERR_DIR_CLOSED", "Directory handle was closed"))
      : this.#turn.then(() => {});
    return answered(done, callback);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Dirent, void> {
    try {
      for (let e = await this.read(); e !== null; e = await this.read()) yield e;
    } finally {
      if (!this.#closed) await this.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) await this.close();
  }
}

/** A promise, or a callback that is told. */
function answered<T>(promise: Promise<T>, callback?: DirCallback<T>): Promise<T> | undefined {
  if (callback === undefined) return promise;
  promise.then(
    (value) => process.nextTick(callback, null, value),
    (err) => process.nextTick(callback, err),
  );
  return undefined;
}

export async function opendir(v: OpenVolume, path: PathLike, o: OpendirOptions): Promise<Dir> {
  return new Dir(v, await findDir(v, path, "opendir"), pathText(path), o);
}
