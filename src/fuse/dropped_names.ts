/**
 * Making the kernel forget inodes: it drops the names that lead to them and that nobody uses, and FORGETs come. By FUSE_NOTIFY_PRUNE, before
 * Linux 6.18 name by name (FUSE_NOTIFY_INVAL_ENTRY), for which the names that the kernel was told of are remembered (told_names.ts).
 */
import type { Inode } from "../volume/inode.ts";
import { type Notifier, PRUNE_MAX } from "./notifier.ts";
import type { Session } from "./session.ts";
import type { Told } from "./told_names.ts";

export class DroppedNames {
  readonly #s: Session;
  readonly #notifier: Notifier;
  readonly #names: (Told & { readonly done: () => void })[] = [];
  #name_under_way = false;

  constructor(s: Session, notifier: Notifier) {
    this.#s = s;
    this.#notifier = notifier;
  }

  /** `done`: the kernel has done what it could; its FORGETs come as requests. Nothing that others wait for may wait for it. */
  drop(inodes: Iterable<Inode>, done: () => void): void {
    const told = this.#s.told_names;
    let left = 1;
    const one = (): void => {
      if (--left === 0) done();
    };
    if (told === null) {
      const ids = [...inodes].map((inode) => this.#s.nodeidOf(inode.ino));
      for (let i = 0; i < ids.length; i += PRUNE_MAX) {
        left++;
        this.#notifier.prune(ids.slice(i, i + PRUNE_MAX), one);
      }
    } else
      for (const inode of inodes)
        for (const name of told.of(inode.ino)) {
          told.remove(name.parent, name.name);
          left++;
          this.#names.push({ ...name, done: one });
        }
    this.#nextName();
    one();
  }

  /**
   * One at a time: such a notification waits for requests in its directory, and those may wait for a lock that is given up only after other
   * notifications. These must find a thread.
   */
  #nextName(): void {
    const next = this.#name_under_way ? undefined : this.#names.shift();
    if (next === undefined) return;
    this.#name_under_way = true;
    this.#notifier.invalEntry(this.#s.nodeidOf(next.parent), next.name, () => {
      this.#name_under_way = false;
      next.done();
      this.#nextName();
    });
  }
}
