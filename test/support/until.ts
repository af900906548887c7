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
