/**
 * o2dlm of ours beside the kernel's, in the lock domain of a mounted volume: who masters what, who gives way to whom, LVBs, leaving and
 * dying. The kernel's log and its file system are the judges.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { atExit, tempDir } from "../support/cleanup.ts";
import { CLUSTER, ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { sparseFile } from "../support/images.ts";
import type { KernelNode } from "../support/rig.ts";
import { sh } from "../support/sh.ts";

class Peer {
  readonly lines: string[] = [];
  readonly proc: ChildProcess;
  #changed: () => void = () => {};

  constructor(rig: ClusterRig, num: number) {
    const runner = join(import.meta.dirname, "../support/run_ts.mjs");
    const code = `import(${JSON.stringify(runner)}).then((m) => m.loadTs("test/support/dlm_peer.ts"))`;
    const [nsenter = "", ...args] = rig.prefix;
    this.proc = spawn(nsenter, [...args, process.execPath, "-e", code, rig.conf, rig.nameOf(num), rig.image], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    atExit(() => this.proc.kill("SIGKILL"));
    createInterface({ input: this.proc.stdout! }).on("line", (line) => {
      this.lines.push(line);
      this.#changed();
    });
  }

  say(line: string): void {
    this.proc.stdin!.write(`${line}\n`);
  }

  /** Waits for a line that has not been waited for before. */
  async hear(what: RegExp, limit_ms = 60_000): Promise<RegExpMatchArray> {
    return new Promise((ok, fail) => {
      const timer = setTimeout(() => fail(new Error(`no ${what} among ${JSON.stringify(this.lines)}`)), limit_ms);
      const look = (): void => {
        const at = this.lines.findIndex((line) => what.test(line));
        if (at < 0) return;
        clearTimeout(timer);
        const [line] = this.lines.splice(at, 1);
        ok(line!.match(what)!);
      };
      this.#changed = look;
      look();
    });
  }

  /** Asks for a lock and waits for the AST: its status and LVB. */
  async lock(name: string, level: string, ...options: string[]): Promise<{ status: number; lvb: string }> {
    this.say(["lock", name, level, ...options].join(" "));
    const m = await this.hear(new RegExp(`^ast ${name.replace("$", "\\$")} (-?\\d+) ?(\\w*)$`));
    return { status: Number(m[1]), lvb: m[2]! };
  }

  async unlock(name: string): Promise<void> {
    this.say(`unlock ${name}`);
    await this.hear(new RegExp(`^unlocked ${name} 0$`));
  }

  async owner(name: string): Promise<string> {
    this.say(`owner ${name}`);
    return (await this.hear(new RegExp(`^owner ${name} (.*)$`)))[1]!;
  }
}

const why = clusterUnavailable();
if (why !== undefined) console.warn(`SKIPPED: the lock manager beside a kernel node: ${why}`);

/** A lock's name: type, block, generation. */
const lockName = (type: string, blkno: number, generation = 0): string =>
  `${type}000000${blkno.toString(16).padStart(16, "0")}${generation.toString(16).padStart(8, "0")}`;

