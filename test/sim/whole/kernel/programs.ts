/**
 * Programs on all nodes that use the same few files and one name through their kernels: read(2), write(2), shared mappings, chmod, ftruncate, stat,
 * rename, rm, fsync; direct I/O to a file that others read and write through their caches, and a log that all append to. What each saw is one history (history.ts).
 * A node's death takes its programs along, and of what they wrote what was neither synced nor seen by another node.
 */

import { Errno } from "../../../../src/lib/errno.ts";
import { FsError } from "../../../../src/lib/fs_error.ts";
import { all, spawn, type Task, type Thunk, wait } from "../../../../src/lib/task.ts";
import { writeFile } from "../../../../src/vfs/file.ts";
import * as ns from "../../../../src/vfs/namespace.ts";
import { nameOf } from "../../../../src/volume/dir/name.ts";
import { getClusters } from "../../../../src/volume/extents/extent_map.ts";
import { inodeLock } from "../../../../src/volume/inode.ts";
import type { Op } from "../../../../src/volume/op.ts";
import { bufferOf, CRED } from "../../model.ts";
import type { SimNode } from "../node.ts";
import type { SimProcess } from "../threads.ts";
import type { World } from "../world.ts";
import { Flocks } from "./flocks.ts";
import { ProgramHistory, type Register, type Val } from "./history.ts";
import { type File, type KInode, PAGE } from "./kernel.ts";

const FILES = 2;
const FILE_PAGES = 3;
/** What is written and compared as one. */
const CELL = 1024;
const PAGE_CELLS = PAGE / CELL;
const CELLS = FILE_PAGES * PAGE_CELLS;
/** One more than the programs use. */
const PAGES = FILE_PAGES + 1;
const FILE_BYTES = PAGES * PAGE;
const MODE = 0o644;
const O_RDWR = 2;
const O_WRONLY_APPEND = 0o2001;
const O_DIRECT = 0o40000;
const DIRECT = "direct";
const LOG = "log";
/** What programs take the flock of. */
const LOCKED = "locked";
/** Of the log. */
const RECORD = 512;
const PER_NODE = 3;
/** Longest pause of a program between two system calls. */
const THINK_MS = 30;

