/** `ocfs2 cluster`: o2cb(8)'s commands over cluster.conf (tools/o2cb). */
import { lookup } from "node:dns/promises";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { Command } from "commander";
import { type ClusterConf, DEFAULT_CONF, formatClusterConf, parseClusterConf } from "../cluster/cluster_conf.ts";
import { findHeartbeatArea } from "../tools/heartbeat_area.ts";
import * as o2cb from "../tools/o2cb/index.ts";
import { CliError, report } from "./errors.ts";

export function readConf(path: string): ClusterConf[] {
  return existsSync(path) ? parseClusterConf(readFileSync(path, "utf8"), path) : [];
}

/** Whole or not at all: a node that starts meanwhile reads one of the two files. */
function writeConf(path: string, clusters: readonly ClusterConf[]): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.${process.pid}`, formatClusterConf(clusters));
  renameSync(`${path}.${process.pid}`, path);
}

export const clusterCommand = new Command("cluster")
  .description("the cluster's configuration and state, as o2cb(8)")
  .option("--config-file <path>", "cluster.conf", DEFAULT_CONF)
  .option("-v, --verbose", "say what was done");

const confPath = (): string => clusterCommand.opts<{ configFile: string }>().configFile;

export const done = (name: string, run: () => Promise<number> | number): Promise<void> =>
  Promise.resolve()
    .then(run)
    .catch((err: unknown) => report(`cluster ${name}`, err))
    .then((code) => {
      process.exitCode = code;
    });

/** A command that changes the file. */
async function change(edit: (clusters: ClusterConf[]) => string | Promise<string>): Promise<number> {
  const path = confPath();
  const clusters = readConf(path);
  const said = await edit(clusters);
  writeConf(path, clusters);
  if (clusterCommand.opts<{ verbose?: boolean }>().verbose === true) process.stdout.write(`${said}\n`);
  return 0;
}

/** A volume's UUID, of a device or of an image; anything else is a UUID itself. */
function regionOf(text: string): string {
  if (!existsSync(text)) return text;
  return findHeartbeatArea(text).uuid;
}

async function addressOf(node: string, ip: string | undefined): Promise<string> {
  if (ip !== undefined) return ip;
  try {
    return (await lookup(node, { family: 4 })).address;
  } catch {
    throw new CliError(1, `no address is known for '${node}': give one with --ip`);
  }
}

const number = (text: string): number => (/^\d+$/.test(text) ? Number(text) : Number.NaN);

clusterCommand
  .command("add-cluster <cluster>")
  .description("add a cluster to cluster.conf")
  .action((name: string) => done("add-cluster", () => change((all) => o2cb.addCluster(all, name))));
clusterCommand
  .command("remove-cluster <cluster>")
  .description("remove a cluster, its nodes and its heartbeat regions")
  .action((name: string) => done("remove-cluster", () => change((all) => o2cb.removeCluster(all, name))));
clusterCommand
  .command("add-node <cluster> <node>")
  .description("add a node to a cluster")
  .option("--ip <address>", "its address (default: what its name resolves to)")
  .option("--port <port>", "its port (default: 7777)", number)
  .option("--number <number>", "its number, 0 to 254 (default: the lowest that is free)", number)
  .action((cluster: string, name: string, o: { ip?: string; port?: number; number?: number }) =>
    done("add-node", () =>
      change(async (all) => {
        o2cb.clusterOf(all, cluster);
        return o2cb.addNode(all, cluster, { name, ...o, ip: await addressOf(name, o.ip) });
      }),
    ),
  );
clusterCommand
  .command("remove-node <cluster> <node>")
  .description("remove a node from a cluster")
  .action((cluster: string, name: string) =>
    done("remove-node", () => change((all) => o2cb.removeNode(all, cluster, name))),
  );
clusterCommand
  .command("add-heartbeat <cluster> <region>")
  .description("add a heartbeat region: a volume, or its UUID")
  .action((cluster: string, region: string) =>
    done("add-heartbeat", () => change((all) => o2cb.addHeartbeat(all, cluster, regionOf(region)))),
  );
clusterCommand
  .command("remove-heartbeat <cluster> <region>")
  .description("remove a heartbeat region")
  .action((cluster: string, region: string) =>
    done("remove-heartbeat", () => change((all) => o2cb.removeHeartbeat(all, cluster, regionOf(region)))),
  );
clusterCommand
  .command("heartbeat-mode <cluster> <mode>")
  .description("local: each volume has its heartbeat; global: the cluster has regions")
  .action((cluster: string, mode: string) =>
    done("heartbeat-mode", () => change((all) => o2cb.heartbeatMode(all, cluster, mode))),
  );
clusterCommand
  .command("list-clusters")
  .description("the clusters of cluster.conf")
  .option("--json", "as JSON")
  .action((o: { json?: boolean }) =>
    done("list-clusters", () => {
      const all = readConf(confPath());
      const names = all.map((c) => c.name);
      process.stdout.write(o.json === true ? `${JSON.stringify(names)}\n` : names.map((n) => `${n}\n`).join(""));
      return 0;
    }),
  );

for (const [name, parts, what] of [
  ["list-cluster", o2cb.LIST_PARTS, "a cluster with its nodes and regions"],
  ["list-nodes", ["nodes"], "the nodes of a cluster"],
  ["list-heartbeats", ["heartbeats"], "the heartbeat regions of a cluster"],
] as const)
  clusterCommand
    .command(`${name} <cluster>`)
    .description(what)
    .option("--oneline", "one line each")
    .option("--json", "as JSON")
    .action((cluster: string, o: { oneline?: boolean; json?: boolean }) =>
      done(name, () => {
        const conf = o2cb.clusterOf(readConf(confPath()), cluster);
        if (o.json === true) process.stdout.write(`${JSON.stringify(conf)}\n`);
        else process.stdout.write(o2cb.list(conf, parts, o.oneline === true));
        return 0;
      }),
    );
