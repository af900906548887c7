/**
 * The struct language: a structure is declared once, as a table with its offsets written out, and everything that
 * needs the layout (views, printing, FORMAT.md, AssemblyScript offsets, fuzzing, tests) reads that table.
 *
 * Without it each consumer keeps its own copy of the offsets and they drift. A table that overlaps itself, leaves a
 * hole or misses its size does not import.
 *
 * A view is a cursor of two words, a DataView and an offset; it copies nothing. Do not keep one across an await.
 * Why it is built this way and what it costs: docs/FORMAT.md, "How to read the tables".
 */

import { printStruct, structToJSON } from "./print.ts";
import { type MadeView, makeView } from "./view.ts";

export { flagNames, isActive } from "./print.ts";

export type Order = "le" | "be" | "host";
export type NumKind = "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "s64";
export type ScalarKind = NumKind | "hex64";
export type FlagTable = Readonly<Record<string, number>>;

export interface Meta {
  readonly off: number;
  /** Bytes the field covers; 0 for a tail. */
  readonly size: number;
  readonly doc: string;
  readonly flags?: FlagTable;
  /** Set by union(): which union the field belongs to and which of its arms. */
  readonly union?: UnionInfo;
  readonly arm?: string;
}
export interface NumField extends Meta {
  readonly kind: NumKind;
}
export interface BigField extends Meta {
  readonly kind: "hex64";
}
export interface BytesField extends Meta {
  readonly kind: "bytes" | "reserved";
}
export interface StrField extends Meta {
  readonly kind: "cstr";
}
export interface SubField<S extends AnyStruct = AnyStruct> extends Meta {
  readonly kind: "sub";
  readonly of: S;
}
export type Elem = ScalarKind | AnyStruct;
export interface ArrayField<E extends Elem = Elem> extends Meta {
  readonly kind: "array";
  readonly of: E;
  readonly stride: number;
  readonly count: number;
}
export interface TailField<E extends Elem = Elem> extends Meta {
  readonly kind: "tail";
  readonly of: E;
  readonly stride: number;
  /** Names of the sibling fields that hold the number of elements in use, and the room for them. */
  readonly used?: string;
  readonly cap?: string;
}
export type Field = NumField | BigField | BytesField | StrField | SubField | ArrayField | TailField;
export type Fields = Readonly<Record<string, Field>>;

/** What a union's pick function sees: sibling fields by name. */
export type Peek = { readonly [field: string]: number };
export type Pick1 = (v: Peek, parent?: Peek) => string | undefined;
export interface UnionInfo {
  readonly name: string;
  readonly arms: readonly string[];
  /** Names the arm that is in force, or undefined when the structure alone cannot tell. */
  readonly pick: Pick1;
}

/** Elements of a fixed array or a flexible tail, by index. `off` is arithmetic only and never touches memory. */
export interface ScalarArray<T> {
  readonly count: number;
  get(i: number): T;
  set(i: number, v: T): void;
  off(i: number): number;
  /** `n` bytes from the array's first byte. */
  bytes(n: number): Uint8Array;
}
export interface StructArray<V> {
  readonly count: number;
  at(i: number): V;
  off(i: number): number;
  bytes(n: number): Uint8Array;
}

export interface ViewBase {
  dv: DataView;
  off: number;
  /** Moves the cursor to another offset of the same arena. */
  seek(off: number): this;
  /** The structure's own bytes, without its tail. */
  bytes(): Uint8Array;
}

type ElemRef<E> = E extends "hex64"
  ? ScalarArray<bigint>
  : E extends NumKind
    ? ScalarArray<number>
    : E extends Struct<infer F>
      ? StructArray<View<F>>
      : never;
type RefKeys<F> = { [K in keyof F]: F[K] extends { kind: "sub" | "array" | "tail" } ? K : never }[keyof F];
type ArrKeys<F> = { [K in keyof F]: F[K] extends { kind: "array" | "tail" } ? K : never }[keyof F];
type ValueOf<F> = F extends { kind: NumKind }
  ? number
  : F extends { kind: "hex64" }
    ? bigint
    : F extends { kind: "cstr" }
      ? string
      : F extends { kind: "bytes" | "reserved" }
        ? Uint8Array
        : F extends { kind: "sub"; of: Struct<infer S> }
          ? View<S>
          : F extends { kind: "array" | "tail"; of: infer E }
            ? ElemRef<E>
            : never;
