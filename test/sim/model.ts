/**
 * The model of the simulation: one tree of names with the bytes of its files, which every node must see alike after each
 * operation, whichever node did it. Operations run one at a time, each on some node, beside the noise of others.
 */
import { Errno, errnoName } from "../../src/lib/errno.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { type Task, wait } from "../../src/lib/task.ts";
import { copyFileRange } from "../../src/vfs/copy_range.ts";
import { readFile, setattr, writeFile } from "../../src/vfs/file.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { openDir } from "../../src/volume/dir/dir.ts";
import { lockDir } from "../../src/volume/dir/iget.ts";
import { nameOf, nameText } from "../../src/volume/dir/name.ts";
import { readAll } from "../../src/volume/dir/readdir.ts";
import type { Op } from "../../src/volume/op.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { getxattr, listxattr, removexattr, setxattr } from "../../src/volume/xattr/index.ts";

/** A node, and what can be done on it, whatever its lock manager is. */
export interface Node {
  readonly num: number;
  readonly osb: Osb;
  readonly alive: boolean;
}

export interface Cluster<N extends Node> {
  below(n: number): number;
  note(what: string): void;
  /** Run to their end, while everything else goes on. */
  op<T>(node: N, fn: (op: Op) => T): T;
  task<T>(node: N, task: Task<T>): T;
  /** Whether an operation ended so because its node did, or was about to: nobody knows whether it happened. */
  isDeath?(err: unknown, node: N): boolean;
  /** Whether what goes wrong on the node now has its reason in a fault. */
  excuses?(node: N): boolean;
}

export const CRED = { uid: 0, gid: 0, umask: 0o22 };
const MAX_FILE = 40_000;

export interface Item {
  readonly ino: number;
  readonly is_dir: boolean;
  nlink: number;
  parent: Item | null;
  readonly entries: Map<string, Item>;
  data: Uint8Array;
  readonly xattrs: Map<string, Uint8Array>;
  /** The disk failed under a write: what is there may be anything, and what a node remembers of it is not what others read. */
  tainted: boolean;
}

const newItem = (ino: number, is_dir: boolean, parent: Item | null): Item => ({
  ino,
  is_dir,
  nlink: is_dir ? 2 : 1,
  parent,
  entries: new Map(),
  data: new Uint8Array(0),
  xattrs: new Map(),
  tainted: false,
});

/** An operation, for the case that its node dies before it has answered or before it is durable. */
interface Pending<N extends Node> {
  /** What another node sees of it; undefined when it has not happened. */
  happened(on: N): unknown;
  apply(seen: unknown): void;
}

interface Snapshot {
  readonly root: Item;
  readonly dirs: Item[];
  readonly files: Item[];
}

function snapshotOf(model: Snapshot): Snapshot {
  const copies = new Map<Item, Item>();
  const copy = (item: Item): Item => {
    let c = copies.get(item);
    if (c !== undefined) return c;
    c = newItem(item.ino, item.is_dir, null);
    copies.set(item, c);
    c.nlink = item.nlink;
    c.data = item.data.slice();
    c.tainted = item.tainted;
    for (const [name, value] of item.xattrs) c.xattrs.set(name, value);
    if (item.parent !== null) c.parent = copy(item.parent);
    for (const [name, entry] of item.entries) c.entries.set(name, copy(entry));
    return c;
  };
  return { root: copy(model.root), dirs: model.dirs.map(copy), files: model.files.map(copy) };
}

const holds = (item: Item, below: Item): boolean => {
  for (let at: Item | null = below; at !== null; at = at.parent) if (at === item) return true;
  return false;
};

/** Errors that say what the model says. Everything else is thrown on. */
function expectError(err: unknown, allowed: readonly number[], what: string): void {
  if (!(err instanceof FsError)) throw err;
  if (!allowed.includes(err.errno))
    throw new Error(`${what}: ${err.message}, where the model allows [${allowed.map(errnoName).join(" ")}]`);
}

