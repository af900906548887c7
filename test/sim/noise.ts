/**
 * What goes on beside the model: on every node several operations at a time, on the same few names. Nobody says what their
 * results must be, but every answer must be one that a file system gives, every page that is read belongs to its
 * file or to one that was copied into it, records that were appended are whole, and at the end the volume is sound.
 */
import { FsError } from "../../src/lib/fs_error.ts";
import { asThunk, type Callback, type Task, type Thunk, wait } from "../../src/lib/task.ts";
import { copyFileRange } from "../../src/vfs/copy_range.ts";
import { fsync, readFile, setattr, writeFile } from "../../src/vfs/file.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { nameOf } from "../../src/volume/dir/name.ts";
import type { Inode } from "../../src/volume/inode.ts";
import type { Op } from "../../src/volume/op.ts";
import { getxattr, setxattr } from "../../src/volume/xattr/index.ts";
import { type Cluster, CRED, type Node } from "./model.ts";

const EXPECTED = /^(EEXIST|ENOENT|EISDIR|ENOTDIR|ENOTEMPTY|EINVAL|ESTALE|EPERM)$/;
const PAGE = 4096;
const SLOT_BYTES = 8 * PAGE;
const SLOTS = 12;
export const RECORD_BYTES = 64;

interface NodeNoise {
  readonly buffer: number;
  readonly free: number[];
  running: number;
  records: number;
  /** It has looked the directories and the log up: a number alone says nothing. */
  knows: boolean;
}

export class Noise<N extends Node> {
  readonly #c: Cluster<N>;
  readonly #of = new Map<N, NodeNoise>();
  readonly #dirs: number[] = [];
  #log = 0;
  /** Records whose append was answered, by the node that appended them. */
  readonly appended: { readonly node: N; readonly record: string }[] = [];
  readonly answers = new Map<string, number>();
  problem: string | null = null;

  constructor(c: Cluster<N>, node: N) {
    this.#c = c;
    const root = node.osb.geo.root_blkno;
    for (let i = 0; i < 3; i++)
      this.#dirs.push(
        c.op(node, (op) => ns.mkdir(op, i === 2 ? this.#dirs[0]! : root, nameOf(`noise${i}`), 0o755, CRED)).ino,
      );
    this.#log = c.op(node, (op) => ns.create(op, root, nameOf("log"), 0o644, CRED)).ino;
  }

  #noiseOf(node: N): NodeNoise {
    let n = this.#of.get(node);
    if (n === undefined) {
      const buffer = node.osb.arena.alloc(SLOTS * SLOT_BYTES, PAGE);
      n = {
        buffer,
        free: Array.from({ length: SLOTS }, (_, i) => buffer + i * SLOT_BYTES),
        running: 0,
        records: 0,
        knows: false,
      };
      this.#of.set(node, n);
    }
    return n;
  }

  running(node: N): number {
    return this.#of.get(node)?.running ?? 0;
  }

  get busy(): boolean {
    return [...this.#of].some(([node, n]) => node.alive && n.running > 0);
  }

  #below(n: number): number {
    return this.#c.below(n);
  }

  /** Starts one operation on `node`, unless enough are under way there. */
  start(node: N): void {
    const noise = this.#noiseOf(node);
    const addr = noise.free.pop();
    if (addr === undefined) return;
    noise.running++;
    const operation = this.#pick(node, noise, addr);
    asThunk(() => this.#informed(node, noise, operation))((err) => {
      noise.running--;
      noise.free.push(addr);
      this.#c.note(`noise ${node.num} slot ${addr} ${err instanceof FsError ? err.code : err ? String(err) : "ok"}`);
      if (!err) return this.#answer("ok");
      if (err instanceof FsError && EXPECTED.test(err.code)) return this.#answer(err.code);
      if (this.#c.excuses?.(node) === true) return this.#answer("excused");
      this.problem ??= `node ${node.num}: ${err instanceof Error ? (err.stack ?? err.message) : String(err)}`;
    });
  }

