/**
 * Opening and closing a volume (super.c: ocfs2_fill_super, ocfs2_mount_volume, ocfs2_dismount_volume; journal.c:
 * ocfs2_check_volume, ocfs2_journal_shutdown). The order at mount matters: no block may be cached before every dirty
 * journal was replayed, and no slot's remains are cleaned up before its journal was. In a cluster the slot map and the dead
 * nodes' journals are looked at under the super lock, one node at a time.
 */
import { BufferCache } from "../block/buffer_cache.ts";
import { DataCache } from "../block/data_cache.ts";
import { type BlockDevice, deviceFlush } from "../block/device.ts";
import { DlmGlue } from "../dlmglue/dlmglue.ts";
import { LockSet } from "../dlmglue/lock_set.ts";
import type { Arena } from "../lib/arena.ts";
import type { Clock, Random } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn, type Task, wait } from "../lib/task.ts";
import { LocalDomain } from "../stackglue/local.ts";
import type { LockDomain } from "../stackglue/lock_domain.ts";
import type { Kernels } from "../wasm/kernels.ts";
import { allocRecoverSlot, allocStart, allocStop, slotHasRemains } from "./alloc/suballoc.ts";
import { recoverOrphans, wipesIdle } from "./dir/wipe.ts";
import { InodeCache } from "./inode_cache.ts";
import { glueOps } from "./inode_locks.ts";
import { makeKinds } from "./kinds.ts";
import type { MountOptions } from "./mount_options.ts";
import "./parts.ts";
import { replaySlot, startJournal } from "./mount_journal.ts";
import { startOrphanScan, stopOrphanScan } from "./orphan_scan.ts";
import { type Geometry, Osb, type Sabotage } from "./osb.ts";
import {
  callJournalLock,
  dropJournalLock,
  isJournalDirty,
  journalToggleDirty,
  Recovery,
  type ReplayedSlot,
  replayDead,
  superLock,
  tryLockJournal,
} from "./recovery.ts";
import { findSlot, freeSlots, slotNode, writeSlot } from "./slot_map.ts";
import { gateFeatures, readSuperblock } from "./superblock.ts";
import { loadSystemInodes } from "./sysfile.ts";

export interface OpenParts {
  readonly arena: Arena;
  readonly kernels: Kernels;
  readonly dev: BlockDevice;
  readonly clock: Clock;
  readonly random: Random;
  readonly options: MountOptions;
  /** The local domain when not given, or when the volume is mounted without the cluster. */
  readonly domain?: LockDomain;
  /** Steps of the mount, for whoever shows progress. */
  readonly onProgress?: (what: string) => void;
  /** Hears of the Osb as soon as it exists, for a thread that runs its turns itself. */
  readonly onOsb?: (osb: Osb) => void;
  /** Rules to switch off, for tests. */
  readonly sabotage?: Iterable<Sabotage>;
}

/**
 * Blocks that one operation may change. The largest is the split of a full cluster of an index: it rewrites that cluster's leaves and fills another
 * one's (dx_grow.ts), which are 4096 where blocks have 512 bytes and clusters 1 MiB.
 */
const opBlocks = (geo: Geometry): number => Math.max(1024, 2 * geo.blocks_per_cluster + 128);

/**
 * Opens a volume: checks it, replays dirty journals, takes a slot, starts the journal. With a clustered domain, which this node has
 * joined, beside other nodes; when the mount fails the domain has been left, unless the journal was aborted: then nothing that the node holds
 * may be given to others but by its end. Throws FsError or Corruption.
 */
export function* openVolume(parts: OpenParts): Task<Osb> {
  let osb: Osb | undefined;
  const onOsb = (o: Osb): void => {
    osb = o;
    parts.onOsb?.(o);
  };
  try {
    return yield* openWith({ ...parts, onOsb });
  } catch (err) {
    if (osb?.journal?.aborted != null) throw err;
    if (osb?.glue !== undefined) yield* osb.glue.dropAll();
    if (parts.domain !== undefined) yield* wait<void>((cb) => parts.domain!.leave(() => cb(null)));
    throw err;
  }
}

