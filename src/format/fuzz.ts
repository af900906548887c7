/**
 * Ways to damage a structure, from its table: every field to zero, to its maximum, off by one, random, one bit flipped.
 *
 * The disk is input, and each reader must answer damage with Corruption. These mutations find readers that loop, crash
 * or believe it. They are plain data (offset and bytes), so a case is reported by name and repeated exactly. A volume
 * with metaecc needs its checksum redone afterwards, or only the checksum is tested.
 */
import type { AnyStruct, ArrayField, Elem, Field, Fields, Order, ScalarKind, TailField, ViewBase } from "./struct.ts";
import { isActive, SCALAR_SIZE } from "./struct.ts";

/** An integer from 0 up to, not including, `below`. */
export type RandomBelow = (below: number) => number;

export interface Mutation {
  /** For example "ocfs2_dinode.i_list.l_recs[2].e_blkno plus one". */
  readonly name: string;
  /** Where the bytes go, from the start of the view's DataView. */
  readonly off: number;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

export interface FuzzOptions {
  /** Elements of each array or tail that are damaged. */
  readonly maxElems?: number;
  /** Also fields in arms of a union that are not in force. */
  readonly allArms?: boolean;
}

interface Leaf {
  readonly path: string;
  readonly off: number;
  readonly size: number;
  /** A number of this byte order; undefined for a run of bytes. */
  readonly order?: Order;
}

function* elements(f: ArrayField | TailField, v: ViewBase, max: number): Generator<[number, Elem]> {
  const counts = v as unknown as Record<string, number>;
  const said = f.kind === "array" ? f.count : (counts[f.used ?? f.cap ?? ""] ?? 0);
  const room = Math.floor((v.dv.byteLength - v.off - f.off) / f.stride);
  for (let i = 0; i < Math.min(said, room, max); i++) yield [i, f.of];
}

function* leaves(s: AnyStruct, v: ViewBase, path: string, o: FuzzOptions, parent?: ViewBase): Generator<Leaf> {
  for (const [key, f] of Object.entries(s.fields as Fields) as [string, Field][]) {
    if (!o.allArms && !isActive(f, v, parent)) continue;
    const at = `${path}.${key}`;
    const off = v.off + f.off;
    if (f.kind === "sub") {
      yield* leaves(f.of, f.of.at(v.dv, off), at, o, v);
    } else if (f.kind === "array" || f.kind === "tail") {
      for (const [i, of] of elements(f, v, o.maxElems ?? 4)) {
        const p = off + i * f.stride;
        if (typeof of === "string") yield { path: `${at}[${i}]`, off: p, size: f.stride, order: s.order };
        else yield* leaves(of, of.at(v.dv, p), `${at}[${i}]`, o, v);
      }
    } else if (f.kind in SCALAR_SIZE) {
      yield { path: at, off, size: SCALAR_SIZE[f.kind as ScalarKind], order: s.order };
    } else {
      yield { path: at, off, size: f.size };
    }
  }
}

function toBytes(value: bigint, size: number, order: Order): Uint8Array {
  const out = new Uint8Array(size);
  for (let i = 0; i < size; i++) out[order === "be" ? size - 1 - i : i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return out;
}

function toNumber(b: Uint8Array, order: Order): bigint {
  let v = 0n;
  for (let i = 0; i < b.length; i++) v |= BigInt(b[order === "be" ? b.length - 1 - i : i]!) << BigInt(8 * i);
  return v;
}

function* damage(leaf: Leaf, before: Uint8Array, random: RandomBelow): Generator<[string, Uint8Array]> {
  const { size, order } = leaf;
  yield ["zero", new Uint8Array(size)];
  yield ["max", new Uint8Array(size).fill(0xff)];
  if (order) {
    const v = toNumber(before, order);
    const mask = (1n << BigInt(8 * size)) - 1n;
    yield ["plus one", toBytes((v + 1n) & mask, size, order)];
    yield ["minus one", toBytes((v - 1n) & mask, size, order)];
    yield ["top bit", toBytes(v ^ (1n << BigInt(8 * size - 1)), size, order)];
  }
  yield ["random", Uint8Array.from({ length: size }, () => random(256))];
  const bit = random(8 * size);
  const flipped = before.slice();
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  yield [`bit ${bit}`, flipped];
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((x, i) => x === b[i]);

/** Every mutation of the structure a view is on, in the order of the table; those that change nothing are left out. */
export function* mutations(
  s: AnyStruct,
  v: ViewBase,
  random: RandomBelow,
  opts: FuzzOptions = {},
): Generator<Mutation> {
  for (const leaf of leaves(s, v, s.name, opts)) {
    if (leaf.size === 0) continue;
    const before = new Uint8Array(v.dv.buffer, v.dv.byteOffset + leaf.off, leaf.size).slice();
    for (const [what, after] of damage(leaf, before, random)) {
      if (!same(before, after)) yield { name: `${leaf.path} ${what}`, off: leaf.off, before, after };
    }
  }
}

/** Damages the memory. */
export function applyMutation(dv: DataView, m: Mutation): void {
  new Uint8Array(dv.buffer, dv.byteOffset + m.off, m.after.length).set(m.after);
}

/** Puts back what was there. */
export function revertMutation(dv: DataView, m: Mutation): void {
  new Uint8Array(dv.buffer, dv.byteOffset + m.off, m.before.length).set(m.before);
}