export type View<F> = ViewBase & { -readonly [K in Exclude<keyof F, RefKeys<F>>]: ValueOf<F[K]> } & {
  readonly [K in RefKeys<F>]: ValueOf<F[K]>;
} & { readonly [K in ArrKeys<F> as `${K & string}_off`]: (i: number) => number };

export interface PrintOptions {
  /** Elements of one tail or array that are shown; the rest is counted. */
  readonly maxElems?: number;
}

export type ViewClass<V> = new (dv: DataView, off: number) => V;

export interface Struct<F> {
  readonly name: string;
  /** sizeof, without the flexible tail. */
  readonly size: number;
  readonly order: Order;
  readonly fields: F;
  readonly unions: readonly UnionInfo[];
  readonly View: ViewClass<View<F>>;
  /** A new view at `off` of an arena. */
  at(dv: DataView, off: number): View<F>;
  /** A new view over bytes that are not in an arena. */
  from(bytes: Uint8Array, off?: number): View<F>;
  /** A zeroed structure in memory of its own, with room for `tailBytes` behind it. */
  alloc(tailBytes?: number): View<F>;
  print(v: ViewBase, opts?: PrintOptions): string;
  toJSON(v: ViewBase, opts?: PrintOptions): Record<string, unknown>;
}
// biome-ignore lint/suspicious/noExplicitAny: a struct of any table; `unknown` would not be assignable both ways
export type AnyStruct = Struct<any>;
export type ViewOf<S> = S extends Struct<infer F> ? View<F> : never;

export interface FieldOptions {
  readonly flags?: FlagTable;
}

const num =
  <K extends ScalarKind>(kind: K, size: number) =>
  (off: number, doc: string, opts?: FieldOptions): Meta & { readonly kind: K } => ({ kind, off, size, doc, ...opts });

export const u8 = num("u8", 1);
export const u16 = num("u16", 2);
export const u32 = num("u32", 4);
/** A 64-bit unsigned value as a number: exact up to 2^53-1, rounded above (such a value on disk is corruption). */
export const u64 = num("u64", 8);
export const s8 = num("s8", 1);
export const s16 = num("s16", 2);
export const s32 = num("s32", 4);
export const s64 = num("s64", 8);
/** A 64-bit value as a bigint, for hashes and cookies that use all the bits. Slow: ten times a u64. */
export const hex64 = num("hex64", 8);

/** `n` bytes, read as a window onto memory; setting copies and zero-fills the rest. */
export const bytes = (off: number, n: number, doc: string): BytesField => ({ kind: "bytes", off, size: n, doc });
/** A UTF-8 string in `n` bytes, ended by a NUL unless it fills them. */
export const cstr = (off: number, n: number, doc: string): StrField => ({ kind: "cstr", off, size: n, doc });
/** Bytes that must be zero on write. */
export const reserved = (off: number, n: number, doc = ""): BytesField => ({ kind: "reserved", off, size: n, doc });
export const sub = <S extends AnyStruct>(off: number, of: S, doc: string): SubField<S> => ({
  kind: "sub",
  off,
  size: of.size,
  doc,
  of,
});
export const array = <E extends Elem>(off: number, of: E, count: number, doc: string): ArrayField<E> => ({
  kind: "array",
  off,
  size: count * sizeOf(of),
  doc,
  of,
  stride: sizeOf(of),
  count,
});
/** A flexible array: how many elements there is room for is the caller's knowledge. */
export const tail = <E extends Elem>(
  off: number,
  of: E,
  doc: string,
  counts?: { used?: string; cap?: string },
): TailField<E> => ({ kind: "tail", off, size: 0, doc, of, stride: sizeOf(of), ...counts });

type UnionToIntersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I : never;

/** Fields that share their bytes. The arms' fields become fields of the struct itself: spread the result. */
export function union<A extends Record<string, Fields>>(
  name: string,
  arms: A,
  pick: Pick1 = () => undefined,
): UnionToIntersection<A[keyof A]> {
  const info: UnionInfo = { name, arms: Object.keys(arms), pick };
  const out: Record<string, Field> = {};
  for (const [arm, fields] of Object.entries(arms)) {
    for (const [key, f] of Object.entries(fields)) {
      if (key in out) throw new Error(`union ${name}: ${key} is declared in two arms`);
      out[key] = { ...f, union: info, arm };
    }
  }
  return out as UnionToIntersection<A[keyof A]>;
}

export const SCALAR_SIZE: Readonly<Record<ScalarKind, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  s8: 1,
  s16: 2,
  s32: 4,
  s64: 8,
  hex64: 8,
};

export function sizeOf(of: Elem): number {
  return typeof of === "string" ? SCALAR_SIZE[of] : of.size;
}

