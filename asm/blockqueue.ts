// Ordering block requests and merging them into batches, so that write-back sends the disk few large writes instead of
// many small ones. Without it each dirty block is a request of its own. Stands where the kernel has the block layer's
// plug list. A request is 16 bytes: u64 blkno, u32 addr (in the arena), u32 tag (the caller's).

const REQ: usize = 16;
const RUN: usize = 24;
const INSERT: u32 = 16;

// @ts-ignore: decorator
@inline
function key(reqs: usize, i: u32): u64 {
  return load<u64>(reqs + (<usize>i << 4));
}

// @ts-ignore: decorator
@inline
function copy(to: usize, from: usize): void {
  v128.store(to, v128.load(from));
}

/** Sorts n requests by block number, equal ones staying in order. scratch: room for n requests. */
export function bqSort(reqs: usize, n: u32, scratch: usize): void {
  let sorted: u32 = 1;
  while (sorted < n && key(reqs, sorted - 1) <= key(reqs, sorted)) sorted++;
  if (sorted >= n) return;

  for (let lo: u32 = 0; lo < n; lo += INSERT) {
    const hi = min(n, lo + INSERT);
    for (let i = lo + 1; i < hi; i++) {
      const k = key(reqs, i);
      if (key(reqs, i - 1) <= k) continue;
      const v = v128.load(reqs + (<usize>i << 4));
      let j = i;
      for (; j > lo && key(reqs, j - 1) > k; j--) copy(reqs + (<usize>j << 4), reqs + (<usize>(j - 1) << 4));
      v128.store(reqs + (<usize>j << 4), v);
    }
  }
  let from = reqs;
  let to = scratch;
  for (let width = INSERT; width < n; width <<= 1) {
    for (let lo: u32 = 0; lo < n; lo += width << 1) {
      const mid = min(n, lo + width);
      const hi = min(n, mid + width);
      let a = lo;
      let b = mid;
      for (let k = lo; k < hi; k++) {
        const left = a < mid && (b >= hi || key(from, a) <= key(from, b));
        copy(to + (<usize>k << 4), from + (<usize>(left ? a++ : b++) << 4));
      }
    }
    const t = from;
    from = to;
    to = t;
  }
  if (from != reqs) memory.copy(reqs, from, <usize>n << 4);
}

/**
 * Merges n sorted requests of one block each into runs contiguous on disk, of at most max_blocks blocks and max_iovs
 * stretches of memory. Writes a run (24 bytes: u64 blkno, u32 blocks, u32 index of its first iovec, u32 iovecs, u32
 * index of its first request) per run and an iovec (8 bytes: u32 addr, u32 len_bytes) per stretch; room for n of each.
 * Returns the number of runs. Equal block numbers never share a run.
 */
export function bqMerge(
  reqs: usize,
  n: u32,
  block_bytes: u32,
  max_blocks: u32,
  max_iovs: u32,
  runs: usize,
  iovs: usize,
): u32 {
  let nruns: u32 = 0;
  let niovs: u32 = 0;
  let run: usize = 0;
  let iov: usize = 0;
  let blocks: u32 = 0;
  let stretches: u32 = 0;
  let next: u64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const req = reqs + (<usize>i << 4);
    const blkno = load<u64>(req);
    const addr = load<u32>(req, 8);
    const follows = run != 0 && blkno == next && blocks < max_blocks;
    const adjoins = follows && addr == load<u32>(iov) + load<u32>(iov, 4);
    if (!follows || (!adjoins && stretches >= max_iovs)) {
      run = runs + <usize>nruns * RUN;
      nruns++;
      store<u64>(run, blkno);
      store<u32>(run, niovs, 12);
      store<u32>(run, i, 20);
      blocks = 0;
      stretches = 0;
    }
    if (adjoins && blocks > 0) {
      store<u32>(iov, load<u32>(iov, 4) + block_bytes, 4);
    } else {
      iov = iovs + (<usize>niovs << 3);
      niovs++;
      stretches++;
      store<u32>(iov, addr);
      store<u32>(iov, block_bytes, 4);
    }
    blocks++;
    store<u32>(run, blocks, 8);
    store<u32>(run, stretches, 16);
    next = blkno + 1;
  }
  return nruns;
}