  *#informed(node: N, noise: NodeNoise, operation: Thunk<unknown>): Task<void> {
    if (!noise.knows) yield* this.#lookUp(node);
    noise.knows = true;
    yield* wait(operation);
  }

  *#lookUp({ osb }: N): Task<void> {
    const { root_blkno } = osb.geo;
    for (const [dir, name] of [
      [root_blkno, "noise0"],
      [root_blkno, "noise1"],
      [this.#dirs[0]!, "noise2"],
      [root_blkno, "log"],
    ] as const)
      yield* wait(osb.step((op) => void ns.lookup(op, dir, nameOf(name))));
  }

  #answer(what: string): void {
    this.answers.set(what, (this.answers.get(what) ?? 0) + 1);
  }

  #pick(node: N, noise: NodeNoise, addr: number): Thunk<unknown> {
    const { osb } = node;
    const any = (): number => this.#dirs[this.#below(this.#dirs.length)]!;
    const [d1, d2] = [any(), any()];
    const [n1, n2] = [nameOf(`x${this.#below(6)}`), nameOf(`x${this.#below(6)}`)];
    const kind = this.#below(24);
    // An operation is run again: what it is asked to do must stay the same.
    const flags = this.#below(5) === 0 ? ns.RENAME_EXCHANGE : 0;
    this.#c.note(`noise ${node.num} slot ${addr} ${kind} ${d1}/${Buffer.from(n1)} ${d2}/${Buffer.from(n2)} ${flags}`);
    const run = <T>(fn: (op: Op) => T): Thunk<T> => osb.step(fn);
    if (kind < 4) return run((op) => ns.create(op, d1, n1, 0o644, CRED));
    if (kind < 5) return run((op) => ns.mkdir(op, d1, n1, 0o755, CRED));
    if (kind < 7) return run((op) => ns.unlink(op, d1, n1));
    if (kind < 8) return run((op) => ns.rmdir(op, d1, n1));
    if (kind < 10) return run((op) => ns.rename(op, d1, n1, d2, n2, flags));
    if (kind < 12) return this.#append(node, noise, addr);
    if (kind === 12 || kind === 13) return this.#hold(node, d1, n1, addr);
    if (kind < 16) return this.#use(node, d1, n1, (inode) => this.#write(node, inode, addr));
    if (kind < 18) return this.#use(node, d1, n1, (inode) => this.#read(node, inode, addr));
    if (kind < 19)
      return this.#use(
        node,
        d1,
        n1,
        (inode) => (cb) => setattr(osb, inode, { size: 8 * this.#below(3700) }, cb as Callback<unknown>),
      );
    if (kind > 21) {
      const [name, len, fill] = [`user.${this.#below(6)}`, this.#below(3) === 0 ? 5000 : 400, this.#below(256)];
      return this.#use(node, d1, n1, (inode) => this.#xattrs(node, inode, name, new Uint8Array(len).fill(fill)));
    }
    if (kind > 19)
      return this.#use(node, d1, n1, (src) => this.#use(node, d2, n2, (dst) => this.#copy(node, src, dst)));
    return this.#use(node, d1, n1, (inode) => (cb) => fsync(osb, inode, false, cb as Callback<unknown>));
  }

  /** Looks a file up and uses it as a program that has it open. */
  #use(node: N, dir: number, name: Uint8Array, fn: (inode: Inode) => Thunk<unknown>): Thunk<unknown> {
    const { osb } = node;
    function* open(): Task<void> {
      const inode = yield* wait(
        osb.step((op): Inode | undefined => {
          const attr = ns.lookup(op, dir, name);
          if (attr === undefined || (attr.mode & 0o170000) !== 0o100000) return undefined;
          const inode = osb.inodes.get(attr.ino);
          op.onSuccess(() => {
            inode.open_count++;
          });
          return inode;
        }),
      );
      if (inode === undefined) return;
      try {
        yield* wait(fn(inode));
      } catch (err) {
        if (err instanceof FsError && err.code === "ESTALE")
          throw new Error(`a file that was open is gone: ${err.message}`);
        throw err;
      } finally {
        inode.open_count--;
        ns.reap(osb, inode);
      }
    }
    return asThunk(open);
  }

  /** Keeps a file open for a while: whatever becomes of its name, its data stays. */
  #hold(node: N, dir: number, name: Uint8Array, addr: number): Thunk<unknown> {
    const { clock } = node.osb;
    const ms = 50 + this.#below(400);
    const self = this;
    return this.#use(node, dir, name, (inode) =>
      asThunk(function* () {
        yield* wait(self.#read(node, inode, addr));
        yield* wait<void>((cb) => clock.after(ms, () => cb(null)));
        yield* wait(self.#write(node, inode, addr));
        yield* wait(self.#read(node, inode, addr));
      }),
    );
  }

  /** Whole pages, each with the number of its file. */
  #write(node: N, inode: Inode, addr: number): Thunk<unknown> {
    const { osb } = node;
    const pages = 1 + this.#below(3);
    const offset = PAGE * this.#below(6);
    const direct = this.#below(3) === 0;
    for (let at = addr; at < addr + pages * PAGE; at += 8) {
      osb.arena.dv.setUint32(at, inode.ino, true);
      osb.arena.dv.setUint32(at + 4, 0x5a5a5a5a, true);
    }
    return (cb) => writeFile(osb, inode, { offset, len: pages * PAGE, addr, direct }, cb);
  }

  /** An attribute of a value that is all one byte: set, and found so, whoever set it last. */
  #xattrs(node: N, inode: Inode, name: string, value: Uint8Array): Thunk<unknown> {
    const { osb } = node;
    return asThunk(function* () {
      yield* wait(osb.step((op) => setxattr(op, inode, name, value, 0)));
      const found = yield* wait(osb.step((op) => getxattr(op, inode, name)));
      if (found === undefined || found.some((byte) => byte !== found[0]))
        throw new Error(`attribute ${name} of ${inode.ino} is ${found === undefined ? "gone" : "torn"}`);
    });
  }

  /** What was ever copied to a file, by inode number, from which others. */
  readonly #copied = new Map<number, Set<number>>();

  #copy(node: N, src: Inode, dst: Inode): Thunk<unknown> {
    const [s_off, d_off, pages] = [PAGE * this.#below(6), PAGE * this.#below(6), 1 + this.#below(4)];
    const from = this.#copied.get(dst.ino) ?? new Set();
    this.#copied.set(dst.ino, from.add(src.ino));
    return (cb) => copyFileRange(node.osb, src, s_off, dst, d_off, pages * PAGE, cb as Callback<number>);
  }

  /** Whether a page with the number of `other` may be in the file. */
  #mayHave(ino: number, other: number): boolean {
    const reached = new Set([ino]);
    for (const at of reached) for (const from of this.#copied.get(at) ?? []) reached.add(from);
    return reached.has(other);
  }

  /** Every page is its file's, or zero from some point on (truncated and grown). */
  #read(node: N, inode: Inode, addr: number): Thunk<unknown> {
    const { osb } = node;
    const offset = PAGE * this.#below(6);
    const len = PAGE * (1 + this.#below(3));
    const { dv } = osb.arena;
    return (cb) =>
      readFile(osb, inode, { offset, len, addr }, (err, n) => {
        if (!err)
          for (let at = addr; at + 8 <= addr + n!; at += 8) {
            const [a, b] = [dv.getUint32(at, true), dv.getUint32(at + 4, true)];
            if (!(b === 0x5a5a5a5a && (a === inode.ino || this.#mayHave(inode.ino, a))) && !(a === 0 && b === 0)) {
              this.problem ??= `node ${node.num}: file ${inode.ino} has ${a.toString(16)} ${b.toString(16)} at ${offset + at - addr}`;
              break;
            }
          }
        cb(err, n);
      });
  }

  /** A record at the end of a file to which all nodes append. */
  #append(node: N, noise: NodeNoise, addr: number): Thunk<unknown> {
    const { osb } = node;
    const record = `${`${node.num}.${osb.slot_num}.${this.appended.length}.${noise.records++}`.padEnd(RECORD_BYTES - 1, "-")}\n`;
    osb.arena.u8.set(Buffer.from(record), addr);
    return (cb) =>
      writeFile(osb, osb.inodes.get(this.#log), { offset: 0, len: RECORD_BYTES, addr, append: true }, (err, n) => {
        if (!err) this.appended.push({ node, record });
        cb(err, n);
      });
  }

  /** The log has whole records, none twice, and each node's that has lived to the end. */
  *checkLog(node: N, survived: (node: N) => boolean): Task<void> {
    const { osb } = node;
    const { buffer } = this.#noiseOf(node);
    yield* this.#lookUp(node);
    const inode = osb.inodes.get(this.#log);
    const { size } = yield* wait(osb.step((op) => ns.getattr(op, this.#log)));
    let text = "";
    while (text.length < size) {
      const offset = text.length;
      const n = yield* wait<number>((cb) =>
        readFile(osb, inode, { offset, len: SLOTS * SLOT_BYTES, addr: buffer }, cb),
      );
      text += Buffer.from(osb.arena.u8.slice(buffer, buffer + n)).toString("latin1");
    }
    const found = new Set<string>();
    for (let at = 0; at < text.length; at += RECORD_BYTES) {
      const record = text.slice(at, at + RECORD_BYTES);
      if (!/^[\d.]+-+\n$/.test(record))
        throw new Error(`node ${node.num}: no record in the log at ${at}: ${JSON.stringify(record)}`);
      if (found.has(record)) throw new Error(`node ${node.num}: a record twice in the log: ${record.trim()}`);
      found.add(record);
    }
    for (const { node: by, record } of this.appended)
      if (survived(by) && !found.has(record))
        throw new Error(`node ${node.num}: the log has lost ${record.trim()} of node ${by.num}`);
  }
}
