/** Volumes for tests: an image in memory, opened with the real code; and the judges on what it became. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import { seededRandom, systemClock } from "../../src/lib/clock.ts";
import { runTaskSync } from "../../src/lib/task.ts";
import type { LockDomain } from "../../src/stackglue/lock_domain.ts";
import { defaultMountOptions, type MountOptions } from "../../src/volume/mount_options.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { closeVolume, openVolume } from "../../src/volume/super.ts";
import { type Arena, createArena } from "../../src/wasm/arena.ts";
import { createKernels } from "../../src/wasm/kernels.ts";
import { fsck as judge } from "./judges.ts";

export const haveTool = (tool: string): boolean =>
  spawnSync("sh", ["-c", `command -v ${tool}`], {
    env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
  }).status === 0;

/** An image made by Debian's mkfs.ocfs2, as bytes. */
export function mkfsImage(args: readonly string[], size_mib: number): Uint8Array {
  const dir = mkdtempSync(join(tmpdir(), "ocfs2-test-"));
  const path = join(dir, "img");
  try {
    const fd = openSync(path, "w");
    ftruncateSync(fd, size_mib * 2 ** 20);
    closeSync(fd);
    execFileSync("/sbin/mkfs.ocfs2", ["-q", "-F", "-M", "local", ...args, path], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    return new Uint8Array(readFileSync(path));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

export interface TestVolume {
  readonly osb: Osb;
  readonly dev: MemoryDevice;
  /** Unmounts cleanly. */
  close(): void;
}

const testClock = { ...systemClock, after: () => () => {} };

/** Opens an image held in memory. Its commit timer does not run: commits come from the operations and from close. */
export function openImage(
  image: Uint8Array,
  options: Partial<MountOptions> = {},
  makeDevice: (arena: Arena, image: Uint8Array) => MemoryDevice = (arena, data) => new MemoryDevice(arena, data),
  domain?: LockDomain,
): TestVolume {
  const arena = createArena(96);
  const dev = makeDevice(arena, image);
  let opening: Osb | null = null;
  const osb = runTaskSync(
    openVolume({
      onOsb: (o) => {
        opening = o;
      },
      ...(domain === undefined ? {} : { domain }),
      arena,
      kernels: createKernels(arena),
      dev,
      clock: testClock,
      random: seededRandom(1),
      options: { ...defaultMountOptions, cache_bytes: 8 << 20, data_cache_bytes: 8 << 20, ...options },
    }),
    () => ((opening as Osb | null)?.cache === undefined ? dev.pump() : (opening as unknown as Osb).pump()),
  );
  return { osb, dev, close: () => osb.runTaskSync(closeVolume(osb)) };
}

/**
 * fsck.ocfs2 -fn on the image: its output, and whether it found nothing to say. `known`: what it said of the same image when
 * Debian's mkfs.ocfs2 had just made it (its lost+found lacks an index when directories are not inline).
 */
export function fsck(
  image: Uint8Array,
  known: readonly string[] = [],
): { clean: boolean; output: string; findings: string[] } {
  const dir = mkdtempSync(join(tmpdir(), "ocfs2-fsck-"));
  const path = join(dir, "img");
  try {
    writeSparse(path, image);
    const { status, output } = judge(path);
    const findings = output.split("\n").filter((line) => /^\[[A-Z0-9_]+\]|[Ee]rror|corrupt/.test(line));
    return { clean: status === 0 && findings.every((f) => known.includes(f)), output, findings };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Writes an image file with holes where it is zero. */
export function writeSparse(path: string, image: Uint8Array): void {
  writeFileSync(path, "");
  const fd = openSync(path, "r+");
  ftruncateSync(fd, image.length);
  const chunk = 65536;
  const zeros = Buffer.alloc(chunk);
  for (let at = 0; at < image.length; at += chunk) {
    const part = image.subarray(at, at + chunk);
    if (zeros.compare(part, 0, part.length, 0, part.length) !== 0) writeSync(fd, part, 0, part.length, at);
  }
  closeSync(fd);
}

/** An image file as bytes. */
export const readImage = (path: string): Uint8Array => new Uint8Array(readFileSync(path));
