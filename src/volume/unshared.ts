/**
 * Inodes that this node has made and that no other node can have heard of: their locks are ours without a question to anybody. A tree that is
 * built and deleted by one node alone costs no message for its files.
 *
 * Another node comes to know an inode through its name, under the lock of its directory; through our slot's orphan directory, under that one's;
 * through a file handle, after a look into our slot's inode allocator, under that one's; or after our death, when all our locks are void. We hold each of the
 * three at EX from the moment in which the inode is made. So before one of them is given up, and not earlier, the locks of the
 * inodes that it tells of are asked for (inode_locks.ts). What gives an inode a further way to be found asks for them first (`share`).
 */
import { EX, NL, PR } from "../dlmglue/lock_res.ts";
import { SYSTEM_INODE } from "../format/disk/index.ts";
import { all, asThunk, inBatches, spawn, type Task, wait } from "../lib/task.ts";
import { WaitQueue, waitOn } from "../lib/wait.ts";
import { dentryLocks } from "./dir/dentry_locks.ts";
import type { Inode } from "./inode.ts";
import type { Op } from "./op.ts";
import type { Osb } from "./osb.ts";

/** More are not kept: who asks for the directory, or for one of the others, waits for that many locks. */
const MAX_IN_DIRECTORY = 2048;
const MAX_IN_ALL = 32768;
/** So many are shared when there are too many, oldest first. */
const TOO_MANY = 64;
/** So many at the same time. */
const AT_ONCE = 128;

export class Unshared {
  readonly #osb: Osb;
  /** Until the last of its locks is granted: each inode with its directory. */
  readonly #dir_of = new Map<Inode, Inode>();
  readonly #in_dir = new Map<Inode, Set<Inode>>();
  /** Woken when an inode's locks have been granted. */
  readonly #shared = new WaitQueue();

  constructor(osb: Osb) {
    this.#osb = osb;
  }

  get size(): number {
    return this.#dir_of.size;
  }

  has(inode: Inode): boolean {
    return this.#dir_of.has(inode);
  }

  /**
   * The operation makes `inode` in `dir`, out of inode_alloc:`slot`. False when its locks must be asked for: another slot's allocator is not ours to
   * hold, and a lock that a file before this one has left is known to the others.
   */
  begin(op: Op, inode: Inode, dir: Inode, slot: number): boolean {
    const { glue, slot_num } = this.#osb;
    if (!glue.domain.clustered || slot !== slot_num || this.#dir_of.has(inode)) return false;
    for (const res of [inode.meta_lockres, inode.open_lockres, inode.rw_lockres])
      if (res !== null && (res.dl !== null || !res.isFree)) return false;
    const forget = (): void => {
      inode.meta_lockres = null;
      inode.open_lockres = null;
      inode.rw_lockres = null;
    };
    forget();
    inode.cover = dir;
    inode.lvb_fresh = false;
    const meta = glue.metaLock(inode);
    glue.lock(op.locks, meta, EX);
    op.onUndo(() => {
      if (op.locks.level(meta) !== undefined) op.locks.release(meta);
      inode.cover = null;
      forget();
    });
    op.onSuccess(() => this.#add(inode, dir));
    return true;
  }

  #add(inode: Inode, dir: Inode): void {
    this.#dir_of.set(inode, dir);
    let names = this.#in_dir.get(dir);
    if (names === undefined) this.#in_dir.set(dir, (names = new Set()));
    names.add(inode);
    const too_many = names.size > MAX_IN_DIRECTORY || this.#dir_of.size > MAX_IN_ALL;
    if (!too_many || this.#sharing_old) return;
    this.#sharing_old = true;
    spawn(this.#shareOld(names), (err) => {
      this.#sharing_old = false;
      if (err) this.#osb.journal.abort(err);
    });
  }
  #sharing_old = false;

  /** Some are shared while nobody waits for them, until so many are left as may be. */
  *#shareOld(names: ReadonlySet<Inode>): Task<void> {
    for (;;) {
      const of = names.size > MAX_IN_DIRECTORY ? names : this.#dir_of.size > MAX_IN_ALL ? this.#dir_of.keys() : [];
      const oldest: Inode[] = [];
      for (const inode of of) if (oldest.push(inode) === TOO_MANY) break;
      if (oldest.length === 0) return;
      yield* this.shareAll(oldest);
    }
  }

  /** It is no more: nobody will ever hear of it. */
  remove(inode: Inode): void {
    const dir = this.#dir_of.get(inode);
    if (dir === undefined) return;
    inode.cover = null;
    this.#dir_of.delete(inode);
    const names = this.#in_dir.get(dir)!;
    names.delete(inode);
    if (names.size === 0) this.#in_dir.delete(dir);
    this.#shared.wakeAll();
  }

  /** All is on the disk and no longer ours: what others find there they may have. */
  clear(): void {
    for (const inode of [...this.#dir_of.keys()]) this.remove(inode);
  }

  /** The locks of these are asked for. */
  *shareAll(inodes: readonly Inode[]): Task<void> {
    yield* inBatches(inodes, AT_ONCE, (inode) => this.#share(inode));
  }

  *#share(inode: Inode): Task<void> {
    const dir = inode.cover;
    if (dir === null) {
      // Under way already.
      while (this.#dir_of.has(inode)) yield* wait<void>((cb) => this.#shared.add(() => cb(null)));
      return;
    }
    const { glue } = this.#osb;
    // Nobody has asked for it so far.
    if (inode.inUse) glue.openLock(inode);
    inode.cover = null;
    yield* all([
      asThunk(() => glue.shareTask(inode.open_lockres, inode.inUse ? PR : NL)),
      asThunk(() => glue.shareTask(inode.rw_lockres, NL)),
      asThunk(() => glue.shareTask(inode.meta_lockres, EX)),
      asThunk(() => dentryLocks(this.#osb).shareTask(dir.ino, inode.ino)),
    ]);
    this.remove(inode);
  }

  shareLater(inodes: readonly Inode[]): void {
    this.#osb.background(this.shareAll(inodes));
  }

  /** The inode is about to be found by another way than its directory: its locks come first. Throws Wait. */
  share(inode: Inode): void {
    if (!this.has(inode)) return;
    this.shareLater([inode]);
    if (this.has(inode)) waitOn(this.#shared);
  }

  /** As `share`, for a directory and all above it: what moves into it leads to them by its "..". */
  shareUp(dir: Inode): void {
    const above = this.#dir_of.get(dir);
    if (above !== undefined) this.shareUp(above);
    this.share(dir);
  }

  /** What `inode` alone told of: its lock is about to leave EX. */
  *coverGoes(inode: Inode): Task<void> {
    const { system_inodes, slot_num } = this.#osb;
    if (this.#dir_of.size === 0) return;
    const names = this.#in_dir.get(inode);
    if (names !== undefined) yield* this.shareAll([...names]);
    if (!inode.is_system || slot_num < 0 || system_inodes.size === 0) return;
    if (inode === this.#osb.sysfile(SYSTEM_INODE.INODE_ALLOC, slot_num)) yield* this.shareAll([...this.#dir_of.keys()]);
    else if (inode === this.#osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, slot_num))
      yield* this.shareAll([...this.#dir_of.keys()].filter((i) => i.orphaned));
  }
}
