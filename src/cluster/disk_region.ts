/**
 * A region on a real disk: the heartbeat's state machine (heartbeat.ts) over the native thread (native/heartbeat.ts), with the deadlines
 * that belong together. Numbers of one place, because they are the safety of the whole node:
 *
 *   submission of our last completed write ........ 0
 *   last moment at which writes may be submitted .. dead time / 2            (the lease; what is in flight has the other half)
 *   this process is gone .......................... dead time - 2 s          (O2HB_MAX_WRITE_TIMEOUT_MS)
 *   the earliest at which others declare us dead .. dead time
 */
import type { Random } from "../lib/clock.ts";
import { DiskHeartbeat } from "../native/heartbeat.ts";
import { LEASE_OPEN } from "../native/index.ts";
import type { HbRegion, Heartbeat } from "./heartbeat.ts";
import { deadMs, maxWriteTimeoutMs, O2HB_REGION_TIMEOUT_MS } from "./nodemanager.ts";

export interface DiskRegionOptions {
  /** The volume's UUID as 32 hex digits. */
  readonly name: string;
  readonly path: string;
  /** Where the heartbeat file begins, in bytes; it is one extent. */
  readonly offset_bytes: number;
  /** Logical block size of the device, 512 for a file. */
  readonly slot_bytes: number;
  /** The lease of the mounts that depend on this region; LEASE_OPEN gates nothing. */
  readonly lease?: number;
  /** Other deadlines than the cluster's, for tests. */
  readonly interval_ms?: number;
}

function generation(random: Random): bigint {
  for (;;) {
    const g = (BigInt(random.u32()) << 32n) | BigInt(random.u32());
    if (g !== 0n) return g;
  }
}

/**
 * Starts heartbeating in a region; `started` gets "" once it is steady (about 8 s), else the reason. Throws FsError when the region exists or
 * the device cannot be opened.
 */
export function startDiskRegion(
  hb: Heartbeat,
  random: Random,
  o: DiskRegionOptions,
  started: (failure: string) => void,
): HbRegion {
  const region = hb.addRegion(o.name);
  const t = hb.nodes.timeouts;
  const [first, last] = hb.slotRange();
  let disk: DiskHeartbeat;
  try {
    disk = new DiskHeartbeat(
      {
        path: o.path,
        offset_bytes: o.offset_bytes,
        slot_bytes: o.slot_bytes,
        node: hb.nodes.this_node!,
        generation: generation(random),
        dead_ms: deadMs(t),
        interval_ms: o.interval_ms ?? O2HB_REGION_TIMEOUT_MS,
        lease_ms: deadMs(t) / 2,
        fence_ms: maxWriteTimeoutMs(t),
        lease: o.lease ?? LEASE_OPEN,
        global: hb.nodes.heartbeat_mode === "global",
        first,
        last,
      },
      (beat) => region.beat(beat),
      () => region.ended(),
    );
  } catch (err) {
    hb.remove(region);
    throw err;
  }
  region.start(disk, started);
  return region;
}
