/**
 * Opening and closing a volume (super.c: ocfs2_fill_super, ocfs2_dismount_volume; journal.c: ocfs2_check_volume,
 * ocfs2_journal_load, ocfs2_journal_shutdown). The order at mount matters: no block may be cached before every dirty
 * journal was replayed, and no slot's remains are cleaned up before its journal was.
 */
import { BufferCache } from "../block/buffer_cache.ts";
import { DataCache } from "../block/data_cache.ts";
import { type BlockDevice, deviceFlush, deviceRead } from "../block/device.ts";
import { DlmGlue } from "../dlmglue/dlmglue.ts";
import {
  Dinode,
  FEATURE_INCOMPAT,
  FEATURE_RO_COMPAT,
  I_FLAGS,
  JOURNAL_FLAGS,
  OCFS2_SUPER_BLOCK_BLKNO,
  OCFS2_SUPER_BLOCK_SIGNATURE,
  type SuperBlock,
  SYSTEM_INODE,
} from "../format/disk/index.ts";
import { featureNames, unsupportedFeatures } from "../format/features.ts";
import { Journal } from "../journal/journal.ts";
import { Log, type LogRun } from "../journal/log.ts";
import { replay } from "../journal/replay.ts";
import type { Arena } from "../lib/arena.ts";
import type { Clock, Random } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { Corruption, FsError } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn, type Task, wait } from "../lib/task.ts";
import { LocalDomain } from "../stackglue/local.ts";
import type { LockDomain } from "../stackglue/lock_domain.ts";
import type { Kernels } from "../wasm/kernels.ts";
import { allocRecoverSlot, allocStart, allocStop } from "./alloc/suballoc.ts";
import { recoverOrphans, wipesIdle } from "./dir/wipe.ts";
import { getBlocks } from "./extents/extent_map.ts";
import { dinodeOf, readDinode } from "./inode.ts";
import { InodeCache } from "./inode_cache.ts";
import { glueOps } from "./inode_locks.ts";
import { makeKinds } from "./kinds.ts";
import type { MountOptions } from "./mount_options.ts";
import "./parts.ts";
import { type Geometry, Osb } from "./osb.ts";
import { findSlot, slotNode, writeSlot } from "./slot_map.ts";
import { loadSystemInodes } from "./sysfile.ts";
import { writeBlockInPlace } from "./write_in_place.ts";

export interface OpenParts {
  readonly arena: Arena;
  readonly kernels: Kernels;
  readonly dev: BlockDevice;
  readonly clock: Clock;
  readonly random: Random;
  readonly options: MountOptions;
  /** The local domain when not given. */
  readonly domain?: LockDomain;
  /** Steps of the mount, for whoever shows progress. */
  readonly onProgress?: (what: string) => void;
  /** Hears of the Osb as soon as it exists, for a thread that runs its turns itself. */
  readonly onOsb?: (osb: Osb) => void;
}

const UNDO_BLOCKS = 1024;

/** Reads and checks the superblock, whatever the block size (ocfs2_sb_probe). Leaves the geometry. */
function* readSuperblock(arena: Arena, dev: BlockDevice): Task<Geometry> {
  const addr = arena.alloc(4096, 4096);
  for (let bits = 9; bits <= 12; bits++) {
    const bytes = 1 << bits;
    if (bytes < dev.alignment_bytes || dev.size_bytes < (OCFS2_SUPER_BLOCK_BLKNO + 1) * bytes) continue;
    yield* deviceRead(dev, addr, bytes, OCFS2_SUPER_BLOCK_BLKNO * bytes);
    const di = Dinode.at(arena.dv, addr);
    if (di.i_signature !== OCFS2_SUPER_BLOCK_SIGNATURE) continue;
    const sb = di.i_super;
    if (sb.s_blocksize_bits !== bits) continue;
    return checkSuperblock(di, sb, dev);
  }
  throw new FsError(Errno.EINVAL, "superblock", { device: dev.name, found: "no OCFS2 volume" });
}

function checkSuperblock(di: Dinode, sb: SuperBlock, dev: BlockDevice): Geometry {
  const bad = (found: string): never => {
    throw new Corruption("superblock", { blkno: di.i_blkno, found });
  };
  if (di.i_blkno !== OCFS2_SUPER_BLOCK_BLKNO) bad(`claims to be block ${di.i_blkno}`);
  const cbits = sb.s_clustersize_bits;
  if (cbits < 12 || cbits > 20) bad(`cluster size bits ${cbits}`);
  if (sb.s_max_slots === 0 || sb.s_max_slots > 255) bad(`${sb.s_max_slots} slots`);
  if (sb.s_root_blkno === 0 || sb.s_system_dir_blkno === 0) bad("no root or system directory");
  if (sb.s_first_cluster_group === 0) bad("no first cluster group");
  const volume_bytes = di.i_clusters * 2 ** cbits;
  if (volume_bytes > dev.size_bytes) bad(`${volume_bytes} bytes on a device of ${dev.size_bytes}`);
  const bbits = sb.s_blocksize_bits;
  return {
    blocksize: 1 << bbits,
    blocksize_bits: bbits,
    clustersize: 1 << cbits,
    clustersize_bits: cbits,
    c_to_b_bits: cbits - bbits,
    blocks_per_cluster: 1 << (cbits - bbits),
    clusters: di.i_clusters,
    max_slots: sb.s_max_slots,
    root_blkno: sb.s_root_blkno,
    system_dir_blkno: sb.s_system_dir_blkno,
    first_cluster_group_blkno: sb.s_first_cluster_group,
    fs_generation: di.i_fs_generation,
    feature_compat: sb.s_feature_compat,
    feature_incompat: sb.s_feature_incompat,
    feature_ro_compat: sb.s_feature_ro_compat,
    uuid: sb.s_uuid.slice(),
    uuid_hash: sb.s_uuid_hash,
    label: sb.s_label,
    dx_seed: [sb.s_dx_seed.get(0), sb.s_dx_seed.get(1), sb.s_dx_seed.get(2)],
    xattr_inline_size: sb.s_xattr_inline_size,
    volume_bytes,
  };
}

