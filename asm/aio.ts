// A bounded queue of direct-I/O requests in the arena, for several producers and consumers in different threads.
// Without it requests between threads travel as messages, which costs more than the request. Each slot carries a
// sequence number that says whose turn it is, so neither side ever waits for the other inside the queue.
//
// Layout: u32 mask at 0, u32 tail at 64, u32 head at 128 (a cache line each), slots of 32 bytes from 192 on:
// u32 seq, 4 bytes free, 24 bytes of entry (u32 op, u32 addr, u32 len_bytes, u32 token, u64 offset_bytes).

const TAIL: usize = 64;
const HEAD: usize = 128;
const SLOTS: usize = 192;
const ENTRY: usize = 24;

/** capacity: a power of two, at least 2; the ring takes 192 + 32 * capacity bytes, aligned to 64. */
export function ringInit(ring: usize, capacity: u32): void {
  store<u32>(ring, capacity - 1);
  for (let i: u32 = 0; i < capacity; i++) atomic.store<u32>(ring + SLOTS + (<usize>i << 5), i);
  atomic.store<u32>(ring + TAIL, 0);
  atomic.store<u32>(ring + HEAD, 0);
}

/** Appends the 24 bytes at entry; 0 if the ring is full. */
export function ringPush(ring: usize, entry: usize): u32 {
  const mask = load<u32>(ring);
  let pos = atomic.load<u32>(ring + TAIL);
  while (true) {
    const slot = ring + SLOTS + (<usize>(pos & mask) << 5);
    const turn = <i32>(atomic.load<u32>(slot) - pos);
    if (turn == 0) {
      const was = atomic.cmpxchg<u32>(ring + TAIL, pos, pos + 1);
      if (was == pos) {
        memory.copy(slot + 8, entry, ENTRY);
        atomic.store<u32>(slot, pos + 1);
        return 1;
      }
      pos = was;
    } else if (turn < 0) {
      return 0;
    } else {
      pos = atomic.load<u32>(ring + TAIL);
    }
  }
}

/** Appends up to n entries of 24 bytes each; returns how many there was room for. */
export function ringPushN(ring: usize, entries: usize, n: u32): u32 {
  let i: u32 = 0;
  while (i < n && ringPush(ring, entries + <usize>i * ENTRY)) i++;
  return i;
}

/** Takes the oldest entry to out (24 bytes); 0 if there is none. */
export function ringPop(ring: usize, out: usize): u32 {
  const mask = load<u32>(ring);
  let pos = atomic.load<u32>(ring + HEAD);
  while (true) {
    const slot = ring + SLOTS + (<usize>(pos & mask) << 5);
    const turn = <i32>(atomic.load<u32>(slot) - (pos + 1));
    if (turn == 0) {
      const was = atomic.cmpxchg<u32>(ring + HEAD, pos, pos + 1);
      if (was == pos) {
        memory.copy(out, slot + 8, ENTRY);
        atomic.store<u32>(slot, pos + mask + 1);
        return 1;
      }
      pos = was;
    } else if (turn < 0) {
      return 0;
    } else {
      pos = atomic.load<u32>(ring + HEAD);
    }
  }
}

/** Takes up to n entries to out, 24 bytes each; returns how many. */
export function ringPopN(ring: usize, out: usize, n: u32): u32 {
  let i: u32 = 0;
  while (i < n && ringPop(ring, out + <usize>i * ENTRY)) i++;
  return i;
}

/** Entries in the ring at some moment during the call. */
export function ringCount(ring: usize): u32 {
  const head = atomic.load<u32>(ring + HEAD);
  const n = <i32>(atomic.load<u32>(ring + TAIL) - head);
  return n < 0 ? 0 : min(<u32>n, load<u32>(ring) + 1);
}
