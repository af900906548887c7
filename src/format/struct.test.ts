import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  array,
  bytes,
  cstr,
  flagNames,
  hex64,
  type Order,
  reserved,
  s8,
  s16,
  s32,
  s64,
  struct,
  sub,
  tail,
  u8,
  u16,
  u32,
  u64,
  union,
} from "./struct.ts";

const everyKind = (order: Order) =>
  struct("every_kind", 0x38, order, {
    a: u8(0x00, ""),
    b: s8(0x01, ""),
    c: u16(0x02, ""),
    d: u32(0x04, ""),
    e: u64(0x08, ""),
    f: s64(0x10, ""),
    g: hex64(0x18, ""),
    h: s32(0x20, ""),
    i: s16(0x24, ""),
    j: array(0x26, "u16", 3, ""),
    k: cstr(0x2c, 8, ""),
    l: reserved(0x34, 4),
  });

const anyOf = {
  a: fc.integer({ min: 0, max: 0xff }),
  b: fc.integer({ min: -0x80, max: 0x7f }),
  c: fc.integer({ min: 0, max: 0xffff }),
  d: fc.integer({ min: 0, max: 0xffffffff }),
  e: fc.maxSafeNat(),
  f: fc.maxSafeInteger(),
  g: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  h: fc.integer(),
  i: fc.integer({ min: -0x8000, max: 0x7fff }),
  k: fc.string({ maxLength: 8, unit: fc.constantFrom("a", "z", "0", " ") }),
};

describe.each(["le", "be"] as const)("values in %s order", (order) => {
  const S = everyKind(order);
  const le = order === "le";

  test("come back as they were written, and only their own bytes change", () => {
    fc.assert(
      fc.property(fc.record(anyOf), fc.nat(64), (want, off) => {
        const mem = new Uint8Array(new SharedArrayBuffer(off + S.size + 16)).fill(0xa5);
        const v = S.at(new DataView(mem.buffer), off);
        Object.assign(v, want);
        for (const [k, x] of Object.entries(want)) expect(v[k as keyof typeof want]).toBe(x);
        expect(mem.slice(0, off).every((x) => x === 0xa5)).toBe(true);
        expect(mem.slice(off + S.size).every((x) => x === 0xa5)).toBe(true);
        expect(v.l).toEqual(new Uint8Array(4).fill(0xa5));
      }),
    );
  });

  test("are where DataView finds them", () => {
    fc.assert(
      fc.property(fc.record(anyOf), (want) => {
        const v = S.alloc();
        Object.assign(v, want);
        const dv = v.dv;
        expect(dv.getUint8(0)).toBe(want.a);
        expect(dv.getInt8(1)).toBe(want.b);
        expect(dv.getUint16(2, le)).toBe(want.c);
        expect(dv.getUint32(4, le)).toBe(want.d);
        expect(dv.getBigUint64(8, le)).toBe(BigInt(want.e));
        expect(dv.getBigInt64(16, le)).toBe(BigInt(want.f));
        expect(dv.getBigUint64(24, le)).toBe(want.g);
        expect(dv.getInt32(32, le)).toBe(want.h);
        expect(dv.getInt16(36, le)).toBe(want.i);
      }),
    );
  });

  test("a u64 above 2^53 reads rounded and does not throw", () => {
    const v = S.alloc();
    v.g = 0n;
    v.dv.setBigUint64(8, 0xffff_ffff_ffff_ffffn, le);
    expect(v.e).toBe(2 ** 64);
    v.dv.setBigUint64(8, 2n ** 53n + 1n, le);
    expect(v.e).toBe(2 ** 53);
  });
});

