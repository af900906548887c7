/**
 * A node that stops for longer than its deadline and goes on (a frozen machine, a debugger, a very long pause), or whose disk does: the others have
 * taken its place by then, and nothing of it may reach the disk any more. The kernel's own nodes go on as if nothing had been.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { describe, expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { StallDisk } from "../support/stall.ts";
import { OF_A_DEATH } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, OurMember } from "./members.ts";

async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** Keeps many writes of all kinds on their way. */
const BUSY =
  "cd $D/w; for n in 1 2 3; do (i=0; while :; do i=$((i+1)); echo $i >>log-$n; head -c 300000 /dev/zero >x-$n; rm -f x-$n; " +
  "echo $i >y-$n-$((i % 50)); sync log-$n; done) & done; wait";

/** The kernel's node goes on where ours was, and leaves; the image as it then is. */
async function kernelGoesOn(kernel: KernelMember, image: string): Promise<string> {
  const said = await kernel.run("cd $D; cat kept; touch w/after; for i in $(seq 50); do echo $i >w/y-1-$i; done; sync");
  expect(said).toBe("fsynced\n");
  await kernel.node.unmount();
  return hashOf(image);
}

async function processEnds(pid: number): Promise<void> {
  for (let i = 0; i < 100 && existsSync(`/proc/${pid}/fd`); i++) await new Promise((r) => setTimeout(r, 100));
  expect(existsSync(`/proc/${pid}/fd`), "its process has ended").toBe(false);
}

// A minute and a half: native/heartbeat.test.ts has the core of it in two seconds.
describe.skipIf(clusterUnavailable() !== undefined || !long)("a node that others have recovered", () => {
  test("was stopped and goes on: it writes nothing and ends itself", async () => {
    const image = clusterImage(256);
    const rig = new ClusterRig(image, [1, 11]);
    const kernel = new KernelMember(rig.nameOf(1), await rig.kernel(1));
    const ours = new OurMember(rig, 11);
    await kernel.node.mount();
    await ours.mount();
    const { pid } = ours;
    await ours.run("mkdir $D/w; echo fsynced >$D/kept; sync $D/kept");
    const busy = ours.run(BUSY).catch(() => {});
    await ours.run("until [ -s $D/w/y-3-5 ]; do sleep 0.1; done");
    ours.signal("SIGSTOP");
    const before = await kernelGoesOn(kernel, image);
    ours.signal("SIGCONT");
    await processEnds(pid);
    expect(await hashOf(image)).toBe(before);
    expect(ours.log()).toContain("considered dead by the others");
    ours.kill();
    await busy;
    expect(kernel.node.complaints().filter((line) => !OF_A_DEATH.test(line))).toEqual([]);
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 200_000);

  test("had a disk that stalled and is let go: it has ended, and sent no write after its lease", async () => {
    const image = clusterImage(256);
    const rig = new ClusterRig(image, [1, 11]);
    const disk = await StallDisk.open(image);
    const kernel = new KernelMember(rig.nameOf(1), await rig.kernel(1));
    const ours = new OurMember(rig, 11);
    await kernel.node.mount();
    await ours.mount("", disk.path);
    const { pid } = ours;
    await ours.run("mkdir $D/w; echo fsynced >$D/kept; sync $D/kept");
    const busy = ours.run(BUSY).catch(() => {});
    await ours.run("until [ -s $D/w/y-3-5 ]; do sleep 0.1; done");
    await disk.stall();
    const before = await kernelGoesOn(kernel, image);
    // As from a driver whose time is up: a device that would still do what it held needs fence_method reset (docs/CLUSTER.md).
    const { held, writes, last_write_ms } = await disk.fail();
    await processEnds(pid);
    expect(await disk.late()).toBe(0);
    expect(writes).toBeGreaterThan(0);
    expect(last_write_ms).toBeLessThan(rig.dead_threshold * 1000);
    console.log(
      `${held} requests held, ${writes} of them writes, the last ${Math.round(last_write_ms)} ms after the stall`,
    );
    expect(await hashOf(image)).toBe(before);
    ours.kill();
    await busy;
    disk.close();
    expect(kernel.node.complaints().filter((line) => !OF_A_DEATH.test(line))).toEqual([]);
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 200_000);
});
