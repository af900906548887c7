/**
 * Orphan directories: the names of inodes that have no other name any more but are still open somewhere, or not wiped yet
 * (namei.c: ocfs2_orphan_add, ocfs2_orphan_del). Each slot has one, orphan_dir:NNNN; an entry's name is the inode's
 * block number in 16 hex digits. Without it a crash between unlink and wipe loses the inode's space for good.
 *
 * Entries "dio-<blkno>" are something else: files that a direct write was extending (append-dio). They keep their names
 * elsewhere and only need their size made true.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { I_FLAGS, isDir, modeToFileType, SYSTEM_INODE } from "../../format/disk/index.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { WAIT } from "../../lib/wait.ts";
import { dropAllocatorLocks } from "../alloc/alloc_locks.ts";
import { allocState } from "../alloc/alloc_state.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";
import { addLinks } from "./attr.ts";
import { addEntry, deleteEntry, findEntry, openDir } from "./dir.ts";
import type { Locked } from "./iget.ts";
import { type Name, nameOf } from "./name.ts";

const DIO_PREFIX = "dio-";

/** The name of an inode in the orphan directory (ocfs2_blkno_stringify). */
export const orphanName = (ino: number, dio = false): Name =>
  nameOf((dio ? DIO_PREFIX : "") + ino.toString(16).padStart(16, "0"));

export const isDioOrphan = (name: Name): boolean =>
  name.length > DIO_PREFIX.length && Buffer.from(name.subarray(0, DIO_PREFIX.length)).toString() === DIO_PREFIX;

/** The orphan directory of a slot, locked for change. It comes before the allocators: if it must be waited for, they are given back. */
function lockOrphanDir(op: Op, slot: number): { inode: Inode; bh: Bh } {
  const inode = op.osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, slot);
  try {
    return { inode, bh: inodeLock(op, inode, true) };
  } catch (err) {
    if (err === WAIT) dropAllocatorLocks(op, allocState(op.osb), -1);
    throw err;
  }
}

function addName(op: Op, child: Locked, dio: boolean): void {
  const { inode, bh } = lockOrphanDir(op, op.osb.slot_num);
  addEntry(openDir(op, inode, bh), orphanName(child.inode.ino, dio), child.inode.ino, modeToFileType(child.di.i_mode));
  if (isDir(child.di.i_mode)) addLinks(dinodeOf(op, bh), 1);
  op.modify(child.di_bh);
  inodeChanged(op, child.inode);
}

/**
 * Names an inode, which lost its last name, in our slot's orphan directory (ocfs2_orphan_add). Its meta lock is held at
 * EX; link counts are the caller's. The inode is wiped when nobody uses it any more: wipe.ts.
 */
export function orphanAdd(op: Op, child: Locked): void {
  addName(op, child, false);
  child.di.i_flags |= I_FLAGS.ORPHANED;
  child.di.i_orphaned_slot = op.osb.slot_num;
  op.onSuccess(() => {
    child.inode.orphaned = true;
  });
}

/** Names a file that a direct write is about to extend (ocfs2_add_inode_to_orphan). */
export function dioOrphanAdd(op: Op, child: Locked): void {
  op.osb.unshared.share(child.inode);
  addName(op, child, true);
  child.di.i_flags |= I_FLAGS.DIO_ORPHANED;
  child.di.i_dio_orphaned_slot = op.osb.slot_num;
}

function deleteName(op: Op, slot: number, child: Locked, dio: boolean): void {
  const { inode, bh } = lockOrphanDir(op, slot);
  const dir = openDir(op, inode, bh);
  const entry = findEntry(dir, orphanName(child.inode.ino, dio));
  if (entry === undefined)
    throw new Corruption("orphan.delete", { slot, ino: child.inode.ino, found: "no entry in the orphan directory" });
  deleteEntry(dir, entry);
  op.modify(bh);
  if (isDir(child.di.i_mode)) addLinks(dir.di, -1);
  op.modify(child.di_bh);
  inodeChanged(op, child.inode);
}

/** Whether a slot's orphan directory, whose lock is taken for change, names the inode. */
export function orphanIsNamed(op: Op, slot: number, ino: number): boolean {
  const { inode, bh } = lockOrphanDir(op, slot);
  return findEntry(openDir(op, inode, bh), orphanName(ino)) !== undefined;
}

/** Takes an inode out of the orphan directory that it says it is in (ocfs2_orphan_del). */
export function orphanDelete(op: Op, child: Locked): void {
  deleteName(op, child.di.i_orphaned_slot, child, false);
  child.di.i_flags &= ~I_FLAGS.ORPHANED;
  child.di.i_orphaned_slot = 0;
}

/** The direct write is done: the file is no orphan any more (ocfs2_del_inode_from_orphan). */
export function dioOrphanDelete(op: Op, child: Locked): void {
  deleteName(op, child.di.i_dio_orphaned_slot, child, true);
  child.di.i_flags &= ~I_FLAGS.DIO_ORPHANED;
  child.di.i_dio_orphaned_slot = 0;
}
