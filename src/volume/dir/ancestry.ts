/**
 * Who is above whom, and in which order two directories are locked (namei.c: ocfs2_check_if_ancestor,
 * ocfs2_double_lock).
 *
 * Two nodes that lock the same two directories in different orders wait for each other for ever. The rule: the one that is
 * above the other first, otherwise the one with the lower block number. And a directory that is moved below itself would be cut off
 * from the root with all it holds; that is checked under the cluster's rename lock, which keeps every other such move off.
 *
 * Finding out takes the lock of each directory on the way up at PR and gives it back at once. That must happen before the
 * operation holds any of them at EX, and not again when it is run again holding them. So what was found is kept with
 * the operation's lock set: under the rename lock it stays true, and without it (a file changes directories) it only
 * chooses an order, as in the kernel.
 */
import { PR } from "../../dlmglue/lock_res.ts";
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { Corruption } from "../../lib/fs_error.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import { findEntry, openDir } from "./dir.ts";
import { iget, type Locked, lockDir } from "./iget.ts";
import { DOT_DOT } from "./name.ts";

/** Deeper trees than any path can name are taken for a circle. */
const MAX_DEPTH = 1 << 16;

/** Ancestors found for a lock set, by directory. */
const walked = new WeakMap<LockSet, Map<number, readonly number[]>>();

/** Runs `fn` with the inode's lock at PR and gives it back, unless the operation holds it at EX anyway. */
export function withPr<T>(op: Op, inode: Inode, fn: () => T): T {
  const value = fn();
  const res = op.osb.glue.metaLock(inode);
  if (op.locks.level(res) === PR) op.locks.release(res);
  return value;
}

function parentOf(op: Op, ino: number): number {
  const inode = op.osb.inodes.get(ino);
  return withPr(op, inode, () => {
    const { di_bh } = iget(op, ino);
    const up = findEntry(openDir(op, inode, di_bh), DOT_DOT);
    if (up === undefined) throw new Corruption("ancestry", { dir: ino, found: 'no ".."' });
    return up.ino;
  });
}

/** The directories above `ino`, nearest first, the root last. */
export function ancestorsOf(op: Op, ino: number): readonly number[] {
  let known = walked.get(op.locks);
  if (known === undefined) walked.set(op.locks, (known = new Map()));
  const found = known.get(ino);
  if (found !== undefined) return found;
  const { root_blkno } = op.osb.geo;
  const above: number[] = [];
  for (let at = ino; at !== root_blkno; ) {
    at = parentOf(op, at);
    above.push(at);
    if (above.length > MAX_DEPTH) throw new Corruption("ancestry", { dir: ino, found: "a directory in a circle" });
  }
  known.set(ino, above);
  return above;
}

/** True when the first of two directories is to be locked first. */
function goesFirst(op: Op, a: Inode, b: Inode): boolean {
  // Nobody else locks anything in a volume that is not shared.
  if (!op.osb.glue.domain.clustered) return true;
  if (ancestorsOf(op, b.ino).includes(a.ino)) return true;
  if (ancestorsOf(op, a.ino).includes(b.ino)) return false;
  return a.ino < b.ino;
}

/** Both directories at EX, in the cluster's order; they may be the same one (ocfs2_double_lock). ENOTDIR, ESTALE. */
export function doubleLock(op: Op, a: Inode, b: Inode): [Locked, Locked] {
  if (a === b) {
    const both = lockDir(op, a, true);
    return [both, both];
  }
  if (goesFirst(op, a, b)) {
    const first = lockDir(op, a, true);
    return [first, lockDir(op, b, true)];
  }
  const first = lockDir(op, b, true);
  return [lockDir(op, a, true), first];
}

/** Gives back what doubleLock took, before anything was changed. */
export function doubleUnlock(op: Op, a: Inode, b: Inode): void {
  for (const inode of a === b ? [a] : [a, b]) {
    const res = op.osb.glue.metaLock(inode);
    if (op.locks.level(res) !== undefined) op.locks.release(res);
  }
}
