/** A node dies: the others recover it and go on; what it had fsynced is there. */
import { describe, expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { OF_A_DEATH } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, type Member, OurMember } from "./members.ts";

const SYNCED = "cd $D; mkdir -p w; for i in $(seq 1 20); do echo line-$i >w/f-$i; done; sync w/f-*";
/** Writes until its node is killed: open files, unlinks, appends, none of it fsynced. */
const BUSY =
  "cd $D/w || exit; i=0; while echo $i >>log; do i=$((i+1)); echo $i >x-$((i % 50)); rm -f x-$(((i + 25) % 50)); done";
const CHECK = "cd $D; cat w/f-* | wc -l; touch after; ls w >/dev/null; echo more >>w/f-1; tail -1 w/f-1";

/** The survivor's first commands after the death, and how long they took. */
async function survives(survivor: Member): Promise<number> {
  const start_ms = performance.now();
  expect(await survivor.run(CHECK)).toBe("20\nmore\n");
  return performance.now() - start_ms;
}

describe.skipIf(clusterUnavailable() !== undefined)("a node that dies", () => {
  test("ours, while ours goes on; it comes back", async () => {
    const image = clusterImage(256);
    const rig = new ClusterRig(image, [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount(), b.mount()]);
    await a.run(SYNCED);
    const busy = a.run(BUSY).catch(() => {});
    await b.run("cd $D/w || exit; for i in $(seq 1 30); do echo $i >>other; cat log >/dev/null 2>&1; done; true");
    a.kill();
    const took_ms = await survives(b);
    console.log(`ours after ours: ${Math.round(took_ms)} ms\n${b.log()}`);
    expect(took_ms).toBeLessThan(40_000);
    await busy;
    await a.mount();
    expect(await a.run("cat $D/w/other | wc -l; tail -1 $D/w/f-1")).toBe("30\nmore\n");
    await a.unmount();
    await b.unmount();
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 200_000);

  // Two minutes on two cores: npm test has the deaths of ours; scripts/deaths.mjs runs all.
  test.runIf(long)(
    "ours, while a kernel's goes on; and the other way about",
    async () => {
      const image = clusterImage(256);
      const rig = new ClusterRig(image, [1, 11]);
      const k = new KernelMember(rig.nameOf(1), await rig.kernel(1));
      const o = new OurMember(rig, 11);
      await k.node.mount();
      await o.mount();
      await o.run(SYNCED);
      const busy = o.run(BUSY).catch(() => {});
      await k.run("cd $D/w || exit; for i in $(seq 1 10); do echo $i >>other; cat log >/dev/null 2>&1; done; true");
      o.kill();
      const after_ours_ms = await survives(k);
      await busy;
      await o.mount();
      expect(await o.run("cat $D/w/other | wc -l; tail -1 $D/w/f-1")).toBe("10\nmore\n");
      await k.run("cd $D; rm -rf w; mkdir w; for i in $(seq 1 20); do echo line-$i >w/f-$i; done; sync w/f-*");
      const kernel_busy = k.run(BUSY).catch(() => {});
      await o.run("cd $D/w || exit; for i in $(seq 1 10); do echo $i >>other; cat log >/dev/null 2>&1; done; true");
      const complaints = k.node.complaints().filter((line) => !OF_A_DEATH.test(line));
      k.node.kill();
      const after_kernel_ms = await survives(o);
      await kernel_busy;
      console.log(
        `kernel after ours: ${Math.round(after_ours_ms)} ms, ours after kernel: ${Math.round(after_kernel_ms)} ms`,
      );
      console.log(o.log());
      expect(complaints).toEqual([]);
      await o.unmount();
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    },
    240_000,
  );
});
