/**
 * The end of all uses of a volume, before it is closed: whoever had files open is gone, so inodes without a name are wiped now
 * instead of being left for the next mount.
 */
import type { Clock } from "../lib/clock.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { unusedInode, wipeInode } from "../volume/dir/wipe.ts";
import type { Osb } from "../volume/osb.ts";

/** Forgets every use, wipes orphans, and waits for wipes that are under way. What cannot be wiped is logged and stays an orphan. */
export function* forgetAll(osb: Osb, clock: Clock): Task<void> {
  osb.recovery?.lastTry();
  for (const inode of [...osb.inodes.values()]) {
    inode.nlookup = 0;
    inode.open_count = 0;
    inode.writer_count = 0;
    if (!(inode.orphaned || inode.maybe_orphaned) || osb.readonly_reason !== null || inode.task_count > 0) continue;
    try {
      if (osb.glue.domain.clustered) yield* unusedInode(osb, inode);
      else yield* wipeInode(osb, inode);
    } catch (err) {
      mlog(
        ML.ERROR,
        `orphan ${inode.ino}: ${err instanceof Error ? err.message : String(err)}; the next mount deletes it`,
      );
    }
  }
  const busy = (): boolean => {
    for (const inode of osb.inodes.values()) if (inode.task_count > 0) return true;
    return false;
  };
  while (busy()) yield* wait<void>((cb) => clock.after(1, () => cb(null)));
}
