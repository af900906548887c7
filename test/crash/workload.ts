/**
 * A mixed workload for crash tests, and the judgement whether a recovered volume is one that it may have left.
 *
 * Names and attributes: everything goes through one journal, so the recovered tree must be, in every attribute, the tree as it
 * was after some operation: not older than what was fsynced, not newer than what had begun. A snapshot after each
 * operation is all the model that this takes.
 * Contents: each 8-byte word that is written names its file, its place and the operation that wrote it. A recovered word must be that
 * of the last fsync or newer; or zero where that is the last fsynced content, or a hole was made since. A word of
 * another file, or from another place, would be a deleted file's data come back: found at once.
 */
import { FEATURE_INCOMPAT } from "../../src/format/disk/index.ts";
import type { Random } from "../../src/lib/clock.ts";
import { Errno } from "../../src/lib/errno.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { type Callback, type Thunk, wait } from "../../src/lib/task.ts";
import { copyFileRange } from "../../src/vfs/copy_range.ts";
import { fallocate, fsync, readFile, setattr, writeFile } from "../../src/vfs/file.ts";
import {
  type Attr,
  create,
  getattr,
  link,
  mkdir,
  nameOf,
  readdir,
  readlink,
  reap,
  rename,
  rmdir,
  symlink,
  unlink,
} from "../../src/vfs/namespace.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { syncVolume } from "../../src/volume/super.ts";
import { getxattr, listxattr, removexattr, setxattr } from "../../src/volume/xattr/index.ts";

const WORD = 8;
const MAX_FILE_BYTES = 192 * 1024;
const MAX_WORDS = MAX_FILE_BYTES / WORD;
const CRED = { uid: 1000, gid: 1000, umask: 0o022 };
const BUFFER_BYTES = 256 * 1024;
const PUNCH = 3;
const ZERO_KEEP = 0x11;

const run = <T>(osb: Osb, start: (cb: Callback<T>) => void): T => osb.runTaskSync(wait<T>(start as Thunk<T>));

/** What the model knows of a file, by inode number and generation of its life. */
export interface FileModel {
  readonly ino: number;
  readonly tag: number;
  /** Who wrote each word last (writerOf); 0: zero. */
  readonly latest: Uint32Array;
}

/** One file's contents as they were at an fsync, and the words zeroed since. */
interface SyncedContents {
  readonly op: number;
  readonly words: Uint32Array;
}

/** A range of words of a file that an operation zeroed, or copied from another file. */
interface Zeroed {
  readonly op: number;
  readonly file: number;
  readonly from: number;
  readonly to: number;
}

/** What has happened, with the device's time of each. */
export interface History {
  /** Snapshot of the tree after each operation; [0] is the start. */
  readonly trees: string[];
  readonly names: string[];
  /** The file that an operation of several transactions works on. */
  readonly targets: (number | undefined)[];
  /** Tags of the files by "inode number:generation". */
  readonly tags: Map<string, number>;
  /** Device time at which each operation began. */
  readonly began: number[];
  /** By device time: from then on the tree is at least that of operation `op`. */
  readonly tree_floor: { at: number; op: number }[];
  /** By device time: a file's contents that are durable from then on. */
  readonly contents: { at: number; file: number; synced: SyncedContents }[];
  readonly zeroed: Zeroed[];
  /** Ranges copied from other files, which may share their clusters. */
  readonly copied: Zeroed[];
}

/** Every path with every attribute, one line each, sorted. Two equal ones are the same tree. */
export function snapshot(osb: Osb): string {
  const lines: string[] = [];
  const visit = (ino: number, path: string): void => {
    const a: Attr = osb.runSync((op) => getattr(op, ino));
    const type = a.mode >> 12;
    const target = type === 10 ? ` ${Buffer.from(osb.runSync((op) => readlink(op, ino))).toString()}` : "";
    // Times of directories and files are in; atime is not, for this workload reads its files at other moments.
    const attrs = [
      a.ino,
      a.generation,
      a.mode.toString(8),
      a.nlink,
      a.uid,
      a.size,
      a.blocks,
      a.mtime_nsec,
      a.ctime_nsec,
    ];
    const inode = osb.inodes.get(ino);
    const xattrs = osb.runSync((op) =>
      listxattr(op, inode)
        .sort()
        .map((name) => {
          const value = getxattr(op, inode, name);
          return `${name}=${value?.length}:${value?.[0]}`;
        }),
    );
    lines.push(`${path} ${attrs.join(" ")}${target} ${xattrs.join(",")}`);
    if (type !== 4) return;
    const names: [string, number][] = [];
    // One call ends where a block is not in memory.
    for (let from = -1, to = 0; to !== from; ) {
      from = to;
      const some: [string, number][] = [];
      to = osb.runSync((op) => {
        some.length = 0;
        return readdir(op, ino, from, (child, _dt, addr, len) => {
          some.push([Buffer.from(osb.cache.u8.slice(addr, addr + len)).toString(), child]);
          return true;
        });
      });
      names.push(...some);
    }
    for (const [name, child] of names) if (name !== "." && name !== "..") visit(child, `${path}/${name}`);
  };
  visit(osb.geo.root_blkno, "");
  return lines.sort().join("\n");
}