/** Refuses what this code does not know, and says why a volume is read-only (ocfs2_check_feature in super.c). */
function gateFeatures(geo: Geometry, options: MountOptions): string | null {
  const words = {
    s_feature_compat: geo.feature_compat,
    s_feature_incompat: geo.feature_incompat,
    s_feature_ro_compat: geo.feature_ro_compat,
  };
  let reason = options.ro ? "mounted read-only" : null;
  for (const u of unsupportedFeatures(words)) {
    if (u.class === "incompat")
      throw new FsError(Errno.EINVAL, "superblock.features", { unsupported: u.names.join(" ") });
    if (u.class === "ro_compat") reason ??= `unsupported feature ${u.names.join(" ")}`;
  }
  const quota = geo.feature_ro_compat & (FEATURE_RO_COMPAT.USRQUOTA | FEATURE_RO_COMPAT.GRPQUOTA);
  const local = (geo.feature_incompat & FEATURE_INCOMPAT.LOCAL_MOUNT) !== 0;
  if (!local && !options.nocluster)
    throw new FsError(Errno.EINVAL, "mount", {
      found: "a clustered volume; mount it with -o nocluster if no other node uses it",
    });
  if (quota !== 0) reason ??= `feature ${featureNames("ro_compat", quota).join(" ")} is supported read-only`;
  return reason;
}

/** The runs of a journal file on the disk. */
function* journalRuns(osb: Osb, slot: number): Task<LogRun[]> {
  return yield* wait(
    osb.step((op) => {
      const inode = osb.sysfile(SYSTEM_INODE.JOURNAL, slot);
      const di = dinodeOf(op, readDinode(op, inode));
      const blocks = osb.blocksForBytes(di.i_size);
      const runs: LogRun[] = [];
      for (let v = 0; v < blocks; ) {
        const { p_blkno, blocks: n } = getBlocks(op, inode, v);
        if (p_blkno === 0) throw new Corruption("journal", { slot, hole_at: v });
        const len = Math.min(n, blocks - v);
        runs.push({ v_blkno: v, blkno: p_blkno, blocks: len });
        v += len;
      }
      return runs;
    }),
  );
}

function* openLog(osb: Osb, slot: number): Task<Log> {
  const log = new Log(osb.arena, osb.k, osb.dev, osb.geo.blocksize, yield* journalRuns(osb, slot));
  yield* log.load();
  return log;
}

/** Sets or clears the journal inode's dirty flag, durably (ocfs2_journal_toggle_dirty). */
function* journalToggleDirty(osb: Osb, slot: number, dirty: boolean, replayed: boolean): Task<void> {
  const bh = yield* wait(
    osb.step((op) => {
      const bh = readDinode(op, osb.sysfile(SYSTEM_INODE.JOURNAL, slot));
      const di = dinodeOf(op, bh);
      di.ij_flags = dirty ? di.ij_flags | JOURNAL_FLAGS.DIRTY : di.ij_flags & ~JOURNAL_FLAGS.DIRTY;
      if (replayed) di.ij_recovery_generation = (di.ij_recovery_generation + 1) >>> 0;
      return bh;
    }),
  );
  yield* writeBlockInPlace(osb, bh);
}

function* isJournalDirty(osb: Osb, slot: number): Task<boolean> {
  return yield* wait(
    osb.step((op) => {
      const di = dinodeOf(op, readDinode(op, osb.sysfile(SYSTEM_INODE.JOURNAL, slot)));
      if ((di.i_flags & I_FLAGS.JOURNAL) === 0) throw new Corruption("journal", { slot, found: "not a journal inode" });
      return (di.ij_flags & JOURNAL_FLAGS.DIRTY) !== 0;
    }),
  );
}

/** Replays a slot's journal; the caches are emptied afterwards by the caller. */
function* replaySlot(osb: Osb, slot: number): Task<void> {
  const log = yield* openLog(osb, slot);
  const result = yield* replay(osb.arena, osb.dev, log, osb.clustersToBlocks(osb.geo.clusters));
  if (log.superblock.s_start !== 0) yield* log.writeTail(0, result.next_sequence);
  yield* deviceFlush(osb.dev);
}

