/**
 * What FUSE cannot give: when another node takes a folder's lock, the kernel here forgets all names of the volume at once (INC_EPOCH), and with a
 * name that is looked up again it forgets what is mounted on it. With -o mountpoints no names are cached, and mounts stay.
 */
import { expect, test } from "vitest";
import { atExit } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { mountPoint } from "../support/mount.ts";
import { trySh } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

test.skipIf(clusterUnavailable() !== undefined)(
  "mounts inside the volume",
  async () => {
    const rig = new ClusterRig(clusterImage(128), [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    // Names of a folder that changes hands are not kept for a while, and a mount may be lucky: with namecool=0 they are.
    await Promise.all([a.mount("mountpoints"), b.mount("namecool=0")]);
    const elsewhere = mountPoint();
    for (const m of [a, b]) {
      await m.run(
        `mkdir -p $D/in $D/out; mount -t tmpfs none $D/in; echo kept >$D/in/x; mount --bind $D/out ${elsewhere}`,
      );
      atExit(() => trySh(["umount", "-l", `${m.dir}/in`]));
      const forget = atExit(() => trySh(["umount", "-i", "-l", elsewhere]));
      const other = m === a ? b : a;
      const cwd = m.run(
        "cd $D/out; touch here; until [ -e seen ]; do sleep 0.1; done; pwd -P; ls $D/out | sort; pwd -P; cat new",
      );
      // Both know all names; then the other node changes both folders.
      await m.run("until [ -e $D/out/here ]; do sleep 0.1; done; ls -R $D");
      await other.run("for i in 1 2 3; do touch $D/top-$i; echo $i >$D/out/new; ls $D $D/out; done; touch $D/out/seen");
      // A program's own folder stays its own, and a folder of the volume that is mounted elsewhere stays there.
      expect(await cwd).toBe(`${m.dir}/out\nhere\nnew\nseen\n${m.dir}/out\n3\n`);
      expect(await m.run(`ls ${elsewhere}`)).toBe("here\nnew\nseen\n");
      forget();
      expect(await m.run("cat $D/in/x 2>/dev/null || echo gone")).toBe(m === a ? "kept\n" : "gone\n");
      await m.run("umount $D/in 2>/dev/null; rm -r $D/*");
    }
    await a.unmount();
    await b.unmount();
    rig.close();
  },
  120_000,
);