/** Memory of a node that a request reads into or writes from: behind what operations keep for themselves. */
const buffers = new WeakMap<Osb, number>();
export function bufferOf(osb: Osb): number {
  let addr = buffers.get(osb);
  if (addr === undefined) buffers.set(osb, (addr = osb.arena.alloc(1 << 18, 4096)));
  return addr;
}

export class Model<N extends Node> {
  readonly c: Cluster<N>;
  readonly #top: string;
  root: Item;
  dirs: Item[];
  files: Item[] = [];
  ops = 0;
  /** Operations that did what they should, and failed as they should. */
  made = 0;

  /** `top`: the directory that is the model's alone. */
  constructor(c: Cluster<N>, node: N, name: string) {
    this.c = c;
    this.#top = name;
    const { ino } = c.op(node, (op) => ns.mkdir(op, node.osb.geo.root_blkno, nameOf(name), 0o755, CRED));
    this.root = newItem(ino, true, null);
    this.dirs = [this.root];
  }

  #below(n: number): number {
    return this.c.below(n);
  }

  #dir(): Item {
    return this.dirs[this.#below(this.dirs.length)]!;
  }

  #name(): string {
    return `n${this.#below(14)}`;
  }

  readonly #known = new WeakMap<N, Set<Item>>();

  /**
   * A program that uses an inode has looked its name up: the number alone may mean a file of former times, or one whose locks the node that
   * made it has not asked for yet.
   */
  #know(node: N, items: readonly Item[]): void {
    const known = this.#known.get(node) ?? new Set<Item>();
    this.#known.set(node, known);
    for (const item of items) {
      if (known.has(item)) continue;
      const find = (dir: number, name: string): void => this.c.op(node, (op) => void ns.lookup(op, dir, nameOf(name)));
      if (item === this.root) find(node.osb.geo.root_blkno, this.#top);
      for (const dir of this.dirs)
        for (const [name, named] of dir.entries) {
          if (named !== item) continue;
          this.#know(node, [dir]);
          find(dir.ino, name);
        }
      // Not before: a disk may have failed.
      known.add(item);
    }
  }

  /** Runs an operation; undefined when it failed as the model says it must. */
  #try<T>(node: N, what: string, allowed: readonly number[], items: readonly Item[], fn: (op: Op) => T): T | undefined {
    this.ops++;
    this.#know(node, items);
    this.c.note(`model ${node.num} ${what}`);
    let value: T;
    try {
      value = this.c.op(node, fn);
    } catch (err) {
      if (!(err instanceof FsError && allowed.includes(err.errno)) && this.c.isDeath?.(err, node) === true) throw err;
      expectError(err, allowed, `node ${node.num}: ${what}`);
      return undefined;
    }
    if (allowed.length > 0)
      throw new Error(`node ${node.num}: ${what} succeeded, the model says ${allowed.map(errnoName)}`);
    this.made++;
    this.c.note(`model ${node.num} ok`);
    return value;
  }

  /** The operation in hand, what was before it, and whether the model has it already. */
  #pending: Pending<N> | null = null;
  #before: Snapshot | null = null;
  #applied = false;

  /** An operation's node died, and nobody has looked yet what became of it. */
  isUncertain = false;
  failed: N | null = null;
  /** The disk failed under it: what a file had there may be anything. */
  #disk_failed = false;

  #apply(pending: Pending<N> | null, seen: unknown): void {
    pending?.apply(seen);
    this.#applied = true;
  }

  /** Runs what asks something of a node; false when the node died under it. */
  #lives(node: N, fn: () => void): boolean {
    try {
      fn();
      return true;
    } catch (err) {
      if (this.c.isDeath?.(err, node) !== true) throw err;
      if (err instanceof FsError && err.errno === Errno.EIO) this.#disk_failed = true;
      return false;
    }
  }

  /**
   * One operation on `node`, and then `after`: what makes it durable, where the node may die at any moment. When it dies under either, the
   * model is uncertain until `resolve` has looked.
   */
  step(node: N, after?: () => void): void {
    this.#pending = null;
    this.#applied = false;
    this.#disk_failed = false;
    this.#before = after === undefined ? null : snapshotOf(this);
    const lived = this.#lives(node, () => {
      this.#one(node);
      after?.();
    });
    this.isUncertain = !lived && this.#pending !== null;
    this.failed = lived ? null : node;
  }

  /** Looks on `node` whether the operation has happened that nobody has answered. */
  resolve(node: N, before?: () => void): void {
    this.#lives(node, () => {
      before?.();
      const seen = this.#pending!.happened(node);
      this.c.note(`model ${node.num} finds that it has ${seen === undefined ? "not " : ""}happened`);
      if (seen !== undefined && !this.#applied) this.#apply(this.#pending, seen);
      else if (seen === undefined && this.#applied) {
        const { root, dirs, files } = this.#before!;
        this.root = root;
        this.dirs = dirs;
        this.files = files;
      }
      this.isUncertain = false;
    });
  }

  #lookup(node: N, dir: Item, name: string): number | undefined {
    this.#know(node, [dir]);
    return this.c.op(node, (op) => ns.lookup(op, dir.ino, nameOf(name))?.ino);
  }

  #one(node: N): void {
    const kind = this.#below(25);
    if (kind < 4) this.#make(node);
    else if (kind < 6) this.#remove(node);
    else if (kind < 7) this.#link(node);
    else if (kind < 10) this.#rename(node);
    else if (this.files.length > 0) {
      const file = this.files[this.#below(this.files.length)]!;
      if (kind < 14) this.#write(node, file);
      else if (kind < 15) this.#truncate(node, file);
      else if (kind < 18) this.checkFile(node, file);
      else if (kind < 20) this.checkAttr(node, file);
      else if (kind < 22) this.#copy(node, file, this.files[this.#below(this.files.length)]!);
      else if (kind < 24) this.#setXattr(node, file);
      else this.#removeXattr(node, file);
    }
  }

  #make(node: N): void {
    const dir = this.#dir();
    const name = this.#name();
    const as_dir = this.dirs.length < 4 || this.#below(4) === 0;
    if (!dir.entries.has(name))
      this.#pending = {
        happened: (on) => this.#lookup(on, dir, name),
        apply: (ino) => {
          const item = newItem(ino as number, as_dir, as_dir ? dir : null);
          dir.entries.set(name, item);
          if (as_dir) {
            dir.nlink++;
            this.dirs.push(item);
          } else this.files.push(item);
        },
      };
    const attr = this.#try(node, `create ${name}`, dir.entries.has(name) ? [Errno.EEXIST] : [], [dir], (op) =>
      as_dir ? ns.mkdir(op, dir.ino, nameOf(name), 0o755, CRED) : ns.create(op, dir.ino, nameOf(name), 0o644, CRED),
    );
    if (attr !== undefined) this.#apply(this.#pending, attr.ino);
  }

  #drop(item: Item): void {
    item.nlink = item.is_dir ? 0 : item.nlink - 1;
    if (item.is_dir) this.dirs.splice(this.dirs.indexOf(item), 1);
    else if (item.nlink === 0) this.files.splice(this.files.indexOf(item), 1);
  }

  #remove(node: N): void {
    const dir = this.#dir();
    const name = this.#name();
    const item = dir.entries.get(name);
    const allowed: number[] = [];
    if (item === undefined) allowed.push(Errno.ENOENT);
    else if (item.is_dir && item.entries.size > 0) allowed.push(Errno.ENOTEMPTY);
    if (allowed.length === 0)
      this.#pending = {
        happened: (on) => (this.#lookup(on, dir, name) === undefined ? true : undefined),
        apply: () => {
          dir.entries.delete(name);
          if (item!.is_dir) dir.nlink--;
          this.#drop(item!);
        },
      };
    const gone = this.#try(node, `remove ${name}`, allowed, [dir], (op) =>
      item?.is_dir === true ? ns.rmdir(op, dir.ino, nameOf(name)) : ns.unlink(op, dir.ino, nameOf(name)),
    );
    if (gone !== undefined) this.#apply(this.#pending, true);
  }

  #link(node: N): void {
    if (this.files.length === 0) return;
    const file = this.files[this.#below(this.files.length)]!;
    const dir = this.#dir();
    const name = this.#name();
    const allowed = dir.entries.has(name) ? [Errno.EEXIST] : [];
    if (allowed.length === 0)
      this.#pending = {
        happened: (on) => this.#lookup(on, dir, name),
        apply: () => {
          dir.entries.set(name, file);
          file.nlink++;
        },
      };
    if (
      this.#try(node, `link ${name}`, allowed, [dir, file], (op) => ns.link(op, file.ino, dir.ino, nameOf(name))) ===
      undefined
    )
      return;
    this.#apply(this.#pending, true);
  }

  #rename(node: N): void {
    const [from, to] = [this.#dir(), this.#dir()];
    const [a, b] = [this.#name(), this.#name()];
    const src = from.entries.get(a);
    const dst = to.entries.get(b);
    const allowed: number[] = [];
    if (src === undefined) allowed.push(Errno.ENOENT);
    else {
      if (src.is_dir && holds(src, to)) allowed.push(Errno.EINVAL);
      if (dst !== undefined && dst !== src) {
        if (src.is_dir && !dst.is_dir) allowed.push(Errno.ENOTDIR);
        if (!src.is_dir && dst.is_dir) allowed.push(Errno.EISDIR);
        if (dst.is_dir && dst.entries.size > 0) allowed.push(Errno.ENOTEMPTY);
      }
    }
    if (allowed.length === 0 && src !== dst)
      this.#pending = {
        happened: (on) => (this.#lookup(on, from, a) === undefined ? true : undefined),
        apply: () => this.#moved(from, a, to, b),
      };
    const before = this.made;
    this.#try(
      node,
      `rename ${a} ${b}`,
      allowed,
      [from, to],
      (op) => ns.rename(op, from.ino, nameOf(a), to.ino, nameOf(b)) ?? true,
    );
    if (this.made > before) this.#apply(this.#pending, true);
  }

  #moved(from: Item, a: string, to: Item, b: string): void {
    const src = from.entries.get(a)!;
    const dst = to.entries.get(b);
    from.entries.delete(a);
    to.entries.set(b, src);
    if (dst !== undefined) {
      if (dst.is_dir) to.nlink--;
      this.#drop(dst);
    }
    if (src.is_dir) {
      from.nlink--;
      to.nlink++;
      src.parent = to;
    }
  }

  #write(node: N, file: Item): void {
    const { osb } = node;
    this.#know(node, [file]);
    const direct = this.#below(4) === 0;
    const offset = direct ? 4096 * this.#below(6) : this.#below(24_000);
    const len = direct ? 4096 * (1 + this.#below(3)) : 1 + this.#below(9000);
    const addr = bufferOf(osb);
    const fill = 1 + this.#below(255);
    osb.arena.u8.fill(fill, addr, addr + len);
    this.ops++;
    const longer = new Uint8Array(Math.max(offset + len, file.data.length));
    longer.set(file.data);
    longer.fill(fill, offset, offset + len);
    this.#pending = this.#changing(file, longer);
    const inode = osb.inodes.get(file.ino);
    const n = this.c.task(
      node,
      wait<number>((cb) => writeFile(osb, inode, { offset, len, addr, direct }, cb)),
    );
    if (n !== len) throw new Error(`node ${node.num}: a write of ${len} bytes wrote ${n}`);
    this.#apply(this.#pending, longer);
    this.made++;
  }

  /** What a change of a file's contents may leave behind when its node dies: of each byte the old one or the new one. */
  #changing(file: Item, after: Uint8Array): Pending<N> {
    const before = file.data;
    const [least, most] = [Math.min(before.length, after.length), Math.max(before.length, after.length)];
    return {
      happened: (on) => {
        const found = this.#contents(on, file);
        file.tainted ||= this.#disk_failed;
        if (found.length < least || found.length > most)
          throw new Error(`node ${on.num}: file ${file.ino} has ${found.length} bytes, ${least} to ${most} may be`);
        found.forEach((byte, i) => {
          if (!file.tainted && byte !== (before[i] ?? 0) && byte !== (after[i] ?? 0))
            throw new Error(`node ${on.num}: file ${file.ino} has ${byte} at ${i}, ${before[i]} or ${after[i]} may be`);
        });
        file.data = found;
        this.#applied = true;
        return found;
      },
      apply: (found) => {
        file.data = found as Uint8Array;
      },
    };
  }

  #truncate(node: N, file: Item): void {
    const size = this.#below(MAX_FILE);
    const { osb } = node;
    this.#know(node, [file]);
    this.ops++;
    const data = new Uint8Array(size);
    data.set(file.data.subarray(0, size));
    this.#pending = this.#changing(file, data);
    this.c.task(
      node,
      wait((cb) => setattr(osb, osb.inodes.get(file.ino), { size }, cb)),
    );
    this.#apply(this.#pending, data);
    this.made++;
  }

  /** Shares whole clusters where it can. */
  #copy(node: N, src: Item, dst: Item): void {
    const [s_off, d_off] = [4096 * this.#below(6), 4096 * this.#below(6)];
    const len = 4096 * (1 + this.#below(6));
    const n = Math.max(0, Math.min(len, src.data.length - s_off));
    if (src === dst && s_off < d_off + n && d_off < s_off + n) return;
    const { osb } = node;
    this.#know(node, [src, dst]);
    this.ops++;
    this.c.note(`model ${node.num} copies ${n} of ${src.ino} at ${s_off} to ${dst.ino} at ${d_off}`);
    const data = new Uint8Array(n === 0 ? dst.data.length : Math.max(dst.data.length, d_off + n));
    data.set(dst.data);
    if (n > 0) data.set(src.data.subarray(s_off, s_off + n), d_off);
    this.#pending = this.#changing(dst, data);
    dst.tainted ||= src.tainted;
    const copied = this.c.task(
      node,
      wait<number>((cb) => copyFileRange(osb, osb.inodes.get(src.ino), s_off, osb.inodes.get(dst.ino), d_off, len, cb)),
    );
    // Its disk failed behind the first part, of which the caller hears: what of the rest is there nobody knows.
    if (copied !== n) throw new FsError(Errno.EIO, "copy_file_range", { node: node.num, copied, of: n });
    this.#apply(this.#pending, data);
    this.made++;
  }

  #xattr(node: N, file: Item, name: string): Uint8Array | undefined {
    this.#know(node, [file]);
    return this.c.op(node, (op) => getxattr(op, node.osb.inodes.get(file.ino), name));
  }

  /** In the inode, in a block of its own or in a tree of buckets, as there are more; long values in clusters of theirs. */
  #setXattr(node: N, file: Item): void {
    const name = `user.${"x".repeat(this.#below(3) * 40)}${this.#below(12)}`;
    const value = new Uint8Array(this.#below([30, 300, 300, 6000][this.#below(4)]!)).fill(this.#below(256));
    this.#pending = {
      happened: (on) => {
        const found = this.#xattr(on, file, name);
        return found !== undefined && Buffer.compare(found, value) === 0 ? true : undefined;
      },
      apply: () => file.xattrs.set(name, value),
    };
    const set = this.#try(
      node,
      `setxattr ${name} of ${file.ino} to ${value.length} bytes`,
      [],
      [file],
      (op) => setxattr(op, node.osb.inodes.get(file.ino), name, value, 0) ?? true,
    );
    if (set !== undefined) this.#apply(this.#pending, true);
  }

  #removeXattr(node: N, file: Item): void {
    const names = [...file.xattrs.keys()];
    const name = names[this.#below(names.length + 1)] ?? "user.none";
    const allowed = file.xattrs.has(name) ? [] : [Errno.ENODATA];
    if (allowed.length === 0)
      this.#pending = {
        happened: (on) => (this.#xattr(on, file, name) === undefined ? true : undefined),
        apply: () => file.xattrs.delete(name),
      };
    const gone = this.#try(
      node,
      `removexattr ${name} of ${file.ino}`,
      allowed,
      [file],
      (op) => removexattr(op, node.osb.inodes.get(file.ino), name) ?? true,
    );
    if (gone !== undefined) this.#apply(this.#pending, true);
  }

  // What is seen -------------------------------------------------------------------------------------------------------
  checkAttr(node: N, item: Item): void {
    this.#know(node, [item]);
    const attr = this.c.op(node, (op) => ns.getattr(op, item.ino));
    if (attr.nlink !== item.nlink || (!item.is_dir && attr.size !== item.data.length))
      throw new Error(
        `node ${node.num}: inode ${item.ino} has ${attr.nlink} links, ${attr.size} bytes; the model ${item.nlink}, ${item.data.length}`,
      );
    this.#checkXattrs(node, item);
  }

  #checkXattrs(node: N, item: Item): void {
    const found = this.c.op(node, (op) => {
      const inode = node.osb.inodes.get(item.ino);
      return listxattr(op, inode).map((name): [string, Uint8Array] => [name, getxattr(op, inode, name)!]);
    });
    const text = (all: Iterable<[string, Uint8Array]>): string =>
      [...all]
        .map(([name, v]) => `${name}=${v.length}x${v[0] ?? ""}${v.some((b) => b !== v[0]) ? " torn" : ""}`)
        .sort()
        .join(" ");
    if (!item.tainted && text(found) !== text(item.xattrs))
      throw new Error(
        `node ${node.num}: inode ${item.ino} has attributes ${text(found)}; the model ${text(item.xattrs)}`,
      );
  }

  #contents(node: N, file: Item): Uint8Array {
    const { osb } = node;
    this.#know(node, [file]);
    const addr = bufferOf(osb);
    const len = 1 << 16;
    osb.arena.u8.fill(0xee, addr, addr + len);
    const inode = osb.inodes.get(file.ino);
    const n = this.c.task(
      node,
      wait<number>((cb) => readFile(osb, inode, { offset: 0, len, addr }, cb)),
    );
    return osb.arena.u8.slice(addr, addr + n);
  }

  checkFile(node: N, file: Item): void {
    const got = this.#contents(node, file);
    const n = got.length;
    if (n !== file.data.length)
      throw new Error(`node ${node.num}: file ${file.ino} has ${n} bytes, the model ${file.data.length}`);
    for (let i = 0; i < n && !file.tainted; i++)
      if (got[i] !== file.data[i])
        throw new Error(`node ${node.num}: file ${file.ino} has ${got[i]} at ${i} of ${n}, the model ${file.data[i]}`);
  }

  /** The whole tree as `node` sees it. */
  check(node: N): void {
    const { osb } = node;
    for (const dir of this.dirs) {
      this.#know(node, [dir]);
      const listed = this.c.op(node, (op) => {
        const d = lockDir(op, osb.inodes.get(dir.ino));
        return readAll(openDir(op, d.inode, d.di_bh)).map((r): [string, number] => [nameText(r.name), r.ino]);
      });
      const names = listed.filter(([n]) => n !== "." && n !== "..").sort();
      const want = [...dir.entries].map(([n, item]): [string, number] => [n, item.ino]).sort();
      if (JSON.stringify(names) !== JSON.stringify(want))
        throw new Error(
          `node ${node.num}: directory ${dir.ino} has ${JSON.stringify(names)}, the model ${JSON.stringify(want)}`,
        );
      this.checkAttr(node, dir);
    }
    for (const file of this.files) {
      this.checkFile(node, file);
      this.checkAttr(node, file);
    }
  }
}
