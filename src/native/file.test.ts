import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Errno } from "../lib/errno.ts";
import { check } from "../lib/fs_error.ts";
import * as native from "./index.ts";

const PAGE = 4096;
const addon = join(import.meta.dirname, "../../native/ocfs2.node");
const u8 = new Uint8Array(new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true }).buffer);
const arena = native.registerArena(u8);

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "ocfs2-native-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

const open = (name: string, flags = native.O.RDWR | native.O.CREAT) => native.openFile(join(dir, name), flags, 0o600);

describe("a file", () => {
  test("comes back as it was written, and a read stops at its end", () => {
    const fd = check(open("plain"), "open");
    u8.set([1, 2, 3, 4], 100);
    expect(native.pwriteSync(arena, fd, 100, 4, 10)).toBe(4);
    expect(native.fdatasyncSync(fd)).toBe(0);
    expect(native.fdSize(fd)).toBe(14);
    expect(native.preadSync(arena, fd, 200, PAGE, 8)).toBe(6);
    expect([...u8.subarray(200, 206)]).toEqual([0, 0, 1, 2, 3, 4]);
    expect(native.closeFd(fd)).toBe(0);
    expect(native.closeFd(fd)).toBe(-Errno.EBADF);
  });

  test("that cannot be opened answers -errno", () => {
    expect(open("absent", native.O.RDONLY)).toBe(-Errno.ENOENT);
    check(native.closeFd(check(open("there"), "open")), "close");
    expect(open("there", native.O.CREAT | native.O.EXCL | native.O.RDWR)).toBe(-Errno.EEXIST);
  });

  test("tells its alignment for O_DIRECT, and that it is no block device", () => {
    const fd = check(open("aligned"), "open");
    const align = native.dioOffsetAlign(fd);
    if (align > 0) {
      expect(Math.log2(align) % 1).toBe(0);
    } else {
      expect([0, -Errno.EOPNOTSUPP]).toContain(align);
    }
    expect(native.fdMode(fd) & 0o170000).toBe(0o100000);
    expect(native.blkLogicalSize(fd)).toBe(-Errno.ENOTTY);
    expect(native.blkDiscard(fd, 0, PAGE)).toBe(-Errno.ENOTTY);
    expect(native.blkZeroout(fd, 0, PAGE)).toBe(-Errno.ENOTTY);
    native.closeFd(fd);
  });

  test("is locked by one open of it at a time", () => {
    const [a, b] = [check(open("locked"), "open"), check(open("locked"), "open")];
    expect(native.ofdTryLock(a, true)).toBe(0);
    expect(native.ofdTryLock(b, true)).toBe(-Errno.EAGAIN);
    expect(native.ofdTryLock(b, false)).toBe(-Errno.EAGAIN);
    expect(native.ofdUnlock(a)).toBe(0);
    expect(native.ofdTryLock(b, false)).toBe(0);
    expect(native.ofdTryLock(a, false)).toBe(0);
    native.closeFd(a);
    native.closeFd(b);
  });

  test("gives punched space back", () => {
    const fd = check(open("holes"), "open");
    u8.fill(7, 0, 16 * PAGE);
    check(native.pwriteSync(arena, fd, 0, 16 * PAGE, 0), "write");
    check(native.fdatasyncSync(fd), "sync");
    const before = statSync(join(dir, "holes")).blocks;
    const mode = native.FALLOC_FL_PUNCH_HOLE | native.FALLOC_FL_KEEP_SIZE;
    const punched = native.fallocateSync(fd, mode, 0, 8 * PAGE);
    if (punched !== -Errno.EOPNOTSUPP) {
      expect(punched).toBe(0);
      expect(statSync(join(dir, "holes")).blocks).toBeLessThan(before);
    }
    expect(native.fdSize(fd)).toBe(16 * PAGE);
    expect(native.ftruncateSync(fd, PAGE)).toBe(0);
    expect(native.fdSize(fd)).toBe(PAGE);
    native.closeFd(fd);
  });
});

/** A loop device over a file of 4 MiB; nothing when there is none to be had. */
function attachLoop(image: string): string | undefined {
  writeFileSync(image, "");
  truncateSync(image, 4 << 20);
  const r = spawnSync("losetup", ["--find", "--show", image], { encoding: "utf8" });
  if (r.status === 0) return r.stdout.trim();
  console.warn(`SKIPPED: no loop device (${r.stderr?.trim() || r.error?.message})`);
  return undefined;
}

