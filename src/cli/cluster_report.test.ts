/** What cluster-status and node status print for people. */
import { expect, test } from "vitest";
import { type NodeStatus, statusText } from "./cluster_report.ts";

const status: NodeStatus = {
  node: "web1",
  number: 1,
  cluster: "web",
  pid: 4711,
  heartbeat_mode: "local",
  timeouts: { dead_threshold: 31, idle_timeout_ms: 30_000 },
  nodes: [
    { name: "web1", num: 1, ipv4_address: "10.0.0.1", ipv4_port: 7777, live: true, heartbeat_age_ms: 812 },
    { name: "web2", num: 2, ipv4_address: "10.0.0.2", ipv4_port: 7777, live: true, heartbeat_age_ms: 1100 },
    { name: "web3", num: 3, ipv4_address: "10.0.0.3", ipv4_port: 7777, live: true, heartbeat_age_ms: 13900 },
    { name: "web4", num: 4, ipv4_address: "10.0.0.4", ipv4_port: 7777, live: false },
  ],
  heartbeat: [{ name: "UUID", device: "/dev/sdb", state: "steady", live: [1, 2, 3], age_ms: 812, worst_gap_ms: 2013 }],
  connections: [
    { node: 2, state: "connected", queued: 1, in_flight: 2, silent_ms: 1500, last_error: "an old one" },
    { node: 3, state: "failed", queued: 0, in_flight: 0, last_error: "connection failed: ECONNREFUSED" },
  ],
  domains: [{ name: "UUID", state: "JOINED", nodes: [1, 2], locks: 9, recovering: 3 }],
  mounts: [
    { dir: "/data", device: "/dev/sdb", answers: true, slot: 1, readonly_reason: null },
    { dir: "/old", device: "/dev/sdc", answers: true, slot: 0, readonly_reason: "it has quota" },
    { dir: "/stuck", device: "/dev/sdd", answers: false },
  ],
};

test("nodes, heartbeats, connections, domains and mounts, with what is wrong with them", () => {
  expect(statusText(status)).toMatchInlineSnapshot(`
    "Node web1 (1) of cluster 'web', pid 4711: local heartbeat, dead after 62.0 s, idle after 30.0 s

      NODE  NUMBER  ADDRESS        HEARTBEAT          CONNECTION
      web1  1       10.0.0.1:7777  alive, 0.8 s ago   this node
      web2  2       10.0.0.2:7777  alive, 1.1 s ago   connected, heard 1.5 s ago, 3 messages under way
      web3  3       10.0.0.3:7777  alive, 13.9 s ago  failed: connection failed: ECONNREFUSED
      web4  4       10.0.0.4:7777  not seen           down

      HEARTBEAT REGION  DEVICE    STATE   LIVE NODES  LAST BEAT  LONGEST GAP
      UUID              /dev/sdb  steady  1 2 3       0.8 s ago  2.0 s

      LOCK DOMAIN  STATE   NODES  LOCKS  RECOVERY
      UUID         JOINED  1 2    9      of node 3

      MOUNTED ON  DEVICE    SLOT  WRITABLE
      /data       /dev/sdb  1     yes
      /old        /dev/sdc  0     no: it has quota
      /stuck      /dev/sdd  ?     does not answer: being mounted, or stuck
    "
  `);
});

test("a node that has nothing yet", () => {
  const empty = { ...status, nodes: [], heartbeat: [], connections: [], domains: [], mounts: [] };
  expect(statusText(empty).split("\n")).toHaveLength(2);
});
