/** Group descriptors of a new volume. Mirrors initialize_alloc_group of mkfs.c and ocfs2_init_group_desc of libocfs2. */
import { GroupDesc, groupBitmapSize, OCFS2_GROUP_DESC_SIGNATURE } from "../../format/disk/index.ts";
import type { ClusterBitmap } from "./cluster_bitmap.ts";
import type { Geometry } from "./geometry.ts";
import { GROUP_CHECK, type Identity, type Piece } from "./piece.ts";
import type { SubAllocator } from "./suballoc.ts";

interface GroupPlan {
  readonly blkno: number;
  readonly bits: number;
  readonly free: number;
  readonly chain: number;
  readonly next: number;
  readonly parent: number;
  readonly bitmap_bytes: number;
  fillBitmap(bitmap: Uint8Array): void;
}

function fillGroup(dv: DataView, off: number, plan: GroupPlan, id: Identity): void {
  const gd = GroupDesc.at(dv, off);
  gd.bg_signature = OCFS2_GROUP_DESC_SIGNATURE;
  gd.bg_generation = id.generation;
  gd.bg_size = plan.bitmap_bytes;
  gd.bg_bits = plan.bits;
  gd.bg_free_bits_count = plan.free;
  gd.bg_chain = plan.chain;
  gd.bg_next_group = plan.next;
  gd.bg_parent_dinode = plan.parent;
  gd.bg_blkno = plan.blkno;
  plan.fillBitmap(gd.bg_bitmap.bytes(plan.bitmap_bytes));
}

/** Block of a group of the global bitmap. */
export const clusterGroupBlkno = (group: number, g: Geometry): number =>
  group === 0 ? g.first_cluster_group_blkno : group * g.global_cpg * g.bpc;

/** All groups of the global bitmap. */
export function* clusterGroupPieces(
  bitmap: ClusterBitmap,
  parent: number,
  g: Geometry,
  id: Identity,
): Generator<Piece> {
  const bitmap_bytes = groupBitmapSize(g.block_size, false, 0);
  for (let i = 0; i < bitmap.group_count; i++) {
    const next = i + bitmap.chain_count;
    const blkno = clusterGroupBlkno(i, g);
    yield {
      stage: "bitmaps",
      blkno,
      blocks: 1,
      check_off: GROUP_CHECK,
      render(dv, off) {
        const plan: GroupPlan = {
          blkno,
          bits: bitmap.bits(i),
          free: bitmap.free(i),
          chain: i % bitmap.chain_count,
          next: next < bitmap.group_count ? clusterGroupBlkno(next, g) : 0,
          parent,
          bitmap_bytes,
          fillBitmap(bytes) {
            const used = bitmap.bitmapOf(i);
            if (used) bytes.set(used);
            else bytes[0] = 1;
          },
        };
        fillGroup(dv, off, plan, id);
      },
    };
  }
}

/** The groups of a suballocator. `bitmap_bytes`: what bg_size says. */
export function subGroupPieces(alloc: SubAllocator, parent: number, bitmap_bytes: number, id: Identity): Piece[] {
  return alloc.groups.map((group) => ({
    stage: "files",
    blkno: group.blkno,
    blocks: 1,
    check_off: GROUP_CHECK,
    render(dv, off) {
      const plan: GroupPlan = {
        blkno: group.blkno,
        bits: group.bits,
        free: group.bits - group.used,
        chain: group.chain,
        next: group.next,
        parent,
        bitmap_bytes,
        fillBitmap(bytes) {
          for (let i = 0; i < group.used; i++) bytes[i >> 3]! |= 1 << (i & 7);
        },
      };
      fillGroup(dv, off, plan, id);
    },
  }));
}
