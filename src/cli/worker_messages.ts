/** What the daemon's main thread and the volume thread say to each other. */
import type { MountOptions } from "../volume/mount_options.ts";

export interface VolumeWorkerData {
  readonly device: string;
  readonly options: MountOptions;
  readonly writeback_cache: boolean;
  readonly random_bast_seed: number | null;
}

export interface VolumeInfo {
  readonly label: string;
  readonly uuid: string;
  readonly blocksize: number;
  readonly clustersize: number;
  readonly slot: number;
  /** A clustered volume, mounted without its cluster. */
  readonly without_cluster: boolean;
  /** Why nothing may be written; null when it may. */
  readonly readonly_reason: string | null;
}

export interface VolumeStatus extends VolumeInfo {
  readonly requests: number;
  readonly outstanding: number;
  readonly open_files: number;
  readonly inodes: number;
  readonly dirty_pages: number;
  readonly counts: Record<string, number>;
}

export type ToVolume =
  | { readonly type: "serve"; readonly fd: number }
  | { readonly type: "status"; readonly id: number }
  | { readonly type: "log"; readonly mask: string; readonly state: "allow" | "off" }
  /** The mount did not come about, or its users do not go: close the volume without the kernel. */
  | { readonly type: "close" };

export type FromVolume =
  /** Write to `wakefd` after each message to this thread: it sleeps in its ring. */
  | { readonly type: "wakefd"; readonly wakefd: number }
  | { readonly type: "progress"; readonly text: string }
  | { readonly type: "opened"; readonly info: VolumeInfo }
  | { readonly type: "failed"; readonly message: string; readonly errno: string | null }
  | { readonly type: "initialized" }
  | { readonly type: "unmounted" }
  | { readonly type: "closed"; readonly error: string | null }
  | { readonly type: "fatal"; readonly message: string }
  | { readonly type: "status"; readonly id: number; readonly status: VolumeStatus };