function* openWith(parts: OpenParts): Task<Osb> {
  const { arena, kernels, dev, clock, random, options } = parts;
  const osb = new Osb(arena, kernels, dev, clock, random, options);
  for (const rule of parts.sabotage ?? []) osb.sabotage.add(rule);
  osb.readonly_reason = dev.readonly ? "the device is read-only" : null;
  // Without the right to write there are no locks either: what is read may be older than what others have written.
  const alone = parts.domain === undefined || options.nocluster || dev.readonly;
  const domain = alone ? new LocalDomain() : parts.domain!;
  osb.glue = new DlmGlue(
    domain,
    glueOps(() => osb),
    (err) => {
      if (osb.journal !== undefined) osb.journal.abort(err);
      else mlog(ML.ERROR, `locks: ${err instanceof Error ? err.message : String(err)}`);
    },
    osb.clock,
    osb.sabotage,
  );
  const recovery = new Recovery(osb);
  osb.recovery = recovery;
  // Before anything is waited for: a death that we do not hear of is one that nothing waits for.
  domain.onNodeDown = (node) => recovery.nodeDown(node);
  const geo = yield* readSuperblock(arena, dev);
  osb.geo = geo;
  parts.onOsb?.(osb);
  const ro = gateFeatures(geo, options, parts.domain?.clustered === true);
  osb.cache = new BufferCache(arena, dev, geo.blocksize, options.cache_bytes);
  osb.data = new DataCache(arena, dev, options.data_cache_bytes);
  osb.data.onWriteError = (_owner, errno) => {
    osb.data_error = errno;
  };
  osb.kinds = makeKinds(osb);
  osb.inodes = new InodeCache(osb);
  osb.undo_slots = opBlocks(geo);
  osb.undo_base = arena.alloc(osb.undo_slots * geo.blocksize, 4096);
  yield* wait(osb.step((op) => loadSystemInodes(op, osb)));
  if (domain.clustered) yield* mountClustered(osb, parts, ro);
  else yield* mountLocal(osb, parts, ro);
  return osb;
}

/** A volume that nobody else uses: every dirty journal in it is ours to replay. */
function* mountLocal(osb: Osb, parts: OpenParts, ro: string | null): Task<void> {
  const { dev, geo, options } = osb;
  const progress = parts.onProgress ?? (() => {});
  const dirty: number[] = [];
  for (let slot = 0; slot < geo.max_slots; slot++) if (yield* isJournalDirty(osb, slot)) dirty.push(slot);
  if (dirty.length > 0) {
    if (dev.readonly)
      throw new FsError(Errno.EROFS, "mount", {
        found: `the journal of slot ${dirty.join(", ")} must be replayed, but the device is read-only`,
      });
    for (const slot of dirty) {
      progress(`replaying the journal of slot ${slot}`);
      yield* replaySlot(osb, slot);
    }
    // What was read before the replay may be older than what it wrote.
    forgetAll(osb);
  }
  if (ro !== null || dev.readonly) {
    for (const slot of dirty) yield* journalToggleDirty(osb, slot, yield* slotHasRemains(osb, slot), true);
    osb.readonly_reason = ro ?? osb.readonly_reason;
    return;
  }

  // A local mount is node 0; it takes the slot that it had when it died.
  osb.slot_num = yield* wait(osb.step((op) => findSlot(op, 0, options.preferred_slot)));
  yield* writeSlot(osb, osb.slot_num, 0);
  const replayed = dirty.includes(osb.slot_num);
  yield* startJournal(osb, () => journalToggleDirty(osb, osb.slot_num, true, replayed));
  for (const slot of dirty) {
    progress(`recovering slot ${slot}`);
    yield* allocRecoverSlot(osb, slot);
  }
  yield* allocStart(osb);
  for (const slot of dirty) {
    if (slot === osb.slot_num) continue;
    yield* wait(osb.journal.flush);
    yield* journalToggleDirty(osb, slot, false, true);
    const holder = yield* wait(osb.step((op) => slotNode(op, slot)));
    if (holder !== undefined) yield* writeSlot(osb, slot, undefined);
  }
  for (let slot = 0; slot < geo.max_slots; slot++) {
    const gone = yield* recoverOrphans(osb, slot);
    if (gone > 0) mlog(ML.NOTICE, `${gone} orphans of slot ${slot} deleted`);
  }
  startTimers(osb);
}

