/** What a node asks ahead for takes nothing from the others for good: a file that is deleted in that moment is gone, with its space. */
import { describe, expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const RACE_SECONDS = Number(process.env["OCFS2_RACE_SECONDS"] ?? 8);
const FILES = 30;
const FILE_MIB = 8;
const GONE_MS = 60_000;

describe.skipIf(clusterUnavailable() !== undefined)("names in the order of a listing", () => {
  test("one node looks at all files of a folder over and over, the other makes and deletes them", async () => {
    const image = clusterImage(512);
    const rig = new ClusterRig(image, [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount(), b.mount()]);
    await b.run("mkdir $D/t; echo kept > $D/t/kept");
    const make = `for i in $(seq ${FILES}); do fallocate -l ${FILE_MIB}M $D/t/f$i; done; rm $D/t/f*`;
    const freeMib = async (m: OurMember): Promise<number> =>
      Number(await m.run("echo $(( $(stat -f -c '%f * %S' $D) >> 20 ))"));
    await b.run(make);
    // Space that was freed comes back a moment later.
    await expect.poll(() => freeMib(b), { timeout: GONE_MS, interval: 500 }).toBeGreaterThan(FILES * FILE_MIB);
    const before_mib = await freeMib(b);
    const more = `end=$((SECONDS + ${RACE_SECONDS})); while [ $SECONDS -lt $end ]; do`;
    const [looked] = await Promise.all([
      a.run(`n=0; ${more} find $D/t -size -100 >/dev/null 2>&1; n=$((n + 1)); done; echo $n`),
      b.run(`${more} ${make}; done`),
    ]);
    expect(Number(looked)).toBeGreaterThan(1);
    expect(await a.run("ls $D/t; cat $D/t/kept")).toBe("kept\nkept\n");
    // Nobody's orphan is left: neither node keeps one that only it had asked ahead for. A new group of inodes may be.
    for (const m of [a, b])
      await expect
        .poll(() => freeMib(m), { timeout: GONE_MS, interval: 500 })
        .toBeGreaterThan(before_mib - FILE_MIB / 2);
    await Promise.all([a.unmount(), b.unmount()]);
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 300_000);
});
