/** `ocfs2 cluster`: o2cb(8)'s commands, over cluster.conf (tools/o2cb) and the node that runs here (cluster_control.ts). */

import { lookup } from "node:dns/promises";
import { existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import pkg from "../../package.json" with { type: "json" };
import { type ClusterConf, DEFAULT_CONF, formatClusterConf, parseClusterConf } from "../cluster/cluster_conf.ts";
import { hostNode } from "../native/node_socket.ts";
import { findHeartbeatArea } from "../tools/heartbeat_area.ts";
import * as o2cb from "../tools/o2cb/index.ts";
import { deviceProblem, problemOf } from "../tools/problem.ts";
import { hostNodeIn } from "./cluster_node.ts";
import { type NodeStatus, statusText } from "./cluster_report.ts";
import { type Answer, Control, sayWhoRuns } from "./control.ts";
import { CliError, report } from "./errors.ts";
import { withLockOf } from "./lock_file.ts";
import { ensureNode, silentNode, stay, stopNode } from "./node_process.ts";
import { confLockPath, replaceFile } from "./run_dir.ts";

export function readConf(path: string): ClusterConf[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new CliError(1, problemOf(err, path));
  }
  return parseClusterConf(text, path);
}

/** The file itself: a link to one that others read, too, stays a link. */
const realConf = (path: string): string => (existsSync(path) ? realpathSync(path) : resolve(path));

/** `path` is that of the file itself. A node that starts meanwhile reads one of the two files. */
function writeConf(path: string, clusters: readonly ClusterConf[]): void {
  mkdirSync(dirname(path), { recursive: true });
  replaceFile(path, formatClusterConf(clusters));
}

/** What came of that, and what to do. */
function writeFailed(path: string, err: unknown): CliError {
  const { code } = err as NodeJS.ErrnoException;
  const is_theirs = code === "EACCES" || code === "EPERM";
  return new CliError(
    1,
    is_theirs
      ? `${path} may not be written: run as root, or name another file with --config-file`
      : `${path} cannot be written: ${problemOf(err)}`,
  );
}

export const clusterCommand = new Command("cluster")
  .description("the cluster's configuration and state, as o2cb(8)")
  .option("--config-file <path>", "cluster.conf", DEFAULT_CONF)
  .option("-v, --verbose", "say what was done")
  .version(`ocfs2 cluster ${pkg.version}`, "-V, --version", "print the version");

const confPath = (): string => clusterCommand.opts<{ configFile: string }>().configFile;

export const done = (name: string, run: () => Promise<number> | number): Promise<void> =>
  Promise.resolve()
    .then(run)
    .catch((err: unknown) => report(`cluster ${name}`, err))
    .then((code) => {
      process.exitCode = code;
    });

/** A command that changes the file. Of two at once the second reads what the first has written. */
async function change(edit: (clusters: ClusterConf[]) => string | Promise<string>): Promise<number> {
  const path = confPath();
  const real = realConf(path);
  const said = await withLockOf(confLockPath(real), async () => {
    const clusters = readConf(path);
    const text = await edit(clusters);
    try {
      writeConf(real, clusters);
    } catch (err) {
      throw writeFailed(path, err);
    }
    return text;
  });
  if (clusterCommand.opts<{ verbose?: boolean }>().verbose === true) process.stdout.write(`${said}\n`);
  return 0;
}

/** A volume's UUID, of a device or of an image; anything else is a UUID itself. */
function regionOf(text: string): string {
  if (!existsSync(text)) return text;
  try {
    return findHeartbeatArea(text).uuid;
  } catch (err) {
    throw new CliError(1, deviceProblem(text, err));
  }
}

async function addressOf(node: string, ip: string | undefined): Promise<string> {
  if (ip !== undefined) return ip;
  try {
    return (await lookup(node, { family: 4 })).address;
  } catch {
    throw new CliError(1, `no address is known for '${node}': give one with --ip`);
  }
}

function number(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("it is a number");
  return Number(text);
}

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

// The node that runs -----------------------------------------------------------------------------------------------------

const NODE = ["--node <name>", "which node of this machine (default: the host's name)"] as const;

interface NodeOptions {
  readonly node?: string;
  readonly json?: boolean;
}

/** What takes as long as a region needs to become steady, or to end. */
const SLOW = ["start-heartbeat", "stop-heartbeat"];

/** What the node answers, undefined when none runs. Throws CliError when it refuses, or does not answer. */
async function ask(node: string, message: { type: string; [key: string]: unknown }): Promise<Answer | undefined> {
  const control = await Control.openNode(node);
  if (control === undefined) return undefined;
  const answer = await (SLOW.includes(message.type) ? control.ask(message) : control.askSoon(message));
  control.close();
  if (answer?.type === "silent") throw new CliError(1, silentNode(node));
  if (answer === null) throw new CliError(1, `node ${node} went away`);
  if (answer.type === "error") throw new CliError(1, String(answer["message"]));
  return answer;
}

function sayDone(answer: Answer | undefined): number {
  if (clusterCommand.opts<{ verbose?: boolean }>().verbose === true)
    for (const line of (answer?.["notes"] as string[] | undefined) ?? []) process.stdout.write(`${line}\n`);
  return 0;
}

/** The status of the node when it is in this cluster. */
async function statusIn(node: string, cluster: string | undefined): Promise<Answer | undefined> {
  const status = await ask(node, { type: "status" });
  return cluster === undefined || status?.["cluster"] === cluster ? status : undefined;
}