/** What programs meet and do in some of the seeds, beside the rest. */
export type More = "disks" | "flock" | "aio" | "readahead";

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

  readonly #more: ReadonlySet<More>;

  constructor(world: World, calls: number, more: ReadonlySet<More>) {
    this.#w = world;
    this.#left = calls;
    this.#more = more;
    this.flocks = new Flocks(
      () => world.clock.monotonic_ms(),
      (node) => this.#isDead(node),
    );
  }

  /** Where disks fail programs take care. */
  #syncs(): boolean {
    return this.#below(this.#more.has("disks") ? 3 : 8) === 0;
  }

  #below(n: number): number {
    return this.#w.below(n);
  }

  /** The files, made on the first node past its kernel. */
  setUp(node: SimNode): void {
    const w = this.#w;
    w.disk.onFailed = (process, offset, len, write) => this.#failed(process, offset, len, write);
    const { osb } = node;
    const make = <T>(fn: (op: Op) => T): T => w.op(node, fn);
    const dir = make((op) => ns.mkdir(op, osb.geo.root_blkno, nameOf("kernel"), 0o755, CRED)).ino;
    make((op) => ns.create(op, dir, nameOf(LOG), MODE, CRED));
    if (this.#more.has("flock")) make((op) => ns.create(op, dir, nameOf(LOCKED), MODE, CRED));
    for (const name of [...Array.from({ length: FILES }, (_, i) => `f${i}`), DIRECT]) {
      const { ino } = make((op) => ns.create(op, dir, nameOf(name), MODE, CRED));
      const addr = bufferOf(osb);
      osb.arena.u8.fill(0, addr, addr + FILE_BYTES);
      w.task(
        node,
        wait<number>((cb) => writeFile(osb, osb.inodes.get(ino), { offset: 0, len: FILE_BYTES, addr }, cb)),
      );
      if (this.#more.has("disks")) make((op) => this.#place(op, name, ino));
    }
    const { ino, generation } = make((op) => ns.create(op, dir, nameOf("top"), MODE, CRED));
    this.history.register("top", `${ino}.${generation}`);
  }

  /** The programs change no file's place. */
  #place(op: Op, name: string, ino: number): void {
    const inode = op.osb.inodes.get(ino);
    inodeLock(op, inode);
    const { clustersize } = op.osb.geo;
    for (let page = 0; page < PAGES; page++) {
      const at = page * PAGE;
      const { p_cluster } = getClusters(op, inode, Math.floor(at / clustersize));
      this.#places.set((p_cluster * clustersize + (at % clustersize)) / PAGE, { name, page });
    }
  }

  start(node: SimNode): void {
    node.kernel!.readahead = this.#more.has("readahead");
    node.kernel!.onLost = (nodeid, off, said) => {
      const name = this.#names.get(nodeid);
      if (!this.#failing.has(node) && !this.#isDead(node))
        this.problem ??= `node ${node.num} refuses what is written back`;
      else if (name !== undefined && name !== LOG) this.#pageFailed(node, name, off / PAGE, said);
    };
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
    this.#forget(node);
    this.flocks.died(node);
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
      const tmp = `t.${node.num}.${node.generation}.${n}.${i}`;
      if (this.#more.has("flock") && this.#below(4) === 0) yield* this.#mayFail(node, this.#locks(node));
      else if (this.#more.has("aio") && this.#below(4) === 0) yield* this.#mayFail(node, this.#submits(node));
      else yield* this.#mayFail(node, this.#oneOf(node, kind, tmp));
      yield* this.#sleep(this.#below(20) === 0 ? this.#below(3000) : this.#below(THINK_MS));
    }
  }

  *#oneOf(node: SimNode, kind: number, tmp: string): Task<void> {
    if (kind === 13) yield* this.#appends(node);
    else if (kind === 12) yield* this.#readsLog(node);
    else if (kind > 9) yield* this.#usesDirect(node);
    else if (kind === 0) yield* this.#renames(node, tmp);
    else if (kind === 1) yield* this.#looks(node);
    else yield* this.#uses(node, this.#below(FILES));
  }

  *#dir(node: SimNode): Task<KInode> {
    const dir = yield* node.kernel!.lookup(node.kernel!.root, "kernel");
    if (dir === null) throw new Error("the directory is not there");
    return dir;
  }

  /** System calls of a program that goes on where the disk fails one of them. */
  *#mayFail(node: SimNode, calls: Task<void>): Task<void> {
    try {
      yield* calls;
    } catch (err) {
      if (!this.#diskFailed(node, err)) throw err;
      this.errors++;
      this.#w.note(`program ${node.num}: ${(err as FsError).code}`);
    }
  }

  /** With an open file, which is closed whatever happens. */
  *#using(node: SimNode, name: string, flags: number, calls: (file: File) => Task<void>): Task<void> {
    const file = yield* this.#open(node, name, flags);
    yield* this.#mayFail(node, calls(file));
    yield* node.kernel!.close(file);
  }

  // Disks that fail -----------------------------------------------------------------------------------------------------
  /** Nodes whose disk has failed I/O of theirs. */
  readonly #failing = new Set<SimNode>();
  /** Where the files are on the disk, by its pages. */
  readonly #places = new Map<number, { readonly name: string; readonly page: number }>();
  /** Since when a failed write-back is to be said by an open file's next fsync. */
  readonly #owed = new WeakMap<File, number>();
  /** Calls that a disk failed. */
  errors = 0;

  isFailing(node: SimNode): boolean {
    return this.#failing.has(node);
  }

  /** Bytes of the disk that hold a part of a file. */
  somePlace(): { readonly from: number; readonly to: number } {
    const pages = [...this.#places.keys()];
    const from = pages[this.#below(pages.length)]!;
    // What lies behind the file may be anybody's.
    let to = from + 1;
    for (const most = to + this.#below(2 * PAGES); to < most && this.#places.has(to); ) to++;
    return { from: from * PAGE, to: to * PAGE };
  }

  #diskFailed(node: SimNode, err: unknown): boolean {
    return err instanceof FsError && (err.errno === Errno.EIO || err.errno === Errno.EROFS) && this.#failing.has(node);
  }

  /** Of a write there may be all, a part, or nothing. */
  #failed(process: SimProcess, offset: number, len: number, write: boolean): void {
    const node = [...this.#w.nodes.values()].find((n) => n.process === process);
    if (node === undefined) return;
    this.#failing.add(node);
    if (!write) return;
    for (let at = offset; at < offset + len; at += PAGE) {
      const place = this.#places.get(Math.floor(at / PAGE));
      if (place === undefined) this.#logFailed(node);
      else this.#pageFailed(node, place.name, place.page);
    }
  }

  /** `said`: as far as it ever is; no fsync promises anything of it. */
  #pageFailed(node: SimNode, name: string, page: number, said = false): void {
    this.#w.note(`program ${node.num}: page ${page} of ${name} is not written`);
    const now = said ? Number.NEGATIVE_INFINITY : this.history.now();
    const first = (page * PAGE) / CELL;
    for (let cell = first; cell < first + PAGE / CELL && cell < CELLS; cell++)
      this.#cell(name, cell).failed(lifeOf(node), now);
  }

  /** What an fsync of this file that returns promises though a disk failed since. */
  #owes(file: File, lost: number): boolean {
    return lost > this.#owed.get(file)!;
  }

  #call(): void {
    this.#left--;
  }

  /** `durable`: it is on the disk when it returns. */
  #write(register: Register, node: SimNode, value: Val, durable = false): () => void {
    this.history.writes++;
    const op = register.write(lifeOf(node), value, this.history.now());
    this.#w.note(`program ${node.num} writes ${value} to ${register.name} [${op.called}]`);
    return () => {
      if (this.#isDead(node)) return;
      register.wrote(op, this.history.now());
      if (durable) op.synced = op.returned !== Number.POSITIVE_INFINITY;
      this.#w.note(`program ${node.num} has written ${value} to ${register.name} [${op.came_back}]`);
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
    try {
      const file = yield* k.create(dir, tmp, O_RDWR, MODE);
      const { nodeid, generation } = file.inode;
      yield* k.close(file);
      if (this.#below(4) === 0) yield* k.unlink(dir, tmp);
      else {
        const done = this.#write(top, node, `${nodeid}.${generation}`);
        yield* k.rename(dir, tmp, "top");
        done();
      }
    } finally {
      k.put(dir);
    }
  }

  *#looks(node: SimNode): Task<void> {
    const k = node.kernel!;
    const dir = yield* this.#dir(node);
    try {
      for (let n = 1 + this.#below(3); n > 0; n--) {
        const called = this.history.now();
        this.#call();
        const inode = yield* k.lookup(dir, "top");
        if (inode === null) throw new Error("the name is not there");
        this.#read(this.history.register("top", ""), node, `${inode.nodeid}.${inode.generation}`, called);
        k.put(inode);
        yield* this.#sleep(this.#below(THINK_MS));
      }
    } finally {
      k.put(dir);
    }
  }

  // Files ---------------------------------------------------------------------------------------------------------------
  *#uses(node: SimNode, n: number): Task<void> {
    const writes = this.#below(5) < 3;
    yield* this.#using(node, `f${n}`, writes ? O_RDWR : 0, (file) => this.#usesFile(node, `f${n}`, file, writes));
  }

  *#usesFile(node: SimNode, name: string, file: File, writes: boolean): Task<void> {
    for (let left = 1 + this.#below(8); left > 0; left--) {
      this.#call();
      yield* this.#mayFail(node, this.#one(node, name, file, writes));
      if (writes && this.#syncs()) yield* this.#fsync(node, name, file);
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
  }

  *#open(node: SimNode, name: string, flags: number): Task<File> {
    const k = node.kernel!;
    const inode = yield* this.#lookup(node, name);
    if (inode === null) throw new Error(`the file ${name} is not there`);
    this.#names.set(inode.nodeid, name);
    try {
      const file = yield* k.open(inode, flags);
      this.#owed.set(file, this.history.time);
      return file;
    } finally {
      k.put(inode);
    }
  }

  *#lookup(node: SimNode, name: string): Task<KInode | null> {
    const k = node.kernel!;
    const dir = yield* this.#dir(node);
    try {
      return yield* k.lookup(dir, name);
    } finally {
      k.put(dir);
    }
  }

  /** Past the cache or through it. (A FUSE kernel does not keep direct writes and mappings of one node apart, so there are none.) */
  *#usesDirect(node: SimNode): Task<void> {
    const flags = this.#below(2) === 0 ? O_RDWR | O_DIRECT : O_RDWR;
    yield* this.#using(node, DIRECT, flags, (file) => this.#usesDirectly(node, file));
  }

  *#usesDirectly(node: SimNode, file: File): Task<void> {
    for (let left = 1 + this.#below(4); left > 0; left--) {
      this.#call();
      const first = this.#below(CELLS);
      if (this.#below(2) === 0) {
        yield* this.#mayFail(node, this.#writesCells(node, DIRECT, file, first));
        if (this.#below(4) === 0) yield* this.#fsync(node, DIRECT, file);
      } else {
        yield* this.#mayFail(node, this.#readsCell(node, DIRECT, file, first));
      }
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
  }

  *#writesCells(node: SimNode, name: string, file: File, first: number): Task<void> {
    const n = Math.min(CELLS - first, 1 + this.#below(6));
    const value = ++this.#value;
    const done = this.#writeCells(name, file, first, n, node, value);
    yield* node.kernel!.write(file, first * CELL, cellBytes(value, n));
    done();
  }

  /** What goes past all caches, page by page, is on the disk when it returns. */
  #writeCells(name: string, file: File, first: number, n: number, node: SimNode, value: number): () => void {
    const past = (file.flags & O_DIRECT) !== 0 && first % PAGE_CELLS === 0 && n % PAGE_CELLS === 0;
    const cells = Array.from({ length: n }, (_, i) => this.#cell(name, first + i));
    const done = cells.map((register) => this.#write(register, node, value, past));
    return () => {
      for (const d of done) d();
    };
  }

  // Several direct reads and writes of one program at once --------------------------------------------------------------
  *#submits(node: SimNode): Task<void> {
    yield* this.#using(node, DIRECT, O_RDWR | O_DIRECT, (file) => this.#submitsTo(node, file));
  }

  *#submitsTo(node: SimNode, file: File): Task<void> {
    for (let left = 1 + this.#below(3); left > 0; left--) {
      const completions: Thunk<void>[] = [];
      for (let n = 2 + this.#below(4); n > 0; n--) {
        this.#call();
        const [first, cells] = this.#some();
        const submits = this.#below(5) < 3 ? this.#submitsWrite : this.#submitsRead;
        yield* this.#mayFail(node, submits.call(this, node, file, first, cells, completions));
        if (this.#below(3) === 0) yield* this.#sleep(this.#below(5));
      }
      yield* all(completions);
      if (this.#syncs()) yield* this.#fsync(node, DIRECT, file);
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
  }

  /** Mostly whole pages. */
  #some(): [first: number, cells: number] {
    const unit = this.#below(4) === 0 ? 1 : PAGE_CELLS;
    const first = this.#below(CELLS / unit);
    return [first * unit, (1 + this.#below(CELLS / unit - first)) * unit];
  }

  *#submitsWrite(node: SimNode, file: File, first: number, n: number, completions: Thunk<void>[]): Task<void> {
    const value = ++this.#value;
    const done = this.#writeCells(DIRECT, file, first, n, node, value);
    const completed = yield* node.kernel!.submitWrite(file, first * CELL, cellBytes(value, n));
    function* written(): Task<void> {
      yield* completed;
      done();
    }
    completions.push(this.#completion(node, written()));
  }

  *#submitsRead(node: SimNode, file: File, first: number, n: number, completions: Thunk<void>[]): Task<void> {
    const called = this.history.now();
    const completed = yield* node.kernel!.submitRead(file, first * CELL, n * CELL);
    const self = this;
    function* read(): Task<void> {
      const bytes = yield* completed;
      for (let i = 0; i < n; i++)
        self.#readCell(node, DIRECT, first + i, bytes.subarray(i * CELL, (i + 1) * CELL), called);
    }
    completions.push(this.#completion(node, read()));
  }

  /** Runs from now on; to be waited for. */
  #completion(node: SimNode, task: Task<void>): Thunk<void> {
    let over = false;
    let failure: unknown = null;
    let hear = (): void => {};
    spawn(this.#mayFail(node, task), (err) => {
      [over, failure] = [true, err];
      hear();
    });
    return (cb) => {
      hear = () => cb(failure);
      if (over) hear();
    };
  }

  // The log -------------------------------------------------------------------------------------------------------------
  /** Records whose append(2) has returned; kept: for ever, as an fsync has returned since, or another node has found it. */
  readonly #log = new Map<number, { readonly node: SimNode; kept: boolean }>();
  /** What was found at each place, which never changes. */
  readonly #records = new Map<number, number>();
  /** Records that are being appended. */
  readonly #appending = new Map<number, SimNode>();
  /** Such as a disk did not take, and since when: they may be there or not, and then anything is in their place. */
  readonly #unwritten = new Map<number, { readonly node: SimNode; readonly lost: number; returned: boolean }>();

  *#appends(node: SimNode): Task<void> {
    yield* this.#using(node, LOG, O_WRONLY_APPEND, (file) => this.#appendsTo(node, file));
  }

  *#appendsTo(node: SimNode, file: File): Task<void> {
    for (let left = 1 + this.#below(4); left > 0; left--) {
      this.#call();
      yield* this.#mayFail(node, this.#append(node, file));
      if (this.#below(4) === 0) yield* this.#mayFail(node, this.#syncLog(node, file));
      yield* this.#sleep(this.#below(4) === 0 ? this.#below(THINK_MS) : 0);
    }
  }

  *#append(node: SimNode, file: File): Task<void> {
    const value = ++this.#value;
    this.history.writes++;
    this.#w.note(`program ${node.num} appends ${value}`);
    this.#appending.set(value, node);
    try {
      yield* node.kernel!.write(file, 0, cellBytes(value, 1).subarray(0, RECORD));
    } catch (err) {
      this.#unwritten.set(value, { node, lost: this.history.now(), returned: false });
      throw err;
    } finally {
      this.#appending.delete(value);
    }
    const unwritten = this.#unwritten.get(value);
    if (unwritten !== undefined) unwritten.returned = true;
    else if (!this.#isDead(node)) this.#log.set(value, { node, kept: false });
    this.#w.note(`program ${node.num} has appended ${value}`);
  }

  *#syncLog(node: SimNode, file: File): Task<void> {
    const mine = [...this.#log.values()].filter((r) => r.node === node);
    const unwritten = [...this.#unwritten].filter(([, r]) => r.node === node && r.returned);
    try {
      yield* node.kernel!.fsync(file);
    } catch (err) {
      this.#owed.set(file, this.history.now());
      throw err;
    }
    if (this.#isDead(node)) return;
    for (const r of mine) r.kept = true;
    for (const [value, { lost }] of unwritten) if (this.#owes(file, lost)) this.#isThere(value, node);
  }

  /** A disk did not take it, and an fsync has promised it all the same. */
  #isThere(value: number, node: SimNode): void {
    this.#unwritten.delete(value);
    this.#log.set(value, { node, kept: true });
  }

  #logFailed(node: SimNode): void {
    const lost = this.history.now();
    for (const [value, of] of this.#appending)
      if (of === node) this.#unwritten.set(value, { node, lost, returned: false });
    for (const value of this.#forget(node)) this.#unwritten.set(value, { node, lost, returned: true });
  }

  /** What of a node's records was neither synced nor found by another node is not expected any more. */
  #forget(node: SimNode): number[] {
    const gone = [...this.#log].filter(([, r]) => r.node === node && !r.kept).map(([value]) => value);
    for (const value of gone) this.#log.delete(value);
    for (const [at, found] of this.#records) if (gone.includes(found)) this.#records.delete(at);
    return gone;
  }

  *#readsLog(node: SimNode): Task<void> {
    yield* this.#using(node, LOG, 0, (file) => this.#readsAll(node, file));
  }

  /** Every record that was there before is there once, whole, and where it was. */
  *#readsAll(node: SimNode, file: File): Task<void> {
    const k = node.kernel!;
    this.#call();
    const missing = new Set(this.#log.keys());
    const size = yield* k.stat(file.inode, "size");
    this.#w.note(`program ${node.num} finds ${size} bytes of the log`);
    for (let at = 0; at < size; at += RECORD) {
      const bytes = yield* k.read(file, at, RECORD);
      this.history.reads++;
      if (this.#isDead(node)) return;
      this.#found(node, at, bytes, missing);
    }
    for (const value of missing) if (!this.#log.has(value)) missing.delete(value);
    if (missing.size > 0) throw new Error(`the log on node ${node.num} has ${size} bytes and not ${[...missing]}`);
    if (new Set(this.#records.values()).size !== this.#records.size) throw new Error("a record is in the log twice");
  }

  #found(node: SimNode, at: number, bytes: Uint8Array, missing: Set<number>): void {
    const before = this.#records.get(at);
    const { first } = wordsOf(bytes);
    // A place where a disk failed: nobody's, or that of a record which only its own node may still have.
    const nobodys = isTorn(bytes) || !(this.#log.has(first) || this.#appending.has(first));
    if (this.#unwritten.size > 0 && before === undefined && nobodys) return;
    const where = `the log at ${at} on node ${node.num}`;
    const value = cellValue(bytes, where);
    if (value === 0 || value !== (before ?? value)) throw new Error(`${where}: ${value}, and before ${before}`);
    this.#records.set(at, value);
    const record = this.#log.get(value);
    if (record !== undefined && record.node !== node) record.kept = true;
    missing.delete(value);
  }

  // Locks ---------------------------------------------------------------------------------------------------------------
  readonly flocks: Flocks;

  *#locks(node: SimNode): Task<void> {
    yield* this.#using(node, LOCKED, O_RDWR, (file) => this.#locksFile(node, file));
  }

  *#locksFile(node: SimNode, file: File): Task<void> {
    try {
      for (let left = 1 + this.#below(5); left > 0; left--) {
        this.#call();
        const kind = this.#below(5);
        if (kind === 0) yield* this.#flock(node, file, null, true);
        else yield* this.#flock(node, file, kind < 3, this.#below(3) > 0);
        yield* this.#sleep(this.#below(6) === 0 ? this.#below(2000) : this.#below(THINK_MS));
      }
      if (this.#below(3) === 0) yield* this.#flock(node, file, null, true);
    } finally {
      // The close gives it up.
      this.flocks.closed(file);
    }
  }

  *#flock(node: SimNode, file: File, exclusive: boolean | null, waits: boolean): Task<void> {
    const returned = this.flocks.call(node, file, exclusive);
    const thread = waits && exclusive !== null && this.#below(5) === 0 ? this.#unlocksMeanwhile(node, file) : null;
    // Which of the two comes first nobody knows.
    if (thread !== null) this.flocks.closed(file);
    const what = exclusive === null ? "unlock" : `${exclusive ? "exclusive" : "shared"}${waits ? "" : " at once"}`;
    this.#w.note(`program ${node.num} file ${file.fh} flock ${what}`);
    let signalled = false;
    const signal = (interrupt: () => void): void => {
      if (waits && exclusive !== null && this.#below(4) === 0)
        this.#w.clock.after(this.#below(300), () => {
          signalled = true;
          interrupt();
        });
    };
    let outcome: "done" | "refused" | "signal" = "done";
    try {
      yield* node.kernel!.flock(file, exclusive, waits, signal);
    } catch (err) {
      const errno = err instanceof FsError ? err.errno : 0;
      if (errno === Errno.EAGAIN && !waits) outcome = "refused";
      else if (errno === Errno.EINTR && signalled) outcome = "signal";
      else throw err;
    }
    if (this.#isDead(node)) return;
    this.#w.note(`program ${node.num} file ${file.fh} flock ${what}: ${outcome}`);
    if (thread !== null) {
      yield* wait(thread);
      this.flocks.closed(file);
      return;
    }
    if (this.#w.unsettled) this.flocks.doubt();
    const wrong = returned(outcome);
    if (wrong !== null) throw new Error(`flock ${what} on node ${node.num}: ${wrong}`);
  }

  /** Another thread gives the same open file's lock up while one waits for it. */
  #unlocksMeanwhile(node: SimNode, file: File): Thunk<void> {
    const self = this;
    function* unlock(): Task<void> {
      yield* self.#sleep(self.#below(200));
      self.#w.note(`program ${node.num} file ${file.fh} flock unlock by another thread`);
      yield* node.kernel!.flock(file, null, true);
    }
    return this.#completion(node, unlock());
  }

  *#fsync(node: SimNode, name: string, file: File): Task<void> {
    const writes = this.history.unsynced(lifeOf(node), name);
    this.#w.note(`program ${node.num} syncs ${name}`);
    try {
      yield* node.kernel!.fsync(file);
    } catch (err) {
      if (!this.#diskFailed(node, err)) throw err;
      this.errors++;
      this.#owed.set(file, this.history.now());
      this.#w.note(`program ${node.num} hears that ${name} is not synced`);
      return;
    }
    if (this.#isDead(node)) return;
    this.#w.note(`program ${node.num} has synced ${name}`);
    for (const { register, op } of writes) if (this.#owes(file, op.lost)) register.synced(op);
  }

  *#readsCell(node: SimNode, name: string, file: File, cell: number): Task<void> {
    const called = this.history.now();
    this.#readCell(node, name, cell, yield* node.kernel!.read(file, cell * CELL, CELL), called);
  }

  #readCell(node: SimNode, name: string, cell: number, bytes: Uint8Array, called: number): void {
    const register = this.#cell(name, cell);
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
      yield* this.#writesCells(node, name, file, this.#below(CELLS));
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
  if (other !== undefined) throw new Error(`${where} is torn: ${first} and ${other}`);
  return first;
}
