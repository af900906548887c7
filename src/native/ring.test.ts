import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../lib/errno.ts";
import { check } from "../lib/fs_error.ts";
import * as native from "./index.ts";

const PAGE = 4096;
const BLOCKS = 512;

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "ocfs2-native-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Opens a file with O_DIRECT, without where the file system of the temporary folder has none. */
function openDirect(name: string): number {
  const flags = native.O.RDWR | native.O.CREAT;
  const fd = native.openFile(join(dir, name), flags | native.O.DIRECT, 0o600);
  return fd === -Errno.EINVAL ? check(native.openFile(join(dir, name), flags, 0o600), "open") : check(fd, "open");
}

/** Waits for `count` completions: results by user_data. */
function complete(ring: native.Ring, count: number): Map<number, number> {
  const results = new Map<number, number>();
  while (results.size < count) {
    ring.submitAndWait(1, 5000);
    const n = ring.reap();
    if (n === 0) throw new Error(`only ${results.size} of ${count} completions within 5 s`);
    for (let i = 0; i < n; i++) results.set(ring.cq[2 * i]! >>> 0, ring.cq[2 * i + 1]!);
  }
  return results;
}

const memories: [string, () => Uint8Array<ArrayBufferLike>][] = [
  [
    "a shared Wasm memory",
    () => new Uint8Array(new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true }).buffer),
  ],
  ["a SharedArrayBuffer", () => new Uint8Array(new SharedArrayBuffer(64 << 16))],
  ["an ArrayBuffer", () => new Uint8Array(64 << 16)],
];

describe.each(memories)("a ring over %s", (_name, make) => {
  let u8: Uint8Array<ArrayBufferLike>;
  let ring: native.Ring;
  let fd: number;

  beforeEach(() => {
    u8 = make();
    ring = new native.Ring(64, u8);
    fd = openDirect("blocks");
  });
  afterEach(() => {
    expect(ring.close()).toBe(0);
    native.closeFd(fd);
  });

  test("reads back what it wrote, with 64 operations in flight", () => {
    // O_DIRECT wants aligned memory, and only a Wasm memory is so by itself.
    const first = (PAGE - native.arenaMisalign(native.registerArena(u8))) % PAGE;
    for (let i = 0; i < BLOCKS; i++) {
      const at = first + i * PAGE;
      u8.fill(i % 251, at, at + PAGE);
      ring.write(fd, at, PAGE, i * PAGE, i);
    }
    const written = complete(ring, BLOCKS);
    expect([...written.values()].every((res) => res === PAGE)).toBe(true);

    u8.fill(0);
    for (let i = 0; i < BLOCKS; i++) ring.read(fd, first + (BLOCKS - 1 - i) * PAGE, PAGE, i * PAGE, i);
    const read = complete(ring, BLOCKS);
    expect([...read.values()].every((res) => res === PAGE)).toBe(true);
    for (let i = 0; i < BLOCKS; i++) {
      const at = first + (BLOCKS - 1 - i) * PAGE;
      expect([u8[at], u8[at + PAGE - 1]]).toEqual([i % 251, i % 251]);
    }
  });
});

