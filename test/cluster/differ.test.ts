/** Random system calls, each on one of two nodes, and what came of it as the other one sees it: the same as on ext4 (test/support/differ.c). */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { firstDifference } from "../e2e/differ.ts";
import { buildC } from "../support/build_c.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck, KEPT_SPACE } from "../support/judges.ts";
import { runAsync } from "../support/sh.ts";
import { startTarget, type Target, targetUnavailable } from "../support/targets.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const SEED = Number(process.env["OCFS2_DIFFER_SEED"] ?? 1);
const SEEDS = Number(process.env["OCFS2_DIFFER_SEEDS"] ?? 1);
const CALLS = Number(process.env["OCFS2_DIFFER_CALLS"] ?? 250);
const unavailable = clusterUnavailable() ?? targetUnavailable("ext4");

describe.skipIf(unavailable !== undefined)("random system calls on two nodes", () => {
  const image = unavailable === undefined ? clusterImage(512) : "";
  let rig: ClusterRig;
  let members: OurMember[];
  let ext4: Target;

  beforeAll(async () => {
    ext4 = await startTarget("ext4", { size_mib: 512, mkfsExt4: ["-O", "ea_inode"], mountExt4: "noatime" });
    rig = new ClusterRig(image, [15, 16]);
    members = [15, 16].map((n) => new OurMember(rig, n));
    await Promise.all(members.map((m) => m.mount("noatime")));
  }, 60_000);

  afterAll(async () => {
    await Promise.all(members.map((m) => m.unmount()));
    await ext4.stop();
    const judged = fsck(image);
    expect(
      judged.findings.filter((line) => !KEPT_SPACE.test(line)),
      judged.output,
    ).toEqual([]);
    rig.close();
  }, 60_000);

  test.each(Array.from({ length: SEEDS }, (_, i) => SEED + i))("seed %d", { timeout: 600_000 }, async (seed) => {
    const one = async (dirs: string[], known: string[]): Promise<string> => {
      mkdirSync(join(dirs[0]!, String(seed)));
      const argv = [
        buildC("differ.c"),
        ...known,
        String(seed),
        String(CALLS),
        ...dirs.map((d) => join(d, String(seed))),
      ];
      const ran = await runAsync(argv, { timeout_ms: 300_000 });
      return ran.status === 0 ? ran.stdout : `${ran.stdout}ended with ${ran.status}: ${ran.stderr}`;
    };
    const said = await Promise.all([
      one([ext4.dir, ext4.dir], ["-k"]),
      one(
        members.map((m) => m.dir),
        [],
      ),
    ]);
    expect(firstDifference(...said)).toBeUndefined();
  });
});
