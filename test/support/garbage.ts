/** Whether what is not needed any more is garbage: node's own collector says. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
export const gc = runInNewContext("gc") as () => void;

/** Of `n` that come and go one after the other, `at_a_time` being there at once: how many are in memory when all are gone. */
export async function leftOf(
  n: number,
  at_a_time: number,
  comes: (i: number) => object,
  goes: (i: number) => void,
): Promise<number> {
  const came: WeakRef<object>[] = [];
  for (let i = 0; i < n + at_a_time; i++) {
    if (i < n) came.push(new WeakRef(comes(i)));
    if (i >= at_a_time) goes(i - at_a_time);
  }
  // What was looked at through a WeakRef lives to the end of the turn.
  await new Promise((ok) => setImmediate(ok));
  gc();
  return came.filter((ref) => ref.deref() !== undefined).length;
}
