/**
 * Waiting without async: file-system code is synchronous, and where it cannot go on (a block that is not in memory, a
 * cluster lock that is not granted, a log without room) it throws the one Wait, with the queue that will be woken.
 * Whoever runs the operation undoes what it changed, waits for the queue, and runs it again from the start
 * (volume/op.ts). So nothing is ever half done across a wait, and there is no interleaving to think about.
 */

/** Callbacks that wait for one thing. A wake-up runs all of them once; they check again for themselves. */
export class WaitQueue {
  /** Null while nobody waits: most queues of a million inodes never hold anybody. */
  #waiters: (() => void)[] | null = null;

  add(cb: () => void): void {
    if (this.#waiters === null) this.#waiters = [cb];
    else this.#waiters.push(cb);
  }

  get length(): number {
    return this.#waiters === null ? 0 : this.#waiters.length;
  }

  wakeAll(): void {
    const run = this.#waiters;
    if (run === null) return;
    this.#waiters = null;
    for (const cb of run) cb();
  }
}

/** The thrown signal. There is exactly one, so that a throw allocates nothing; `queue` is set by waitOn just before. */
export class Wait {
  queue: WaitQueue = new WaitQueue();
  /** While true, each wait leaves its stack in `where`: for an operation that waits far too often. */
  trace = false;
  where = "";
}

export const WAIT = new Wait();

/** Gives the operation up until `queue` is woken. Never returns. */
export function waitOn(queue: WaitQueue): never {
  WAIT.queue = queue;
  if (WAIT.trace) WAIT.where = new Error().stack ?? "";
  throw WAIT;
}
