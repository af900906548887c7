/** Where the lines of the log go: to standard error, at once and with their time, which is what puts the logs of several nodes side by side. */
import { writeSync } from "node:fs";
import { mlogSet, mlogSink, mlogStates } from "../lib/masklog.ts";

const STDERR = 2;

/** Errors and notices that are written, of a thread in so long: who connects without end, or a broken volume, has any number to offer, and /run is memory. */
const LINES_MAX = 200;
const LINES_MS = 10_000;

/** Hands on what is not too much. Masks that somebody has switched on are never, nor is the end of the node, which begins with ***. */
export function limited(write: (line: string) => void, now_ms: () => number): (line: string) => void {
  let since_ms = Number.NEGATIVE_INFINITY;
  let lines = 0;
  return (line) => {
    if (!/^ocfs2: (ERROR|NOTICE): (?!\*\*\*)/.test(line)) return write(line);
    if (now_ms() - since_ms > LINES_MS) {
      if (lines > LINES_MAX) write(`ocfs2: NOTICE: ${lines - LINES_MAX} more lines came at once and were not written`);
      since_ms = now_ms();
      lines = 0;
    }
    if (++lines <= LINES_MAX) write(line);
  };
}

function toStderr(line: string): void {
  try {
    writeSync(STDERR, `${new Date().toISOString()} ${line}\n`);
  } catch {
    // A terminal that has gone, a full /run: a line is lost, and no volume for it.
  }
}

/** Through the main thread a thread's last lines would come after its end. */
export const logToStderr = (): void => mlogSink(limited(toStderr, () => performance.now()));

/** The masks of this thread, for one that it starts. */
export type LogMasks = readonly (readonly [mask: string, state: "allow" | "off"])[];
export const logMasks = (): LogMasks => mlogStates();

export function setLogMasks(masks: LogMasks): void {
  for (const [mask, state] of masks) mlogSet(mask, state);
}
