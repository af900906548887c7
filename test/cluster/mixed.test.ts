import { describe, expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { coherenceBothWays } from "./coherence.ts";
import { OF_A_LEAVE } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { life } from "./life.ts";
import { KernelMember, OurMember } from "./members.ts";
import { together } from "./together.ts";

describe.skipIf(clusterUnavailable() !== undefined)(
  "a node of ours and a node of the Linux kernel on one volume",
  () => {
    test("each sees at once what the other did", async () => {
      const image = clusterImage(256);
      const rig = new ClusterRig(image, [1, 11]);
      const k = new KernelMember(rig.nameOf(1), await rig.kernel(1));
      const o = new OurMember(rig, 11);
      await k.node.mount();
      await o.mount();
      await coherenceBothWays(k, o);
      await together(k, o);
      await life(k, o, false);
      await o.unmount();
      await k.node.unmount();
      // Throws when the kernel complained of anything.
      await k.node.stop(OF_A_LEAVE);
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    }, 480_000);
  },
);
