/** Volumes and memory of the simulation. Both are large, so those of a seed that is over serve the next one. */
import { closeSync, existsSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { arenaDontFork, registerArena } from "../../../src/native/index.ts";
import { heartbeatAreaOn } from "../../../src/tools/heartbeat_area.ts";
import { findExisting } from "../../../src/tools/mkfs/existing.ts";
import type { RawOptions } from "../../../src/tools/mkfs/options.ts";
import { type Arena, createArena } from "../../../src/wasm/arena.ts";
import { tempDir } from "../../support/cleanup.ts";
import { clusterImage } from "../../support/cluster.ts";
import { fsck } from "../../support/judges.ts";
import { SIM_VOLUMES } from "../volumes.ts";
import { SECTOR } from "./disk.ts";

const PAGE = 4096;
const ZEROS = Buffer.alloc(PAGE);

/** A copy that has memory only where there is something in it: most of a volume is never used, and each judge is forked with all that is. */
function sparseCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, at + PAGE);
    if (ZEROS.compare(page) !== 0) copy.set(page, at);
  }
  return copy;
}

/** A volume that a world works on; afterwards it is made as it was. */
export class SimVolume {
  readonly bytes: Uint8Array;
  readonly uuid: string;
  readonly heartbeat_offset: number;
  readonly blocksize: number;
  readonly #pristine: Uint8Array;
  /** What fsck.ocfs2 -fn said when it was new. */
  #known: string[] | null = null;
  readonly #file = join(tempDir("ocfs2-sim", existsSync("/dev/shm") ? { base: "/dev/shm" } : {}), "img");
  /** Pages in which the file differs from the pristine volume. */
  readonly #file_pages = new Set<number>();
  #file_made = false;

  constructor(options: RawOptions, slots: number) {
    this.#pristine = sparseCopy(clusterImage(options, 16 + 12 * slots, slots));
    this.bytes = sparseCopy(this.#pristine);
    const readAt = (off: number, len: number): Uint8Array => this.#pristine.subarray(off, off + len);
    const found = findExisting(readAt)!;
    this.uuid = found.uuid;
    this.blocksize = found.block_size;
    this.heartbeat_offset = heartbeatAreaOn(readAt, SECTOR).offset_bytes;
  }

  restore(touched: Iterable<number>): void {
    for (const p of touched) this.bytes.set(this.#pristine.subarray(p * PAGE, (p + 1) * PAGE), p * PAGE);
  }

  #write(touched: ReadonlySet<number>): void {
    const fd = openSync(this.#file, this.#file_made ? "r+" : "w+");
    try {
      if (!this.#file_made) {
        ftruncateSync(fd, this.bytes.length);
        for (let at = 0; at < this.bytes.length; at += PAGE) {
          const part = this.#pristine.subarray(at, at + PAGE);
          if (ZEROS.compare(part) !== 0) writeSync(fd, part, 0, part.length, at);
        }
        this.#file_made = true;
      }
      for (const p of new Set([...this.#file_pages, ...touched])) writeSync(fd, this.bytes, p * PAGE, PAGE, p * PAGE);
      this.#file_pages.clear();
      for (const p of touched) this.#file_pages.add(p);
    } finally {
      closeSync(fd);
    }
  }

  /** What fsck.ocfs2 -fn finds that it did not find in the new volume. `touched`: the pages that may differ from that. */
  judge(touched: ReadonlySet<number>): string[] {
    if (this.#known === null) {
      const copy = this.bytes.slice();
      this.bytes.set(this.#pristine);
      this.#write(new Set());
      this.#known = fsck(this.#file, []).findings;
      this.bytes.set(copy);
    }
    this.#write(touched);
    return fsck(this.#file, this.#known).findings;
  }
}

const volumes = new Map<string, SimVolume>();

export function simVolume(kind: number, slots: number): SimVolume {
  const key = `${kind} ${slots}`;
  let v = volumes.get(key);
  if (v === undefined) volumes.set(key, (v = new SimVolume(SIM_VOLUMES[kind]!.options, slots)));
  return v;
}

const ARENA_MIB = 40;
const spare: Arena[] = [];

export function takeArena(): Arena {
  const arena = spare.pop();
  if (arena === undefined) {
    const made = createArena(ARENA_MIB);
    // A judge that is forked needs nothing of it, and forking takes longer the more there is.
    arenaDontFork(registerArena(made.u8));
    return made;
  }
  const used = arena as unknown as { next: number };
  arena.u8.fill(0, arena.heapBase, used.next);
  used.next = arena.heapBase;
  return arena;
}

export const giveArenas = (arenas: readonly Arena[]): void => void spare.push(...arenas);
