/**
 * Renaming (namei.c: ocfs2_rename; RENAME_EXCHANGE and RENAME_NOREPLACE, which the kernel's OCFS2 refuses, are ours in
 * its manner).
 *
 * Order of locks: the node's rename mutex and the rename lock of the cluster when a directory changes its parent, both
 * parents (ancestry.ts), what is renamed and what is replaced, the orphan directory.
 *
 * Whether a directory is renamed is known only after a look at the names, and the rename lock comes before the locks that
 * such a look needs. So the names are looked at first, at PR, and the locks given back; if they mean something else once
 * the parents are locked, we start over.
 */
import { isDir, modeToFileType, OCFS2_FT_DIR } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { Corruption, einval, FsError } from "../../lib/fs_error.ts";
import { type Inode, inodeChanged } from "../inode.ts";
import type { Op } from "../op.ts";
import { ancestorsOf, doubleLock, renameLock, renameMutex } from "./ancestry.ts";
import { addLinks, checkLinkRoom, checkMayChange, stamp } from "./attr.ts";
import { addEntry, deleteEntry, type Entry, findEntry, openDir, updateEntry } from "./dir.ts";
import { checkAlive, iget, type Locked, lockDir } from "./iget.ts";
import { inode_hooks } from "./inode_hooks.ts";
import { checkNameLength, checkNewName, DOT_DOT, isDots, type Name } from "./name.ts";
import { checkEmpty, dropLink, nameError } from "./namei.ts";
import { look, nameLeadsTo, startOver } from "./seen.ts";

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

interface Peeked {
  readonly ino: number;
  readonly is_dir: boolean;
}

/** What a name leads to now, without keeping the directory locked. */
function peekName(op: Op, dir: Inode, name: Name): Peeked | undefined {
  return look(op, dir, name, () => {
    const entry = findEntry(openDir(op, dir, lockDir(op, dir).di_bh), name);
    return entry && { ino: entry.ino, is_dir: entry.file_type === OCFS2_FT_DIR };
  });
}

/** Throws when a directory would come to lie below itself (ocfs2_rename, under the rename lock). */
function checkNoLoop(op: Op, moved: number, into: Inode, name: Name): void {
  if (into.ino === moved || ancestorsOf(op, into.ino).includes(moved))
    throw nameError(Errno.EINVAL, "rename", into, name);
}

/** One side of a rename: a directory, a name in it, and what the name leads to. */
interface Side {
  readonly dir: Locked;
  readonly name: Name;
  readonly entry: Entry | undefined;
}

function sideOf(op: Op, dir: Locked, name: Name): Side {
  const entry = findEntry(openDir(op, dir.inode, dir.di_bh), name);
  nameLeadsTo(op, dir.inode, name, entry?.ino ?? 0);
  return { dir, name, entry };
}

/** Both parents locked in order, under the rename lock if need be, with what the names lead to. */
function lockSides(
  op: Op,
  old_dir: Inode,
  old_name: Name,
  new_dir: Inode,
  new_name: Name,
  flags: number,
): [Side, Side] {
  const exchange = flags === RENAME_EXCHANGE;
  if (old_dir === new_dir) {
    const d = lockDir(op, old_dir, true);
    return [sideOf(op, d, old_name), sideOf(op, d, new_name)];
  }
  renameMutex(op);
  const old_peek = peekName(op, old_dir, old_name);
  if (old_peek === undefined) throw nameError(Errno.ENOENT, "rename", old_dir, old_name);
  const new_peek = peekName(op, new_dir, new_name);
  if (old_peek.is_dir || (exchange && new_peek?.is_dir === true)) {
    renameLock(op);
    checkNoLoop(op, old_peek.ino, new_dir, new_name);
    if (exchange && new_peek !== undefined) checkNoLoop(op, new_peek.ino, old_dir, old_name);
    // The name that is replaced lies above what replaces it, so it is not empty.
    else if (new_peek !== undefined && ancestorsOf(op, old_dir.ino).includes(new_peek.ino))
      throw nameError(Errno.ENOTEMPTY, "rename", new_dir, new_name);
  }
  const [d_old, d_new] = doubleLock(op, old_dir, new_dir);
  const from = sideOf(op, d_old, old_name);
  const to = sideOf(op, d_new, new_name);
  if (from.entry?.ino !== old_peek.ino || to.entry?.ino !== new_peek?.ino) startOver(op);
  return [from, to];
}

