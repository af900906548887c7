/** What has left a cache is garbage: also while the cache's hand, which looks for what may go, rests. */
import { expect, test } from "vitest";
import { leftOf } from "../../test/support/garbage.ts";
import { createArena } from "../wasm/arena.ts";
import { BufferCache, type CachingInfo, rawBlock } from "./buffer_cache.ts";
import { DataCache, type DataOwner } from "./data_cache.ts";
import { MemoryDevice } from "./memory_device.ts";

const BLOCK = 4096;
const SLOTS = 2048;
/** Enough for a map to be made anew several times, with so many in it. */
const CAME = 8 * SLOTS;
const AT_A_TIME = 300;

test("blocks that were forgotten", async () => {
  const arena = createArena(16);
  const cache = new BufferCache(arena, new MemoryDevice(arena, new Uint8Array(BLOCK)), BLOCK, SLOTS * BLOCK);
  const newOwner = (ci_blkno: number): CachingInfo => ({ ci_blkno, epoch: 0, cached_blocks: 0 });
  const volume = newOwner(0);
  for (let blkno = 0; blkno < SLOTS; blkno++) cache.getNew(volume, blkno, rawBlock);
  cache.reclaim();
  expect(cache.size).toBeLessThan(SLOTS);
  cache.forget(0, SLOTS);
  const alive = await leftOf(
    CAME,
    AT_A_TIME,
    (n) => cache.getNew(newOwner(n), n, rawBlock),
    (n) => cache.forget(n, 1),
  );
  expect(cache.size).toBe(0);
  expect(alive).toBeLessThan(10);
});

test("pages that were forgotten, and whose they were", async () => {
  const arena = createArena(16);
  const cache = new DataCache(arena, new MemoryDevice(arena, new Uint8Array(BLOCK)), SLOTS * BLOCK);
  const newOwner = (): DataOwner => ({ pages: null, dirty_pages: 0, pages_in_flight: 0, data_written: 0, wb_err: 0 });
  const big = newOwner();
  for (let pno = 0; pno < SLOTS; pno++) cache.stage(big, pno);
  cache.reclaim();
  expect(cache.size).toBeLessThan(SLOTS);
  cache.dropOwner(big);
  const alive = await leftOf(
    CAME,
    AT_A_TIME,
    (n) => {
      const owner = newOwner();
      cache.filled(cache.reserve(owner, n));
      return owner;
    },
    (n) => void cache.invalidate(n, 1),
  );
  expect(cache.size).toBe(0);
  expect(alive).toBeLessThan(10);
});
