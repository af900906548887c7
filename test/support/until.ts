import { afterEach } from "vitest";

/** Turns of the event loop until it holds. */
export async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((ok) => setImmediate(ok));
}

/** What a test puts in is called when it ends, the last first. */
export function undoAfterEach(): (() => void)[] {
  const undo: (() => void)[] = [];
  afterEach(() => {
    for (const fn of undo.splice(0).reverse()) fn();
  });
  return undo;
}

/** What nobody catches while `cause` has its effect; in place of vitest, which would take it for a failure. */
export async function nextUncaught(cause: () => void): Promise<unknown> {
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  try {
    return await new Promise((ok) => {
      process.once("uncaughtException", ok);
      cause();
    });
  } finally {
    for (const listener of others) process.on("uncaughtException", listener);
  }
}
