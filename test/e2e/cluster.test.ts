/** `ocfs2 cluster`: a cluster is described, registered, gets global heartbeat, changes while it runs, and is taken down again. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatClusterConf } from "../../src/cluster/cluster_conf.ts";
import { HeartbeatBlock } from "../../src/format/disk/index.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { atExit, tempDir } from "../support/cleanup.ts";
import { sparseFile } from "../support/images.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, type Ran, sh, toolEnv, trySh } from "../support/sh.ts";

const why = process.getuid?.() !== 0 ? "a node needs root" : missing("mkfs.ocfs2").length > 0 ? "no mkfs.ocfs2" : "";
if (why !== "") console.warn(`SKIPPED: ocfs2 cluster: ${why}`);

test.skipIf(why !== "")("a cluster with global heartbeat, from register-cluster to unregister-cluster", () => {
  const dir = tempDir("ocfs2-o2cb");
  const conf = join(dir, "cluster.conf");
  const node = `glob${process.pid}`;
  const net = `127.${1 + ((process.pid >> 8) % 250)}.${process.pid % 256}`;
  const ocfs2 = join(repoRoot, "bin/ocfs2");
  const env = { ...toolEnv(), O2CB_HEARTBEAT_THRESHOLD: "7" };
  const cluster = (...args: string[]): Ran =>
    trySh([process.execPath, ocfs2, "cluster", "-v", "--config-file", conf, ...args], { env });
  const said = (...args: string[]): string => {
    const ran = cluster(...args);
    expect(ran.stderr).toBe("");
    expect(ran.status).toBe(0);
    return ran.stdout;
  };
  atExit(() => trySh([process.execPath, ocfs2, "node", "stop", "--node", node]));
  const on = ["--node", node];

  const image = join(dir, "image");
  sparseFile(image, 64);
  sh(["mkfs.ocfs2", "-q", "-F", "-N", "2", "--cluster-stack=o2cb", "--cluster-name=glob", "--global-heartbeat", image]);
  const one = { image, ...findHeartbeatArea(image) };
  const self = { name: node, num: 1, ipv4_address: `${net}.1`, ipv4_port: 7777 };
  writeFileSync(conf, formatClusterConf([{ name: "glob", heartbeat_mode: "global", nodes: [self], regions: [] }]));
  said("add-heartbeat", "glob", one.image);
  expect(cluster("start-heartbeat", "glob", ...on).stderr).toContain("is not active");
  expect(cluster("cluster-status", "glob", ...on)).toMatchObject({ status: 1, stdout: "Cluster 'glob' is offline\n" });

  said("register-cluster", "glob", ...on);
  expect(cluster("start-heartbeat", "glob", ...on).stderr).toContain(`no device has the heartbeat region ${one.uuid}`);
  expect(said("start-heartbeat", "glob", ...on, "--device", one.image)).toContain(`heartbeat started on ${one.image}`);
  const block = (): HeartbeatBlock => HeartbeatBlock.from(readFileSync(one.image), one.offset_bytes + one.slot_bytes);
  expect([block().hb_node, block().hb_dead_ms]).toEqual([1, 14_000]);

  said("add-node", "glob", "other", "--ip", `${net}.2`, "--number", "2");
  expect(said("register-cluster", "glob", ...on)).toBe("node other (2) added\n");
  const status = JSON.parse(said("cluster-status", "--json", ...on)) as Record<string, unknown>;
  expect(status).toMatchObject({ cluster: "glob", online: true, node, number: 1, heartbeat_mode: "global" });
  expect((status["nodes"] as { name: string; live: boolean }[]).map((n) => [n.name, n.live])).toEqual([
    [node, true],
    ["other", false],
  ]);
  expect(cluster("unregister-cluster", "glob", ...on).stderr).toContain("still active");

  // A region that is not in the file any more stops.
  said("remove-heartbeat", "glob", one.uuid);
  expect(said("start-heartbeat", "glob", ...on)).toContain(`heartbeat stopped on region ${one.uuid}`);
  expect(block().hb_generation).toBe(0n);
  said("unregister-cluster", "glob", ...on);
});