function forgetAll(osb: Osb): void {
  osb.cache.forget(0, Number.MAX_SAFE_INTEGER);
  for (const inode of osb.inodes.values()) inode.dropCaches();
}

/** Beside other nodes (ocfs2_mount_volume). When it fails the slot is free again and no lock is held. */
function* mountClustered(osb: Osb, parts: OpenParts, ro: string | null): Task<void> {
  try {
    const { dead, free } = yield* joinVolume(osb, parts);
    osb.recovery!.enable();
    for (const slot of dead) osb.recovery!.finish(slot);
    yield* allocStart(osb);
    osb.readonly_reason = ro ?? osb.readonly_reason;
    osb.recovery!.deleteOrphans([osb.slot_num, ...free]);
    startTimers(osb);
    startOrphanScan(osb);
  } catch (err) {
    yield* osb.recovery!.settle();
    osb.recovery!.stop();
    // A journal that cannot be emptied is for the others to replay: they must see us die, not leave.
    if (osb.journal !== undefined && osb.journal.aborted !== null) throw err;
    try {
      if (osb.journal !== undefined) {
        yield* osb.journal.shutdown();
        yield* leaveVolume(osb);
      }
    } catch (also) {
      // The slot stays ours: whoever mounts next recovers it.
      mlog(ML.ERROR, `slot ${osb.slot_num}:`, also instanceof Error ? also.message : String(also));
    }
    osb.journal_locks.releaseAll();
    throw err;
  }
}

/** Takes a slot and starts its journal; replays those of slots whose owners are dead. Under the super lock. */
function* joinVolume(osb: Osb, parts: OpenParts): Task<{ dead: ReplayedSlot[]; free: number[] }> {
  const { glue, options } = osb;
  const progress = parts.onProgress ?? (() => {});
  for (;;) {
    const locks = new LockSet({ for_recovery: true });
    let busy = -1;
    try {
      yield* superLock(osb, locks);
      const slot = yield* wait(osb.step((op) => findSlot(op, glue.domain.node_num, options.preferred_slot)));
      if (osb.sabotage.has("journal_lock") || (yield* tryLockJournal(osb, slot, osb.journal_locks))) {
        osb.slot_num = slot;
        const taken_before = (yield* wait(osb.step((op) => slotNode(op, slot)))) !== undefined;
        yield* writeSlot(osb, slot, glue.domain.node_num);
        const dirty = yield* isJournalDirty(osb, slot);
        if (dirty) {
          progress(`replaying the journal of slot ${slot}`);
          yield* replaySlot(osb, slot);
          forgetAll(osb);
        }
        // Moved for a slot that we come back to, too: those who heard of our death need not look.
        const again = taken_before || dirty;
        yield* startJournal(osb, () => journalToggleDirty(osb, slot, true, again));
        const dead: ReplayedSlot[] = [];
        try {
          yield* replayAllDead(osb, dead);
          yield* osb.recovery!.refreshGenerations();
          return { dead, free: yield* wait(osb.step(freeSlots)) };
        } catch (err) {
          for (const d of dead) yield* dropJournalLock(osb, d.slot, d.locks);
          throw err;
        }
      }
      busy = slot;
    } finally {
      locks.releaseAll();
    }
    // Another node still returns what we had when we died to the bitmap, or did and has kept the lock.
    if (busy >= 0) yield* callJournalLock(osb, busy);
  }
}

/** The journals of all slots whose owners are dead. `dead` gets them one by one. Those whose death we have heard of are the recovery's. */
function* replayAllDead(osb: Osb, dead: ReplayedSlot[]): Task<void> {
  for (let slot = 0; slot < osb.geo.max_slots; slot++) {
    const node = yield* wait(osb.step((op) => slotNode(op, slot)));
    if (slot === osb.slot_num || node === undefined || osb.glue.recovery_map.has(node)) continue;
    const replayed = yield* replayDead(osb, slot, node);
    if (replayed !== undefined) dead.push(replayed);
  }
}

/** Every commit= seconds: dirty data is written and the running transaction committed. */
function startTimers(osb: Osb): void {
  const interval_ms = osb.options.commit_s * 1000;
  const tick = (): void => {
    osb.cancelTimer = osb.clock.after(interval_ms, () => {
      spawn(periodic(osb), (err) => {
        if (err) mlog(ML.ERROR, `periodic commit: ${err instanceof Error ? err.message : String(err)}`);
        if (!osb.closing) tick();
      });
      osb.wakeLoop();
    });
  };
  tick();
}

