/**
 * fs_locks, dlm_locks and net_stats as commands: where their text comes from (the node that has the volume mounted, or a file with -f), and
 * which locks of it are shown.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { Session } from "./commands.ts";
import { DebugfsError } from "./image.ts";
import {
  type DlmLockres,
  type FsLock,
  type NetStats,
  parseDlmLockres,
  parseFsLock,
  parseNetStats,
  printDlmLockres,
  printFsLock,
  printNetStats,
} from "./locks.ts";

/** A running node of this machine; throws DebugfsError with the remedy when there is none. */
export interface LiveNode {
  /** The text of a locking_state, in pieces; of the locks with these names, or of all. */
  locks(device: string, what: "fs_locks" | "dlm_locks", names: readonly string[]): AsyncIterable<string>;
  netStats(device: string): Promise<string>;
}

/** Thrown for wrong arguments. */
export class Usage extends Error {}

interface Args {
  readonly file: string | undefined;
  readonly flags: ReadonlySet<string>;
  readonly rest: readonly string[];
}

/** As getopt: flags may be written together, and stand before the rest. */
function parseArgs(args: readonly string[], known: string): Args {
  const flags = new Set<string>();
  let file: string | undefined;
  let i = 0;
  for (; i < args.length && args[i]!.startsWith("-"); i++) {
    for (const letter of args[i]!.slice(1)) {
      if (letter === "f") {
        file = args[++i];
        if (file === undefined) throw new Usage();
      } else if (known.includes(letter)) flags.add(letter);
      else throw new Usage();
    }
  }
  return { file, flags, rest: args.slice(i) };
}

function live(s: Session): LiveNode {
  if (s.v === null) throw new DebugfsError("No device open");
  if (s.live === null) throw new DebugfsError("this program does not ask running nodes: give a saved copy with -f");
  return s.live;
}

async function* linesOf(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  let text = "";
  for await (const piece of pieces) {
    text += piece;
    const lines = text.split("\n");
    text = lines.pop()!;
    yield* lines;
  }
  if (text !== "") yield text;
}

function fileLines(path: string): AsyncIterable<string> {
  return createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
}

const lines = (s: Session, a: Args, what: "fs_locks" | "dlm_locks"): AsyncIterable<string> =>
  a.file === undefined ? linesOf(live(s).locks(s.device, what, a.rest)) : fileLines(a.file);

/** Shows the items with a wanted name; complains of names that nothing has. */
async function show<T extends { lockres: string }>(
  s: Session,
  items: AsyncIterable<T>,
  names: readonly string[],
  json: boolean,
  print: (item: T) => void,
): Promise<void> {
  const missing = new Set(names);
  let first = true;
  if (json) s.out("[");
  for await (const item of items) {
    if (names.length > 0 && !names.includes(item.lockres)) continue;
    missing.delete(item.lockres);
    if (json) s.out(`${first ? "" : ","}${JSON.stringify(item)}`);
    else print(item);
    first = false;
    if (names.length > 0 && missing.size === 0) break;
  }
  if (json) s.out("]");
  if (missing.size > 0) throw new DebugfsError(`no such lock here: ${[...missing].join(" ")}`);
}

async function* fsLocksOf(text: AsyncIterable<string>, busy: boolean): AsyncGenerator<FsLock> {
  for await (const line of text) {
    if (line.trim() === "") continue;
    const lock = parseFsLock(line);
    if (!busy || lock.flags.includes("Busy")) yield lock;
  }
}

async function* lockresOf(text: AsyncIterable<string>): AsyncGenerator<DlmLockres> {
  let record: string[] = [];
  for await (const line of text) {
    if (line !== "") record.push(line);
    else if (record.length > 0) {
      yield parseDlmLockres(record);
      record = [];
    }
  }
  if (record.length > 0) yield parseDlmLockres(record);
}

export async function fsLocks(s: Session, args: readonly string[], json: boolean): Promise<void> {
  const a = parseArgs(args, "lB");
  const found = fsLocksOf(lines(s, a, "fs_locks"), a.flags.has("B"));
  await show(s, found, a.rest, json, (l) => printFsLock(s.out, l, a.flags.has("l")));
}

export async function dlmLocks(s: Session, args: readonly string[], json: boolean): Promise<void> {
  const a = parseArgs(args, "l");
  const found = lockresOf(lines(s, a, "dlm_locks"));
  await show(s, found, a.rest, json, (r) => printDlmLockres(s.out, r, a.flags.has("l")));
}

function count(text: string | undefined): number {
  if (text === undefined) return 0;
  if (!/^\d+$/.test(text)) throw new Usage();
  return Number(text);
}

/** `interval` seconds, `count` times; for ever without a count, once without an interval. */
export async function netStats(s: Session, args: readonly string[], json: boolean): Promise<void> {
  const a = parseArgs(args, "");
  const interval_s = count(a.rest[0]);
  const times = interval_s === 0 ? 1 : count(a.rest[1]) || Number.POSITIVE_INFINITY;
  let before: NetStats[] = [];
  for (let i = 0; i < times; i++) {
    if (i > 0) await new Promise((ok) => setTimeout(ok, interval_s * 1000));
    const now = parseNetStats(a.file === undefined ? await live(s).netStats(s.device) : await textOfFile(a.file));
    if (json) s.out(JSON.stringify(now));
    else printNetStats(s.out, now, before, interval_s);
    s.flush();
    before = now;
  }
}

async function textOfFile(path: string): Promise<string> {
  let text = "";
  for await (const line of fileLines(path)) text += `${line}\n`;
  return text;
}
