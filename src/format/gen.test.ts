import { expect, test } from "vitest";
import { asmLayout, formatDoc } from "./gen.ts";

const asm = asmLayout();
const body = (name: string): string | undefined =>
  new RegExp(`export function ${name}\\(.*\\{\\n {2}(.*)\\n\\}`).exec(asm)?.[1];

test.each([
  ["extent_rec_e_blkno", "return load<u64>(p, 8);"],
  ["set_extent_rec_e_cpos", "store<u32>(p, v);"],
  ["extent_list_l_recs", "return p + i * 16 + 16;"],
  ["super_block_s_dx_seed", "return load<u32>(p + i * 4, 188);"],
  ["journal_header_h_sequence", "return bswap<u32>(load<u32>(p, 8));"],
  ["set_journal_header_h_sequence", "store<u32>(p, bswap<u32>(v), 8);"],
  ["journal_superblock_s_errno", "return bswap<i32>(load<i32>(p, 32));"],
  ["commit_header_h_chksum_type", "return load<u8>(p, 12);"],
  ["dinode_i_chain", "return p + 192;"],
])("AssemblyScript: %s", (name, want) => {
  expect(body(name)).toBe(want);
});

test("AssemblyScript: no name is declared twice", () => {
  const names = [...asm.matchAll(/export (?:function|const) (\w+)/g)].map((m) => m[1]);
  expect(names.filter((n, i) => names.indexOf(n) !== i)).toEqual([]);
});

test("the document has every structure once, and every row as many cells as its head", () => {
  const doc = formatDoc();
  const heads = [...doc.matchAll(/^### (\w+)$/gm)].map((m) => m[1]);
  expect(new Set(heads).size).toBe(heads.length);
  expect(heads.length).toBeGreaterThan(100);
  const cells = (line: string): number => line.split(/(?<!\\)\|/).length;
  for (const table of doc.match(/(^\|.*\n)+/gm)!) {
    const lines = table.trim().split("\n");
    expect(new Set(lines.map(cells)).size, table.slice(0, 200)).toBe(1);
  }
});
