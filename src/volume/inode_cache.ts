/**
 * The inodes that this node knows, by block number (ocfs2_iget). An inode that nobody uses any more stays until `trim`:
 * its locks and blocks are worth keeping.
 */
import { spawn, type Task } from "../lib/task.ts";
import { Inode } from "./inode.ts";
import type { Osb } from "./osb.ts";

/** Idle inodes are kept up to this many in all. */
const KEEP_INODES = 100_000;

export class InodeCache {
  readonly #osb: Osb;
  readonly #inodes = new Map<number, Inode>();

  constructor(osb: Osb) {
    this.#osb = osb;
  }

  /** The one Inode object of this block number; makes it if need be. Does not read the disk. */
  get(ino: number): Inode {
    let inode = this.#inodes.get(ino);
    if (inode === undefined) {
      inode = new Inode(this.#osb, ino);
      this.#inodes.set(ino, inode);
    }
    return inode;
  }

  peek(ino: number): Inode | undefined {
    return this.#inodes.get(ino);
  }

  delete(ino: number): void {
    this.#inodes.delete(ino);
  }

  #hand: IterableIterator<Inode> | null = null;

  get needsTrim(): boolean {
    return this.#inodes.size > KEEP_INODES;
  }

  /** Forgets some inodes that nobody uses. Call only while no operation runs. Their blocks stay in the buffer cache. */
  trim(): void {
    for (let looks = 0; looks < 1024 && this.#inodes.size > KEEP_INODES; looks++) {
      this.#hand ??= this.#inodes.values();
      const next = this.#hand.next();
      if (next.done === true) {
        this.#hand = null;
        return;
      }
      const inode = next.value;
      if (inode.isIdle && !inode.is_system && this.#isDurable(inode)) this.#forget(inode);
    }
  }

  /** A later fsync, under a new object, need not wait for anything. */
  #isDurable(inode: Inode): boolean {
    const { journal } = this.#osb;
    return (inode.sync_tid === 0 || journal.isCommitted(inode.sync_tid)) && !inode.unflushed_data;
  }

  #forget(inode: Inode): void {
    this.#inodes.delete(inode.ino);
    const { glue } = this.#osb;
    if (!glue.domain.clustered) return;
    // Its locks go back to the cluster, and with them the right to what is cached: in the order of ocfs2_clear_inode.
    function* drop(): Task<void> {
      for (const res of [inode.open_lockres, inode.meta_lockres, inode.rw_lockres]) yield* glue.dropTask(res);
      inode.epoch++;
    }
    spawn(drop(), (err) => {
      if (err) this.#osb.journal.abort(err);
    });
  }

  get size(): number {
    return this.#inodes.size;
  }

  values(): IterableIterator<Inode> {
    return this.#inodes.values();
  }
}
