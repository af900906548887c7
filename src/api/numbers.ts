/**
 * Numbers as node's functions take them (validateInteger): what is none, or out of its range, is refused before anything is changed. Taken as JavaScript
 * takes it, a user's name would be root's number, and a length that is missing 0.
 */
import { codedError, invalidArg } from "./errors.ts";

export function integerOf(
  value: unknown,
  name: string,
  min = Number.MIN_SAFE_INTEGER,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== "number") throw invalidArg(name, "of type number", value);
  const should = !Number.isInteger(value) ? "an integer" : value < min || value > max ? `>= ${min} && <= ${max}` : "";
  if (should !== "")
    throw codedError(
      "ERR_OUT_OF_RANGE",
      `The value of "${name}" is out of range. It must be ${should}. Received ${value}`,
      RangeError,
    );
  return value;
}

const NO_ID = 2 ** 32 - 1;

/** A user or group; undefined where it is to stay as it is: -1, as chown(2) has it. */
export function idOf(value: unknown, name: string): number | undefined {
  const id = integerOf(value, name, -1, NO_ID);
  return id === -1 || id === NO_ID ? undefined : id;
}

/** A length to cut a file to; 0 for one below that. */
export const lengthOf = (len: unknown): number => Math.max(0, integerOf(len, "len"));

/** A mode: a number, or octal text (parseFileMode); `otherwise` when none is given. */
export function modeOf(mode: unknown, otherwise?: number): number {
  const given = mode ?? otherwise;
  if (typeof given === "string" && !/^[0-7]+$/.test(given))
    throw codedError(
      "ERR_INVALID_ARG_VALUE",
      `The argument 'mode' must be a 32-bit unsigned integer or an octal string. Received '${given}'`,
      TypeError,
    );
  return integerOf(typeof given === "string" ? Number.parseInt(given, 8) : given, "mode", 0, 2 ** 32 - 1) & 0o7777;
}

/** A place in a file; undefined for what is none, which is the handle's own then (GET_OFFSET of node's binding). */
export function placeOf(position: unknown): number | undefined {
  if (typeof position === "bigint") return position < 0n ? undefined : Number(position);
  return Number.isSafeInteger(position) && (position as number) >= 0 ? (position as number) : undefined;
}
