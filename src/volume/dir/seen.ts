/**
 * What an operation on names must know of its own earlier runs.
 *
 * An operation that waits is undone and run again from the start, holding the cluster locks that it has got. Between two
 * of its runs other operations of this node run, under the same locks: a cluster lock keeps other nodes off, not them.
 * Within a run nothing can change, so the answer is right; but the next run may find the name leading elsewhere, and
 * then it holds locks of things that it has nothing to do with any more, while it waits for others out of order: two
 * such operations wait for each other for ever. So each remembers what its names led to, and when that changed gives
 * everything back and begins anew.
 *
 * In the same way a mere look at a directory gives its lock back at once, and is not repeated in later runs.
 */
import { PR } from "../../dlmglue/lock_res.ts";
import type { LockSet } from "../../dlmglue/lock_set.ts";
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import { WaitQueue, waitOn } from "../../lib/wait.ts";
import { type Inode, inodeLockOnly } from "../inode.ts";
import type { Op } from "../op.ts";
import { iget, type Locked } from "./iget.ts";
import type { Name } from "./name.ts";

/** An inode number and the object that stood for it. A file that is deleted takes its object along; the next one in its block gets another. */
interface Led {
  readonly ino: number;
  readonly inode: Inode | undefined;
}

interface Seen {
  /** Parents, by directory. */
  readonly parents: Map<number, number>;
  /** Results of `look`, by key. */
  readonly looks: Map<string, unknown>;
  /** What names led to in the run before, inode number 0 for nothing, by key. */
  readonly names: Map<string, Led>;
}

const seen = new WeakMap<LockSet, Seen>();

/** What this operation has seen in its runs. */
export function seenBy(op: Op): Seen {
  let s = seen.get(op.locks);
  if (s === undefined) seen.set(op.locks, (s = { parents: new Map(), looks: new Map(), names: new Map() }));
  return s;
}

const keyOf = (dir: Inode, name: Name): string => `${dir.ino}/${Buffer.from(name).toString("latin1")}`;

/** Gives all locks back and runs the operation again as if for the first time. Nothing is changed yet, or it is undone. */
export function startOver(op: Op): never {
  seen.delete(op.locks);
  op.locks.releaseAll();
  const next_turn = new WaitQueue();
  op.osb.ready(() => next_turn.wakeAll());
  waitOn(next_turn);
}

/**
 * Says what a name in a locked directory leads to (0: nothing), before that is locked; starts over when it was something else
 * in an earlier run. Operations that use it cannot be steps of a task: their locks are theirs alone.
 */
export function nameLeadsTo(op: Op, dir: Inode, name: Name, ino: number): void {
  leadsTo(op, keyOf(dir, name), ino);
}

/** The same for an inode of which the number is known without a name: from a file handle, whose file may be deleted any time. */
export function handleLeadsTo(op: Op, ino: number): void {
  leadsTo(op, `${ino}`, ino);
}

/**
 * It does not do to compare numbers: the locks that the run before has got are those of an object, and one made anew for the same number
 * would ask for locks of the same names beside them, and wait for ever for what the operation holds itself.
 */
function leadsTo(op: Op, key: string, ino: number): void {
  const { inodes } = op.osb;
  const before = seen.get(op.locks)?.names.get(key);
  if (before !== undefined && (before.ino !== ino || (before.inode !== undefined && before.inode !== inodes.peek(ino))))
    startOver(op);
  op.onUndo(() => void seenBy(op).names.set(key, { ino, inode: inodes.peek(ino) }));
}

/** The inode that a name in a locked directory leads to, locked. */
export function igetNamed(op: Op, dir: Inode, name: Name, ino: number, ex = false): Locked {
  nameLeadsTo(op, dir, name, ino);
  return iget(op, ino, ex);
}

/** Runs `fn` with the inode's lock at PR and gives it back, unless the operation holds it at EX anyway. */
export function withPr<T>(op: Op, inode: Inode, fn: () => T): T {
  const value = fn();
  const res = op.osb.glue.metaLock(inode);
  if (op.locks.level(res) === PR) op.locks.release(res);
  return value;
}

/**
 * An inode's number and nothing else is known, from a file handle. It may be one that another node has made and whose locks that node has not asked
 * for yet; it does so before we see its inode allocator (unshared.ts, ocfs2_test_inode_bit).
 */
export function lookIntoAllocators(op: Op): void {
  const { osb } = op;
  if (!osb.glue.domain.clustered) return;
  const { looks } = seenBy(op);
  for (let slot = 0; slot < osb.geo.max_slots; slot++) {
    const key = `inode_alloc:${slot}`;
    if (looks.has(key)) continue;
    const inode = osb.sysfile(SYSTEM_INODE.INODE_ALLOC, slot);
    withPr(op, inode, () => inodeLockOnly(op, inode));
    looks.set(key, true);
  }
}

/** What `fn` finds out about a name under the directory's lock at PR, found once for all runs of the operation. */
export function look<T>(op: Op, dir: Inode, name: Name, fn: () => T): T {
  const { looks } = seenBy(op);
  const key = keyOf(dir, name);
  if (looks.has(key)) return looks.get(key) as T;
  const value = withPr(op, dir, fn);
  looks.set(key, value);
  return value;
}
