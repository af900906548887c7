// Looking a cluster up: in an extent list as it is on disk, and in a per-inode map cached in the arena. Without it
// every read walks the tree. Mirrors ocfs2_search_extent_list and __ocfs2_find_path (fs/ocfs2/alloc.c) and the
// cache in fs/ocfs2/extent_map.c, but searches by halves: the records of a valid list are sorted and do not overlap.
//
// The cached map: u32 seq, u32 count, u32 capacity, u32 reserved; then `capacity` records of u32 cpos, clusters,
// phys (a cluster number, 0: a hole), flags; sorted, never overlapping. One thread writes, any thread reads: seq is
// odd while the map changes, and a reader that saw it move starts again.

const REC: usize = 16;
const HEAD: usize = 16;
const SPINS: i32 = 64;

// @ts-ignore: decorator
@inline
function rec(recs: usize, i: u32): usize {
  return recs + (<usize>i << 4);
}

/** Number of the records [from, count) whose cpos is <= cpos, plus from: the slot behind the last candidate. */
// @ts-ignore: decorator
@inline
function upper(recs: usize, from: u32, count: u32, cpos: u32): u32 {
  let lo = from;
  let n = count - from;
  while (n > 0) {
    const half = n >> 1;
    const mid = lo + half;
    if (load<u32>(rec(recs, mid)) <= cpos) {
      lo = mid + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return lo;
}

/** Index of the leaf record that holds cpos, or -1: in a hole or behind the end. */
export function extentSearch(recs: usize, count: u32, cpos: u32): i32 {
  // The first record of a leaf may be an empty one, left for an insert, whose cpos says nothing.
  const from: u32 = count > 0 && load<u16>(recs, 4) == 0 ? 1 : 0;
  const i = upper(recs, from, max(count, from), cpos);
  if (i == from) return -1;
  const r = rec(recs, i - 1);
  return cpos - load<u32>(r) < <u32>load<u16>(r, 4) ? <i32>(i - 1) : -1;
}

/** extentSearch for n file positions (u32 each) in one leaf; i32 indexes go to out. */
export function extentSearchBatch(recs: usize, count: u32, cpos: usize, n: u32, out: usize): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    store<i32>(out + (i << 2), extentSearch(recs, count, load<u32>(cpos + (i << 2))));
  }
}

/** Index of the interior record to descend by; the last one if cpos is in none. -1 if there are no records. */
export function extentSearchInterior(recs: usize, count: u32, cpos: u32): i32 {
  const i = upper(recs, 0, count, cpos);
  if (i == 0) return <i32>count - 1;
  const r = rec(recs, i - 1);
  return cpos - load<u32>(r) < load<u32>(r, 4) ? <i32>(i - 1) : <i32>count - 1;
}

