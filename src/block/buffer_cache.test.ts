/** Metadata blocks in memory: what a read that fails later, as a disk's does, means for whoever waits for the block. */
import { expect, test } from "vitest";
import { Errno } from "../lib/errno.ts";
import { WAIT } from "../lib/wait.ts";
import { createArena } from "../wasm/arena.ts";
import { BufferCache, type CachingInfo, rawBlock } from "./buffer_cache.ts";
import type { IoDone } from "./device.ts";
import { MemoryDevice } from "./memory_device.ts";

const BLOCK = 4096;

/** Its reads wait until they are told how they went. */
class SlowDisk extends MemoryDevice {
  readonly reads: IoDone[] = [];

  override read(_addr: number, _len: number, _offset: number, done: IoDone): void {
    this.reads.push(done);
  }

  complete(res: number): void {
    for (const done of this.reads.splice(0)) done(res);
  }
}

function rig(): { disk: SlowDisk; cache: BufferCache; look: (blkno: number) => unknown; ci: CachingInfo } {
  const arena = createArena(8);
  const disk = new SlowDisk(arena, new Uint8Array(64 * BLOCK));
  const cache = new BufferCache(arena, disk, BLOCK, 256 * BLOCK);
  const ci: CachingInfo = { ci_blkno: 1, epoch: 0, cached_blocks: 0 };
  const look = (blkno: number): unknown => {
    try {
      return cache.read(ci, blkno, rawBlock).blkno;
    } catch (err) {
      return err;
    }
  };
  return { disk, cache, look, ci };
}

test("a read that fails is said to who waited for it, and tried again for the next", () => {
  const { disk, look } = rig();
  expect(look(7)).toBe(WAIT);
  disk.complete(-Errno.EIO);
  expect(look(7)).toMatchObject({ errno: Errno.EIO });
  expect(look(7)).toBe(WAIT);
  disk.complete(BLOCK);
  expect(look(7)).toBe(7);
});

test("a read behind the end of what is left of a disk is EIO, too", () => {
  const { disk, look } = rig();
  expect(look(7)).toBe(WAIT);
  disk.complete(0);
  expect(look(7)).toMatchObject({ errno: Errno.EIO });
});

test("a block that changes its owner meanwhile is read anew", () => {
  const { disk, look, ci } = rig();
  expect(look(7)).toBe(WAIT);
  disk.complete(-Errno.EIO);
  ci.epoch++;
  expect(look(7)).toBe(WAIT);
});