function* periodic(osb: Osb): Task<void> {
  if (osb.readonly_reason !== null) return;
  if (osb.data.dirty_pages > 0) yield* wait(osb.data.flushAll());
  yield* wait(osb.journal.periodic);
}

/**
 * Everything dirty is durable: data, metadata (sync(2), ocfs2_sync_fs). Throws what could not be written since the last time, as syncfs(2)
 * says it: the files' own fsync says it once more.
 */
export function* syncVolume(osb: Osb): Task<void> {
  if (osb.slot_num < 0) return;
  if (osb.journal.aborted !== null) throw new FsError(Errno.EIO, "sync", { journal: "aborted" });
  if (osb.readonly_reason !== null) return;
  if (osb.data.dirty_pages > 0 || osb.data.pages_in_flight > 0) yield* wait(osb.data.flushAll());
  yield* wait(osb.journal.periodic);
  yield* deviceFlush(osb.dev);
  const errno = osb.data_error;
  osb.data_error = 0;
  if (errno !== 0) throw new FsError(errno, "sync", { found: "file data could not be written" });
}

/** The journal is empty; it is clean, unless its slot holds what we could not return. */
function* leaveSlot(osb: Osb): Task<void> {
  const slot = osb.slot_num;
  yield* journalToggleDirty(osb, slot, yield* slotHasRemains(osb, slot), false);
  yield* writeSlot(osb, slot, undefined);
}

/** Journal clean, slot free, under the super lock: nobody sees a slot that is taken with a journal that nobody holds. */
function* leaveVolume(osb: Osb): Task<void> {
  const locks = new LockSet({ for_recovery: true });
  try {
    yield* superLock(osb, locks);
    yield* leaveSlot(osb);
    yield* dropJournalLock(osb, osb.slot_num, osb.journal_locks);
  } finally {
    locks.releaseAll();
  }
}

/** Nothing is left that only we could delete or give back to the bitmap, and no recovery is under way. */
function* returnAll(osb: Osb): Task<void> {
  const { clustered } = osb.glue.domain;
  const recovery = osb.recovery!;
  // What another node still had open when we tried to delete it.
  if (clustered && osb.readonly_reason === null) yield* recoverOrphans(osb, osb.slot_num);
  do {
    yield* recovery.settle();
    yield* wipesIdle(osb);
    // What the last recovery freed, too.
    if (osb.readonly_reason === null) yield* allocStop(osb);
  } while (!recovery.settled);
}

/**
 * Closes a volume: all written, journal clean, slot free, the domain left. After an abort it leaves the journal dirty, for the next
 * mount or for the other nodes.
 */
export function* closeVolume(osb: Osb): Task<void> {
  osb.closing = true;
  osb.cancelTimer?.();
  if (osb.slot_num < 0) {
    osb.dev.close();
    return;
  }
  const { clustered } = osb.glue.domain;
  if (osb.journal.aborted === null) osb.recovery!.lastTry();
  if (clustered) yield* stopOrphanScan(osb);
  if (osb.journal.aborted === null) {
    while (osb.background_ops > 0) yield* wait<void>((cb) => osb.background_idle.add(() => osb.ready(() => cb(null))));
    yield* wait(osb.data.flushAll());
    try {
      yield* returnAll(osb);
    } catch (err) {
      // The bitmap may change with a journal that we cannot replay: what is ours stays in our slot.
      if (!osb.glue.recovery_given_up) throw err;
      // What else waited for it ends as well, and lets go of its locks.
      yield* osb.recovery!.settle();
      yield* wipesIdle(osb);
    }
    // From here on the others see to who dies.
    osb.recovery!.stop();
    yield* osb.journal.shutdown();
    osb.unshared.clear();
    if (clustered) yield* leaveVolume(osb);
    else yield* leaveSlot(osb);
    yield* deviceFlush(osb.dev);
  }
  // After an abort nothing is true any more, and others must see us dead: only the end of the node tells them.
  if (clustered && osb.journal.aborted === null) {
    yield* osb.glue.dropAll();
    yield* wait<void>((cb) => osb.glue.domain.leave(() => cb(null)));
  }
  osb.dev.close();
}
