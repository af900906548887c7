/**
 * The inodes that this node knows, by block number (ocfs2_iget), and their bound. An inode that nobody uses any more stays: its locks and blocks
 * are worth keeping. But each holds two or three cluster locks, here and at their masters, so there are `cached_inodes` at most (coherence,
 * rule 15): those that were not used for the longest time give their locks back. Most of them nobody uses, but the kernel has not forgotten their
 * names: it is asked to, some at a time, and what it then forgets goes.
 *
 * Goes on while anything more is to be had: what is open, mapped, somebody's current folder or changed in the running transaction stays, bound or not.
 */
import { NO_TID } from "../block/buffer_cache.ts";
import { spawn, type Task } from "../lib/task.ts";
import { Inode } from "./inode.ts";
import type { Osb } from "./osb.ts";

/** Once above the bound, so many fewer are wanted: not for each new inode an old one goes. */
const SLACK_SHIFT = 4;
const LOOKS_A_TURN = 1024;
/** Inodes whose locks are being given back at the same time. */
const DROPS_AT_A_TIME = 256;
/** Inodes that the kernel is asked to forget in one go. */
const ASKED_AT_A_TIME = 200;
/** When the whole cache holds nothing that could go, it is looked at again after this. */
const REST_MS = 1000;

export class InodeCache {
  readonly #osb: Osb;
  readonly #inodes = new Map<number, Inode>();
  /**
   * Which of them go: in the order in which they came, those that were used again since the hand's last visit later. Kept only while it moves: an
   * iterator that rests keeps alive all that comes into the map and goes again.
   */
  #hand: IterableIterator<Inode> | null = null;
  /** Nobody uses these since a moment ago. */
  #unused: Inode[] = [];
  /** Above the bound, and not yet `slack` below it. */
  #over = false;
  /** Their locks are being given back. */
  #dropping = 0;
  /** The kernel is being asked to forget some. */
  #asking = false;
  #resting = false;
  /** Looks since one was found that could go. */
  #in_vain = 0;
  /** Inodes that went because of the bound. */
  evicted = 0;

  constructor(osb: Osb) {
    this.#osb = osb;
  }

  /** The one Inode object of this block number; makes it if need be. Does not read the disk. */
  get(ino: number): Inode {
    let inode = this.#inodes.get(ino);
    if (inode === undefined) {
      inode = new Inode(this.#osb, ino);
      this.#inodes.set(ino, inode);
    } else inode.referenced = true;
    return inode;
  }

  peek(ino: number): Inode | undefined {
    return this.#inodes.get(ino);
  }

  delete(ino: number): void {
    this.#inodes.delete(ino);
  }

  get #bound(): number {
    return this.#osb.options.cached_inodes;
  }

