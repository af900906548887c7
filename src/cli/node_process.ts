/**
 * The process of a cluster's node: one for all its mounts, because a node has one heartbeat block, one address and one vote. A mount
 * starts it if it is not there; then it ends with its last mount. `ocfs2 node start` starts it to stay.
 */
import { spawn } from "node:child_process";
import { openSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { resolve } from "node:path";
import { settingsOf, unusedSettings } from "../cluster/cluster_conf.ts";
import { OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT } from "../format/disk/index.ts";
import { ML, mlog, mlogSet, mlogStates } from "../lib/masklog.ts";
import { type LineSocket, nodeSocketPath, overLines } from "../native/node_socket.ts";
import type { ToHost } from "../stackglue/remote.ts";
import type { ClusterDesc } from "../tools/mkfs/params.ts";
import { problemOf } from "../tools/problem.ts";
import { reload, startHeartbeat, stopHeartbeat } from "./cluster_control.ts";
import { ClusterNode, volumeOn } from "./cluster_node.ts";
import { Control } from "./control.ts";
import { Daemon } from "./daemon.ts";
import { DlmThread } from "./dlm_thread.ts";
import { CliError, MOUNT_FAILURE, mountFailed } from "./errors.ts";
import { withLockOf } from "./lock_file.ts";
import { parseMountOptions } from "./mount_opts.ts";
import { mountAt } from "./mount_table.ts";
import { configTreeOf } from "./node_configfs.ts";
import { cliPath, closeToOthers, nodeLogPath, nodeStartPath } from "./run_dir.ts";
import { askConfigTree, type MountedTree, mountConfigfs } from "./tree_mount.ts";
import { within } from "./within.ts";

interface Command {
  readonly type?: string;
  readonly device?: string;
  readonly dir?: string;
  readonly options?: string[];
  readonly mask?: string;
  readonly state?: string;
  readonly config?: string;
  readonly devices?: string[];
  readonly trees?: Trees;
  readonly name?: string;
  readonly settings?: Record<string, string>;
}

/** What was unmounted and is not gone after so long is in use. */
const UNMOUNT_MS = 2000;

const isMounted = (answer: unknown): boolean => (answer as { type: string }).type === "mounted";

/** Folders where the node's trees are mounted. */
export interface Trees {
  configfs?: string;
  dlmfs?: string;
}

export class NodeProcess {
  readonly node: ClusterNode;
  #stays: boolean;
  readonly #config: string;
  readonly #trees: Trees;
  /** Where the configuration tree is mounted, and how that is ended. */
  #configfs: ReturnType<typeof mountConfigfs> | null = null;
  /** From the first program on that wants locks. */
  #dlm: DlmThread | null = null;
  readonly #mounts = new Map<string, Daemon>();
  /** Folders whose mount is being made. */
  readonly #coming = new Set<string>();
  /** UUIDs of the volumes that are mounted or about to be, by folder. */
  readonly #volumes = new Map<string, string>();
  #server: Server | null = null;
  readonly #clients = new Set<LineSocket>();
  #end!: () => void;
  /** Settles when the node has stopped. */
  readonly stopped: Promise<void>;
  #stopping = false;

  /** Throws ConfigError or CliError. `stays`: goes on without mounts. */
  constructor(config: string, name: string, stays: boolean, o: Trees & { cluster?: string } = {}) {
    this.#config = config;
    this.#trees = o;
    this.node = new ClusterNode(config, name, o.cluster);
    this.#stays = stays;
    this.node.onFence = () => {
      for (const daemon of this.#mounts.values()) daemon.abort();
    };
    this.stopped = new Promise((ok) => {
      this.#end = ok;
    });
  }

  /** Takes the node's address and its control socket. */
  async start(): Promise<void> {
    await this.node.start();
    const path = nodeSocketPath(this.node.name);
    // Whoever left it is dead: its address was free.
    rmSync(path, { force: true });
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    await new Promise<void>((ok, no) => {
      server.once("error", no);
      server.listen(path, ok);
    });
    await this.#mountTrees(this.#trees);
    mlog(ML.NOTICE, `node ${this.node.name} (${this.node.number}) of cluster ${this.node.nodes.cluster} is up`);
  }

  async #mountTrees({ configfs, dlmfs }: Trees): Promise<void> {
    if (configfs !== undefined) await this.#unmounted("configfs", this.#configfs);
    if (dlmfs !== undefined) await this.#unmounted("dlmfs", this.#dlm?.tree ?? null);
    if (configfs !== undefined && this.#isNew("configfs", configfs, this.#configfs)) {
      const tree = configTreeOf(this.node, (name, state) => this.#setLog(name, state));
      const mounted = mountConfigfs((ask, done) => askConfigTree(tree, ask, done), configfs);
      this.#configfs = mounted;
      void mounted.gone.then(() => {
        this.#configfs = null;
      });
    }
    if (dlmfs !== undefined && this.#isNew("dlmfs", dlmfs, this.#dlm?.tree ?? null)) this.#dlmThread().mount(dlmfs);
  }

  #dlmThread(): DlmThread {
    if (this.#dlm === null || this.#dlm.has_ended) this.#dlm = new DlmThread(this.node);
    return this.#dlm;
  }

  /** Who has unmounted a tree may be here before the news of that. */
  async #unmounted(kind: string, there: MountedTree | null): Promise<void> {
    if (there === null || mountAt(there.dir)?.type === `fuse.ocfs2-${kind}`) return;
    if ((await within(UNMOUNT_MS, there.gone, "late")) === "late")
      throw new CliError(
        1,
        `the ${kind} that was mounted on ${there.dir} is in use still: end the programs that use it`,
      );
  }

  /** False: it is mounted there already. */
  #isNew(kind: string, dir: string, there: MountedTree | null): boolean {
    if (there !== null && dir !== there.dir)
      throw new CliError(1, `node ${this.node.name} has its ${kind} on ${there.dir} already: use that folder`);
    return there === null;
  }

  /** Joins the volume's heartbeat and lock domain, and mounts. What the user ought to know comes back. */
  async mount(device: string, dir: string, o: readonly string[]): Promise<string[]> {
    if (this.#mounts.has(dir) || this.#coming.has(dir)) throw mountFailed(`${dir} has a mount already`);
    this.#coming.add(dir);
    let unclaim = (): void => {};
    try {
      if (this.node.nodes.this_node === undefined)
        throw mountFailed(
          `node ${this.node.name} is taken out of its cluster in the configuration tree: write 1 to its "local" there, or start it anew ("ocfs2 node stop --node ${this.node.name}")`,
        );
      const volume = volumeOn(device);
      if (volume === undefined) throw mountFailed(`${device}: there is no OCFS2 volume on it`);
      this.#checkCluster(device, volume.cluster);
      this.#checkFree(device, volume.uuid);
      this.#volumes.set(dir, volume.uuid);
      unclaim = this.node.claimDomain(volume.uuid);
      // As the boot scripts of o2cb do it before anything is mounted.
      if (this.node.nodes.heartbeat_mode === "global" && this.node.steadyRegion === undefined)
        for (const line of await startHeartbeat(this.node, this.#config, [device])) mlog(ML.NOTICE, line);
      await this.node.joinRegion(device, volume);
      let daemon: Daemon;
      try {
        await this.node.reachPeers(device, "the volume");
        const options = { ...parseMountOptions(o), node: this.node.name };
        daemon = new Daemon({ device, dir, options, cluster: { node: this.node, volume } });
      } catch (err) {
        await this.node.leaveRegion(volume.uuid);
        throw err;
      }
      this.#mounts.set(dir, daemon);
      void daemon.closed.then(() => {
        this.#mounts.delete(dir);
        this.#volumes.delete(dir);
        this.#maybeStop();
      });
      await daemon.ready;
      return daemon.notes;
    } finally {
      unclaim();
      this.#coming.delete(dir);
      if (!this.#mounts.has(dir)) this.#volumes.delete(dir);
      this.#maybeStop();
    }
  }

  /** A node is one member of a volume's lock domain, so it mounts a volume once. */
  #checkFree(device: string, uuid: string): void {
    if (this.node.hasDomain(uuid) && ![...this.#volumes.values()].includes(uuid))
      throw mountFailed(
        `a program has joined the lock domain of ${device}, ${uuid}: let it leave first${this.#dlm?.tree ? ` (rmdir ${this.#dlm.tree.dir}/${uuid})` : ""}`,
      );
    for (const [dir, other] of this.#volumes) {
      if (other !== uuid) continue;
      const as = this.#mounts.get(dir)?.device ?? device;
      const what = as === device ? `${device} is` : `${device} has the UUID of ${as}, which is`;
      throw mountFailed(
        `${what} mounted on ${dir} by node ${this.node.name} already: use that folder, or a bind mount of it`,
      );
    }
  }

  #checkCluster(device: string, of: ClusterDesc | undefined): void {
    const { cluster, heartbeat_mode: mode } = this.node.nodes;
    if (of === undefined) return;
    if (of.stack !== "o2cb")
      throw mountFailed(
        `${device} belongs to the cluster stack ${of.stack}, which is not o2cb; -o nocluster for rescue`,
      );
    if (of.name !== "" && of.name !== cluster)
      throw mountFailed(
        `${device} belongs to the cluster "${of.name}", but node ${this.node.name} runs in "${cluster}" (pid ${process.pid}, ${this.#config}): stop it with "ocfs2 node stop --node ${this.node.name}" first`,
      );
    // Nodes of the other mode would not see each other live (ocfs2_verify_userspace_stack).
    const of_volume = (of.flags & OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT) !== 0 ? "global" : "local";
    if (of_volume !== mode)
      throw mountFailed(
        `${device} is for ${of_volume} heartbeat, but the cluster "${cluster}" has ${mode}: change the cluster on all nodes with "ocfs2 cluster heartbeat-mode ${cluster} ${of_volume}", or the volume with tunefs.ocfs2 --update-cluster-stack`,
      );
  }

  #maybeStop(): void {
    const used = this.#mounts.size > 0 || this.#coming.size > 0 || this.#dlm?.isUsed === true;
    if (!this.#stays && !used) void this.stop();
  }

  /** Unmounts all, leaves the cluster. */
  async stop(): Promise<void> {
    if (this.#stopping) {
      for (const daemon of this.#mounts.values()) daemon.leave();
      return;
    }
    this.#stopping = true;
    const closed = [...this.#mounts.values()].map((daemon) => {
      daemon.leave();
      return daemon.closed;
    });
    await Promise.all(closed);
    this.#configfs?.drop();
    await this.#dlm?.drop();
    await this.node.stop();
    for (const client of this.#clients) client.end();
    this.#server?.close();
    rmSync(nodeSocketPath(this.node.name), { force: true });
    this.#end();
  }

  async status(): Promise<Record<string, unknown>> {
    const node = this.node.status();
    const domains: unknown[] = [...((await this.#dlm?.domains()) ?? [])];
    // Those that are stuck take their time; all at once.
    const mounts = await Promise.all(
      [...this.#mounts].map(async ([dir, daemon]) => {
        const status = await daemon.status();
        return { dir, device: daemon.device, answers: status !== null, ...status };
      }),
    );
    for (const { domain } of mounts) if (domain) domains.push(domain);
    return { pid: process.pid, ...node, domains, mounts };
  }

  // Control --------------------------------------------------------------------------------------------------------------
  /** One JSON object a line, each answered by one; a program that joins a domain talks to that from then on (stackglue/remote.ts). */
  #serve(socket: Socket): void {
    let domain: ReturnType<DlmThread["client"]> | null = null;
    const line = overLines(socket, {
      heard: (m) => {
        const c = m as Command;
        if (domain !== null) domain.hear(m as ToHost);
        else if (c.type !== "join-domain")
          void this.#command(c).then((answer) => {
            // Ctrl-C of a mount under way: nobody was told that it came about.
            if (c.type === "mount" && !line.isOpen && isMounted(answer)) this.#mounts.get(c.dir!)?.leave();
            else line.send(answer);
          });
        else if (!/^[^/\0\u0100-\uffff]{1,63}$/.test(c.name ?? ""))
          line.send({ type: "error", message: "a domain's name has 1 to 63 bytes, one character each" });
        else
          domain = this.#dlmThread().client(c.name!, {
            joined: (err, node_num) => void line.send({ type: "joined", err, node_num }),
            say: line.send,
            hangUp: line.close,
          });
      },
      garbled: () => void line.send({ type: "error", message: "not JSON" }),
      ended: () => {
        this.#clients.delete(line);
        domain?.gone();
        if (domain !== null) this.#maybeStop();
      },
    });
    this.#clients.add(line);
  }

  /** False: there is no such mask. */
  #setLog(mask: string, state: "allow" | "off"): boolean {
    for (const daemon of this.#mounts.values()) daemon.log(mask, state);
    this.#dlm?.log(mask, state);
    return mlogSet(mask, state);
  }

  async #command(c: Command): Promise<unknown> {
    try {
      switch (c.type) {
        case "mount": {
          if (this.#stopping) return { type: "stopping" };
          const notes = await this.mount(c.device!, c.dir!, c.options ?? []);
          const unused = unusedSettings(c.settings ?? {}, this.node.nodes.timeouts).map(
            (text) => `${text}: node ${this.node.name} has been running before (pid ${process.pid})`,
          );
          return { type: "mounted", notes: [...notes, ...unused] };
        }
        case "status":
          return { type: "status", ...(await this.status()) };
        case "net-stats":
          return { type: "ok", text: this.node.stack.net.statsText() };
        case "log": {
          if (c.mask === undefined) return { type: "ok", masks: Object.fromEntries(mlogStates()) };
          const known = this.#setLog(c.mask, c.state === "allow" ? "allow" : "off");
          return known ? { type: "ok" } : { type: "error", message: `there is no log mask "${c.mask}"` };
        }
        case "stay":
          await this.#mountTrees(c.trees ?? {});
          this.#stays = true;
          return { type: "ok" };
        case "reload": {
          const { done, refused } = reload(this.node, c.config ?? this.#config);
          return { type: "ok", notes: done, refused };
        }
        case "start-heartbeat":
          return { type: "ok", notes: await startHeartbeat(this.node, c.config ?? this.#config, c.devices ?? []) };
        case "stop-heartbeat":
          return { type: "ok", notes: await stopHeartbeat(this.node) };
        case "stop":
          void this.stop();
          return { type: "ok" };
        default:
          return { type: "error", message: `unknown command ${c.type}` };
      }
    } catch (err) {
      return { type: "error", message: problemOf(err) };
    }
  }
}

// Starting it ------------------------------------------------------------------------------------------------------------
/** What a process in the background tells the one that started it. */
export interface Told {
  readonly ok: boolean;
  readonly message?: string;
}

async function isRunning(name: string): Promise<boolean> {
  const there = await Control.openNode(name);
  there?.close();
  return there !== undefined;
}

/** Makes sure that the node's process runs; true when it had to be started. */
export async function ensureNode(
  config: string,
  name: string,
  stays: boolean,
  o: Trees & { cluster?: string } = {},
): Promise<boolean> {
  if (await isRunning(name)) return false;
  // One starter at a time: the mounts of /etc/fstab come all at once, and a second process would find the node's address taken.
  return withLockOf(nodeStartPath(name), async () => {
    if (await isRunning(name)) return false;
    await startNode(config, name, stays, o);
    return true;
  });
}

async function startNode(config: string, name: string, stays: boolean, o: Trees & { cluster?: string }): Promise<void> {
  closeToOthers();
  const log = openSync(nodeLogPath(name), "a");
  // It runs in another folder.
  const args = ["node-daemon", "--config", resolve(config), "--node", name, ...(stays ? ["--stay"] : [])];
  for (const [option, value] of Object.entries(o)) args.push(`--${option}`, value);
  const child = spawn(process.execPath, [...process.execArgv, cliPath(), ...args], {
    detached: true,
    stdio: ["ignore", log, log, "ipc"],
    cwd: "/",
  });
  await new Promise<void>((ok, no) => {
    child.once("message", (m: Told) => {
      child.disconnect();
      child.unref();
      if (m.ok) ok();
      else no(new CliError(1, m.message ?? "unknown"));
    });
    child.once("error", no);
    child.once("exit", (code, signal) =>
      no(new CliError(1, `the node's process ended with ${signal ?? code}; see ${nodeLogPath(name)}`)),
    );
  });
}

export const silentNode = (name: string, pid?: number): string =>
  `the process of node ${name}${pid === undefined ? "" : `, pid ${pid},`} does not answer: it is stopped or stuck; see ${nodeLogPath(name)}`;

/** A node that runs, perhaps for a mount, goes on without mounts; and mounts these trees. */
export async function stay(name: string, trees: Trees = {}): Promise<void> {
  const control = await Control.openNode(name);
  const answer = await control?.askSoon({ type: "stay", trees });
  control?.close();
  if (answer?.type === "silent") throw new CliError(1, silentNode(name));
  if (answer?.type !== "ok")
    throw new CliError(1, String(answer?.["message"] ?? `node ${name} went away; see ${nodeLogPath(name)}`));
}

/** How often a mount meets a node that is on its way out before it gives up. */
const MOUNT_TRIES = 5;

/** Mounts through the process of the node in `cluster`, the volume's, where that names one. */
export async function mountThroughNode(
  config: string,
  name: string,
  cluster: string | undefined,
  mount: { device: string; dir: string; options: readonly string[] },
): Promise<string[]> {
  const settings = settingsOf(process.env);
  for (let i = 0; i < MOUNT_TRIES; i++) {
    await ensureNode(config, name, false, cluster === undefined ? {} : { cluster });
    const control = await Control.openNode(name);
    // It has gone with its last mount meanwhile.
    if (control === undefined) continue;
    const answer = await control.ask({ type: "mount", ...mount, settings });
    if (answer?.type === "stopping") {
      while ((await control.next()) !== null);
      continue;
    }
    control.close();
    if (answer?.type === "mounted") return (answer["notes"] as string[]) ?? [];
    if (answer !== null) throw new CliError(MOUNT_FAILURE, String(answer["message"]));
    break;
  }
  throw new CliError(MOUNT_FAILURE, `the node's process went away; see ${nodeLogPath(name)}`);
}

/** Unmounts all that the process of a cluster's node has, and waits until it has left the cluster. False: there was none. */
export async function stopNode(name: string): Promise<boolean> {
  const control = await Control.openNode(name);
  if (control === undefined) return false;
  await control.ask({ type: "stop" });
  // It closes the connection when it is through.
  while ((await control.next()) !== null);
  return true;
}
