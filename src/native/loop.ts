/**
 * The loop of a volume thread: one ring, one wait. Disk I/O, /dev/fuse, wake-ups from other threads and timers all complete in
 * the ring, so a turn is: hand in what was queued and wait if there is nothing else to do, deliver the completions, let
 * each piece of work run as far as it goes. What goes wrong without it: a second wait, and one of the two is late.
 *
 * Turns run from setImmediate, and a turn waits at its beginning and not at its end. So promises and messages that a turn
 * set going get their share before the thread sleeps, at 1 µs a turn; an endless loop would starve them.
 */

import type { Clock } from "../lib/clock.ts";
import { assert, check } from "../lib/fs_error.ts";
import { type Bytes, closeFd, eventfdCreate, eventfdDrain, eventfdWake, LEASE_OPEN, POLLIN, Ring } from "./index.ts";

export type Completion = (res: number) => void;

/** Work that the loop runs in each turn. True: it has more to do at once, so the loop must not wait. */
export type Work = () => boolean;

interface Timer {
  readonly at_ms: number;
  readonly cb: () => void;
  cancelled: boolean;
}

/** Tables of vectored I/O that can be queued before they are submitted: 8 bytes a piece. */
const TABLE_BYTES = 64 << 10;

export interface LoopArena {
  readonly u8: Bytes;
  readonly dv: DataView<ArrayBufferLike>;
  alloc(len_bytes: number, align?: number): number;
}

export class Loop {
  readonly ring: Ring;
  readonly #arena: LoopArena;
  readonly #completions: (Completion | null)[] = [];
  readonly #free: number[] = [];
  readonly #work: Work[] = [];
  readonly #last: (() => void)[] = [];
  /** Sorted, the earliest last. */
  readonly #timers: Timer[] = [];
  readonly #wakefd: number;
  #wakefd_is_ours = true;
  readonly #table: number;
  #table_used = 0;
  #awake = true;
  #running = false;
  #reaping = false;
  #closed = false;
  #stopped: () => void = () => {};
  /** Turns that were run, and of these those that waited. */
  turns = 0;
  waits = 0;
  /** How often another thread has woken this one. */
  wakes = 0;

  constructor(arena: LoopArena, entries = 1024, lease: number = LEASE_OPEN) {
    this.#arena = arena;
    this.ring = new Ring(entries, arena.u8, lease);
    this.#table = arena.alloc(TABLE_BYTES, 64);
    this.#wakefd = check(eventfdCreate(), "loop.eventfd");
    this.#armWake();
  }

  /** Write to it (eventfdWake, any thread) to start a turn. */
  get wakefd(): number {
    return this.#wakefd;
  }

  /**
   * The same for the thread that has started this one, which closes it (closeFd) once this thread has ended. Closed here the number could be another
   * file's while somebody still writes to it.
   */
  giveWakefd(): number {
    this.#wakefd_is_ours = false;
    return this.#wakefd;
  }

  /** user_data for one operation of the ring; `done` is called with its result. */
  expect(done: Completion): number {
    const id = this.#free.pop() ?? this.#completions.length;
    this.#completions[id] = done;
    return id;
  }

