/**
 * A slot's journal at mount: where its log lies, its replay, and the start of our own (journal.c: ocfs2_journal_init,
 * ocfs2_journal_load, ocfs2_replay_journal).
 */
import { deviceFlush } from "../block/device.ts";
import { FEATURE_INCOMPAT, SYSTEM_INODE } from "../format/disk/index.ts";
import { Journal } from "../journal/journal.ts";
import { LOG_BYTES, Log, type LogRun } from "../journal/log.ts";
import { logForReplay, replay } from "../journal/replay.ts";
import { Corruption } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { getBlocks } from "./extents/extent_map.ts";
import { dinodeOf, readDinode } from "./inode.ts";
import type { Osb } from "./osb.ts";

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

function* openLog(osb: Osb, slot: number, addr: number): Task<Log> {
  const log = new Log(osb.arena, osb.k, osb.dev, osb.geo.blocksize, yield* journalRuns(osb, slot), addr);
  yield* log.load();
  return log;
}

/** Whether a slot's log, as the disk has it now, holds nothing to replay. */
export function* isLogEmpty(osb: Osb, slot: number): Task<boolean> {
  const log = yield* openLog(osb, slot, logForReplay(osb.arena, osb.dev));
  return log.superblock.s_start === 0;
}

/** Replays a slot's journal; what is cached of it is the caller's business. */
export function* replaySlot(osb: Osb, slot: number): Task<void> {
  const log = yield* openLog(osb, slot, logForReplay(osb.arena, osb.dev));
  // It may go behind the end of the device as we know it: its owner may have made the volume larger.
  osb.dev.measure?.();
  const result = yield* replay(osb.arena, osb.dev, log);
  if (log.superblock.s_start !== 0) yield* log.writeTail(0, result.next_sequence, osb.options.barrier);
  yield* deviceFlush(osb.dev);
}

/** Starts the journal of our slot, and marks it dirty by `markDirty`. */
export function* startJournal(osb: Osb, markDirty: () => Task<void>): Task<void> {
  const log = yield* openLog(osb, osb.slot_num, osb.arena.alloc(LOG_BYTES, LOG_BYTES));
  if (log.superblock.s_start !== 0) {
    // Not marked dirty, yet the log claims to hold something: the kernel wipes such a log too (jbd2_journal_wipe). What it holds would go on
    // from the first of our transactions with a number of theirs; there are fewer than blocks.
    const sequence = (log.superblock.s_sequence + log.maxlen) >>> 0;
    yield* log.writeTail(0, sequence, osb.options.barrier);
  }
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
      op_blocks: osb.undo_slots,
      operationRuns: osb.operationRuns,
      keep_tail: osb.sabotage.has("log_first"),
      defer: (cb) => osb.ready(cb),
      onAbort: (err) => {
        osb.readonly_reason ??= `the journal was aborted: ${err instanceof Error ? err.message : String(err)}`;
        // Beside other nodes: what we hold locks on is no more what we say, and only the end of this node gives it to them (ocfs2_abort).
        if (osb.options.errors === "panic" || osb.glue.domain.clustered) osb.onPanic(err);
      },
    },
    log.superblock.s_sequence,
  );
  osb.cache.onPressure = () => {
    if (osb.journal.runningBlocks > osb.cache.slots >> 3) osb.journal.startCommit();
    osb.journal.startCheckpoint();
  };
  yield* markDirty();
  osb.onCorruption = (err) => {
    mlog(ML.ERROR, err.message);
    if (osb.options.errors === "remount-ro") osb.readonly_reason ??= `errors=remount-ro after: ${err.message}`;
    else if (osb.options.errors === "panic") osb.journal.abort(err);
  };
}
