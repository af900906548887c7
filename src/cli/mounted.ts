/**
 * `ocfs2 mounted`: which devices hold OCFS2 volumes, and by which nodes they are mounted, as mounted.ocfs2(8). It reads super blocks
 * and slot maps, no more: a node that died still stands in its slot until somebody recovers it.
 */
import { readFileSync } from "node:fs";
import { Command } from "commander";
import { FEATURE_INCOMPAT } from "../format/disk/index.ts";
import { newSession, slots } from "../tools/debugfs/index.ts";
import { deviceProblem } from "../tools/problem.ts";
import { CliError, report } from "./errors.ts";

const O2CB_GLOBAL_HEARTBEAT = 1;

interface Found {
  readonly device: string;
  readonly stack: string;
  readonly cluster: string;
  readonly global_heartbeat: boolean;
  readonly uuid: string;
  readonly label: string;
  /** Node numbers in the slot map, by slot. */
  readonly nodes: number[];
  /** It holds no file system, only the heartbeat of a cluster. */
  readonly heartbeat_device: boolean;
}

/** Partitions, and disks without any: what /proc/partitions lists. */
function allDevices(): string[] {
  const lines = readFileSync("/proc/partitions", "utf8").split("\n").slice(2);
  return lines.flatMap((line) => {
    const [, , blocks, name] = line.trim().split(/\s+/);
    return name === undefined || Number(blocks) <= 1 ? [] : [`/dev/${name}`];
  });
}

/** What the device holds; undefined when it is no OCFS2 volume. Throws what opening it says. */
function look(device: string): Found | undefined {
  const s = newSession(() => {}, 1);
  try {
    s.open(device, 0);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== undefined) throw err;
    return undefined;
  }
  try {
    const { sb, incompat } = { sb: s.v!.sb, incompat: (bit: number) => s.v!.incompat(bit) };
    const local = incompat(FEATURE_INCOMPAT.LOCAL_MOUNT);
    const heartbeat_device = incompat(FEATURE_INCOMPAT.HEARTBEAT_DEV);
    const info = incompat(FEATURE_INCOMPAT.CLUSTERINFO) || incompat(FEATURE_INCOMPAT.USERSPACE_STACK);
    return {
      device,
      stack: local ? "None" : info ? sb.s_cluster_info.ci_stack : "o2cb",
      cluster: local || !info ? "" : sb.s_cluster_info.ci_cluster,
      global_heartbeat:
        !local &&
        incompat(FEATURE_INCOMPAT.CLUSTERINFO) &&
        (sb.s_cluster_info.ci_stackflags & O2CB_GLOBAL_HEARTBEAT) !== 0,
      uuid: Buffer.from(sb.s_uuid).toString("hex").toUpperCase(),
      label: sb.s_label,
      nodes: heartbeat_device ? [] : slots(s).map(({ node }) => node),
      heartbeat_device,
    };
  } finally {
    s.close();
  }
}

interface MountedOptions {
  readonly detect?: boolean;
  readonly full?: boolean;
  readonly json?: boolean;
}

function mounted(devices: readonly string[], o: MountedOptions): number {
  const found: Found[] = [];
  let failed = false;
  for (const device of devices.length > 0 ? devices : allDevices()) {
    try {
      const volume = look(device);
      if (volume !== undefined) found.push(volume);
    } catch (err) {
      // Of a machine's devices some cannot be read (an empty drive); one that was named must be.
      if (devices.length === 0) continue;
      failed = true;
      report("mounted", new CliError(1, deviceProblem(device, err)));
    }
  }
  const put = (line: string): void => void process.stdout.write(`${line}\n`);
  if (o.json === true) {
    put(JSON.stringify({ volumes: found }));
    return failed ? 1 : 0;
  }
  const width = (title: string, of: (f: Found) => string): number =>
    Math.max(title.length, ...found.map((f) => of(f).length));
  const w = width("Device ", (f) => f.device);
  const wc = width("Cluster", (f) => f.cluster);
  const row = (device: string, stack: string, cluster: string, flag: string, rest: string): void =>
    put(`${device.padEnd(w)}  ${stack.padEnd(5)}  ${cluster.padEnd(wc)}  ${flag}  ${rest}`);
  row("Device", "Stack", "Cluster", "F", o.full === true ? "Nodes" : `${"UUID".padEnd(32)}  Label`);
  for (const f of found) {
    const nodes = f.heartbeat_device ? "Heartbeat device" : f.nodes.length === 0 ? "Not mounted" : f.nodes.join(", ");
    const rest = o.full === true ? nodes : `${f.uuid}  ${f.label}`;
    row(f.device, f.stack, f.cluster, f.global_heartbeat ? "G" : " ", rest);
  }
  return failed ? 1 : 0;
}

export const command = new Command("mounted")
  .description("say which devices hold OCFS2 volumes, and which nodes have them mounted")
  .argument("[devices...]", "block devices or files; all block devices when none is named")
  .option("-d, --detect", "UUID and label (the default)")
  .option("-f, --full", "the nodes in the slot map")
  .option("--json", "as one JSON object")
  .action((devices: string[], o: MountedOptions) => {
    process.exitCode = mounted(devices, o);
  });