describe.skipIf(why !== undefined)("o2dlm beside a kernel node", () => {
  let rig: ClusterRig;
  let kernel: KernelNode;
  let uuid = "";
  const peers: Peer[] = [];

  /** A node that has joined the volume's domain. */
  async function join_(num: number): Promise<Peer> {
    const peer = new Peer(rig, num);
    peers.push(peer);
    await peer.hear(/^steady$/);
    peer.say(`join ${uuid}`);
    await peer.hear(/^joined 0$/);
    return peer;
  }

  beforeAll(async () => {
    const image = join(tempDir("ocfs2-dlm"), "image");
    sparseFile(image, 256);
    sh(["mkfs.ocfs2", "-q", "-F", "-N", "4", "--cluster-stack=o2cb", `--cluster-name=${CLUSTER}`, image]);
    uuid = sh(["debugfs.ocfs2", "-R", "stats", image]).match(/UUID: (\w+)/)![1]!;
    rig = new ClusterRig(image, [1, 11, 12]);
    kernel = await rig.kernel(1);
    await kernel.mount();
  });

  afterAll(() => {
    for (const p of peers) p.proc.kill("SIGKILL");
    kernel?.kill();
    rig?.close();
  });

  test("locks that the kernel masters and locks that we master, leaving and dying", async () => {
    const a = await join_(11);
    // The super block's lock: the kernel has mastered it at its mount.
    const S = lockName("S", 2);
    expect(await a.lock(S, "PR")).toMatchObject({ status: 0 });
    expect(await a.owner(S)).toBe("1");
    await a.unlock(S);

    // A file of the kernel's: it holds EX, gives way, and its LVB is the size that it wrote.
    await kernel.run("echo -n 0123456789 > /o/file");
    const ino = Number(await kernel.run("stat -c %i /o/file"));
    const M = lockName("M", ino);
    const first = await a.lock(M, "PR", "lvb");
    expect(first.status).toBe(0);
    expect(await a.owner(M)).toBe("1");
    // ocfs2_meta_lvb: version 5, i_size at 0x28.
    expect(first.lvb.slice(0, 2)).toBe("05");
    expect(Number.parseInt(first.lvb.padEnd(128, "0").slice(0x28 * 2, 0x30 * 2), 16)).toBe(10);
    // It wants EX again: we hear of it, and it waits for us.
    const write = kernel.run("echo -n more >> /o/file; stat -c %s /o/file");
    await a.hear(new RegExp(`^bast ${M} 5$`));
    a.say(`lock ${M} NL lvb`);
    await a.hear(new RegExp(`^ast ${M} 0`));
    expect((await write).trim()).toBe("14");
    // And we want EX: our LVB, all zero, makes it read the disk.
    expect(await a.lock(M, "EX", "lvb")).toMatchObject({ status: 0 });
    const stat = kernel.run("stat -c %s /o/file");
    await a.hear(new RegExp(`^bast ${M} 3$`));
    a.say(`lvb ${M} 00`);
    a.say(`lock ${M} PR lvb`);
    await a.hear(new RegExp(`^ast ${M} 0`));
    expect((await stat).trim()).toBe("14");
    await a.unlock(M);

    // The journal's system file: the kernel keeps EX, so a trylock is refused.
    const journal = [...sh(["debugfs.ocfs2", "-R", "ls -l //", rig.image]).matchAll(/^\s*(\d+).*journal:0000$/gm)];
    const generation = Number.parseInt(
      sh(["debugfs.ocfs2", "-R", `stat <${journal[0]![1]}>`, rig.image]).match(/FS Generation: (\d+)/)![1]!,
      10,
    );
    const J = lockName("M", Number(journal[0]![1]), generation);
    expect(await a.lock(J, "EX", "try", "lvb")).toMatchObject({ status: -11 });

    // A lock that the kernel never heard of is ours. The open lock of a file, once the kernel opens it.
    const b = await join_(12);
    const ours = lockName("M", 0x7fff_0000);
    expect(await a.lock(ours, "EX", "lvb")).toMatchObject({ status: 0 });
    expect(await a.owner(ours)).toBe("11");
    b.say(`lock ${ours} PR lvb`);
    await a.hear(new RegExp(`^bast ${ours} 3$`));
    a.say(`lvb ${ours} 0102030405`);
    a.say(`lock ${ours} PR lvb`);
    await a.hear(new RegExp(`^ast ${ours} 0`));
    expect((await b.hear(new RegExp(`^ast ${ours} 0 ?(\\w*)$`)))[1]).toBe("0102030405");
    expect(await b.owner(ours)).toBe("11");

    // We master what the kernel will want: the next file's inode is where the last one's was, near enough to try a row of them.
    const names = Array.from({ length: 64 }, (_, i) => lockName("O", ino + i));
    for (const n of names) expect(await a.lock(n, "EX")).toMatchObject({ status: 0 });
    const mastered: string[] = [];
    for (const n of names) if ((await a.owner(n)).startsWith("11")) mastered.push(n);
    expect(mastered.length).toBeGreaterThan(40);
    for (const n of names) a.say(`lock ${n} NL`);
    for (const n of names) await a.hear(new RegExp(`^ast ${n} 0$`));
    await kernel.run("for i in $(seq 40); do echo $i > /o/new$i; done; ls -l /o > /dev/null");
    // The kernel holds locks on resources of ours.
    const used: string[] = [];
    for (const n of mastered) if ((await a.owner(n)).endsWith(" 1")) used.push(n);
    expect(used.length).toBeGreaterThan(0);

    // Whoever leaves gives them away; the kernel goes on with them.
    a.say(`unlock ${ours}`);
    for (const n of names) a.say(`unlock ${n}`);
    a.say(`unlock ${J}`);
    for (const n of [...names, ours, J]) await a.hear(new RegExp(`^unlocked ${n} 0$`));
    a.say("leave");
    await a.hear(/^left$/);
    expect(await b.owner(ours)).toBe("12");
    await kernel.run("for i in $(seq 40); do cat /o/new$i; done > /dev/null; rm /o/new[1-9]");
    expect(kernel.complaints()).toEqual([]);

    // Whoever dies is recovered by the others, one of them a kernel node: the file that it held at EX, and what it mastered itself.
    const c = await join_(11);
    expect(await c.lock(ours, "PR", "lvb")).toMatchObject({ status: 0 });
    expect(await c.owner(ours)).toBe("12");
    expect(await b.lock(M, "EX", "lvb")).toMatchObject({ status: 0 });
    const wait = kernel.run("echo -n x >> /o/file; stat -c %s /o/file", 120_000);
    await b.hear(new RegExp(`^bast ${M} [35]$`));
    b.proc.kill("SIGKILL");
    await c.hear(/^evicted 12$/);
    expect((await wait).trim()).toBe("15");
    expect(await c.lock(ours, "EX", "lvb")).toMatchObject({ status: 0 });
    expect(await c.owner(ours)).toMatch(/^(1|11)\b/);
    expect(kernel.complaints().filter((line) => !/o2net|link to|([Ee]rror|status =) -1\d\d/.test(line))).toEqual([]);

    // The kernel leaves, gives us what it mastered, and comes back to a domain that is ours alone.
    expect(await c.lock(M, "PR", "lvb")).toMatchObject({ status: 0 });
    expect(await c.owner(M)).toBe("1");
    await kernel.unmount();
    expect(await c.owner(M)).toBe("11");
    await kernel.mount();
    // Reading it, the kernel writes its atime: nobody else may hold it then.
    c.say(`lock ${M} NL lvb`);
    await c.hear(new RegExp(`^ast ${M} 0`));
    expect((await kernel.run("cat /o/file")).trim()).toBe("0123456789morex");
    expect(await c.owner(M)).toBe("11 1");

    // It dies, and we recover it.
    kernel.kill();
    await c.hear(/^evicted 1$/);
    expect(await c.lock(M, "EX", "lvb")).toMatchObject({ status: 0 });
    expect(await c.owner(M)).toBe("11");
    await c.unlock(M);
    await c.unlock(ours);
    c.say("leave");
    await c.hear(/^left$/);
    expect(peers.flatMap((p) => p.lines).filter((line) => /^(fence|failed|fatal)/.test(line))).toEqual([]);
  }, 300_000);
});
