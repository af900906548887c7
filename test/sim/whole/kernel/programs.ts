/**
 * Programs on all nodes that use the same few files and one name through their kernels: read(2), write(2), shared mappings, chmod, ftruncate, stat,
 * rename, rm, fsync; direct I/O to a file that others read and write through their caches, and a log that all append to. What each saw is one history (history.ts).
 * A node's death takes its programs along, and of what they wrote what was neither synced nor seen by another node.
 */

import { FsError } from "../../../../src/lib/fs_error.ts";
import { spawn, type Task, wait } from "../../../../src/lib/task.ts";
import { writeFile } from "../../../../src/vfs/file.ts";
import * as ns from "../../../../src/vfs/namespace.ts";
import { nameOf } from "../../../../src/volume/dir/name.ts";
import type { Op } from "../../../../src/volume/op.ts";
import { bufferOf, CRED } from "../../model.ts";
import type { SimNode } from "../node.ts";
import type { World } from "../world.ts";
import { ProgramHistory, type Register, type Val } from "./history.ts";
import { type File, type KInode, PAGE } from "./kernel.ts";

const FILES = 2;
const FILE_PAGES = 3;
/** What is written and compared as one. */
const CELL = 1024;
const CELLS = (FILE_PAGES * PAGE) / CELL;
const FILE_BYTES = 4 * PAGE;
const MODE = 0o644;
const O_RDWR = 2;
const O_WRONLY_APPEND = 0o2001;
const O_DIRECT = 0o40000;
const DIRECT = "direct";
const LOG = "log";
/** Of the log. */
const RECORD = 512;
const PER_NODE = 3;
/** Longest pause of a program between two system calls. */
const THINK_MS = 30;

export class Programs {
  readonly #w: World;
  readonly history = new ProgramHistory();
  readonly #running = new Map<SimNode, number>();
  readonly #quits = new Set<SimNode>();
  /** System calls that are still to be made, of all nodes together. */
  #left: number;
  #value = 0;
  /** Of files, by node id. */
  readonly #names = new Map<number, string>();
  #stopped = false;
  problem: string | null = null;

  constructor(world: World, calls: number) {
    this.#w = world;
    this.#left = calls;
  }

