/**
 * A process of the simulation and its threads. Whatever enters a thread (a timer, a completion, bytes of a connection) enters through
 * `deliver`: at once while the thread runs, later when it or its process is stopped, never once the process is dead.
 */
import type { Clock } from "../../../src/lib/clock.ts";

export class SimProcess {
  readonly threads: SimThread[] = [];
  alive = true;
  stopped = false;

  /** SIGSTOP: nothing of it runs; what it has asked of the kernel goes on. */
  stop(): void {
    this.stopped = true;
  }

  /** SIGCONT. */
  cont(): void {
    this.stopped = false;
    for (const t of this.threads) t.release();
  }

  die(): void {
    this.alive = false;
    for (const t of this.threads) t.drop();
  }
}

export class SimThread {
  readonly process: SimProcess;
  readonly clock: Clock;
  readonly #clock: Clock;
  readonly #held: (() => void)[] = [];
  readonly #deferred: (() => void)[] = [];
  #busy = false;
  #draining = false;
  #running = false;
  /** Runs at the end of whatever came in: the turns of the thread's loop. */
  turns: () => void = () => {};

  constructor(process: SimProcess, clock: Clock) {
    this.process = process;
    this.#clock = clock;
    this.clock = {
      monotonic_ms: () => clock.monotonic_ms(),
      realtime: () => clock.realtime(),
      after: (ms, cb) => {
        let off = false;
        const cancel = clock.after(ms, () => this.deliver(() => (off ? undefined : cb())));
        return () => {
          off = true;
          cancel();
        };
      },
    };
    process.threads.push(this);
  }

  get runs(): boolean {
    return this.process.alive && !this.process.stopped && !this.#busy;
  }

  /** The thread is inside itself, not to be heard: a long garbage collection, no CPU. Its process's other threads run. */
  stall(ms: number): void {
    this.#busy = true;
    this.#clock.after(ms, () => {
      this.#busy = false;
      this.release();
    });
  }

  readonly deliver = (cb: () => void): void => {
    if (!this.process.alive) return;
    if (!this.runs || this.#draining || this.#running) this.#held.push(cb);
    else this.#run(cb);
  };

  /** Runs at the end of what runs now, as a microtask would. */
  readonly defer = (cb: () => void): void => {
    this.#deferred.push(cb);
    if (!this.#running) this.deliver(() => {});
  };

  #run(cb: () => void): void {
    this.#running = true;
    try {
      cb();
      for (let i = 0; i < this.#deferred.length && this.process.alive; i++) this.#deferred[i]!();
      this.#deferred.length = 0;
      if (this.process.alive) this.turns();
    } finally {
      this.#running = false;
    }
    if (this.#held.length > 0) this.release();
  }

  /** What was held back comes in, one after the other. */
  release(): void {
    if (this.#draining || !this.runs) return;
    this.#draining = true;
    this.#clock.after(0, () => {
      this.#draining = false;
      if (!this.runs) return;
      const cb = this.#held.shift();
      if (cb !== undefined) this.#run(cb);
    });
  }

  drop(): void {
    this.#held.length = 0;
    this.#deferred.length = 0;
  }
}
