/**
 * The cluster locks that one operation or task holds. Kept while the operation is run again, so that it makes progress;
 * released together at its end. Releasing is local and never waits.
 */
import { assert } from "../lib/fs_error.ts";
import type { LockLevel, LockRes } from "./lock_res.ts";

export class LockSet {
  #held: { res: LockRes; level: LockLevel }[] = [];
  /** Inodes that the task with this set keeps for itself (inodeExclusive). */
  exclusives = 0;
  /** The kernel may wait for this work before it answers a notification: let in while one is under way (LockRes.serving). */
  exempt = false;

  /** The level at which this set holds `res`, undefined when it does not. */
  level(res: LockRes): LockLevel | undefined {
    for (const h of this.#held) if (h.res === res) return h.level;
    return undefined;
  }

  /** Called by dlmglue when a holder was counted for this set. */
  add(res: LockRes, level: LockLevel): void {
    assert(this.level(res) === undefined, `${res.name} is held already`);
    this.#held.push({ res, level });
  }

  get size(): number {
    return this.#held.length;
  }

  release(res: LockRes): void {
    const i = this.#held.findIndex((h) => h.res === res);
    assert(i >= 0, `${res.name} is released but not held`);
    const [h] = this.#held.splice(i, 1);
    h!.res.unhold(h!.level);
  }

  releaseAll(): void {
    if (this.#held.length === 0) return;
    const held = this.#held;
    this.#held = [];
    for (let i = held.length - 1; i >= 0; i--) held[i]!.res.unhold(held[i]!.level);
  }
}
