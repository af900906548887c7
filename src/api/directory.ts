/** Reading directories: all at once, below one another, or entry by entry. */
import { isDir } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { readdir as readEntries } from "../vfs/namespace.ts";
import { isDots } from "../volume/dir/name.ts";
import { codedError } from "./errors.ts";
import type { OpenVolume } from "./open_volume.ts";
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
  readonly encoding?: BufferEncoding | "buffer" | null;
  readonly withFileTypes?: boolean;
  readonly recursive?: boolean;
}

const join = (dir: string, name: string): string =>
  dir === "" || dir.endsWith("/") ? `${dir}${name}` : `${dir}/${name}`;

const nameAs = (name: Buffer, encoding: BufferEncoding | "buffer" | null | undefined): string | Buffer =>
  encoding === "buffer" ? name : name.toString(encoding ?? "utf8");

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
      if (withFileTypes === true) out.push(new Dirent<string | Buffer>(nameAs(e.name, encoding), parent, e.dt));
      else if (below === "") out.push(nameAs(e.name, encoding));
      else out.push(nameAs(Buffer.concat([Buffer.from(`${below}/`), e.name]), encoding));
      if (o.recursive === true && isDir(e.dt << 12)) todo.push({ ino: e.ino, below: join(below, text) });
    }
  }
  return out;
}

/** An open directory: `for await (const entry of dir)`. */
export class Dir implements AsyncIterable<Dirent>, AsyncDisposable {
  readonly path: string;
  readonly #v: OpenVolume;
  readonly #ino: number;
  #offset = 0;
  #ready: RawEntry[] = [];
  #ended = false;
  #closed = false;

  /** Made by `opendir`. */
  constructor(v: OpenVolume, ino: number, path: string) {
    this.#v = v;
    this.#ino = ino;
    this.path = path;
  }

  /** The next entry, null at the end. */
  async read(): Promise<Dirent | null> {
    if (this.#closed) throw codedError("ERR_DIR_CLOSED", "Directory handle was closed");
    while (this.#ready.length === 0 && !this.#ended) {
      const { entries, next, end } = await readStretch(this.#v, this.#ino, this.#offset, this.path);
      this.#ready = entries.reverse();
      this.#offset = next;
      this.#ended = end;
    }
    const e = this.#ready.pop();
    return e === undefined ? null : new Dirent(e.name.toString("utf8"), this.path, e.dt);
  }

  async close(): Promise<void> {
    if (this.#closed) throw codedError("ERR_DIR_CLOSED", "Directory handle was closed");
    this.#closed = true;
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

export async function opendir(v: OpenVolume, path: PathLike): Promise<Dir> {
  return new Dir(v, await findDir(v, path, "opendir"), pathText(path));
}
