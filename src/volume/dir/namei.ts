/**
 * Names and inodes together: look up, create, link, unlink, rmdir, tmpfile (namei.c). Each function is one operation's
 * work: it happens whole or not at all. rename.ts has renaming, wipe.ts what follows an unlink.
 *
 * Lock order, the kernel's: directory, then child, then orphan directory, then the allocators. Where two directories are
 * locked, rename.ts says in which order.
 *
 * Checks of permission bits and the sticky bit are not here: the kernel makes them before FUSE asks (default_permissions),
 * and the library acts as root. Checks of what an inode *is* are here, and so are immutable and append-only.
 */
import { isDir, isLnk, modeToFileType, OCFS2_FT_DIR, S_IFDIR, S_IFLNK, S_IFMT } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { einval, FsError } from "../../lib/fs_error.ts";
import { type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import { addLinks, checkLinkRoom, checkMayChange, linksOf, setLinks, stamp } from "./attr.ts";
import { addEntry, type Dir, deleteEntry, type Entry, fillNewDir, findEntry, isEmptyDir, openDir } from "./dir.ts";
import { type Cred, checkAlive, type Locked, lockDir, lockInode, newInode } from "./iget.ts";
import { inode_hooks } from "./inode_hooks.ts";
import { checkNameLength, checkNewName, isDots, type Name, nameText } from "./name.ts";
import { orphanAdd, orphanDelete } from "./orphan.ts";
import { igetNamed } from "./seen.ts";
import { writeSymlink } from "./symlink.ts";

/** FsError about a name in a directory. */
export const nameError = (errno: number, where: string, dir: Inode, name: Name): FsError =>
  new FsError(errno, `namei.${where}`, { dir: dir.ino, name: nameText(name) });

/** The inode that `name` leads to, locked at PR, or at EX; undefined when there is none (ocfs2_lookup). ENAMETOOLONG, ENOTDIR. */
export function lookup(op: Op, dir: Inode, name: Name, ex = false): Locked | undefined {
  checkNameLength(name);
  const d = lockDir(op, dir);
  const entry = findEntry(openDir(op, dir, d.di_bh), name);
  if (entry === undefined) return undefined;
  return entry.ino === dir.ino ? d : igetNamed(op, dir, name, entry.ino, ex);
}

/** What a new name is to lead to. */
export interface NewNode {
  /** Type and permission bits, before the umask. */
  readonly mode: number;
  readonly rdev?: number;
  /** A symlink's target. */
  readonly target?: Name;
}

/** The directory that gets a name, locked at EX and checked: alive, not immutable, the name not taken. */
function prepareParent(op: Op, dir: Inode, name: Name): Locked {
  checkNewName(name);
  const d = lockDir(op, dir, true);
  if (findEntry(openDir(op, dir, d.di_bh), name) !== undefined) throw nameError(Errno.EEXIST, "create", dir, name);
  checkAlive(d);
  checkMayChange(d.di, false);
  return d;
}

/** A new inode with its body and its permissions, not yet named anywhere. */
function makeNode(op: Op, d: Locked, node: NewNode, cred: Cred, nlink: number): Locked {
  const child = newInode(op, d, cred, { mode: node.mode, rdev: node.rdev ?? 0, nlink });
  if (isDir(node.mode)) fillNewDir(op, child.inode, child.di_bh, d.inode.ino);
  if (isLnk(node.mode)) {
    writeSymlink(op, child, node.target ?? new Uint8Array(0));
    return child;
  }
  const { i_mode } = child.di;
  const with_acl = inode_hooks.inheritAcl(op, d.inode, d.di_bh, child.inode, child.di_bh, i_mode);
  child.di.i_mode = with_acl ?? i_mode & ~(cred.umask & 0o777);
  return child;
}

const MAKEABLE = new Set([0o140000, 0o120000, 0o100000, 0o060000, 0o040000, 0o020000, 0o010000]);

/**
 * Makes an inode and gives it its first name (ocfs2_mknod, ocfs2_symlink). Returns it locked at EX. EEXIST, ENOSPC, EMLINK (too
 * many subdirectories), ENOENT (the directory was removed), EPERM (immutable), ENAMETOOLONG, EINVAL.
 */
export function createNode(op: Op, dir: Inode, name: Name, node: NewNode, cred: Cred): Locked {
  if (!MAKEABLE.has(node.mode & S_IFMT)) throw einval("namei.create", { mode: node.mode });
  const d = prepareParent(op, dir, name);
  const makes_dir = isDir(node.mode);
  if (makes_dir) checkLinkRoom(op.osb, d.di);
  const child = makeNode(op, d, node, cred, makes_dir ? 2 : 1);
  addEntry(openDir(op, dir, d.di_bh), name, child.inode.ino, modeToFileType(node.mode));
  if (makes_dir) addLinks(d.di, 1);
  return child;
}

export const mkdir = (op: Op, dir: Inode, name: Name, mode: number, cred: Cred): Locked =>
  createNode(op, dir, name, { mode: (mode & ~S_IFMT) | S_IFDIR }, cred);

/** EINVAL for an empty target, ENAMETOOLONG for one beyond PATH_MAX. */
export const symlink = (op: Op, dir: Inode, name: Name, target: Name, cred: Cred): Locked =>
  createNode(op, dir, name, { mode: S_IFLNK | 0o777, target }, cred);

/** Inodes made without a name that may still be given one. */
const linkable = new WeakSet<Inode>();

/**
 * An inode without a name, in the orphan directory from the start (O_TMPFILE; ocfs2_create_inode_in_orphan). `dir` gives it its
 * group. It goes when its last user closes it, unless `link` names it; with `exclusive` it never can be named.
 */
export function tmpfile(op: Op, dir: Inode, mode: number, cred: Cred, exclusive = false): Locked {
  const d = lockDir(op, dir, true);
  checkAlive(d);
  checkMayChange(d.di, false);
  const child = makeNode(op, d, { mode }, cred, 0);
  orphanAdd(op, child);
  if (!exclusive) op.onSuccess(() => linkable.add(child.inode));
  return child;
}

/**
 * One more name for an inode (ocfs2_link; for a tmpfile ocfs2_mv_orphaned_inode_to_new). EPERM (a directory, immutable or
 * append-only), EMLINK, EEXIST, ENOENT (its last name is gone), ENOSPC.
 */
export function link(op: Op, inode: Inode, dir: Inode, name: Name): Locked {
  const d = prepareParent(op, dir, name);
  if (inode === dir) throw nameError(Errno.EPERM, "link", dir, name);
  const child = lockInode(op, inode, true);
  const { di } = child;
  if (isDir(di.i_mode)) throw nameError(Errno.EPERM, "link", dir, name);
  checkMayChange(di, true);
  // Found through two directories.
  if (inode.cover !== dir) op.osb.unshared.share(inode);
  if (linksOf(di) === 0) {
    if (!linkable.has(inode)) throw nameError(Errno.ENOENT, "link", dir, name);
    orphanDelete(op, child);
    op.onSuccess(() => {
      inode.orphaned = false;
      linkable.delete(inode);
    });
  } else checkLinkRoom(op.osb, di);
  op.modify(child.di_bh);
  inodeChanged(op, inode);
  addLinks(di, 1);
  stamp(op, di, false);
  addEntry(openDir(op, dir, d.di_bh), name, inode.ino, modeToFileType(di.i_mode));
  return child;
}

/** A name that is about to go, with what it leads to: both locked at EX. */
interface Victim {
  readonly dir: Dir;
  readonly entry: Entry;
  readonly child: Locked;
}

function findVictim(op: Op, d: Locked, name: Name): Victim {
  const dir = openDir(op, d.inode, d.di_bh);
  const entry = findEntry(dir, name);
  if (entry === undefined) throw nameError(Errno.ENOENT, "unlink", d.inode, name);
  // Append-only directories take names but never give one up.
  checkMayChange(d.di, true);
  const child = igetNamed(op, d.inode, name, entry.ino, true);
  checkMayChange(child.di, true);
  return { dir, entry, child };
}

/** An inode that lost a name: its count and ctime, and the orphan directory when that was the last (ocfs2_unlink). */
export function dropLink(op: Op, child: Locked): void {
  const { di } = child;
  op.modify(child.di_bh);
  inodeChanged(op, child.inode);
  const left = isDir(di.i_mode) ? 0 : Math.max(0, linksOf(di) - 1);
  setLinks(di, left);
  stamp(op, di, false);
  if (left === 0) orphanAdd(op, child);
}

/** Throws ENOTEMPTY for a directory with names in it (ocfs2_unlink on a directory). */
export function checkEmpty(op: Op, child: Locked): void {
  if (linksOf(child.di) !== 2 || !isEmptyDir(openDir(op, child.inode, child.di_bh)))
    throw new FsError(Errno.ENOTEMPTY, "namei.rmdir", { ino: child.inode.ino });
}

function remove(op: Op, d: Locked, victim: Victim): Inode {
  const { child, dir, entry } = victim;
  inode_hooks.remoteDentryDelete(op, d.inode, child.inode);
  deleteEntry(dir, entry);
  op.modify(d.di_bh);
  inodeChanged(op, d.inode);
  stamp(op, d.di, true);
  if (isDir(child.di.i_mode)) addLinks(d.di, -1);
  dropLink(op, child);
  return child.inode;
}

/**
 * Takes a name away from something that is no directory (ocfs2_unlink). Returns the inode: `orphaned` on it says that this was its
 * last name. ENOENT, EISDIR, EPERM (immutable, append-only).
 */
export function unlink(op: Op, dir: Inode, name: Name): Inode {
  checkNameLength(name);
  if (isDots(name)) throw nameError(Errno.EISDIR, "unlink", dir, name);
  const d = lockDir(op, dir, true);
  const victim = findVictim(op, d, name);
  if (isDir(victim.child.di.i_mode)) throw nameError(Errno.EISDIR, "unlink", dir, name);
  return remove(op, d, victim);
}

/** Removes an empty directory (ocfs2_unlink). ENOENT, ENOTDIR, ENOTEMPTY, EBUSY (the root), EINVAL ("."), EPERM. */
export function rmdir(op: Op, dir: Inode, name: Name): Inode {
  checkNameLength(name);
  if (isDots(name)) throw nameError(name.length === 1 ? Errno.EINVAL : Errno.ENOTEMPTY, "rmdir", dir, name);
  const d = lockDir(op, dir, true);
  const entry = findEntry(openDir(op, dir, d.di_bh), name);
  if (entry !== undefined && entry.file_type !== OCFS2_FT_DIR) throw nameError(Errno.ENOTDIR, "rmdir", dir, name);
  const victim = findVictim(op, d, name);
  if (!isDir(victim.child.di.i_mode)) throw nameError(Errno.ENOTDIR, "rmdir", dir, name);
  if (victim.child.inode.ino === op.osb.geo.root_blkno) throw nameError(Errno.EBUSY, "rmdir", dir, name);
  checkEmpty(op, victim.child);
  return remove(op, d, victim);
}