/** The field's name in C: one that would hide a view's own member (`off`) carries a trailing underscore here. */
export const cName = (field: string): string => field.replace(/_$/, "");

export interface StructOptions {
  /** The C structure is packed, so fields need not sit on a multiple of their size. */
  readonly packed?: boolean;
}

/** Declares a structure; throws when the table contradicts itself. */
export function struct<const F extends Fields>(
  name: string,
  size: number,
  order: Order,
  fields: F,
  opts: StructOptions = {},
): Struct<F> {
  checkTable(name, size, fields, opts);
  const unions = [...new Set(Object.values(fields).flatMap((f) => (f.union ? [f.union] : [])))];
  // Compiled when first used: a command needs few of the tables, and its start waits for all.
  let made: MadeView | null = null;
  const view = (): MadeView => (made ??= makeView(name, size, order !== "be", fields));
  let at = (dv: DataView, off: number): unknown => {
    at = view().at;
    return at(dv, off);
  };
  const self: Struct<F> = {
    name,
    size,
    order,
    fields,
    unions,
    get View() {
      return view().View as ViewClass<View<F>>;
    },
    at: (dv, off) => at(dv, off) as View<F>,
    from: (b, off = 0) => self.at(new DataView(b.buffer, b.byteOffset, b.byteLength), off),
    alloc: (tailBytes = 0) => self.at(new DataView(new ArrayBuffer(size + tailBytes)), 0),
    print: (v, o) => printStruct(self, v, o),
    toJSON: (v, o) => structToJSON(self, v, o),
  };
  return Object.freeze(self);
}

const IDENT = /^[A-Za-z_]\w*$/;
const VIEW_MEMBERS = new Set(["dv", "off", "seek", "bytes", "constructor"]);

function checkTable(name: string, size: number, fields: Fields, opts: StructOptions): void {
  const hex = (n: number): string => `0x${n.toString(16)}`;
  const fail = (what: string): never => {
    throw new Error(`struct ${name}: ${what}`);
  };
  if (!IDENT.test(name)) fail("the name is no identifier");
  const entries = Object.entries(fields);
  for (const [key, f] of entries) {
    if (!IDENT.test(key)) fail(`${key} is not a name`);
    if (VIEW_MEMBERS.has(key)) fail(`field ${key} hides a member of the view; name it ${key}_`);
    if (!Number.isInteger(f.off) || f.off < 0) fail(`${key} has no valid offset`);
    if (f.off + f.size > size) fail(`${key} ends at ${hex(f.off + f.size)}, behind the end ${hex(size)}`);
    const align = typeof f.kind === "string" && f.kind in SCALAR_SIZE ? SCALAR_SIZE[f.kind as ScalarKind] : 1;
    if (!opts.packed && f.off % align !== 0) fail(`${key} at ${hex(f.off)} is not aligned to ${align}`);
    if (f.kind === "tail") {
      for (const c of [f.used, f.cap]) if (c && !(c in fields)) fail(`tail ${key} counts by ${c}, which is no field`);
    }
  }

  // Two fields may share a byte only if they are in different arms of one union.
  const sized = entries.filter(([, f]) => f.size > 0).sort((a, b) => a[1].off - b[1].off);
  sized.forEach(([ka, a], i) => {
    for (const [kb, b] of sized.slice(i + 1)) {
      if (b.off >= a.off + a.size) break;
      if (!(a.union && a.union === b.union && a.arm !== b.arm)) fail(`${ka} and ${kb} overlap at ${hex(b.off)}`);
    }
  });

  let end = 0;
  for (const [key, f] of sized) {
    if (f.off > end) fail(`hole from ${hex(end)} to ${key} at ${hex(f.off)}`);
    end = Math.max(end, f.off + f.size);
  }
  if (end !== size) fail(`table ends at ${hex(end)}, but the size is ${hex(size)}`);

  // An arm may be shorter than its union, but has no hole before its own end.
  const armEnd = new Map<UnionInfo, { start: number; ends: Map<string, number> }>();
  for (const [key, f] of sized) {
    if (!f.union) continue;
    let u = armEnd.get(f.union);
    if (!u) armEnd.set(f.union, (u = { start: f.off, ends: new Map() }));
    const e = u.ends.get(f.arm!) ?? u.start;
    if (f.off !== e) fail(`hole in arm ${f.arm} from ${hex(e)} to ${key} at ${hex(f.off)}`);
    u.ends.set(f.arm!, f.off + f.size);
  }
}
