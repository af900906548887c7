/**
 * The global bitmap while a volume is being planned. A volume may have a hundred thousand groups of which a handful are touched,
 * so a group gets a bitmap only when a bit other than its first is set.
 *
 * Two ways to allocate, because the layout shall be that of mkfs.ocfs2, which has two: its own (alloc_from_bitmap in mkfs.c: the
 * first group, by chains, that has enough free bits) and libocfs2's (alloc_range_func in bitmap.c: by position, taking the longest
 * run of the first group with room when nothing holds all).
 */
import { chainRecsPerInode } from "../../format/disk/index.ts";
import type { Geometry } from "./geometry.ts";
import { MkfsError } from "./params.ts";

export interface ClusterRun {
  readonly start: number;
  readonly len: number;
}

/** First bit from `from` on whose value is `set`, or `bits`. */
function findBit(bitmap: Uint8Array, bits: number, from: number, set: 0 | 1): number {
  const dull = set === 1 ? 0 : 0xff;
  for (let i = from; i < bits; ) {
    const byte = bitmap[i >> 3]!;
    if (byte === dull) {
      i = (i | 7) + 1;
    } else if (((byte >> (i & 7)) & 1) === set) {
      return i;
    } else {
      i++;
    }
  }
  return bits;
}

/** The first clear run of at least `max` bits (cut to `max`), else the longest one of at least `min`. */
function findRun(bitmap: Uint8Array, bits: number, min: number, max: number): ClusterRun | undefined {
  let best: ClusterRun | undefined;
  for (let start = 0; start + min <= bits; ) {
    start = findBit(bitmap, bits, start, 0);
    if (start === bits) break;
    const end = findBit(bitmap, bits, start, 1);
    if (end - start >= max) return { start, len: max };
    if (end - start >= min && end - start > (best?.len ?? 0)) best = { start, len: end - start };
    start = end + 1;
  }
  return best;
}

export class ClusterBitmap {
  readonly cpg: number;
  readonly group_count: number;
  readonly chain_count: number;
  readonly #tail_bits: number;
  readonly #free: Uint16Array;
  readonly #bitmaps = new Map<number, Uint8Array>();
  /** No group below has a free bit. */
  #first_free = 0;
  #used: number;

  constructor(g: Geometry) {
    this.cpg = g.global_cpg;
    this.group_count = g.cluster_groups;
    this.chain_count = Math.min(g.cluster_groups, chainRecsPerInode(g.block_size));
    this.#tail_bits = g.tail_group_bits;
    this.#free = new Uint16Array(g.cluster_groups).map((_, i) => this.bits(i) - 1);
    this.#used = g.cluster_groups;
    // Group 0 starts at cluster 0 but its descriptor lies behind the super block: all up to that is used.
    this.#take(0, 1, g.first_cluster_group);
  }

  /** Bits of a group. */
  bits(group: number): number {
    return group === this.group_count - 1 ? this.#tail_bits : this.cpg;
  }

  free(group: number): number {
    return this.#free[group]!;
  }

  /** Used bits of all groups. */
  get used(): number {
    return this.#used;
  }

  /** The group's bits, or undefined when only the first is set. */
  bitmapOf(group: number): Uint8Array | undefined {
    return this.#bitmaps.get(group);
  }

  /** Groups of one chain, from its first on. */
  *chain(chain: number): Generator<number> {
    for (let i = chain; i < this.group_count; i += this.chain_count) yield i;
  }

  isSet(cluster: number): boolean {
    const group = Math.floor(cluster / this.cpg);
    const bit = cluster % this.cpg;
    const bitmap = this.#bitmaps.get(group);
    return bitmap ? ((bitmap[bit >> 3]! >> (bit & 7)) & 1) === 1 : bit === 0;
  }

  /** Takes one given cluster, which must be free. */
  set(cluster: number): void {
    this.#take(Math.floor(cluster / this.cpg), cluster % this.cpg, 1);
  }

  /** Takes `len` clusters in one piece; the first of them. Throws MkfsError when the first group with so many free bits has them in pieces. */
  allocByChains(len: number): number {
    for (let chain = 0; chain < this.chain_count; chain++) {
      for (const group of this.chain(chain)) {
        if (this.#free[group]! < len) continue;
        const run = findRun(this.#writable(group), this.bits(group), len, len);
        if (run) return this.#take(group, run.start, len);
      }
    }
    return noRoom(len);
  }

  /** Takes between `min` and `max` clusters in one piece. Throws MkfsError when there is none. */
  allocRange(min: number, max: number): ClusterRun {
    while (this.#first_free < this.group_count && this.#free[this.#first_free] === 0) this.#first_free++;
    for (let group = this.#first_free; group < this.group_count; group++) {
      if (this.#free[group]! < min) continue;
      const run = findRun(this.#writable(group), this.bits(group), min, max);
      if (run) return { start: this.#take(group, run.start, run.len), len: run.len };
    }
    return noRoom(min);
  }

  /** Whether `len` clusters are free in one piece. */
  hasRange(len: number): boolean {
    if (len === 0) return true;
    for (let group = this.#first_free; group < this.group_count; group++) {
      if (this.#free[group]! >= len && findRun(this.#writable(group), this.bits(group), len, len)) return true;
    }
    return false;
  }

  #writable(group: number): Uint8Array {
    let bitmap = this.#bitmaps.get(group);
    if (!bitmap) {
      bitmap = new Uint8Array(Math.ceil(this.cpg / 8));
      bitmap[0] = 1;
      this.#bitmaps.set(group, bitmap);
    }
    return bitmap;
  }

  #take(group: number, bit: number, len: number): number {
    const bitmap = this.#writable(group);
    for (let i = bit; i < bit + len; i++) bitmap[i >> 3]! |= 1 << (i & 7);
    this.#free[group]! -= len;
    this.#used += len;
    return group * this.cpg + bit;
  }
}

function noRoom(len: number): never {
  throw new MkfsError(
    `the volume has no room for ${len} clusters of system files; enlarge it, or lower -N, -J size= or -C`,
  );
}
