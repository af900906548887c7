/** What the flags of an open say: node's words ("r+", "wx") or the numbers of open(2). */
import { constants } from "node:fs";
import { codedError } from "./errors.ts";
import { integerOf } from "./numbers.ts";

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_SYNC } = constants;
const O_ACCMODE = 3;

const WORDS: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  sr: O_RDONLY | O_SYNC,
  "r+": O_RDWR,
  "rs+": O_RDWR | O_SYNC,
  "sr+": O_RDWR | O_SYNC,
  w: O_TRUNC | O_CREAT | O_WRONLY,
  wx: O_TRUNC | O_CREAT | O_WRONLY | O_EXCL,
  xw: O_TRUNC | O_CREAT | O_WRONLY | O_EXCL,
  "w+": O_TRUNC | O_CREAT | O_RDWR,
  "wx+": O_TRUNC | O_CREAT | O_RDWR | O_EXCL,
  "xw+": O_TRUNC | O_CREAT | O_RDWR | O_EXCL,
  a: O_APPEND | O_CREAT | O_WRONLY,
  ax: O_APPEND | O_CREAT | O_WRONLY | O_EXCL,
  xa: O_APPEND | O_CREAT | O_WRONLY | O_EXCL,
  as: O_APPEND | O_CREAT | O_WRONLY | O_SYNC,
  sa: O_APPEND | O_CREAT | O_WRONLY | O_SYNC,
  "a+": O_APPEND | O_CREAT | O_RDWR,
  "ax+": O_APPEND | O_CREAT | O_RDWR | O_EXCL,
  "xa+": O_APPEND | O_CREAT | O_RDWR | O_EXCL,
  "as+": O_APPEND | O_CREAT | O_RDWR | O_SYNC,
  "sa+": O_APPEND | O_CREAT | O_RDWR | O_SYNC,
};

/** A file's open flags, taken apart. */
export interface OpenFlags {
  readonly reads: boolean;
  readonly writes: boolean;
  readonly create: boolean;
  readonly exclusive: boolean;
  readonly truncate: boolean;
  readonly append: boolean;
  /** Each write is durable when it answers: O_SYNC, or with `datasync` O_DSYNC. */
  readonly sync: boolean;
  readonly datasync: boolean;
  readonly directory: boolean;
  readonly nofollow: boolean;
  readonly noatime: boolean;
}

export function openFlags(flags?: string | number | null): OpenFlags {
  const given = flags ?? "r";
  const bits = typeof given === "number" ? integerOf(given, "flags", -(2 ** 31), 2 ** 31 - 1) : WORDS[given];
  if (bits === undefined)
    throw codedError("ERR_INVALID_ARG_VALUE", `The argument 'flags' is invalid. Received '${flags}'`, TypeError);
  const access = bits & O_ACCMODE;
  return {
    reads: access !== O_WRONLY,
    writes: access !== O_RDONLY,
    create: (bits & O_CREAT) !== 0,
    exclusive: (bits & O_EXCL) !== 0,
    truncate: (bits & O_TRUNC) !== 0,
    append: (bits & O_APPEND) !== 0,
    sync: (bits & O_SYNC) === O_SYNC,
    datasync: (bits & constants.O_DSYNC) !== 0,
    directory: (bits & constants.O_DIRECTORY) !== 0,
    nofollow: (bits & constants.O_NOFOLLOW) !== 0,
    noatime: (bits & constants.O_NOATIME) !== 0,
  };
}
