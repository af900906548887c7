/**
 * Nodes of ours that share two volumes, each with its heartbeat region, as local heartbeat has it. One dies and is back on one of the two before its
 * time is over: it must count as dead all the same, or nobody ever recovers what it held.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatClusterConf } from "../../src/cluster/cluster_conf.ts";
import { atExit, forceUnmount, tempDir } from "../support/cleanup.ts";
import { isMounted, mountPoint, ocfs2 } from "../support/mount.ts";
import { runAsync, sh, trySh } from "../support/sh.ts";

const why = process.getuid?.() === 0 ? "" : "a node needs root";
if (why !== "") console.warn(`SKIPPED: two volumes: ${why}`);

test.skipIf(why !== "")(
  "a node that is killed and mounts one of its volumes again at once: the other gets at what it held of both, and it is a member again",
  async () => {
    const dir = tempDir("ocfs2-two");
    const conf = join(dir, "cluster.conf");
    const names = [1, 2].map((num) => `two${process.pid}n${num}`);
    const nodes = names.map((name, i) => ({
      name,
      num: i + 1,
      ipv4_address: `127.203.${process.pid % 250}.${i + 1}`,
      ipv4_port: 7777,
    }));
    writeFileSync(conf, formatClusterConf([{ name: "two", heartbeat_mode: "local", nodes, regions: [] }]));
    const images = ["one", "other"].map((name) => join(dir, name));
    for (const image of images) {
      sh(["truncate", "-s", "64M", image]);
      sh([
        process.execPath,
        ocfs2,
        "mkfs",
        "-q",
        "-N",
        "2",
        "-J",
        "size=4M",
        "--cluster-stack=o2cb",
        "--cluster-name=two",
        image,
      ]);
    }
    const dirs = names.map(() => images.map(() => mountPoint()));
    const run = async (argv: readonly string[], timeout_ms = 60_000): Promise<string> => {
      const ran = await runAsync(argv, { timeout_ms });
      if (ran.status === 0) return ran.stdout;
      const logs = names.map((name) => readFileSync(`/run/ocfs2/node-${name}.log`, "utf8"));
      throw new Error(`${argv.join(" ")}: status ${ran.status}\n${ran.stderr}${logs.join("\n")}`);
    };
    const mount = (node: number, volume: number): Promise<string> =>
      run([
        ...["env", "O2CB_HEARTBEAT_THRESHOLD=7", ocfs2, "mount"],
        ...["-o", `node=${names[node]},config=${conf}`, images[volume]!, dirs[node]![volume]!],
      ]);
    const pidOf = async (node: number): Promise<number> =>
      JSON.parse(await run([ocfs2, "node", "status", "--node", names[node]!, "--json"])).pid;
    atExit(async () => {
      for (const mnt of dirs.flat()) if (isMounted(mnt)) trySh([ocfs2, "umount", mnt]);
      for (const mnt of dirs.flat()) if (isMounted(mnt)) forceUnmount(mnt);
    });
    for (const node of [0, 1]) for (const volume of [0, 1]) await mount(node, volume);
    for (const mnt of dirs[1]!) await run(["sh", "-c", `echo held >${mnt}/file; sync ${mnt}/file`]);

    process.kill(await pidOf(1), "SIGKILL");
    for (const mnt of dirs[1]!) trySh(["umount", "-l", mnt]);
    const again = mount(1, 0);
    for (const mnt of dirs[0]!)
      expect(await run(["sh", "-c", `echo mine >>${mnt}/file; cat ${mnt}/file`])).toBe("held\nmine\n");
    await again;
    await mount(1, 1);
    for (const mnt of dirs[1]!) expect(await run(["cat", `${mnt}/file`])).toBe("held\nmine\n");
  },
  240_000,
);
