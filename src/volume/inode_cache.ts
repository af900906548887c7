/**
 * The inodes that this node knows, by block number (ocfs2_iget). An inode that nobody uses any more stays until `trim`:
 * its locks and blocks are worth keeping.
 */
import { Inode } from "./inode.ts";
import type { Osb } from "./osb.ts";

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

  get size(): number {
    return this.#inodes.size;
  }

  values(): IterableIterator<Inode> {
    return this.#inodes.values();
  }
}
