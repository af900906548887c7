/** One suite for every BlockDevice, and what only the one with a ring does. */
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../../test/support/until.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { mlogSink } from "../lib/masklog.ts";
import { closeFd } from "../native/index.ts";
import { Loop } from "../native/loop.ts";
import { type Arena, createArena } from "../wasm/arena.ts";
import type { BlockDevice } from "./device.ts";
import { FileDevice, SyncFileDevice } from "./file_device.ts";
import { MemoryDevice } from "./memory_device.ts";
import { openDevice, UringDevice } from "./uring_device.ts";

const MIB = 1 << 20;
const SIZE = 16 * MIB;
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "ocfs2-dev-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

let files = 0;
function file(size = SIZE): string {
  const path = join(dir, `disk${files++}`);
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  closeSync(fd);
  return path;
}

interface Opened {
  readonly dev: BlockDevice;
  readonly arena: Arena;
  /** Lets one call complete: pumps, or lets the event loop run. */
  settle(isDone: () => boolean): Promise<void>;
  close(): void;
}

const pumping = (dev: BlockDevice) => async (isDone: () => boolean) => {
  dev.submit();
  while (!isDone()) if (!dev.pump()) throw new Error("nothing is in flight");
};

const kinds: [string, (readonly: boolean) => Opened][] = [
  [
    "MemoryDevice",
    (readonly) => {
      const arena = createArena(32);
      const dev = new MemoryDevice(arena, new Uint8Array(SIZE), { readonly });
      return { dev, arena, settle: pumping(dev), close: () => dev.close() };
    },
  ],
  [
    "SyncFileDevice",
    (readonly) => {
      const arena = createArena(32);
      const dev = new SyncFileDevice(arena, file(), { readonly });
      return { dev, arena, settle: pumping(dev), close: () => dev.close() };
    },
  ],
  [
    "FileDevice",
    (readonly) => {
      const arena = createArena(32);
      const dev = new FileDevice(arena, file(), { readonly });
      return { dev, arena, settle: until, close: () => dev.close() };
    },
  ],
  [
    "UringDevice",
    (readonly) => {
      const arena = createArena(32);
      const loop = new Loop(arena, 8);
      const path = file();
      const dev = new UringDevice(loop, path, openDevice(path, readonly), readonly);
      const close = (): void => {
        dev.close();
        expect(loop.close()).toBe(0);
      };
      return { dev, arena, settle: pumping(dev), close };
    },
  ],
];

describe.each(kinds)("%s", (_, open) => {
  /** One call and its result. */
  async function call(o: Opened, start: (done: (res: number) => void) => void): Promise<number> {
    let res: number | undefined;
    start((r) => {
      expect(res).toBeUndefined();
      res = r;
    });
    await o.settle(() => res !== undefined);
    return res!;
  }

  test("reads back what it wrote, whatever the length", async () => {
    const o = open(false);
    const { dev, arena } = o;
    const a = arena.alloc(9 * MIB, 4096);
    const b = arena.alloc(9 * MIB, 4096);
    for (const [len, offset] of [
      [4096, 0],
      [2 * MIB, 4096],
      [2 * MIB + 4096, MIB],
      [9 * MIB, 5 * MIB],
    ] as const) {
      for (let i = 0; i < len; i += 512) arena.dv.setUint32(a + i, (offset + i) ^ 0x5a5a5a5a, true);
      expect(await call(o, (done) => dev.write(a, len, offset, done))).toBe(len);
      arena.u8.fill(0, b, b + len);
      expect(await call(o, (done) => dev.read(b, len, offset, done))).toBe(len);
      expect(Buffer.compare(arena.u8.subarray(a, a + len), arena.u8.subarray(b, b + len))).toBe(0);
    }
    expect(await call(o, (done) => dev.flush(done))).toBe(0);
    expect(await call(o, (done) => dev.write(a, 4096, 0, done, true))).toBe(4096);
    o.close();
  });

  test("gathers and scatters, more pieces than one call of the kernel takes", async () => {
    const o = open(false);
    const { dev, arena } = o;
    const pieces = 1500;
    const base = arena.alloc(pieces * 2 * 4096, 4096);
    const iov: number[] = [];
    for (let i = 0; i < pieces; i++) {
      // Every second page, back to front.
      const at = base + (pieces - 1 - i) * 2 * 4096;
      arena.dv.setUint32(at, i, true);
      iov.push(at, 4096);
    }
    expect(await call(o, (done) => dev.writev(iov, 8192, done))).toBe(pieces * 4096);
    arena.u8.fill(0, base, base + pieces * 2 * 4096);
    expect(await call(o, (done) => dev.readv(iov, 8192, done))).toBe(pieces * 4096);
    for (let i = 0; i < pieces; i++) expect(arena.dv.getUint32(iov[2 * i]!, true)).toBe(i);
    o.close();
  });

  test("many calls are in flight at the same time", async () => {
    const o = open(false);
    const { dev, arena } = o;
    const at = arena.alloc(64 * 4096, 4096);
    let left = 64;
    for (let i = 0; i < 64; i++)
      dev.write(at + i * 4096, 4096, i * 4096, (res) => {
        expect(res).toBe(4096);
        left--;
      });
    await o.settle(() => left === 0);
    o.close();
  });

  test("a read-only one refuses to write", async () => {
    const o = open(true);
    const at = o.arena.alloc(4096, 4096);
    expect(await call(o, (done) => o.dev.write(at, 4096, 0, done))).toBe(-Errno.EROFS);
    expect(await call(o, (done) => o.dev.writev([at, 4096], 0, done))).toBe(-Errno.EROFS);
    expect(await call(o, (done) => o.dev.read(at, 4096, 0, done))).toBe(4096);
    o.close();
  });
});

