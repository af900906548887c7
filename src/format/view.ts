/**
 * Turns a table into a class of views, by writing the class's source and compiling it when the table is imported.
 *
 * Why source and not closures: V8 keeps its type feedback per function text. One getter factory for a hundred
 * structures makes every field access polymorphic, and a view then costs 200 ns instead of 10. The text of each class
 * is its own here; print one with `String(Dinode.View)`. Nothing but the table goes into it.
 */
import type { ArrayField, Field, Fields, ScalarKind, TailField, ViewBase } from "./struct.ts";

function range(name: string, v: unknown, kind: string): never {
  throw new RangeError(`${name}: ${String(v)} does not fit ${kind}`);
}

function window(dv: DataView, off: number, n: number): Uint8Array {
  return new Uint8Array(dv.buffer, dv.byteOffset + off, n);
}

function setBytes(dv: DataView, off: number, n: number, v: Uint8Array, name: string): void {
  if (v.length > n) range(name, v.length, `${n} bytes`);
  const w = window(dv, off, n);
  w.set(v);
  w.fill(0, v.length);
}

function getStr(dv: DataView, off: number, n: number): string {
  const w = window(dv, off, n);
  const nul = w.indexOf(0);
  return Buffer.from(w.buffer, w.byteOffset, nul < 0 ? n : nul).toString("utf8");
}

function setStr(dv: DataView, off: number, n: number, v: string, name: string): void {
  const b = Buffer.from(v, "utf8");
  if (b.length > n || b.includes(0)) range(name, b.length, `a string of ${n} bytes`);
  setBytes(dv, off, n, b, name);
}

const HELPERS = { range, window, setBytes, getStr, setStr };

/** The expression that reads a scalar at the offset expression `p` of `dv`; 64 bits from halves, as BigInt is slow. */
function readExpr(kind: ScalarKind, dv: string, p: (extra: number) => string, le: boolean): string {
  const lo = p(le ? 0 : 4);
  const hi = p(le ? 4 : 0);
  switch (kind) {
    case "u8":
      return `${dv}.getUint8(${p(0)})`;
    case "s8":
      return `${dv}.getInt8(${p(0)})`;
    case "u16":
      return `${dv}.getUint16(${p(0)}, ${le})`;
    case "s16":
      return `${dv}.getInt16(${p(0)}, ${le})`;
    case "u32":
      return `${dv}.getUint32(${p(0)}, ${le})`;
    case "s32":
      return `${dv}.getInt32(${p(0)}, ${le})`;
    case "u64":
      return `${dv}.getUint32(${lo}, ${le}) + ${dv}.getUint32(${hi}, ${le}) * 4294967296`;
    case "s64":
      return `${dv}.getUint32(${lo}, ${le}) + ${dv}.getInt32(${hi}, ${le}) * 4294967296`;
    case "hex64":
      return `${dv}.getBigUint64(${p(0)}, ${le})`;
  }
}

/** When the value `v` fits. A negative int32 is let into a u32: `flags & ~BIT` yields one. */
const FITS: Readonly<Record<ScalarKind, string>> = {
  u8: "(v & 0xff) === v",
  s8: "(v << 24) >> 24 === v",
  u16: "(v & 0xffff) === v",
  s16: "(v << 16) >> 16 === v",
  u32: "(v >>> 0 === v || (v | 0) === v)",
  s32: "(v | 0) === v",
  u64: "Number.isSafeInteger(v) && v >= 0",
  s64: "Number.isSafeInteger(v)",
  hex64: 'typeof v === "bigint" && v >= 0n && v <= 0xffffffffffffffffn',
};

function writeStmt(kind: ScalarKind, dv: string, p: (extra: number) => string, le: boolean, name: string): string {
  const lo = p(le ? 0 : 4);
  const hi = p(le ? 4 : 0);
  const check = `if (!(${FITS[kind]})) range("${name}", v, "${kind}");`;
  const put = (method: string): string =>
    `${check} ${dv}.${method}(${p(0)}, v${method.endsWith("8") ? "" : `, ${le}`});`;
  switch (kind) {
    case "u8":
      return put("setUint8");
    case "s8":
      return put("setInt8");
    case "u16":
      return put("setUint16");
    case "s16":
      return put("setInt16");
    case "u32":
      return put("setUint32");
    case "s32":
      return put("setInt32");
    case "u64":
      return `${check} ${dv}.setUint32(${lo}, v >>> 0, ${le}); ${dv}.setUint32(${hi}, v / 4294967296, ${le});`;
    case "s64":
      return `${check} ${dv}.setUint32(${lo}, v >>> 0, ${le}); ${dv}.setInt32(${hi}, Math.floor(v / 4294967296), ${le});`;
    case "hex64":
      return put("setBigUint64");
  }
}

