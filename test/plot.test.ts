/** The plots of the benchmarks: what a viewer refuses is none. */
import { expect, test } from "vitest";
import { barsSvg, linesSvg } from "../bench/plot.ts";

/** Why a text is no XML, as far as these can go wrong. */
function faults(svg: string): string[] {
  const found: string[] = [];
  for (const [tag] of svg.matchAll(/<[a-z][^>]*>/g)) {
    const names = [...tag.matchAll(/ ([a-zA-Z0-9-]+)="[^"<]*"/g)].map((m) => m[1]!);
    if (new Set(names).size < names.length) found.push(`an attribute twice: ${tag}`);
    if (tag.replaceAll(/ [a-zA-Z0-9-]+="[^"<]*"/g, "").replace(/^<[a-z]+ *\/?>$/, "") !== "")
      found.push(`attributes: ${tag}`);
  }
  const texts = svg.replaceAll(/<\/?[a-z][^>]*>/g, "");
  if (/<|&(?!amp;|lt;)/.test(texts)) found.push(`not escaped: ${texts}`);
  const depth = [...svg.matchAll(/<(\/?)[a-z][^>]*?(\/?)>/g)].reduce(
    (n, [, end, alone]) => n + (end ? -1 : alone ? 0 : 1),
    0,
  );
  if (depth !== 0) found.push(`${depth} tags are open`);
  return found;
}

test("bars and lines are XML", () => {
  const bars = barsSvg(
    "R & D",
    ["one", "other"],
    [
      { name: "PR < EX", values: [3, 1200] },
      { name: "none", values: [undefined, 0.4] },
    ],
  );
  const lines = linesSvg("more", "nodes", [
    {
      unit: "s",
      lines: [
        {
          name: "mount",
          points: [
            [2, 12.9],
            [12, 13],
          ],
        },
      ],
    },
    {
      unit: "µs",
      lines: [
        {
          name: "a lock",
          points: [
            [2, 10],
            [12, 400],
          ],
        },
      ],
    },
  ]);
  expect([faults(bars), faults(lines)]).toEqual([[], []]);
  expect(bars).toContain("R &amp; D");
  expect([bars.match(/<rect[^>]* height="10"/g)!.length, lines.match(/<circle/g)!.length]).toEqual([3, 4]);
});
