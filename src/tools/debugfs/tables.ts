/** Any structure by its name, printed from its table: for what no command shows. */
import * as disk from "../../format/disk/index.ts";
import * as jbd2 from "../../format/jbd2/index.ts";
import type { AnyStruct } from "../../format/struct.ts";
import { DebugfsError } from "./image.ts";
import type { Out } from "./print.ts";

const isStruct = (x: unknown): x is AnyStruct => typeof x === "object" && x !== null && "fields" in x && "View" in x;

const TABLES: ReadonlyMap<string, AnyStruct> = new Map(
  [...Object.values(disk), ...Object.values(jbd2)].filter(isStruct).map((s) => [s.name, s]),
);

/** `name` as in C, its "ocfs2_" may be left out; `off` is where in the block it begins. */
export function printTable(out: Out, name: string, block: Uint8Array, off: number): void {
  const table = TABLES.get(name) ?? TABLES.get(`ocfs2_${name}`);
  if (table === undefined)
    throw new DebugfsError(`no structure ${name}; there are ${[...TABLES.keys()].sort().join(", ")}`);
  if (off + table.size > block.length) throw new DebugfsError(`${table.name} does not fit the block at ${off}`);
  for (const line of table.print(table.from(block, off)).trimEnd().split("\n")) out(line);
}
