/**
 * What is on the disk when a system call has returned (docs/FUSE.md, "Durable"): the process that serves the mount is killed right behind it, with all that it
 * has in memory, and the volume is mounted again. The commits of `commit=` are too far off to help.
 */
import { copyFileSync, constants as fs, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, fsckUnavailable } from "../support/judges.ts";
import { Mount, mountUnavailable } from "../support/mount.ts";
import { missing, runAsync } from "../support/sh.ts";

const unavailable =
  mountUnavailable() ?? fsckUnavailable() ?? (missing("python3").length > 0 ? "no python3" : undefined);
if (unavailable !== undefined) console.warn(`SKIPPED: what is durable on a mount: ${unavailable}`);

const PROGRAM = `
import ctypes, fcntl, mmap, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)
page = mmap.mmap(-1, 8192)
page.write(b"x" * 8192)
def file(flags=0):
    return os.open("f", os.O_RDWR | flags)
def written(f, flags=0):
    assert os.pwritev(f, [page], 0, flags) == 8192
    return f
def mapped():
    f = file()
    os.truncate("f", 8192)
    os.fsync(f)
    m = mmap.mmap(f, 8192)
    m.write(b"x" * 8192)
    return m
`;
/** What was made before. */
const SET_UP = `f = os.open("f", os.O_CREAT | os.O_RDWR); os.fsync(f); os.mkdir("d"); os.fsync(os.open(".", os.O_RDONLY))`;
const WRITTEN = `open("f", "rb").read() == b"x" * 8192`;

const CALLS: readonly (readonly [what: string, call: string, there: string, durable: boolean, options?: string])[] = [
  ["write", `written(file())`, WRITTEN, false],
  ["fsync", `os.fsync(written(file()))`, WRITTEN, true],
  ["fdatasync", `os.fdatasync(written(file()))`, WRITTEN, true],
  [
    "fsync of a new file, and its name",
    `f = os.open("n", os.O_CREAT | os.O_RDWR); os.fsync(f)`,
    `os.path.exists("n")`,
    true,
  ],
  ["msync", `mapped().flush()`, WRITTEN, true],
  ["O_SYNC", `written(file(os.O_SYNC))`, WRITTEN, true],
  ["O_DSYNC", `written(file(os.O_DSYNC))`, WRITTEN, true],
  ["RWF_DSYNC", `written(file(), os.RWF_DSYNC)`, WRITTEN, true],
  ["O_DIRECT", `written(file(os.O_DIRECT))`, WRITTEN, false],
  ["O_DIRECT with O_SYNC", `written(file(os.O_DIRECT | os.O_SYNC))`, WRITTEN, true],
  ["O_DIRECT with O_DSYNC", `written(file(os.O_DIRECT | os.O_DSYNC))`, WRITTEN, true],
  ["O_DIRECT with RWF_DSYNC", `written(file(os.O_DIRECT), os.RWF_DSYNC)`, WRITTEN, true],
  [
    "O_DIRECT, taken away by fcntl, with O_DSYNC",
    `f = file(os.O_DIRECT | os.O_DSYNC); fcntl.fcntl(f, fcntl.F_SETFL, os.O_DSYNC); written(f)`,
    WRITTEN,
    true,
  ],
  ["O_APPEND with O_SYNC", `written(file(os.O_APPEND | os.O_SYNC))`, WRITTEN, true],
  ["O_APPEND with O_SYNC, clustered", `written(file(os.O_APPEND | os.O_SYNC))`, WRITTEN, true, "lockdomain=random:3"],
  ["mount -o sync", `written(file())`, WRITTEN, true, "sync"],
  ["mount -o sync, O_DIRECT", `written(file(os.O_DIRECT))`, WRITTEN, true, "sync"],
  ["chattr +S", `f = file(); fcntl.ioctl(f, 0x40086602, bytes([8] + [0] * 7)); os.fsync(f); written(f)`, WRITTEN, true],
  ["a new name", `os.open("d/n", os.O_CREAT)`, `os.path.exists("d/n")`, false],
  [
    "fsync of its folder",
    `os.open("d/n", os.O_CREAT); os.fsync(os.open("d", os.O_RDONLY))`,
    `os.path.exists("d/n")`,
    true,
  ],
  [
    "a rename, and fsync of the folder",
    `os.rename("f", "d/n"); os.fsync(os.open("d", os.O_RDONLY))`,
    `os.path.exists("d/n") and not os.path.exists("f")`,
    true,
  ],
  // Not passed on to us by the kernel.
  ["sync(2)", `written(file()); os.sync()`, WRITTEN, false],
  ["syncfs(2)", `libc.syncfs(written(file()))`, WRITTEN, false],
  ["sync(2), of a mapping", `m = mapped(); os.sync()`, WRITTEN, false],
];

describe.skipIf(unavailable !== undefined)("when the call has returned", () => {
  const dir = unavailable === undefined ? tempDir("ocfs2-durable") : "";
  const python = async (mount: Mount, code: string): Promise<string> => {
    const ran = await runAsync(["python3", "-c", PROGRAM + code, mount.dir], { timeout_ms: 60_000 });
    expect(ran.stderr).toBe("");
    return ran.stdout.trim();
  };

  beforeAll(async () => {
    mkfs(join(dir, "new"), 64, ["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"]);
    const mount = await Mount.start(join(dir, "new"));
    await python(mount, SET_UP);
    await mount.unmount();
  });

  for (const [what, call, there, durable, options] of CALLS)
    test(what, async () => {
      const image = join(dir, what.replaceAll(/[^a-z]/gi, "-"));
      copyFileSync(join(dir, "new"), image, fs.COPYFILE_FICLONE);
      const mount = await Mount.start(image, {
        options: ["commit=300", ...(options === undefined ? [] : [options])].join(),
      });
      await python(mount, call);
      await mount.kill9();
      const again = await Mount.start(image);
      expect(await python(again, `print(${there})`)).toBe(durable ? "True" : "False");
      await again.unmount();
      expect(fsck(image).findings).toEqual([]);
      rmSync(image);
    });
});
