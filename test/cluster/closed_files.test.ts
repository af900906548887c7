/**
 * What a busy folder costs elsewhere. When another node takes a folder whose names the kernel keeps, the kernel forgets all names of the mount,
 * and with the name of a file that nobody has open its pages. So names of a folder that changes hands are not kept for a while (src/fuse/cached_names.ts).
 */
import { expect, test } from "vitest";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { missing } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const MIB_PAGES = 256;
const lacking = missing("fincore").length > 0 ? "fincore is not installed (package util-linux)" : clusterUnavailable();

test.skipIf(lacking !== undefined)(
  "the pages of closed files outlast a folder that changes hands over and over",
  async () => {
    const rig = new ClusterRig(clusterImage(128), [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount("namecool=60000"), b.mount("namecool=0")]);
    for (const m of [a, b]) {
      const other = m === a ? b : a;
      const [quiet, busy] = [`$D/quiet-${m.number}`, `$D/busy-${m.number}`];
      await m.run(`mkdir ${quiet} ${busy}; head -c 1M /dev/urandom >${quiet}/file; touch ${busy}/0`);
      const pages: number[] = [];
      for (let i = 1; i <= 4; i++) {
        await m.run(`cat ${quiet}/file >/dev/null; stat ${busy}/${i - 1}`);
        await other.run(`touch ${busy}/${i}`);
        pages.push(Number(await m.run(`stat ${busy}/${i} >/dev/null; fincore -n -o PAGES ${quiet}/file`)));
      }
      // The first time the kernel has names of the folder either way.
      expect(pages).toEqual(m === a ? [0, MIB_PAGES, MIB_PAGES, MIB_PAGES] : [0, 0, 0, 0]);
    }
    await a.unmount();
    await b.unmount();
    rig.close();
  },
  120_000,
);
