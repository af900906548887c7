/** What the kernel's knowledge of an inode means for its life: opened, closed, forgotten. */
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn } from "../lib/task.ts";
import { wipeInode } from "../volume/dir/wipe.ts";
import type { Inode } from "../volume/inode.ts";
import type { Osb } from "../volume/osb.ts";

export interface FileOps {
  open(osb: Osb, inode: Inode, writes: boolean): void;
  release(osb: Osb, inode: Inode, writes: boolean): void;
  /** The kernel has forgotten `n` lookups of an inode; an orphan that nobody knows any more is wiped. */
  forget(osb: Osb, ino: number, n: number): void;
}

function wipeIfUnused(osb: Osb, inode: Inode): void {
  if (!inode.orphaned || inode.nlookup > 0 || inode.open_count > 0 || osb.readonly_reason !== null) return;
  spawn(wipeInode(osb, inode), (err) => {
    if (!err) return;
    // What cannot be wiped now stays in the orphan directory for the next mount.
    const quiet = err instanceof FsError && err.errno === Errno.EROFS;
    if (!quiet) mlog(ML.ERROR, `orphan ${inode.ino}:`, err instanceof Error ? err.message : String(err));
  });
}

export const fileOps: FileOps = {
  open(_osb, inode, writes) {
    inode.open_count++;
    if (writes) inode.writer_count++;
  },
  release(osb, inode, writes) {
    inode.open_count--;
    if (writes) inode.writer_count--;
    wipeIfUnused(osb, inode);
  },
  forget(osb, ino, n) {
    const inode = osb.inodes.peek(ino);
    if (inode === undefined) return;
    inode.nlookup = Math.max(0, inode.nlookup - n);
    wipeIfUnused(osb, inode);
  },
};
