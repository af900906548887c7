/**
 * A chain allocator of blocks (extent_alloc, inode_alloc and, with one group that mkfs makes by hand, global_inode_alloc) while a
 * volume is being planned. Mirrors ocfs2_chain_add_group and ocfs2_chain_alloc in libocfs2's chainalloc.c.
 */
import { chainRecsPerInode } from "../../format/disk/index.ts";
import type { ClusterBitmap } from "./cluster_bitmap.ts";
import type { Geometry } from "./geometry.ts";

export interface SubGroup {
  readonly blkno: number;
  readonly bits: number;
  readonly chain: number;
  /** Block number of the chain's next group, 0 at the end. */
  readonly next: number;
  /** Bits in use; they are taken from the first on. */
  used: number;
}

export interface ChainPlan {
  blkno: number;
  total: number;
  free: number;
}

/** A block that an allocator gave: where, and the place that its owner's suballoc fields name. */
export interface SubBlock {
  readonly blkno: number;
  readonly bit: number;
  readonly group_blkno: number;
}

export class SubAllocator {
  readonly cpg: number;
  readonly groups: SubGroup[] = [];
  readonly chains: ChainPlan[] = [];
  readonly #geometry: Geometry;
  readonly #bitmap: ClusterBitmap;

  constructor(geometry: Geometry, bitmap: ClusterBitmap, cpg: number) {
    this.#geometry = geometry;
    this.#bitmap = bitmap;
    this.cpg = cpg;
  }

  get clusters(): number {
    return this.groups.length * this.cpg;
  }

  get total(): number {
    return this.chains.reduce((n, c) => n + c.total, 0);
  }

  get used(): number {
    return this.groups.reduce((n, g) => n + g.used, 0);
  }

  get hasRoom(): boolean {
    return this.groups.some((g) => g.used < g.bits);
  }

  /** Adds a group of cpg clusters, from where libocfs2 would take them. */
  addGroup(): SubGroup {
    return this.addGroupAt(this.#bitmap.allocRange(this.cpg, this.cpg).start);
  }

  /** Adds a group at a cluster that is already allocated. Its first bit is its descriptor. */
  addGroupAt(cluster: number): SubGroup {
    const { bpc, block_size } = this.#geometry;
    const blkno = cluster * bpc;
    const count = chainRecsPerInode(block_size);
    const at = this.chains.length < count ? this.chains.length : this.groups.length % count;
    const bits = this.cpg * bpc;
    this.chains[at] ??= { blkno: 0, total: 0, free: 0 };
    const chain = this.chains[at];
    const group = { blkno, bits, chain: at, next: chain.blkno, used: 1 };
    this.groups.push(group);
    chain.blkno = blkno;
    chain.total += bits;
    chain.free += bits - 1;
    return group;
  }

  /** Takes the next block of the lowest group with room, of a new group if none has. */
  alloc(): SubBlock {
    const open = this.groups.filter((g) => g.used < g.bits);
    const group = open.length === 0 ? this.addGroup() : open.reduce((a, b) => (b.blkno < a.blkno ? b : a));
    const bit = group.used++;
    this.chains[group.chain]!.free--;
    return { blkno: group.blkno + bit, bit, group_blkno: group.blkno };
  }
}
