/**
 * Which names the kernel may keep, on a clustered mount. Names are covered by their folder's lock; when it goes they must be looked up again, and the
 * one call for that which waits for nothing (INC_EPOCH) means every name of the mount. It is dear: the kernel does not ask whether a name is still
 * good but drops it and looks it up anew. A file that nobody has open loses its pages on the way, what is mounted on a folder is gone,
 * and whoever is in a folder has no path until somebody has looked it up (getcwd says ENOENT); that of an open file ends in " (deleted)".
 *
 * So the call is made only when the kernel may have names of that folder, and in a folder that other nodes take again and again it is given none to
 * keep: it asks each time, by a LOOKUP that leaves what it has in place, and there is nothing to call back.
 */
import { ASK_AGAIN, HELD, type Timeouts } from "./reply.ts";

export class CachedNames {
  /** Moves when the kernel is told to forget all names. */
  #epoch = 0;
  /** The epoch in which the kernel was last given a name to keep, by folder. */
  readonly #told = new Map<number, number>();
  /** When another node last took a folder, by folder; the oldest first, and not for longer than that counts. */
  readonly #lost_ms = new Map<number, number>();
  readonly #now_ms: () => number;
  readonly #cool_ms: number;

  /** `cool_ms`: what a folder that was lost waits before its names are kept again. */
  constructor(now_ms: () => number, cool_ms: number) {
    this.#now_ms = now_ms;
    this.#cool_ms = cool_ms;
  }

  #isHot(folder: number): boolean {
    if (this.#lost_ms.size === 0) return false;
    const lost_ms = this.#lost_ms.get(folder);
    return lost_ms !== undefined && this.#now_ms() - lost_ms < this.#cool_ms;
  }

  /** The kernel is about to hear of a name in `folder`, or that there is none. Called while the folder's lock is held. */
  told(folder: number): void {
    if (!this.#isHot(folder)) this.#told.set(folder, this.#epoch);
  }

  /** The kernel moves a name from one folder to the other, or exchanges two, with the time that it may keep it. */
  moved(from: number, to: number): void {
    if (this.#told.get(from) !== this.#epoch && this.#told.get(to) !== this.#epoch) return;
    this.#told.set(from, this.#epoch);
    this.#told.set(to, this.#epoch);
  }

  /** A folder that the kernel first hears of is as hot as the one that it lies in: what is busy is a tree. */
  heard(folder: number, parent: number): void {
    if (this.#isHot(parent) && !this.#lost_ms.has(folder)) this.#lost_ms.set(folder, this.#lost_ms.get(parent)!);
  }

  /** How long the kernel may keep a name of `folder` that it is given now; only what `told` has noted down it may keep. */
  timeouts(folder: number): Timeouts {
    return this.#told.get(folder) === this.#epoch && !this.#isHot(folder) ? HELD : ASK_AGAIN;
  }

  /** Another node takes the folder's lock. True: the kernel must be told to forget its names, which are all. */
  lost(folder: number): boolean {
    const now_ms = this.#now_ms();
    for (const [old, lost_ms] of this.#lost_ms) {
      if (now_ms - lost_ms < this.#cool_ms) break;
      this.#lost_ms.delete(old);
    }
    this.#lost_ms.delete(folder);
    this.#lost_ms.set(folder, now_ms);
    if (this.#told.get(folder) !== this.#epoch) return false;
    this.#epoch++;
    return true;
  }

  /** The kernel has forgotten the folder, and with it the names in it. */
  forgotten(folder: number): void {
    this.#told.delete(folder);
  }
}
