import { expect, test } from "vitest";
import { Ahead } from "./ahead.ts";

const DIR = 5;
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

function setUp() {
  const asked: number[] = [];
  const done: (() => void)[] = [];
  const ahead = new Ahead((ino, cb) => {
    asked.push(ino);
    done.push(cb);
  });
  return { ahead, asked, done };
}

test("names in the order of the listing: the next ones are asked for, more and more, each once", () => {
  const { ahead, asked, done } = setUp();
  ahead.listed(DIR, 0, range(100, 150));
  ahead.listed(DIR, 50, range(150, 300));
  ahead.found(DIR, 100);
  ahead.found(DIR, 101);
  expect(asked).toEqual([]);
  ahead.found(DIR, 102);
  expect(asked).toEqual(range(103, 109));
  for (const ino of range(103, 130)) ahead.found(DIR, ino);
  // No more at a time than this, whoever does not get an answer.
  expect(asked).toEqual(range(103, 103 + 64));
  for (const cb of done.splice(0)) cb();
  ahead.found(DIR, 130);
  expect(asked).toEqual(range(103, 130 + 1 + 62));
  for (const ino of range(131, 300)) {
    for (const cb of done.splice(0)) cb();
    ahead.found(DIR, ino);
  }
  expect(asked).toEqual(range(103, 300));
});

test("names that the kernel has already are skipped, and not asked for", () => {
  const { ahead, asked } = setUp();
  ahead.listed(DIR, 0, range(100, 200));
  for (const ino of [100, 104, 105]) ahead.found(DIR, ino);
  expect(asked).toEqual(range(106, 112));
});

test("a listing alone, names at random, names of another folder, and a folder that was forgotten ask for nothing", () => {
  const { ahead, asked } = setUp();
  ahead.listed(DIR, 0, range(100, 200));
  for (const ino of [150, 120, 199, 100, 160, 101, 140]) ahead.found(DIR, ino);
  for (const ino of range(100, 120)) ahead.found(DIR + 1, ino);
  ahead.forgotten(DIR);
  for (const ino of range(102, 120)) ahead.found(DIR, ino);
  expect(asked).toEqual([]);
});

test("a listing from its beginning starts anew; of many folders the last ones are remembered", () => {
  const { ahead, asked } = setUp();
  ahead.listed(DIR, 0, range(100, 200));
  for (const ino of range(100, 102)) ahead.found(DIR, ino);
  ahead.listed(DIR, 0, range(100, 200));
  ahead.found(DIR, 102);
  ahead.found(DIR, 103);
  expect(asked).toEqual([]);
  for (const dir of range(10, 18)) ahead.listed(dir, 0, range(300, 310));
  for (const ino of range(104, 120)) ahead.found(DIR, ino);
  expect(asked).toEqual([]);
});
