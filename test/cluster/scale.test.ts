/**
 * More nodes on one volume (bench/scale measures them, and kills one at each number): each still sees what the others did.
 * Long; runs with OCFS2_LONG=1.
 */
import { expect, test } from "vitest";
import { measureScale, scaleImage, toMarkdown } from "../../bench/scale/scale.ts";
import { clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { coherence } from "./coherence.ts";

test.runIf(long && clusterUnavailable() === undefined)(
  "twelve nodes of ours on one volume",
  async () => {
    const image = scaleImage();
    // mkfs.ocfs2's own system directory has no index when it does not fit its inode.
    const before = fsck(image).findings;
    const wrong: string[] = [];
    const rows = await measureScale({
      counts: [2, 3, 6, 9, 12],
      turns: 100,
      image,
      onStep: () => {},
      async look(members) {
        for (const [a, b] of [
          [0, 11],
          [11, 5],
          [5, 0],
        ] as const)
          wrong.push(...(await coherence(members[a]!, members[b]!)));
      },
    });
    console.log(toMarkdown(rows));
    expect(wrong).toEqual([]);
    const judged = fsck(image, before);
    expect(judged.findings, judged.output).toEqual([]);
  },
  1_200_000,
);
