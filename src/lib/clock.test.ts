import { expect, test } from "vitest";
import { systemClock } from "./clock.ts";

test("a timer of a month, as a time-out may be, does not fire at once", async () => {
  const fired: string[] = [];
  const off = [2 ** 31 - 1, 2 ** 31, 4_000_000_000].map((ms) => systemClock.after(ms, () => fired.push(`${ms} ms`)));
  await new Promise<void>((ok) => void systemClock.after(50, ok));
  for (const end of off) end();
  expect(fired).toEqual([]);
});
