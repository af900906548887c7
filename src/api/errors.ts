/**
 * Errors as node:fs has them, so that a program that asks for `err.code === "ENOENT"` finds it. A failure of an operation
 * becomes a plain Error with errno (negative), code, syscall, path and dest; the FsError with its numbers is its cause. A broken
 * invariant passes as it is.
 */
import { getSystemErrorMap } from "node:util";
import { errnoName } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";

/** What went wrong, in the shape of node's SystemError. */
export interface SystemError extends Error {
  errno: number;
  code: string;
  syscall: string;
  path?: string;
  dest?: string;
}

/** Which call on which file: for messages. */
export interface CallInfo {
  readonly syscall: string;
  readonly path?: string;
  readonly dest?: string;
}

/** "ENOENT: no such file or directory, open '/a'" with node's fields. `errno` is positive here. */
export function systemError(errno: number, call: CallInfo, cause?: unknown): SystemError {
  const known = getSystemErrorMap().get(-errno);
  const code = known?.[0] ?? errnoName(errno);
  const text = known?.[1] ?? "the operation failed";
  const from = call.path === undefined ? "" : ` '${call.path}'`;
  const to = call.dest === undefined ? "" : ` -> '${call.dest}'`;
  const err = new Error(`${code}: ${text}, ${call.syscall}${from}${to}`) as SystemError;
  err.errno = -errno;
  err.code = code;
  err.syscall = call.syscall;
  if (call.path !== undefined) err.path = call.path;
  if (call.dest !== undefined) err.dest = call.dest;
  // Not enumerable, as node's own cause: a printed error stays short.
  if (cause !== undefined) Object.defineProperty(err, "cause", { value: cause, configurable: true, writable: true });
  return err;
}

/** What an operation threw, as the caller of the library shall see it. */
export const asSystemError = (err: unknown, call: CallInfo): unknown =>
  err instanceof FsError ? systemError(err.errno, call, err) : err;

/** A misuse of the interface, with one of node's ERR_ codes. */
export function codedError(code: string, message: string, make: new (message: string) => Error = Error): Error {
  const err = new make(message);
  Object.defineProperty(err, "code", { value: code, enumerable: true, configurable: true, writable: true });
  return err;
}

export const invalidArg = (name: string, expected: string, value: unknown): Error =>
  codedError(
    "ERR_INVALID_ARG_TYPE",
    `The "${name}" argument must be ${expected}. Received ${value === null ? "null" : typeof value}`,
    TypeError,
  );

/** One that is misspelt must not be passed over. */
export function checkOptionNames(o: unknown, known: readonly string[]): void {
  if (typeof o !== "object" || o === null) throw invalidArg("options", "an object", o);
  for (const name of Object.keys(o))
    if (!known.includes(name))
      throw codedError(
        "ERR_INVALID_ARG_VALUE",
        `There is no option "${name}"; there are ${known.join(", ")}`,
        TypeError,
      );
}

export const hasCode = (err: unknown, code: string): boolean =>
  typeof err === "object" && err !== null && (err as { code?: unknown }).code === code;

/** Throws an AbortError, as node's functions with a `signal` do. */
export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted !== true) return;
  const err = codedError("ABORT_ERR", "The operation was aborted");
  err.name = "AbortError";
  Object.defineProperty(err, "cause", { value: signal.reason, configurable: true, writable: true });
  throw err;
}
