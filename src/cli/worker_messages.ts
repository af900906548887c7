/** What the daemon's main thread and the volume thread say to each other. */
import type { MessagePort } from "node:worker_threads";
import type { Members } from "../cluster/proxy.ts";
import type { MountOptions } from "../volume/mount_options.ts";
import type { LogMasks } from "./log.ts";
import type { ThreadFigures } from "./thread_figures.ts";

/** The cluster at the moment at which a thread joins a domain. */
export interface ClusterOfDomain extends Members {
  readonly node_num: number;
  /** For a volume: its UUID. */
  readonly domain: string;
  /** The main thread's connections (native/tcp_transport.ts). */
  readonly hub: number;
  readonly live: readonly number[];
}

export interface ClusterOfVolume extends ClusterOfDomain {
  /** The lease that gates writes (native/src/fence.rs). */
  readonly lease: number;
}

export interface VolumeWorkerData {
  readonly device: string;
  readonly options: MountOptions;
  readonly writeback_cache: boolean;
  readonly mountpoints: boolean;
  readonly names_cool_ms: number;
  readonly local_flocks: boolean;
  readonly random_bast_seed: number | null;
  readonly fuse_minor: number;
  readonly log_masks: LogMasks;
  /** Null for a volume that no other node uses. `port` speaks cluster/proxy.ts with the node thread. */
  readonly cluster: { readonly of: ClusterOfVolume; readonly port: MessagePort } | null;
}

export interface VolumeInfo {
  readonly label: string;
  readonly uuid: string;
  readonly blocksize: number;
  readonly clustersize: number;
  readonly slot: number;
  /** A clustered volume, mounted without its cluster. */
  readonly without_cluster: boolean;
  /** Nothing can be written to the device, by nobody's choice here. */
  readonly device_readonly: boolean;
  /** Why nothing may be written; null when it may. */
  readonly readonly_reason: string | null;
}

export interface VolumeStatus extends VolumeInfo {
  readonly requests: number;
  readonly outstanding: number;
  readonly open_files: number;
  readonly inodes: number;
  /** Their bound, and how many have gone because of it. */
  readonly cached_inodes: number;
  readonly evicted: number;
  readonly dirty_pages: number;
  /** What was asked of the disk since the mount; a durable write is a flush too. */
  readonly io: { readonly reads: number; readonly writes: number; readonly flushes: number };
  /** Clusters of the local alloc's next window; 0: none is used. */
  readonly localalloc_clusters: number;
  readonly coherency: "full" | "buffered";
  readonly counts: Record<string, number>;
  /** Cluster locks that this node has; 0 without other nodes. */
  readonly locks: number;
  /** Locks that other nodes have called back, and what the kernel was told of it. */
  readonly basts: number;
  readonly notifications: number;
  /** Transactions committed, checkpoints, and times that everything had to be in place; null without a journal. */
  readonly journal: { readonly commits: number; readonly checkpoints: number; readonly flushes: number } | null;
  readonly thread: ThreadFigures;
  /** The lock domain; null without other nodes. */
  readonly domain: Record<string, unknown> | null;
}

/** And where operations wait, for whoever looks for the reason. */
export type LocksOf = "fs_locks" | "dlm_locks" | "op_waits";

export type ToVolume =
  | { readonly type: "serve"; readonly fd: number }
  | { readonly type: "status"; readonly id: number; readonly settle: boolean }
  /** The next piece of a list of locks; the first asks for it, the last is empty. */
  | { readonly type: "locks"; readonly id: number; readonly what: LocksOf; readonly names: readonly string[] }
  | { readonly type: "locks-end"; readonly id: number }
  | { readonly type: "log"; readonly mask: string; readonly state: "allow" | "off" }
  /** The mount did not come about, or its users do not go: close the volume without the kernel. */
  | { readonly type: "close" };

export type FromVolume =
  | { readonly type: "progress"; readonly text: string }
  | { readonly type: "opened"; readonly info: VolumeInfo }
  | { readonly type: "failed"; readonly message: string; readonly errno: string | null }
  | { readonly type: "initialized" }
  | { readonly type: "unmounted" }
  | { readonly type: "closed"; readonly error: string | null }
  | { readonly type: "fatal"; readonly message: string }
  | { readonly type: "status"; readonly id: number; readonly status: VolumeStatus }
  | { readonly type: "locks"; readonly id: number; readonly text: string };
