/** What the kernel's knowledge of an inode means for its life: opened, closed, forgotten. */
import { closeInode, openInode, reap } from "../vfs/namespace.ts";
import type { Inode } from "../volume/inode.ts";
import type { Osb } from "../volume/osb.ts";

export interface FileOps {
  open(osb: Osb, inode: Inode, writes: boolean): void;
  release(osb: Osb, inode: Inode, writes: boolean): void;
  /** The kernel has forgotten `n` lookups of an inode; an orphan that nobody knows any more is wiped. */
  forget(osb: Osb, ino: number, n: number): void;
}

export const fileOps: FileOps = {
  open(_osb, inode, writes) {
    openInode(inode, writes);
  },
  release: closeInode,
  forget(osb, ino, n) {
    const inode = osb.inodes.peek(ino);
    if (inode === undefined) return;
    inode.nlookup = Math.max(0, inode.nlookup - n);
    reap(osb, inode);
  },
};