  /** Copies pieces (address and length by turns, `from` up to `to`) to where the ring finds them; good until submitted. */
  table(iov: readonly number[], from: number, to: number): number {
    const bytes = (to - from) * 4;
    if (this.#table_used + bytes > TABLE_BYTES) this.submit();
    const at = this.#table + this.#table_used;
    const { dv } = this.#arena;
    for (let i = from; i < to; i++) dv.setUint32(at + (i - from) * 4, iov[i]!, true);
    this.#table_used += bytes;
    return at;
  }

  /** Hands everything that is queued to the kernel. */
  submit(): void {
    while (this.ring.queued > 0) this.ring.submit();
    this.#table_used = 0;
  }

  addWork(work: Work): () => void {
    this.#work.push(work);
    return () => {
      const i = this.#work.indexOf(work);
      if (i >= 0) this.#work.splice(i, 1);
    };
  }

  /** Runs behind all work of a turn; it may wake the loop. */
  addLast(last: () => void): () => void {
    this.#last.push(last);
    return () => {
      const i = this.#last.indexOf(last);
      if (i >= 0) this.#last.splice(i, 1);
    };
  }

  /** Says, on this thread, that a work has something to do: the next turn does not wait. */
  wake(): void {
    this.#awake = true;
  }

  #armWake(): void {
    this.ring.pollAdd(
      this.#wakefd,
      POLLIN,
      this.expect(() => {
        eventfdDrain(this.#wakefd);
        this.wakes++;
        this.#awake = true;
        if (!this.#closed) this.#armWake();
      }),
    );
  }

  /** Runs turns until `stop`. */
  start(stopped: () => void = () => {}): void {
    this.#running = true;
    this.#stopped = stopped;
    const next = (): void => {
      if (!this.#running) {
        this.#stopped();
        return;
      }
      this.turn();
      setImmediate(next);
    };
    setImmediate(next);
  }

  stop(): void {
    this.#running = false;
    this.#awake = true;
  }

  /** One turn. It waits when no work has said that it wants to go on. */
  turn(): void {
    this.turns++;
    const wait = !this.#awake;
    this.#awake = false;
    if (wait) this.#wait();
    else if (this.ring.queued > 0) this.submit();
    this.reap();
    this.#runTimers();
    // By index: a work may remove itself, and one may close the loop.
    for (let i = 0; i < this.#work.length && !this.#closed; i++) if (this.#work[i]!()) this.#awake = true;
    for (let i = 0; i < this.#last.length && !this.#closed; i++) this.#last[i]!();
  }

  #wait(): void {
    this.waits++;
    const timer = this.#timers[this.#timers.length - 1];
    const ms = timer === undefined ? -1 : Math.max(0, timer.at_ms - performance.now());
    this.ring.submitAndWait(1, ms);
    if (this.ring.queued === 0) this.#table_used = 0;
  }

  /** Delivers what has completed; the number of completions. */
  reap(): number {
    // A completion that waits for another one (a task that runs synchronously) finds an empty table; it reaps in pump.
    if (this.#reaping) return 0;
    this.#reaping = true;
    let total = 0;
    try {
      const { ring } = this;
      for (let more = true; more; ) {
        const n = ring.reap();
        more = n === ring.cq.length >> 1;
        total += n;
        // Copied by value before the call: a callback may queue, but never reaps.
        for (let i = 0; i < n; i++) this.#complete(ring.cq[2 * i]! >>> 0, ring.cq[2 * i + 1]!);
      }
    } finally {
      this.#reaping = false;
    }
    return total;
  }

  #complete(id: number, res: number): void {
    const done = this.#completions[id]!;
    this.#completions[id] = null;
    this.#free.push(id);
    done(res);
  }

  /** Waits for one completion and delivers what there is: for synchronous use at mount and unmount. */
  pump(): void {
    assert(!this.#reaping, "a completion waits for another completion");
    this.#wait();
    this.reap();
    this.#runTimers();
  }

  #runTimers(): void {
    if (this.#timers.length === 0) return;
    const now = performance.now();
    while (this.#timers.length > 0 && this.#timers[this.#timers.length - 1]!.at_ms <= now) {
      const timer = this.#timers.pop()!;
      if (timer.cancelled) continue;
      this.#awake = true;
      timer.cb();
    }
  }

  after(ms: number, cb: () => void): () => void {
    const timer: Timer = { at_ms: performance.now() + ms, cb, cancelled: false };
    let i = this.#timers.length;
    while (i > 0 && this.#timers[i - 1]!.at_ms < timer.at_ms) i--;
    this.#timers.splice(i, 0, timer);
    return () => {
      timer.cancelled = true;
      const at = this.#timers.indexOf(timer);
      if (at >= 0) this.#timers.splice(at, 1);
    };
  }

  /** The machine's clock with this loop's timers. */
  readonly clock: Clock = { ...wallClock(), after: (ms, cb) => this.after(ms, cb) };

  /** Starts a turn from another thread that knows `wakefd`. */
  static wakeFrom(wakefd: number): void {
    eventfdWake(wakefd);
  }

  /** Cancels and waits for what is in flight. The number of operations that did not end. */
  close(): number {
    this.#closed = true;
    this.#running = false;
    const left = this.ring.close();
    if (this.#wakefd_is_ours) closeFd(this.#wakefd);
    return left;
  }
}

/**
 * CLOCK_REALTIME with fractions of a millisecond: Date.now for where it stands (it follows the clock when that is set),
 * performance.now for what lies between.
 */
function wallClock(): Pick<Clock, "realtime" | "monotonic_ms"> {
  let base_ms = Date.now();
  let base_at = performance.now();
  return {
    realtime() {
      const coarse = Date.now();
      const at = performance.now();
      let ms = base_ms + (at - base_at);
      if (ms < coarse || ms >= coarse + 2) {
        base_ms = coarse;
        base_at = at;
        ms = coarse;
      }
      const sec = Math.floor(ms / 1000);
      return { sec, nsec: Math.floor((ms - sec * 1000) * 1e6) };
    },
    monotonic_ms: () => performance.now(),
  };
}