describe("a ring", () => {
  const u8 = new Uint8Array(new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true }).buffer);
  const u32 = new Uint32Array(u8.buffer);
  let ring: native.Ring;
  let fd: number;

  beforeEach(() => {
    u8.fill(0);
    ring = new native.Ring(64, u8);
    fd = openDirect("file");
  });
  afterEach(() => {
    expect(ring.close()).toBe(0);
    native.closeFd(fd);
  });

  test("gathers pieces of the arena into one write, and scatters them again", () => {
    u8.fill(1, 10 * PAGE, 11 * PAGE);
    u8.fill(2, 20 * PAGE, 22 * PAGE);
    u32.set([20 * PAGE, 2 * PAGE, 10 * PAGE, PAGE]);
    ring.writev(fd, 0, 2, 8 * PAGE, 1, native.RWF_DSYNC);
    expect(complete(ring, 1)).toEqual(new Map([[1, 3 * PAGE]]));

    u32.set([30 * PAGE, PAGE, 40 * PAGE, 2 * PAGE]);
    ring.readv(fd, 0, 2, 8 * PAGE, 2);
    // The table was read when it was submitted: it may be used again at once.
    ring.submit();
    u32.fill(0, 0, 4);
    expect(complete(ring, 1)).toEqual(new Map([[2, 3 * PAGE]]));
    expect([u8[30 * PAGE], u8[40 * PAGE], u8[41 * PAGE]]).toEqual([2, 2, 1]);
  });

  test("keeps 32 bits of user_data", () => {
    ring.fsync(fd, true, 0xffff_fffe);
    expect(complete(ring, 1)).toEqual(new Map([[0xffff_fffe, 0]]));
  });

  test("answers a bad descriptor with -errno in the completion", () => {
    ring.read(9999, 0, PAGE, 0, 7);
    expect(complete(ring, 1)).toEqual(new Map([[7, -Errno.EBADF]]));
  });

  test("fallocate takes lengths above 4 GiB, and punches holes", () => {
    ring.fallocate(fd, 0, 0, 5 * 2 ** 30, 1);
    const made = complete(ring, 1).get(1)!;
    // A full or odd file system may refuse; that it was asked for the right length is seen by the size otherwise.
    if (made === 0) expect(native.fdSize(fd)).toBe(5 * 2 ** 30);
    else expect(made).toBe(-Errno.ENOSPC);
    ring.fallocate(fd, native.FALLOC_FL_PUNCH_HOLE | native.FALLOC_FL_KEEP_SIZE, 0, 5 * 2 ** 30, 2);
    expect(complete(ring, 1).get(2)).toBe(0);
    native.ftruncateSync(fd, 0);
  });

  test("a timeout ends after its time, and one that was removed ends at once", () => {
    const begin = native.monotonicNs();
    ring.timeout(20, 1);
    expect(complete(ring, 1)).toEqual(new Map([[1, -62]]));
    expect(native.monotonicNs() - begin).toBeGreaterThan(19e6);

    ring.timeout(60_000, 2);
    ring.submit();
    ring.timeoutRemove(2, 3);
    expect(complete(ring, 2)).toEqual(
      new Map([
        [2, -Errno.ECANCELED],
        [3, 0],
      ]),
    );
  });

  test("a wait that has a limit returns without completions", () => {
    ring.timeout(60_000, 1);
    ring.submitAndWait(1, 10);
    expect(ring.reap()).toBe(0);
    expect(ring.inFlight).toBe(1);
  });

  test("a poll is cancelled by its user_data", () => {
    const event = check(native.eventfdCreate(), "eventfd");
    ring.pollAdd(event, native.POLLIN, 1);
    ring.submit();
    ring.cancel(1, 2);
    expect(complete(ring, 2)).toEqual(
      new Map([
        [1, -Errno.ECANCELED],
        [2, 0],
      ]),
    );
    native.closeFd(event);
  });

  test("another thread wakes it by an eventfd, by poll and by read", async () => {
    const event = check(native.eventfdCreate(), "eventfd");
    const addon = join(import.meta.dirname, "../../native/ocfs2.node");
    const wakeFromWorker = () =>
      new Promise<void>((resolve, reject) => {
        const code = `const { workerData } = require("node:worker_threads");
          const rc = require(workerData.addon).eventfdWake(workerData.event);
          if (rc !== 0) throw new Error("errno " + -rc);`;
        const worker = new Worker(code, { eval: true, workerData: { addon, event } });
        worker.once("error", reject).once("exit", () => resolve());
      });

    ring.pollAdd(event, native.POLLIN, 1);
    ring.submit();
    expect(native.eventfdDrain(event)).toBe(0);
    await wakeFromWorker();
    expect(complete(ring, 1)).toEqual(new Map([[1, native.POLLIN]]));
    expect(native.eventfdDrain(event)).toBe(1);

    ring.read(event, 64, 8, 0, 2);
    ring.submit();
    const worker = wakeFromWorker();
    expect(complete(ring, 1)).toEqual(new Map([[2, 8]]));
    expect(u8[64]).toBe(1);
    await worker;
    native.closeFd(event);
  });

  test("a turn whose table of completions overflows loses none", () => {
    const small = new native.Ring(1, u8);
    for (let i = 0; i < 300; i++) small.fsync(fd, true, i);
    expect([...complete(small, 300).keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 300 }, (_, i) => i));
    expect(small.close()).toBe(0);
  });

  test("closing cancels what would never end", () => {
    const other = new native.Ring(8, u8);
    const event = check(native.eventfdCreate(), "eventfd");
    other.read(event, 0, 8, 0, 1);
    other.pollAdd(event, native.POLLIN, 2);
    other.timeout(3_600_000, 3);
    other.submit();
    expect(other.close()).toBe(0);
    expect(() => other.submit()).toThrow("no ring");
    native.closeFd(event);
  });

  test("a worker that is terminated takes its ring with it", async () => {
    const addon = join(import.meta.dirname, "../../native/ocfs2.node");
    const event = check(native.eventfdCreate(), "eventfd");
    const code = `const { workerData, parentPort } = require("node:worker_threads");
      const native = require(workerData.addon);
      const records = new ArrayBuffer(32);
      const u32 = new Uint32Array(records);
      const ring = native.ringCreate(1, native.arenaRegister(new Uint8Array(4096)), new Uint8Array(records), new Int32Array(8), 0);
      u32.set([22, workerData.event, 0, 8, 0, 0, 0, 1]);
      parentPort.postMessage(native.ringEnter(ring, 1, 0, -1));
      setInterval(() => {}, 1000);`;
    const worker = new Worker(code, { eval: true, workerData: { addon, event } });
    const taken = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    expect(taken).toBe(1);
    await worker.terminate();
    // The read was cancelled with the worker: this wake-up is still there.
    expect(native.eventfdWake(event)).toBe(0);
    expect(native.eventfdDrain(event)).toBe(1);
    native.closeFd(event);
  });

  describe("refuses our own wrong calls", () => {
    test.each([
      [64 << 16, 1],
      [(64 << 16) - 10, 11],
      [-1, 1],
      [0, -1],
      [Number.NaN, 1],
      [2 ** 32, 1],
      [2 ** 32 + 1, 1],
    ])("%d, %d bytes", (addr, len) => {
      expect(() => ring.read(fd, addr, len, 0, 1)).toThrow(RangeError);
      expect(() => ring.write(fd, addr, len, 0, 1)).toThrow(RangeError);
      const arena = native.registerArena(u8);
      expect(() => native.fuseRead(arena, fd, addr, len)).toThrow("outside of the arena");
      expect(() => native.fuseReplyAndRead(arena, fd, 0, 16, addr, len)).toThrow("outside of the arena");
      expect(() => native.preadSync(arena, fd, addr, len, 0)).toThrow("outside of the arena");
      expect(ring.queued).toBe(0);
    });

    test("a piece of a table", () => {
      u32.set([0, PAGE, (64 << 16) - 1, 2]);
      ring.writev(fd, 0, 2, 0, 1);
      expect(() => ring.submit()).toThrow("outside of the arena");
      expect(ring.inFlight).toBe(0);
    });

    test("an offset", () => {
      for (const offset of [-512, 0.5, Number.NaN, 2 ** 54]) {
        ring.read(fd, 0, 512, offset, 1);
        expect(() => ring.submit()).toThrow("offset");
      }
    });

    test("a wait for nothing", () => {
      expect(() => ring.submitAndWait(1)).toThrow("never end");
    });

    test("an arena, a ring or a lease that is not there", () => {
      expect(() => native.crc32Le(12345 as native.ArenaHandle, 0, 1, 0)).toThrow("no arena 12345");
      expect(() => new native.Ring(8, u8, 200)).toThrow("no lease 200");
      expect(() => native.leaseSet(0, 1)).toThrow("no lease 0");
      expect(() => native.registerArena(u8.subarray(8))).toThrow("whole of its buffer");
    });
  });
});

