/**
 * A cluster on this machine: kernel nodes (rig.ts) and nodes of ours in one network namespace of its own, on one image file.
 * Kernel nodes have the numbers 1 to 9, and from 100 on, and the addresses 10.77.0.N; ours 11 to 99, on the bridge itself.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { atExit, tempDir } from "./cleanup.ts";
import { KernelNode, rigUnavailable } from "./rig.ts";
import { missing, sh, trySh } from "./sh.ts";

export const CLUSTER = "rig";
const PORT = 7777;

/** Why there can be no cluster with a kernel node here; undefined when there can. */
export function clusterUnavailable(): string | undefined {
  const lacking = missing("ip", "nsenter");
  if (lacking.length > 0) return `not installed: ${lacking.join(", ")}`;
  return rigUnavailable();
}

/** A heartbeat region: a volume in a file. */
export interface Region {
  readonly uuid: string;
  readonly path: string;
}

let next = 0;

export const addressOf = (n: number): string => `10.77.0.${n}`;

export const isKernel = (n: number): boolean => n < 10 || n >= 100;

/** One file for all nodes, as o2cb writes it. With `regions` (volumes' UUIDs) heartbeat is global. */
export function clusterConf(
  numbers: readonly number[],
  nameOf: (n: number) => string,
  regions: readonly string[] = [],
): string {
  const mode = regions.length > 0 ? "global" : "local";
  const node = (n: number): string =>
    `node:\n\tip_port = ${PORT}\n\tip_address = ${addressOf(n)}\n\tnumber = ${n}\n\tname = ${nameOf(n)}\n\tcluster = ${CLUSTER}\n`;
  return [
    ...regions.map((uuid) => `heartbeat:\n\tregion = ${uuid}\n\tcluster = ${CLUSTER}\n`),
    `cluster:\n\tnode_count = ${numbers.length}\n\theartbeat_mode = ${mode}\n\tname = ${CLUSTER}\n`,
    ...numbers.map(node),
  ].join("\n");
}

export class ClusterRig {
  /** Path of the network namespace: "nsenter --net=PATH program" runs a program in it. */
  readonly netns: string;
  readonly conf: string;
  readonly image: string;
  readonly dead_threshold: number;
  /** O2CB_IDLE_TIMEOUT_MS of all nodes. */
  readonly idle_timeout_ms: number;
  readonly #name: string;
  readonly #forget: () => void;
  readonly #taps = new Set<string>();
  readonly #regions: readonly Region[];

  /** `numbers`: all nodes that the cluster may have. `regions`: of global heartbeat. */
  constructor(
    image: string,
    numbers: readonly number[],
    dead_threshold = 7,
    idle_timeout_ms = 30_000,
    regions: readonly Region[] = [],
  ) {
    this.#regions = regions;
    this.image = image;
    this.dead_threshold = dead_threshold;
    this.idle_timeout_ms = idle_timeout_ms;
    this.#name = `ocfs2t${process.pid}n${next++}`;
    this.netns = `/run/netns/${this.#name}`;
    this.conf = join(tempDir("ocfs2-cluster"), "cluster.conf");
    writeFileSync(
      this.conf,
      clusterConf(
        numbers,
        (n) => this.nameOf(n),
        regions.map((r) => r.uuid),
      ),
    );
    sh(["ip", "netns", "add", this.#name]);
    this.#forget = atExit(() => trySh(["ip", "netns", "del", this.#name]));
    this.#ip("link", "set", "lo", "up");
    this.#ip("link", "add", "o2rig", "type", "bridge");
    // One packet at a time: the device of User Mode Linux drops those that are to be split on the way, and each is sent again after 200 ms.
    this.#ip("link", "set", "o2rig", "gso_max_segs", "1", "up");
    this.#ip("addr", "add", "10.77.0.254/24", "dev", "o2rig");
    for (const n of numbers) if (!isKernel(n)) this.#ip("addr", "add", `${addressOf(n)}/24`, "dev", "o2rig");
  }

  /** Of a node; tests that run at the same time have other nodes on this machine. */
  nameOf(n: number): string {
    return isKernel(n) ? `kernel${n}` : `${this.#name}-${n}`;
  }

  #ip(...args: string[]): void {
    sh(["ip", "-n", this.#name, ...args]);
  }

  /** What goes before a command line, so that it runs in the cluster's network, with its time-outs. */
  get prefix(): string[] {
    return [
      ...["nsenter", `--net=${this.netns}`, "env", `O2CB_HEARTBEAT_THRESHOLD=${this.dead_threshold}`],
      `O2CB_IDLE_TIMEOUT_MS=${this.idle_timeout_ms}`,
    ];
  }

  /** Boots kernel node `number`; it is not mounted yet. `disk`: another way to the image than the image itself. */
  async kernel(number: number, mem?: string, disk = this.image): Promise<KernelNode> {
    const tap = `o2tap${number}`;
    if (!this.#taps.has(tap)) {
      this.#ip("tuntap", "add", "dev", tap, "mode", "tap");
      this.#ip("link", "set", tap, "master", "o2rig", "up");
      this.#taps.add(tap);
    }
    const { netns, conf, dead_threshold, idle_timeout_ms } = this;
    const cluster = { netns, tap, number, conf, dead_threshold, idle_timeout_ms };
    const disks = this.#regions.map((r) => r.path).filter((path) => path !== this.image);
    return KernelNode.boot(disk, { cluster, disks, ...(mem === undefined ? {} : { mem }) });
  }

  /** Cuts a node's network (its tap, or its address), both ways, or joins it again. */
  cut(number: number, off: boolean): void {
    if (isKernel(number)) this.#ip("link", "set", `o2tap${number}`, off ? "down" : "up");
    else this.#ip("addr", off ? "del" : "add", `${addressOf(number)}/24`, "dev", "o2rig");
  }

  close(): void {
    this.#forget();
  }
}
