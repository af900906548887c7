/**
 * The disk that all nodes share, and each machine's way to it. I/O completes late and in any order; what a write's completion said is there
 * (caches that lose power are the business of test/crash). A way can be slow, it can stand still for a while, it can fail.
 *
 * What a write puts on the disk is what the memory holds when it completes, not when it was submitted; of a process that was killed, what it
 * held at its death. The device has a time-out: what it could not do within `timeout_ms` fails, and never happens later. That bound is
 * what fencing by the end of a process stands on (docs/CLUSTER.md).
 */

import { type BlockDevice, Durability, type IoDone } from "../../../src/block/device.ts";
import type { Clock, Random } from "../../../src/lib/clock.ts";
import { Errno } from "../../../src/lib/errno.ts";
import type { Arena } from "../../../src/wasm/arena.ts";
import { inPieces } from "../../support/vector_io.ts";
import type { SimProcess, SimThread } from "./threads.ts";

export const SECTOR = 512;
const PAGE = 4096;
/** Between two tries of a write that the gate refused (UringDevice). */
const GATE_MS = 50;

export class SimDisk {
  readonly bytes: Uint8Array;
  /** Pages that differ from those of the image that it began with, by number. */
  readonly touched = new Set<number>();
  /** Hears of every write that reaches the disk. */
  onWrite: (process: SimProcess, offset: number, len: number) => void = () => {};
  /** Hears of I/O that failed; a write may have come part of its way. */
  onFailed: (process: SimProcess, offset: number, len: number, write: boolean) => void = () => {};

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  put(process: SimProcess, data: Uint8Array, offset: number): void {
    if (data.length === 0) return;
    this.bytes.set(data, offset);
    for (let p = Math.floor(offset / PAGE); p * PAGE < offset + data.length; p++) this.touched.add(p);
    this.onWrite(process, offset, data.length);
  }
}

/** One I/O between its submission and its completion. */
interface Io {
  readonly process: SimProcess;
  readonly len: number;
  readonly offset: number;
  /** What a write puts there; null for reads and flushes. */
  data: (() => Uint8Array) | null;
  readonly submitted_ms: number;
  /** Reads take place here; the result. */
  readonly complete: () => number;
  readonly done: (res: number) => void;
  over: boolean;
}

export interface PathOptions {
  readonly disk: SimDisk;
  readonly clock: Clock;
  readonly random: Random;
  /** I/O takes less than this, when all is well. */
  readonly io_ms: number;
  readonly timeout_ms: number;
}

const overlaps = (io: Io, part: { readonly from: number; readonly to: number }): boolean =>
  io.offset < part.to && io.offset + io.len > part.from;

/** One machine's way to the disk. It outlives the processes of the machine. */
export class DiskPath {
  readonly disk: SimDisk;
  readonly #o: PathOptions;
  readonly #in_flight = new Set<Io>();
  readonly #waiting = new Set<Io>();
  /** Each I/O takes up to so much longer. */
  slow_ms = 0;
  #stands_still = false;
  /** Writes fail with EIO, or reads too. */
  failing: "no" | "writes" | "all" = "no";
  /** Writes there fail, or reads too. */
  bad: { readonly from: number; readonly to: number; readonly what: "writes" | "all" } | null = null;
  reads = 0;
  writes = 0;

  constructor(o: PathOptions) {
    this.#o = o;
    this.disk = o.disk;
  }

  below(n: number): number {
    return this.#o.random.u32() % n;
  }

