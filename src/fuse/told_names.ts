/**
 * The names that the kernel was told of, by inode: what FUSE_NOTIFY_INVAL_ENTRY needs to make it forget an inode that another node deleted. Kept
 * only where the kernel knows no FUSE_NOTIFY_PRUNE (before 7.45, Linux 6.18), on clustered mounts.
 *
 * A name too many does no harm: it is looked up again. One that is missing keeps an inode, and its space, until somebody uses the name.
 */

export interface Told {
  readonly parent: number;
  readonly name: Uint8Array;
}

const keyOf = (parent: number, name: Uint8Array): string => `${parent}/${Buffer.from(name).toString("latin1")}`;

export class ToldNames {
  readonly #by_ino = new Map<number, Map<string, Told>>();
  readonly #ino_of = new Map<string, number>();

  add(parent: number, name: Uint8Array, ino: number): void {
    const key = keyOf(parent, name);
    const before = this.#ino_of.get(key);
    if (before === ino) return;
    if (before !== undefined) this.#drop(key, before);
    let names = this.#by_ino.get(ino);
    if (names === undefined) this.#by_ino.set(ino, (names = new Map()));
    names.set(key, { parent, name });
    this.#ino_of.set(key, ino);
  }

  #drop(key: string, ino: number): void {
    this.#ino_of.delete(key);
    const names = this.#by_ino.get(ino);
    names?.delete(key);
    if (names?.size === 0) this.#by_ino.delete(ino);
  }

  /** The name was taken away through this mount. */
  remove(parent: number, name: Uint8Array): void {
    const key = keyOf(parent, name);
    const ino = this.#ino_of.get(key);
    if (ino !== undefined) this.#drop(key, ino);
  }

  /** A rename through this mount: the kernel moves its entry along. */
  rename(from: number, old_name: Uint8Array, to: number, new_name: Uint8Array, exchange: boolean): void {
    const moved = this.#ino_of.get(keyOf(from, old_name));
    const there = this.#ino_of.get(keyOf(to, new_name));
    this.remove(from, old_name);
    this.remove(to, new_name);
    if (moved !== undefined) this.add(to, new_name, moved);
    if (exchange && there !== undefined) this.add(from, old_name, there);
  }

  /** The kernel has forgotten the inode. */
  forget(ino: number): void {
    for (const key of [...(this.#by_ino.get(ino)?.keys() ?? [])]) this.#drop(key, ino);
  }

  of(ino: number): Told[] {
    return [...(this.#by_ino.get(ino)?.values() ?? [])];
  }

  get size(): number {
    return this.#ino_of.size;
  }
}
