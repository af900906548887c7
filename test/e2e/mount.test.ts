/**
 * The life of a mount as its user sees it: the command line, its messages and exit codes, and what is on the disk when each way of
 * ending it is over. The file system itself is judged by pjdfstest, fsx and the workloads.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { logPath, socketPath } from "../../src/cli/run_dir.ts";
import { Dinode, FEATURE_INCOMPAT, FEATURE_RO_COMPAT } from "../../src/format/disk/index.ts";
import { Errno } from "../../src/lib/errno.ts";
import { forceUnmount, tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, fsckUnavailable } from "../support/judges.ts";
import { dropOtherMounts, isMounted, mountPoint, mountUnavailable, ocfs2 } from "../support/mount.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, type Ran, run, runAsync, sh, toolEnv } from "../support/sh.ts";
import { StallDisk } from "../support/stall.ts";

const unavailable =
  mountUnavailable() ?? fsckUnavailable() ?? (missing("mkfs.ocfs2").length > 0 ? "no mkfs.ocfs2" : undefined);
if (unavailable !== undefined) console.warn(`SKIPPED: the life of a mount: ${unavailable}`);

const cli = (...args: string[]): Promise<Ran> => runAsync([process.execPath, ocfs2, ...args], { timeout_ms: 60_000 });

/** Runs its arguments where the system call with the first number ends with the second as errno. */
const WITHOUT = `
import ctypes, os, struct, sys
LOAD, EQUAL, RETURN, ERRNO, ALLOW = 0x20, 0x15, 6, 0x50000, 0x7fff0000
number, errno = int(sys.argv[1]), int(sys.argv[2])
program = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno), (RETURN, 0, 0, ALLOW)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in program))
filter = struct.pack("HxxxxxxP", len(program), ctypes.addressof(text))
prctl = ctypes.CDLL(None).prctl
n = ctypes.c_ulong
assert prctl(38, n(1), n(0), n(0), n(0)) == 0 and prctl(22, n(2), filter) == 0
os.execvp(sys.argv[3], sys.argv[3:])
`;
const IO_URING_SETUP = 425;
const STATX = process.arch === "x64" ? 332 : 291;
const without = (call: number, errno: number, ...args: string[]): Promise<Ran> =>
  runAsync(["python3", "-c", WITHOUT, String(call), String(errno), process.execPath, ocfs2, ...args], {
    timeout_ms: 60_000,
  });
const no_python = missing("python3").length > 0;

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`${what}: not within 20 s`);
    await new Promise((ok) => setTimeout(ok, 20));
  }
}

