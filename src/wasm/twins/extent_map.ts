// Twin of asm/extent_map.ts. The searches walk as the kernel's do; the cached map is read into records, changed as a
// list, and written back. Mirrors ocfs2_search_extent_list, __ocfs2_find_path and fs/ocfs2/extent_map.c.

import type { ExtentMapKernels } from "../kernels.ts";
import type { TwinMemory } from "./memory.ts";

const REC = 16;
const HEAD = 16;

type MapRec = { cpos: number; clusters: number; phys: number; flags: number };

export function extentMapTwin(m: TwinMemory): ExtentMapKernels {
  const { dv } = m;
  const u32 = (at: number) => dv.getUint32(at, true);

  function extentSearch(recs: number, count: number, cpos: number): number {
    for (let i = 0; i < count; i++) {
      const start = u32(recs + REC * i);
      if (cpos >= start && cpos < start + dv.getUint16(recs + REC * i + 4, true)) return i;
    }
    return -1;
  }

  function read(map: number): MapRec[] {
    return Array.from({ length: u32(map + 4) }, (_, i) => {
      const at = map + HEAD + REC * i;
      return { cpos: u32(at), clusters: u32(at + 4), phys: u32(at + 8), flags: u32(at + 12) };
    });
  }

  function write(map: number, recs: MapRec[]): number {
    Atomics.add(m.i32, map >>> 2, 1);
    recs.forEach((r, i) => {
      [r.cpos, r.clusters, r.phys, r.flags].forEach((v, k) => {
        dv.setUint32(map + HEAD + REC * i + 4 * k, v, true);
      });
    });
    dv.setUint32(map + 4, recs.length, true);
    Atomics.add(m.i32, map >>> 2, 1);
    return recs.length;
  }

  const onward = (phys: number, by: number) => (phys ? phys + by : 0);
  const continues = (a: MapRec, b: MapRec) =>
    a.cpos + a.clusters === b.cpos && a.flags === b.flags && onward(a.phys, a.clusters) === b.phys;

  /** What is left of the records without [cpos, end): before the cut and behind it. */
  function split(recs: MapRec[], cpos: number, end: number): [MapRec[], MapRec[]] {
    const before: MapRec[] = [];
    const behind: MapRec[] = [];
    for (const r of recs) {
      const r_end = r.cpos + r.clusters;
      if (r.cpos < cpos) before.push({ ...r, clusters: Math.min(r_end, cpos) - r.cpos });
      if (r_end > end) {
        const start = Math.max(r.cpos, end);
        behind.push({ ...r, cpos: start, clusters: r_end - start, phys: onward(r.phys, start - r.cpos) });
      }
    }
    return [before, behind];
  }

  function emapLookup(map: number, cpos: number, out: number): number {
    const i = read(map).findIndex((r) => cpos >= r.cpos && cpos < r.cpos + r.clusters);
    if (i >= 0) m.u8.copyWithin(out, map + HEAD + REC * i, map + HEAD + REC * (i + 1));
    return i;
  }

  return {
    extentSearch,
    extentSearchBatch(recs, count, cpos, n, out) {
      for (let i = 0; i < n; i++) dv.setInt32(out + 4 * i, extentSearch(recs, count, u32(cpos + 4 * i)), true);
    },
    extentSearchInterior(recs, count, cpos) {
      for (let i = 0; i < count; i++) {
        const start = u32(recs + REC * i);
        if (cpos >= start && cpos < start + u32(recs + REC * i + 4)) return i;
      }
      return count - 1;
    },
    emapInit(map, capacity) {
      dv.setUint32(map + 4, 0, true);
      dv.setUint32(map + 8, capacity, true);
      dv.setUint32(map + 12, 0, true);
      Atomics.store(m.i32, map >>> 2, 0);
    },
    emapLookup,
    emapLookupBatch(map, cpos, n, out) {
      for (let i = 0; i < n; i++) {
        const to = out + REC * i;
        if (emapLookup(map, u32(cpos + 4 * i), to) < 0) m.u8.fill(0, to, to + REC);
      }
      return n;
    },
    emapInsert(map, cpos, clusters, phys, flags) {
      const capacity = u32(map + 8);
      if (clusters === 0) return u32(map + 4);
      const [before, behind] = split(read(map), cpos, cpos + clusters);
      if (before.length + behind.length > capacity) return -1;
      const ins = { cpos, clusters, phys, flags };
      const left = before.at(-1);
      const right = behind[0];
      if (left && continues(left, ins)) {
        before.pop();
        Object.assign(ins, left, { clusters: left.clusters + clusters });
      }
      if (right && continues(ins, right)) {
        behind.shift();
        ins.clusters += right.clusters;
      }
      if (before.length + behind.length >= capacity) {
        write(map, [...before, ...behind]);
        return -1;
      }
      return write(map, [...before, ins, ...behind]);
    },
    emapRemove(map, cpos, clusters) {
      if (clusters === 0) return u32(map + 4);
      const [before, behind] = split(read(map), cpos, cpos + clusters);
      if (before.length + behind.length > u32(map + 8)) return -1;
      return write(map, [...before, ...behind]);
    },
  };
}
