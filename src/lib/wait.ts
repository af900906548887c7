/**
 * Waiting without async: file-system code is synchronous, and where it cannot go on (a block that is not in memory, a
 * cluster lock that is not granted, a log without room) it throws the one Wait, with the queue that will be woken.
 * Whoever runs the operation undoes what it changed, waits for the queue, and runs it again from the start
 * (volume/op.ts). So nothing is ever half done across a wait, and there is no interleaving to think about.
 */

/** Callbacks that wait for one thing. A wake-up runs all of them once; they check again for themselves. */
export class WaitQueue {
  #waiters: (() => void)[] = [];

  add(cb: () => void): void {
    this.#waiters.push(cb);
  }

  get length(): number {
    return this.#waiters.length;
  }

  wakeAll(): void {
    if (this.#waiters.length === 0) return;
    const run = this.#waiters;
    this.#waiters = [];
    for (const cb of run) cb();
  }
}

/** The thrown signal. There is exactly one, so that a throw allocates nothing; `queue` is set by waitOn just before. */
export class Wait {
  queue: WaitQueue = new WaitQueue();
}

export const WAIT = new Wait();

/** Gives the operation up until `queue` is woken. Never returns. */
export function waitOn(queue: WaitQueue): never {
  WAIT.queue = queue;
  throw WAIT;
}
