/**
 * The cluster locks that one operation or task holds. Kept while the operation is run again, so that it makes progress;
 * released together at its end. Releasing is local and never waits.
 */
import { unreachable } from "../lib/fs_error.ts";
import type { WaitQueue } from "../lib/wait.ts";
import type { LockLevel, LockRes } from "./lock_res.ts";

export class LockSet {
  #held: { res: LockRes; level: LockLevel }[] = [];
  /** The one lock that is waited for: an operation that comes by another way next time must not get it any more. */
  #wants: LockRes | null = null;
  /** Inodes that the task with this set keeps for itself (inodeExclusive). */
  exclusives = 0;
  /** The kernel may wait for this work before it answers a notification: let in while one is under way (LockRes.serving). */
  exempt = false;
  /** A READ that fills pages of the kernel's cache: let in where a notification waits for it (LockRes.serving_reads). */
  fills_pages = false;
  /** The recovery of a dead node waits for no recovery (OCFS2_META_LOCK_RECOVERY). */
  readonly for_recovery: boolean;

  constructor(options: { for_recovery?: boolean } = {}) {
    this.for_recovery = options.for_recovery ?? false;
  }

  /** The level at which this set holds `res`, undefined when it does not. */
  level(res: LockRes): LockLevel | undefined {
    for (const h of this.#held) if (h.res === res) return h.level;
    return undefined;
  }

  /** Called by dlmglue when a holder was counted for this set. */
  add(res: LockRes, level: LockLevel): void {
    if (this.level(res) !== undefined) unreachable(`${res.name} is held already`);
    // Most hold one: push on an empty array makes room for 17.
    if (this.#held.length === 0) this.#held = [{ res, level }];
    else this.#held.push({ res, level });
    if (this.#wants !== res) return;
    this.#wants = null;
    res.withdraw(this);
  }

  /** Called by dlmglue: this set waits for `res` from now on, and for nothing else. */
  want(res: LockRes): void {
    if (this.#wants === res) return;
    this.withdraw();
    this.#wants = res;
  }

  /**
   * The operation waits for `queue` now. If that is not the lock that it has asked for, it came by another way this time: a grant
   * would make it hold a lock out of order.
   */
  waitsFor(queue: WaitQueue): void {
    if (this.#wants !== null && this.#wants.waiters !== queue) this.withdraw();
  }

  /** Whatever was waited for is not wanted any more. */
  withdraw(): void {
    const res = this.#wants;
    if (res === null) return;
    this.#wants = null;
    res.withdraw(this);
  }

  get size(): number {
    return this.#held.length;
  }

  /** What is held, for reports and for drops in order. */
  held(): readonly { readonly res: LockRes; readonly level: LockLevel }[] {
    return this.#held;
  }

  release(res: LockRes): void {
    const i = this.#held.findIndex((h) => h.res === res);
    if (i < 0) unreachable(`${res.name} is released but not held`);
    const [h] = this.#held.splice(i, 1);
    h!.res.unhold(h!.level);
  }

  releaseAll(): void {
    this.withdraw();
    if (this.#held.length === 0) return;
    const held = this.#held;
    this.#held = [];
    for (let i = held.length - 1; i >= 0; i--) held[i]!.res.unhold(held[i]!.level);
  }
}
