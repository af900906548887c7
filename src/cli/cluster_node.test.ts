/** What a node does about a device that goes away while its heartbeat starts. Clusters of nodes are in test/cluster. */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempDir } from "../../test/support/cleanup.ts";
import { sparseFile } from "../../test/support/images.ts";
import { ocfs2 } from "../../test/support/mount.ts";
import { sh } from "../../test/support/sh.ts";
import { until } from "../../test/support/until.ts";
import { formatClusterConf } from "../cluster/cluster_conf.ts";
import type { BeatSample } from "../native/heartbeat.ts";
import { ClusterNode, volumeOn } from "./cluster_node.ts";

test("a volume that cannot be read any more when its heartbeat is steady is not joined; the mount hung, and the beat's news was lost", async () => {
  const dir = tempDir("ocfs2-node");
  const [conf, image] = [join(dir, "cluster.conf"), join(dir, "image")];
  const self = { name: "one", num: 1, ipv4_address: "127.0.0.1", ipv4_port: 7777 };
  writeFileSync(conf, formatClusterConf([{ name: "c", heartbeat_mode: "local", nodes: [self], regions: [] }]));
  sparseFile(image, 64);
  const how = ["-q", "-N", "2", "-J", "size=4M", "--cluster-stack=o2cb", "--cluster-name=c"];
  sh([process.execPath, ocfs2, "mkfs", ...how, image]);
  const node = new ClusterNode(conf, "one");
  const { hb } = node.stack;

  const joined = node.joinRegion(image, volumeOn(image)!).then(
    () => "joined",
    (err: Error) => err.message,
  );
  renameSync(image, `${image}.gone`);
  const good: BeatSample = {
    ...{ number: 1, start_ms: 0, submit_ms: 0, complete_ms: 0, read_rc: 0, write_rc: 0, own: "ok", first: 0 },
    ...{ slots: [], lost: 0 },
  };
  const [region] = hb.regions();
  while (!region!.isSteady) region!.beat(good);

  expect(await joined).toContain("ENOENT");
  await until(() => hb.regions().length === 0);
});
