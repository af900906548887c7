/**
 * A node whose journal was aborted, because the disk refused a write, holds locks on what it can no more bring to the disk. Its heartbeat is as good as ever, so
 * nobody would take its place: it has to end itself (ocfs2_abort), and then the others go on from its journal.
 */
import { expect, test } from "vitest";
import { startTime } from "../../src/cli/run_dir.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { StallDisk } from "../support/stall.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

test.skipIf(clusterUnavailable() !== undefined)(
  "a node whose journal was aborted ends itself, and the other one gets its locks and what it had fsynced",
  async () => {
    const image = clusterImage(128);
    const rig = new ClusterRig(image, [11, 12]);
    const disk = await StallDisk.open(image);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount("", disk.path), b.mount()]);
    await a.run("echo fsynced >$D/x; sync $D/x");
    const { offset_bytes, slot_bytes } = findHeartbeatArea(image);
    await disk.refuseWritesBut(offset_bytes, offset_bytes + 255 * slot_bytes);
    // Nothing of this reaches the disk, and it is said so.
    await expect(a.run("mkdir $D/lost; echo lost >>$D/x; sync $D/x")).rejects.toThrow();
    // Its heartbeat would go on for ever.
    await expect.poll(() => startTime(a.pid), { timeout: 10_000 }).toBe(undefined);
    expect(a.log()).toMatch(/very sorry to be fencing this node: .*the journal was aborted/);
    expect(await b.run("cat $D/x; ls $D; echo on >>$D/x; sync $D/x")).toBe("fsynced\nlost+found\nx\n");
    a.kill();
    await b.unmount();
    disk.close();
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  },
  120_000,
);
