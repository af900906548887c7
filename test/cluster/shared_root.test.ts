/**
 * Twelve nodes of ours share one root: each starts programs from it in a chroot, all at the same time, with a /var of its own in it; one installs a
 * program that the others run a moment later. Minutes; with OCFS2_LONG=1 only. OCFS2_NODES: how many (12).
 */
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { repoRoot } from "../support/rig.ts";
import { runAsync } from "../support/sh.ts";
import { makeRoot, rootUnavailable } from "../support/shared_root.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const NODES = Number(process.env["OCFS2_NODES"] ?? 12);

/** Memory of a process that is its own or its share, in MiB. */
function pssMib(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(kib![1]) / 1024;
}

test.runIf(long && clusterUnavailable() === undefined && rootUnavailable() === undefined)(
  `${NODES} nodes share one root`,
  async () => {
    const numbers = Array.from({ length: NODES }, (_, i) => 11 + i);
    const image = clusterImage(2048, ["-N", "16", "-b", "4K", "-C", "4K", "-J", "size=16M"]);
    // mkfs.ocfs2's own system directory has no index when it does not fit its inode.
    const before = fsck(image).findings;
    const rig = new ClusterRig(image, numbers);
    const members = numbers.map((n) => new OurMember(rig, n));
    await Promise.all(members.map((m) => m.mount("cache=32M")));

    const first = members[0]!;
    const root = join(first.dir, "root");
    await first.run("mkdir $D/root $D/var");
    const count = makeRoot(root);
    copyFileSync(join(repoRoot, "test/support/shared_root.sh"), join(root, "usr/bin/boot"));
    await first.run(
      "cd $D; chmod 755 root/usr/bin/boot; printf '#!/bin/bash\\necho version 1\\n' >root/usr/bin/upgrade; chmod 755 root/usr/bin/upgrade; : >root/srv/log",
    );
    console.log(`a root of ${count} files, ${(await first.run("du -sm $D/root")).split("\t")[0]} MiB`);

    // What each node has of its own lies in memory: mounts inside the volume would not last (mountpoints.test.ts).
    const boot = async (m: OurMember, i: number): Promise<string> => {
      const script =
        'D=$1; R=$4; mount -t tmpfs none "$R"; mkdir -p "$D/var/$2"; cd "$R"; mkdir usr etc var srv proc dev tmp root; ' +
        'for d in bin sbin lib lib64; do ln -s usr/$d $d; done; for d in usr etc srv; do mount --bind "$D/root/$d" $d; done; ' +
        'mount --bind "$D/var/$2" var; mount -t proc proc proc; mount --rbind /dev dev; exec chroot . /usr/bin/boot "$2" "$3"';
      const argv = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "bash",
        "-ec",
        script,
        "boot",
        m.dir,
        `${i + 1}`,
        `${NODES}`,
        tempDir("ocfs2-root"),
      ];
      const ran = await runAsync(argv, { timeout_ms: 300_000 });
      const waits = ran.status === 0 ? "" : await m.state("op_waits");
      expect([ran.status, ran.stderr], `${m.name}: ${ran.stdout}${waits}`).toEqual([0, ""]);
      return ran.stdout;
    };
    const start_ms = performance.now();
    const said = await Promise.all(members.map(boot));
    const took_s = (performance.now() - start_ms) / 1000;
    console.log(said[0]);
    expect(said[0]).toContain("built: 161\n");
    expect(said[0]).toContain("the same again\n");
    expect(said[0]).toContain("version 2\n");
    const lines = (text: string): string[] => text.split("\n").slice(0, -2);
    for (const text of said.slice(1)) expect(lines(text)).toEqual(lines(said[0]!));

    // Every node sees every other's /var, and every line of the log that all wrote.
    const last = members.at(-1)!;
    for (let i = 1; i <= NODES; i++) {
      const messages = await last.run(`cut -d' ' -f2 $D/var/${i}/log/messages | tr '\\n' ' '`);
      expect(messages).toBe(`boot sorted unpacked built ${i === 1 ? "" : "ready "}upgraded `);
    }
    const log = (await last.run("cat $D/root/srv/log")).trimEnd().split("\n");
    expect(new Set(log).size).toBe(NODES * 6 - 1);
    expect(log.length).toBe(NODES * 6 - 1);
    const pss = await Promise.all(members.map(async (m) => pssMib((await m.status()).pid)));
    console.log(
      `${NODES} nodes: ${took_s.toFixed(0)} s for all; memory of a node's process ${Math.min(...pss).toFixed(0)} to ${Math.max(...pss).toFixed(0)} MiB, ` +
        `of all ${pss.reduce((a, b) => a + b, 0).toFixed(0)} MiB (Pss)`,
    );
    for (const m of members) await m.unmount();
    const judged = fsck(image, before);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  },
  1_500_000,
);
