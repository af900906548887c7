/** Times as node's utimes takes them: seconds as a number or its text, or a Date. */
import type { Timestamp } from "../vfs/file.ts";
import { codedError } from "./errors.ts";

export type TimeLike = number | string | Date;

function seconds(time: TimeLike, name: string): number {
  if (time instanceof Date) return time.getTime() / 1000;
  // Text that is no number is none; "" and blanks are 0, as JavaScript has it.
  const n = typeof time === "string" ? Number(time) : time;
  if (typeof n === "number" && Number.isFinite(n)) return n;
  throw codedError("ERR_INVALID_ARG_TYPE", `The "${name}" argument must be a number, a string or a Date.`, TypeError);
}

/**
 * A time as it goes to the disk: whole seconds, downwards, and nanoseconds. A number below zero is now, as node has it; text and a Date below it are
 * times before 1970.
 */
export function timestampOf(time: TimeLike, name: string): Timestamp | "now" {
  const s = seconds(time, name);
  if (s < 0 && typeof time === "number") return "now";
  const sec = Math.floor(s);
  return { sec, nsec: Math.trunc((s - sec) * 1e9) };
}

/** Both, as a change of attributes. */
export const timesOf = (atime: TimeLike, mtime: TimeLike): { atime: Timestamp | "now"; mtime: Timestamp | "now" } => ({
  atime: timestampOf(atime, "atime"),
  mtime: timestampOf(mtime, "mtime"),
});