/** The first half names file and operation, the second the place. */
const writerOf = (tag: number, op: number): number => ((tag << 16) | op) >>> 0;
const placeOf = (index: number): number => (index ^ 0x5a5a5a5a) >>> 0;

export class Workload {
  readonly osb: Osb;
  readonly history: History;
  readonly files = new Map<number, FileModel>();
  readonly #dirs = new Map<string, number>();
  /** path -> ino, for files, links and symlinks. */
  readonly #paths = new Map<string, number>();
  readonly #symlinks = new Set<number>();
  readonly #touched = new Map<number, number>();
  readonly #random: Random;
  readonly #now: () => number;
  readonly #addr: number;
  readonly #held: number[] = [];
  #op = 0;
  /** Files to delete before anything else, because there is no room. */
  #full = 0;
  #tags = 0;
  #names = 0;

  constructor(osb: Osb, random: Random, now: () => number, buffer_addr: number) {
    this.osb = osb;
    this.#random = random;
    this.#now = now;
    this.#addr = buffer_addr;
    this.#dirs.set("", osb.geo.root_blkno);
    this.history = {
      trees: [snapshot(osb)],
      names: ["start"],
      targets: [undefined],
      tags: new Map(),
      began: [0],
      tree_floor: [],
      contents: [],
      zeroed: [],
      copied: [],
    };
  }

  static bufferBytes = BUFFER_BYTES;

