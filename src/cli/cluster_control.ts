/** What o2cb's commands ask of a node that runs: cluster.conf read again, global heartbeat regions started and stopped. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { type ClusterConf, parseClusterConf } from "../cluster/cluster_conf.ts";
import { startDiskRegion } from "../cluster/disk_region.ts";
import { systemRandom } from "../lib/clock.ts";
import { FsError } from "../lib/fs_error.ts";
import { findHeartbeatArea } from "../tools/heartbeat_area.ts";
import { type ClusterNode, volumeOn } from "./cluster_node.ts";
import { CliError } from "./errors.ts";

function confOf(node: ClusterNode, config: string): ClusterConf {
  const conf = parseClusterConf(readFileSync(config, "utf8"), config).find((c) => c.name === node.nodes.cluster);
  if (conf === undefined) throw new CliError(1, `cluster "${node.nodes.cluster}" is not in ${config} any more`);
  return conf;
}

/** What a change of cluster.conf came to, a line each. */
export interface Reloaded {
  readonly done: string[];
  readonly refused: string[];
}

/** Nodes that cluster.conf has got or lost join and leave. A connected node stays. */
export function reload(node: ClusterNode, config: string): Reloaded {
  const done: string[] = [];
  const refused: string[] = [];
  const { nodes, stack } = node;
  const conf = confOf(node, config);
  for (const old of nodes.nodes()) {
    const now = conf.nodes.find((n) => n.num === old.num);
    const is_same = now?.name === old.name && now.ipv4_address === old.ipv4_address && now.ipv4_port === old.ipv4_port;
    if (is_same) continue;
    if (old.num === node.number || stack.net.connectedNodes().has(old.num)) {
      refused.push(`node ${old.name} (${old.num}) is in use and stays as it is`);
      continue;
    }
    nodes.removeNode(old.num);
    done.push(`node ${old.name} (${old.num}) removed`);
  }
  for (const n of conf.nodes) {
    if (nodes.node(n.num) !== undefined) continue;
    try {
      nodes.addNode(n);
      done.push(`node ${n.name} (${n.num}) added`);
    } catch (err) {
      if (!(err instanceof FsError)) throw err;
      refused.push(`node ${n.name} (${n.num}) is not added: ${err.message}`);
    }
  }
  return { done, refused };
}

/** Block devices with a volume, by UUID; what cannot be read is none. */
function devicesByUuid(extra: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const names = [...readdirSync("/sys/class/block")].map((name) => `/dev/${name.replaceAll("!", "/")}`);
  for (const path of [...extra, ...names]) {
    try {
      if (statSync(path).isDirectory()) continue;
      const uuid = volumeOn(path)?.uuid;
      if (uuid !== undefined && !found.has(uuid)) found.set(uuid, path);
    } catch {
      // Not there, not readable, an empty drive: not a region.
    }
  }
  return found;
}

/** Global heartbeat on the regions of cluster.conf: new ones start, those that are not in it any more stop. Settles when all are steady. */
export async function startHeartbeat(node: ClusterNode, config: string, devices: readonly string[]): Promise<string[]> {
  const conf = confOf(node, config);
  const { hb } = node.stack;
  if (conf.heartbeat_mode !== "global") return [];
  if (hb.regions().length === 0) node.nodes.heartbeat_mode = "global";
  if (node.nodes.heartbeat_mode !== "global")
    throw new CliError(1, "local heartbeat is active: unmount the volumes of this node first");
  const paths = devicesByUuid(devices);
  const said: string[] = [];
  // All of them are found before one is started.
  const found = conf.regions
    .filter((uuid) => hb.region(uuid) === undefined)
    .map((uuid) => {
      const path = paths.get(uuid);
      if (path === undefined)
        throw new CliError(
          1,
          `no device has the heartbeat region ${uuid}: attach it, or name it with "ocfs2 cluster start-heartbeat ${conf.name} --device PATH"`,
        );
      return { uuid, path, area: findHeartbeatArea(path) };
    });
  const starts = found.map(
    ({ uuid, path, area }) =>
      new Promise<string>((ok) => {
        node.noteDevice(uuid, path);
        startDiskRegion(hb, systemRandom, { name: uuid, path, ...area, lease: node.lease }, (failure) => {
          if (failure === "") said.push(`heartbeat started on ${path}, region ${uuid}`);
          ok(failure === "" ? "" : `heartbeat on ${path}: ${failure}`);
        });
      }),
  );
  const failure = (await Promise.all(starts)).find((text) => text !== "");
  if (failure !== undefined) throw new CliError(1, failure);
  for (const region of hb.regions().filter((r) => !conf.regions.includes(r.name))) {
    if (node.isPinned(region.name))
      throw new CliError(
        1,
        `heartbeat region ${region.name} is in use and goes on: unmount first, or have more than 3 regions before one is taken away`,
      );
    await new Promise<void>((ok) => region.stop(true, ok));
    said.push(`heartbeat stopped on region ${region.name}`);
  }
  return said;
}

/** Ends all regions that no mount depends on. */
export async function stopHeartbeat(node: ClusterNode): Promise<string[]> {
  if (node.nodes.heartbeat_mode !== "global") return [];
  const regions = node.stack.hb.regions();
  if (node.needsHeartbeat && regions.length > 0)
    throw new CliError(1, `heartbeat region ${regions[0]!.name} is in use: unmount first`);
  await Promise.all(regions.map((region) => new Promise<void>((ok) => region.stop(true, ok))));
  return regions.map((r) => `heartbeat stopped on region ${r.name}`);
}
