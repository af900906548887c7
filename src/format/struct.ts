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

export type Order = "le" | "be" | "host";
export type NumKind = "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "s64";
export type ScalarKind = NumKind | "hex64";
export type FlagTable = Readonly<Record<string, number>>;

interface Meta {
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

export interface Struct<F> {
  readonly name: string;
  /** sizeof, without the flexible tail. */
  readonly size: number;
  readonly order: Order;
  readonly fields: F;
  readonly unions: readonly UnionInfo[];
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

const SCALAR_SIZE: Readonly<Record<ScalarKind, number>> = {
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
  const View = makeView(name, size, order !== "be", fields);
  const self: Struct<F> = {
    name,
    size,
    order,
    fields,
    unions,
    at: (dv, off) => new View(dv, off) as View<F>,
    from: (b, off = 0) => new View(new DataView(b.buffer, b.byteOffset, b.byteLength), off) as View<F>,
    alloc: (tailBytes = 0) => new View(new DataView(new ArrayBuffer(size + tailBytes)), 0) as View<F>,
    print: (v, o) => printStruct(self, v, o),
    toJSON: (v, o) => structToJSON(self, v, o) as Record<string, unknown>,
  };
  return Object.freeze(self);
}

const VIEW_MEMBERS = new Set(["dv", "off", "seek", "bytes", "constructor"]);

function checkTable(name: string, size: number, fields: Fields, opts: StructOptions): void {
  const hex = (n: number): string => `0x${n.toString(16)}`;
  const fail = (what: string): never => {
    throw new Error(`struct ${name}: ${what}`);
  };
  const entries = Object.entries(fields);
  for (const [key, f] of entries) {
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

function range(name: string, v: number | bigint, kind: string): never {
  throw new RangeError(`${name}: ${v} does not fit ${kind}`);
}

const TWO32 = 0x1_0000_0000;

interface Codec {
  get(dv: DataView, p: number): number | bigint;
  set(dv: DataView, p: number, v: never, name: string): void;
}

/** 64-bit values are put together from halves: a BigInt costs six to ten times as much. */
function codec(kind: ScalarKind, le: boolean): Codec {
  const lo = le ? 0 : 4;
  const hi = le ? 4 : 0;
  switch (kind) {
    case "u8":
      return {
        get: (dv, p) => dv.getUint8(p),
        set: (dv, p, v: number, n) => ((v & 0xff) === v ? dv.setUint8(p, v) : range(n, v, kind)),
      };
    case "u16":
      return {
        get: (dv, p) => dv.getUint16(p, le),
        set: (dv, p, v: number, n) => ((v & 0xffff) === v ? dv.setUint16(p, v, le) : range(n, v, kind)),
      };
    case "u32":
      return {
        get: (dv, p) => dv.getUint32(p, le),
        // A negative int32 is let in: `flags & ~BIT` yields one.
        set: (dv, p, v: number, n) => (v >>> 0 === v || (v | 0) === v ? dv.setUint32(p, v, le) : range(n, v, kind)),
      };
    case "u64":
      return {
        get: (dv, p) => dv.getUint32(p + lo, le) + dv.getUint32(p + hi, le) * TWO32,
        set: (dv, p, v: number, n) => {
          if (!Number.isSafeInteger(v) || v < 0) range(n, v, kind);
          dv.setUint32(p + lo, v >>> 0, le);
          dv.setUint32(p + hi, (v / TWO32) >>> 0, le);
        },
      };
    case "s8":
      return {
        get: (dv, p) => dv.getInt8(p),
        set: (dv, p, v: number, n) => ((v << 24) >> 24 === v ? dv.setInt8(p, v) : range(n, v, kind)),
      };
    case "s16":
      return {
        get: (dv, p) => dv.getInt16(p, le),
        set: (dv, p, v: number, n) => ((v << 16) >> 16 === v ? dv.setInt16(p, v, le) : range(n, v, kind)),
      };
    case "s32":
      return {
        get: (dv, p) => dv.getInt32(p, le),
        set: (dv, p, v: number, n) => ((v | 0) === v ? dv.setInt32(p, v, le) : range(n, v, kind)),
      };
    case "s64":
      return {
        get: (dv, p) => dv.getUint32(p + lo, le) + dv.getInt32(p + hi, le) * TWO32,
        set: (dv, p, v: number, n) => {
          if (!Number.isSafeInteger(v)) range(n, v, kind);
          dv.setUint32(p + lo, v >>> 0, le);
          dv.setInt32(p + hi, Math.floor(v / TWO32), le);
        },
      };
    case "hex64":
      return {
        get: (dv, p) => dv.getBigUint64(p, le),
        set: (dv, p, v: bigint, n) => {
          if (typeof v !== "bigint" || v < 0n || v > 0xffff_ffff_ffff_ffffn) range(n, v, kind);
          dv.setBigUint64(p, v, le);
        },
      };
  }
}

function window(dv: DataView, off: number, n: number): Uint8Array {
  return new Uint8Array(dv.buffer, dv.byteOffset + off, n);
}

class BaseView implements ViewBase {
  dv: DataView;
  off: number;
  constructor(dv: DataView, off: number) {
    this.dv = dv;
    this.off = off;
  }
  seek(off: number): this {
    this.off = off;
    return this;
  }
  bytes(): Uint8Array {
    throw new Error("replaced in every struct");
  }
}

type ViewClass = new (dv: DataView, off: number) => BaseView;

function makeView(name: string, size: number, le: boolean, fields: Fields): ViewClass {
  const View = class extends BaseView {
    override bytes(): Uint8Array {
      return window(this.dv, this.off, size);
    }
  };
  Object.defineProperty(View, "name", { value: name });
  const proto = View.prototype;
  for (const [key, f] of Object.entries(fields)) {
    Object.defineProperty(proto, key, { ...accessor(`${name}.${key}`, f, le), enumerable: true });
    if (f.kind === "array" || f.kind === "tail") {
      const { off, stride } = f;
      Object.defineProperty(proto, `${key}_off`, {
        value(this: BaseView, i: number): number {
          return this.off + off + i * stride;
        },
      });
    }
  }
  return View;
}

interface Accessor {
  get(this: BaseView): unknown;
  set?(this: BaseView, v: never): void;
}

function accessor(name: string, f: Field, le: boolean): Accessor {
  const o = f.off;
  const n = f.size;
  switch (f.kind) {
    case "sub": {
      const of = f.of;
      return {
        get() {
          return of.at(this.dv, this.off + o);
        },
      };
    }
    case "array":
    case "tail": {
      const make = elemRef(name, f, le);
      return {
        get() {
          return make(this.dv, this.off + o);
        },
      };
    }
    case "bytes":
    case "reserved":
      return {
        get() {
          return window(this.dv, this.off + o, n);
        },
        set(v: Uint8Array) {
          if (v.length > n) range(name, v.length, `${n} bytes`);
          const w = window(this.dv, this.off + o, n);
          w.set(v);
          w.fill(0, v.length);
        },
      };
    case "cstr":
      return {
        get() {
          const w = window(this.dv, this.off + o, n);
          const nul = w.indexOf(0);
          return Buffer.from(w.buffer, w.byteOffset, nul < 0 ? n : nul).toString("utf8");
        },
        set(v: string) {
          const b = Buffer.from(v, "utf8");
          if (b.length > n || b.includes(0)) range(name, b.length, `a string of ${n} bytes`);
          const w = window(this.dv, this.off + o, n);
          w.set(b);
          w.fill(0, b.length);
        },
      };
    default:
      return scalarAccessor(name, f.kind, o, le);
  }
}

/** One function body per kind and not a call through codec(): the field's reader must inline into the caller. */
function scalarAccessor(name: string, kind: ScalarKind, o: number, le: boolean): Accessor {
  const c = codec(kind, le);
  const set = function (this: BaseView, v: never): void {
    c.set(this.dv, this.off + o, v, name);
  };
  switch (kind) {
    case "u8":
      return {
        get() {
          return this.dv.getUint8(this.off + o);
        },
        set,
      };
    case "u16":
      return {
        get() {
          return this.dv.getUint16(this.off + o, le);
        },
        set,
      };
    case "u32":
      return {
        get() {
          return this.dv.getUint32(this.off + o, le);
        },
        set,
      };
    case "u64": {
      const lo = o + (le ? 0 : 4);
      const hi = o + (le ? 4 : 0);
      return {
        get() {
          return this.dv.getUint32(this.off + lo, le) + this.dv.getUint32(this.off + hi, le) * TWO32;
        },
        set,
      };
    }
    default:
      return {
        get() {
          return c.get(this.dv, this.off + o);
        },
        set,
      };
  }
}

type RefMaker = (dv: DataView, base: number) => unknown;

function elemRef(name: string, f: ArrayField | TailField, le: boolean): RefMaker {
  const { of, stride } = f;
  const count = f.kind === "array" ? f.count : Number.POSITIVE_INFINITY;
  const pos = (base: number, i: number): number => {
    if (!Number.isInteger(i) || i < 0 || i >= count) range(`${name}[]`, i, `${count} elements`);
    return base + i * stride;
  };
  if (typeof of !== "string") {
    return (dv, base) => ({
      count,
      at: (i: number) => of.at(dv, pos(base, i)),
      off: (i: number) => base + i * stride,
      bytes: (n: number) => window(dv, base, n),
    });
  }
  const c = codec(of, le);
  return (dv, base) => ({
    count,
    get: (i: number) => c.get(dv, pos(base, i)),
    set: (i: number, v: never) => c.set(dv, pos(base, i), v, name),
    off: (i: number) => base + i * stride,
    bytes: (n: number) => window(dv, base, n),
  });
}

// ---- printing ----

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

function structToJSON(s: AnyStruct, v: ViewBase, opts: PrintOptions = {}, parent?: ViewBase): unknown {
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

function printStruct(s: AnyStruct, v: ViewBase, opts?: PrintOptions): string {
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
  walk(s, structToJSON(s, v, opts) as Record<string, unknown>, "  ");
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
