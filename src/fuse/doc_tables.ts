/** The tables of docs/FUSE.md, made from the rows that the code runs on; doc_tables.test.ts compares. */
import { FOPEN_ROWS, INIT_FLAGS } from "./flags.ts";
import { opTable } from "./op_table.ts";

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

/** Table by the name of its place in docs/FUSE.md. */
export function docTables(): Record<string, string> {
  return {
    "INIT flags": table(
      ["INIT flag", "local", "clustered", "why"],
      INIT_FLAGS.map((r) => [r.name, r.local, r.clustered, r.why]),
    ),
    "OPEN flags": table(
      ["OPEN flag", "local", "clustered"],
      FOPEN_ROWS.map((r) => [r.name, r.local, r.clustered]),
    ),
    requests: table(
      ["request", "answer"],
      opTable.flatMap((r) => (r === undefined ? [] : [[r.name, r.reply]])),
    ),
  };
}

/** The document with each table put between its two marks. */
export function withTables(text: string): string {
  let out = text;
  for (const [name, body] of Object.entries(docTables())) {
    const mark = `<!-- ${name} -->\n`;
    const parts = out.split(mark);
    if (parts.length !== 3) throw new Error(`docs/FUSE.md has no place for the table "${name}"`);
    out = `${parts[0]}${mark}${body}\n${mark}${parts[2]}`;
  }
  return out;
}