test.each(kinds.filter(([name]) => ["FileDevice", "UringDevice"].includes(name)))(
  "a file that is cut short under its %s: EIO behind the new end, said once, and the file stays as short",
  async (_, open) => {
    const o = open(false);
    const { dev, arena } = o;
    const said: string[] = [];
    mlogSink((line) => said.push(line));
    const at = arena.alloc(4 * MIB, 4096);
    truncateSync(dev.name, MIB);
    const results: number[] = [];
    const done = (res: number): void => void results.push(res);
    dev.write(at, 4096, 0, done);
    dev.read(at, 4096, MIB - 4096, done);
    await o.settle(() => results.length === 2);
    expect(results).toEqual([4096, 4096]);
    dev.write(at, 4096, 2 * MIB, done);
    dev.write(at, 4096, MIB, done, true);
    dev.writev([at, 4096, at + 8192, 4096], MIB - 4096, done);
    dev.read(at, 4096, 2 * MIB, done);
    dev.read(at, 8192, MIB - 4096, done);
    dev.readv([at, 4096, at + 8192, 4096], MIB - 4096, done);
    await o.settle(() => results.length === 8);
    expect(results.slice(2)).toEqual(Array(6).fill(-Errno.EIO));
    expect(statSync(dev.name).size).toBe(MIB);
    expect(said).toEqual([
      `ocfs2: ERROR: ${dev.name}: the device has become smaller: ${MIB} bytes are left of ${SIZE}; what lay behind is lost: unmount, and restore it`,
    ]);
    o.close();
  },
);

describe("a file behind a ring", () => {
  test("that ends early gives what there is", async () => {
    const arena = createArena(16);
    const loop = new Loop(arena);
    const path = file(3 * MIB + 4096);
    const dev = new UringDevice(loop, path, openDevice(path, false), false);
    const at = arena.alloc(4 * MIB, 4096);
    const results: number[] = [];
    dev.read(at, 4 * MIB, 0, (res) => results.push(res));
    dev.readv([at, 2 * MIB, at + 2 * MIB, 2 * MIB], 0, (res) => results.push(res));
    dev.read(at, 4096, 4 * MIB, (res) => results.push(res));
    dev.submit();
    while (results.length < 3) dev.pump();
    expect(results.sort((a, b) => a - b)).toEqual([0, 3 * MIB + 4096, 3 * MIB + 4096]);
    expect(dev.pump()).toBe(false);
    dev.close();
    loop.close();
  });

  test("punches what is discarded", async () => {
    const arena = createArena(16);
    const loop = new Loop(arena);
    const path = file(0);
    writeFileSync(path, Buffer.alloc(4 * MIB, 1));
    const before = statSync(path).blocks;
    const dev = new UringDevice(loop, path, openDevice(path, false), false);
    let res = 1;
    dev.discard(MIB, 2 * MIB, (r) => {
      res = r;
    });
    dev.submit();
    while (res === 1) dev.pump();
    // A file system without holes may refuse, but never harm the rest.
    if (res === 0) expect(statSync(path).blocks).toBeLessThan(before);
    expect(readFileSync(path)[0]).toBe(1);
    dev.close();
    loop.close();
  });

  test("is open for writing once on this machine", () => {
    const path = file();
    const first = openDevice(path, false);
    expect(() => openDevice(path, false)).toThrow(FsError);
    expect(() => openDevice(path, true)).toThrow("EBUSY");
    expect(() => new SyncFileDevice(createArena(4), path)).toThrow("EBUSY");
    closeFd(first.fd);
    const a = openDevice(path, true);
    const b = openDevice(path, true);
    closeFd(a.fd);
    closeFd(b.fd);
  });

  test("what is no disk is refused", () => {
    expect(() => openDevice("/dev/null", true)).toThrow("neither a file nor a block device");
    expect(() => openDevice(join(dir, "absent"), true)).toThrow("ENOENT");
  });
});
