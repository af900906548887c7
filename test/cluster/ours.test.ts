import { describe, expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { CASES, coherenceBothWays } from "./coherence.ts";
import { MORE_CASES, OUR_CASES } from "./coherence_more.ts";
import { clusterImage } from "./image.ts";
import { life } from "./life.ts";
import { OurMember } from "./members.ts";
import { together } from "./together.ts";

describe.skipIf(clusterUnavailable() !== undefined)("two nodes of ours on one volume", () => {
  test("each sees at once what the other did", async () => {
    const image = clusterImage(256);
    const rig = new ClusterRig(image, [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount(), b.mount()]);
    await coherenceBothWays(a, b, [...CASES, ...MORE_CASES, ...OUR_CASES]);
    await together(a, b);
    await life(a, b, true);
    await a.unmount();
    await b.unmount();
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 300_000);
});
