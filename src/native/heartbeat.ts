/**
 * One region's heartbeat on the disk: starts the native thread and turns what it leaves behind into samples. Decisions are
 * cluster/heartbeat.ts's.
 */
import { array, hex64, reserved, s32, struct, u8, u32, u64, type ViewOf } from "../format/struct.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import * as native from "./index.ts";

const SampleSlot = struct("heartbeat_slot", 0x20, "le", {
  hb_seq: u64(0x00, "of the block"),
  hb_generation: hex64(0x08, "of the block"),
  hb_dead_ms: u32(0x10, "of the block"),
  hb_node: u8(0x14, "of the block"),
  crc_ok: u8(0x15, "the block's checksum is right"),
  _pad: reserved(0x16, 10),
});

/** The other half is Region::sample of native/src/heartbeat.rs. Times are CLOCK_BOOTTIME in ms, as bits of a double. */
const Sample = struct("heartbeat_sample", 0x40 + 255 * 0x20, "le", {
  number: u64(0x00, "0: before the first write"),
  start: hex64(0x08, "when the beat began"),
  submit: hex64(0x10, "when the write was submitted"),
  complete: hex64(0x18, "when it had completed"),
  read_rc: s32(0x20, "0 or -errno"),
  write_rc: s32(0x24, "0 or -errno"),
  own: u32(0x28, "what was in our own slot: an index of OWN_SLOT"),
  first: u32(0x2c, "first slot that was read"),
  count: u32(0x30, "how many"),
  lost: u32(0x34, "samples that nobody fetched in time, since the start"),
  _pad: reserved(0x38, 8),
  slots: array(0x40, SampleSlot, 255, "the slots"),
});
type Sample = ViewOf<typeof Sample>;

/** What was found in our own slot: nothing to compare with, what we wrote, or what somebody else did. */
export const OWN_SLOT = ["unknown", "ok", "node", "generation", "sequence"] as const;
export type OwnSlot = (typeof OWN_SLOT)[number];

export interface SlotSample {
  readonly seq: number;
  readonly generation: bigint;
  readonly dead_ms: number;
  readonly node: number;
  readonly crc_ok: boolean;
}

export interface BeatSample {
  readonly number: number;
  readonly start_ms: number;
  readonly submit_ms: number;
  readonly complete_ms: number;
  readonly read_rc: number;
  readonly write_rc: number;
  readonly own: OwnSlot;
  /** The slot of slots[0]. Our own has what was just written. */
  readonly first: number;
  readonly slots: readonly SlotSample[];
  readonly lost: number;
}

export interface DiskHeartbeatOptions {
  /** A block device or a file; every node must reach the same bytes. */
  readonly path: string;
  readonly offset_bytes: number;
  /** The device's logical block size, 512 for a file: what o2cb calls block_bytes. */
  readonly slot_bytes: number;
  readonly node: number;
  readonly generation: bigint;
  readonly dead_ms: number;
  readonly interval_ms: number;
  /** From the submission of a completed write: until when writes may be submitted, and when the process ends. */
  readonly lease_ms: number;
  readonly fence_ms: number;
  /** The lease that it moves. LEASE_OPEN: none. */
  readonly lease: number;
  /** Of regions of the same lease: false, none may be late (each is a volume's own); true, fewer than half (global heartbeat). */
  readonly global: boolean;
  readonly first: number;
  readonly last: number;
}

const double = new DataView(new ArrayBuffer(8));
function ms(bits: bigint): number {
  double.setBigUint64(0, bits);
  return double.getFloat64(0);
}

export class DiskHeartbeat {
  readonly #id: number;
  readonly #bytes = new Uint8Array(Sample.size);
  readonly #sample: Sample = Sample.from(this.#bytes);
  readonly #onBeat: (beat: BeatSample) => void;
  readonly #onEnd: () => void;
  #ended = false;

  /** Throws FsError when the device cannot be opened (EINVAL: no O_DIRECT there). */
  constructor(o: DiskHeartbeatOptions, onBeat: (beat: BeatSample) => void, onEnd: () => void) {
    this.#onBeat = onBeat;
    this.#onEnd = onEnd;
    this.#id = native.heartbeatStart(
      {
        path: o.path,
        offset: o.offset_bytes,
        slotBytes: o.slot_bytes,
        node: o.node,
        generationLo: Number(o.generation & 0xffffffffn),
        generationHi: Number(o.generation >> 32n),
        deadMs: o.dead_ms,
        intervalMs: o.interval_ms,
        leaseMs: o.lease_ms,
        fenceMs: o.fence_ms,
        lease: o.lease,
        global: o.global,
        first: o.first,
        last: o.last,
      },
      native.fatalCallback(() => this.#drain()),
    );
    if (this.#id === -Errno.EINVAL)
      throw new FsError(Errno.EINVAL, "heartbeat", {
        path: o.path,
        what: "its file system has no O_DIRECT: use another one",
      });
    if (this.#id < 0) throw new FsError(-this.#id, "heartbeat", { path: o.path });
  }

  #drain(): void {
    while (!this.#ended && native.heartbeatTake(this.#id, this.#bytes)) this.#onBeat(this.#read());
    if (this.#ended || !native.heartbeatEnded(this.#id)) return;
    this.#ended = true;
    this.#onEnd();
  }

  #read(): BeatSample {
    const s = this.#sample;
    const slots: SlotSample[] = [];
    for (let i = 0; i < s.count; i++) {
      const slot = s.slots.at(i);
      slots.push({
        seq: slot.hb_seq,
        generation: slot.hb_generation,
        dead_ms: slot.hb_dead_ms,
        node: slot.hb_node,
        crc_ok: slot.crc_ok !== 0,
      });
    }
    return {
      number: s.number,
      start_ms: ms(s.start),
      submit_ms: ms(s.submit),
      complete_ms: ms(s.complete),
      read_rc: s.read_rc,
      write_rc: s.write_rc,
      own: OWN_SLOT[s.own] ?? "unknown",
      first: s.first,
      slots,
      lost: s.lost,
    };
  }

  setSlots(first: number, last: number): void {
    if (!this.#ended) native.heartbeatSetSlots(this.#id, first, last);
  }

  /** Deadlines begin. False: no write of ours has been found again yet. */
  arm(): boolean {
    return !this.#ended && native.heartbeatArm(this.#id);
  }

  extend(): void {
    if (!this.#ended) native.heartbeatExtend(this.#id);
  }

  prove(): void {
    if (!this.#ended) native.heartbeatProve(this.#id);
  }

  shut(): void {
    if (!this.#ended) native.heartbeatShut(this.#id);
  }

  /** Ms since the submission of the last write that completed. */
  age_ms(): number {
    return this.#ended ? Number.POSITIVE_INFINITY : native.heartbeatAgeMs(this.#id);
  }

  stop(leave: boolean): void {
    if (!this.#ended) native.heartbeatStop(this.#id, leave);
  }
}
