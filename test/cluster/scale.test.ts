/**
 * More nodes on one volume: what a mount, a lock and a recovery cost as they become more, and that each still sees what the others did.
 * Long; runs with OCFS2_LONG=1, and prints the table of docs/BENCHMARKS.md.
 */
import { expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { coherence } from "./coherence.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const NODES = 12;
const LOCKS = 100;

const timed = async (fn: () => Promise<unknown>): Promise<number> => {
  const start_ms = performance.now();
  await fn();
  return performance.now() - start_ms;
};

test.runIf(process.env["OCFS2_LONG"] === "1" && clusterUnavailable() === undefined)(
  "twelve nodes of ours on one volume",
  async () => {
    const numbers = Array.from({ length: NODES }, (_, i) => 11 + i);
    const image = clusterImage(1024, ["-N", "16", "-b", "4K", "-C", "4K", "-J", "size=8M"]);
    // mkfs.ocfs2's own system directory has no index when it does not fit its inode.
    const before = fsck(image).findings;
    const rig = new ClusterRig(image, numbers);
    const members: OurMember[] = [];
    const rows: string[] = [];
    for (const number of numbers) {
      const m = new OurMember(rig, number);
      const mount_ms = await timed(() => m.mount("cache=32M"));
      members.push(m);
      if (![2, 3, 6, 9, 12].includes(members.length)) continue;
      // New files of this node: a lock that nobody has, asked of all; then each is taken over from its maker.
      const first = members[0]!;
      const dir = `n${members.length}`;
      const make_ms = await timed(() =>
        m.run(`mkdir $D/${dir}; cd $D/${dir}; for i in $(seq ${LOCKS}); do echo $i >f$i; done`),
      );
      const take_ms = await timed(() => first.run(`cd $D/${dir}; for i in $(seq ${LOCKS}); do echo x >>f$i; done`));
      const victim = members[1]!;
      victim.kill();
      const recover_ms = await timed(() => first.run(`touch $D/${dir}/after; ls $D >/dev/null; echo y >>$D/${dir}/f1`));
      await victim.mount("cache=32M");
      rows.push(
        `| ${members.length} | ${(mount_ms / 1000).toFixed(1)} | ${(make_ms / LOCKS).toFixed(1)} | ${(take_ms / LOCKS).toFixed(1)} | ${(recover_ms / 1000).toFixed(1)} |`,
      );
      console.log(rows.at(-1));
    }
    const wrong: string[] = [];
    for (const [a, b] of [
      [0, 11],
      [11, 5],
      [5, 0],
    ] as const)
      wrong.push(...(await coherence(members[a]!, members[b]!)));
    expect(wrong).toEqual([]);
    console.log(
      `| nodes | mount, s | new file, ms | append to another's, ms | first change after a death, s |\n|---|---|---|---|---|\n${rows.join("\n")}`,
    );
    for (const m of members) await m.unmount();
    const judged = fsck(image, before);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  },
  1_200_000,
);
