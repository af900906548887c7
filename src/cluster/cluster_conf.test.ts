import { describe, expect, test } from "vitest";
import { formatClusterConf, nodeManagerFrom, parseClusterConf, timeoutsFrom } from "./cluster_conf.ts";
import { DEFAULT_TIMEOUTS, NodeManager } from "./nodemanager.ts";

const CONF = `cluster:
	node_count = 2
	heartbeat_mode = global
	name = web

# two machines
node:
	ip_port = 7777
	ip_address = 192.168.0.107
	number = 7
	name = node7
	cluster = web

node:
	ip_port = 7777
	ip_address = 192.168.0.6
	number = 0
	name = node6
	cluster = web

heartbeat:
	region = 77D95EF51C0149D2823674FCC162CF8B
	cluster = web
`;

test("the classic file is read, and written so that it reads the same", () => {
  const conf = parseClusterConf(CONF);
  expect(conf).toMatchObject([
    { name: "web", heartbeat_mode: "global", regions: ["77D95EF51C0149D2823674FCC162CF8B"] },
  ]);
  expect(conf[0]!.nodes[0]).toEqual({ name: "node7", num: 7, ipv4_address: "192.168.0.107", ipv4_port: 7777 });
  expect(parseClusterConf(formatClusterConf(conf))).toEqual(conf);
  expect(formatClusterConf(conf)).toContain("cluster:\n\tnode_count = 2\n\theartbeat_mode = global\n\tname = web\n\n");
});

test("several clusters in one file, stanzas in any order, spaces for tabs and Windows line ends", () => {
  const text = "node:\r\n  ip_port=1\r\n  ip_address=10.0.0.1\r\n  number=1\r\n  name=a\r\n  cluster=x\r\n";
  const conf = parseClusterConf(`${text}cluster:\n  name = x\ncluster:\n  name = y\n`);
  expect(conf.map((c) => [c.name, c.nodes.length, c.heartbeat_mode])).toEqual([
    ["x", 1, "local"],
    ["y", 0, "local"],
  ]);
});

