/** `ocfs2 node`: the processes that serve mounts on this machine. */
import { hostname } from "node:os";
import { Command } from "commander";
import { Control } from "./control.ts";
import { CliError, report } from "./errors.ts";
import { type MountRecord, mountRecords } from "./run_dir.ts";

async function statusOf(r: MountRecord): Promise<Record<string, unknown>> {
  const control = await Control.open(r.dir);
  if (control === undefined) return { ...r, answers: false };
  const answer = await Promise.race([
    control.ask({ type: "status" }),
    new Promise<null>((ok) => setTimeout(() => ok(null), 2000)),
  ]);
  control.close();
  if (answer === null) return { ...r, answers: false };
  const { type: _, ...rest } = answer;
  return { ...rest, answers: true };
}

async function status(o: { json?: boolean; node?: string }): Promise<number> {
  const name = o.node ?? hostname();
  const records = mountRecords().filter((r) => r.node === name);
  const mounts = await Promise.all(records.map(statusOf));
  if (o.json === true) {
    const pid = records[0]?.pid ?? null;
    process.stdout.write(`${JSON.stringify({ node: name, number: 0, cluster: null, pid, mounts })}\n`);
  } else if (mounts.length === 0) process.stdout.write(`node ${name}: nothing is mounted\n`);
  else
    for (const m of mounts)
      process.stdout.write(
        `${m["device"]} on ${m["dir"]}, pid ${m["pid"]}, ${m["answers"] === true ? `slot ${m["slot"]}` : "does not answer"}\n`,
      );
  return records.length > 0 ? 0 : 1;
}

async function stop(o: { node?: string }): Promise<number> {
  const name = o.node ?? hostname();
  for (const r of mountRecords().filter((m) => m.node === name)) process.kill(r.pid, "SIGTERM");
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
  .description("mount starts what it needs by itself; a cluster's node process is not there yet")
  .option("--config <file>", "cluster.conf")
  .option("--node <name>", "the node's name (default: the host's)")
  .action(() => done("start", Promise.reject(new CliError(1, "there is no cluster stack yet: use ocfs2 mount"))));