describe("writing", () => {
  const S = everyKind("le");

  test.each([
    ["a", 256],
    ["a", -1],
    ["b", 128],
    ["c", 0x10000],
    ["c", 1.5],
    ["d", 2 ** 32],
    ["d", -(2 ** 31) - 1],
    ["e", 2 ** 53],
    ["e", -1],
    ["e", 0.5],
    ["f", -(2 ** 53)],
    ["g", 2n ** 64n],
    ["h", 2 ** 31],
    ["i", 0x8000],
    ["k", "123456789"],
    ["k", "a\0b"],
  ])("%s = %s is refused and changes nothing", (field, value) => {
    const v = S.alloc();
    expect(() => Object.assign(v, { [field]: value })).toThrow(RangeError);
    expect(v.bytes().every((b) => b === 0)).toBe(true);
  });

  test("clearing the top flag of a u32 works although JavaScript makes it negative", () => {
    const v = S.alloc();
    v.d = 0xf0000001;
    v.d &= ~0x1;
    expect(v.d).toBe(0xf0000000);
  });

  test("a shorter string or byte run clears what was there", () => {
    const B = struct("b", 8, "le", { x: bytes(0, 8, "") });
    const b = B.alloc();
    b.x = new Uint8Array(8).fill(7);
    b.x = new Uint8Array([1, 2]);
    expect([...b.x]).toEqual([1, 2, 0, 0, 0, 0, 0, 0]);
    const v = S.alloc();
    v.k = "12345678";
    expect(v.k).toBe("12345678");
    v.k = "x";
    expect(v.k).toBe("x");
    expect([...v.bytes().subarray(0x2c, 0x34)]).toEqual([0x78, 0, 0, 0, 0, 0, 0, 0]);
  });

  test("bytes are a window: writing through it is writing the structure", () => {
    const B = struct("b2", 4, "le", { x: bytes(0, 2, ""), y: u16(2, "") });
    const b = B.alloc();
    b.bytes()[2] = 9;
    b.x[1] = 5;
    expect(b.y).toBe(9);
    expect([...b.bytes()]).toEqual([0, 5, 9, 0]);
  });
});

describe("views", () => {
  const Rec = struct("rec", 4, "be", { n: u16(0, ""), m: u16(2, "") });
  const List = struct("list", 4, "le", {
    used: u16(0, ""),
    cap: u16(2, ""),
    recs: tail(4, Rec, "", { used: "used", cap: "cap" }),
  });
  const Block = struct("block", 8, "le", { head: u32(0, ""), list: sub(4, List, "") });

  test("nested structures and tails share the memory and keep their own byte order", () => {
    const b = Block.alloc(16);
    b.list.used = 2;
    b.list.recs.at(1).n = 0x1234;
    expect([...new Uint8Array(b.dv.buffer, 12, 2)]).toEqual([0x12, 0x34]);
    expect(b.list.recs.at(1).off).toBe(12);
    expect(b.list.recs_off(1)).toBe(12);
    expect(b.list.recs.off(3)).toBe(20);
  });

  test("a cursor moves over elements", () => {
    const b = Block.alloc(16);
    const l = b.list;
    for (let i = 0; i < 4; i++) l.recs.at(i).m = i * i;
    const r = Rec.at(b.dv, 0);
    expect([0, 1, 2, 3].map((i) => r.seek(l.recs_off(i)).m)).toEqual([0, 1, 4, 9]);
  });

  test("a fixed array knows its bounds, a tail only that an index is one", () => {
    const A = struct("a", 8, "le", { x: array(0, "u32", 2, "") });
    const a = A.alloc();
    a.x.set(1, 7);
    expect(a.x.get(1)).toBe(7);
    expect(a.x.count).toBe(2);
    expect(() => a.x.get(2)).toThrow(RangeError);
    expect(() => a.x.set(-1, 0)).toThrow(RangeError);
    expect(() => Block.alloc(16).list.recs.at(-1)).toThrow(RangeError);
  });

  test("a view beyond its memory throws instead of reading elsewhere", () => {
    expect(() => Block.at(new DataView(new ArrayBuffer(8)), 8).head).toThrow(RangeError);
  });

  test("a DataView that does not start at its buffer counts from its own start", () => {
    const mem = new Uint8Array(32);
    const B = struct("b3", 4, "le", { x: bytes(0, 4, "") });
    const v = B.at(new DataView(mem.buffer, 8), 4);
    v.x = new Uint8Array([1, 2, 3, 4]);
    expect([...mem.subarray(12, 16)]).toEqual([1, 2, 3, 4]);
  });
});

