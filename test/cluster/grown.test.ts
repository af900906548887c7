/** A kernel node makes the volume larger while a node of ours has it mounted: each uses what the other wrote into the new part. */
import { expect, test } from "vitest";
import { buildC, ccUnavailable } from "../support/build_c.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { sh } from "../support/sh.ts";
import { OF_A_LEAVE } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, OurMember } from "./members.ts";

/** The last of the groups, of 62 MiB each, is extended: the kernel refuses a volume of one. */
const [OLD_MIB, NEW_MIB] = [136, 184];

test.skipIf(clusterUnavailable() !== undefined || ccUnavailable() !== undefined)(
  "a volume grows under a node of the kernel and one of ours",
  async () => {
    // A volume at the beginning of a longer disk.
    const image = clusterImage(OLD_MIB, ["-N", "4", "-b", "2K", "-C", "4K", "-J", "size=4M"]);
    sh(["truncate", "-s", `${NEW_MIB}M`, image]);
    const known = fsck(image).findings;
    const rig = new ClusterRig(image, [1, 11]);
    const k = new KernelMember(rig.nameOf(1), await rig.kernel(1));
    const o = new OurMember(rig, 11);
    await k.node.mount();
    await o.mount();
    const free = Number(await k.run("stat -f -c %f /o"));
    await k.run(`head -c ${(free << 12) - (8 << 20)} /dev/zero >$D/full; sync`);
    await k.run(`/host${buildC("group_extend.c")} $D ${((NEW_MIB - OLD_MIB) << 20) / 4096}`);
    const kernels = await k.run(
      "head -c 24000000 /dev/urandom >$D/kernels; mkdir $D/d; for i in $(seq 300); do echo $i >$D/d/$i; done; md5sum <$D/kernels",
    );
    expect(await o.run("md5sum <$D/kernels")).toBe(kernels);
    expect(await o.run("cat $D/d/* | wc -l")).toBe("300\n");
    const ours = await o.run("head -c 24000000 /dev/urandom >$D/ours; sync; md5sum <$D/ours");
    expect(await k.run("md5sum <$D/ours")).toBe(ours);
    await o.run("rm -r $D/d $D/kernels; cp $D/ours $D/copy; truncate -s 1000000 $D/ours");
    await k.run("cmp -n 1000000 $D/ours $D/copy; rm $D/full");
    await o.unmount();
    await k.node.unmount();
    await k.node.stop(OF_A_LEAVE);
    const judged = fsck(image, known);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  },
  240_000,
);