/** Not a zombie either: who reaps a daemon is not our business. */
function alive(pid: number): boolean {
  try {
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe.skipIf(unavailable !== undefined)("a mount", () => {
  let dir: string;
  let fresh: string;
  let image: string;
  let mnt: string;

  beforeAll(() => {
    fresh = join(tempDir("ocfs2-life"), "fresh.img");
    const fd = openSync(fresh, "w");
    ftruncateSync(fd, 256 << 20);
    closeSync(fd);
    sh(["mkfs.ocfs2", "-q", "-F", "-M", "local", fresh]);
  });

  /** Mounts `fresh` in the foreground, on threads that begin with `program`. */
  function mountWith(program: string, ...args: string[]): Promise<Ran> {
    const preload = join(tempDir("ocfs2-life"), "preload.cjs");
    writeFileSync(preload, program);
    const env = { ...toolEnv(), NODE_OPTIONS: `--require ${preload}` };
    return runAsync([process.execPath, ocfs2, "mount", "-f", ...args, fresh, mnt], { env, timeout_ms: 60_000 });
  }

  async function mounted(...args: string[]): Promise<number> {
    dir = tempDir("ocfs2-life");
    image = join(dir, "volume.img");
    sh(["cp", "--sparse=always", fresh, image]);
    mnt = mountPoint();
    const ran = await cli("mount", ...args, image, mnt);
    expect(ran).toMatchObject({ status: 0, stdout: "", stderr: "" });
    return statusOf(mnt).then((m) => m!.pid);
  }

  async function statusOf(at: string): Promise<{ pid: number; device: string; requests: number } | undefined> {
    const ran = await cli("node", "status", "--json");
    const { mounts } = JSON.parse(ran.stdout) as {
      mounts: { dir: string; pid: number; device: string; requests: number }[];
    };
    return mounts.find((m) => m.dir === at);
  }

  afterEach(() => {
    if (mnt !== undefined && isMounted(mnt)) forceUnmount(mnt);
  });

  test("is made in the background, listed, and gone when umount returns: all is on the disk", async () => {
    const pid = await mounted();
    expect(isMounted(mnt)).toBe(true);
    expect(await statusOf(mnt)).toMatchObject({ device: image, pid });
    // INIT can ask for no more than what the kernel gives every device.
    expect(await run(["sh", "-c", `cat /sys/class/bdi/$(mountpoint -d ${mnt})/read_ahead_kb`])).toBe("1024\n");
    writeFileSync(join(mnt, "kept"), "x".repeat(300_000));
    mkdirSync(join(mnt, "folder"));
    expect(await cli("umount", mnt)).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect(isMounted(mnt)).toBe(false);
    expect(alive(pid)).toBe(false);
    expect(fsck(image).findings).toEqual([]);

    expect((await cli("mount", "-o", "ro", image, mnt)).status).toBe(0);
    expect(readFileSync(join(mnt, "kept"), "utf8")).toBe("x".repeat(300_000));
    expect(() => writeFileSync(join(mnt, "new"), "")).toThrow("EROFS");
    expect((await cli("umount", image)).status).toBe(0);
  });

  test("a folder of it that is bound elsewhere is unmounted there, and no more", async () => {
    const pid = await mounted();
    mkdirSync(join(mnt, "folder"));
    const other = mountPoint();
    sh(["mount", "--bind", join(mnt, "folder"), other]);
    writeFileSync(join(other, "kept"), "x");
    expect(await cli("umount", other)).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect(isMounted(other)).toBe(false);
    expect(readFileSync(join(mnt, "folder", "kept"), "utf8")).toBe("x");
    expect(alive(pid)).toBe(true);
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("by symlinks, as of a device mapper's device: it is mounted, and unmounted again by either", async () => {
    dir = tempDir("ocfs2-life");
    image = join(dir, "vol ume-\u00fc.img");
    sh(["cp", "--sparse=always", fresh, image]);
    mnt = mountPoint();
    const [device, folder] = [join(dir, "device"), join(dir, "folder")];
    symlinkSync(image, device);
    symlinkSync(mnt, folder);
    for (const name of [device, folder]) {
      expect(await cli("mount", device, folder)).toMatchObject({ status: 0, stderr: "" });
      expect(await statusOf(mnt)).toMatchObject({ device: image });
      expect(await cli("umount", name)).toMatchObject({ status: 0, stderr: "" });
      expect(isMounted(mnt)).toBe(false);
    }
  });

  test("a second one of the same volume is refused, by name of the first", async () => {
    const pid = await mounted();
    const other = mountPoint();
    const second = await cli("mount", image, other);
    expect(second.status).toBe(32);
    expect(second.stderr).toBe(
      `ocfs2 mount: ${image} is mounted on ${mnt} already (pid ${pid}): "ocfs2 umount ${mnt}" frees it\n`,
    );
    // Somebody who goes around the record meets the lock on the device.
    const racing = await runAsync([process.execPath, ocfs2, "mount", "-f", image, other], {
      env: { ...toolEnv(), XDG_RUNTIME_DIR: dir },
      timeout_ms: 30_000,
    });
    expect(racing.status).toBe(32);
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("another volume is not mounted over it, as its umount would wait for ever", async () => {
    const pid = await mounted();
    expect(await cli("mount", fresh, mnt)).toMatchObject({
      status: 32,
      stderr: expect.stringMatching(`^ocfs2 mount: ${mnt} has a mount already \\(${image}, node .*, pid ${pid}\\): `),
    });
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("a loop device over what is mounted is not mounted, and not formatted; nor the file behind one that is", async () => {
    await mounted();
    const loop = sh(["losetup", "--find", "--show", image]).trim();
    const other = mountPoint();
    try {
      const over = await cli("mount", loop, other);
      expect(over).toMatchObject({
        status: 32,
        stderr: expect.stringContaining(`${loop} is mounted on ${mnt} already as ${image}`),
      });
      const mkfs = await cli("mkfs", "-x", loop);
      expect(mkfs).toMatchObject({
        status: 1,
        stderr: expect.stringContaining(`${loop} shows ${image}, which is mounted on ${mnt}`),
      });
      const library = (path: string): Promise<Ran> => {
        const opens = `(await import("${join(repoRoot, "dist/index.js")}")).Volume.open("${path}").catch((err) => console.log(err.code))`;
        return runAsync([process.execPath, "--input-type=module", "-e", opens], { timeout_ms: 60_000 });
      };
      expect(await library(loop)).toMatchObject({ stdout: "EBUSY\n" });
      expect((await cli("umount", mnt)).status).toBe(0);
      expect((await cli("mount", loop, mnt)).status).toBe(0);
      const behind = await cli("mount", image, other);
      expect(behind).toMatchObject({
        status: 32,
        stderr: expect.stringContaining(`${image} is mounted on ${mnt} already as ${loop}`),
      });
      expect(await library(image)).toMatchObject({ stdout: "EBUSY\n" });
      expect((await cli("umount", mnt)).status).toBe(0);
    } finally {
      sh(["losetup", "--detach", loop]);
    }
  });

  test("umount(2) alone returns at once, and the volume is clean within seconds", async () => {
    const pid = await mounted();
    writeFileSync(join(mnt, "kept"), "y".repeat(5_000_000));
    await run(["umount", mnt]);
    await until("the end of the daemon", () => !alive(pid));
    expect(fsck(image).findings).toEqual([]);
  });

  test.each(["SIGTERM", "SIGINT"] as const)("%s unmounts", async (signal) => {
    const pid = await mounted();
    writeFileSync(join(mnt, "kept"), "z");
    process.kill(pid, signal);
    await until("the end of the daemon", () => !alive(pid));
    expect(isMounted(mnt)).toBe(false);
    expect(fsck(image).findings).toEqual([]);
  });

  test("SIGTERM while a file is open: the mount leaves the tree, the file lives until it is closed", async () => {
    const pid = await mounted();
    // The file is held by another process: this one shall not wait for the daemon.
    const holder = spawn("sh", ["-c", "exec 3>held; read line; echo $line >&3"], {
      cwd: mnt,
      stdio: ["pipe", "ignore", "inherit"],
    });
    await until("the file", () => existsSync(join(mnt, "held")));
    process.kill(pid, "SIGTERM");
    await until("the detached mount", () => !isMounted(mnt));
    expect(alive(pid)).toBe(true);
    holder.stdin.end("the last words\n");
    await until("the end of the daemon", () => !alive(pid));
    expect(fsck(image).findings).toEqual([]);
    expect((await cli("mount", "-o", "ro", image, mnt)).status).toBe(0);
    expect(readFileSync(join(mnt, "held"), "utf8")).toBe("the last words\n");
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("with a umask of 0 its socket, record and log are still nobody else's to write to", async () => {
    const umask = process.umask(0);
    await mounted().finally(() => process.umask(umask));
    const files = [socketPath(mnt), logPath(mnt), socketPath(mnt).replace(/sock$/, "json")];
    expect(files.map((path) => statSync(path).mode & 0o22)).toEqual([0, 0, 0]);
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("SIGTERM while the volume is still being opened: it is not mounted, and nobody has to say it twice", async () => {
    const pid = await mounted();
    await run(["sh", "-c", `for i in $(seq 200); do mkdir ${mnt}/d$i; done; sync ${mnt}/d200`]);
    process.kill(pid, "SIGKILL");
    await until("the end of the daemon", () => !alive(pid));
    expect((await cli("umount", mnt)).status).toBe(0);

    const disk = await StallDisk.open(image);
    const mount = spawn(process.execPath, [ocfs2, "mount", "-f", disk.path, mnt], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const exit = once(mount, "exit");
    let said = "";
    mount.stderr.on("data", (text) => (said += text));
    await until("the replay", () => said.includes("replaying the journal"));
    await disk.stall();
    mount.kill("SIGTERM");
    await disk.go();
    const [status] = (await exit) as [number];
    // 0: the volume was open before it heard of the signal, and was unmounted again.
    if (status !== 0)
      expect([status, said]).toEqual([
        32,
        expect.stringContaining(`${disk.path} is not mounted: the mount was called off\n`),
      ]);
    expect(isMounted(mnt)).toBe(false);
    disk.close();
    expect(fsck(image).findings).toEqual([]);
  });

  test("with a /run that is full it is not mounted, and says so: nobody would find it again", async () => {
    const pid = await mounted();
    expect((await cli("umount", mnt)).status).toBe(0);
    expect(alive(pid)).toBe(false);
    const script = `mount -t tmpfs -o size=8k tmpfs /run/ocfs2; head -c 8192 /dev/zero > /run/ocfs2/full; "$@"; echo $?; grep -c ' ${mnt} ' /proc/self/mounts`;
    const ran = await runAsync(
      [
        "unshare",
        "--mount",
        "sh",
        "-c",
        `${dropOtherMounts()}; ${script}`,
        "sh",
        process.execPath,
        ocfs2,
        "mount",
        image,
        mnt,
      ],
      { timeout_ms: 60_000 },
    );
    expect(ran.stdout).toBe("32\n0\n");
    expect(ran.stderr).toMatch(/^ocfs2 mount: \S+ is not mounted: \/run\/ocfs2 is on a file system that is full\n$/);
    expect(fsck(image).findings).toEqual([]);
  });

  test("a mount whose notifier threads do not start fails; in a cluster the node was fenced for it", async () => {
    mnt = mountPoint();
    const ran = await mountWith(
      'if (require("node:worker_threads").workerData?.mailbox) throw new Error("no descriptors");',
      ...["-o", "lockdomain=random:1"],
    );
    expect(ran.stderr).toContain(`ocfs2 mount: ${fresh} cannot be served: no descriptors\n`);
    expect(ran.status).toBe(32);
    expect(isMounted(mnt)).toBe(false);
    expect(fsck(fresh).findings).toEqual([]);
  });

  test("what goes wrong right behind mount(2), for want of descriptors say, leaves nothing mounted that nobody serves", async () => {
    mnt = mountPoint();
    const ran = await mountWith(`
      const fs = require("node:fs");
      const { readFileSync } = fs;
      fs.readFileSync = (path, ...more) => {
        const read = readFileSync(path, ...more);
        if (path === "/proc/self/mountinfo" && read.includes("${mnt}")) throw new Error("no descriptors");
        return read;
      };
      require("node:module").syncBuiltinESMExports();`);
    expect(ran).toMatchObject({ status: 32, stderr: "ocfs2 mount: no descriptors\n" });
    expect(isMounted(mnt)).toBe(false);
  });

  test("in the foreground, with nobody left who reads its messages: it ends as well as with somebody", async () => {
    dir = tempDir("ocfs2-life");
    image = join(dir, "volume.img");
    sh(["cp", "--sparse=always", fresh, image]);
    mnt = mountPoint();
    const mount = spawn(process.execPath, [ocfs2, "mount", "-f", image, mnt], { stdio: ["ignore", "ignore", "pipe"] });
    const exit = once(mount, "exit");
    await until("the mount", () => isMounted(mnt));
    mount.stderr.destroy();
    writeFileSync(join(mnt, "a"), "kept");
    const fd = openSync(join(mnt, "a"), "r");
    // It says that it is in use.
    mount.kill("SIGTERM");
    await until("the mount to leave the tree", () => !isMounted(mnt));
    closeSync(fd);
    expect(await exit).toEqual([0, null]);
    expect(fsck(image).findings).toEqual([]);
  });

  test("a mount in use is not unmounted, and says what to do", async () => {
    await mounted();
    const holder = spawn("sleep", ["60"], { cwd: mnt, stdio: "ignore" });
    const busy = await cli("umount", mnt);
    expect(busy).toMatchObject({
      status: 32,
      stderr: `ocfs2 umount: ${mnt} is in use: "fuser -vm ${mnt}" shows by whom; or use -l\n`,
    });
    expect(isMounted(mnt)).toBe(true);
    holder.kill();
    await until("the end of sleep", () => !alive(holder.pid!));
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("a mount that a container has a copy of is waited for, and it is said whose it is", async () => {
    await mounted();
    const script = `${dropOtherMounts(mnt)}; exec sleep 60`;
    const holder = spawn("unshare", ["--mount", "sh", "-c", script], { stdio: "ignore" });
    await until("its own tree of mounts", () => readFileSync(`/proc/${holder.pid}/comm`, "utf8") === "sleep\n");
    const child = spawn(process.execPath, [ocfs2, "umount", mnt], {
      env: toolEnv(),
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (text) => (said += text));
    await until("who holds it", () => said.endsWith("\n"));
    expect(said).toBe(
      `ocfs2: ${mnt} is unmounted here, but process ${holder.pid} (sleep) has it mounted at ${mnt} still: waiting for that to end\n`,
    );
    expect(child.exitCode).toBe(null);
    holder.kill();
    expect(await once(child, "exit")).toEqual([0, null]);
    expect(fsck(image).findings).toEqual([]);
  });

  test("a mount right behind umount(2) waits for the end of the one before", async () => {
    const pid = await mounted();
    // It stands still: whatever the mount looks at first, the one before is still there.
    process.kill(pid, "SIGSTOP");
    // umount(8) would ask it about the mount.
    await run(["python3", "-c", `import ctypes; assert ctypes.CDLL(None).umount2(b"${mnt}", 0) == 0`]);
    const again = cli("mount", image, mnt);
    const first = await Promise.race([again, new Promise((ok) => setTimeout(ok, 2000, "waits"))]);
    process.kill(pid, "SIGCONT");
    expect(first).toBe("waits");
    expect(await again).toMatchObject({ status: 0, stderr: "" });
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("kill -9: what was fsynced is there after the next mount, and umount clears the rest away", async () => {
    const pid = await mounted();
    // The kernel has the folder's attributes, and gives them for the dead mount, too.
    await run(["sh", "-c", `echo durable > ${mnt}/a && sync ${mnt}/a && echo lost > ${mnt}/b && stat ${mnt}`]);
    process.kill(pid, "SIGKILL");
    await until("the end of the daemon", () => !alive(pid));
    expect(isMounted(mnt)).toBe(true);
    expect(await cli("mount", image, mnt)).toMatchObject({
      status: 32,
      stderr: `ocfs2 mount: ${mnt} has the mount of a process that has ended: "ocfs2 umount ${mnt}" first\n`,
    });
    expect((await cli("umount", mnt)).status).toBe(0);
    expect(isMounted(mnt)).toBe(false);
    expect((await cli("mount", image, mnt)).status).toBe(0);
    expect(readFileSync(join(mnt, "a"), "utf8")).toBe("durable\n");
    expect((await cli("umount", mnt)).status).toBe(0);
    expect(fsck(image).findings).toEqual([]);
  });

  test("a mount of whose process there is no record here, as in a container with another /run: while it lives it is not cut off", async () => {
    const pid = await mounted();
    const kept = readdirSync("/run/ocfs2").filter(
      (name) => name.endsWith(".json") && readFileSync(join("/run/ocfs2", name), "utf8").includes(image),
    );
    const records = kept.map((name) => [join("/run/ocfs2", name), readFileSync(join("/run/ocfs2", name))] as const);
    for (const [path] of records) rmSync(path);
    const holder = spawn("sleep", ["60"], { cwd: mnt, stdio: "ignore" });
    expect(await cli("umount", mnt)).toMatchObject({ status: 32, stderr: expect.stringContaining("is in use") });
    writeFileSync(join(mnt, "a"), "it answers");
    for (const [path, bytes] of records) writeFileSync(path, bytes);
    holder.kill();
    await until("the end of sleep", () => !alive(holder.pid!));
    expect((await cli("umount", mnt)).status).toBe(0);
    await until("the end of the daemon", () => !alive(pid));
  });

  test("kill -9 while a thread of it cannot end: who waits for the mount is answered all the same", async () => {
    const pid = await mounted();
    // As with a thread that waits for a page which a program holds that waits for us.
    const holder = spawn("python3", [join(repoRoot, "test/support/hold_fuse.py"), `${pid}`], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      const [said] = (await once(holder.stdout, "data")) as [Buffer];
      // Python may write the end of the line by itself.
      expect(said.toString()).toMatch(/^held/);
      process.kill(pid, "SIGKILL");
      await until("the end of the daemon", () => !alive(pid));
      const asked = await runAsync(["ls", join(mnt, "nothing")], { timeout_ms: 10_000 });
      expect(asked).toMatchObject({ status: 2, stderr: expect.stringMatching(/not connected|connection abort/) });
    } finally {
      holder.stdin.end();
      await once(holder, "exit");
    }
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("-o ro after kill -9: the journal is replayed, and the socket left behind is no hindrance", async () => {
    const pid = await mounted();
    await run(["sh", "-c", `echo durable > ${mnt}/a && sync ${mnt}/a`]);
    process.kill(pid, "SIGKILL");
    await until("the end of the daemon", () => !alive(pid));
    await run(["umount", "-l", mnt]);
    // The record is lost, say with a full /run; the socket is not.
    for (const name of readdirSync("/run/ocfs2"))
      if (name.endsWith(".json") && readFileSync(join("/run/ocfs2", name), "utf8").includes(image))
        rmSync(join("/run/ocfs2", name));

    const loop = sh(["losetup", "--find", "--show", "--read-only", image]).trim();
    const refused = await cli("mount", "-o", "ro", loop, mnt);
    sh(["losetup", "--detach", loop]);
    expect(refused.status).toBe(32);
    expect(refused.stderr).toContain("must be replayed, but the device is read-only: make it writable");

    expect(await cli("mount", "-o", "ro", image, mnt)).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(join(mnt, "a"), "utf8")).toBe("durable\n");
    expect(() => writeFileSync(join(mnt, "b"), "")).toThrow("EROFS");
    // The status comes through the socket.
    expect((await statusOf(mnt))?.requests).toBeGreaterThan(0);
    expect((await cli("umount", mnt)).status).toBe(0);
    expect(fsck(image).findings).toEqual([]);
  });

  test("a disk that takes no more writes: its errno, then read-only; what was fsynced is there once it works again", async () => {
    dir = tempDir("ocfs2-life");
    // A loop device over a file that cannot grow fails as a disk does.
    sh(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", dir]);
    let loop = "";
    try {
      image = join(dir, "volume.img");
      sh(["cp", "--sparse=always", fresh, image]);
      loop = sh(["losetup", "--find", "--show", image]).trim();
      mnt = mountPoint();
      expect((await cli("mount", loop, mnt)).status).toBe(0);
      await run(["sh", "-c", `head -c 1000000 /dev/zero | tr '\\0' k > ${mnt}/kept && sync ${mnt}/kept`]);
      const full = await runAsync(["dd", "if=/dev/urandom", `of=${mnt}/big`, "bs=1M", "count=150", "conv=fsync"], {
        timeout_ms: 60_000,
      });
      expect(full.status).not.toBe(0);
      expect(full.stderr).toMatch(/Input\/output error|I\/O error|No space left|Read-only file system/);
      // The journal, too, meets the end of the disk sooner or later.
      const made = await runAsync(
        ["sh", "-c", `for i in $(seq 20000); do echo x > ${mnt}/f$i || exit 1; done; sync -f ${mnt}`],
        {
          timeout_ms: 60_000,
        },
      );
      expect(made.status).not.toBe(0);
      expect(made.stderr).toMatch(/Input\/output error|I\/O error|No space left|Read-only file system/);
      expect((await run(["md5sum", `${mnt}/kept`])).length).toBeGreaterThan(32);
      const left = await cli("umount", mnt);
      expect(left.stderr).toContain("was not closed cleanly");
      expect(left.status).toBe(32);

      sh(["mount", "-o", "remount,size=512m", dir]);
      expect((await cli("mount", loop, mnt)).status).toBe(0);
      expect(readFileSync(join(mnt, "kept"), "utf8")).toBe("k".repeat(1_000_000));
      expect((await cli("umount", mnt)).status).toBe(0);
      expect(fsck(image).findings).toEqual([]);
    } finally {
      if (mnt !== undefined && isMounted(mnt)) forceUnmount(mnt);
      if (loop !== "") sh(["losetup", "--detach", loop]);
      sh(["umount", "-l", dir]);
    }
  });

  test.each([
    ["remount-ro", /Read-only file system/],
    ["continue", /^$/],
    ["panic", /never asked/],
  ])("errors=%s after bad contents were read", async (mode, then) => {
    const first = await mounted();
    writeFileSync(join(mnt, "bad"), "x");
    const { ino } = statSync(join(mnt, "bad"));
    expect((await cli("umount", mnt)).status).toBe(0);
    const fd = openSync(image, "r+");
    const signature = Buffer.alloc(7);
    const at = [512, 1024, 2048, 4096]
      .map((blocksize) => ino * blocksize)
      .find((offset) => {
        readSync(fd, signature, 0, 7, offset);
        return signature.toString() === "INODE01";
      });
    writeSync(fd, "NOTANODE", at!);
    closeSync(fd);
    expect((await cli("mount", "-o", `errors=${mode}`, image, mnt)).status).toBe(0);
    const pid = (await statusOf(mnt))!.pid;
    expect(pid).not.toBe(first);
    const read = await runAsync(["cat", join(mnt, "bad")], { timeout_ms: 30_000 });
    expect(read.stderr).toMatch(/Input\/output error|not connected|connection abort/i);
    if (mode === "panic") await until("the end of the daemon", () => !alive(pid));
    else expect((await runAsync(["mkdir", join(mnt, "new")], { timeout_ms: 30_000 })).stderr).toMatch(then);
    if (isMounted(mnt)) await cli("umount", mnt);
    expect(isMounted(mnt)).toBe(false);
  });

  test("mount(8), fstab's options and umount(8) work through the helpers", async () => {
    dir = tempDir("ocfs2-life");
    image = join(dir, "volume.img");
    sh(["cp", "--sparse=always", fresh, image]);
    mnt = mountPoint();
    const sbin = join(dir, "sbin");
    mkdirSync(sbin);
    expect((await cli("install-helper", "--dir", sbin)).status).toBe(0);
    // mount(8) looks in /sbin only, so the helpers are called as it calls them.
    await run([join(sbin, "mount.fuse.ocfs2"), image, mnt, "-o", "rw,noatime,_netdev,x-systemd.automount"]);
    expect(readFileSync("/proc/self/mounts", "utf8")).toContain(`${image} ${mnt} fuse.ocfs2 rw,noatime`);
    writeFileSync(join(mnt, "f"), "");
    await run([join(sbin, "umount.fuse.ocfs2"), mnt]);
    expect(await statusOf(mnt)).toBeUndefined();
    expect(fsck(image).findings).toEqual([]);
    expect((await cli("install-helper", "--dir", sbin, "--remove")).status).toBe(0);
    expect(existsSync(join(sbin, "mount.fuse.ocfs2"))).toBe(false);
  });

  test("a user mounts through fusermount3", async (t) => {
    if (missing("fusermount3", "setpriv").length > 0) return t.skip();
    dir = tempDir("ocfs2-life");
    chmodSync(dir, 0o711);
    image = join(dir, "volume.img");
    sh(["cp", "--sparse=always", fresh, image]);
    mnt = mountPoint();
    const uid = 65534;
    const run_time = join(dir, "run");
    mkdirSync(run_time);
    for (const path of [image, mnt, run_time]) chownSync(path, uid, uid);
    const env = { ...toolEnv(), XDG_RUNTIME_DIR: run_time, HOME: run_time, OCFS2_NO_BUILD: "1" };
    const asUser = (...args: string[]): Promise<Ran> =>
      runAsync(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...args], { env, timeout_ms: 60_000 });
    if ((await asUser("test", "-w", "/dev/fuse")).status !== 0) return t.skip("/dev/fuse is for root only");
    if ((await asUser("test", "-r", ocfs2)).status !== 0) return t.skip("the checkout may not be read by others");
    // Whoever made the folder that stands in for that first would have our sockets.
    const theirs = "/tmp/ocfs2-65534";
    const was_there = existsSync(theirs);
    if (!was_there) mkdirSync(theirs);
    const { XDG_RUNTIME_DIR: _, ...bare } = env;
    const trapped = await runAsync(
      ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, ocfs2, "mount", image, mnt],
      { env: bare, timeout_ms: 60_000 },
    );
    if (!was_there) {
      expect(trapped).toMatchObject({
        status: 32,
        stderr: expect.stringContaining(`${theirs} is not a folder of this user's`),
      });
      rmSync(theirs, { recursive: true });
    }
    const refused = await asUser(process.execPath, ocfs2, "mount", "-f", image, dir);
    expect(refused).toMatchObject({ status: 32, stderr: expect.stringMatching(/^fusermount3: .*no write access/) });
    const ran = await asUser(process.execPath, ocfs2, "mount", image, mnt);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect((await asUser("sh", "-c", `ls -a ${mnt}`)).stdout).toContain("lost+found");
    // Root knows nothing of it, and does not take it for one that nobody serves.
    const words = [
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      "sh",
      "-c",
      `cd ${mnt} && echo in && exec sleep 60`,
    ];
    const user = spawn("setpriv", words, { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(user.stdout, "data");
      expect(await cli("umount", mnt)).toMatchObject({ status: 32, stderr: expect.stringContaining("is in use") });
    } finally {
      user.kill();
      await once(user, "exit");
    }
    expect(await asUser(process.execPath, ocfs2, "umount", mnt)).toMatchObject({ status: 0, stderr: "" });
    expect(isMounted(mnt)).toBe(false);
    expect(fsck(image).findings).toEqual([]);
  });

  test("chattr's flags are changed by whom the kernel lets, whatever number the ioctl is given", async () => {
    const program = `
import errno, fcntl, os, struct, sys
os.chdir(sys.argv[1])
for name in "theirs", "own":
    with open(name, "w") as f: os.fchmod(f.fileno(), 0o644)
os.chown("own", 65534, 65534)
SETFLAGS, FSSETXATTR, IMMUTABLE, NODUMP = 0x40086602, 0x401c5820, 0x10, 0x40
fcntl.ioctl(os.open("theirs", os.O_RDONLY), SETFLAGS, struct.pack("<Q", IMMUTABLE))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
def tried(name, nr, flags=0):
    try:
        fcntl.ioctl(os.open(name, os.O_RDONLY), nr, bytearray(struct.pack("<Q", flags) + bytes(64)), True)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
print(tried("theirs", SETFLAGS), tried("theirs", FSSETXATTR), tried("own", SETFLAGS, NODUMP))
# Of 32 bits, and both with other directions and sizes.
print(*[tried(name, nr, IMMUTABLE) for nr in (0x40046602, 0xc0086602, 0x80086602, 0xc0406602, 0xc01c5820, 0x40205820) for name in ("theirs", "own")])
`;
    const flags = async (option: string): Promise<string> => {
      await mounted("-o", option);
      const said = await run(["python3", "-c", program, mnt]);
      const shown = sh(["lsattr", join(mnt, "theirs"), join(mnt, "own")]).replaceAll(`${mnt}/`, "");
      sh(["chattr", "-i", join(mnt, "theirs")]);
      expect((await cli("umount", mnt)).status).toBe(0);
      return `${said}${shown}`;
    };
    const refused = Array(12).fill("ENOTTY").join(" ");
    expect(await flags("rw")).toMatch(new RegExp(`^EPERM EPERM ok\\n${refused}\\n----i-+ theirs\\n------d-+ own\\n$`));
    // A kernel that does not ask for itself.
    expect(await flags("fuse_minor=33")).toMatch(
      new RegExp(`^EPERM EPERM EPERM\\n${refused}\\n----i-+ theirs\\n-+ own\\n$`),
    );
  });

  test.each([
    [["-o", "frobnicate"], 1, "unknown mount option frobnicate"],
    [["-o", "errors=maybe"], 1, "errors=maybe is none of remount-ro, panic, continue"],
    [["-o", "commit"], 1, "option commit needs a value: commit=..."],
    [["-o", "ro=1"], 1, "option ro takes no value"],
    [["-o", "cache=1M"], 1, "cache=1M is not between 16M and 2G"],
  ])("options %j are refused", async (args, status, said) => {
    mnt = mountPoint();
    expect(await cli("mount", ...args, fresh, mnt)).toMatchObject({ status, stderr: `ocfs2 mount: ${said}\n` });
  });

  /** A volume with more feature bits than it was made with. */
  function withFeatures(word: "s_feature_incompat" | "s_feature_ro_compat", bits: number): void {
    dir = tempDir("ocfs2-life");
    image = join(dir, "volume.img");
    sh(["cp", "--sparse=always", fresh, image]);
    mnt = mountPoint();
    const fd = openSync(image, "r+");
    const block = Buffer.alloc(4096);
    const at = [512, 1024, 2048, 4096].map((blocksize) => 2 * blocksize);
    const found = at.find((offset) => {
      readSync(fd, block, 0, 4096, offset);
      return block.subarray(0, 6).toString() === "OCFSV2";
    });
    Dinode.at(new DataView(block.buffer, block.byteOffset, 4096), 0).i_super[word] |= bits;
    writeSync(fd, block, 0, 4096, found!);
    closeSync(fd);
  }

  test.each([
    [FEATURE_INCOMPAT.TUNEFS_INPROG, "feature aborted-tunefs is not supported: tunefs.ocfs2 was not let to its end"],
    [FEATURE_INCOMPAT.HEARTBEAT_DEV, "feature heartbeat-device is not supported: this is a device for the global"],
    [1 << 24, "feature 0x1000000 is not supported: the volume was made by something newer"],
  ])("a feature that must be known (%s) is named, and nothing mounted", async (bits, said) => {
    withFeatures("s_feature_incompat", bits);
    const ran = await cli("mount", image, mnt);
    expect(ran.status).toBe(32);
    expect(ran.stderr).toContain(`ocfs2 mount: ${image}: ${said}`);
    expect(ran.stderr.trimEnd()).not.toContain("\n");
  });

  test.each([
    [1 << 24, "unsupported feature 0x1000000"],
    [FEATURE_RO_COMPAT.USRQUOTA, "feature usrquota is supported read-only"],
  ])("a feature without which nobody writes (%s): read-only, saying why", async (bits, said) => {
    withFeatures("s_feature_ro_compat", bits);
    const ran = await cli("mount", image, mnt);
    expect(ran).toMatchObject({ status: 0, stderr: `ocfs2 mount: ${image} is mounted read-only: ${said}\n` });
    expect(() => writeFileSync(join(mnt, "new"), "")).toThrow("EROFS");
    expect((await cli("umount", mnt)).status).toBe(0);
  });

  test("blocks that are smaller than the device's sectors are refused, with what to do", async () => {
    dir = tempDir("ocfs2-life");
    image = join(dir, "volume.img");
    mkfs(image, 64, ["-b", "1K", "-C", "4K", "-N", "1"]);
    mnt = mountPoint();
    const loop = sh(["losetup", "--find", "--show", "--sector-size", "4096", image]).trim();
    try {
      expect(await cli("mount", loop, mnt)).toMatchObject({
        status: 32,
        stderr: `ocfs2 mount: ${loop}: blocks of 1024 bytes on a device that takes no less than 4096: copy the volume to a device with smaller sectors, or make a new one with larger blocks\n`,
      });
    } finally {
      sh(["losetup", "--detach", loop]);
    }
  });

  test.skipIf(no_python)("sectors of 4096 bytes on a kernel that does not say what O_DIRECT takes", async () => {
    dir = tempDir("ocfs2-life");
    image = join(dir, "volume.img");
    mkfs(image, 64, ["-b", "4K", "-C", "4K", "-N", "1"]);
    mnt = mountPoint();
    const loop = sh(["losetup", "--find", "--show", "--sector-size", "4096", image]).trim();
    try {
      expect(await without(STATX, Errno.ENOSYS, "mount", loop, mnt)).toMatchObject({ status: 0, stderr: "" });
      expect((await cli("umount", mnt)).status).toBe(0);
    } finally {
      sh(["losetup", "--detach", loop]);
    }
  });

  test.skipIf(no_python)("where io_uring is forbidden that is said, with what to do", async () => {
    mnt = mountPoint();
    const ran = await without(IO_URING_SETUP, Errno.EPERM, "mount", fresh, mnt);
    expect(ran.stderr).toMatch(/^ocfs2 mount: .*fresh.img: io_uring is forbidden here: allow it with "sysctl kernel/);
    expect(ran.status).toBe(32);
  });

  test("quotas that the volume does not have are not mounted as if it had them", async () => {
    mnt = mountPoint();
    expect(await cli("mount", "-o", "usrquota", fresh, mnt)).toMatchObject({
      status: 32,
      stderr: `ocfs2 mount: ${fresh}: -o usrquota: the volume has no such quotas; tunefs.ocfs2 --fs-features=usrquota adds them\n`,
    });
  });

  test("what cannot be mounted is said in one line, with exit code 32", async () => {
    mnt = mountPoint();
    const junk = join(tempDir("ocfs2-life"), "junk");
    writeFileSync(junk, Buffer.alloc(1 << 20));
    const lines: [string[], RegExp][] = [
      [["/nowhere/at/all", mnt], /^ocfs2 mount: \/nowhere\/at\/all does not exist\n$/],
      [[fresh, "/nowhere/at/all"], /^ocfs2 mount: \/nowhere\/at\/all does not exist: make the folder first\n$/],
      [[fresh, fresh], /^ocfs2 mount: .* is not a folder\n$/],
      [["/dev/null", mnt], /^ocfs2 mount: \/dev\/null: .*neither a file nor a block device\n$/],
      [[mnt, mnt], /^ocfs2 mount: .* is a folder: name a block device or a file with a volume/],
      [[junk, mnt], /^ocfs2 mount: .*no OCFS2 volume\n$/],
    ];
    for (const [args, said] of lines) {
      const ran = await cli("mount", ...args);
      expect(ran.stderr).toMatch(said);
      expect(ran.status).toBe(32);
    }
    expect(await cli("umount", mnt)).toMatchObject({ status: 32, stderr: `ocfs2 umount: ${mnt} is not mounted\n` });
    expect(await cli("umount", "/proc")).toMatchObject({
      status: 32,
      stderr: 'ocfs2 umount: /proc is no mount of ocfs2 (its type is proc): "umount /proc"\n',
    });
  });
});
