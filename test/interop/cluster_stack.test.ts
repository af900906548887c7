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

const why = clusterUnavailable();
if (why !== undefined) console.warn(`SKIPPED: the cluster stack beside a kernel node: ${why}`);

test.skipIf(why !== undefined)("a kernel node and two of ours see each other live, talk, leave and die", async () => {
  const image = join(tempDir("ocfs2-stack"), "image");
  sparseFile(image, 256);
  sh(["mkfs.ocfs2", "-q", "-F", "-N", "4", "--cluster-stack=o2cb", `--cluster-name=${CLUSTER}`, image]);
  const rig = new ClusterRig(image, [1, 11, 12]);
  const kernel = await rig.kernel(1);
  const logged = async (line: string): Promise<void> => {
    for (let i = 0; i < 100 && !kernel.console().includes(line); i++) await new Promise((r) => setTimeout(r, 100));
    expect(kernel.console()).toContain(line);
  };
  await kernel.mount();

  const [a, b] = [new Peer(rig, 11), new Peer(rig, 12)];
  await Promise.all([a.hear("steady"), b.hear("steady")]);
  await Promise.all([a.hear("connected 1 12"), b.hear("connected 1 11")]);
  await logged(`o2net: Accepted connection from node ${rig.nameOf(11)} (num 11)`);
  await logged(`o2net: Accepted connection from node ${rig.nameOf(12)} (num 12)`);

  // No handler has that type and key, there and here.
  a.say("send 1 499");
  await a.hear(`answer ${-Errno.ENOPROTOOPT} 0`);
  a.say("send 12 499");
  await a.hear(`answer ${-Errno.ENOPROTOOPT} 0`);

  a.say("leave");
  await a.hear("left");
  // A farewell is seen at the next beat, long before the dead time.
  expect(await b.hear("down 11")).toBeLessThan(6000);
  await logged(`o2net: No longer connected to node ${rig.nameOf(11)} (num 11)`);
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
