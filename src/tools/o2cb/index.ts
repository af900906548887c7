/**
 * o2cb(8) over cluster.conf: what each command does to the list of clusters, and what it says. Nothing here touches a file or a node; the
 * command line reads the file, hands the clusters in, and writes it back when something changed.
 */
import { CLUSTER_NAME, type ClusterConf, DEFAULT_PORT } from "../../cluster/cluster_conf.ts";
import { O2NM_MAX_NODES } from "../../cluster/node.ts";
import {
  CLUSTER_NAME_LEN,
  type HeartbeatMode,
  O2NM_MAX_NAME_LEN,
  O2NM_MAX_REGIONS,
  parseIpv4,
} from "../../cluster/nodemanager.ts";

/** A command cannot be done; the message is for the user. */
export class O2cbError extends Error {}

const fail = (message: string): never => {
  throw new O2cbError(message);
};

export function clusterOf(clusters: readonly ClusterConf[], name: string): ClusterConf {
  const known = clusters.map((c) => c.name).join(", ") || "none";
  return clusters.find((c) => c.name === name) ?? fail(`Unknown cluster '${name}' (known: ${known})`);
}

export function addCluster(clusters: ClusterConf[], name: string): string {
  if (!CLUSTER_NAME.test(name))
    fail(`Invalid cluster name '${name}': 1 to ${CLUSTER_NAME_LEN} letters and digits are allowed`);
  if (clusters.some((c) => c.name === name)) fail(`Cluster '${name}' already exists`);
  clusters.push({ name, heartbeat_mode: "local", nodes: [], regions: [] });
  return `Added cluster '${name}'`;
}

export function removeCluster(clusters: ClusterConf[], name: string): string {
  clusters.splice(clusters.indexOf(clusterOf(clusters, name)), 1);
  return `Removed cluster '${name}'`;
}

export interface NewNode {
  readonly name: string;
  readonly ip: string;
  readonly port?: number;
  readonly number?: number;
}

export function addNode(clusters: ClusterConf[], cluster_name: string, node: NewNode): string {
  const cluster = clusterOf(clusters, cluster_name);
  const name = node.name.trim();
  if (name === "" || name.length > O2NM_MAX_NAME_LEN)
    fail(`Node name '${name}' does not have 1 to ${O2NM_MAX_NAME_LEN} letters`);
  const ip = parseIpv4(node.ip) ?? fail(`Bad IP Address '${node.ip}': give an IPv4 address like 192.168.1.7`);
  const port = node.port ?? DEFAULT_PORT;
  if (!Number.isInteger(port) || port < 1 || port >= 0xffff) fail(`Invalid port number ${port}`);
  const taken = new Set(cluster.nodes.map((n) => n.num));
  let num = node.number ?? 0;
  if (node.number === undefined) while (taken.has(num)) num++;
  if (node.number === undefined && num >= O2NM_MAX_NODES) fail("Cluster is full - No more nodes can be added to it");
  if (!Number.isInteger(num) || num < 0 || num >= O2NM_MAX_NODES)
    fail(`Nodenum should be >=0 and < ${O2NM_MAX_NODES} but is ${num}`);
  if (taken.has(num)) fail(`Choose another node number as '${num}' is in use`);
  if (cluster.nodes.some((n) => n.name === name)) fail(`Node '${name}' already exists`);
  const same = cluster.nodes.find((n) => n.ipv4_address === ip);
  if (same !== undefined) fail(`Address ${ip} is node '${same.name}'s already`);
  cluster.nodes.push({ name, num, ipv4_address: ip, ipv4_port: port });
  return `Added node '${name}' in cluster '${cluster_name}' having ip '${ip}', port '${port}' and number '${num}'`;
}

export function removeNode(clusters: ClusterConf[], cluster_name: string, name: string): string {
  const cluster = clusterOf(clusters, cluster_name);
  const at = cluster.nodes.findIndex((n) => n.name === name);
  if (at < 0) fail(`Unknown node '${name}'`);
  cluster.nodes.splice(at, 1);
  return `Removed node '${name}' from cluster '${cluster_name}'`;
}

function regionName(region: string): string {
  const name = region.toUpperCase().replaceAll("-", "");
  if (!/^[0-9A-F]{32}$/.test(name)) fail(`'${region}' is neither a volume nor a volume's UUID`);
  return name;
}

export function addHeartbeat(clusters: ClusterConf[], cluster_name: string, region: string): string {
  const cluster = clusterOf(clusters, cluster_name);
  const name = regionName(region);
  if (cluster.regions.includes(name)) fail(`Heartbeat region '${name}' already exists`);
  if (cluster.regions.length >= O2NM_MAX_REGIONS) fail(`A cluster has at most ${O2NM_MAX_REGIONS} heartbeat regions`);
  cluster.regions.push(name);
  return `Added heartbeat region '${name}' to cluster '${cluster_name}'`;
}

export function removeHeartbeat(clusters: ClusterConf[], cluster_name: string, region: string): string {
  const cluster = clusterOf(clusters, cluster_name);
  const name = regionName(region);
  const at = cluster.regions.indexOf(name);
  if (at < 0) fail(`Unknown heartbeat region '${name}'`);
  cluster.regions.splice(at, 1);
  return `Removed heartbeat region '${name}' from cluster '${cluster_name}'`;
}

export function heartbeatMode(clusters: ClusterConf[], cluster_name: string, mode: string): string {
  const cluster = clusterOf(clusters, cluster_name);
  if (mode !== "local" && mode !== "global") fail(`Heartbeat mode '${mode}': it is local or global`);
  cluster.heartbeat_mode = mode as HeartbeatMode;
  return `Changed heartbeat mode in cluster '${cluster_name}' to '${mode}'`;
}

export const LIST_PARTS = ["heartbeats", "nodes", "cluster"] as const;
export type ListPart = (typeof LIST_PARTS)[number];

/** What list-cluster, list-nodes and list-heartbeats print. */
export function list(c: ClusterConf, parts: readonly ListPart[], oneline: boolean): string {
  const show = (kind: string, line: string, values: Record<string, string | number>): string =>
    oneline
      ? `${kind}: ${line}\n`
      : `${kind}:\n${Object.entries(values)
          .map(([k, v]) => `\t${k} = ${v}\n`)
          .join("")}\n`;
  const part: Record<ListPart, () => string[]> = {
    heartbeats: () => c.regions.map((region) => show("heartbeat", `${region} ${c.name}`, { region, cluster: c.name })),
    nodes: () =>
      c.nodes.map((n) =>
        show("node", `${n.num} ${n.name} ${n.ipv4_address}:${n.ipv4_port} ${c.name}`, {
          number: n.num,
          name: n.name,
          ip_address: n.ipv4_address,
          ip_port: n.ipv4_port,
          cluster: c.name,
        }),
      ),
    cluster: () => [
      show("cluster", `${c.nodes.length} ${c.heartbeat_mode} ${c.name}`, {
        node_count: c.nodes.length,
        heartbeat_mode: c.heartbeat_mode,
        name: c.name,
      }),
    ],
  };
  return parts.flatMap((p) => part[p]()).join("");
}