/** Lets ".." of a directory that changed its parent lead to the new one. Throws Corruption when it led elsewhere. */
function moveDotDot(op: Op, child: Locked, from: Inode, to: Inode): void {
  const dir = openDir(op, child.inode, child.di_bh);
  const up = findEntry(dir, DOT_DOT);
  if (up?.ino !== from.ino)
    throw new Corruption("namei.rename", { dir: child.inode.ino, dot_dot: up?.ino, parent: from.ino });
  updateEntry(dir, up, to.ino, OCFS2_FT_DIR);
}

/** A directory's dinode joins the operation, and its times become the operation's. */
function touchParents(op: Op, a: Locked, b: Locked): void {
  for (const d of a.inode === b.inode ? [a] : [a, b]) {
    op.modify(d.di_bh);
    inodeChanged(op, d.inode);
    stamp(op, d.di, true);
  }
}

function touchChild(op: Op, child: Locked): void {
  op.modify(child.di_bh);
  inodeChanged(op, child.inode);
  stamp(op, child.di, false);
}

/** Throws when what is there may not be replaced by what comes: type against type, full directories. */
function checkReplace(op: Op, moved: Locked, target: Locked, new_dir: Inode, name: Name): void {
  const from_dir = isDir(moved.di.i_mode);
  const to_dir = isDir(target.di.i_mode);
  if (from_dir && !to_dir) throw nameError(Errno.ENOTDIR, "rename", new_dir, name);
  if (!from_dir && to_dir) throw nameError(Errno.EISDIR, "rename", new_dir, name);
  checkMayChange(target.di, true);
  if (to_dir) checkEmpty(op, target);
}

/**
 * What is renamed and what is replaced, both at EX. The directory's lock keeps other nodes apart, but not operations of this
 * one: so always in the same order.
 */
function lockChildren(op: Op, moved: number, target: number | undefined): [Locked, Locked | undefined] {
  if (target === undefined) return [iget(op, moved, true), undefined];
  if (moved < target) {
    const first = iget(op, moved, true);
    return [first, iget(op, target, true)];
  }
  const first = iget(op, target, true);
  return [iget(op, moved, true), first];
}

/** What a rename left behind: the inode that was replaced, if it lost its name. */
export interface Renamed {
  readonly moved: Inode;
  readonly replaced: Inode | undefined;
}

/**
 * Renames (rename(2), renameat2(2)). `flags`: 0, RENAME_NOREPLACE or RENAME_EXCHANGE. Two names of one inode are left as they
 * are. ENOENT, EEXIST, ENOTEMPTY, EISDIR, ENOTDIR, EINVAL (into itself; other flags), EBUSY ("." and ".."), EMLINK, EPERM, ENOSPC.
 */
export function rename(
  op: Op,
  old_dir: Inode,
  old_name: Name,
  new_dir: Inode,
  new_name: Name,
  flags = 0,
): Renamed | undefined {
  if (flags !== 0 && flags !== RENAME_NOREPLACE && flags !== RENAME_EXCHANGE) throw einval("namei.rename", { flags });
  checkNameLength(old_name);
  checkNewName(new_name);
  if (isDots(old_name) || isDots(new_name)) throw nameError(Errno.EBUSY, "rename", old_dir, old_name);
  const [from, to] = lockSides(op, old_dir, old_name, new_dir, new_name, flags);
  checkAlive(from.dir);
  checkAlive(to.dir);
  if (from.entry === undefined) throw nameError(Errno.ENOENT, "rename", old_dir, old_name);
  if (flags === RENAME_NOREPLACE && to.entry !== undefined) throw nameError(Errno.EEXIST, "rename", new_dir, new_name);
  if (flags === RENAME_EXCHANGE && to.entry === undefined) throw nameError(Errno.ENOENT, "rename", new_dir, new_name);
  if (from.entry.ino === to.entry?.ino) return undefined;

  checkMayChange(from.dir.di, true);
  checkMayChange(to.dir.di, to.entry !== undefined);
  const [moved, target] = lockChildren(op, from.entry.ino, to.entry?.ino);
  checkMayChange(moved.di, true);
  if (isDir(moved.di.i_mode) !== (from.entry.file_type === OCFS2_FT_DIR))
    throw new Corruption("namei.rename", { ino: moved.inode.ino, file_type: from.entry.file_type });
  if (old_dir !== new_dir) shareMoved(op, [from.dir, moved], [to.dir, target]);
  inode_hooks.remoteDentryDelete(op, old_dir, moved.inode);
  if (target !== undefined) inode_hooks.remoteDentryDelete(op, new_dir, target.inode);

  if (flags === RENAME_EXCHANGE && target !== undefined) {
    exchange(op, from, to, moved, target);
    return { moved: moved.inode, replaced: undefined };
  }
  move(op, from, to, moved, target);
  return { moved: moved.inode, replaced: target?.inode };
}