/** `named`: by --node, if it was. */
async function active(named: string | undefined, cluster: string): Promise<Answer> {
  const node = named ?? hostNode();
  const status = await statusIn(node, cluster);
  if (status !== undefined) return status;
  await sayWhoRuns(named);
  throw new CliError(1, `Cluster '${cluster}' is not active on node '${node}'`);
}

async function askLog(named: string | undefined, change: { mask?: string; state?: string }): Promise<Answer> {
  const node = named ?? hostNode();
  const answer = await ask(node, { type: "log", ...change });
  if (answer !== undefined) return answer;
  await sayWhoRuns(named);
  throw new CliError(1, `node ${node} does not run`);
}

clusterCommand
  .command("register-cluster <cluster>")
  .description("start this machine's node of the cluster, or let it read cluster.conf again")
  .option(...NODE)
  .action((cluster: string, o: NodeOptions) =>
    done("register-cluster", async () => {
      o2cb.clusterOf(readConf(confPath()), cluster);
      const config = resolve(confPath());
      const node = o.node ?? hostNodeIn(config, cluster);
      if (await ensureNode(config, node, true, { cluster })) return 0;
      await active(o.node, cluster);
      await stay(node);
      const answer = await ask(node, { type: "reload", config });
      sayDone(answer);
      const refused = (answer?.["refused"] as string[] | undefined) ?? [];
      if (refused.length > 0) throw new CliError(1, refused.join("; "));
      return 0;
    }),
  );
clusterCommand
  .command("unregister-cluster <cluster>")
  .description("stop this machine's node of the cluster")
  .option(...NODE)
  .action((cluster: string, o: NodeOptions) =>
    done("unregister-cluster", async () => {
      const node = o.node ?? hostNode();
      const status = await active(o.node, cluster);
      if ((status["heartbeat"] as unknown[]).length > 0)
        throw new CliError(1, "at least one heartbeat region is still active: unmount, or stop-heartbeat, first");
      await stopNode(node);
      return 0;
    }),
  );
clusterCommand
  .command("start-heartbeat <cluster>")
  .description(
    "start global heartbeat on the regions of cluster.conf, and stop it on those that are not in it any more",
  )
  .option(...NODE)
  .option("--device <path...>", "devices or files to look for regions on, before all block devices")
  .action((cluster: string, o: NodeOptions & { device?: string[] }) =>
    done("start-heartbeat", async () => {
      const node = o.node ?? hostNode();
      if (o2cb.clusterOf(readConf(confPath()), cluster).heartbeat_mode !== "global") return 0;
      await active(o.node, cluster);
      const devices = (o.device ?? []).map((path) => resolve(path));
      return sayDone(await ask(node, { type: "start-heartbeat", config: resolve(confPath()), devices }));
    }),
  );
clusterCommand
  .command("stop-heartbeat <cluster>")
  .description("stop global heartbeat on all regions")
  .option(...NODE)
  .action((cluster: string, o: NodeOptions) =>
    done("stop-heartbeat", async () => {
      const node = o.node ?? hostNode();
      await active(o.node, cluster);
      return sayDone(await ask(node, { type: "stop-heartbeat" }));
    }),
  );
clusterCommand
  .command("cluster-status [cluster]")
  .description(
    "whether the cluster is online on this machine's node, and the node's peers, heartbeats, connections, lock domains and mounts",
  )
  .option(...NODE)
  .option("--json", "as JSON")
  .action((cluster: string | undefined, o: NodeOptions) =>
    done("cluster-status", async () => {
      const status = await statusIn(o.node ?? hostNode(), cluster);
      const heartbeats = (status?.["heartbeat"] as { state: string }[] | undefined) ?? [];
      // Global heartbeat is online with at least one region, local always (o2cbtool_cluster_status).
      const is_global = status?.["heartbeat_mode"] === "global";
      const online = status !== undefined && (!is_global || heartbeats.some((h) => h.state === "steady"));
      const name = cluster ?? status?.["cluster"];
      const { type: _, ...rest } = status ?? { type: "" };
      if (o.json === true) process.stdout.write(`${JSON.stringify({ cluster: name ?? null, online, ...rest })}\n`);
      else {
        process.stdout.write(`${name === undefined ? "" : `Cluster '${name}' is `}${online ? "online" : "offline"}\n`);
        if (status !== undefined) process.stdout.write(statusText(rest as unknown as NodeStatus));
        else await sayWhoRuns(o.node);
      }
      return online ? 0 : 1;
    }),
  );
clusterCommand
  .command("log [changes...]")
  .description(
    "the masks of the debug log of this machine's node, and switching them: DLM_MASTER=allow, DLM_MASTER=off",
  )
  .option(...NODE)
  .option("--json", "as JSON")
  .action((changes: string[], o: NodeOptions) =>
    done("log", async () => {
      for (const change of changes) {
        const [mask = "", state = ""] = change.split("=");
        if (state !== "allow" && state !== "off") throw new CliError(1, `${change}: write MASK=allow or MASK=off`);
        await askLog(o.node, { mask, state });
      }
      if (changes.length > 0) return 0;
      const masks = (await askLog(o.node, {}))["masks"] as Record<string, string>;
      if (o.json === true) process.stdout.write(`${JSON.stringify(masks)}\n`);
      else for (const [mask, state] of Object.entries(masks)) process.stdout.write(`${mask} ${state}\n`);
      return 0;
    }),
  );