  #below(n: number): number {
    return this.#random.u32() % n;
  }

  #pick<T>(from: Iterable<T>): T | undefined {
    const all = [...from];
    return all.length === 0 ? undefined : all[this.#below(all.length)];
  }

  #dirOf(path: string): number {
    return this.#dirs.get(path.slice(0, path.lastIndexOf("/")))!;
  }

  #baseOf(path: string): Uint8Array {
    return nameOf(path.slice(path.lastIndexOf("/") + 1));
  }

  #newPath(): string {
    const dir = this.#pick(this.#dirs.keys())!;
    const pad = this.#below(4) === 0 ? "-with-a-name-that-fills-the-directory".repeat(1 + this.#below(4)) : "";
    return `${dir}/n${this.#names++}${pad}`;
  }

  #touch(...inos: number[]): void {
    for (const ino of inos) this.#touched.set(ino, this.#op);
  }

  /** Does one operation; `work` returns its name. */
  #do(work: () => string, target?: number): void {
    const h = this.history;
    this.#op = h.trees.length;
    h.began.push(this.#now());
    h.targets.push(target);
    let name: string;
    try {
      name = work();
    } catch (err) {
      if (!(err instanceof FsError) || err.errno !== Errno.ENOSPC) throw err;
      // The next steps make room. What was done before the end of the room stays, and is a state like any other.
      name = err.message;
      this.#full = 4;
    }
    h.names.push(name);
    h.trees.push(snapshot(this.osb));
  }

  /** One random step. */
  step(): void {
    const kind = this.#below(100);
    const file = this.#pick(this.files.values());
    const path = this.#pick(this.#paths.keys());
    if (this.#full > 0 && path !== undefined) {
      this.#full--;
      this.#unlink(path);
      if (this.#full === 0) this.releaseHeld();
    } else if (kind < 16 || file === undefined || path === undefined) this.#create();
    else if (kind < 40) this.#write(file, false);
    else if (kind < 46) this.#write(file, true);
    else if (kind < 51) this.#truncate(file);
    else if (kind < 56) this.#allocate(file);
    else if (kind < 60) this.#mkdir();
    else if (kind < 62) this.#rmdir();
    else if (kind < 68) this.#rename(path);
    else if (kind < 71) this.#link(path);
    else if (kind < 73) this.#symlink();
    else if (kind < 79) this.#unlink(path);
    else if (kind < 81) this.#chmod(file);
    else if (kind < 84) this.#xattr(file);
    else if (kind < 87) this.#clone(file);
    else if (kind < 94) this.#fsync(file);
    else if (kind < 95) this.#fsyncDir();
    else if (kind < 96) this.#sync();
    else this.#background();
  }

  /** Ends the lives of files that are open without a name. */
  releaseHeld(): void {
    for (const ino of this.#held.splice(0)) {
      const inode = this.osb.inodes.get(ino);
      inode.open_count--;
      reap(this.osb, inode);
    }
  }

  #create(): void {
    const path = this.#newPath();
    this.#do(() => {
      const a = this.osb.runSync((op) => create(op, this.#dirOf(path), this.#baseOf(path), 0o644, CRED));
      this.#paths.set(path, a.ino);
      const tag = ++this.#tags;
      this.files.set(a.ino, { ino: a.ino, tag, latest: new Uint32Array(MAX_WORDS) });
      this.history.tags.set(`${a.ino}:${a.generation}`, tag);
      this.#touch(a.ino, this.#dirOf(path));
      return `create ${path} (${a.ino})`;
    });
  }

  #sizeOf(file: FileModel): number {
    return this.osb.runSync((op) => getattr(op, file.ino)).size;
  }

  #write(file: FileModel, direct: boolean): void {
    const size = this.#sizeOf(file);
    const append = this.#below(2) === 0;
    const unit = direct ? 4096 : WORD;
    const longest = this.#below(4) === 0 ? 64 * 1024 : 3000;
    const len = Math.max(unit, Math.floor((1 + this.#below(longest)) / unit) * unit);
    const at = append ? size : this.#below(Math.max(unit, Math.min(MAX_FILE_BYTES, size + 20_000)));
    // Words are whole: sizes stay multiples of them.
    const offset = Math.floor(Math.min(at, MAX_FILE_BYTES - len) / unit) * unit;
    if (offset < 0) return;
    this.#do(() => {
      const { dv } = this.osb.cache;
      const first = offset / WORD;
      for (let i = 0; i < len / WORD; i++) {
        const writer = writerOf(file.tag, this.#op);
        dv.setUint32(this.#addr + i * WORD, writer, true);
        dv.setUint32(this.#addr + i * WORD + 4, placeOf(first + i), true);
      }
      const inode = this.osb.inodes.get(file.ino);
      const n = run<number>(this.osb, (cb) =>
        writeFile(this.osb, inode, { offset, len, addr: this.#addr, direct }, cb),
      );
      if (n !== len) throw new Error(`wrote ${n} of ${len} bytes`);
      file.latest.fill(writerOf(file.tag, this.#op), first, first + len / WORD);
      this.#touch(file.ino);
      return `write ${file.ino} ${offset}+${len}${direct ? " direct" : ""}`;
    }, file.ino);
  }

  #zero(file: FileModel, from: number, to: number): void {
    const words = { from: Math.floor(from / WORD), to: Math.min(MAX_WORDS, Math.ceil(to / WORD)) };
    if (words.from >= words.to) return;
    file.latest.fill(0, words.from, words.to);
    this.history.zeroed.push({ op: this.#op, file: file.tag, ...words });
  }

  #truncate(file: FileModel): void {
    const size = Math.floor(this.#below(this.#below(2) === 0 ? 4096 : MAX_FILE_BYTES) / WORD) * WORD;
    this.#do(() => {
      run(this.osb, (cb) => setattr(this.osb, this.osb.inodes.get(file.ino), { size }, cb as Callback<Attr>));
      this.#zero(file, size, MAX_FILE_BYTES);
      this.#touch(file.ino);
      return `truncate ${file.ino} ${size}`;
    }, file.ino);
  }

  #allocate(file: FileModel): void {
    const mode = this.#pick([PUNCH, PUNCH, ZERO_KEEP, 0, 1])!;
    const offset = Math.floor(this.#below(MAX_FILE_BYTES) / WORD) * WORD;
    let len = Math.min(MAX_FILE_BYTES - offset, WORD * (1 + this.#below(8000)));
    // Space behind the end of a file is legal, but fsck.ocfs2 takes it for an error (a kernel's too).
    if (mode === ZERO_KEEP || mode === 1) len = Math.min(len, this.#sizeOf(file) - offset);
    if (len <= 0) return;
    this.#do(() => {
      run<void>(this.osb, (cb) => fallocate(this.osb, this.osb.inodes.get(file.ino), mode, offset, len, cb));
      if (mode === PUNCH || mode === ZERO_KEEP) this.#zero(file, offset, offset + len);
      this.#touch(file.ino);
      return `fallocate ${file.ino} mode ${mode} ${offset}+${len}`;
    }, file.ino);
  }

  #mkdir(): void {
    if (this.#dirs.size > 6) return;
    const path = this.#newPath();
    this.#do(() => {
      const a = this.osb.runSync((op) => mkdir(op, this.#dirOf(path), this.#baseOf(path), 0o755, CRED));
      this.#touch(a.ino, this.#dirOf(path));
      this.#dirs.set(path, a.ino);
      return `mkdir ${path} (${a.ino})`;
    });
  }

  #rmdir(): void {
    const used = new Set([...this.#paths.keys(), ...this.#dirs.keys()].map((p) => p.slice(0, p.lastIndexOf("/"))));
    const path = this.#pick([...this.#dirs.keys()].filter((d) => d !== "" && !used.has(d)));
    if (path === undefined) return;
    this.#do(() => {
      this.osb.runSync((op) => rmdir(op, this.#dirOf(path), this.#baseOf(path)));
      this.#touch(this.#dirOf(path));
      this.#dirs.delete(path);
      return `rmdir ${path}`;
    });
  }

  #rename(from: string): void {
    const other = this.#pick(this.#paths.keys())!;
    const to = this.#below(3) === 0 ? other : this.#newPath();
    if (to === from || this.#paths.get(to) === this.#paths.get(from)) return;
    this.#do(() => {
      const replaced = this.#paths.get(to);
      this.osb.runSync((op) => {
        rename(op, this.#dirOf(from), this.#baseOf(from), this.#dirOf(to), this.#baseOf(to));
      });
      this.#touch(this.#dirOf(from), this.#dirOf(to), this.#paths.get(from)!);
      this.#paths.set(to, this.#paths.get(from)!);
      this.#paths.delete(from);
      if (replaced !== undefined) this.#unnamed(replaced);
      return `rename ${from} ${to}`;
    });
  }

  /** A name of `ino` is gone. */
  #unnamed(ino: number): void {
    this.#touch(ino);
    if ([...this.#paths.values()].includes(ino)) return;
    this.files.delete(ino);
    this.#symlinks.delete(ino);
    this.#touched.delete(ino);
  }

  #link(path: string): void {
    const ino = this.#paths.get(path)!;
    const to = this.#newPath();
    if (this.#symlinks.has(ino)) return;
    this.#do(() => {
      this.osb.runSync((op) => link(op, ino, this.#dirOf(to), this.#baseOf(to)));
      this.#paths.set(to, ino);
      this.#touch(ino, this.#dirOf(to));
      return `link ${path} ${to}`;
    });
  }

  #symlink(): void {
    const path = this.#newPath();
    const target = nameOf(`to/${"somewhere/".repeat(1 + this.#below(40))}`);
    this.#do(() => {
      const a = this.osb.runSync((op) => symlink(op, this.#dirOf(path), this.#baseOf(path), target, CRED));
      this.#paths.set(path, a.ino);
      this.#symlinks.add(a.ino);
      this.#touch(a.ino, this.#dirOf(path));
      return `symlink ${path} (${a.ino})`;
    });
  }

  #unlink(path: string): void {
    const ino = this.#paths.get(path)!;
    this.#do(() => {
      // Some are open while they lose their name, and die later.
      if (this.#below(3) === 0 && this.files.has(ino)) {
        this.osb.inodes.get(ino).open_count++;
        this.#held.push(ino);
      }
      this.osb.runSync((op) => unlink(op, this.#dirOf(path), this.#baseOf(path)));
      this.#touch(this.#dirOf(path));
      this.#paths.delete(path);
      this.#unnamed(ino);
      return `unlink ${path}`;
    });
    if (this.#held.length > 3) this.releaseHeld();
  }

  #chmod(file: FileModel): void {
    this.#do(() => {
      const mode = 0o600 | this.#below(0o100);
      run(this.osb, (cb) => setattr(this.osb, this.osb.inodes.get(file.ino), { mode }, cb as Callback<Attr>));
      this.#touch(file.ino);
      return `chmod ${file.ino}`;
    });
  }

  #xattr(file: FileModel): void {
    const { osb } = this;
    if (!osb.incompat(FEATURE_INCOMPAT.XATTR)) return;
    const inode = osb.inodes.get(file.ino);
    const name = `user.name-${this.#below(30)}`;
    this.#do(() => {
      const there = osb.runSync((op) => getxattr(op, inode, name)) !== undefined;
      if (there && this.#below(2) === 0) osb.runSync((op) => removexattr(op, inode, name));
      else {
        const value = new Uint8Array(this.#below(4) === 0 ? this.#below(9000) : this.#below(200)).fill(this.#op);
        osb.runSync((op) => setxattr(op, inode, name, value));
      }
      this.#touch(file.ino);
      return `xattr ${file.ino} ${name}`;
    }, file.ino);
  }

  /** The whole of one file over the start of another. */
  #clone(to: FileModel): void {
    const from = this.#pick(this.files.values())!;
    const len = this.#sizeOf(from);
    if (from === to || len === 0) return;
    this.#do(() => {
      const { osb } = this;
      const [src, dst] = [osb.inodes.get(from.ino), osb.inodes.get(to.ino)];
      const n = run<number>(osb, (cb) => copyFileRange(osb, src, 0, dst, 0, len, cb));
      const words = Math.ceil(n / WORD);
      to.latest.set(from.latest.subarray(0, words));
      this.history.copied.push({ op: this.#op, file: to.tag, from: 0, to: words });
      this.#touch(to.ino);
      return `copy ${from.ino} over ${to.ino}, ${n} bytes`;
    }, to.ino);
  }

  #floor(op: number): void {
    this.history.tree_floor.push({ at: this.#now(), op });
  }

  #contentsSynced(file: FileModel): void {
    const synced = { op: this.history.trees.length - 1, words: file.latest.slice() };
    this.history.contents.push({ at: this.#now(), file: file.tag, synced });
  }

  #fsync(file: FileModel): void {
    run<void>(this.osb, (cb) => fsync(this.osb, this.osb.inodes.get(file.ino), this.#below(3) === 0, cb));
    this.#contentsSynced(file);
    // fdatasync may leave times behind, and so says nothing of the tree here; fsync is asked of it too then.
    run<void>(this.osb, (cb) => fsync(this.osb, this.osb.inodes.get(file.ino), false, cb));
    this.#floor(this.#touched.get(file.ino) ?? 0);
  }

  #fsyncDir(): void {
    const ino = this.#pick(this.#dirs.values())!;
    run<void>(this.osb, (cb) => fsync(this.osb, this.osb.inodes.get(ino), false, cb));
    this.#floor(this.#touched.get(ino) ?? 0);
  }

  #sync(): void {
    this.osb.runTaskSync(syncVolume(this.osb));
    for (const file of this.files.values()) this.#contentsSynced(file);
    this.#floor(this.history.trees.length - 1);
  }

  /** What goes on by itself: commits, checkpoints and write-back begin and are not waited for. */
  #background(): void {
    const { osb } = this;
    const kind = this.#below(4);
    if (kind === 0) osb.journal.startCommit();
    else if (kind === 1) osb.journal.startCheckpoint();
    else if (kind === 2) osb.data.writeback(8);
    for (let i = this.#below(12); i > 0; i--) osb.pump();
  }
}

/** Which operations may be the last one that a cut at device time `t` keeps. */
export function due(h: History, t: number): { floor: number; ceiling: number } {
  let floor = 0;
  for (const f of h.tree_floor) if (f.at <= t) floor = Math.max(floor, f.op);
  let ceiling = 0;
  for (const [op, at] of h.began.entries()) if (at <= t) ceiling = op;
  return { floor, ceiling };
}

/**
 * True for a finding of fsck.ocfs2 that a cut inside an operation of several transactions leaves: truncate sets the size first, allocation
 * sets it last (the kernel's too), and what is mapped behind the end of a file is no error.
 */
export function isHalfDone(h: History, t: number, finding: string): boolean {
  const ino = /^\[INODE_SPARSE_SIZE\] Inode (\d+) /.exec(finding)?.[1];
  if (ino === undefined) return false;
  const { floor, ceiling } = due(h, t);
  for (let op = floor + 1; op <= ceiling; op++) if (h.targets[op] === Number(ino)) return true;
  return false;
}

/** What is wrong with a recovered volume, given that the cut came at device time `t`; empty when nothing is. */
export function judge(osb: Osb, h: History, t: number, addr: number): string[] {
  const tree = snapshot(osb);
  const { floor, ceiling } = due(h, t);
  const problems: string[] = [];
  if (!findTree(h, tree, floor, ceiling)) {
    const older = h.trees.indexOf(tree);
    problems.push(
      older >= 0
        ? `the tree is that of operation ${older} (${h.names[older]}), but one of ${floor} to ${ceiling} was due`
        : `the tree is none that there was; due: operations ${floor} to ${ceiling} (${h.names[ceiling]}); differs from the last so:\n${differences(h.trees[Math.min(ceiling, h.trees.length - 1)]!, tree)}`,
    );
  }
  for (const line of tree.split("\n")) {
    const f = fields(line);
    if (!f.mode.startsWith("10")) continue;
    const bad = judgeContents(osb, h, f, t, ceiling, addr);
    if (bad !== undefined) problems.push(bad);
  }
  return problems;
}

/** True when the tree is that after one of the operations, or within one that takes several transactions. */
function findTree(h: History, tree: string, floor: number, ceiling: number): boolean {
  for (let op = Math.min(ceiling, h.trees.length - 1); op >= floor; op--) if (h.trees[op] === tree) return true;
  const masked = new Map<number, string>();
  for (let op = ceiling; op > floor; op--) {
    const ino = h.targets[op];
    if (ino === undefined) continue;
    if (!masked.has(ino)) masked.set(ino, mask(tree, ino));
    if (mask(h.trees[op - 1]!, ino) === masked.get(ino)) return true;
  }
  return false;
}

/** The tree without size, blocks, times and xattrs of one file. */
const mask = (tree: string, ino: number): string =>
  tree
    .split("\n")
    .map((line) => (fields(line).ino === ino ? line.split(" ").slice(0, 5).join(" ") : line))
    .join("\n");

function fields(line: string): { path: string; ino: number; generation: number; mode: string; size: number } {
  const [path = "", ino = "", generation = "", mode = "", , , size = ""] = line.split(" ");
  return { path, ino: Number(ino), generation: Number(generation), mode, size: Number(size) };
}

function judgeContents(
  osb: Osb,
  h: History,
  f: ReturnType<typeof fields>,
  t: number,
  ceiling: number,
  addr: number,
): string | undefined {
  const tag = h.tags.get(`${f.ino}:${f.generation}`);
  if (tag === undefined) return `${f.path}: a file that nobody made (inode ${f.ino}, generation ${f.generation})`;
  let synced: SyncedContents | undefined;
  for (const c of h.contents) if (c.file === tag && c.at <= t) synced = c.synced;
  const since = (z: Zeroed): boolean => z.file === tag && z.op > (synced?.op ?? 0) && z.op <= ceiling;
  const holes = h.zeroed.filter(since);
  const copies = h.copied.filter(since);
  const inode = osb.inodes.get(f.ino);
  const bytes = run<number>(osb, (cb) => readFile(osb, inode, { offset: 0, len: BUFFER_BYTES, addr }, cb));
  if (bytes !== f.size) return `${f.path}: ${bytes} bytes could be read of ${f.size}`;
  const { dv } = osb.cache;
  for (let i = 0; i < Math.floor(bytes / WORD); i++) {
    const a = dv.getUint32(addr + i * WORD, true);
    const b = dv.getUint32(addr + i * WORD + 4, true);
    const want = synced?.words[i] ?? 0;
    const where = `${f.path} (inode ${f.ino}) at ${i * WORD}`;
    if (a === 0 && b === 0) {
      if (want !== 0 && ![...holes, ...copies].some((z) => z.from <= i && i < z.to))
        return `${where}: zero, but operation ${want & 0xffff} (${h.names[want & 0xffff]}) wrote here and it was fsynced`;
      continue;
    }
    const op = a & 0xffff;
    const copied = copies.some((c) => c.from <= i && i < c.to);
    if (b !== placeOf(i) || (a !== writerOf(tag, op) && a !== want && !copied))
      return `${where}: ${a.toString(16)} ${b.toString(16)}, which nobody wrote here (file tag ${tag})`;
    if (synced !== undefined && a !== want && op <= synced.op && !copied)
      return `${where}: written by operation ${op}, but that of ${want & 0xffff} was fsynced after operation ${synced.op}`;
  }
  return undefined;
}

function differences(a: string, b: string): string {
  const had = new Set(a.split("\n"));
  const has = new Set(b.split("\n"));
  const out = [...had].filter((l) => !has.has(l)).map((l) => `- ${l}`);
  return [...out, ...[...has].filter((l) => !had.has(l)).map((l) => `+ ${l}`)].slice(0, 20).join("\n");
}