  read(process: SimProcess, offset: number, len: number, into: (bytes: Uint8Array) => void, done: IoDone): void {
    this.reads++;
    this.#submit(process, offset, len, null, done, () => {
      into(this.disk.bytes.subarray(offset, offset + len));
      return len;
    });
  }

  write(process: SimProcess, offset: number, len: number, data: () => Uint8Array, done: IoDone): void {
    this.writes++;
    this.#submit(process, offset, len, data, done, () => len);
  }

  flush(process: SimProcess, done: IoDone): void {
    this.#submit(process, 0, 0, null, done, () => 0);
  }

  #submit(
    process: SimProcess,
    offset: number,
    len: number,
    data: (() => Uint8Array) | null,
    done: IoDone,
    complete: () => number,
  ): void {
    const { clock } = this.#o;
    const io: Io = { process, len, offset, data, submitted_ms: clock.monotonic_ms(), complete, done, over: false };
    this.#in_flight.add(io);
    const fast = (this.below(1000) / 1000) * this.#o.io_ms;
    const ms = this.slow_ms === 0 ? fast : fast + (this.below(1000) / 1000) * this.slow_ms;
    if (ms < this.#o.timeout_ms) clock.after(ms, () => this.#arrive(io));
    else clock.after(this.#o.timeout_ms, () => this.#fail(io));
  }

  #arrive(io: Io): void {
    if (io.over) return;
    if (this.#stands_still) {
      this.#waiting.add(io);
      const left = io.submitted_ms + this.#o.timeout_ms - this.#o.clock.monotonic_ms();
      this.#o.clock.after(Math.max(0, left), () => this.#fail(io));
      return;
    }
    if (
      this.#fails(io, this.failing) ||
      (this.bad !== null && overlaps(io, this.bad) && this.#fails(io, this.bad.what))
    )
      this.#fail(io);
    else this.#end(io, true);
  }

  #fails(io: Io, what: "no" | "writes" | "all"): boolean {
    return what === "all" || (what === "writes" && io.data !== null);
  }

  #end(io: Io, good: boolean): void {
    if (io.over) return;
    io.over = true;
    this.#in_flight.delete(io);
    this.#waiting.delete(io);
    if (good && io.data !== null) this.disk.put(io.process, io.data(), io.offset);
    // The memory of a process that is gone is read into no more.
    if (io.process.alive) io.done(good ? io.complete() : -Errno.EIO);
  }

  /** The device gives it up; a write may have come part of its way. */
  #fail(io: Io): void {
    if (io.over) return;
    if (io.data !== null && this.below(3) === 0) this.#putPart(io);
    this.disk.onFailed(io.process, io.offset, io.len, io.data !== null);
    this.#end(io, false);
  }

  #putPart(io: Io): void {
    const sectors = this.below(io.len / SECTOR + 1);
    this.disk.put(io.process, io.data!().subarray(0, sectors * SECTOR), io.offset);
  }

  standStill(): void {
    this.#stands_still = true;
  }

  goOn(): void {
    this.#stands_still = false;
    for (const io of [...this.#waiting]) {
      this.#waiting.delete(io);
      this.#o.clock.after((this.below(1000) / 1000) * this.#o.io_ms, () => this.#arrive(io));
    }
  }

  /** The process has died; what it had submitted goes on, from memory that stays as it is. */
  freeze(process: SimProcess): void {
    for (const io of this.#in_flight) {
      if (io.process !== process || io.data === null) continue;
      const bytes = io.data().slice();
      io.data = () => bytes;
    }
  }

  /** The machine is without power: of each write in flight all, a part or nothing has reached the disk. */
  powerOff(): void {
    for (const io of [...this.#in_flight]) {
      const fate = this.below(3);
      if (io.data !== null && fate === 0) this.disk.put(io.process, io.data(), io.offset);
      else if (io.data !== null && fate === 1) this.#putPart(io);
      io.over = true;
      this.#in_flight.delete(io);
      this.#waiting.delete(io);
    }
  }

  /** Writes of a process that are in flight. */
  writesOf(process: SimProcess): number {
    let n = 0;
    for (const io of this.#in_flight) if (io.process === process && io.data !== null) n++;
    return n;
  }
}

/** The write gate: CLOCK_BOOTTIME until when writes may be submitted (native/src/fence.rs). */
export class Lease {
  deadline_ms = 0;
  /** Shut for good. */
  shut = false;

  isShut(now_ms: number): boolean {
    return this.shut || now_ms >= this.deadline_ms;
  }
}

/**
 * A volume's device on one node, as UringDevice over the thread's ring: writes that were queued pass the gate when they are submitted, at
 * the end of a turn.
 */
export class SimDevice implements BlockDevice {
  readonly name = "simulated";
  readonly readonly = false;
  readonly alignment_bytes = SECTOR;
  readonly #arena: Arena;
  readonly #path: DiskPath;
  readonly #thread: SimThread;
  readonly #lease: Lease;
  #queued: (() => void)[] = [];
  readonly durability = new Durability();
  /** Writes that the gate refused. */
  refused = 0;

  constructor(arena: Arena, path: DiskPath, thread: SimThread, lease: Lease) {
    this.#arena = arena;
    this.#path = path;
    this.#thread = thread;
    this.#lease = lease;
  }

  get size_bytes(): number {
    return this.#path.disk.bytes.length;
  }

  #back(done: IoDone): IoDone {
    return (res) => this.#thread.deliver(() => done(res));
  }

  read(addr: number, len: number, offset: number, done: IoDone): void {
    if (offset < 0 || offset + len > this.size_bytes) return done(-Errno.EIO);
    const into = (bytes: Uint8Array): void => this.#arena.u8.set(bytes, addr);
    this.#queued.push(() => this.#path.read(this.#thread.process, offset, len, into, this.#back(done)));
  }

  write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    if (offset < 0 || offset + len > this.size_bytes) return done(-Errno.EIO);
    const back = this.#back((res) => {
      if (res > 0 && !dsync) this.durability.written++;
      done(res);
    });
    const data = (): Uint8Array => this.#arena.u8.subarray(addr, addr + len);
    const go = (): void => {
      if (this.#lease.isShut(this.#thread.clock.monotonic_ms())) {
        this.refused++;
        this.#thread.clock.after(GATE_MS, () => this.#queued.push(go));
      } else this.#path.write(this.#thread.process, offset, len, data, back);
    };
    this.#queued.push(go);
  }

  readv(iov: readonly number[], offset: number, done: IoDone): void {
    inPieces(iov, offset, done, (a, l, o, cb) => this.read(a, l, o, cb));
  }

  writev(iov: readonly number[], offset: number, done: IoDone): void {
    inPieces(iov, offset, done, (a, l, o, cb) => this.write(a, l, o, cb));
  }

  flush(done: IoDone): void {
    const { written } = this.durability;
    const back = this.#back((res) => {
      if (res >= 0) this.durability.flush(written);
      done(res);
    });
    this.#queued.push(() => this.#path.flush(this.#thread.process, back));
  }

  discard(_offset: number, _len: number, done: IoDone): void {
    this.#queued.push(() => this.#path.flush(this.#thread.process, this.#back(done)));
  }

  submit(): void {
    const queued = this.#queued;
    this.#queued = [];
    for (const go of queued) go();
  }

  pump(): boolean {
    throw new Error("a node of the simulation waits in its loop only");
  }

  close(): void {
    this.submit();
  }
}
