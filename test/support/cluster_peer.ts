/**
 * A node of ours without a mount: heartbeat, quorum and o2net over the real disk and network, nothing above. Arguments: cluster.conf,
 * the node's name, the image. Says what happens as lines on standard output; "leave" on standard input makes it go with a farewell,
 * "send NODE TYPE" sends a message.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { nodeManagerFrom, parseClusterConf, timeoutsFrom } from "../../src/cluster/cluster_conf.ts";
import { startDiskRegion } from "../../src/cluster/disk_region.ts";
import { ClusterStack } from "../../src/cluster/stack.ts";
import { systemClock, systemRandom } from "../../src/lib/clock.ts";
import { leaseAlloc } from "../../src/native/index.ts";
import { tcpTransport } from "../../src/native/tcp_transport.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";

const [conf = "", node = "", image = ""] = process.argv.slice(-3);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const nodes = nodeManagerFrom(parseClusterConf(readFileSync(conf, "utf8"), conf), {
  node,
  timeouts: timeoutsFrom(undefined, process.env),
});
const stack = new ClusterStack({
  nodes,
  clock: systemClock,
  transport: tcpTransport,
  fence(why) {
    say(`fence ${why}`);
    process.exit(1);
  },
});
stack.hb.onNodes({ priority: 99, up: (n) => say(`up ${n}`), down: (n) => say(`down ${n}`) });

stack.start((failure) => {
  if (failure !== "") {
    say(`failed ${failure}`);
    process.exit(1);
  }
  const area = findHeartbeatArea(image);
  startDiskRegion(
    stack.hb,
    systemRandom,
    { name: area.uuid, path: image, offset_bytes: area.offset_bytes, slot_bytes: area.slot_bytes, lease: leaseAlloc() },
    (why) => say(why === "" ? "steady" : `failed ${why}`),
  );
});

let connected = "";
function look(): void {
  const now = [...stack.net.connectedNodes()].join(" ");
  if (now !== connected) say(`connected ${now}`.trimEnd());
  connected = now;
  systemClock.after(50, look);
}
look();

createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, to, type] = line.split(" ");
  if (what === "leave") {
    stack.stop(() => {
      say("left");
      process.exit(0);
    });
  } else if (what === "send") {
    stack.net.send(Number(type), 1, new Uint8Array(4), Number(to), (err, status) => say(`answer ${err} ${status}`));
  } else if (what === "status") {
    say(`status ${JSON.stringify({ regions: stack.hb.regions().map((r) => r.status()), peers: stack.net.peers() })}`);
  }
});
