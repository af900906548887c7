/**
 * Options as node's functions take them (getOptions, validateBoolean): an encoding for short, or an object. What is neither, and what
 * they have no such value for, is refused before anything is opened: a file that is to be written would be empty by then.
 */
import { codedError, invalidArg } from "./errors.ts";

export type Encoding = BufferEncoding | "buffer";

/** What functions that read names take: an encoding, or an object with one. */
export type NameOptions = { readonly encoding?: Encoding | null | undefined } | Encoding | null;

interface Common {
  readonly encoding?: Encoding | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

function checkEncoding(encoding: unknown): void {
  if (!encoding || encoding === "buffer" || Buffer.isEncoding(encoding as string)) return;
  throw codedError(
    "ERR_INVALID_ARG_VALUE",
    `The argument 'encoding' is invalid encoding. Received '${String(encoding)}'`,
    TypeError,
  );
}

export function optionsOf<O extends Common>(options: O | Encoding | null | undefined): O {
  // A callback where options may stand.
  if (options === null || options === undefined || typeof options === "function") return {} as O;
  const o = typeof options === "string" ? ({ encoding: options } as O) : options;
  if (typeof o !== "object") throw invalidArg("options", "of type string or an instance of Object", o);
  checkEncoding(o.encoding);
  if (o.signal !== undefined && (typeof o.signal !== "object" || o.signal === null || !("aborted" in o.signal)))
    throw invalidArg("options.signal", "an instance of AbortSignal", o.signal);
  return o;
}

/** True or false; false when not given. */
export function booleanOf(value: unknown, name: string): boolean {
  if (value === undefined) return false;
  if (typeof value !== "boolean") throw invalidArg(name, "of type boolean", value);
  return value;
}

/** An object, or none. */
export function objectOf<O extends object>(options: O | undefined): O {
  if (options === undefined) return {} as O;
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw invalidArg("options", "of type object", options);
  return options;
}

/** A name in the encoding that was asked for. */
export const nameIn = (name: Buffer, encoding: Encoding | null | undefined): string | Buffer =>
  encoding === "buffer" ? name : name.toString(encoding || "utf8");
