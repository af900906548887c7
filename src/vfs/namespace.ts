/**
 * Operations on names, by inode number, for FUSE and the library: thin over volume/dir. Each runs inside one operation
 * and answers attributes, so that a reply needs nothing more.
 *
 * What an unlink leaves without a name is wiped when nobody uses it: at once when nobody does, otherwise when the last user
 * calls `reap`.
 */
import { S_IFDIR, S_IFMT, S_IFREG } from "../format/disk/index.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn } from "../lib/task.ts";
import { giveBackReservation } from "../volume/alloc/suballoc.ts";
import type { Attr } from "../volume/dir/attr.ts";
import * as attr from "../volume/dir/attr.ts";
import type { Cred, Locked } from "../volume/dir/iget.ts";
import { lockInode } from "../volume/dir/iget.ts";
import type { Name } from "../volume/dir/name.ts";
import * as namei from "../volume/dir/namei.ts";
import * as reading from "../volume/dir/readdir.ts";
import * as renaming from "../volume/dir/rename.ts";
import * as links from "../volume/dir/symlink.ts";
import { lookLater, wipeInode } from "../volume/dir/wipe.ts";
import type { Inode } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import type { Osb } from "../volume/osb.ts";

export type { Attr } from "../volume/dir/attr.ts";
export type { Cred } from "../volume/dir/iget.ts";
export { type Name, nameOf } from "../volume/dir/name.ts";
export type { Emit } from "../volume/dir/readdir.ts";
export { RENAME_EXCHANGE, RENAME_NOREPLACE } from "../volume/dir/rename.ts";

const inodeOf = (op: Op, ino: number): Inode => op.osb.inodes.get(ino);
const attrOf = (op: Op, locked: Locked): Attr => attr.attrOf(op.osb, locked.di);

/** What `name` in the directory leads to, locked at PR, or at EX; undefined: nothing. ENOTDIR, ENAMETOOLONG, ESTALE. */
export function lookup(op: Op, parent: number, name: Name, ex = false): Attr | undefined {
  const found = namei.lookup(op, inodeOf(op, parent), name, ex);
  return found && attrOf(op, found);
}

/** ESTALE when the inode is no more. */
export const getattr = (op: Op, ino: number): Attr => attr.getattr(op, inodeOf(op, ino));

/** A new file of any type but directory and symlink; `mode` with its type, a regular file without one. */
export function mknod(op: Op, parent: number, name: Name, mode: number, rdev: number, cred: Cred): Attr {
  const typed = (mode & S_IFMT) === 0 ? mode | S_IFREG : mode;
  return attrOf(op, namei.createNode(op, inodeOf(op, parent), name, { mode: typed, rdev }, cred));
}

/** A new regular file. EEXIST when the name is taken. */
export function create(op: Op, parent: number, name: Name, mode: number, cred: Cred): Attr {
  return mknod(op, parent, name, (mode & ~S_IFMT) | S_IFREG, 0, cred);
}

export function mkdir(op: Op, parent: number, name: Name, mode: number, cred: Cred): Attr {
  return attrOf(op, namei.createNode(op, inodeOf(op, parent), name, { mode: (mode & ~S_IFMT) | S_IFDIR }, cred));
}

export function symlink(op: Op, parent: number, name: Name, target: Name, cred: Cred): Attr {
  return attrOf(op, namei.symlink(op, inodeOf(op, parent), name, target, cred));
}

export const readlink = (op: Op, ino: number): Name => links.readlink(op, inodeOf(op, ino));

/** A regular file without a name; `exclusive`: that never gets one (O_TMPFILE with O_EXCL). */
export function tmpfile(op: Op, parent: number, mode: number, cred: Cred, exclusive = false): Attr {
  const typed = (mode & ~S_IFMT) | S_IFREG;
  return attrOf(op, namei.tmpfile(op, inodeOf(op, parent), typed, cred, exclusive));
}

export function link(op: Op, ino: number, parent: number, name: Name): Attr {
  return attrOf(op, namei.link(op, inodeOf(op, ino), inodeOf(op, parent), name));
}

/** Takes the name away; returns what it led to, with the links that are left. */
export function unlink(op: Op, parent: number, name: Name): Attr {
  const inode = namei.unlink(op, inodeOf(op, parent), name);
  op.onSuccess(() => reap(op.osb, inode));
  return attrOf(op, lockInode(op, inode, true));
}

export function rmdir(op: Op, parent: number, name: Name): Attr {
  const inode = namei.rmdir(op, inodeOf(op, parent), name);
  op.onSuccess(() => reap(op.osb, inode));
  return attrOf(op, lockInode(op, inode, true));
}

/** Renames; `flags` as for renameat2(2). Returns what was renamed and what was replaced. */
export function rename(
  op: Op,
  old_parent: number,
  old_name: Name,
  new_parent: number,
  new_name: Name,
  flags = 0,
): { moved: Inode; replaced: Inode | undefined } | undefined {
  const done = renaming.rename(op, inodeOf(op, old_parent), old_name, inodeOf(op, new_parent), new_name, flags);
  const replaced = done?.replaced;
  if (replaced !== undefined) op.onSuccess(() => reap(op.osb, replaced));
  return done;
}

/** Emits entries from position `offset` on; returns the position to go on from (readdir.ts). */
export function readdir(op: Op, ino: number, offset: number, emit: reading.Emit): number {
  return reading.readdir(op, inodeOf(op, ino), offset, emit);
}

/** A program has it open, to write where `writes`: until closeInode. */
export function openInode(inode: Inode, writes: boolean): void {
  inode.open_count++;
  if (writes) inode.writer_count++;
}

/** ocfs2_file_release */
export function closeInode(osb: Osb, inode: Inode, writes: boolean): void {
  inode.open_count--;
  if (writes && --inode.writer_count === 0) giveBackReservation(inode);
  reap(osb, inode);
}

/**
 * Deletes an orphan that nobody uses any more, in the background. To be called when a use of an inode ends. Also lets other nodes
 * delete it, and looks whether one has left that to us (ocfs2_drop_inode).
 */
export function reap(osb: Osb, inode: Inode): void {
  if (inode.inUse) return;
  if (osb.glue.domain.clustered && !inode.is_system) {
    // While the meta lock is here nobody can have taken its last name, and who does so later takes the open lock with it.
    if (inode.orphaned || inode.maybe_orphaned) lookLater(osb, inode);
    return;
  }
  if (!inode.orphaned || osb.readonly_reason !== null || osb.closing) return;
  osb.ready(() =>
    spawn(wipeInode(osb, inode), (err) => {
      if (err) mlog(ML.ERROR, `deleting inode ${inode.ino}:`, err instanceof Error ? err.message : String(err));
    }),
  );
}
