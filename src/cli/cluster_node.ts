/**
 * This node of a cluster, as far as its mounts share it: configuration, heartbeat, quorum, connections. One a process, on the main
 * thread; the lock manager of each mount runs on the mount's volume thread and reaches the others through here (cluster/proxy.ts).
 *
 * Whatever ends it ends all mounts of the process, because one lease gates the writes of all: a node is fenced as a whole.
 */
import { readFileSync } from "node:fs";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { type ClusterConf, nodeManagerFrom, parseClusterConf, timeoutsFrom } from "../cluster/cluster_conf.ts";
import { startDiskRegion } from "../cluster/disk_region.ts";
import type { HbRegion } from "../cluster/heartbeat.ts";
import { type NodeManager, quorumDelayMs } from "../cluster/nodemanager.ts";
import { ClusterServer, type Members, type ToNode } from "../cluster/proxy.ts";
import { ClusterStack } from "../cluster/stack.ts";
import { ModKeyRouter } from "../dlm/mod_key.ts";
import type { ClusterNode as DlmClusterNode } from "../dlm/node.ts";
import { systemClock, systemRandom } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { assert, check } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { openReader } from "../native/disk_reader.ts";
import { fenceNow, fenceTrigger, killSelfIn, leaseAlloc, leaseSet } from "../native/index.ts";
import { hostNodeOf } from "../native/node_socket.ts";
import { tcpHub, tcpTransport } from "../native/tcp_transport.ts";
import { findHeartbeatArea, type HeartbeatArea } from "../tools/heartbeat_area.ts";
import { type ExistingVolume, findExisting } from "../tools/mkfs/existing.ts";
import { deviceProblem } from "../tools/problem.ts";
import { CliError } from "./errors.ts";
import type { ClusterOfDomain, ClusterOfVolume } from "./worker_messages.ts";

const DEFAULT_O2CB = "/etc/default/o2cb";
/** What a fenced node's writes have to drain; the heartbeat goes on meanwhile. */
const DRAIN_MS = 2000;

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** What is on a device, before it is decided how to mount it; undefined when it is no OCFS2 volume. */
export function volumeOn(device: string): ExistingVolume | undefined {
  const reader = openReader(device);
  try {
    return findExisting(reader.readAt);
  } finally {
    reader.close();
  }
}

/** The clusters of a cluster.conf. Throws with what to do. */
export function readConf(config: string): ClusterConf[] {
  const text = readText(config);
  if (text === undefined)
    throw new CliError(
      1,
      `${config} cannot be read: a clustered volume is mounted through the cluster that it describes; "ocfs2 cluster add-cluster" makes one, or mount with -o nocluster if no other node uses the volume`,
    );
  return parseClusterConf(text, config);
}

/** This machine's node of a cluster, of any if it is not said, in a cluster.conf. Throws with what to do. */
export function hostNodeIn(config: string, cluster?: string): string {
  const clusters = readConf(config).filter((c) => cluster === undefined || c.name === cluster);
  return hostNodeOf(clusters.flatMap((c) => c.nodes.map((n) => n.name)));
}

/** Where a node of this volume heartbeats, and how large a slot is. Throws with the device's name. */
function heartbeatAreaOf(device: string): HeartbeatArea {
  try {
    return findHeartbeatArea(device);
  } catch (err) {
    throw new CliError(1, deviceProblem(device, err));
  }
}

/** With more regions of global heartbeat than that one may be taken away under those who depend on it. */
const O2HB_PIN_CUT_OFF = 3;

/** How often a mount looks whether the other nodes can be reached. */
const PEERS_LOOK_MS = 50;

function peerText(nodes: NodeManager, { node }: { readonly node: number }): string {
  const n = nodes.node(node);
  return n === undefined ? `node ${node}` : `node ${n.name} (${n.num}) at ${n.ipv4_address}:${n.ipv4_port}`;
}

/** What to write to /proc/sysrq-trigger for each fence method; 0: nothing, the process ends. */
const SYSRQ = { exit: 0, reset: 0x62, panic: 0x63 } as const;

interface Region {
  readonly region: HbRegion;
  readonly steady: Promise<void>;
  users: number;
  /** Who started it in the configuration tree ends it there. */
  readonly stays: boolean;
}

/** What serves a thread with a lock domain of its own. */
export interface DomainServer {
  close(): void;
}

/** A lock domain on another thread of this process. */
export interface DomainOfThread {
  readonly of: ClusterOfDomain;
  /** The thread's end of cluster/proxy.ts. */
  readonly port: MessagePort;
  close(): void;
}