/** Opens a volume: checks it, replays dirty journals, takes a slot, starts the journal. Throws FsError or Corruption. */
export function* openVolume(parts: OpenParts): Task<Osb> {
  const { arena, kernels, dev, clock, random, options } = parts;
  const progress = parts.onProgress ?? (() => {});
  const geo = yield* readSuperblock(arena, dev);
  const osb = new Osb(arena, kernels, dev, clock, random, options);
  osb.geo = geo;
  parts.onOsb?.(osb);
  osb.readonly_reason = dev.readonly ? "the device is read-only" : null;
  const ro = gateFeatures(geo, options);
  if (geo.blocksize < dev.alignment_bytes)
    throw new FsError(Errno.EINVAL, "mount", { blocksize: geo.blocksize, device_alignment: dev.alignment_bytes });
  osb.cache = new BufferCache(arena, dev, geo.blocksize, options.cache_bytes);
  osb.data = new DataCache(arena, dev, options.data_cache_bytes);
  osb.kinds = makeKinds(osb);
  osb.inodes = new InodeCache(osb);
  osb.undo_slots = UNDO_BLOCKS;
  osb.undo_base = arena.alloc(UNDO_BLOCKS * geo.blocksize, 4096);
  osb.glue = new DlmGlue(
    parts.domain ?? new LocalDomain(),
    glueOps(() => osb),
    (err) => osb.journal.abort(err),
  );
  yield* wait(osb.step((op) => loadSystemInodes(op, osb)));

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
    osb.cache.forget(0, Number.MAX_SAFE_INTEGER);
    for (const inode of osb.inodes.values()) inode.dropCaches();
  }
  if (ro !== null || dev.readonly) {
    for (const slot of dirty) yield* journalToggleDirty(osb, slot, false, true);
    osb.readonly_reason = ro ?? osb.readonly_reason;
    return osb;
  }

  // A local mount is node 0; it takes the slot that it had when it died.
  osb.slot_num = yield* wait(osb.step((op) => findSlot(op, 0, options.preferred_slot)));
  yield* writeSlot(osb, osb.slot_num, 0);
  yield* startJournal(osb, dirty.includes(osb.slot_num));
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
  return osb;
}

function* startJournal(osb: Osb, replayed: boolean): Task<void> {
  const log = yield* openLog(osb, osb.slot_num);
  if (log.superblock.s_start !== 0)
    // Not marked dirty, yet the log claims to hold something: the kernel wipes such a log too (jbd2_journal_wipe).
    yield* log.writeTail(0, log.superblock.s_sequence);
  osb.journal = new Journal(
    {
      arena: osb.arena,
      kernels: osb.k,
      dev: osb.dev,
      cache: osb.cache,
      data: osb.data,
      log,
      clock: osb.clock,
      metaecc: osb.incompat(FEATURE_INCOMPAT.META_ECC),
      barrier: osb.options.barrier,
      ordered: osb.options.data === "ordered",
      operationRuns: osb.operationRuns,
      defer: (cb) => osb.ready(cb),
      onAbort: (err) => {
        osb.readonly_reason ??= `the journal was aborted: ${err instanceof Error ? err.message : String(err)}`;
      },
    },
    log.superblock.s_sequence,
  );
  osb.cache.onPressure = () => {
    if (osb.journal.runningBlocks > osb.cache.slots >> 3) osb.journal.startCommit();
    osb.journal.startCheckpoint();
  };
  yield* journalToggleDirty(osb, osb.slot_num, true, replayed);
  osb.onCorruption = (err) => {
    mlog(ML.ERROR, err.message);
    if (osb.options.errors === "remount-ro") osb.readonly_reason ??= `errors=remount-ro after: ${err.message}`;
    else if (osb.options.errors === "panic") osb.journal.abort(err);
  };
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

/** Everything dirty is durable: data, metadata (sync(2), ocfs2_sync_fs). */
export function* syncVolume(osb: Osb): Task<void> {
  if (osb.readonly_reason !== null || osb.slot_num < 0) return;
  if (osb.data.dirty_pages > 0 || osb.data.pages_in_flight > 0) yield* wait(osb.data.flushAll());
  yield* wait(osb.journal.periodic);
  yield* deviceFlush(osb.dev);
}

/** Closes a volume: all written, journal clean, slot free. After an abort it leaves the journal dirty for the next mount. */
export function* closeVolume(osb: Osb): Task<void> {
  osb.closing = true;
  osb.cancelTimer?.();
  if (osb.slot_num < 0) {
    osb.dev.close();
    return;
  }
  if (osb.journal.aborted === null) {
    yield* wait(osb.data.flushAll());
    if (osb.readonly_reason === null) {
      yield* wipesIdle(osb);
      yield* allocStop(osb);
    }
    yield* osb.journal.shutdown();
    yield* journalToggleDirty(osb, osb.slot_num, false, false);
    yield* writeSlot(osb, osb.slot_num, undefined);
    yield* deviceFlush(osb.dev);
  }
  osb.dev.close();
}
