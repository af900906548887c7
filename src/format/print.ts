/** Printing a structure from its table: what debugfs shows, and JSON for tests and tools. */
import type {
  AnyStruct,
  Field,
  Fields,
  FlagTable,
  Peek,
  PrintOptions,
  ScalarArray,
  StructArray,
  TailField,
  ViewBase,
} from "./struct.ts";

type Loose = Record<string, never> & ViewBase;

/** Whether the field is meaningful now: outside any union, in the arm that is picked, or nobody can tell. */
export function isActive(f: Field, v: ViewBase, parent?: ViewBase): boolean {
  if (!f.union) return true;
  const arm = f.union.pick(v as unknown as Peek, parent as unknown as Peek | undefined);
  return arm === undefined || arm === f.arm;
}

/** Names the set bits of `value`; bits the table does not know are shown in hex. */
export function flagNames(value: number, table: FlagTable): string {
  const names: string[] = [];
  let rest = value;
  for (const [k, bit] of Object.entries(table)) {
    if (bit !== 0 && Math.floor(value / bit) % 2 === 1) {
      names.push(k);
      rest -= bit;
    }
  }
  if (rest !== 0) names.push(`0x${rest.toString(16)}`);
  return names.join("|");
}

const toHex = (b: Uint8Array): string => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString("hex");

/** Elements to show: what the structure says is in use, but never more than memory holds. */
function tailCount(f: TailField, v: ViewBase): number {
  const said = f.used ?? f.cap;
  const n = said ? (v as unknown as Peek)[said]! : 0;
  const room = Math.floor((v.dv.byteLength - v.off - f.off) / f.stride);
  return Math.max(0, Math.min(n, room));
}

/** The active fields as plain data: 64-bit patterns and bytes in hex, reserved bytes only where they are not zero. */
export function structToJSON(
  s: AnyStruct,
  v: ViewBase,
  opts: PrintOptions = {},
  parent?: ViewBase,
): Record<string, unknown> {
  const max = opts.maxElems ?? 256;
  const out: Record<string, unknown> = {};
  for (const [key, f] of Object.entries(s.fields as Fields)) {
    if (!isActive(f, v, parent)) continue;
    const value: unknown = (v as Loose)[key];
    switch (f.kind) {
      case "reserved":
        if ((value as Uint8Array).some((b) => b !== 0)) out[key] = toHex(value as Uint8Array);
        break;
      case "bytes":
        out[key] = toHex(value as Uint8Array);
        break;
      case "hex64":
        out[key] = `0x${(value as bigint).toString(16).padStart(16, "0")}`;
        break;
      case "sub":
        out[key] = structToJSON(f.of, value as ViewBase, opts, v);
        break;
      case "array":
      case "tail": {
        const n = f.kind === "array" ? f.count : tailCount(f, v);
        const of = f.of;
        if (of === "u8") {
          out[key] = toHex((value as ScalarArray<number>).bytes(Math.min(n, max)));
        } else if (typeof of === "string") {
          const ref = value as ScalarArray<number | bigint>;
          out[key] = Array.from({ length: Math.min(n, max) }, (_, i) => jsonScalar(ref.get(i)));
        } else {
          const ref = value as StructArray<ViewBase>;
          out[key] = Array.from({ length: Math.min(n, max) }, (_, i) => structToJSON(of, ref.at(i), opts, v));
        }
        if (n > max) out[`${key}_more`] = n - max;
        break;
      }
      default:
        out[key] = value;
    }
  }
  return out;
}

const jsonScalar = (x: number | bigint): unknown => (typeof x === "bigint" ? `0x${x.toString(16)}` : x);

/** A line per field, flags by name, elements of lists one a line. */
export function printStruct(s: AnyStruct, v: ViewBase, opts?: PrintOptions): string {
  const lines: string[] = [`${s.name} at ${v.off}`];
  const walk = (t: AnyStruct, json: Record<string, unknown>, indent: string): void => {
    const width = Math.max(...Object.keys(json).map((k) => k.length), 0);
    for (const [key, value] of Object.entries(json)) {
      const f = (t.fields as Fields)[key];
      const head = `${indent}${key.padEnd(width)}`;
      if (f?.kind === "sub") {
        lines.push(head.trimEnd());
        walk(f.of, value as Record<string, unknown>, `${indent}  `);
      } else if (f && (f.kind === "array" || f.kind === "tail") && typeof f.of !== "string") {
        const of = f.of;
        lines.push(head.trimEnd());
        (value as Record<string, unknown>[]).forEach((e, i) => {
          lines.push(
            `${indent}  [${i}] ${Object.entries(e)
              .map(([k, x]) => `${k} ${show(of, k, x)}`)
              .join(", ")}`,
          );
        });
      } else {
        lines.push(`${head}  ${show(t, key, value)}`);
      }
    }
  };
  walk(s, structToJSON(s, v, opts), "  ");
  return `${lines.join("\n")}\n`;
}

function show(s: AnyStruct, key: string, value: unknown): string {
  const f = (s.fields as Fields)[key];
  if (f?.flags && typeof value === "number") {
    const names = flagNames(value, f.flags);
    return `0x${value.toString(16)}${names ? ` (${names})` : ""}`;
  }
  if (f?.kind === "cstr") return JSON.stringify(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
