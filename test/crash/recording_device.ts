/**
 * A disk in memory that keeps a diary of all that was written and flushed, so that every state in which a power cut could
 * have left it can be made afterwards. Its completions come late and in random order, as a queue's do.
 *
 * Fault model. A write is in the device's volatile cache from its submission on. It is durable for sure once a flush has
 * ended that began after the write had ended, or, for a dsync write, once it has ended itself. Of what is not durable, the cut keeps any
 * selection of sectors (512 bytes, whole or not at all). Memory that is changed while it is being written lands as it was at the start
 * or at the end, sector by sector. Not in the model: a durable sector that decays, and a device that lies about flushes.
 */
import type { IoDone } from "../../src/block/device.ts";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import type { Arena } from "../../src/lib/arena.ts";
import { type Random, seededRandom } from "../../src/lib/clock.ts";

export const SECTOR_BYTES = 512;

export interface WriteRecord {
  readonly kind: "write";
  /** Times are counts of entries and completions since the start. */
  readonly at: number;
  done_at: number;
  readonly offset: number;
  /** What the memory held when the write was submitted. */
  readonly data: Uint8Array;
  /** What it held when the write ended, if that differs. */
  late: Uint8Array | undefined;
  readonly dsync: boolean;
}

export interface FlushRecord {
  readonly kind: "flush";
  readonly at: number;
  done_at: number;
}

export type DiaryEntry = WriteRecord | FlushRecord;

/** For a planted fault: which bytes of a write never come to the disk, though the memory of the machine has them; undefined: none. */
export type Loses = (data: Uint8Array) => { from: number; to: number } | undefined;

const NEVER = Number.POSITIVE_INFINITY;

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

export class RecordingDevice extends MemoryDevice {
  readonly diary: DiaryEntry[] = [];
  /** Two writes of one sector, or a read of a sector under write, were in flight at once: the result is anybody's guess. */
  readonly races: string[] = [];
  readonly #queue: (() => void)[] = [];
  readonly #arena: Arena;
  readonly #random: Random;
  readonly #inFlight = new Set<WriteRecord>();
  readonly #loses: Loses | undefined;
  #clock = 0;

  constructor(arena: Arena, data: Uint8Array, seed: number, loses?: Loses) {
    super(arena, data, { name: "recording" });
    this.#loses = loses;
    this.#arena = arena;
    this.#random = seededRandom(seed);
  }

  /** Time on the device's own count; a cut at this moment sees everything recorded so far. */
  get now(): number {
    return this.#clock;
  }

  #start(offset: number, data: Uint8Array, dsync: boolean): WriteRecord {
    if (offset < 0 || offset + data.length > this.data.length)
      throw new Error(`a stray write: ${data.length} bytes at ${offset} of a disk of ${this.data.length}`);
    for (const w of this.#inFlight)
      if (w.offset < offset + data.length && offset < w.offset + w.data.length)
        this.races.push(
          `write of ${data.length} bytes at ${offset} while ${w.data.length} at ${w.offset} is in flight`,
        );
    const record: WriteRecord = {
      kind: "write",
      at: ++this.#clock,
      done_at: NEVER,
      offset,
      data,
      late: undefined,
      dsync,
    };
    this.diary.push(record);
    this.#inFlight.add(record);
    return record;
  }

  #end(record: WriteRecord, now: Uint8Array): void {
    record.done_at = ++this.#clock;
    this.#inFlight.delete(record);
    if (!equal(now, record.data)) record.late = now;
  }

  #copy(iov: readonly number[]): Uint8Array {
    const { u8 } = this.#arena;
    const parts: Uint8Array[] = [];
    for (let i = 0; i < iov.length; i += 2) parts.push(u8.subarray(iov[i]!, iov[i]! + iov[i + 1]!));
    return new Uint8Array(Buffer.concat(parts));
  }

  #writeLater(iov: readonly number[], offset: number, done: IoDone, dsync: boolean): void {
    const own = [...iov];
    const copy = (): Uint8Array => this.#withFault(this.#copy(own), offset);
    const record = this.#start(offset, copy(), dsync);
    this.#queue.push(() => {
      const now = copy();
      this.#end(record, now);
      this.data.set(now, offset);
      if (!dsync) this.durability.written++;
      done(now.length);
    });
  }

  #withFault(data: Uint8Array, offset: number): Uint8Array {
    const lost = this.#loses?.(data);
    if (lost !== undefined) data.set(this.data.subarray(offset + lost.from, offset + lost.to), lost.from);
    return data;
  }

  override read(addr: number, len: number, offset: number, done: IoDone): void {
    this.#queue.push(() => super.read(addr, len, offset, done));
  }

  override readv(iov: readonly number[], offset: number, done: IoDone): void {
    const own = [...iov];
    this.#queue.push(() => {
      let total = 0;
      for (let i = 0; i < own.length; i += 2)
        super.read(own[i]!, own[i + 1]!, offset + total, (res) => {
          total += res;
        });
      done(total);
    });
  }

  override write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    this.#writeLater([addr, len], offset, done, dsync);
  }

  override writev(iov: readonly number[], offset: number, done: IoDone): void {
    this.#writeLater(iov, offset, done, false);
  }

  override flush(done: IoDone): void {
    const record: FlushRecord = { kind: "flush", at: ++this.#clock, done_at: NEVER };
    this.diary.push(record);
    const { written } = this.durability;
    this.#queue.push(() => {
      record.done_at = ++this.#clock;
      this.durability.flush(written);
      done(0);
    });
  }

  /** Something else that may happen while the disk works: a random event of a LockDomain. False when there is none. */
  alsoHappens: (() => boolean) | undefined;

  /** Completes one of what is in flight, mostly an old one. */
  override pump(): boolean {
    if (
      this.alsoHappens !== undefined &&
      (this.#queue.length === 0 || this.#random.u32() % 3 === 0) &&
      this.alsoHappens()
    )
      return true;
    if (this.#queue.length === 0) return false;
    const window = Math.min(this.#queue.length, 8);
    const [run] = this.#queue.splice(this.#random.u32() % window, 1);
    run!();
    return true;
  }
}
