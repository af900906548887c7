import { expect, test } from "vitest";
import { type ClusterConf, formatClusterConf, parseClusterConf } from "../../cluster/cluster_conf.ts";
import * as o2cb from "./index.ts";

const REGION = "77D95EF51C0149D2823674FCC162CF8B";

function example(): ClusterConf[] {
  const all: ClusterConf[] = [];
  o2cb.addCluster(all, "web");
  o2cb.addNode(all, "web", { name: "node1", ip: "10.0.0.1" });
  o2cb.addNode(all, "web", { name: "node7", ip: "10.0.0.7", number: 7, port: 7000 });
  o2cb.addNode(all, "web", { name: "node2", ip: "10.0.0.2" });
  o2cb.addHeartbeat(all, "web", REGION.toLowerCase());
  o2cb.heartbeatMode(all, "web", "global");
  return all;
}

test("what the commands make, the file holds; numbers and ports are o2cb's defaults", () => {
  const all = example();
  expect(all[0]!.nodes.map((n) => [n.name, n.num, n.ipv4_port])).toEqual([
    ["node1", 0, 7777],
    ["node7", 7, 7000],
    ["node2", 1, 7777],
  ]);
  expect(parseClusterConf(formatClusterConf(all))).toEqual(all);
});

test("what is added can be removed", () => {
  const all = example();
  expect(o2cb.removeNode(all, "web", "node1")).toBe("Removed node 'node1' from cluster 'web'");
  expect(o2cb.removeHeartbeat(all, "web", REGION)).toContain("Removed heartbeat region");
  expect([all[0]!.nodes.length, all[0]!.regions.length]).toEqual([2, 0]);
  o2cb.removeCluster(all, "web");
  expect(all).toEqual([]);
});

test("lists are o2cb's", () => {
  const [web] = example();
  expect(o2cb.list(web!, ["heartbeats", "nodes", "cluster"], true)).toBe(
    `heartbeat: ${REGION} web\nnode: 0 node1 10.0.0.1:7777 web\nnode: 7 node7 10.0.0.7:7000 web\n` +
      "node: 1 node2 10.0.0.2:7777 web\ncluster: 3 global web\n",
  );
  expect(o2cb.list(web!, ["cluster"], false)).toBe(
    "cluster:\n\tnode_count = 3\n\theartbeat_mode = global\n\tname = web\n\n",
  );
});

test.each<[string, (all: ClusterConf[]) => unknown]>([
  ["Invalid cluster name 'a-b'", (all) => o2cb.addCluster(all, "a-b")],
  ["Cluster 'web' already exists", (all) => o2cb.addCluster(all, "web")],
  ["Unknown cluster 'x' (known: web)", (all) => o2cb.addNode(all, "x", { name: "n", ip: "1.2.3.4" })],
  ["Node 'node1' already exists", (all) => o2cb.addNode(all, "web", { name: "node1", ip: "1.2.3.4" })],
  ["as '7' is in use", (all) => o2cb.addNode(all, "web", { name: "n", ip: "1.2.3.4", number: 7 })],
  ["< 255 but is 255", (all) => o2cb.addNode(all, "web", { name: "n", ip: "1.2.3.4", number: 255 })],
  ["Bad IP Address 'here'", (all) => o2cb.addNode(all, "web", { name: "n", ip: "here" })],
  ["10.0.0.7 is node 'node7's", (all) => o2cb.addNode(all, "web", { name: "n", ip: "10.0.0.7" })],
  ["Invalid port number 0", (all) => o2cb.addNode(all, "web", { name: "n", ip: "1.2.3.4", port: 0 })],
  ["Unknown node 'n'", (all) => o2cb.removeNode(all, "web", "n")],
  ["already exists", (all) => o2cb.addHeartbeat(all, "web", REGION)],
  ["neither a volume", (all) => o2cb.addHeartbeat(all, "web", "/dev/sdx")],
  ["it is local or global", (all) => o2cb.heartbeatMode(all, "web", "none")],
])("refused: %s", (message, run) => {
  const all = example();
  expect(() => run(all)).toThrow(message);
  expect(all).toEqual(example());
});
