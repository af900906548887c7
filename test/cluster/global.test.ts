/**
 * Global heartbeat: regions on several devices say who lives, for all volumes. Nodes of ours start theirs with the first mount; one region that is late
 * ends nobody.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startTime } from "../../src/cli/run_dir.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { tempDir } from "../support/cleanup.ts";
import { CLUSTER, ClusterRig, clusterUnavailable, type Region } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { mountPoint, ocfs2 } from "../support/mount.ts";
import { runAsync, sh } from "../support/sh.ts";
import { StallDisk } from "../support/stall.ts";
import { coherence } from "./coherence.ts";
import { OF_A_DEATH } from "./complaints.ts";
import { KernelMember, OurMember } from "./members.ts";

function globalVolume(mib: number): Region {
  const path = join(tempDir("ocfs2-global"), "image");
  sh(["truncate", "-s", `${mib}M`, path]);
  const cluster = ["--cluster-stack=o2cb", `--cluster-name=${CLUSTER}`, "--global-heartbeat"];
  sh(["mkfs.ocfs2", "-q", "-F", "-N", "4", "-b", "4K", "-C", "4K", ...cluster, path]);
  return { path, uuid: findHeartbeatArea(path).uuid };
}

/** Starts our node, and its heartbeat on the regions. */
async function register(rig: ClusterRig, m: OurMember, devices: readonly string[]): Promise<void> {
  const cluster = async (...args: string[]): Promise<void> => {
    const argv = [...rig.prefix, process.execPath, ocfs2, "cluster", "--config-file", rig.conf, ...args];
    expect(await runAsync(argv, { timeout_ms: 60_000 })).toMatchObject({ status: 0, stderr: "" });
  };
  await cluster("register-cluster", CLUSTER, "--node", m.name);
  await cluster("start-heartbeat", CLUSTER, "--node", m.name, "--device", ...devices);
}

const stop = (m: OurMember) => runAsync([process.execPath, ocfs2, "node", "stop", "--node", m.name]);

/** The regions of a kernel node, on its disks in their order. What o2cb start-heartbeat does, which does not look at such disks. */
async function startKernelRegions(k: KernelMember, regions: readonly Region[]): Promise<void> {
  const start = regions.map(({ uuid, path }, i) => {
    const { slot_bytes, offset_bytes } = findHeartbeatArea(path);
    const dir = `/sys/kernel/config/cluster/${CLUSTER}/heartbeat/${uuid}`;
    const set = `echo ${slot_bytes} >block_bytes; echo ${offset_bytes / slot_bytes} >start_block; echo 255 >blocks`;
    return `(set -e; mkdir ${dir}; cd ${dir}; ${set}; exec 9<>/dev/ubd${"abcdef"[i]}; echo 9 >dev) &`;
  });
  await k.run(`${start.join("\n")} wait`);
}