export class ClusterNode {
  readonly stack: ClusterStack;
  readonly name: string;
  /** It stays, whatever the configuration tree says. */
  readonly number: number;
  /** Gates every write of the process's mounts; renewed by the heartbeat's native thread. */
  readonly lease: number;
  readonly #router: ModKeyRouter;
  readonly #regions = new Map<string, Region>();
  /** Mounts that depend on the global regions. */
  #global_users = 0;
  /** Devices of the regions that were started here, by UUID. */
  readonly #devices = new Map<string, string>();
  /** Domains that were joined for programs (dlmfs). */
  readonly #programs = new Set<string>();
  /** All domains of this node, each on one thread: a message to the domain goes to that one. */
  readonly #domains = new Map<string, ClusterServer>();
  /** Domains that are about to be joined: nobody else may have them meanwhile. */
  readonly #claimed = new Set<string>();
  /** Hears that the node must go, when the mounts are cut off and the process is about to end. */
  onFence: (why: string) => void = () => {};

  /** Throws ConfigError or CliError: no such file, node or cluster. */
  constructor(config: string, node: string, cluster?: string) {
    const timeouts = timeoutsFrom(readText(DEFAULT_O2CB), process.env);
    const nodes = nodeManagerFrom(readConf(config), { cluster, node, timeouts, file: config });
    nodes.arm_fence = (method) => fenceTrigger("/proc/sysrq-trigger", SYSRQ[method]);
    this.name = node;
    this.number = nodes.this_node!;
    this.lease = check(leaseAlloc(), "lease");
    this.stack = new ClusterStack({
      nodes,
      clock: systemClock,
      transport: tcpTransport,
      fence: (why) => this.#fenced(why),
    });
    nodes.onNodes({ added: () => this.#membersChanged(), removed: () => this.#membersChanged() });
    this.stack.hb.onRegions = () => this.#membersChanged();
    this.#router = new ModKeyRouter({
      net: this.stack.net,
      hb: this.stack.hb,
      clock: systemClock,
      random: systemRandom,
      nodes: () => this.#dlmNodes(),
      regions: () => this.#globalRegions(),
      fatal: (err) => this.stack.fence(err.message),
    });
  }

  get nodes(): ClusterStack["nodes"] {
    return this.stack.nodes;
  }

  /** Listens on this node's address. */
  start(): Promise<void> {
    return new Promise((ok, no) =>
      this.stack.start((failure) => (failure === "" ? ok() : no(new CliError(1, failure)))),
    );
  }