interface Source {
  readonly le: boolean;
  /** Members of the view's class. */
  readonly members: string[];
  /** Classes of the arrays' references, in front of it. */
  readonly classes: string[];
  /** View classes of nested structures, which the source names S0, S1... */
  readonly subs: unknown[];
}

function addSub(src: Source, cls: unknown): string {
  src.subs.push(cls);
  return `S${src.subs.length - 1}`;
}

function arrayClass(src: Source, cls: string, name: string, f: ArrayField | TailField): void {
  const { of, stride } = f;
  const count = f.kind === "array" ? f.count : Number.POSITIVE_INFINITY;
  const fits = f.kind === "array" ? `i >>> 0 === i && i < ${count}` : "i >>> 0 === i";
  const check = `if (!(${fits})) range("${name}[]", i, "${count} elements");`;
  const at = (extra: number): string => `this.base + i * ${stride}${extra ? ` + ${extra}` : ""}`;
  const access =
    typeof of === "string"
      ? `get(i) { ${check} return ${readExpr(of, "this.dv", at, src.le)}; }
  set(i, v) { ${check} ${writeStmt(of, "this.dv", at, src.le, `${name}[]`)} }`
      : `at(i) { ${check} return new ${addSub(src, of.View)}(this.dv, ${at(0)}); }`;
  src.classes.push(`class ${cls} {
  constructor(dv, base) { this.dv = dv; this.base = base; }
  get count() { return ${count}; }
  ${access}
  off(i) { return ${at(0)}; }
  bytes(n) { return window(this.dv, this.base, n); }
}`);
}

function member(src: Source, struct: string, key: string, f: Field): void {
  const name = `${struct}.${key}`;
  const p = (extra: number): string => `this.off + ${f.off + extra}`;
  const add = (get: string, set?: string): void => {
    src.members.push(`get ${key}() { return ${get}; }`);
    if (set) src.members.push(`set ${key}(v) { ${set} }`);
  };
  switch (f.kind) {
    case "sub":
      add(`new ${addSub(src, f.of.View)}(this.dv, ${p(0)})`);
      break;
    case "array":
    case "tail": {
      const cls = `${struct}_${key}`;
      arrayClass(src, cls, name, f);
      add(`new ${cls}(this.dv, ${p(0)})`);
      src.members.push(`${key}_off(i) { return ${p(0)} + i * ${f.stride}; }`);
      break;
    }
    case "bytes":
    case "reserved":
      add(`window(this.dv, ${p(0)}, ${f.size})`, `setBytes(this.dv, ${p(0)}, ${f.size}, v, "${name}");`);
      break;
    case "cstr":
      add(`getStr(this.dv, ${p(0)}, ${f.size})`, `setStr(this.dv, ${p(0)}, ${f.size}, v, "${name}");`);
      break;
    default:
      add(readExpr(f.kind, "this.dv", p, src.le), writeStmt(f.kind, "this.dv", p, src.le, name));
  }
}

export interface MadeView {
  readonly View: new (dv: DataView, off: number) => ViewBase;
  readonly at: (dv: DataView, off: number) => ViewBase;
}

/** The class of views of one checked table, and the function that makes one. */
export function makeView(name: string, size: number, le: boolean, fields: Fields): MadeView {
  const src: Source = { le, members: [], classes: [], subs: [] };
  for (const [key, f] of Object.entries(fields)) member(src, name, key, f);
  const names = [...Object.keys(HELPERS), ...src.subs.map((_, i) => `S${i}`)];
  const body = `"use strict";
${src.classes.join("\n")}
class ${name} {
  constructor(dv, off) { this.dv = dv; this.off = off; }
  seek(off) { this.off = off; return this; }
  bytes() { return window(this.dv, this.off, ${size}); }
  ${src.members.join("\n  ")}
}
return { View: ${name}, at: (dv, off) => new ${name}(dv, off) };
//# sourceURL=format/${name}`;
  return new Function(...names, body)(...Object.values(HELPERS), ...src.subs) as MadeView;
}
