/**
 * Dentry locks: what one node knows of a name in a directory, so that another can make it forget (dcache.c,
 * ocfs2_dentry_attach_lock, ocfs2_remote_dentry_delete). Who caches a name holds its lock at PR; who is about to unlink or rename it
 * takes it at EX for a moment, and everybody else drops the name.
 *
 * Giving such a lock up waits for nothing: the names of a directory belong to the kernel's lock on that directory, which a
 * request that waits for us may hold. Two rm in one directory on two nodes would otherwise wait for each other for ever.
 */
import { EX, LOCK_TYPES, type LockLevel, type LockRes, NL, PR } from "../../dlmglue/lock_res.ts";
import { dentryLockName } from "../../dlmglue/lock_types.ts";
import { type Task, wait } from "../../lib/task.ts";
import { WaitQueue } from "../../lib/wait.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";

/** All names of one inode in one directory (struct ocfs2_dentry_lock). */
interface Dentry {
  readonly parent: number;
  readonly ino: number;
  readonly res: LockRes;
  /** Names that the layer above has cached (dl_count). */
  count: number;
  dropping: boolean;
}

export class DentryLocks {
  readonly #osb: Osb;
  readonly #known = new Map<string, Dentry>();
  /** For tests: woken when what a downconvert must not wait for is over. */
  readonly sabotage_wait = new WaitQueue();

  constructor(osb: Osb) {
    this.#osb = osb;
  }

  get size(): number {
    return this.#known.size;
  }

  #get(parent: number, ino: number): Dentry {
    const key = `${parent}/${ino}`;
    let d = this.#known.get(key);
    if (d === undefined) {
      const ops = { ...LOCK_TYPES.dentry, downconvert: (res: LockRes, to: LockLevel) => this.#downconvert(res, to) };
      const { glue, inodes } = this.#osb;
      const res = glue.newLockRes(dentryLockName(parent, ino), ops, key);
      if (inodes.peek(ino)?.cover?.ino === parent) glue.own(res);
      const made: Dentry = { parent, ino, res, count: 0, dropping: false };
      this.#known.set(key, made);
      d = made;
    }
    this.#dropLater(d);
    return d;
  }

  /** Once nobody caches the name and no operation has the lock, the cluster forgets it. */
  #dropLater(d: Dentry): void {
    if (d.dropping) return;
    d.dropping = true;
    const osb = this.#osb;
    osb.ready(() => osb.background(this.#drop(d)));
  }

  *#drop(d: Dentry): Task<void> {
    while (d.count > 0 || !d.res.isFree) yield* wait<void>((cb) => d.res.changed.add(() => cb(null)));
    const key = `${d.parent}/${d.ino}`;
    if (this.#known.get(key) === d) this.#known.delete(key);
    yield* this.#osb.glue.dropTask(d.res);
  }

  /**
   * The layer above is about to cache a name that leads to `inode`; one more each time. Inside the operation that found it, under the
   * directory's lock (ocfs2_dentry_attach_lock).
   */
  attach(op: Op, dir: Inode, inode: Inode): void {
    const { glue } = this.#osb;
    if (!glue.domain.clustered) return;
    const d = this.#get(dir.ino, inode.ino);
    glue.lock(op.locks, d.res, PR);
    op.onSuccess(() => {
      d.count++;
    });
  }

  /** The layer above has forgotten all names of an inode in a directory (ocfs2_dentry_iput). */
  detach(parent: number, ino: number): void {
    const d = this.#known.get(`${parent}/${ino}`);
    if (d === undefined) return;
    d.count = 0;
    d.res.wakeChanged();
  }

  /**
   * All other nodes forget the names of `inode` in `dir` before one of them changes; held until the operation ends
   * (ocfs2_remote_dentry_delete).
   */
  remoteDelete(op: Op, dir: Inode, inode: Inode): void {
    const { glue } = this.#osb;
    if (!glue.domain.clustered) return;
    glue.lock(op.locks, this.#get(dir.ino, inode.ino).res, EX);
  }

  /** Other nodes are about to find the name: what is cached of it, or held, is asked for (unshared.ts). */
  *shareTask(parent: number, ino: number): Task<void> {
    const d = this.#known.get(`${parent}/${ino}`);
    if (d !== undefined) yield* this.#osb.glue.shareTask(d.res, d.count > 0 ? PR : NL);
  }

  /** Another node is about to change the name (ocfs2_dentry_convert_worker). */
  *#downconvert(res: LockRes, to: LockLevel): Task<void> {
    if (to !== NL) return;
    const osb = this.#osb;
    const d = this.#known.get(res.data as string);
    if (d === undefined || d.res !== res) return;
    const inode = osb.inodes.peek(d.ino);
    if (inode !== undefined) inode.maybe_orphaned = true;
    if (d.count === 0) return;
    d.count = 0;
    osb.kernel_caches?.invalidateEntry?.(d.parent, d.ino);
    // What the rule forbids: the kernel would answer once the request that holds the directory has been answered.
    if (osb.sabotage.has("dentry_waits")) yield* wait<void>((cb) => this.sabotage_wait.add(() => cb(null)));
  }
}

const all = new WeakMap<Osb, DentryLocks>();

export function dentryLocks(osb: Osb): DentryLocks {
  let locks = all.get(osb);
  if (locks === undefined) all.set(osb, (locks = new DentryLocks(osb)));
  return locks;
}
