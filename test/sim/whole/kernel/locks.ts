/** Sleeping locks of the simulated kernel. Who waits gets its turn in order. */
import type { Thunk } from "../../../../src/lib/task.ts";

/** A rw_semaphore: i_rwsem. A writer that waits keeps later readers out. */
export class RwSem {
  #readers = 0;
  #writer = false;
  readonly #waiting: { readonly write: boolean; readonly go: () => void }[] = [];

  #may(write: boolean): boolean {
    return !this.#writer && (!write || this.#readers === 0);
  }

  #take(write: boolean): Thunk<void> {
    return (cb) => {
      const go = (): void => {
        if (write) this.#writer = true;
        else this.#readers++;
        cb(null);
      };
      if (this.#waiting.length === 0 && this.#may(write)) go();
      else this.#waiting.push({ write, go });
    };
  }

  readonly read = this.#take(false);
  readonly write = this.#take(true);

  #next(): void {
    while (this.#waiting.length > 0 && this.#may(this.#waiting[0]!.write)) this.#waiting.shift()!.go();
  }

  readDone(): void {
    this.#readers--;
    this.#next();
  }

  writeDone(): void {
    this.#writer = false;
    this.#next();
  }
}

/** A page's lock. Who unlocks goes on: whoever waited runs `later`. */
export class Lock {
  readonly #later: (go: () => void) => void;
  #held = false;
  readonly #waiting: (() => void)[] = [];

  constructor(later: (go: () => void) => void) {
    this.#later = later;
  }

  readonly take: Thunk<void> = (cb) => {
    if (this.#held) this.#waiting.push(() => cb(null));
    else {
      this.#held = true;
      cb(null);
    }
  };

  get held(): boolean {
    return this.#held;
  }

  /** Of a page that nobody else knows yet. */
  takeNew(): void {
    this.#held = true;
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#held = false;
    else this.#later(next);
  }
}

/** Something that is waited for until it holds. */
export class Waits {
  #waiting: (() => void)[] = [];

  /** Calls again and again after `changed` until `holds`. */
  until(holds: () => boolean): Thunk<void> {
    return (cb) => {
      const look = (): void => {
        if (holds()) cb(null);
        else this.#waiting.push(look);
      };
      look();
    };
  }

  changed(): void {
    const all = this.#waiting;
    this.#waiting = [];
    for (const go of all) go();
  }
}
