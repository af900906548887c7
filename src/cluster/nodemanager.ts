/**
 * Who belongs to the cluster, by number and by address, and the time-outs that all have to agree on (o2nm). A connection is taken from
 * nobody else, and a node that is taken out while it runs is cut off at once. The limits are the kernel's (nodemanager.c).
 */
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { type NodeNum, O2NM_MAX_NODES } from "./node.ts";

export const O2NM_MAX_NAME_LEN = 64;
/** Longest cluster name: OCFS2_CLUSTER_NAME_LEN of the super block. */
export const CLUSTER_NAME_LEN = 16;
export const O2NM_MAX_REGIONS = 32;

/** How often every node writes its block, and reads the others'. */
export const O2HB_REGION_TIMEOUT_MS = 2000;
/** A dead node lives after so many changed samples. */
export const O2HB_LIVE_THRESHOLD = 2;
export const O2HB_DEFAULT_DEAD_THRESHOLD = 31;
/** A threshold has to be larger than this (o2hb_dead_threshold_set). */
export const O2HB_MIN_DEAD_THRESHOLD = 2;
/** The dead time is told in 32 bits of milliseconds, on the disk and on the wire (the kernel's overflows). */
export const O2HB_MAX_DEAD_THRESHOLD = Math.floor(0xffffffff / O2HB_REGION_TIMEOUT_MS);

export const FENCE_METHODS = ["reset", "panic", "exit"] as const;
/**
 * What a node does that must not go on. "exit" ends the node's process (ours, and the default: docs/CLUSTER.md); "reset" and
 * "panic" stop the machine, as the kernel's do.
 */
export type FenceMethod = (typeof FENCE_METHODS)[number];

export type HeartbeatMode = "local" | "global";

export interface NodeConfig {
  readonly name: string;
  readonly num: NodeNum;
  readonly ipv4_address: string;
  readonly ipv4_port: number;
}

export interface Timeouts {
  /** Beats that a node may miss: dead after threshold * 2 s without a change. */
  dead_threshold: number;
  idle_timeout_ms: number;
  keepalive_delay_ms: number;
  reconnect_delay_ms: number;
}

export const DEFAULT_TIMEOUTS: Readonly<Timeouts> = {
  dead_threshold: O2HB_DEFAULT_DEAD_THRESHOLD,
  idle_timeout_ms: 30_000,
  keepalive_delay_ms: 2000,
  reconnect_delay_ms: 2000,
};

/** Others declare a node dead that has not changed its block for so long. */
export const deadMs = (t: Timeouts): number => t.dead_threshold * O2HB_REGION_TIMEOUT_MS;
/** A node whose writes have hung for so long fences itself, a beat before the others (O2HB_MAX_WRITE_TIMEOUT_MS). */
export const maxWriteTimeoutMs = (t: Timeouts): number => (t.dead_threshold - 1) * O2HB_REGION_TIMEOUT_MS;
/** A lost connection is judged only after the heartbeat had its time to notice a death (O2NET_QUORUM_DELAY_MS). */
export const quorumDelayMs = (t: Timeouts): number => (t.dead_threshold + 2) * O2HB_REGION_TIMEOUT_MS;

const refuse = (errno: number, what: string): never => {
  throw new FsError(errno, "nodemanager", { what });
};

/** "10.0.0.1" as its four octets, or undefined (o2nm_node_ipv4_address_store takes nothing else). */
export function parseIpv4(text: string): string | undefined {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (m === null) return undefined;
  const octets = m.slice(1).map(Number);
  return octets.every((o) => o <= 255) ? octets.join(".") : undefined;
}

export interface NodeManagerListener {
  added(node: NodeConfig): void;
  /** Before the node is gone: its connection is closed (o2net_disconnect_node). */
  removed(node: NodeConfig): void;
}

export class NodeManager {
  readonly cluster: string;
  heartbeat_mode: HeartbeatMode = "local";
  /** Changed through setFenceMethod. */
  fence_method: FenceMethod = "exit";
  /** Arms a fence method; 0 or -errno. Set by the node's process: only it can end a machine. */
  arm_fence: (method: FenceMethod) => number = () => 0;
  readonly #timeouts: Timeouts;
  readonly #by_num = new Map<NodeNum, NodeConfig>();
  readonly #by_ip = new Map<string, NodeConfig>();
  readonly #listeners = new Set<NodeManagerListener>();
  #local: NodeNum | undefined;
  /** How many connections stand; set by o2net. Time-outs that a peer has agreed to stay (o2net_num_connected_peers). */
  connected_peers: () => number = () => 0;
  /** How many heartbeat regions there are; set by o2hb. The threshold stays while there is one. */
  active_regions: () => number = () => 0;

  constructor(cluster: string, timeouts: Readonly<Timeouts> = DEFAULT_TIMEOUTS) {
    if (cluster === "" || cluster.length > CLUSTER_NAME_LEN)
      refuse(Errno.ENAMETOOLONG, `cluster name "${cluster}" does not have 1 to ${CLUSTER_NAME_LEN} letters`);
    this.cluster = cluster;
    this.#timeouts = { ...timeouts };
  }

  get timeouts(): Readonly<Timeouts> {
    return this.#timeouts;
  }

  /** This node's number (o2nm_this_node), undefined before setLocal. */
  get this_node(): NodeNum | undefined {
    return this.#local;
  }