// The same for a list that may change meanwhile: atomic loads are not moved behind the check of seq.
// @ts-ignore: decorator
@inline
function upperShared(recs: usize, count: u32, cpos: u32): u32 {
  let lo: u32 = 0;
  let n = count;
  while (n > 0) {
    const half = n >> 1;
    const mid = lo + half;
    if (atomic.load<u32>(rec(recs, mid)) <= cpos) {
      lo = mid + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return lo;
}

export function emapInit(map: usize, capacity: u32): void {
  store<u32>(map, 0, 4);
  store<u32>(map, capacity, 8);
  store<u32>(map, 0, 12);
  atomic.store<u32>(map, 0);
}

/**
 * Copies the record that holds cpos to out (cpos, clusters, phys, flags) and returns its index; -1: not in the map;
 * -2: the map was being changed all the while.
 */
export function emapLookup(map: usize, cpos: u32, out: usize): i32 {
  for (let spin = 0; spin < SPINS; spin++) {
    const seq = atomic.load<u32>(map);
    if (seq & 1) continue;
    const count = min(atomic.load<u32>(map, 4), load<u32>(map, 8));
    const i = upperShared(map + HEAD, count, cpos);
    let found: i32 = -1;
    if (i > 0) {
      const r = rec(map + HEAD, i - 1);
      const start = atomic.load<u32>(r);
      const clusters = atomic.load<u32>(r, 4);
      if (cpos - start < clusters) {
        found = <i32>(i - 1);
        store<u32>(out, start);
        store<u32>(out, clusters, 4);
        store<u32>(out, atomic.load<u32>(r, 8), 8);
        store<u32>(out, atomic.load<u32>(r, 12), 12);
      }
    }
    if (atomic.load<u32>(map) == seq) return found;
  }
  return -2;
}

/**
 * emapLookup for n u32 positions; 16 bytes each to out, all zero where the map has nothing. Returns how many were
 * looked up: less than n if the map was being changed all the while.
 */
export function emapLookupBatch(map: usize, cpos: usize, n: u32, out: usize): u32 {
  for (let i: u32 = 0; i < n; i++) {
    const to = out + (<usize>i << 4);
    const found = emapLookup(map, load<u32>(cpos + (<usize>i << 2)), to);
    if (found == -2) return i;
    if (found < 0) v128.store(to, i64x2.splat(0));
  }
  return n;
}

// @ts-ignore: decorator
@inline
function put(r: usize, cpos: u32, clusters: u32, phys: u32, flags: u32): void {
  store<u32>(r, cpos);
  store<u32>(r, clusters, 4);
  store<u32>(r, phys, 8);
  store<u32>(r, flags, 12);
}

/** phys of the cluster `by` further on; a hole stays one. */
// @ts-ignore: decorator
@inline
function onward(phys: u32, by: u32): u32 {
  return phys ? phys + by : 0;
}

function move(map: usize, to: u32, from: u32, count: u32): void {
  if (count > from) memory.copy(rec(map + HEAD, to), rec(map + HEAD, from), <usize>(count - from) << 4);
}

/** Cuts [cpos, cpos + clusters) out; leaves the index of the first record behind the cut. -1: no room for a split. */
function cut(map: usize, cpos: u32, clusters: u32): i32 {
  const recs = map + HEAD;
  const end = <u64>cpos + <u64>clusters;
  let count = load<u32>(map, 4);
  let i = upper(recs, 0, count, cpos);
  if (i > 0) {
    const r = rec(recs, i - 1);
    const start = load<u32>(r);
    const r_end = <u64>start + <u64>load<u32>(r, 4);
    if (r_end > <u64>cpos) {
      if (r_end > end && start < cpos) {
        if (count >= load<u32>(map, 8)) return -1;
        move(map, i + 1, i, count);
        const by = <u32>(end - <u64>start);
        put(rec(recs, i), <u32>end, <u32>(r_end - end), onward(load<u32>(r, 8), by), load<u32>(r, 12));
        store<u32>(map, count + 1, 4);
        store<u32>(r, cpos - start, 4);
        return <i32>i;
      }
      if (start == cpos) i--;
      else store<u32>(r, cpos - start, 4);
    }
  }
  let j = i;
  for (; j < count; j++) {
    const r = rec(recs, j);
    const start = <u64>load<u32>(r);
    if (start >= end) break;
    const r_end = start + <u64>load<u32>(r, 4);
    if (r_end > end) {
      put(r, <u32>end, <u32>(r_end - end), onward(load<u32>(r, 8), <u32>(end - start)), load<u32>(r, 12));
      break;
    }
  }
  if (j > i) {
    move(map, i, j, count);
    count -= j - i;
    store<u32>(map, count, 4);
  }
  return <i32>i;
}

// @ts-ignore: decorator
@inline
function begin(map: usize): void {
  atomic.add<u32>(map, 1);
}

// @ts-ignore: decorator
@inline
function done(map: usize): void {
  atomic.add<u32>(map, 1);
}

/** Forgets [cpos, cpos + clusters); returns the number of records left, -1 if there was no room to split one. */
export function emapRemove(map: usize, cpos: u32, clusters: u32): i32 {
  if (clusters == 0) return <i32>load<u32>(map, 4);
  begin(map);
  const i = cut(map, cpos, clusters);
  done(map);
  return i < 0 ? -1 : <i32>load<u32>(map, 4);
}

/**
 * Puts a record in the place of whatever the map had there, joined with its neighbours where they continue each other
 * on disk with the same flags; returns the number of records, -1 if there is no room (the map is unchanged, or has
 * lost what the record would have replaced).
 */
export function emapInsert(map: usize, cpos: u32, clusters: u32, phys: u32, flags: u32): i32 {
  if (clusters == 0) return <i32>load<u32>(map, 4);
  begin(map);
  const at = cut(map, cpos, clusters);
  if (at < 0) {
    done(map);
    return -1;
  }
  const recs = map + HEAD;
  let i = <u32>at;
  let count = load<u32>(map, 4);
  let joined = false;
  if (i > 0) {
    const r = rec(recs, i - 1);
    const n = load<u32>(r, 4);
    if (load<u32>(r) + n == cpos && load<u32>(r, 12) == flags && same(load<u32>(r, 8), n, phys)) {
      store<u32>(r, n + clusters, 4);
      joined = true;
      i--;
    }
  }
  if (!joined) {
    const next = i < count ? rec(recs, i) : 0;
    if (next && load<u32>(next) == cpos + clusters && load<u32>(next, 12) == flags && same(phys, clusters, load<u32>(next, 8))) {
      put(next, cpos, load<u32>(next, 4) + clusters, phys, flags);
    } else {
      if (count >= load<u32>(map, 8)) {
        done(map);
        return -1;
      }
      move(map, i + 1, i, count);
      put(rec(recs, i), cpos, clusters, phys, flags);
      count++;
    }
  } else if (i + 1 < count) {
    const r = rec(recs, i);
    const next = rec(recs, i + 1);
    const n = load<u32>(r, 4);
    if (load<u32>(next) == load<u32>(r) + n && load<u32>(next, 12) == flags && same(load<u32>(r, 8), n, load<u32>(next, 8))) {
      store<u32>(r, n + load<u32>(next, 4), 4);
      move(map, i + 1, i + 2, count);
      count--;
    }
  }
  store<u32>(map, count, 4);
  done(map);
  return <i32>count;
}

/** Does `next` continue `clusters` clusters at phys? Two holes do. */
// @ts-ignore: decorator
@inline
function same(phys: u32, clusters: u32, next: u32): bool {
  return phys == 0 ? next == 0 : next == phys + clusters;
}