test("a block device tells its sizes, is opened exclusively, zeroed and discarded", () => {
  const device = attachLoop(join(dir, "loop.img"));
  if (device === undefined) return;
  try {
    const flags = native.O.RDWR | native.O.DIRECT | native.O.EXCL;
    const fd = check(native.openFile(device, flags, 0), "open");
    expect(native.openFile(device, flags, 0)).toBe(-Errno.EBUSY);
    expect(native.fdMode(fd) & 0o170000).toBe(0o060000);
    expect(native.fdSize(fd)).toBe(4 << 20);
    expect(native.blkLogicalSize(fd)).toBe(512);

    u8.fill(9, 0, 4 * PAGE);
    check(native.pwriteSync(arena, fd, 0, 4 * PAGE, 0), "write");
    expect(native.blkZeroout(fd, PAGE, PAGE)).toBe(0);
    expect([0, -Errno.EOPNOTSUPP]).toContain(native.blkDiscard(fd, 2 * PAGE, PAGE));
    check(native.preadSync(arena, fd, 8 * PAGE, 2 * PAGE, 0), "read");
    expect([u8[8 * PAGE], u8[9 * PAGE]]).toEqual([9, 0]);
    expect(native.blkZeroout(fd, 1, 512)).toBe(-Errno.EINVAL);
    native.closeFd(fd);
  } finally {
    execFileSync("losetup", ["--detach", device]);
  }
});

describe("checksums", () => {
  test("crc32_le is the kernel's: zlib's without the inversions", () => {
    for (let i = 0; i < PAGE; i++) u8[i] = (i * 31) & 0xff;
    for (const [at, len] of [
      [0, 0],
      [1, 1],
      [3, 127],
      [0, PAGE],
    ] as const) {
      const raw = native.crc32Le(arena, at, len, 0xffff_ffff);
      expect((raw ^ 0xffff_ffff) >>> 0).toBe(crc32(u8.slice(at, at + len)));
    }
  });

  test("goes on from a seed, and crc32c has its check value", () => {
    const whole = native.crc32Le(arena, 0, PAGE, 123);
    expect(native.crc32Le(arena, 100, PAGE - 100, native.crc32Le(arena, 0, 100, 123))).toBe(whole);
    u8.set(Buffer.from("123456789"));
    expect((native.crc32c(arena, 0, 9, 0xffff_ffff) ^ 0xffff_ffff) >>> 0).toBe(0xe306_9283);
  });
});

describe("the process", () => {
  test("clocks go forward in their units", () => {
    const [boot, mono] = [native.leaseClockMs(), native.monotonicNs()];
    while (native.monotonicNs() < mono + 2e6);
    const passed_ms = native.leaseClockMs() - boot;
    expect(passed_ms).toBeGreaterThan(1.9);
    expect(passed_ms).toBeLessThan(5000);
  });

  test("locks touched pages of the arena and keeps them from children", () => {
    expect([0, -Errno.EPERM, -Errno.ENOMEM]).toContain(native.arenaLockOnFault(arena));
    expect(native.arenaDontFork(arena)).toBe(0);
    expect([0, -Errno.EPERM]).toContain(native.setIoFlusher(true));
    expect([0, -Errno.EPERM]).toContain(native.setIoFlusher(false));
    // The child did not get the arena; it runs all the same.
    expect(execFileSync("echo", ["alive"], { encoding: "utf8" })).toBe("alive\n");
  });

  const run = (code: string) => spawnSync(process.execPath, ["-e", code, addon], { encoding: "utf8", timeout: 20_000 });

  test.each([
    ["b", "reset"],
    ["", "exit"],
  ])("fences itself: %j is written where it takes the machine along (%s), before it ends", (byte) => {
    const trigger = join(dir, "sysrq-trigger");
    writeFileSync(trigger, "");
    const code = `const native = require(process.argv[1]);
      if (native.fenceTrigger("${dir}/none", 0x62) !== -${Errno.ENOENT}) throw new Error("armed without a trigger");
      if (native.fenceTrigger("${trigger}", ${byte === "" ? 0 : byte.charCodeAt(0)}) !== 0) throw new Error("trigger");
      native.fenceNow();`;
    expect([run(code).signal, readFileSync(trigger, "utf8")]).toEqual(["SIGKILL", byte]);
  });
});

test("a program far from the addon says in one line what is missing", async () => {
  const outfile = join(dir, "lost.mjs");
  await build({
    entryPoints: [join(import.meta.dirname, "index.ts")],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
  });
  const lost = spawnSync(process.execPath, [outfile], { encoding: "utf8" });
  expect(lost.status).toBe(1);
  expect(lost.stderr).toContain("native/ocfs2.node is missing: run npm run setup");
});
