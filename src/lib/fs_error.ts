/**
 * The failures that a caller may see. Four kinds are kept apart (docs/ARCHITECTURE.md, "Errors"): expected answers are
 * values; an operation that fails throws FsError; bad contents on the disk throw Corruption; a broken invariant of ours
 * calls assert. Only the edge (fuse, api, cli) turns an FsError into a reply, and logs it once.
 */
import { Errno, errnoName } from "./errno.ts";

export type Details = Record<string, number | string | bigint | boolean | undefined>;

function detailText(details: Details): string {
  const parts = Object.entries(details)
    .filter(([, v]) => v !== undefined)
    .map(([k, v]) => `${k} ${v}`);
  return parts.length === 0 ? "" : `: ${parts.join(", ")}`;
}

/** An operation failed: `errno` for the caller, `where` ("extents.insert") and the numbers involved for the log. No stack: it is an answer, not a bug. */
export class FsError extends Error {
  readonly errno: number;
  readonly where: string;
  readonly details: Details;

  constructor(errno: number, where: string, details: Details = {}) {
    const limit = Error.stackTraceLimit;
    if (process.env["OCFS2_DEBUG"] !== "1") Error.stackTraceLimit = 0;
    super(`${errnoName(errno)} in ${where}${detailText(details)}`);
    Error.stackTraceLimit = limit;
    this.name = "FsError";
    this.errno = errno;
    this.where = where;
    this.details = details;
  }

  /** "ENOSPC", as node:fs has it. */
  get code(): string {
    return errnoName(this.errno);
  }
}

/** The disk holds something that cannot be: EIO to the user, and super applies errors= to the mount. */
export class Corruption extends FsError {
  constructor(where: string, details: Details = {}) {
    super(Errno.EIO, where, details);
    this.name = "Corruption";
    this.message = `corruption found by ${where}${detailText(details)}`;
  }
}

/** A state of our own that must not be. Dying is safe (the journal recovers us); going on is not. */
export class AssertionFailure extends Error {
  constructor(message: string) {
    super(`assertion failed: ${message}`);
    this.name = "AssertionFailure";
  }
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

export function unreachable(message: string): never {
  throw new AssertionFailure(message);
}

export const enospc = (where: string, details?: Details): FsError => new FsError(Errno.ENOSPC, where, details);
export const einval = (where: string, details?: Details): FsError => new FsError(Errno.EINVAL, where, details);
export const enoent = (where: string, details?: Details): FsError => new FsError(Errno.ENOENT, where, details);
export const eio = (where: string, details?: Details): FsError => new FsError(Errno.EIO, where, details);
export const estale = (where: string, details?: Details): FsError => new FsError(Errno.ESTALE, where, details);
export const erofs = (where: string, details?: Details): FsError => new FsError(Errno.EROFS, where, details);

/** Native and Wasm calls answer with a negative errno: pass a good result on, throw for a bad one. */
export function check(rc: number, where: string, details?: Details): number {
  if (rc < 0) throw new FsError(-rc, where, details);
  return rc;
}
