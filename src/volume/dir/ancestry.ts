/**
 * Who is above whom, and in which order two directories are locked (namei.c: ocfs2_check_if_ancestor,
 * ocfs2_double_lock).
 *
 * Two nodes that lock the same two directories in different orders wait for each other for ever. The rule: the one that is
 * above the other first, otherwise the one with the lower block number. And a directory that is moved below itself would be cut off
 * from the root with all it holds; that is checked under the cluster's rename lock, which keeps other nodes' moves off.
 * Within the node only one rename between directories runs at a time, as the VFS has it (s_vfs_rename_mutex).
 *
 * Finding out takes the lock of each directory on the way up at PR and gives it back at once (seen.ts). What was seen is
 * kept over the runs of the operation: under the rename lock it stays true; without it (a file changes directories) it
 * only chooses an order, as in the kernel.
 */
import { EX, LockRes, PR } from "../../dlmglue/lock_res.ts";
import { Corruption } from "../../lib/fs_error.ts";
import { WaitQueue, waitOn } from "../../lib/wait.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { findEntry, openDir } from "./dir.ts";
import { iget, type Locked, lockDir } from "./iget.ts";
import { DOT_DOT } from "./name.ts";
import { seenBy, withPr } from "./seen.ts";

/** Deeper trees than any path can name are taken for a circle. */
const MAX_DEPTH = 1 << 16;

/** What ".." of a directory leads to; the root's to itself. The directory's lock is not kept. */
export function parentOf(op: Op, ino: number): number {
  if (ino === op.osb.geo.root_blkno) return ino;
  const { parents } = seenBy(op);
  const known = parents.get(ino);
  if (known !== undefined) return known;
  const inode = op.osb.inodes.get(ino);
  const parent = withPr(op, inode, () => {
    const { di_bh } = iget(op, ino);
    const up = findEntry(openDir(op, inode, di_bh), DOT_DOT);
    if (up === undefined) throw new Corruption("ancestry", { dir: ino, found: 'no ".."' });
    return up.ino;
  });
  parents.set(ino, parent);
  return parent;
}

/** The node's own lock around renames between directories: a lock resource that no other node ever hears of. */
const mutexes = new WeakMap<Osb, { readonly res: LockRes; readonly free: WaitQueue }>();

/** Held until the operation ends. Comes before every cluster lock. */
export function renameMutex(op: Op): void {
  let m = mutexes.get(op.osb);
  if (m === undefined) {
    m = { res: new LockRes("rename mutex", { letter: "-" }, null), free: new WaitQueue() };
    m.res.level = EX;
    mutexes.set(op.osb, m);
  }
  const { res, free } = m;
  if (op.locks.level(res) !== undefined) return;
  if (res.ex_holders > 0) {
    if (free.length === 0) res.whenIdle(PR, () => free.wakeAll());
    waitOn(free);
  }
  res.hold(op.locks, EX);
}

/** Takes the cluster's rename lock: what was seen of parents before may have changed, what is seen now will not. */
export function renameLock(op: Op): void {
  const res = op.osb.glue.rename_lockres;
  if (op.locks.level(res) !== undefined) return;
  seenBy(op).parents.clear();
  op.osb.glue.lock(op.locks, res, EX);
}

/** The directories above `ino`, nearest first, the root last. */
export function ancestorsOf(op: Op, ino: number): readonly number[] {
  const { root_blkno } = op.osb.geo;
  const above: number[] = [];
  for (let at = ino; at !== root_blkno; ) {
    at = parentOf(op, at);
    above.push(at);
    if (above.length > MAX_DEPTH) throw new Corruption("ancestry", { dir: ino, found: "a directory in a circle" });
  }
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
