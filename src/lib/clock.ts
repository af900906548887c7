import { closeSync, openSync, readSync } from "node:fs";

/** Time and chance are handed in, so that the same code runs in the simulator. */
export interface Clock {
  /** Wall clock, in nanoseconds since 1970 split in seconds and the rest, as timestamps on disk want it. */
  realtime(): { sec: number; nsec: number };
  /** Milliseconds since some fixed point; never goes back. */
  monotonic_ms(): number;
  /** Calls once after `ms`; the returned function calls it off. */
  after(ms: number, cb: () => void): () => void;
}

export interface Random {
  /** An integer in [0, 2^32). */
  u32(): number;
}

/** A longer one fires at once (24.8 days; time-outs of the cluster may have 49.7). */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The machine's clock. `after` uses the event loop; the volume thread hands in a Clock whose timers come from its ring. */
export const systemClock: Clock = {
  realtime() {
    const ms = Date.now();
    return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1e6 };
  },
  monotonic_ms: () => performance.now(),
  after(ms, cb) {
    let t: NodeJS.Timeout;
    const wait = (left_ms: number): void => {
      const more = left_ms > TIMER_MAX_MS;
      t = more ? setTimeout(wait, TIMER_MAX_MS, left_ms - TIMER_MAX_MS) : setTimeout(cb, left_ms);
    };
    wait(ms);
    return () => clearTimeout(t);
  },
};

/** xorshift32: a seeded Random for tests and simulation. */
export function seededRandom(seed: number): Random {
  let x = seed >>> 0 || 0x9e3779b9;
  return {
    u32() {
      x ^= x << 13;
      x >>>= 0;
      x ^= x >>> 17;
      x ^= x << 5;
      x >>>= 0;
      return x;
    },
  };
}

const drawn = new Uint32Array(64);
let left = 0;

/** The kernel's chance. Read from its device: Node's crypto takes milliseconds to load, and a command may ask for a few words only. */
export const systemRandom: Random = {
  u32() {
    if (left === 0) {
      const fd = openSync("/dev/urandom", "r");
      left = readSync(fd, drawn) / drawn.BYTES_PER_ELEMENT;
      closeSync(fd);
    }
    return drawn[--left]!;
  },
};
