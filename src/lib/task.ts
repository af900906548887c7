/**
 * Tasks: work of several steps that wait for I/O between them (a journal commit, a truncate in bounded transactions, a
 * mount). A task is a generator that yields thunks. Unlike a promise, a thunk that is answered at once resumes the task
 * at once, so the same code runs under the volume thread's ring, under an event loop, and wholly synchronously in tools
 * and tests (`runTaskSync`).
 */
import { assert } from "./fs_error.ts";

export type Callback<T> = (err: unknown, value?: T) => void;
export type Thunk<T> = (cb: Callback<T>) => void;
// biome-ignore lint/suspicious/noExplicitAny: what a yield evaluates to is typed by `wait`
export type Task<T> = Generator<Thunk<any>, T, any>;

/** Waits inside a task: `const n = yield* wait(thunk)`. */
export function* wait<T>(thunk: Thunk<T>): Task<T> {
  return (yield thunk) as T;
}

/** Starts a task; `done` is called exactly once, before spawn returns if the task never had to wait. */
export function spawn<T>(task: Task<T>, done: Callback<T>): void {
  let resuming = false;
  let answered = false;
  let error: unknown = null;
  let value: unknown;
  const pump = (): void => {
    if (resuming) return;
    resuming = true;
    try {
      while (answered) {
        answered = false;
        const step: IteratorResult<Thunk<unknown>, T> = error === null ? task.next(value) : task.throw(error);
        if (step.done === true) {
          done(null, step.value);
          return;
        }
        let called = false;
        step.value((err, v) => {
          assert(!called, "a thunk answered twice");
          called = true;
          error = err ?? null;
          value = v;
          answered = true;
          pump();
        });
      }
      resuming = false;
    } catch (err) {
      done(err);
    }
  };
  answered = true;
  pump();
}

/** Runs thunks at the same time; the first error is reported after all have answered. */
export function* all<T>(thunks: Thunk<T>[]): Task<T[]> {
  if (thunks.length === 0) return [];
  return yield* wait<T[]>((cb) => {
    const values = new Array<T>(thunks.length);
    let left = thunks.length;
    let failure: unknown = null;
    thunks.forEach((thunk, i) => {
      thunk((err, v) => {
        if (err) failure ??= err;
        values[i] = v as T;
        if (--left === 0) cb(failure, values);
      });
    });
  });
}

/** A task for each item, so many at the same time. */
export function* inBatches<T>(items: readonly T[], at_once: number, make: (item: T) => Task<void>): Task<void> {
  for (let i = 0; i < items.length; i += at_once)
    yield* all(items.slice(i, i + at_once).map((item) => asThunk(() => make(item))));
}

/** A task as a thunk, to run several at the same time or to hand one to a caller. */
export const asThunk =
  <T>(make: () => Task<T>): Thunk<T> =>
  (cb) =>
    spawn(make(), cb);

export function runTask<T>(task: Task<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    spawn(task, (err, v) => (err ? reject(err) : resolve(v as T)));
  });
}

/** Runs a task to its end on this thread; `pump` blocks until something completed and returns false if nothing can. */
export function runTaskSync<T>(task: Task<T>, pump: () => boolean): T {
  let finished = false;
  let failure: unknown = null;
  let result: T | undefined;
  spawn(task, (err, v) => {
    finished = true;
    failure = err ?? null;
    result = v;
  });
  while (!finished) assert(pump(), "a task waits, but nothing is in flight");
  if (failure !== null) throw failure;
  return result as T;
}
