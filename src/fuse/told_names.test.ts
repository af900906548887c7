import { expect, test } from "vitest";
import { ToldNames } from "./told_names.ts";

const n = (text: string): Uint8Array => Buffer.from(text);
const namesOf = (told: ToldNames, ino: number): string[] =>
  told
    .of(ino)
    .map(({ parent, name }) => `${parent}/${Buffer.from(name)}`)
    .sort();

test("an inode's names are those that the kernel has, through links, renames, exchanges and removals", () => {
  const told = new ToldNames();
  told.add(1, n("a"), 10);
  told.add(1, n("a"), 10);
  told.add(2, n("b"), 10);
  told.add(1, n("c"), 11);
  expect(namesOf(told, 10)).toEqual(["1/a", "2/b"]);
  // Over another: that one has lost its name.
  told.rename(1, n("a"), 1, n("c"), false);
  expect([namesOf(told, 10), namesOf(told, 11)]).toEqual([["1/c", "2/b"], []]);
  told.add(1, n("d"), 12);
  told.rename(1, n("c"), 1, n("d"), true);
  expect([namesOf(told, 10), namesOf(told, 12)]).toEqual([["1/d", "2/b"], ["1/c"]]);
  told.remove(2, n("b"));
  told.remove(2, n("b"));
  // Another file by the same name.
  told.add(1, n("d"), 13);
  expect([namesOf(told, 10), namesOf(told, 13)]).toEqual([[], ["1/d"]]);
  // A rename of what the kernel never heard of takes only the target's name away.
  told.rename(7, n("x"), 1, n("d"), false);
  told.forget(12);
  expect(told.size).toBe(0);
});
