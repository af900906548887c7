/** A kernel node mounts beside ours, which has changes that are only in its journal: it must see that we live, and recover nothing. */
import { expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, OurMember } from "./members.ts";

test.skipIf(clusterUnavailable() !== undefined)(
  "a kernel node that mounts beside ours recovers nothing, and sees what is only in our journal",
  async () => {
    const image = clusterImage(128);
    const rig = new ClusterRig(image, [1, 11]);
    const o = new OurMember(rig, 11);
    const booting = rig.kernel(1);
    await o.mount("commit=3600");
    await o.run("mkdir $D/d; echo one >$D/d/x; sync $D/d/x; for i in $(seq 50); do : >$D/d/$i; done");
    const k = new KernelMember(rig.nameOf(1), await booting);
    await k.node.mount();
    expect(await k.run("cat /o/d/x; ls /o/d | wc -l; mv /o/d/1 /o/d/one")).toBe("one\n51\n");
    expect(k.node.console()).not.toMatch(/replay journal|Recovering node|Beginning|Finishing/);
    expect(k.node.console()).toMatch(/Mounting device .* on \(node 1, slot 1\)/);
    expect(await o.run("ls $D/d/one | wc -l")).toBe("1\n");
    await k.node.unmount();
    await k.node.stop();
    await o.unmount();
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  },
  120_000,
);