describe.skipIf(clusterUnavailable() !== undefined)("global heartbeat", () => {
  test.skipIf(!long)(
    "with a kernel node, on three devices; who dies is recovered",
    async () => {
      const regions = [globalVolume(192), globalVolume(64), globalVolume(64)];
      const image = regions[0]!.path;
      const rig = new ClusterRig(image, [1, 11], 7, 30_000, regions);
      const k = new KernelMember(rig.nameOf(1), await rig.kernel(1));
      const o = new OurMember(rig, 11);
      await Promise.all([
        startKernelRegions(k, regions),
        register(
          rig,
          o,
          regions.map((r) => r.path),
        ),
      ]);
      await k.node.mount();
      await o.mount();
      const { heartbeat } = (await o.status()) as unknown as { heartbeat: { name: string; live: number[] }[] };
      expect(heartbeat.map((h) => h.name).sort()).toEqual(regions.map((r) => r.uuid).sort());
      expect(heartbeat.map((h) => h.live)).toEqual([1, 2, 3].map(() => [1, 11]));
      // One way: mixed.test.ts has both.
      expect(await coherence(o, k)).toEqual([]);
      // The one of ours goes without a word; the kernel node takes over.
      await o.run("echo last >$D/last; sync $D/last");
      o.kill();
      expect(await k.run("cat /o/last; touch /o/on; echo on")).toBe("last\non\n");
      await register(
        rig,
        o,
        regions.map((r) => r.path),
      );
      await o.mount();
      expect(await o.run("ls $D/on >/dev/null && echo back")).toBe("back\n");
      await o.unmount();
      await stop(o);
      await k.node.unmount();
      expect(k.node.complaints().filter((line) => !OF_A_DEATH.test(line))).toEqual([]);
      k.node.kill();
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    },
    420_000,
  );

  test.skipIf(!long)(
    "two nodes of ours: the mount starts it; one late region of three ends nobody, two do",
    async () => {
      const regions = [globalVolume(128), globalVolume(64), globalVolume(64)];
      const image = regions[0]!.path;
      const rig = new ClusterRig(image, [11, 12], 7, 30_000, regions);
      const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
      const disks = [await StallDisk.open(regions[1]!.path), await StallDisk.open(regions[2]!.path)];
      // Regions in files cannot be found by looking at the machine's devices.
      await expect(a.mount()).rejects.toThrow(
        /no device has the heartbeat region [0-9A-F]{32}: attach it, or name it with "ocfs2 cluster start-heartbeat rig --device PATH"\n/,
      );
      await Promise.all([
        register(rig, a, [image, disks[0]!.path, disks[1]!.path]),
        register(
          rig,
          b,
          regions.map((r) => r.path),
        ),
      ]);
      await Promise.all([a.mount(), b.mount()]);
      await a.run("echo one >$D/x");
      expect(await b.run("cat $D/x")).toBe("one\n");
      await disks[0]!.stall();
      // Longer than the dead time.
      await new Promise((ok) => setTimeout(ok, 20_000));
      expect(await a.run("echo two >$D/x; cat $D/x")).toBe("two\n");
      expect(await b.run("cat $D/x")).toBe("two\n");
      await disks[1]!.stall();
      // Waits for the gate that shuts, and then is answered.
      const writes = a.run("while echo more >>$D/w && sync $D/w; do :; done 2>&1; echo ended");
      const { pid } = a;
      // Now it has to go; what it held is the other one's after the recovery.
      await expect.poll(() => startTime(a.pid), { timeout: 25_000 }).toBe(undefined);
      expect(await b.run("cat $D/x; echo three >$D/x; cat $D/x", 60_000)).toBe("two\nthree\n");
      // Nobody is left waiting for its mount, though two threads of its process still wait for their disks.
      expect(await writes).toMatch(/ended\n$/);
      expect(readdirSync(`/proc/${pid}/task`).length).toBeGreaterThan(1);
      await expect(a.run("ls $D")).rejects.toThrow(/Transport endpoint is not connected/);
      // What a stalled disk holds of it goes with the disk.
      for (const disk of disks) await disk.fail();
      expect(a.log()).toMatch(/heartbeat write timeout: this node is considered dead by the others and ends itself/);
      a.kill();
      await b.unmount();
      await stop(b);
      for (const disk of disks) disk.close();
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    },
    180_000,
  );

  test("a volume for the other mode is refused, with what to do", async () => {
    const [hb] = [globalVolume(64)];
    const rig = new ClusterRig(hb!.path, [11]);
    const o = `node=${rig.nameOf(11)},config=${rig.conf}`;
    const dir = mountPoint();
    const ran = await runAsync([...rig.prefix, process.execPath, ocfs2, "mount", "-o", o, hb!.path, dir]);
    expect(ran).toMatchObject({
      status: 32,
      stderr: `ocfs2 mount: ${hb!.path} is for global heartbeat, but the cluster "rig" has local: change the cluster on all nodes with "ocfs2 cluster heartbeat-mode rig global", or the volume with tunefs.ocfs2 --update-cluster-stack\n`,
    });
    rig.close();
  }, 60_000);
});
