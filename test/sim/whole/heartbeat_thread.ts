/**
 * The heartbeat's native thread and the watch beside it (native/src/heartbeat.rs), over the simulated disk and in virtual time: the same
 * steps in the same order, with the bytes on the disk that the real one writes. The native one is tested by itself
 * (src/native/heartbeat.test.ts); what stands here is its contract, so that what is decided from its samples is the real code.
 */
import { crc32 } from "node:zlib";
import type { RegionDisk } from "../../../src/cluster/heartbeat.ts";
import { HeartbeatBlock } from "../../../src/format/disk/heartbeat.ts";
import type { Random } from "../../../src/lib/clock.ts";
import type { BeatSample, OwnSlot, SlotSample } from "../../../src/native/heartbeat.ts";
import type { DiskPath, Lease } from "./disk.ts";
import type { SimProcess, SimThread } from "./threads.ts";

export const SLOT_BYTES = 512;
/** Samples that wait for JavaScript. */
const QUEUE = 64;
/** The watch looks so often. */
const WATCH_MS = 50;

const crcOf = (block: Uint8Array): number => {
  const copy = block.slice();
  copy.fill(0, 12, 16);
  return ~crc32(copy, 0xffffffff) >>> 0;
};

export interface HeartbeatThreadOptions {
  readonly path: DiskPath;
  readonly thread: SimThread;
  readonly random: Random;
  readonly offset_bytes: number;
  readonly node: number;
  readonly generation: bigint;
  readonly dead_ms: number;
  readonly interval_ms: number;
  readonly lease_ms: number;
  readonly fence_ms: number;
  readonly lease: Lease;
  readonly first: number;
  readonly last: number;
  /** Samples wait; called on the heartbeat's thread, like the native callback. */
  readonly onBeat: () => void;
  readonly onEnd: () => void;
  /** SIGKILL to the process. */
  readonly fence: () => void;
}

export class HeartbeatThread implements RegionDisk {
  readonly #o: HeartbeatThreadOptions;
  readonly #process: SimProcess;
  readonly #samples: BeatSample[] = [];
  #first = 0;
  #last = 0;
  #armed = false;
  #shut = false;
  #stop: "run" | "leave" | "drop" = "run";
  #ended = false;
  /** Submission of the last write that completed and was found again. */
  #submitted_ms = -1;
  #fence_at_ms = 0;
  /** A write has completed so late that others may have declared us dead: the lease is not moved. */
  #unproven = false;
  #number = 0;
  #lost = 0;
  #wrote: number | null = null;
  /** What the device said it had not taken since; it may have. */
  #refused: number[] = [];
  #wake: (() => void) | null = null;
  #watching = false;
  /** The next beat begins so much later than it should. */
  late_ms = 0;

  constructor(o: HeartbeatThreadOptions) {
    this.#o = o;
    this.#process = o.thread.process;
    this.setSlots(o.first, o.last);
    o.thread.deliver(() => this.#beat());
  }

  #now(): number {
    return this.#o.thread.clock.monotonic_ms();
  }

  // The beat ------------------------------------------------------------------------------------------------------------
  #beat(): void {
    const start_ms = this.#now();
    const { path, offset_bytes } = this.#o;
    const first = this.#first;
    const len = (this.#last + 1 - first) * SLOT_BYTES;
    let area = new Uint8Array(0);
    const into = (bytes: Uint8Array): void => {
      area = bytes.slice();
    };
    path.read(this.#process, offset_bytes + first * SLOT_BYTES, len, into, (res) =>
      this.#o.thread.deliver(() => this.#readDone(start_ms, first, area, res)),
    );
  }

