import { expect, test } from "vitest";
import { Dinode, ExtentBlock, OCFS2_BITMAP_FL, OCFS2_CHAIN_FL } from "./disk/index.ts";
import { applyMutation, mutations, revertMutation } from "./fuzz.ts";
import { JournalHeader } from "./jbd2/index.ts";

const counter = (): ((below: number) => number) => {
  let n = 0;
  return (below) => (n = (n * 1103515245 + 12345) >>> 0) % below;
};

test("each mutation changes its field and nothing else, and can be taken back", () => {
  const eb = ExtentBlock.alloc(64);
  eb.h_signature = "EXBLK01";
  eb.h_list.l_count = 4;
  eb.h_list.l_next_free_rec = 3;
  const all = new Uint8Array(eb.dv.buffer);
  const before = all.slice();
  let n = 0;
  for (const m of mutations(ExtentBlock, eb, counter())) {
    applyMutation(eb.dv, m);
    const changed = [...all.keys()].filter((i) => all[i] !== before[i]);
    expect(changed.length, m.name).toBeGreaterThan(0);
    expect(changed.every((i) => i >= m.off && i < m.off + m.after.length)).toBe(true);
    revertMutation(eb.dv, m);
    expect(all).toEqual(before);
    n++;
  }
  expect(n).toBeGreaterThan(80);
});

test("records in use are damaged, those of another union arm are not", () => {
  const di = Dinode.alloc(512);
  di.i_flags = OCFS2_BITMAP_FL | OCFS2_CHAIN_FL;
  di.i_chain.cl_count = 8;
  di.i_chain.cl_next_free_rec = 2;
  const names = [...mutations(Dinode, di, counter())].map((m) => m.name);
  expect(names).toContain("ocfs2_dinode.i_chain.cl_recs[1].c_blkno max");
  expect(names.some((n) => n.includes("cl_recs[2]"))).toBe(false);
  expect(names.some((n) => n.includes("i_list") || n.includes("i_super") || n.includes("ij_flags"))).toBe(false);
  expect(names.some((n) => n.includes("i_used"))).toBe(true);
});

test("off by one respects the byte order", () => {
  const h = JournalHeader.alloc();
  h.h_sequence = 0x1ff;
  const m = [...mutations(JournalHeader, h, counter())].find((x) => x.name.endsWith("h_sequence plus one"))!;
  applyMutation(h.dv, m);
  expect(h.h_sequence).toBe(0x200);
});

test("the same random numbers give the same mutations", () => {
  const eb = ExtentBlock.alloc(64);
  const run = () => [...mutations(ExtentBlock, eb, counter())].map((m) => [m.name, [...m.after]]);
  expect(run()).toEqual(run());
});
