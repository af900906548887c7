/** A volume thread's loop in the simulation (src/native/loop.ts): works that run in turns, after whatever came into the thread. */
import type { Clock } from "../../../src/lib/clock.ts";
import type { SimThread } from "./threads.ts";

/** A thread that turns for ever would stand still in virtual time. */
const MAX_TURNS = 100_000;

export class SimLoop {
  readonly clock: Clock;
  readonly #thread: SimThread;
  readonly #work: (() => boolean)[] = [];
  readonly #last: (() => void)[] = [];
  #awake = false;
  #stopped = false;

  constructor(thread: SimThread) {
    this.#thread = thread;
    this.clock = thread.clock;
    thread.turns = () => this.#turns();
  }

  addWork(work: () => boolean): () => void {
    this.#work.push(work);
    return () => {
      const i = this.#work.indexOf(work);
      if (i >= 0) this.#work.splice(i, 1);
    };
  }

  /** Behind all other work of a turn. */
  addLast(last: () => void): () => void {
    this.#last.push(last);
    return () => {
      const i = this.#last.indexOf(last);
      if (i >= 0) this.#last.splice(i, 1);
    };
  }

  wake(): void {
    this.#awake = true;
  }

  after(ms: number, cb: () => void): () => void {
    return this.clock.after(ms, cb);
  }

  stop(): void {
    this.#stopped = true;
  }

  #turns(): void {
    this.#awake = true;
    for (let n = 0; this.#awake && !this.#stopped && this.#thread.process.alive; n++) {
      if (n > MAX_TURNS) throw new Error("a loop that never waits");
      this.#awake = false;
      for (let i = 0; i < this.#work.length; i++) if (this.#work[i]!()) this.#awake = true;
      for (let i = 0; i < this.#last.length; i++) this.#last[i]!();
    }
  }
}
