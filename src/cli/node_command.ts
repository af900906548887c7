/** `ocfs2 node`: the processes that serve mounts on this machine. */
import { Command } from "commander";
import { DEFAULT_CONF } from "../cluster/cluster_conf.ts";
import { hostNode, isOfHost } from "../native/node_socket.ts";
import { folderOf, problemOf } from "../tools/problem.ts";
import { hostNodeIn } from "./cluster_node.ts";
import { type NodeStatus, statusText } from "./cluster_report.ts";
import { Control, sayWhoRuns } from "./control.ts";
import { report } from "./errors.ts";
import { ensureNode, NodeProcess, silentNode, stay, stopNode, type Told, type Trees } from "./node_process.ts";
import { closeToOthers, type MountRecord, mountRecords } from "./run_dir.ts";

/** A mount without a cluster has the host's name, which may be longer than its node's. */
const isOf = (r: MountRecord, node: string): boolean => r.node === node || (isOfHost(r.node) && isOfHost(node));

async function statusOf(r: MountRecord): Promise<Record<string, unknown>> {
  const control = await Control.open(r.dir);
  const answer = await control?.askSoon({ type: "status" });
  control?.close();
  if (answer?.type !== "status") return { ...r, answers: false };
  const { type: _, ...rest } = answer;
  return { ...rest, answers: true };
}

/** Without a slot when nothing was ever to be written; read-only since then when an error came up. */
function stateOf(m: Record<string, unknown>): string {
  const slot = Number(m["slot"]) < 0 ? "" : `slot ${m["slot"]}`;
  const readonly = m["readonly_reason"] ? `read-only (${m["readonly_reason"]})` : "";
  return [slot, readonly].filter(Boolean).join(", ");
}

async function status(o: { json?: boolean; node?: string }): Promise<number> {
  const name = o.node ?? hostNode();
  const control = await Control.openNode(name);
  const answer = await control?.askSoon({ type: "status" });
  control?.close();
  if (answer?.type === "status") {
    const { type: _, mounts: of_cluster, ...rest } = answer;
    // Those without a cluster have processes of their own.
    const alone = mountRecords().filter((r) => isOf(r, name) && r.cluster === null);
    const mounts = [...(of_cluster as unknown[]), ...(await Promise.all(alone.map(statusOf)))];
    const clustered = { ...rest, mounts };
    if (o.json === true) process.stdout.write(`${JSON.stringify(clustered)}\n`);
    else process.stdout.write(statusText(clustered as unknown as NodeStatus));
    return 0;
  }
  const records = mountRecords().filter((r) => isOf(r, name));
  const mounts = await Promise.all(records.map(statusOf));
  const [first] = records;
  const is_silent = answer?.type === "silent";
  if (o.json === true) {
    const known = { number: first?.number ?? 0, cluster: first?.cluster ?? null, pid: first?.pid ?? null };
    process.stdout.write(`${JSON.stringify({ node: name, ...known, answers: !is_silent, mounts })}\n`);
  } else if (is_silent) process.stdout.write(`${silentNode(name, first?.pid)}\n`);
  else if (mounts.length === 0) {
    process.stdout.write(`node ${name}: nothing is mounted\n`);
    await sayWhoRuns(o.node);
  }
  if (o.json !== true)
    for (const m of mounts)
      process.stdout.write(
        `${m["device"]} on ${m["dir"]}, pid ${m["pid"]}, ${m["answers"] === true ? stateOf(m) : "does not answer"}\n`,
      );
  return mounts.length > 0 && mounts.every((m) => m["answers"] === true) ? 0 : 1;
}

async function stop(o: { node?: string }): Promise<number> {
  const name = o.node ?? hostNode();
  const has_node = await stopNode(name);
  const alone = mountRecords().filter((m) => isOf(m, name) && m.cluster === null);
  for (const r of alone) await stopMount(r);
  if (!has_node && alone.length === 0) {
    process.stdout.write(`node ${name} does not run\n`);
    await sayWhoRuns(o.node);
  }
  return 0;
}

/** Ends a mount that has a process of its own. */
async function stopMount(r: MountRecord): Promise<void> {
  const control = await Control.open(r.dir);
  process.kill(r.pid, "SIGTERM");
  while (control !== undefined && (await control.next()) !== null);
}

async function start(o: { config: string; node?: string } & Trees): Promise<number> {
  const trees: Trees = {};
  if (o.configfs !== undefined) trees.configfs = folderOf(o.configfs);
  if (o.dlmfs !== undefined) trees.dlmfs = folderOf(o.dlmfs);
  const name = o.node ?? hostNodeIn(o.config);
  if (await ensureNode(o.config, name, true, trees)) return 0;
  await stay(name, trees);
  process.stdout.write(`node ${name} runs already\n`);
  return 0;
}

const done = (name: string, run: Promise<number>): Promise<void> =>
  run
    .catch((err: unknown) => report(`node ${name}`, err))
    .then((code) => {
      process.exitCode = code;
    });

export const nodeCommand = new Command("node").description("the node's processes on this machine");
nodeCommand
  .command("status")
  .description("what this node has mounted")
  .option("--json", "as one JSON object")
  .option("--node <name>", "the node's name (default: the host's)")
  .action((o: { json?: boolean; node?: string }) => done("status", status(o)));
nodeCommand
  .command("stop")
  .description("unmount everything of this node")
  .option("--node <name>", "the node's name (default: the host's)")
  .action((o: { node?: string }) => done("stop", stop(o)));
nodeCommand
  .command("start")
  .description("start the process of a cluster's node; mount does so by itself, but then it ends with the last mount")
  .option("--config <file>", "cluster.conf", DEFAULT_CONF)
  .option("--node <name>", "the node's name (default: the host's)")
  .option("--configfs <folder>", "mount the configuration tree there, as the kernel's configfs has it")
  .option("--dlmfs <folder>", "mount the cluster's locks there as files, as the kernel's dlmfs has them")
  .action((o: { config: string; node?: string } & Trees) => done("start", start(o)));

/** The process in the background: it tells its parent once, then only its log. */
export const nodeDaemonCommand = new Command("node-daemon")
  .requiredOption("--config <file>")
  .requiredOption("--node <name>")
  .option("--cluster <name>")
  .option("--stay")
  .option("--configfs <folder>")
  .option("--dlmfs <folder>")
  .action(async (o: { config: string; node: string; cluster?: string; stay?: boolean } & Trees) => {
    closeToOthers();
    const tell = (m: Told): void => void process.send?.(m, () => process.disconnect?.());
    process.on("disconnect", () => {});
    // A terminal that goes away is no reason to take volumes away.
    process.on("SIGHUP", () => {});
    try {
      const node = new NodeProcess(o.config, o.node, o.stay === true, o);
      for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void node.stop());
      await node.start();
      tell({ ok: true });
      await node.stopped;
    } catch (err) {
      tell({ ok: false, message: problemOf(err) });
      process.exitCode = report("node", err);
    }
    // The message to the parent must be out before the end.
    setTimeout(() => process.exit(), 50);
  });
