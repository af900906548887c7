import { expect, test } from "vitest";
import { MetaLvb, packTime, unpackTime } from "../format/wire/lvb.ts";
import { dentryLockIno, dentryLockName, LOCK_NAME_BYTES, LOCK_TYPES, lockName } from "./lock_types.ts";

const hexOf = (name: string): string => Buffer.from(name, "latin1").toString("hex");

test("every lock type has a letter of its own", () => {
  const letters = Object.values(LOCK_TYPES).map((t) => t.letter);
  expect(letters.sort().join("")).toBe("FIMNOPQRSTWY");
});

test("names are those that a kernel sends", () => {
  expect(lockName("M", 5, 0x3ec16ab1)).toBe("M00000000000000000000053ec16ab1");
  expect(lockName("S", 2, 0)).toBe("S000000000000000000000200000000");
  expect(lockName("W", 0x123456789a, 0xffffffff)).toHaveLength(LOCK_NAME_BYTES);
});

test("a dentry lock's name ends with the inode's number in binary, as a kernel sends it", () => {
  const name = dentryLockName(5, 0x3214);
  expect(hexOf(name)).toBe("4e3030303030303030303030303030303500000000000000321400000000 00".replace(" ", ""));
  expect(dentryLockIno(name)).toBe(0x3214);
  expect(dentryLockIno(dentryLockName(1, 0x12_3456_789a))).toBe(0x12_3456_789a);
});

test("the LVB that a kernel left of its root directory", () => {
  const sent =
    "050000010000000000000000000000001ac0b6b0800000001ac0b6bb62e5dfd11ac0b6bb62e5dfd10000000000000f3841ed0004000000003ec16ab100000000";
  const bytes = Uint8Array.from(Buffer.from(sent, "hex"));
  const lvb = MetaLvb.at(new DataView(bytes.buffer), 0);
  expect(lvb.lvb_version).toBe(5);
  expect(lvb.lvb_idynfeatures).toBe(1);
  expect(lvb.lvb_imode).toBe(0o40755);
  expect(lvb.lvb_inlink).toBe(4);
  expect(lvb.lvb_isize).toBe(3896);
  expect(lvb.lvb_igeneration).toBe(0x3ec16ab1);
  const { sec, nsec } = unpackTime(lvb.lvb_imtime_packed);
  expect(packTime(sec, nsec)).toBe(lvb.lvb_imtime_packed);
  expect(new Date(sec * 1000).getUTCFullYear()).toBe(2026);
  expect(nsec).toBeLessThan(1_000_000_000);
});

test("times before 1970 and after 2514 are cut to what fits", () => {
  expect(unpackTime(packTime(-5, 7))).toEqual({ sec: 0, nsec: 7 });
  expect(unpackTime(packTime(2 ** 40, 0)).sec).toBe(2 ** 34 - 1);
});
