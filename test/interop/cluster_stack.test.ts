/**
 * Heartbeat and o2net of ours beside a kernel node, on one image and one network: each sees the other come, talks to it, and sees it
 * go. The kernel's log is the judge.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { Errno } from "../../src/lib/errno.ts";
import { atExit, tempDir } from "../support/cleanup.ts";
import { CLUSTER, ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { sparseFile } from "../support/images.ts";
import { long } from "../support/long.ts";
import type { KernelNode } from "../support/rig.ts";
import { sh } from "../support/sh.ts";

class Peer {
  readonly lines: string[] = [];
  readonly #proc: ChildProcess;
  #changed: () => void = () => {};

  constructor(rig: ClusterRig, num: number) {
    const runner = join(import.meta.dirname, "../support/run_ts.mjs");
    const code = `import(${JSON.stringify(runner)}).then((m) => m.loadTs("test/support/cluster_peer.ts"))`;
    const [nsenter = "", ...args] = rig.prefix;
    this.#proc = spawn(nsenter, [...args, process.execPath, "-e", code, rig.conf, rig.nameOf(num), rig.image], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    atExit(() => this.#proc.kill("SIGKILL"));
    createInterface({ input: this.#proc.stdout! }).on("line", (line) => {
      this.lines.push(line);
      this.#changed();
    });
  }

  say(line: string): void {
    this.#proc.stdin!.write(`${line}\n`);
  }

  /** Waits for a line that has not been waited for before; how long it took. */
  async hear(line: string, limit_ms = 40_000): Promise<number> {
    const start_ms = performance.now();
    await new Promise<void>((ok, fail) => {
      const timer = setTimeout(() => fail(new Error(`no "${line}" among ${JSON.stringify(this.lines)}`)), limit_ms);
      const look = (): void => {
        const at = this.lines.indexOf(line);
        if (at < 0) return;
        clearTimeout(timer);
        this.lines.splice(at, 1);
        ok();
      };
      this.#changed = look;
      look();
    });
    return performance.now() - start_ms;
  }
}

/** The console's line has come. */
async function logged(kernel: KernelNode, line: string): Promise<void> {
  for (let i = 0; i < 100 && !kernel.console().includes(line); i++) await new Promise((r) => setTimeout(r, 100));
  expect(kernel.console()).toContain(line);
}

const why = clusterUnavailable();
if (why !== undefined) console.warn(`SKIPPED: the cluster stack beside a kernel node: ${why}`);

/** A kernel node that has the volume mounted, and two of ours that know each other and it. */
async function three(): Promise<{ rig: ClusterRig; kernel: KernelNode; a: Peer; b: Peer }> {
  const image = join(tempDir("ocfs2-stack"), "image");
  sparseFile(image, 256);
  sh(["mkfs.ocfs2", "-q", "-F", "-N", "4", "--cluster-stack=o2cb", `--cluster-name=${CLUSTER}`, image]);
  const rig = new ClusterRig(image, [1, 11, 12]);
  const kernel = await rig.kernel(1);
  await kernel.mount();
  const [a, b] = [new Peer(rig, 11), new Peer(rig, 12)];
  await Promise.all([a.hear("steady"), b.hear("steady")]);
  await Promise.all([a.hear("connected 1 12"), b.hear("connected 1 11")]);
  return { rig, kernel, a, b };
}

test.skipIf(why !== undefined)("a kernel node and two of ours see each other live, talk, leave and die", async () => {
  const { rig, kernel, a, b } = await three();
  await logged(kernel, `o2net: Accepted connection from node ${rig.nameOf(11)} (num 11)`);
  await logged(kernel, `o2net: Accepted connection from node ${rig.nameOf(12)} (num 12)`);

  // No handler has that type and key, there and here.
  a.say("send 1 499");
  await a.hear(`answer ${-Errno.ENOPROTOOPT} 0`);
  a.say("send 12 499");
  await a.hear(`answer ${-Errno.ENOPROTOOPT} 0`);

  a.say("leave");
  await a.hear("left");
  // A farewell is seen at the next beat, long before the dead time.
  expect(await b.hear("down 11")).toBeLessThan(6000);
  await logged(kernel, `o2net: No longer connected to node ${rig.nameOf(11)} (num 11)`);
  expect(kernel.complaints()).toEqual([]);

  kernel.kill();
  const took_ms = await b.hear("down 1");
  expect(took_ms).toBeGreaterThan(9000);
  expect(took_ms).toBeLessThan(20_000);
  b.say("leave");
  await b.hear("left");
  expect([...a.lines, ...b.lines].filter((line) => /^(fence|failed)/.test(line))).toEqual([]);
  rig.close();
});

// The idle time-out and the quorum's delay are 48 s, which nobody wants to wait for each time.
test.skipIf(why !== undefined || !long)(
  "of three nodes the one whose network is cut gives up; the others go on",
  async () => {
    const { rig, kernel, a, b } = await three();
    rig.cut(11, true);
    const needed = "only connected to 1 nodes and 2 is needed to make a quorum out of 3 heartbeating nodes";
    expect(await a.hear(`fence ${needed}`, 60_000)).toBeGreaterThan(40_000);
    await b.hear("down 11");
    await logged(kernel, "not fencing this node, heartbeating: 3, connected: 2, lowest: 1 (reachable)");
    expect(b.lines.filter((line) => /^(fence|failed|down)/.test(line))).toEqual([]);
    kernel.kill();
    rig.close();
  },
);
