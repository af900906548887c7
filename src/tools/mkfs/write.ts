/**
 * Puts a planned volume on a device: zeros first, then the blocks, gathered into long writes; the super block after everything else
 * is on the disk, so that a volume which was cut short is not taken for one.
 */
import { createArena } from "../../wasm/arena.ts";
import { createKernels, type Kernels } from "../../wasm/kernels.ts";
import { MIB } from "./params.ts";
import { NO_CHECK, type Piece, STAGES, type Stage } from "./piece.ts";
import type { VolumePlan } from "./plan.ts";

/** Where a volume is written. All calls throw what the system answered. */
export interface MkfsSink {
  write(bytes: Uint8Array, off_bytes: number): void;
  /** Makes a range read as zeros; does nothing where it does already. */
  zero(off_bytes: number, len_bytes: number): void;
  /** Returns when all that was written is on the disk. */
  sync(): void;
}

export interface WriteHooks {
  stage?(stage: Stage): void;
  /** After each write, with the parts of the work that are done. */
  progress?(done: number, total: number): void;
}

const BUFFER_BYTES = MIB;
/** Zeros are weighed against blocks for the progress by this size. */
const ZERO_UNIT_BYTES = MIB;

/** Renders pieces into one buffer and writes each run of adjacent blocks at once. */
class Batch {
  readonly #sink: MkfsSink;
  readonly #block_size: number;
  readonly #bytes: Uint8Array;
  readonly #dv: DataView;
  /** Address of the buffer in these. */
  readonly #buffer: number;
  readonly #kernels: Kernels | undefined;
  #start_blkno = 0;
  #len_bytes = 0;

  constructor(sink: MkfsSink, block_size: number, metaecc: boolean) {
    this.#sink = sink;
    this.#block_size = block_size;
    const arena = metaecc ? createArena(2 * (BUFFER_BYTES / MIB)) : undefined;
    this.#bytes = arena?.u8 ?? new Uint8Array(BUFFER_BYTES);
    this.#dv = new DataView(this.#bytes.buffer);
    this.#buffer = arena?.alloc(BUFFER_BYTES, 4096) ?? 0;
    this.#kernels = arena && createKernels(arena);
  }

  add(piece: Piece): void {
    const len = piece.blocks * this.#block_size;
    const adjacent = piece.blkno * this.#block_size === this.#start_blkno * this.#block_size + this.#len_bytes;
    if (!adjacent || this.#len_bytes + len > BUFFER_BYTES) {
      this.flush();
      this.#start_blkno = piece.blkno;
    }
    const at = this.#buffer + this.#len_bytes;
    this.#bytes.fill(0, at, at + len);
    piece.render(this.#dv, at);
    if (piece.check_off !== NO_CHECK) this.#kernels?.blockCheckCompute(at, this.#block_size, piece.check_off);
    this.#len_bytes += len;
  }

  flush(): void {
    if (this.#len_bytes > 0) {
      const bytes = this.#bytes.subarray(this.#buffer, this.#buffer + this.#len_bytes);
      this.#sink.write(bytes, this.#start_blkno * this.#block_size);
    }
    this.#len_bytes = 0;
  }
}

const zeroUnits = (len_bytes: number): number => Math.ceil(len_bytes / ZERO_UNIT_BYTES);

/** Writes the volume and returns when it is on the disk. */
export function writeVolume(plan: VolumePlan, sink: MkfsSink, hooks: WriteHooks = {}): void {
  const total = STAGES.reduce((n, s) => {
    const { zeros, piece_count } = plan.stages[s];
    return n + piece_count + zeros.reduce((m, z) => m + zeroUnits(z.len_bytes), 0);
  }, 0);
  let done = 0;
  const batch = new Batch(sink, plan.geometry.block_size, plan.metaecc);
  for (const name of STAGES) {
    const stage = plan.stages[name];
    hooks.stage?.(name);
    if (name === "superblock") sink.sync();
    for (const z of stage.zeros) {
      sink.zero(z.off_bytes, z.len_bytes);
      hooks.progress?.((done += zeroUnits(z.len_bytes)), total);
    }
    for (const piece of stage.pieces) {
      batch.add(piece);
      hooks.progress?.(++done, total);
    }
    batch.flush();
  }
  sink.sync();
}