  #readDone(start_ms: number, first: number, area: Uint8Array, res: number): void {
    const read_rc = Math.min(res, 0);
    // The first look only says what was there before (o2hb_populate_slot_data).
    if (this.#number === 0 || read_rc !== 0) {
      this.#sample(
        { start_ms, submit_ms: start_ms, complete_ms: start_ms, read_rc, write_rc: 0, own: "unknown" },
        first,
        area,
      );
      this.#next(start_ms);
      return;
    }
    const at = (this.#o.node - first) * SLOT_BYTES;
    const own = this.#own(area.subarray(at, at + SLOT_BYTES));
    const { block, seq } = this.#block(this.#o.generation);
    area.set(block, at);
    const submit_ms = this.#now();
    this.#write(block, (write_rc) => {
      if (write_rc !== 0) this.#refused.push(seq);
      else {
        this.#wrote = seq;
        this.#refused = [];
        // A slot that somebody else writes is no heartbeat of ours.
        if (own === "ok") this.#good(submit_ms);
      }
      this.#sample({ start_ms, submit_ms, complete_ms: this.#now(), read_rc, write_rc, own }, first, area);
      this.#next(start_ms);
    });
  }

  #own(mine: Uint8Array): OwnSlot {
    const b = HeartbeatBlock.from(mine);
    if (this.#wrote === null) return "unknown";
    if (b.hb_node !== this.#o.node) return "node";
    if (b.hb_generation !== this.#o.generation) return "generation";
    return b.hb_seq === this.#wrote || this.#refused.includes(b.hb_seq) ? "ok" : "sequence";
  }

  #block(generation: bigint): { block: Uint8Array; seq: number } {
    const block = new Uint8Array(SLOT_BYTES);
    const b = HeartbeatBlock.from(block);
    const seq = Math.max(1, this.#o.thread.clock.realtime().sec);
    b.hb_seq = seq;
    b.hb_node = this.#o.node;
    b.hb_generation = generation;
    b.hb_dead_ms = this.#o.dead_ms;
    b.hb_cksum = crcOf(block);
    return { block, seq };
  }

  #write(block: Uint8Array, done: (rc: number) => void): void {
    if (this.#fenceIfLate()) return;
    const offset = this.#o.offset_bytes + this.#o.node * SLOT_BYTES;
    this.#o.path.write(
      this.#process,
      offset,
      SLOT_BYTES,
      () => block,
      (res) => this.#o.thread.deliver(() => done(Math.min(res, 0))),
    );
  }

  #good(submit_ms: number): void {
    if (this.#armed && submit_ms - this.#submitted_ms >= this.#o.fence_ms) this.#unproven = true;
    this.#submitted_ms = submit_ms;
    this.#fence_at_ms = Math.max(this.#fence_at_ms, submit_ms + this.#o.fence_ms);
    if (this.#armed) this.#renew();
  }

  #renew(): void {
    if (this.#shut) return;
    this.#o.lease.deadline_ms = this.#unproven ? 0 : this.#submitted_ms + this.#o.lease_ms;
  }

  #sample(beat: Omit<BeatSample, "number" | "first" | "slots" | "lost">, first: number, area: Uint8Array): void {
    const slots: SlotSample[] = [];
    if (beat.read_rc === 0)
      for (let at = 0; at < area.length; at += SLOT_BYTES) {
        const block = area.subarray(at, at + SLOT_BYTES);
        const b = HeartbeatBlock.from(block);
        slots.push({
          seq: b.hb_seq,
          generation: b.hb_generation,
          dead_ms: b.hb_dead_ms,
          node: b.hb_node,
          crc_ok: crcOf(block) === b.hb_cksum,
        });
      }
    if (this.#samples.length === QUEUE) {
      this.#samples.shift();
      this.#lost++;
    }
    this.#samples.push({ number: this.#number, first, slots, lost: this.#lost, ...beat });
    this.#o.onBeat();
  }

  #next(start_ms: number): void {
    this.#number++;
    if (this.#stop !== "run") {
      this.#finish();
      return;
    }
    const late_ms = this.late_ms;
    this.late_ms = 0;
    const wait_ms = this.#number > 1 ? start_ms + this.#o.interval_ms - this.#now() : 0;
    const go = (): void => {
      if (this.#wake !== go) return;
      this.#wake = null;
      if (this.#stop === "run") this.#beat();
      else this.#finish();
    };
    this.#wake = go;
    this.#o.thread.clock.after(Math.max(0, wait_ms) + late_ms, go);
  }

  #finish(): void {
    const end = (): void => {
      // After the last write: without deadlines there is no watch.
      this.#armed = false;
      this.#ended = true;
      this.#o.onEnd();
    };
    if (this.#stop !== "leave") end();
    else this.#write(this.#block(0n).block, end);
  }

  // The deadline --------------------------------------------------------------------------------------------------------
  #fenceIfLate(): boolean {
    if (!this.#armed || this.#now() < this.#fence_at_ms) return false;
    this.#o.fence();
    return true;
  }

  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    const left = Math.max(0, this.#fence_at_ms - this.#now());
    this.#o.thread.clock.after(left, () => {
      // It sleeps between its looks.
      this.#o.thread.clock.after(this.#o.random.u32() % WATCH_MS, () => {
        this.#watching = false;
        if (!this.#armed || this.#fenceIfLate()) return;
        this.#watch();
      });
    });
  }

  // What JavaScript asks for --------------------------------------------------------------------------------------------
  take(): BeatSample | undefined {
    return this.#samples.shift();
  }

  get ended(): boolean {
    return this.#ended;
  }

  setSlots(first: number, last: number): void {
    this.#first = Math.min(first, this.#o.node);
    this.#last = Math.max(last, this.#o.node);
  }

  arm(): boolean {
    if (this.#submitted_ms < 0) return false;
    this.#armed = true;
    this.#renew();
    this.#watch();
    return true;
  }

  extend(): void {
    if (this.#fenceIfLate()) return;
    if (this.#armed) this.#fence_at_ms = Math.max(this.#fence_at_ms, this.#now() + this.#o.fence_ms);
  }

  prove(): void {
    this.#unproven = false;
    this.#renew();
  }

  shut(): void {
    this.#shut = true;
    this.#o.lease.shut = true;
  }

  stop(leave: boolean): void {
    this.#stop = leave ? "leave" : "drop";
    // A nap ends at once.
    const wake = this.#wake;
    if (wake !== null) this.#o.thread.deliver(wake);
  }
}
