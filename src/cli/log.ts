/** Where the lines of the log go: to standard error, at once and with their time, which is what puts the logs of several nodes side by side. */
import { writeSync } from "node:fs";
import { mlogSet, mlogSink, mlogStates } from "../lib/masklog.ts";

const STDERR = 2;

/** Through the main thread a thread's last lines would come after its end. */
export const logToStderr = (): void =>
  mlogSink((line) => {
    try {
      writeSync(STDERR, `${new Date().toISOString()} ${line}\n`);
    } catch {
      // A terminal that has gone, a full /run: a line is lost, and no volume for it.
    }
  });

/** The masks of this thread, for one that it starts. */
export type LogMasks = readonly (readonly [mask: string, state: "allow" | "off"])[];
export const logMasks = (): LogMasks => mlogStates();

export function setLogMasks(masks: LogMasks): void {
  for (const [mask, state] of masks) mlogSet(mask, state);
}
