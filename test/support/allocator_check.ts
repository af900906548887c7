/** Walks an allocator and throws when its counts do not agree: bits, groups, chains, dinode (what fsck's passes 0a to 0c look at). */
import { GroupDesc, type SystemInode } from "../../src/format/disk/index.ts";
import { type ChainAllocator, openAllocator, readGroup } from "../../src/volume/alloc/chain.ts";
import { dinodeOf } from "../../src/volume/inode.ts";
import type { Op } from "../../src/volume/op.ts";

export interface AllocatorShape {
  readonly groups: number;
  readonly used: number;
  readonly total: number;
  readonly discontig: number;
}

export function checkAllocator(op: Op, type: SystemInode, slot = 0): AllocatorShape {
  const { osb } = op;
  const ca: ChainAllocator = openAllocator(op, type, slot);
  const di = dinodeOf(op, ca.bh);
  const cl = di.i_chain;
  const fail = (what: string): never => {
    throw new Error(`allocator ${ca.inode.ino}: ${what}`);
  };
  let groups = 0;
  let free = 0;
  let total = 0;
  let discontig = 0;
  const seen = new Set<number>();
  for (let i = 0; i < cl.cl_next_free_rec; i++) {
    const rec = cl.cl_recs.at(i);
    let c_free = 0;
    let c_total = 0;
    for (let blkno = rec.c_blkno; blkno !== 0; ) {
      if (seen.has(blkno)) fail(`group ${blkno} is in two chains`);
      seen.add(blkno);
      groups++;
      const gd = GroupDesc.at(osb.cache.dv, readGroup(op, ca, blkno).addr);
      if (gd.bg_chain !== i) fail(`group ${blkno} is in chain ${i} and says ${gd.bg_chain}`);
      const set = osb.k.popcountRange(gd.bg_bitmap_off(0), 0, gd.bg_bits);
      if (gd.bg_bits - set !== gd.bg_free_bits_count)
        fail(`group ${blkno}: ${gd.bg_bits - set} bits are clear, bg_free_bits_count ${gd.bg_free_bits_count}`);
      if (gd.bg_size === 256 && gd.bg_list.l_next_free_rec > 0) {
        discontig++;
        let clusters = 0;
        for (let n = 0; n < gd.bg_list.l_next_free_rec; n++) {
          const r = gd.bg_list.l_recs.at(n);
          if (r.e_cpos !== clusters) fail(`group ${blkno} extent ${n} at ${r.e_cpos}, not ${clusters}`);
          clusters += r.e_leaf_clusters;
        }
        if (clusters !== cl.cl_cpg) fail(`group ${blkno} has ${clusters} clusters`);
      }
      c_free += gd.bg_free_bits_count;
      c_total += gd.bg_bits;
      blkno = gd.bg_next_group;
    }
    if (rec.c_free !== c_free || rec.c_total !== c_total)
      fail(`chain ${i}: c_free ${rec.c_free} of ${rec.c_total}, its groups have ${c_free} of ${c_total}`);
    free += c_free;
    total += c_total;
  }
  if (di.i_total !== total || di.i_total - di.i_used !== free)
    fail(`i_used ${di.i_used} of ${di.i_total}, chains have ${total - free} of ${total}`);
  return { groups, used: total - free, total, discontig };
}