  #below(n: number): number {
    return this.#w.below(n);
  }

  /** The files, made on the first node past its kernel. */
  setUp(node: SimNode): void {
    const w = this.#w;
    const { osb } = node;
    const make = <T>(fn: (op: Op) => T): T => w.op(node, fn);
    const dir = make((op) => ns.mkdir(op, osb.geo.root_blkno, nameOf("kernel"), 0o755, CRED)).ino;
    make((op) => ns.create(op, dir, nameOf(LOG), MODE, CRED));
    for (const name of [...Array.from({ length: FILES }, (_, i) => `f${i}`), DIRECT]) {
      const { ino } = make((op) => ns.create(op, dir, nameOf(name), MODE, CRED));
      const addr = bufferOf(osb);
      osb.arena.u8.fill(0, addr, addr + FILE_BYTES);
      w.task(
        node,
        wait<number>((cb) => writeFile(osb, osb.inodes.get(ino), { offset: 0, len: FILE_BYTES, addr }, cb)),
      );
    }
    const { ino, generation } = make((op) => ns.create(op, dir, nameOf("top"), MODE, CRED));
    this.history.register("top", `${ino}.${generation}`);
  }

  start(node: SimNode): void {
    // A kernel does that, and no server can know (SIMULATION.md).
    node.kernel!.onLateWrite = (nodeid, off, len) => {
      for (let at = off; at < off + len; at += CELL)
        this.history.leaveOut(this.#cell(this.#names.get(nodeid)!, at / CELL).name);
    };
    for (let i = 0; i < PER_NODE; i++) {
      this.#running.set(node, (this.#running.get(node) ?? 0) + 1);
      spawn(this.#program(node, i), (err) => {
        this.#running.set(node, this.#running.get(node)! - 1);
        if (err && !this.#isDead(node) && !this.#w.excuses(node))
          this.problem ??= `a program on node ${node.num}: ${err instanceof Error ? (err.stack ?? err.message) : String(err)}`;
      });
    }
  }

  /** With its programs; what they do while their node is dead and does not know it says nothing. */
  died(node: SimNode): void {
    this.history.died(lifeOf(node));
    for (const [value, record] of this.#log) {
      if (record.node !== node || record.kept) continue;
      this.#log.delete(value);
      for (const [at, found] of this.#records) if (found === value) this.#records.delete(at);
    }
  }

  #isDead(node: SimNode): boolean {
    return !node.alive || this.#w.checks.isOutcast(node);
  }

  /** The programs on a node come to their end. */
  quit(node: SimNode): void {
    this.#quits.add(node);
  }

  stop(): void {
    this.#stopped = true;
  }

  running(node: SimNode): number {
    return node.alive ? (this.#running.get(node) ?? 0) : 0;
  }

  get busy(): boolean {
    return [...this.#running.keys()].some((node) => this.running(node) > 0);
  }

  #over(node: SimNode): boolean {
    return this.#stopped || this.#left <= 0 || this.#quits.has(node) || !node.alive;
  }

  *#sleep(ms: number): Task<void> {
    yield* wait<void>((cb) => void this.#w.clock.after(ms, () => cb(null)));
  }

  *#program(node: SimNode, n: number): Task<void> {
    yield* this.#sleep(this.#below(1000));
    for (let i = 0; !this.#over(node); i++) {
      const kind = this.#below(14);
      if (kind === 13) yield* this.#appends(node);
      else if (kind === 12) yield* this.#readsLog(node);
      else if (kind > 9) yield* this.#usesDirect(node);
      else if (kind === 0) yield* this.#renames(node, `t.${node.num}.${node.generation}.${n}.${i}`);
      else if (kind === 1) yield* this.#looks(node);
      else yield* this.#uses(node, this.#below(FILES));
      yield* this.#sleep(this.#below(20) === 0 ? this.#below(3000) : this.#below(THINK_MS));
    }
  }

  *#dir(node: SimNode): Task<KInode> {
    const dir = yield* node.kernel!.lookup(node.kernel!.root, "kernel");
    if (dir === null) throw new Error("the directory is not there");
    return dir;
  }

  #call(): void {
    this.#left--;
  }

  #write(register: Register, node: SimNode, value: Val): () => void {
    this.history.writes++;
    const op = register.write(lifeOf(node), value, this.history.now());
    this.#w.note(`program ${node.num} writes ${value} to ${register.name} [${op.called}]`);
    return () => {
      if (this.#isDead(node)) return;
      op.returned = this.history.now();
      this.#w.note(`program ${node.num} has written ${value} to ${register.name} [${op.returned}]`);
    };
  }

  #read(register: Register, node: SimNode, value: Val, called: number): void {
    if (this.#isDead(node)) return;
    this.history.reads++;
    const returned = this.history.now();
    this.#w.note(`program ${node.num} reads ${value} of ${register.name} [${called}, ${returned}]`);
    register.read(lifeOf(node), value, called, returned);
  }

  // Names ---------------------------------------------------------------------------------------------------------------
  /** A new file takes the name. */
  *#renames(node: SimNode, tmp: string): Task<void> {
    const k = node.kernel!;
    const dir = yield* this.#dir(node);
    const top = this.history.register("top", "");
    this.#call();
    const file = yield* k.create(dir, tmp, O_RDWR, MODE);
    const { nodeid, generation } = file.inode;
    yield* k.close(file);
    if (this.#below(4) === 0) yield* k.unlink(dir, tmp);
    else {
      const done = this.#write(top, node, `${nodeid}.${generation}`);
      yield* k.rename(dir, tmp, "top");
      done();
    }
    k.put(dir);
  }

  *#looks(node: SimNode): Task<void> {
    const k = node.kernel!;
    const dir = yield* this.#dir(node);
    for (let n = 1 + this.#below(3); n > 0; n--) {
      const called = this.history.now();
      this.#call();
      const inode = yield* k.lookup(dir, "top");
      if (inode === null) throw new Error("the name is not there");
      this.#read(this.history.register("top", ""), node, `${inode.nodeid}.${inode.generation}`, called);
      k.put(inode);
      yield* this.#sleep(this.#below(THINK_MS));
    }
    k.put(dir);
  }

  // Files ---------------------------------------------------------------------------------------------------------------
  *#uses(node: SimNode, n: number): Task<void> {
    const k = node.kernel!;
    const writes = this.#below(5) < 3;
    const file = yield* this.#open(node, `f${n}`, writes ? O_RDWR : 0);
    for (let left = 1 + this.#below(8); left > 0; left--) {
      this.#call();
      yield* this.#one(node, `f${n}`, file, writes);
      if (writes && this.#below(8) === 0) yield* this.#fsync(node, `f${n}`, file);
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
    yield* k.close(file);
  }

  *#open(node: SimNode, name: string, flags: number): Task<File> {
    const k = node.kernel!;
    const dir = yield* this.#dir(node);
    const inode = yield* k.lookup(dir, name);
    k.put(dir);
    if (inode === null) throw new Error(`the file ${name} is not there`);
    this.#names.set(inode.nodeid, name);
    const file = yield* k.open(inode, flags);
    k.put(inode);
    return file;
  }

  /** Past the cache or through it. (A FUSE kernel does not keep direct writes and mappings of one node apart, so there are none.) */
  *#usesDirect(node: SimNode): Task<void> {
    const k = node.kernel!;
    const file = yield* this.#open(node, DIRECT, this.#below(2) === 0 ? O_RDWR | O_DIRECT : O_RDWR);
    for (let left = 1 + this.#below(4); left > 0; left--) {
      this.#call();
      const first = this.#below(CELLS);
      if (this.#below(2) === 0) {
        const n = Math.min(CELLS - first, 1 + this.#below(6));
        const value = ++this.#value;
        const done = Array.from({ length: n }, (_, i) => this.#write(this.#cell(DIRECT, first + i), node, value));
        yield* k.write(file, first * CELL, cellBytes(value, n));
        for (const d of done) d();
        if (this.#below(4) === 0) yield* this.#fsync(node, DIRECT, file);
      } else {
        yield* this.#readsCell(node, DIRECT, file, first);
      }
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
    yield* k.close(file);
  }

  // The log -------------------------------------------------------------------------------------------------------------
  /** Records whose append(2) has returned; kept: for ever, as an fsync has returned since, or another node has found it. */
  readonly #log = new Map<number, { readonly node: SimNode; kept: boolean }>();
  /** What was found at each place, which never changes. */
  readonly #records = new Map<number, number>();

  *#appends(node: SimNode): Task<void> {
    const k = node.kernel!;
    const file = yield* this.#open(node, LOG, O_WRONLY_APPEND);
    for (let left = 1 + this.#below(4); left > 0; left--) {
      this.#call();
      const value = ++this.#value;
      this.history.writes++;
      this.#w.note(`program ${node.num} appends ${value}`);
      yield* k.write(file, 0, cellBytes(value, 1).subarray(0, RECORD));
      if (!this.#isDead(node)) this.#log.set(value, { node, kept: false });
      this.#w.note(`program ${node.num} has appended ${value}`);
      if (this.#below(4) === 0) {
        const mine = [...this.#log.values()].filter((r) => r.node === node);
        yield* k.fsync(file);
        if (!this.#isDead(node)) for (const r of mine) r.kept = true;
      }
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
    yield* k.close(file);
  }

  /** Every record that was there before is there once, whole, and where it was. */
  *#readsLog(node: SimNode): Task<void> {
    const k = node.kernel!;
    const file = yield* this.#open(node, LOG, 0);
    this.#call();
    const missing = new Set(this.#log.keys());
    const size = yield* k.stat(file.inode, "size");
    this.#w.note(`program ${node.num} finds ${size} bytes of the log`);
    for (let at = 0; at < size; at += RECORD) {
      const where = `the log at ${at} on node ${node.num}`;
      const value = cellValue(yield* k.read(file, at, RECORD), where);
      this.history.reads++;
      if (this.#isDead(node)) return;
      const before = this.#records.get(at) ?? value;
      if (value === 0 || value !== before) throw new Error(`${where}: ${value}, and before ${before}`);
      this.#records.set(at, value);
      const record = this.#log.get(value);
      if (record !== undefined && record.node !== node) record.kept = true;
      missing.delete(value);
    }
    for (const value of missing) if (!this.#log.has(value)) missing.delete(value);
    if (missing.size > 0) throw new Error(`the log on node ${node.num} has ${size} bytes and not ${[...missing]}`);
    if (new Set(this.#records.values()).size !== this.#records.size) throw new Error("a record is in the log twice");
    yield* k.close(file);
  }

  *#fsync(node: SimNode, name: string, file: File): Task<void> {
    const ops = this.history.unsynced(lifeOf(node), name);
    this.#w.note(`program ${node.num} syncs ${name}`);
    yield* node.kernel!.fsync(file);
    if (this.#isDead(node)) return;
    this.#w.note(`program ${node.num} has synced ${name}`);
    for (const op of ops) op.synced = true;
  }

  *#readsCell(node: SimNode, name: string, file: File, cell: number): Task<void> {
    const register = this.#cell(name, cell);
    const called = this.history.now();
    const bytes = yield* node.kernel!.read(file, cell * CELL, CELL);
    // A page that a dead node was writing: no history tells which half is whose.
    if (register.may_be_torn && isTorn(bytes)) this.history.leaveOut(register.name);
    else this.#read(register, node, cellValue(bytes, `${name} cell ${cell} on node ${node.num}`), called);
  }

  #cell(name: string, i: number): Register {
    return this.history.register(`${name} cell ${i}`, 0);
  }

  *#one(node: SimNode, name: string, file: File, writes: boolean): Task<void> {
    const k = node.kernel!;
    const { inode } = file;
    const kind = this.#below(20);
    if (kind === 0) yield* this.#stat(node, name, inode, "mode");
    else if (kind === 1) yield* this.#stat(node, name, inode, "size");
    else if (kind === 2 && this.#value < 1 << 20) {
      const mode = 1 + (this.#value++ % 0o777);
      const key = this.#modes.has(mode) ? null : mode;
      if (key === null || mode === MODE) return;
      this.#modes.add(mode);
      const done = this.#write(this.history.register(`${name} mode`, MODE), node, mode);
      yield* k.setattr(inode, { mode });
      done();
    } else if (kind === 3 && writes) {
      const size = FILE_BYTES + ++this.#value;
      const done = this.#write(this.history.register(`${name} size`, FILE_BYTES), node, size);
      yield* k.setattr(inode, { size });
      done();
    } else if (kind < 8 && writes) {
      const first = this.#below(CELLS);
      const n = Math.min(CELLS - first, 1 + this.#below(6));
      const value = ++this.#value;
      const done = Array.from({ length: n }, (_, i) => this.#write(this.#cell(name, first + i), node, value));
      yield* k.write(file, first * CELL, cellBytes(value, n));
      for (const d of done) d();
    } else if (kind < 12 && writes) {
      const cell = this.#below(CELLS);
      const value = ++this.#value;
      const done = this.#write(this.#cell(name, cell), node, value);
      const known = yield* k.store(file, cell * CELL, cellBytes(value, 1));
      known(() => done());
    } else {
      yield* this.#readsCell(node, name, file, this.#below(CELLS));
    }
  }
  readonly #modes = new Set<number>();

  *#stat(node: SimNode, name: string, inode: KInode, what: "mode" | "size"): Task<void> {
    const called = this.history.now();
    const found = yield* node.kernel!.stat(inode, what);
    const register = this.history.register(`${name} ${what}`, what === "mode" ? MODE : FILE_BYTES);
    this.#read(register, node, what === "mode" ? found & 0o7777 : found, called);
  }

  /** Everything once more on a node, when all is quiet; and whether all that was seen fits together. */
  *look(node: SimNode): Task<void> {
    const k = node.kernel!;
    const dir = yield* this.#dir(node);
    for (const name of [...Array.from({ length: FILES }, (_, i) => `f${i}`), DIRECT]) {
      const inode = (yield* k.lookup(dir, name))!;
      const file = yield* k.open(inode, 0);
      for (let cell = 0; cell < CELLS; cell++) yield* this.#readsCell(node, name, file, cell);
      yield* this.#stat(node, name, inode, "mode");
      yield* this.#stat(node, name, inode, "size");
      yield* k.close(file);
      k.put(inode);
    }
    k.put(dir);
    yield* this.#looks(node);
    yield* this.#readsLog(node);
  }

  check(): void {
    const [first] = this.history.check();
    if (first !== undefined) throw new Error(first);
  }
}

/** A node that comes back is another one. */
const lifeOf = (node: SimNode): string => `${node.num}.${node.generation}`;

/** What all of it is, and what else is in it. */
function wordsOf(bytes: Uint8Array): { first: number; other: number | undefined } {
  const words = new Uint32Array(bytes.slice().buffer);
  const first = words[0]!;
  return { first, other: words.find((word) => word !== first) };
}

const isTorn = (bytes: Uint8Array): boolean => wordsOf(bytes).other !== undefined;

const cellBytes = (value: number, cells: number): Uint8Array =>
  new Uint8Array(new Uint32Array((cells * CELL) / 4).fill(value).buffer);

function cellValue(bytes: Uint8Array, where: string): number {
  const { first, other } = wordsOf(bytes);
  if (other !== undefined) throw new FsError(5, `${where} is torn: ${first} and ${other}`, {});
  return first;
}