describe("the write gate", () => {
  const u8 = new Uint8Array(new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true }).buffer);
  const u32 = new Uint32Array(u8.buffer);
  let lease: number;
  let ring: native.Ring;
  let fd: number;

  beforeEach(() => {
    lease = check(native.leaseAlloc(), "lease");
    ring = new native.Ring(64, u8, lease);
    fd = openDirect("gated");
    check(native.pwriteSync(native.registerArena(u8), fd, 0, 16 * PAGE, 0), "set up");
    u8.fill(0xaa);
  });
  afterEach(() => {
    ring.close();
    native.leaseFree(lease);
    native.closeFd(fd);
    u8.fill(0);
  });

  /** The first byte of each of the first 16 pages, read past the gate. */
  function pages(): number[] {
    const at = 32 * PAGE;
    check(native.preadSync(native.registerArena(u8), fd, at, 16 * PAGE, 0), "pread");
    return Array.from({ length: 16 }, (_, i) => u8[at + i * PAGE]!);
  }
  const untouched = new Array(16).fill(0);

  function writeInEveryWay(): void {
    u32.set([PAGE, PAGE]);
    ring.write(fd, PAGE, PAGE, 0, 1);
    ring.writev(fd, 0, 1, PAGE, 2, native.RWF_DSYNC);
    ring.fallocate(fd, 0, 0, PAGE, 3);
  }

  test("is shut until the first renewal", () => {
    writeInEveryWay();
    expect([...complete(ring, 3).values()]).toEqual([-Errno.ESHUTDOWN, -Errno.ESHUTDOWN, -Errno.ESHUTDOWN]);
    expect(pages()).toEqual(untouched);
  });

  test("lets writes through before the deadline and refuses them after it, in order of submission", () => {
    native.leaseSet(lease, native.leaseClockMs() + 3_600_000);
    ring.write(fd, PAGE, PAGE, 0, 1);
    expect(complete(ring, 1)).toEqual(new Map([[1, PAGE]]));
    native.leaseSet(lease, native.leaseClockMs() - 1);
    ring.write(fd, PAGE, PAGE, PAGE, 2);
    expect(complete(ring, 1)).toEqual(new Map([[2, -Errno.ESHUTDOWN]]));
    expect(pages()).toEqual([0xaa, ...untouched.slice(1)]);
  });

  test("looks at the clock when it submits, not when the write is queued", () => {
    native.leaseSet(lease, Number.POSITIVE_INFINITY);
    expect(native.leaseGet(lease)).toBe(Number.POSITIVE_INFINITY);
    writeInEveryWay();
    native.leaseSet(lease, native.leaseClockMs() + 5);
    while (native.leaseClockMs() <= native.leaseGet(lease));
    expect([...complete(ring, 3).values()]).toEqual([-Errno.ESHUTDOWN, -Errno.ESHUTDOWN, -Errno.ESHUTDOWN]);
    expect(pages()).toEqual(untouched);
  });

  test("leaves reads, flushes and timers between the refused writes alone", () => {
    writeInEveryWay();
    ring.read(fd, 8 * PAGE, PAGE, 0, 4);
    ring.fsync(fd, false, 5);
    ring.write(fd, PAGE, PAGE, 0, 6);
    ring.timeout(1, 7);
    ring.submitAndWait(7, 5000);
    expect(ring.reap()).toBe(7);
    const results = Object.fromEntries(Array.from({ length: 7 }, (_, i) => [ring.cq[2 * i]!, ring.cq[2 * i + 1]!]));
    const no = -Errno.ESHUTDOWN;
    expect(results).toEqual({ 1: no, 2: no, 3: no, 4: PAGE, 5: 0, 6: no, 7: -62 });
    expect(u8[8 * PAGE]).toBe(0);
    expect(ring.inFlight).toBe(0);
  });

  test("closes at once where nobody has taken what was refused; it turned for 5 s, and said that reads had not ended", () => {
    const event = check(native.eventfdCreate(), "eventfd");
    ring.read(event, 0, 8, 0, 1);
    ring.pollAdd(event, native.POLLIN, 2);
    for (let i = 0; i < 16; i++) ring.read(fd, PAGE, PAGE, i * PAGE, 100 + i);
    ring.write(fd, PAGE, PAGE, 0, 3);
    ring.submit();
    const begin = native.monotonicNs();
    expect(ring.close()).toBe(0);
    expect(native.monotonicNs() - begin).toBeLessThan(2e9);
    native.closeFd(event);
    ring = new native.Ring(64, u8, lease);
  });

  test("is shut and opened by another thread", async () => {
    native.leaseSet(lease, Number.POSITIVE_INFINITY);
    const addon = join(import.meta.dirname, "../../native/ocfs2.node");
    const code = `const { workerData } = require("node:worker_threads");
      require(workerData.addon).leaseSet(workerData.lease, 0);`;
    const worker = new Worker(code, { eval: true, workerData: { addon, lease } });
    await new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));
    ring.write(fd, PAGE, PAGE, 0, 1);
    expect(complete(ring, 1)).toEqual(new Map([[1, -Errno.ESHUTDOWN]]));
    native.leaseSet(lease, native.leaseClockMs() + 60_000);
    ring.write(fd, PAGE, PAGE, 0, 2);
    expect(complete(ring, 1)).toEqual(new Map([[2, PAGE]]));
  });

  test("a lease that was given back is shut for the ring that still has it", () => {
    native.leaseSet(lease, Number.POSITIVE_INFINITY);
    native.leaseFree(lease);
    ring.write(fd, PAGE, PAGE, 0, 1);
    expect(complete(ring, 1)).toEqual(new Map([[1, -Errno.ESHUTDOWN]]));
    lease = check(native.leaseAlloc(), "lease");
  });
});