  get #low(): number {
    return this.#bound - (this.#bound >> SLACK_SHIFT);
  }

  get needsTrim(): boolean {
    return (this.#over || this.#inodes.size > this.#bound) && !this.#resting && !this.#osb.closing;
  }

  /** The kernel has forgotten it. */
  unused(inode: Inode): void {
    if (this.#over) this.#unused.push(inode);
  }

  /** Call only while no operation runs. Blocks of what goes stay in the buffer cache on a mount without other nodes. */
  trim(): void {
    this.#over = this.#inodes.size - this.#dropping > this.#low;
    const unused = this.#unused;
    this.#unused = [];
    for (const inode of unused) if (this.#dropping < DROPS_AT_A_TIME) this.#forgetIfIdle(inode);
    if (!this.#over) this.#hand = null;
    if (!this.#over || this.#asking || this.#dropping >= DROPS_AT_A_TIME) return;
    this.#look();
  }

  #look(): void {
    const known: Inode[] = [];
    const most = Math.min(ASKED_AT_A_TIME, this.#inodes.size - this.#dropping - this.#low);
    for (let looks = 0; looks < LOOKS_A_TURN && known.length < most; looks++) {
      this.#hand ??= this.#inodes.values();
      const next = this.#hand.next();
      if (next.done === true) {
        this.#hand = null;
        continue;
      }
      const inode = next.value;
      this.#in_vain++;
      if (inode.referenced) inode.referenced = false;
      else if (this.#forgetIfIdle(inode)) {
        if (this.#dropping >= DROPS_AT_A_TIME) break;
      } else if (this.#isOnlyKnown(inode)) known.push(inode);
    }
    const { kernel_caches } = this.#osb;
    if (known.length > 0 && kernel_caches?.forget !== undefined) {
      this.#asking = true;
      kernel_caches.forget(known)(() => {
        this.#asking = false;
      });
    }
    // Twice: what was used since the last visit is only marked on the first. FORGETs come with later requests.
    if (this.#in_vain > 2 * this.#inodes.size) this.#rest();
    else if (!this.#asking && this.#dropping === 0) this.#osb.wakeLoop();
  }

  #rest(): void {
    this.#in_vain = 0;
    this.#hand = null;
    this.#resting = true;
    this.#osb.clock.after(REST_MS, () => {
      this.#resting = false;
      if (!this.#osb.closing) this.#osb.wakeLoop();
    });
  }

  /** The kernel has its name and nothing else: no file, no mapping, nobody's root. */
  #isOnlyKnown(inode: Inode): boolean {
    return inode.nlookup > 0 && inode.open_count === 0 && !this.#stays(inode);
  }

  #stays(inode: Inode): boolean {
    return inode.is_system || inode.dropping || inode.ino === this.#osb.geo.root_blkno;
  }

  #forgetIfIdle(inode: Inode): boolean {
    if (this.#stays(inode) || !inode.isIdle || inode.maybe_orphaned || !this.#isDurable(inode)) return false;
    if (this.#inodes.get(inode.ino) !== inode) return false;
    if (this.#osb.unshared.has(inode)) {
      // With its locks in the cluster it can be forgotten in order, the next time.
      if (inode.cover !== null) this.#osb.unshared.shareLater([inode]);
      return false;
    }
    if (!this.#osb.glue.domain.clustered) {
      // Its data in memory goes with it, in a cluster with its lock; unless it is being read.
      this.#osb.data.dropOwner(inode);
      if (inode.pages !== null) return false;
      this.#inodes.delete(inode.ino);
    }
    this.evicted++;
    this.#in_vain = 0;
    if (!this.#osb.glue.domain.clustered) return true;
    inode.dropping = true;
    this.#dropping++;
    spawn(this.#drop(inode), (err) => {
      inode.dropping = false;
      this.#dropping--;
      if (err) this.#osb.journal.abort(err);
      // Who looked it up again meanwhile has got this object, with new locks.
      else if (inode.isIdle && inode.pages === null && !this.#hasLocks(inode) && this.#inodes.get(inode.ino) === inode)
        this.#inodes.delete(inode.ino);
      if (this.#over) this.#osb.wakeLoop();
    });
    return true;
  }

  /**
   * Its locks go back to the cluster, and with them the right to what is cached: in the order of ocfs2_clear_inode. The object stays where it is found
   * meanwhile: another one would make itself locks of the same names.
   */
  *#drop(inode: Inode): Task<void> {
    const { glue } = this.#osb;
    for (const res of [inode.open_lockres, inode.meta_lockres, inode.rw_lockres])
      if (res?.isFree === true) yield* glue.dropTask(res);
  }

  #hasLocks(inode: Inode): boolean {
    return [inode.open_lockres, inode.meta_lockres, inode.rw_lockres].some((res) => res !== null && res.dl !== null);
  }

  /** A later fsync, under a new object, need not wait for anything. */
  #isDurable(inode: Inode): boolean {
    const { journal, options, dev } = this.#osb;
    if (inode.sync_tid !== NO_TID && !journal.isCommitted(inode.sync_tid)) return false;
    return !options.barrier || inode.data_written <= dev.durability.flushed;
  }

  get size(): number {
    return this.#inodes.size;
  }

  values(): IterableIterator<Inode> {
    return this.#inodes.values();
  }
}
