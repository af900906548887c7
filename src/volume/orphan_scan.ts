/**
 * The orphan scan (journal.c: ocfs2_queue_orphan_scan): from time to time one node looks into every slot's orphan directory. It finds
 * what its last user forgot to delete: a node that had an inode cached when another took its last name away never heard
 * of it. The scan's lock hands the number of the last scan on, so that of all nodes only one scans in each interval.
 */
import { EX } from "../dlmglue/lock_res.ts";
import { LockSet } from "../dlmglue/lock_set.ts";
import { OCFS2_ORPHAN_LVB_VERSION, OrphanScanLvb } from "../format/wire/lvb.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn, type Task, wait } from "../lib/task.ts";
import { WaitQueue } from "../lib/wait.ts";
import { recoverOrphans } from "./dir/wipe.ts";
import type { Osb } from "./osb.ts";

/** ORPHAN_SCAN_SCHEDULE_TIMEOUT, and the part of it that is left to chance. */
export const ORPHAN_SCAN_MS = 600_000;
const JITTER_MS = 5000;

interface OrphanScan {
  active: boolean;
  running: boolean;
  cancel: (() => void) | null;
  readonly idle: WaitQueue;
  /** Number of the last scan that we know of, here or elsewhere. */
  seqno: number;
  /** Scans that this node has made. */
  count: number;
}

const scans = new WeakMap<Osb, OrphanScan>();

export function orphanScanOf(osb: Osb): OrphanScan {
  let scan = scans.get(osb);
  if (scan === undefined) {
    scan = { active: false, running: false, cancel: null, idle: new WaitQueue(), seqno: 0, count: 0 };
    scans.set(osb, scan);
  }
  return scan;
}

export function startOrphanScan(osb: Osb): void {
  const scan = orphanScanOf(osb);
  scan.active = true;
  schedule(osb, scan);
}

function schedule(osb: Osb, scan: OrphanScan): void {
  scan.cancel = osb.clock.after(ORPHAN_SCAN_MS + (osb.random.u32() % JITTER_MS), () => {
    scan.cancel = null;
    scan.running = true;
    spawn(orphanScan(osb), (err) => {
      scan.running = false;
      if (err) mlog(ML.ERROR, `orphan scan: ${err instanceof Error ? err.message : String(err)}`);
      scan.idle.wakeAll();
      if (scan.active) schedule(osb, scan);
    });
    osb.wakeLoop();
  });
}

export function* stopOrphanScan(osb: Osb): Task<void> {
  const scan = orphanScanOf(osb);
  scan.active = false;
  scan.cancel?.();
  scan.cancel = null;
  while (scan.running) yield* wait<void>((cb) => scan.idle.add(() => cb(null)));
}

/** Whether the next scan is ours to make, by the number that the lock hands on. */
function* takeTurn(osb: Osb, scan: OrphanScan): Task<boolean> {
  const res = osb.glue.orphan_scan_lockres;
  const locks = new LockSet();
  try {
    yield* wait(osb.step((op) => osb.glue.lock(op.locks, res, EX), locks));
    const { lvb } = res;
    const v = OrphanScanLvb.at(new DataView(lvb.buffer, lvb.byteOffset, lvb.byteLength), 0);
    const known = res.dl!.lvb_valid && v.lvb_version === OCFS2_ORPHAN_LVB_VERSION;
    let seqno = known ? v.lvb_os_seqno : (scan.seqno + 1) >>> 0;
    const ours = seqno === scan.seqno && scan.active;
    if (ours) {
      // Ours stays behind it, as in the kernel: at our next look we leave the turn to another node.
      seqno = (seqno + 1) >>> 0;
      scan.count++;
    } else scan.seqno = seqno;
    v.lvb_version = OCFS2_ORPHAN_LVB_VERSION;
    v.lvb_os_seqno = seqno;
    return ours;
  } finally {
    locks.releaseAll();
  }
}

/** One scan, unless another node has made one since our last look. True when it was ours to make. */
export function* orphanScan(osb: Osb): Task<boolean> {
  if (osb.readonly_reason !== null || !osb.glue.domain.clustered) return false;
  if (!(yield* takeTurn(osb, orphanScanOf(osb)))) return false;
  for (let slot = 0; slot < osb.geo.max_slots; slot++) yield* recoverOrphans(osb, slot);
  return true;
}
