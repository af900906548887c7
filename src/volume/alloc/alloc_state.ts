/**
 * What the allocators of one mounted volume remember between operations: hints, the local alloc's mood, the state of
 * the truncate log's flush. All of it may be lost at any time; what must not be lost is on the disk.
 */
import type { LockRes } from "../../dlmglue/lock_res.ts";
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { groupBitmapSize, localAllocSize } from "../../format/disk/index.ts";
import { WaitQueue } from "../../lib/wait.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import type { ReservationMap } from "./reservations.ts";

/** A group that an allocator used last; void once the allocator's lock was lost, as its groups may then be gone. */
export interface GroupHint {
  readonly group: number;
  readonly epoch: number;
}

/** How the local alloc fares (enum ocfs2_local_alloc_state and the sizes beside it). */
export interface LocalAllocMood {
  /** Clusters that the next window asks for. */
  readonly bits: number;
  /** The bitmap is short of long runs: windows stay small. */
  readonly throttled: boolean;
  /** Monotonic time until which there is no local alloc, 0 when there is one. */
  readonly disabled_until_ms: number;
  /** Group that the last window came from. */
  readonly last_group: number;
}

/** Which slot's allocator is robbed while ours is empty (s_inode_steal_slot, s_num_inodes_stolen). */
export interface StealSlot {
  slot: number;
  stolen: number;
}

/** So often another slot is asked first before our own is looked at again (OCFS2_MAX_TO_STEAL). */
export const MAX_TO_STEAL = 1024;
export const LA_ENABLE_INTERVAL_MS = 30_000;

export class AllocState {
  readonly osb: Osb;
  /** Arena address of 16 bytes for results of the kernels. */
  readonly scratch: number;
  /** Last group used, by the allocator's inode number. */
  readonly hints = new Map<number, GroupHint>();
  /** Group in which a directory's last inode was made. */
  readonly dir_hints = new WeakMap<Inode, { slot: number; hint: GroupHint }>();
  readonly steal = new Map<number, StealSlot>();
  /** Lock resources of allocators, by their place in the lock order. */
  readonly lock_ranks = new Map<LockRes, number>();

  la_default_bits: number;
  la: LocalAllocMood;
  /** Reservations in the local alloc's window; null until one is made, and whenever the window moves. */
  resmap: ReservationMap | null = null;

  /** A flush of our truncate log runs. */
  tl_flushing = false;
  /** Records of the log that the running flush has taken up: they must not be changed any more. */
  tl_pinned = 0;
  /** Records that the operation which runs now has added to the log. */
  tl_added = 0;
  /** Clusters in our truncate log. */
  tl_clusters = 0;
  readonly tl_done = new WaitQueue();
  /** Why the last flush failed, null when it did not. */
  tl_error: unknown = null;
  tl_cancel_timer: (() => void) | null = null;
  stopping = false;
  /** A trim has clusters of the global bitmap on their way to the device: nobody else takes any (trim.ts). */
  trimming: LockSet | null = null;
  readonly trim_done = new WaitQueue();
  /** Trims of this node run one after the other (obs_trim_fs_mutex). */
  trim_running = false;
  readonly trim_over = new WaitQueue();

  #saved: LocalAllocMood | null = null;

  constructor(osb: Osb) {
    this.osb = osb;
    this.scratch = osb.arena.alloc(16, 16);
    this.la_default_bits = laBits(osb);
    this.la = { bits: this.la_default_bits, throttled: false, disabled_until_ms: 0, last_group: 0 };
  }

  /** Changes the local alloc's mood for as long as `op` is not undone. */
  setLa(op: Op, la: LocalAllocMood): void {
    if (this.#saved === null) {
      this.#saved = this.la;
      op.onUndo(() => {
        this.la = this.#saved!;
        this.#saved = null;
        this.resmap = null;
      });
      op.onSuccess(() => {
        this.#saved = null;
      });
    }
    this.la = la;
  }
}

const states = new WeakMap<Osb, AllocState>();

export function allocState(osb: Osb): AllocState {
  let s = states.get(osb);
  if (s === undefined) {
    s = new AllocState(osb);
    states.set(osb, s);
  }
  return s;
}

/** Clusters of a group of the global bitmap (osb->bitmap_cpg). */
export const bitmapCpg = (osb: Osb): number => groupBitmapSize(osb.geo.blocksize, false, osb.geo.feature_incompat) * 8;

const LA_MAX_DEFAULT_MB = 256;
const LA_OLD_DEFAULT_MB = 8;
const MB = 2 ** 20;

const clustersToMb = (osb: Osb, clusters: number): number => Math.floor((clusters * osb.geo.clustersize) / MB);
const mbToClusters = (osb: Osb, mb: number): number => Math.floor((mb * MB) / osb.geo.clustersize);

/** The default window, in MiB: most of a group, yet never so much that other nodes starve (ocfs2_la_default_mb). */
export function laDefaultMb(osb: Osb): number {
  const { blocksize, clustersize, clusters, max_slots } = osb.geo;
  if ((blocksize === 512 && clustersize <= 8192) || (blocksize === 1024 && clustersize === 4096))
    return LA_OLD_DEFAULT_MB;
  // Leave room for block groups in the cluster group. The kernel's mask drops bit 2, where it meant to round down to 4.
  const gd_mb = (clustersToMb(osb, bitmapCpg(osb)) - 16) & 0xfffffffb;
  let mb = gd_mb;
  if (mb > LA_MAX_DEFAULT_MB) {
    if (gd_mb > 2 * LA_MAX_DEFAULT_MB) mb = LA_MAX_DEFAULT_MB;
    else while (mb > LA_MAX_DEFAULT_MB) mb >>= 1;
  }
  const per_slot = clustersToMb(osb, Math.floor(clusters / max_slots));
  const la_max = clustersToMb(osb, localAllocSize(blocksize) * 8);
  return Math.max(0, Math.min(mb, per_slot, la_max));
}

/** The window in clusters: as asked for by localalloc=, else the default (ocfs2_la_set_sizes, ocfs2_load_local_alloc). */
function laBits(osb: Osb): number {
  const max = Math.min(localAllocSize(osb.geo.blocksize) * 8, bitmapCpg(osb) - 1);
  const asked = osb.options.localalloc_mb;
  const mb = asked >= 0 ? asked : laDefaultMb(osb);
  return Math.min(mbToClusters(osb, mb), max);
}

/** Clusters in one MiB, below which a window is not worth its while. */
export const laMinBits = (osb: Osb): number => mbToClusters(osb, 1);

/** Many clusters became free at once: small windows may grow again (ocfs2_local_alloc_seen_free_bits). */
export function seenFreeBits(st: AllocState, clusters: number): void {
  if (clusters >= st.la_default_bits && (st.la.throttled || st.la.disabled_until_ms > 0))
    st.la = { ...st.la, throttled: false, disabled_until_ms: 0, bits: st.la_default_bits };
}