describe("an error names the line and the remedy", () => {
  test.each([
    ["nodes:\n", /:1: unknown stanza "nodes:"; it is cluster:/],
    [`${CONF}name = x\n`, /:24: .* first column; put a tab/],
    ["\tname = x\n", /:1: "name" belongs to no stanza/],
    [CONF.replace("number = 7", "number = 255"), /:10: number "255" is no number from 0 to 254; give one that is/],
    [CONF.replace("number = 7", "number = 0"), /:17: number 0 is node7's already/],
    [CONF.replace("192.168.0.107", "192.168.0.300"), /:9: ip_address "192.168.0.300"/],
    [CONF.replace("192.168.0.107", "192.168.0.6"), /:16: 192.168.0.6 is node7's/],
    [CONF.replace("\tname = node7\n", ""), /:7: node: lacks "name"; add/],
    [CONF.replace("cluster = web", "cluster = wed"), /:12: .*"wed", which is not there \(web\)/],
    [CONF.replace("name = web", "name = my-web"), /:4: cluster name "my-web"; up to 16/],
    [CONF.replace("global", "globl"), /:3: heartbeat_mode "globl"; it is local or global/],
    [CONF.replace("ip_port = 7777", "port = 7777"), /:8: node: has no "port"; it has ip_port/],
    [CONF.replace("77D95", "X7D95"), /:22: region/],
  ])("%#", (text, message) => {
    expect(() => parseClusterConf(text, "cluster.conf")).toThrow(message);
  });

  test("which cluster, which node", () => {
    const conf = parseClusterConf(CONF);
    const timeouts = DEFAULT_TIMEOUTS;
    expect(() => nodeManagerFrom([], { node: "a", timeouts })).toThrow("no cluster in it; ocfs2 cluster add-cluster");
    expect(() => nodeManagerFrom(conf, { node: "a", timeouts })).toThrow(
      /node "a" is not in cluster "web" \(node7, node6\)/,
    );
    expect(() => nodeManagerFrom(conf, { cluster: "b", node: "a", timeouts })).toThrow('no cluster "b"');
    const nodes = nodeManagerFrom(conf, { node: "node6", timeouts });
    expect([nodes.cluster, nodes.this_node, nodes.nodeByIp("192.168.0.107")?.num]).toEqual(["web", 0, 7]);
  });
});

describe("time-outs", () => {
  const FILE = 'O2CB_HEARTBEAT_THRESHOLD=61\n#O2CB_RECONNECT_DELAY_MS=1\nO2CB_IDLE_TIMEOUT_MS="60000" # long\n';

  test("the kernel's without a file, the file's, and the environment's before it", () => {
    expect(timeoutsFrom(undefined, {})).toEqual(DEFAULT_TIMEOUTS);
    expect(timeoutsFrom(FILE, {})).toEqual({ ...DEFAULT_TIMEOUTS, dead_threshold: 61, idle_timeout_ms: 60_000 });
    expect(timeoutsFrom(FILE, { O2CB_HEARTBEAT_THRESHOLD: "7" }).dead_threshold).toBe(7);
    expect(timeoutsFrom(FILE, { O2CB_HEARTBEAT_THRESHOLD: "" }).dead_threshold).toBe(61);
  });

  test("what cannot be is refused", () => {
    expect(() => timeoutsFrom("O2CB_HEARTBEAT_THRESHOLD=2\n", {})).toThrow("at least 3");
    expect(() => timeoutsFrom(undefined, { O2CB_HEARTBEAT_THRESHOLD: "2147484" })).toThrow("at most 2147483,");
    expect(() => timeoutsFrom(undefined, { O2CB_IDLE_TIMEOUT_MS: "30s" })).toThrow(
      'environment: O2CB_IDLE_TIMEOUT_MS="30s"',
    );
    expect(() => timeoutsFrom(undefined, { O2CB_IDLE_TIMEOUT_MS: "2000" })).toThrow("not larger than");
  });

  test("a running threshold stays while a region heartbeats", () => {
    const nodes = new NodeManager("x");
    nodes.active_regions = () => 1;
    nodes.setTimeouts({ dead_threshold: 7 });
    expect(nodes.timeouts.dead_threshold).toBe(31);
    nodes.active_regions = () => 0;
    nodes.setTimeouts({ dead_threshold: 7 });
    expect(nodes.timeouts.dead_threshold).toBe(7);
    expect(() => nodes.setTimeouts({ keepalive_delay_ms: 30_000 })).toThrow("EINVAL");
  });
});

test("a fence method that the machine refuses is not taken", () => {
  const nodes = new NodeManager("x");
  const armed: string[] = [];
  nodes.arm_fence = (method) => (armed.push(method) === 1 ? 0 : -13);
  nodes.setFenceMethod("reset");
  expect(() => nodes.setFenceMethod("panic")).toThrow("EACCES");
  expect([armed, nodes.fence_method]).toEqual([["reset", "panic"], "reset"]);
});

test("nodes come and go while the cluster runs", () => {
  const nodes = nodeManagerFrom(parseClusterConf(CONF), { node: "node6", timeouts: DEFAULT_TIMEOUTS });
  const gone: number[] = [];
  nodes.onNodes({ added() {}, removed: (n) => gone.push(n.num) });
  expect(() => nodes.addNode({ name: "c", num: 7, ipv4_address: "10.0.0.1", ipv4_port: 7777 })).toThrow("EEXIST");
  nodes.addNode({ name: "c", num: 9, ipv4_address: "10.0.0.1", ipv4_port: 7777 });
  expect(() => nodes.removeNode(0)).toThrow("EBUSY");
  nodes.removeNode(9);
  expect(gone).toEqual([9]);
  expect(nodes.nodes().map((n) => n.num)).toEqual([0, 7]);
});