  /** Heartbeats on the volume of `device`; settles when the region is steady. Each call is ended by one of `leaveRegion`. */
  joinRegion(device: string, volume: ExistingVolume): Promise<void> {
    if (this.nodes.heartbeat_mode === "global") return this.#joinGlobal(device);
    const known = this.#regions.get(volume.uuid);
    if (known !== undefined) {
      known.users++;
      return known.steady;
    }
    const there = this.stack.hb.region(volume.uuid);
    if (there !== undefined) return this.#joinStarted(there, device);
    const { offset_bytes, slot_bytes } = heartbeatAreaOf(device);
    this.noteDevice(volume.uuid, device);
    let region: HbRegion | undefined;
    const steady = new Promise<void>((ok, no) => {
      region = startDiskRegion(
        this.stack.hb,
        systemRandom,
        { name: volume.uuid, path: device, offset_bytes, slot_bytes, lease: this.lease },
        (failure) => (failure === "" ? ok() : no(new CliError(1, `heartbeat on ${device}: ${failure}`))),
      );
    }).then(() => this.#known(region!, device));
    this.#regions.set(volume.uuid, { region: region!, steady, users: 1, stays: false });
    steady.catch(() => {
      this.#regions.delete(volume.uuid);
      region?.stop(true, () => {});
    });
    return steady;
  }

  /** In a region that was started in the configuration tree. */
  #joinStarted(region: HbRegion, device: string): Promise<void> {
    if (!region.isSteady)
      return Promise.reject(new CliError(1, `${device}: heartbeat is being started on it: mount it when that is done`));
    const steady = this.#known(region, device);
    this.#regions.set(region.name, { region, steady, users: 1, stays: true });
    steady.catch(() => this.#regions.delete(region.name));
    return steady;
  }

  /** One in which the others see this node. */
  get steadyRegion(): HbRegion | undefined {
    return this.stack.hb.regions().find((r) => r.isSteady);
  }

  /** With global heartbeat the cluster's own regions say that this node lives; volumes have none. */
  #joinGlobal(device: string): Promise<void> {
    const region = this.steadyRegion;
    if (region === undefined) {
      const remedy = `ocfs2 cluster start-heartbeat ${this.nodes.cluster}`;
      return Promise.reject(new CliError(1, `${device}: no global heartbeat region is active: "${remedy}"`));
    }
    this.#global_users++;
    return this.#known(region, device).catch((err) => {
      this.#global_users--;
      throw err;
    });
  }

  /** Waits for certainty about the nodes that have the volume mounted, or had when they died. Rejects when the device cannot be read. */
  #known(region: HbRegion, device: string): Promise<void> {
    return new Promise((ok) => region.whenKnown(volumeOn(device)?.nodes ?? [], ok));
  }

  /**
   * Settles when every node whose heartbeat is seen can be reached: joining a lock domain takes an answer of each. Rejects with the one
   * that cannot, and what to do. `what`: the device, or the domain of programs.
   */
  async reachPeers(what: string, has: string): Promise<void> {
    const { net, hb } = this.stack;
    const since_ms = performance.now();
    const { timeouts } = this.nodes;
    // Others speak with us once our last start counts as dead there.
    const was_cut = hb.regions().some((r) => r.was_cut);
    const limit_ms = Math.max(timeouts.idle_timeout_ms, was_cut ? quorumDelayMs(timeouts) : 0);
    for (;;) {
      const waiting = net.peers().filter((p) => hb.liveNodes().has(p.node) && p.state !== "connected");
      if (waiting.length === 0) return;
      const refused = waiting.find((p) => p.is_refused);
      if (refused !== undefined)
        throw new CliError(1, `${what}: ${peerText(this.nodes, refused)} ${refused.last_error}`);
      // A connection that was lost is judged by the quorum, or the other node is declared dead: that takes its time.
      const never = waiting.find((p) => p.state === "connecting" || p.state === "failed");
      const waited_ms = performance.now() - since_ms;
      if (never !== undefined && waited_ms > limit_ms)
        throw new CliError(
          1,
          `${what}: ${peerText(this.nodes, never)} has ${has}, but cannot be reached${never.last_error === "" ? "" : ` (${never.last_error})`}: check that it runs with this cluster.conf, and the network and firewalls between it and ${peerText(this.nodes, { node: this.number })}`,
        );
      await new Promise((ok) => setTimeout(ok, PEERS_LOOK_MS));
    }
  }

  /**
   * Whether this node may join a domain for programs (o2cb_cluster_check): 0, and it keeps its heartbeat for that, or -errno and a line in the log. Without a
   * heartbeat nobody would see it: it would be alone in the domain, as would the next one.
   */
  async checkCluster(domain: string): Promise<number> {
    if (this.nodes.this_node === undefined || this.steadyRegion === undefined) {
      const remedy = this.nodes.heartbeat_mode === "global" ? "ocfs2 cluster start-heartbeat" : "mount a volume";
      mlog(ML.ERROR, `domain ${domain} is not joined: this node does not heartbeat; ${remedy} first`);
      return -Errno.EINVAL;
    }
    this.#programs.add(domain);
    try {
      // A mount may be under way that does not know yet of one whose disk is slow.
      const certain = [...this.#regions.values()].map((r) => r.steady);
      if (certain.length > 0) await Promise.any(certain).catch(() => {});
      await this.reachPeers(`domain ${domain} is not joined`, "a heartbeat");
      return 0;
    } catch (err) {
      this.#leftDomain(domain);
      if (!(err instanceof CliError)) throw err;
      mlog(ML.ERROR, err.message);
      return -Errno.ENOTCONN;
    }
  }

  leaveRegion(uuid: string): Promise<void> {
    if (this.nodes.heartbeat_mode === "global") {
      this.#global_users--;
      return Promise.resolve();
    }
    const known = this.#regions.get(uuid);
    if (known === undefined || --known.users > 0) return Promise.resolve();
    // A domain for programs still needs this node's heartbeat, wherever it is (o2hb_region_pin); a later mount finds it.
    if (this.#programs.size > 0) return Promise.resolve();
    return this.#endRegion(known);
  }

  /** Nothing of this node needs it any more. */
  #endRegion({ region, stays }: Region): Promise<void> {
    this.#regions.delete(region.name);
    return stays ? Promise.resolve() : new Promise((ok) => region.stop(true, ok));
  }

  /**
   * Whether a mount or a program's domain depends on a region (o2hb_region_pin). With global heartbeat they depend on all, but where more than three
   * count one may go.
   */
  isPinned(uuid: string): boolean {
    const for_programs = this.#programs.size > 0;
    if (this.nodes.heartbeat_mode === "local") return for_programs || (this.#regions.get(uuid)?.users ?? 0) > 0;
    const counting = this.stack.hb.regions().filter((r) => r.is_quorum).length;
    return this.needsHeartbeat && counting <= O2HB_PIN_CUT_OFF;
  }

  /** Somebody depends on the cluster's global heartbeat. */
  get needsHeartbeat(): boolean {
    return this.#global_users > 0 || this.#programs.size > 0;
  }

  /** The device of a region that was started by a mount or by start-heartbeat; "" for others. */
  deviceOf(uuid: string): string {
    return this.#devices.get(uuid) ?? "";
  }

  /** A region is about to be started on `device`. */
  noteDevice(uuid: string, device: string): void {
    this.#devices.set(uuid, device);
  }

  /** A volume or a program of this node has joined it, or is about to. */
  hasDomain(name: string): boolean {
    return this.#domains.has(name) || this.#claimed.has(name);
  }

  /** Keeps a domain that this node does not have for who is about to join it, until what is returned is called. */
  claimDomain(name: string): () => void {
    assert(!this.hasDomain(name), `domain ${name} is taken`);
    this.#claimed.add(name);
    return () => void this.#claimed.delete(name);
  }

  /** Lets a volume thread at the cluster through `port`. `domain` is one that this node does not have. */
  serve(port: MessagePort, domain: string, wake: () => void): DomainServer {
    assert(!this.#domains.has(domain), `domain ${domain} is on another thread`);
    const server = new ClusterServer(
      this.#router.netFor(domain),
      this.stack.hb,
      (batch) => {
        port.postMessage(batch);
        wake();
      },
      (flush) => queueMicrotask(flush),
      this.stack.net,
    );
    port.on("message", (batch: readonly ToNode[]) => server.heard(batch));
    this.#domains.set(domain, server);
    return {
      close: () => {
        server.close();
        this.#domains.delete(domain);
      },
    };
  }

  #members(): Members {
    return { nodes: this.#dlmNodes(), regions: this.#globalRegions() };
  }

  /** The threads hear of it once the change is through: who joins one of their domains is compared with it. */
  #membersChanged(): void {
    queueMicrotask(() => {
      const members = this.#members();
      for (const server of this.#domains.values()) server.tellMembers(members);
    });
  }

  #leftDomain(name: string): void {
    this.#programs.delete(name);
    if (this.#programs.size > 0) return;
    for (const known of this.#regions.values()) if (known.users <= 0) void this.#endRegion(known);
  }

  /** Lets a thread at the cluster that joins a domain for programs' locks (checkCluster is 0), whose heartbeat this node keeps until it is closed. */
  openDomain(name: string, wake: () => void): DomainOfThread {
    const { port1, port2 } = new MessageChannel();
    const server = this.serve(port1, name, wake);
    return {
      of: this.#ofDomain(name),
      port: port2,
      close: () => {
        server.close();
        port1.close();
        this.#leftDomain(name);
      },
    };
  }

  #dlmNodes(): DlmClusterNode[] {
    return this.nodes.nodes().map((n) => ({
      num: n.num,
      ipv4_port: n.ipv4_port,
      ipv4_address: n.ipv4_address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0),
    }));
  }

  #globalRegions(): string[] {
    return this.nodes.heartbeat_mode === "global" ? this.stack.hb.regions().map((r) => r.name) : [];
  }

  /** What a volume thread must know of the cluster. */
  ofVolume(volume: ExistingVolume): ClusterOfVolume {
    return { ...this.#ofDomain(volume.uuid), lease: this.lease };
  }

  #ofDomain(domain: string): ClusterOfDomain {
    return {
      node_num: this.number,
      domain,
      hub: tcpHub(),
      live: [...this.stack.hb.liveNodes()],
      ...this.#members(),
    };
  }

  /**
   * The node has to go: no more writes begin, what is in flight drains while the heartbeat goes on, then the process ends. The machine
   * lives on.
   */
  #fenced(why: string): void {
    leaseSet(this.lease, 0);
    // A machine that is reset takes what is in flight with it.
    if (this.nodes.fence_method === "exit") killSelfIn(DRAIN_MS);
    else fenceNow();
    this.onFence(why);
  }

  status(): Record<string, unknown> {
    const { nodes, hb, net, quorum } = this.stack;
    return {
      node: this.name,
      number: this.number,
      cluster: nodes.cluster,
      heartbeat_mode: nodes.heartbeat_mode,
      timeouts: nodes.timeouts,
      nodes: nodes.nodes().map((n) => {
        const age_ms = hb.sinceChange_ms(n.num);
        return { ...n, live: age_ms !== undefined, ...(age_ms === undefined ? {} : { heartbeat_age_ms: age_ms }) };
      }),
      heartbeat: hb.regions().map((r) => ({ ...r.status(), device: this.deviceOf(r.name) })),
      connections: net.peers(),
      quorum: quorum.state,
    };
  }

  stop(): Promise<void> {
    this.#regions.clear();
    return new Promise((ok) => this.stack.stop(ok));
  }
}
