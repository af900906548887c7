/**
 * The disk of all nodes stalls at once, for longer than the time after which a node ends itself: they ask the lowest of them, which sees that it is not they
 * (o2hb_nego_timeout), and all go on when the disk does.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { ClusterRig, clusterUnavailable, isKernel } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { StallDisk } from "../support/stall.ts";
import { OF_A_LEAVE } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, type Member, OurMember } from "./members.ts";

/** Dead after 14 s; a node ends itself after 12, and asks for time after 6. */
const STALL_MS = 20_000;

/** Waits for a heartbeat of node `n` that was written, and found again on the disk, after this was called. */
async function beatsOnce(image: string, n: number): Promise<void> {
  const { offset_bytes, slot_bytes } = findHeartbeatArea(image);
  const sequence = (): bigint => {
    const fd = openSync(image, "r");
    const block = Buffer.alloc(8);
    readSync(fd, block, 0, 8, offset_bytes + n * slot_bytes);
    closeSync(fd);
    return block.readBigUInt64LE();
  };
  // The one that is written next, and the one by which the node has seen it.
  for (let i = 0; i < 2; i++) {
    const before = sequence();
    await expect.poll(sequence, { timeout: 10_000 }).not.toBe(before);
  }
}

describe.skipIf(clusterUnavailable() !== undefined)(
  "a disk that stalls for all nodes at once ends none of them",
  () => {
    for (const [name, numbers] of [
      ["two nodes of ours", [11, 12]],
      ["a kernel node that decides, and one of ours", [1, 11]],
      ["one of ours that decides, and a kernel node", [11, 101]],
    ] as const)
      test.skipIf(!long && numbers.some(isKernel))(
        name,
        async () => {
          const image = clusterImage(128);
          const rig = new ClusterRig(image, numbers);
          const disks: StallDisk[] = [];
          const members: Member[] = [];
          const logs: (() => string)[] = [];
          const leave: (() => Promise<void>)[] = [];
          for (const n of numbers) {
            const disk = await StallDisk.open(image);
            disks.push(disk);
            if (isKernel(n)) {
              const k = new KernelMember(rig.nameOf(n), await rig.kernel(n, undefined, disk.path));
              await k.node.mount();
              members.push(k);
              logs.push(() => k.node.console());
              leave.push(async () => {
                await k.node.unmount();
                await k.node.stop(OF_A_LEAVE);
              });
            } else {
              const m = new OurMember(rig, n);
              await m.mount("", disk.path);
              members.push(m);
              logs.push(() => m.log());
              leave.push(() => m.unmount());
            }
          }
          const [a, b] = members as [Member, Member];
          await a.run("echo before >$D/x; sync $D/x");
          expect(await b.run("cat $D/x")).toBe("before\n");
          // A kernel node asks for time from its first beat after the mount on (o2hb_arm_timeout, when the region is steady).
          for (const n of numbers) await beatsOnce(image, n);
          await Promise.all(disks.map((d) => d.stall()));
          // What is written meanwhile waits.
          const waits = [a.run("echo a >$D/a; sync $D/a"), b.run("echo b >$D/b; sync $D/b")];
          await new Promise((ok) => setTimeout(ok, STALL_MS));
          await Promise.all(disks.map((d) => d.go()));
          await Promise.all(waits);
          expect(await b.run("cat $D/a $D/b")).toBe("a\nb\n");
          expect(await a.run("cat $D/a $D/b; echo after >$D/x; sync $D/x")).toBe("a\nb\n");
          expect(await b.run("cat $D/x")).toBe("after\n");
          expect(logs[0]!()).toMatch(/all nodes hb write hung/);
          expect(logs[1]!()).toMatch(/negotiate timeout (approved|with node)/);
          for (const go of leave) await go();
          for (const disk of disks) disk.close();
          const judged = fsck(image);
          expect(judged.findings, judged.output).toEqual([]);
          rig.close();
        },
        240_000,
      );
  },
);