  node(num: NodeNum): NodeConfig | undefined {
    return this.#by_num.get(num);
  }

  nodeByIp(address: string): NodeConfig | undefined {
    return this.#by_ip.get(address);
  }

  nodeByName(name: string): NodeConfig | undefined {
    for (const node of this.#by_num.values()) if (node.name === name) return node;
    return undefined;
  }

  /** By number, the lowest first. */
  nodes(): NodeConfig[] {
    return [...this.#by_num.values()].sort((a, b) => a.num - b.num);
  }

  /** Throws FsError: ENAMETOOLONG, EINVAL, ERANGE, EEXIST (number, address or name taken). */
  addNode(node: NodeConfig): void {
    if (node.name.length > O2NM_MAX_NAME_LEN) refuse(Errno.ENAMETOOLONG, `node name "${node.name}"`);
    if (node.name === "" || parseIpv4(node.ipv4_address) !== node.ipv4_address)
      refuse(Errno.EINVAL, `node "${node.name}" at "${node.ipv4_address}"`);
    if (!Number.isInteger(node.num) || node.num < 0 || node.num >= O2NM_MAX_NODES)
      refuse(Errno.ERANGE, `number ${node.num} of node "${node.name}" is not 0 to ${O2NM_MAX_NODES - 1}`);
    if (!Number.isInteger(node.ipv4_port) || node.ipv4_port < 1 || node.ipv4_port >= 0xffff)
      refuse(Errno.ERANGE, `port ${node.ipv4_port} of node "${node.name}"`);
    if (this.#by_num.has(node.num)) refuse(Errno.EEXIST, `number ${node.num} is ${this.#by_num.get(node.num)!.name}'s`);
    if (this.#by_ip.has(node.ipv4_address))
      refuse(Errno.EEXIST, `address ${node.ipv4_address} is ${this.#by_ip.get(node.ipv4_address)!.name}'s`);
    if (this.nodeByName(node.name) !== undefined) refuse(Errno.EEXIST, `name "${node.name}" is taken`);
    if (mlogOn(ML.CLUSTER))
      mlog(ML.CLUSTER, `node ${node.name} (${node.num}) at ${node.ipv4_address}:${node.ipv4_port}`);
    this.#by_num.set(node.num, node);
    this.#by_ip.set(node.ipv4_address, node);
    for (const listener of [...this.#listeners]) listener.added(node);
  }

  /** Throws FsError: ENOENT, EBUSY for this node itself while it is the local one. */
  removeNode(num: NodeNum): void {
    const node = this.#by_num.get(num) ?? refuse(Errno.ENOENT, `node ${num}`);
    if (num === this.#local) refuse(Errno.EBUSY, `node ${num} is this node`);
    if (mlogOn(ML.CLUSTER)) mlog(ML.CLUSTER, `node ${node.name} (${node.num}) is taken out`);
    for (const listener of [...this.#listeners]) listener.removed(node);
    this.#by_num.delete(num);
    this.#by_ip.delete(node.ipv4_address);
  }

  onNodes(listener: NodeManagerListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Which node we are. Throws FsError: ENOENT, EBUSY when we are another already. */
  setLocal(num: NodeNum): void {
    if (!this.#by_num.has(num)) refuse(Errno.ENOENT, `node ${num}`);
    if (this.#local !== undefined && this.#local !== num) refuse(Errno.EBUSY, `this is node ${this.#local}`);
    this.#local = num;
  }

  clearLocal(): void {
    this.#local = undefined;
  }

  /** Throws FsError with what this machine says against it (EACCES without the right to reset it). */
  setFenceMethod(method: FenceMethod): void {
    const err = this.arm_fence(method);
    if (err < 0) refuse(-err, `fence method ${method}`);
    this.fence_method = method;
  }

  /** Changes time-outs as the attributes of configfs do. Throws FsError EINVAL, ERANGE; a threshold that may not change is kept, as the kernel keeps it. */
  setTimeouts(change: Partial<Timeouts>): void {
    const next = { ...this.#timeouts, ...change };
    for (const [name, v] of Object.entries(change)) {
      if (!Number.isInteger(v) || v <= 0) refuse(Errno.EINVAL, `${name} ${v}`);
      if (v >= 0xffffffff) refuse(Errno.ERANGE, `${name} ${v}`);
    }
    const now = this.#timeouts;
    const agreed = next.idle_timeout_ms !== now.idle_timeout_ms || next.keepalive_delay_ms !== now.keepalive_delay_ms;
    if (agreed && this.connected_peers() > 0)
      refuse(Errno.EINVAL, "idle time-out and keepalive delay stay while a peer is connected that has agreed to them");
    if (next.idle_timeout_ms <= next.keepalive_delay_ms)
      refuse(
        Errno.EINVAL,
        `idle time-out ${next.idle_timeout_ms} ms must be larger than keepalive delay ${next.keepalive_delay_ms} ms`,
      );
    const cannot_be = next.dead_threshold <= O2HB_MIN_DEAD_THRESHOLD || next.dead_threshold > O2HB_MAX_DEAD_THRESHOLD;
    if (cannot_be || this.active_regions() > 0) next.dead_threshold = now.dead_threshold;
    Object.assign(this.#timeouts, next);
  }
}
