/** Two nodes of ours behind kernels that cannot drop names by inode (before Linux 6.18), or not even without waiting (before 6.16). */
import { describe, expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { coherenceBothWays } from "./coherence.ts";
import { clusterImage } from "./image.ts";
import { deleteWhatTheOtherHasOpen, deleteWhatTheOtherHasSeen } from "./life.ts";
import { OurMember } from "./members.ts";

describe.skipIf(clusterUnavailable() !== undefined)("behind an older kernel", () => {
  for (const minor of [43, 44])
    test(`FUSE 7.${minor}: what another node deleted gives its space back${long ? ", and both see what the other did" : ""}`, async () => {
      const image = clusterImage(256);
      const rig = new ClusterRig(image, [11, 12]);
      const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
      await Promise.all([a.mount(`fuse_minor=${minor}`), b.mount(`fuse_minor=${minor}`)]);
      await deleteWhatTheOtherHasSeen(a, b);
      await deleteWhatTheOtherHasOpen(b, a);
      if (long) await coherenceBothWays(a, b);
      await Promise.all([a.unmount(), b.unmount()]);
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    }, 300_000);
});
