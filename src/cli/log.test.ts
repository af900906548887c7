/** What a flood of messages leaves in the log. */
import { expect, test } from "vitest";
import { SimClock } from "../lib/sim_clock.ts";
import { limited } from "./log.ts";

test("errors without end are not written without end, and it is said how many were not; masks that are switched on are written whole, and why a node ends", () => {
  const clock = new SimClock();
  const lines: string[] = [];
  const log = limited(
    (line) => lines.push(line),
    () => clock.monotonic_ms(),
  );
  const flood = (): void => {
    for (let i = 0; i < 1000; i++) {
      log(`ocfs2: NOTICE: o2net: Attempt to connect from unknown node at 10.9.9.9:${i}`);
      log(`ocfs2: MSG: ${i}`);
      clock.run(1);
    }
  };
  flood();
  log("ocfs2: ERROR: *** ocfs2 is very sorry to be fencing this node: why ***");
  const count = (what: string): number => lines.filter((l) => l.includes(what)).length;
  expect([count("unknown node"), count("MSG"), count("very sorry")]).toEqual([200, 1000, 1]);
  clock.run(10_000);
  lines.length = 0;
  flood();
  expect(lines[0]).toBe("ocfs2: NOTICE: 800 more lines came at once and were not written");
  expect([count("unknown node"), count("MSG")]).toEqual([200, 1000]);
});
