import { expect, test } from "vitest";
import { pagesAround } from "./held_ranges.ts";
import { KernelPages } from "./kernel_pages.ts";

const INO = 77;
const PAGE = 4096;

const uptodate = (pages: KernelPages, n: number): number[] =>
  Array.from({ length: n }, (_, i) => i).filter((i) => pages.mayBeUptodate(INO, pagesAround(i * PAGE, i * PAGE + 1)));

test("what a READ fills and what a WRITE covers may be uptodate; the page in which a WRITE ends is not, nor is one that is covered from its middle on alone", () => {
  const pages = new KernelPages();
  pages.filled(INO, 2 * PAGE, 100);
  expect(uptodate(pages, 8)).toEqual([2]);
  for (const [offset, len] of [
    [0, 100],
    [100, PAGE - 100],
    [4 * PAGE + 50, 100],
  ])
    pages.covered(INO, offset!, len!);
  expect(uptodate(pages, 8)).toEqual([2]);
  pages.covered(INO, 3 * PAGE + 50, 2 * PAGE);
  expect(uptodate(pages, 8)).toEqual([2, 3, 4]);
  pages.covered(INO, 6 * PAGE, PAGE);
  expect(uptodate(pages, 8)).toEqual([2, 3, 4, 6]);
  pages.forget(INO);
  expect(uptodate(pages, 8)).toEqual([]);
});

test("pages far into a file", () => {
  const pages = new KernelPages();
  const far = 2 ** 42;
  pages.filled(INO, far - PAGE, 2 * PAGE);
  expect([-2, -1, 0, 1].map((i) => pages.mayBeUptodate(INO, pagesAround(far + i * PAGE, far + i * PAGE + 1)))).toEqual([
    ...[false, true, true, false],
  ]);
});

test("what was there is gone when all was called back; what was left out is not, nor what came meanwhile", () => {
  const pages = new KernelPages();
  pages.filled(INO, 0, 4 * PAGE);
  pages.recall(INO);
  expect(uptodate(pages, 8)).toEqual([0, 1, 2, 3]);
  pages.covered(INO, 5 * PAGE, PAGE);
  pages.recalled(INO, [pagesAround(PAGE, 2 * PAGE), pagesAround(7 * PAGE, 8 * PAGE)]);
  expect(uptodate(pages, 8)).toEqual([1, 5]);
  // One that never ended, and the next.
  pages.recall(INO);
  pages.recall(INO);
  expect(uptodate(pages, 8)).toEqual([1, 5]);
  pages.recalled(INO, []);
  expect(uptodate(pages, 8)).toEqual([]);
});
