import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { Errno } from "../lib/errno.ts";
import { check } from "../lib/fs_error.ts";
import * as native from "./index.ts";

const canMount = process.getuid?.() === 0 && existsSync("/dev/fuse");
if (!canMount) console.warn("SKIPPED: mounting needs root and /dev/fuse");

const root = join(import.meta.dirname, "../..");
const fixture = join(root, ".cache", "test", "fuse_fixture.mjs");

beforeAll(async () => {
  if (!canMount) return;
  mkdirSync(join(root, ".cache", "test"), { recursive: true });
  await build({
    entryPoints: [join(import.meta.dirname, "fuse_fixture.ts")],
    outfile: fixture,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
  });
});

describe.skipIf(!canMount)("a file system served by a child process", () => {
  let mountpoint: string;
  let child: ChildProcess;
  let said: string;

  /** Starts the child; resolves when it has mounted. */
  async function serve(how: "mount2" | "fusermount"): Promise<void> {
    mountpoint = mkdtempSync(join(tmpdir(), "ocfs2-fuse-"));
    child = spawn(process.execPath, [fixture, mountpoint, how], { stdio: ["ignore", "pipe", "inherit"] });
    said = "";
    await new Promise<void>((resolve, reject) => {
      child.stdout!.on("data", (text) => {
        said += text;
        if (said.includes("mounted\n")) resolve();
      });
      child.once("exit", (code) => reject(new Error(`the child ended with ${code} before it mounted`)));
    });
  }

  const ended = () => new Promise<number | null>((resolve) => child.once("exit", resolve));

  afterEach(() => {
    child.kill("SIGKILL");
    native.umount2(mountpoint, native.MNT_DETACH);
    rmSync(mountpoint, { recursive: true });
  });

  test.each(["mount2", "fusermount"] as const)("is seen through %s, and ends with its mount", async (how) => {
    await serve(how);
    expect(readFileSync("/proc/self/mounts", "utf8")).toContain(`ocfs2-test ${mountpoint} fuse`);

    expect((await stat(mountpoint)).isDirectory()).toBe(true);
    const file = await stat(join(mountpoint, "hello"));
    expect([file.isFile(), file.size, file.ino]).toEqual([true, 21, 2]);
    expect(await readFile(join(mountpoint, "hello"), "utf8")).toBe("hello from the arena\n");
    await expect(stat(join(mountpoint, "absent"))).rejects.toMatchObject({ code: "ENOENT" });
    await expect(readdir(mountpoint)).rejects.toMatchObject({ code: "ENOSYS" });

    const end = ended();
    if (how === "mount2") expect(native.umount2(mountpoint, 0)).toBe(0);
    else expect(native.fusermountUmount(mountpoint, false)).toBe(0);
    expect(await end).toBe(0);
    expect(said).toContain("unmounted");
  });

  test("a busy mount is not unmounted", async () => {
    await serve("mount2");
    const held = check(native.openFile(mountpoint, native.O.RDONLY | native.O.DIRECTORY, 0), "open");
    expect(native.umount2(mountpoint, 0)).toBe(-Errno.EBUSY);
    native.closeFd(held);
    expect(native.umount2(mountpoint, 0)).toBe(0);
  });
});

/**
 * Mounts at argv[2] and answers nothing; its descriptor of /dev/fuse lives on in a child (it says its pid), as it does in a thread that waits for a dead
 * disk. Fences itself when it is told to.
 */
const FENCED = `const native = require(process.argv[1]), dir = process.argv[2];
  const fd = native.fuseOpen();
  if (native.mount2("ocfs2-test", dir, "fuse", 0, \`fd=\${fd},rootmode=40000,user_id=0,group_id=0\`) < 0) throw new Error("mount");
  const holder = require("node:child_process").spawn("sleep", ["1000"], { stdio: ["ignore", "ignore", "ignore", fd] });
  const line = require("node:fs").readFileSync("/proc/self/mountinfo", "utf8").split("\\n").find((l) => l.split(" ")[4] === dir);
  const number = native.abortRegister(Number(line.split(" ")[2].split(":")[1]));
  if (number < 0) throw new Error("abort: " + number);
  console.log(holder.pid);
  process.stdin.once("data", (how) => (String(how) === "now" ? native.fenceNow() : native.killSelfIn(100)));`;

describe.skipIf(!canMount)("a process that is fenced while something holds its connection", () => {
  test.each(["now", "soon"])("leaves nobody waiting for its mount (%s)", async (how) => {
    const dir = mkdtempSync(join(tmpdir(), "ocfs2-fuse-"));
    const addon = join(root, "native", "ocfs2.node");
    const node = spawn(process.execPath, ["-e", FENCED, addon, dir], { stdio: ["pipe", "pipe", "inherit"] });
    const ended = once(node, "exit");
    const [said] = (await once(node.stdout!, "data")) as [Buffer];
    try {
      const waits = spawn("stat", [dir], { stdio: ["ignore", "ignore", "pipe"] });
      let heard = "";
      waits.stderr!.on("data", (text) => {
        heard += text;
      });
      const answered = once(waits, "close");
      // In the kernel, for an answer.
      await expect.poll(() => readFileSync(`/proc/${waits.pid}/wchan`, "utf8")).toMatch(/fuse|request_wait/);
      node.stdin!.write(how);
      expect(await ended).toEqual([null, "SIGKILL"]);
      expect(await answered).toEqual([1, null]);
      expect(heard).toMatch(/Transport endpoint is not connected|Software caused connection abort/);
    } finally {
      process.kill(Number(said), "SIGKILL");
      node.kill("SIGKILL");
      native.umount2(dir, native.MNT_DETACH);
      rmSync(dir, { recursive: true });
    }
  });
});

describe("without a mount", () => {
  test("mount2 and umount2 answer with -errno", () => {
    expect(native.mount2("x", "/nowhere/at/all", "fuse", 0, "")).toBeLessThan(0);
    expect(native.umount2("/nowhere/at/all", 0)).toBeLessThan(0);
    expect(() => native.umount2("/a\0b", 0)).toThrow("NUL");
  });

  test.skipIf(!canMount)(
    "a descriptor of /dev/fuse that is not connected answers -EPERM, a reply too, and says which",
    () => {
      const u8 = new Uint8Array(new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true }).buffer);
      const arena = native.registerArena(u8);
      const fd = check(native.fuseOpen(), "open");
      expect(native.fuseRead(arena, fd, 0, 0x20000)).toBe(-Errno.EPERM);
      expect(native.fuseWrite(arena, fd, 0, 16)).toBe(-Errno.EPERM);
      expect(native.fuseWritev(arena, fd, 0, 16, 16, 16)).toBe(-Errno.EPERM);
      expect(native.fuseNotify(fd, new Uint8Array(16))).toBe(-Errno.EPERM);
      const both = native.fuseReplyAndRead(arena, fd, 0, 16, 0, 0x20000);
      expect(both).toBeLessThanOrEqual(native.REPLY_FAILED);
      expect(native.REPLY_FAILED - both).toBe(Errno.EPERM);
      native.closeFd(fd);
    },
  );
});
