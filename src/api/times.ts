/** Times as node's utimes takes them: seconds as a number or its text, or a Date. */
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import type { Timestamp } from "../vfs/file.ts";
import { codedError } from "./errors.ts";

export type TimeLike = number | string | Date;

function seconds(time: TimeLike, name: string): number {
  if (time instanceof Date) return time.getTime() / 1000;
  const n = typeof time === "string" && time.trim() !== "" ? Number(time) : time;
  if (typeof n === "number" && Number.isFinite(n)) return n;
  throw codedError("ERR_INVALID_ARG_TYPE", `The "${name}" argument must be a number, a string or a Date.`, TypeError);
}

/** A time as it goes to the disk: whole seconds, downwards, and nanoseconds. EINVAL before 1970: the disk cannot say it. */
export function timestampOf(time: TimeLike, name: string): Timestamp {
  const s = seconds(time, name);
  if (s < 0) throw new FsError(Errno.EINVAL, "api.utimes", { [name]: s });
  const sec = Math.trunc(s);
  return { sec, nsec: Math.trunc((s - sec) * 1e9) };
}