describe("a table is refused", () => {
  test.each<[string, RegExp, () => unknown]>([
    ["with a hole", /hole/, () => struct("t", 8, "le", { a: u16(0, ""), b: u32(4, "") })],
    ["with an overlap", /overlap/, () => struct("t", 8, "le", { a: u32(0, ""), b: u16(2, ""), c: u32(4, "") })],
    ["that is short", /table ends/, () => struct("t", 8, "le", { a: u32(0, "") })],
    ["that is long", /behind the end/, () => struct("t", 4, "le", { a: u64(0, "") })],
    ["with a field off its alignment", /aligned/, () => struct("t", 6, "le", { a: u16(0, ""), b: u32(2, "") })],
    ["with a field named as a view's member", /hides/, () => struct("t", 4, "le", { off: u32(0, "") })],
    ["with a name that is none", /not a name/, () => struct("t", 4, "le", { "a b": u32(0, "") })],
    [
      "with a hole in a union's arm",
      /hole in arm y/,
      () => struct("t", 8, "le", { ...union("u", { x: { a: u64(0, "") }, y: { b: u16(0, ""), c: u32(4, "") } }) }),
    ],
    [
      "with one field in two arms",
      /two arms/,
      () => struct("t", 4, "le", { ...union("u", { x: { a: u32(0, "") }, y: { a: u32(0, "") } }) }),
    ],
    [
      "whose tail counts by a field that is not there",
      /no field/,
      () => struct("t", 4, "le", { n: u32(0, ""), t: tail(4, "u8", "", { used: "m" }) }),
    ],
  ])("%s", (_name, message, make) => {
    expect(make).toThrow(message);
  });

  test("but fields of different arms may overlap, and an arm may be short", () => {
    const T = struct("t", 8, "le", {
      ...union("u", { x: { a: u64(0, "") }, y: { b: u16(0, ""), c: u16(2, "") } }),
    });
    const t = T.alloc();
    t.c = 0x1234;
    expect(t.a).toBe(0x12340000);
  });

  test("a packed structure may be unaligned", () => {
    expect(struct("t", 6, "le", { a: u16(0, ""), b: u32(2, "") }, { packed: true }).size).toBe(6);
  });
});

describe("printing", () => {
  const T = struct("thing", 12, "le", {
    kind: u16(0, ""),
    flags: u16(2, "", { flags: { RED: 1, BLUE: 2 } }),
    ...union("u", { num: { n: u32(4, "") }, text: { s: cstr(4, 4, "") } }, (v) => (v["kind"] === 1 ? "text" : "num")),
    count: u16(8, ""),
    z: reserved(10, 2),
    tail: tail(12, "u8", "", { used: "count" }),
  });

  test("shows the arm that is in force, flags by name, and reserved bytes only if they are not zero", () => {
    const t = T.alloc(4);
    t.kind = 1;
    t.flags = 0x13;
    t.s = "hi";
    t.count = 2;
    t.tail.bytes(2).set([0xab, 0xcd]);
    expect(T.toJSON(t)).toEqual({ kind: 1, flags: 0x13, s: "hi", count: 2, tail: "abcd" });
    expect(T.print(t)).toMatchInlineSnapshot(`
      "thing at 0
        kind   1
        flags  0x13 (RED|BLUE|0x10)
        s      "hi"
        count  2
        tail   abcd
      "
    `);
    t.kind = 0;
    t.z = new Uint8Array([0, 1]);
    expect(T.toJSON(t)).toMatchObject({ n: 0x6968, z: "0001" });
  });

  test("a count that the memory cannot hold is cut, not followed", () => {
    const t = T.alloc(4);
    t.count = 0xffff;
    expect(T.toJSON(t)["tail"]).toBe("00000000");
  });

  test("flag names cover bit 31 and unknown bits", () => {
    expect(flagNames(0x80000005, { A: 1, TOP: 0x80000000 })).toBe("A|TOP|0x4");
    expect(flagNames(0, { A: 1 })).toBe("");
  });
});
