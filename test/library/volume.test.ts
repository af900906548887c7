/** Opening and closing a volume, what only a volume has, and the face with callbacks. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { type OpenOptions, Volume } from "../../src/api/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { fsckClean } from "../support/judges.ts";
import { sh } from "../support/sh.ts";
import { lacksTools, newImage, onVolume } from "./support.ts";

describe.skipIf(lacksTools)("a volume in the library", () => {
  test("says what it is, and is whole when it was closed by `await using`", async () => {
    const image = newImage(["-L", "music", "-b", "4K", "-C", "32K"]);
    {
      await using v = await Volume.open(image);
      expect(v).toMatchObject({ label: "music", blockSize: 4096, clusterSize: 32768, readonly: false, path: image });
      expect(sh(["debugfs.ocfs2", "-R", "stats", image])).toContain(v.uuid);
      const s = await v.promises.statfs("/");
      expect(s).toMatchObject({ type: 0x7461636f, bsize: 32768, blocks: (256 << 20) / 32768 });
      expect((await v.promises.statfs("/", { bigint: true })).bfree).toBe(BigInt(s.bfree));
      await v.promises.writeFile("/song", Buffer.alloc(1 << 20, 7));
      // The window of the local allocator counts as used, as the kernel has it.
      expect((await v.promises.statfs("/")).bfree).toBeLessThanOrEqual(s.bfree - 32);
    }
    await fsckClean(image);
  });

  test("is refused where it cannot be opened, with a reason", async () => {
    const image = newImage();
    const empty = join(tempDir("ocfs2-lib"), "empty");
    writeFileSync(empty, "");
    truncateSync(empty, 1 << 20);
    await expect(Volume.open("/no/such/file")).rejects.toMatchObject({ code: "ENOENT", path: "/no/such/file" });
    await expect(Volume.open(undefined as unknown as string)).rejects.toMatchObject({ code: "ERR_INVALID_ARG_TYPE" });
    for (const [options, code] of [
      [{ readOnly: true }, "ERR_INVALID_ARG_VALUE"],
      [{ readonly: "yes" }, "ERR_INVALID_ARG_TYPE"],
      [{ commitSeconds: -1 }, "ERR_OUT_OF_RANGE"],
      [null, "ERR_INVALID_ARG_TYPE"],
    ] as const)
      await expect(Volume.open(image, options as unknown as OpenOptions)).rejects.toMatchObject({ code });
    await expect(Volume.open(empty)).rejects.toThrow(/EINVAL.*no OCFS2 volume/);
    const first = await Volume.open(image);
    await expect(Volume.open(image)).rejects.toMatchObject({ code: "EBUSY" });
    await first.close();
    await first.close();
    const clustered = newImage(["-M", "cluster", "--cluster-stack=o2cb", "--cluster-name=c", "-N", "2"]);
    await expect(Volume.open(clustered)).rejects.toThrow(/nocluster/);
    await onVolume(clustered, (v) => v.promises.writeFile("/f", "x"), { nocluster: true });
  });

  test("is not changed when opened for reading", async () => {
    const image = newImage();
    await onVolume(image, (v) => v.promises.writeFile("/f", "x"));
    const before = readFileSync(image);
    await onVolume(
      image,
      async (v) => {
        const p = v.promises;
        expect(v.readonly).toBe(true);
        expect(v.readonlyReason).toContain("read-only");
        expect(await p.readFile("/f", "utf8")).toBe("x");
        for (const change of [
          () => p.writeFile("/f", "y"),
          () => p.writeFile("/g", "y"),
          () => p.mkdir("/d"),
          () => p.unlink("/f"),
          () => p.rename("/f", "/g"),
          () => p.link("/f", "/g"),
          () => p.symlink("/f", "/g"),
          () => p.chmod("/f", 0),
          () => p.utimes("/f", 1, 1),
          () => p.truncate("/f"),
          () => p.rm("/f"),
          () => p.setxattr("/f", "user.a", "b"),
          () => p.access("/f", p.constants.W_OK),
          () => p.mkdtemp("/t"),
          () => p.copyFile("/f", "/g"),
        ])
          await expect(change()).rejects.toMatchObject({ code: "EROFS" });
      },
      { readonly: true },
    );
    expect(readFileSync(image).equals(before)).toBe(true);
  });

  test("refuses work once it is closed, and lets go of open handles", async () => {
    const v = await Volume.open(newImage());
    const h = await v.promises.open("/f", "w+");
    const dir = await v.promises.opendir("/");
    await h.write("x");
    await v.promises.unlink("/f");
    const late = v.promises.writeFile("/late", Buffer.alloc(4 << 20));
    await v.close();
    await late;
    await expect(v.promises.stat("/")).rejects.toMatchObject({ code: "ERR_VOLUME_CLOSED" });
    await expect(v.sync()).rejects.toMatchObject({ code: "ERR_VOLUME_CLOSED" });
    await expect(dir.read()).rejects.toMatchObject({ code: "ERR_VOLUME_CLOSED" });
    await expect(h.read()).rejects.toMatchObject({ code: "EBADF" });
    await h.close();
    await fsckClean(v.path);
  });

  test("waits for the calls of a handle before the handle or the volume is closed", async () => {
    const data = Buffer.alloc(5 << 20, 1);
    const image = newImage();
    const v = await Volume.open(image);
    const gone = await v.promises.open("/gone", "w+");
    await v.promises.unlink("/gone");
    let heard = 0;
    gone.on("close", () => heard++);
    const written = gone.write(data);
    await gone.close();
    expect(heard).toBe(1);
    expect(await written).toMatchObject({ bytesWritten: data.length });
    await expect(gone.write("x")).rejects.toMatchObject({ code: "EBADF" });

    const idle = (await v.promises.open("/idle", "w")).createWriteStream();
    const whole = await v.promises.open("/whole", "w");
    const pieces = whole.writeFile([data, data, "end"]);
    await Promise.all([v.close(), once(idle, "close")]);
    await pieces;
    await onVolume(image, async (w) => {
      expect((await w.promises.stat("/whole")).size).toBe(2 * data.length + 3);
    });
  });

  test("leaves a file as it is for what cannot be written to it", async () => {
    await onVolume(newImage(), async (v) => {
      const p = v.promises;
      await p.writeFile("/f", "precious");
      for (const args of [
        [5],
        [undefined],
        [{}],
        ["x", "no-encoding"],
        ["x", { flush: "yes" }],
        ["x", { signal: AbortSignal.abort() }],
        ["x", 5],
      ] as [string, string?][])
        await expect(p.writeFile("/f", ...(args as [string]))).rejects.toMatchObject({
          code: expect.stringMatching(/^ERR_|ABORT/),
        });
      expect(await p.readFile("/f", "utf8")).toBe("precious");
      await using h = await p.open("/f", "a");
      await expect(h.write(5 as never)).rejects.toMatchObject({ code: "ERR_INVALID_ARG_TYPE" });
    });
  });

  test("copies with COPYFILE_FICLONE_FORCE only where it can share", async () => {
    for (const [features, code] of [
      ["refcount", null],
      ["norefcount", "ENOTSUP"],
    ] as const)
      await onVolume(newImage([`--fs-features=${features}`]), async (v) => {
        const p = v.promises;
        await p.writeFile("/f", Buffer.alloc(1 << 20, 3));
        const copy = p.copyFile("/f", "/g", p.constants.COPYFILE_FICLONE_FORCE);
        if (code === null) await copy;
        else await expect(copy).rejects.toMatchObject({ code, syscall: "copyfile" });
        expect(await p.exists("/g")).toBe(code === null);
      });
  });

  test("is durable as far as it was synced when the process dies, and whole when the program just ends", async () => {
    // In dist/, where a program finds the addon and the module.
    const program = join(import.meta.dirname, "../../dist", `library_test.${process.pid}.mjs`);
    const source = `
      import { Volume } from ${JSON.stringify(join(import.meta.dirname, "../../src/api/index.ts"))};
      const v = await Volume.open(process.argv[2]);
      await v.promises.writeFile("/synced", "synced", { flush: true });
      await v.promises.writeFile("/late", "late");
      if (process.argv[3] === "die") process.kill(process.pid, "SIGKILL");
      if (process.argv[3] === "exit") process.exit(3);
    `;
    const { buildSync } = await import("esbuild");
    buildSync({
      stdin: { contents: source, resolveDir: import.meta.dirname, loader: "ts" },
      bundle: true,
      outfile: program,
      platform: "node",
      format: "esm",
      target: "node20",
    });
    try {
      for (const how of ["die", "end"]) {
        const image = newImage();
        const child = fork(program, [image, how]);
        const code = await new Promise((ok) => child.once("exit", (c, signal) => ok(signal ?? c)));
        expect(code).toBe(how === "die" ? "SIGKILL" : 0);
        if (how === "end") await fsckClean(image);
        await onVolume(image, async (v) => {
          expect(await v.promises.readFile("/synced", "utf8")).toBe("synced");
          if (how === "end") expect(await v.promises.readFile("/late", "utf8")).toBe("late");
        });
      }
      // A thread that ends is no process that ends: what it had open must be let go of all the same.
      for (const how of ["exit", "end"]) {
        const image = newImage();
        const worker = new Worker(program, { argv: [image, how], stderr: true });
        let said = "";
        worker.stderr.on("data", (text) => {
          said += text;
        });
        const code = await new Promise((ok) => worker.once("exit", ok));
        expect([code, said]).toEqual([how === "exit" ? 3 : 0, ""]);
        await onVolume(image, async (v) => expect(await v.promises.exists("/late")).toBe(how === "end"));
      }
    } finally {
      rmSync(program, { force: true });
    }
  });

  test("keeps extended attributes", async () => {
    await onVolume(newImage(), async (v) => {
      const p = v.promises;
      await p.writeFile("/f", "");
      await p.symlink("f", "/l");
      await p.setxattr("/l", "user.colour", "red", { create: true });
      await p.setxattr("/f", "user.large", Buffer.alloc(60_000, 5));
      expect((await p.listxattr("/f")).sort()).toEqual(["user.colour", "user.large"]);
      expect((await p.getxattr("/f", "user.colour")).toString()).toBe("red");
      expect((await p.getxattr("/f", "user.large")).equals(Buffer.alloc(60_000, 5))).toBe(true);
      await expect(p.setxattr("/f", "user.colour", "", { create: true })).rejects.toMatchObject({ code: "EEXIST" });
      await expect(p.setxattr("/f", "user.none", "", { replace: true })).rejects.toMatchObject({ code: "ENODATA" });
      await expect(p.getxattr("/f", "user.none")).rejects.toMatchObject({ code: "ENODATA", syscall: "getxattr" });
      expect(await p.llistxattr("/l")).toEqual([]);
      await p.removexattr("/f", "user.colour");
      expect(await p.listxattr("/f")).toEqual(["user.large"]);
    });
  });

  test("says that there is no space, and has it again", async () => {
    await onVolume(newImage([], 64), async (v) => {
      const p = v.promises;
      const { bfree, bsize } = await p.statfs("/");
      const data = Buffer.alloc(1 << 20, 1);
      const full = (async () => {
        for (let i = 0; i < 100; i++) await p.appendFile("/full", data);
      })();
      await expect(full).rejects.toMatchObject({ code: "ENOSPC", syscall: "write" });
      expect((await p.stat("/full")).size).toBeGreaterThan(bfree * bsize * 0.7);
      await p.rm("/full");
      await v.sync();
      await p.writeFile("/again", Buffer.alloc(30 << 20));
    });
  });

  test("a write finds room among data that was only read, with nobody else at work", { timeout: 30_000 }, async () => {
    await onVolume(
      newImage(),
      async (v) => {
        await v.promises.writeFile("/read", Buffer.alloc(40 << 20));
        await v.sync();
        for await (const piece of v.fs.createReadStream("/read")) expect(piece.length).toBeGreaterThan(0);
        await using h = await v.promises.open("/written", "w");
        for (let i = 0; i < 64; i++) await h.write(Buffer.alloc(1 << 16, 1));
      },
      // No timer comes by to help.
      { commitSeconds: 3600 },
    );
  });

  test("has what a program for node:fs with callbacks asks for", async () => {
    await onVolume(newImage(), async (v) => {
      const { fs } = v;
      const call = promisify as unknown as (fn: unknown) => (...args: unknown[]) => Promise<unknown>;
      await call(fs.mkdir)("/d");
      await call(fs.writeFile)("/d/f", "hello", { encoding: "utf8" });
      expect(await call(fs.readFile)("/d/f", "utf8")).toBe("hello");
      expect(await call(fs.readdir)("/d")).toEqual(["f"]);
      const missing = await new Promise((ok) => fs.stat("/none", (err) => ok(err)));
      expect(missing).toMatchObject({ code: "ENOENT", syscall: "stat" });
      expect(await new Promise((ok) => fs.exists("/d/f", ok))).toBe(true);

      const fd = (await call(fs.open)("/d/f", "r+")) as number;
      const read = await new Promise((ok, no) =>
        fs.read(fd, Buffer.alloc(3), 0, 3, 1, (err: unknown, n: number, b: Buffer) =>
          err ? no(err) : ok([n, `${b}`]),
        ),
      );
      expect(read).toEqual([3, "ell"]);
      expect(((await call(fs.fstat)(fd)) as { size: number }).size).toBe(5);
      await call(fs.ftruncate)(fd, 2);
      await call(fs.fsync)(fd);
      expect(await call(fs.writev)(fd, [Buffer.from("b"), Buffer.from("y")], 0)).toMatchObject({ bytesWritten: 2 });
      expect(await call(fs.read)(fd, Buffer.alloc(2), 0, 2, 0)).toMatchObject({ bytesRead: 2 });
      expect(await call(fs.exists)("/d/f")).toBe(true);
      expect(await call(fs.readFile)(fd, "utf8")).toBe("by");
      expect(() => fs.read(fd, Buffer.alloc(1), 0, 1, 0 as never)).toThrow(/cb/);
      await call(fs.close)(fd);
      await expect(call(fs.fstat)(fd)).rejects.toMatchObject({ code: "EBADF", errno: -9, syscall: "fstat" });

      const w = fs.createWriteStream("/d/stream");
      for (let i = 0; i < 5000; i++) w.write(`${i},`);
      w.end();
      await finished(w);
      let text = "";
      for await (const piece of fs.createReadStream("/d/stream", { encoding: "utf8", highWaterMark: 1000 }))
        text += piece;
      expect(text.split(",")).toHaveLength(5001);
      const r = fs.createReadStream("/d/stream", { start: 2, end: 4 });
      const seen: unknown[] = [r.path, r.pending];
      r.on("open", (n) => seen.push(typeof n)).on("ready", () => seen.push("ready", `${r.read()}`));
      await new Promise((ok) => r.once("ready", () => r.close(ok)));
      expect(seen.slice(0, 4)).toEqual(["/d/stream", true, "number", "ready"]);
      expect(() => fs.createReadStream("/d/stream", { start: 5, end: 2 })).toThrow(/"start"/);
      await expect(finished(fs.createReadStream("/none").resume())).rejects.toMatchObject({ code: "ENOENT" });
    });
  });

  test("removes a tree with rmdir, as older programs ask it to", async () => {
    await onVolume(newImage(), async (v) => {
      const p = v.promises;
      await p.mkdir("/d/e", { recursive: true });
      await p.writeFile("/d/e/f", "");
      await expect(p.rmdir("/d")).rejects.toMatchObject({ code: "ENOTEMPTY" });
      await expect(p.rmdir("/d/e/f", { recursive: true })).rejects.toMatchObject({ code: "ENOTDIR" });
      await expect(p.rmdir("/none", { recursive: true })).rejects.toMatchObject({ code: "ENOENT" });
      await p.rmdir("/d", { recursive: true });
      expect(await p.readdir("/")).toEqual(["lost+found"]);
    });
  });

  test("does not watch", async () => {
    await onVolume(newImage(), async (v) => {
      expect(() => v.promises.watch("/")).toThrow(/watch is unavailable/);
      await expect(v.promises.lchmod("/", 0)).rejects.toMatchObject({ code: "ERR_METHOD_NOT_IMPLEMENTED" });
    });
  });
});