/** What changes its directory is found through another one, and if it is a directory leads to that by its "..". */
function shareMoved(op: Op, ...sides: (readonly [dir: Locked, child: Locked | undefined])[]): void {
  const { unshared } = op.osb;
  for (const [dir, child] of sides) {
    if (child === undefined) continue;
    unshared.share(child.inode);
    for (const [other] of sides) if (isDir(child.di.i_mode) && other !== dir) unshared.shareUp(other.inode);
  }
}

function move(op: Op, from: Side, to: Side, moved: Locked, target: Locked | undefined): void {
  const moves_dir = isDir(moved.di.i_mode);
  const other_dir = from.dir.inode !== to.dir.inode;
  const file_type = modeToFileType(moved.di.i_mode);
  if (target !== undefined && to.entry !== undefined) {
    checkReplace(op, moved, target, to.dir.inode, to.name);
    updateEntry(openDir(op, to.dir.inode, to.dir.di_bh), to.entry, moved.inode.ino, file_type);
    dropLink(op, target);
  } else {
    if (moves_dir && other_dir) checkLinkRoom(op.osb, to.dir.di);
    addEntry(openDir(op, to.dir.inode, to.dir.di_bh), to.name, moved.inode.ino, file_type);
  }
  touchChild(op, moved);
  // Looked up again: adding a name may have given the directory another shape.
  const old = openDir(op, from.dir.inode, from.dir.di_bh);
  const entry = findEntry(old, from.name);
  if (entry === undefined) throw new FsError(Errno.EIO, "namei.rename", { dir: from.dir.inode.ino, found: "no name" });
  deleteEntry(old, entry);
  if (moves_dir && other_dir) moveDotDot(op, moved, from.dir.inode, to.dir.inode);
  touchParents(op, from.dir, to.dir);
  if (moves_dir) {
    addLinks(from.dir.di, -1);
    if (target === undefined) addLinks(to.dir.di, 1);
  }
}

/** Each name gets the other's inode (the kernel's VFS calls it RENAME_EXCHANGE). */
function exchange(op: Op, from: Side, to: Side, a: Locked, b: Locked): void {
  const a_dir = isDir(a.di.i_mode);
  const b_dir = isDir(b.di.i_mode);
  const other_dir = from.dir.inode !== to.dir.inode;
  if (other_dir && a_dir !== b_dir) checkLinkRoom(op.osb, (a_dir ? to : from).dir.di);
  checkMayChange(b.di, true);
  const old_dir = openDir(op, from.dir.inode, from.dir.di_bh);
  const new_dir = openDir(op, to.dir.inode, to.dir.di_bh);
  updateEntry(old_dir, from.entry!, b.inode.ino, modeToFileType(b.di.i_mode));
  updateEntry(new_dir, to.entry!, a.inode.ino, modeToFileType(a.di.i_mode));
  touchChild(op, a);
  touchChild(op, b);
  touchParents(op, from.dir, to.dir);
  if (!other_dir) return;
  if (a_dir) moveDotDot(op, a, from.dir.inode, to.dir.inode);
  if (b_dir) moveDotDot(op, b, to.dir.inode, from.dir.inode);
  if (a_dir !== b_dir) {
    addLinks(from.dir.di, a_dir ? -1 : 1);
    addLinks(to.dir.di, a_dir ? 1 : -1);
  }
}
