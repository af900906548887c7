/** WRITEs that wait, and what reads and writeback of the same pages do meanwhile. What goes wrong without: test/sim/whole, programs behind kernels. */
import { expect, test } from "vitest";
import { PendingWrites } from "./pending_writes.ts";

const INO = 7;

test("a READ of the same bytes waits for a WRITE until it is done, one of others does not", () => {
  const writes = new PendingWrites();
  const write = writes.add(INO, 4096, 9000, true);
  expect([writes.before(INO, 0, 4096), writes.before(INO, 9000, 12288), writes.before(8, 0, 12288)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
  const queue = writes.before(INO, 8192, 12288)!;
  let woken = 0;
  queue.add(() => woken++);
  writes.done(INO, write);
  expect(woken).toBe(1);
  expect(writes.before(INO, 8192, 12288)).toBeUndefined();
});

test("what was written back meanwhile is not written again", () => {
  const writes = new PendingWrites();
  const write = writes.add(INO, 1000, 20_000, true);
  expect(write.todo(1000, 20_000)).toEqual({ from: 1000, to: 20_000 });
  writes.writtenBack(INO, 8192, 12_288);
  writes.writtenBack(INO, 4096, 8192);
  // Nothing of it.
  writes.writtenBack(INO, 20_480, 24_576);
  expect(write.todo(1000, 20_000)).toEqual({ from: 1000, to: 4096 });
  expect(write.todo(4096, 20_000)).toEqual({ from: 12_288, to: 20_000 });
  writes.writtenBack(INO, 0, 4096);
  writes.writtenBack(INO, 12_288, 20_480);
  expect(write.todo(1000, 20_000)).toEqual({ from: 20_000, to: 20_000 });
  expect(write.written.map((r) => r.from)).toEqual([8192, 4096, 0, 12_288]);
});

test("a WRITE past the cache is carried out in full: what is written back meanwhile has nothing of it", () => {
  const writes = new PendingWrites();
  const write = writes.add(INO, 1000, 20_000, false);
  writes.writtenBack(INO, 0, 20_480);
  expect([write.todo(1000, 20_000), write.written]).toEqual([{ from: 1000, to: 20_000 }, []]);
});

test("a WRITE through the cache has pages, one past it has none", () => {
  const writes = new PendingWrites();
  writes.add(INO, 5000, 8193, true);
  writes.add(INO, 0, Number.POSITIVE_INFINITY, false);
  expect(writes.pagesOf(INO)).toEqual([{ from: 4096, to: 12_288 }]);
});
