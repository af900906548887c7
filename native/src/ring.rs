//! Rings as TypeScript sees them: it writes records into a table that both sides know, one call hands the whole table to the
//! kernel, and completions come back in a second table. So an operation costs TypeScript a few stores and no native call,
//! and a turn of the volume thread costs two.
//!
//! A record is 32 bytes, in host order (`RECORD` in src/native/index.ts is its other half):
//!
//! ```text
//!  0 u32 op       4 i32 fd      8 u32 addr    12 u32 len
//! 16 f64 offset  24 u32 flags  28 u32 user_data
//! ```
//!
//! A completion is two i32: user_data, result.

use napi::{Env, Result};
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::arena::{Bytes, Span, arena};
use crate::fence;
use crate::lease_clock::boottime_ns;
use crate::uring_sys::*;
use crate::{whole, wrong};

const RECORD_LEN: usize = 32;

#[repr(C)]
#[derive(Clone, Copy)]
struct Record {
    op: u32,
    fd: i32,
    addr: u32,
    len: u32,
    offset: f64,
    flags: u32,
    user_data: u32,
}

/// user_data of entries whose completion TypeScript has had already or never asked for.
const SILENT: u64 = 1 << 63;
/// In the user_data of entries through which the kernel reads or writes the arena.
const IN_ARENA: u64 = 1 << 62;
/// How often a submission that the kernel has no memory for is tried again before TypeScript hears of it.
const SUBMIT_TRIES: u32 = 1000;
/// How long closing waits for what is in flight, in ms.
const CLOSE_WAIT_MS: f64 = 5000.0;

struct Ring {
    uring: Uring,
    arena: Span,
    lease: u32,
    records: Bytes,
    completions: Bytes,
    /// Entries pushed less completions taken.
    in_flight: u32,
    /// How many of those TypeScript does not wait for.
    silent: u32,
    /// How many of those have memory of the arena.
    in_arena: u32,
    /// Completions that did not come from the kernel: writes that the gate refused.
    refused: VecDeque<u32>,
    /// Whether an entry that the kernel has not consumed may be a write.
    holds_writes: bool,
    /// Per slot: what an entry points to. The kernel copies it when it consumes the entry (IORING_FEAT_SUBMIT_STABLE).
    timespecs: Vec<[i64; 2]>,
    iovecs: Vec<Vec<libc::iovec>>,
}

impl Ring {
    fn new(uring: Uring, arena: Span, lease: u32, records: Bytes, completions: Bytes) -> Ring {
        let slots = uring.sq_entries as usize;
        Ring {
            uring,
            arena,
            lease,
            records,
            completions,
            in_flight: 0,
            silent: 0,
            in_arena: 0,
            refused: VecDeque::new(),
            holds_writes: false,
            timespecs: vec![[0; 2]; slots],
            iovecs: vec![Vec::new(); slots],
        }
    }

    /// The entry for a record; `slot` is where it will be.
    fn entry(&mut self, r: &Record, slot: usize) -> Result<Sqe> {
        let mut sqe = Sqe { opcode: r.op as u8, fd: r.fd, user_data: r.user_data as u64, ..Default::default() };
        match sqe.opcode {
            OP_NOP => sqe.fd = -1,
            OP_READ | OP_WRITE => {
                sqe.addr = self.arena.at(r.addr as u64, r.len as u64)? as u64;
                sqe.len = r.len;
                sqe.off = whole(r.offset, "offset")?;
                sqe.op_flags = r.flags;
            }
            OP_READV | OP_WRITEV => {
                let table = self.arena.at(r.addr as u64, r.len as u64 * 8)? as *const u32;
                let iov = &mut self.iovecs[slot];
                iov.clear();
                for i in 0..r.len as usize {
                    let (addr, len) =
                        unsafe { (table.add(2 * i).read_unaligned(), table.add(2 * i + 1).read_unaligned()) };
                    let base = self.arena.at(addr as u64, len as u64)?;
                    iov.push(libc::iovec { iov_base: base.cast(), iov_len: len as usize });
                }
                sqe.addr = iov.as_ptr() as u64;
                sqe.len = r.len;
                sqe.off = whole(r.offset, "offset")?;
                sqe.op_flags = r.flags;
            }
            OP_FSYNC => sqe.op_flags = r.flags & FSYNC_DATASYNC,
            OP_FALLOCATE => {
                sqe.off = whole(r.offset, "offset")?;
                sqe.addr = r.addr as u64 | (r.len as u64) << 32;
                sqe.len = r.flags;
            }
            OP_POLL_ADD => sqe.op_flags = if cfg!(target_endian = "big") { r.flags.rotate_left(16) } else { r.flags },
            OP_TIMEOUT => {
                let ns = (r.offset * 1e6) as i64;
                self.timespecs[slot] = [ns / 1_000_000_000, ns % 1_000_000_000];
                sqe.fd = -1;
                sqe.addr = self.timespecs[slot].as_ptr() as u64;
                sqe.len = 1;
            }
            OP_TIMEOUT_REMOVE | OP_ASYNC_CANCEL => {
                sqe.fd = -1;
                sqe.addr = r.addr as u64;
            }
            other => return wrong(format!("ring record with operation {other}")),
        }
        Ok(sqe)
    }

    /// Queues record `i`; false when the ring is full.
    fn stage(&mut self, i: usize) -> Result<bool> {
        let Some(slot) = self.uring.next_slot() else { return Ok(false) };
        let record = unsafe { (self.records.base as *const Record).add(i).read() };
        let mut sqe = self.entry(&record, slot)?;
        if matches!(sqe.opcode, OP_READ | OP_WRITE | OP_READV | OP_WRITEV) {
            sqe.user_data |= IN_ARENA;
            self.in_arena += 1;
        }
        self.holds_writes |= is_write(sqe.opcode);
        self.uring.push(&sqe);
        self.in_flight += 1;
        Ok(true)
    }

    fn pop(&mut self) -> Option<Cqe> {
        let cqe = self.uring.pop()?;
        self.in_flight -= 1;
        self.silent -= (cqe.user_data & SILENT != 0) as u32;
        self.in_arena -= (cqe.user_data & IN_ARENA != 0) as u32;
        Some(cqe)
    }

    /// Hands everything queued to the kernel and waits for `min` completions. The write gate is here, and nowhere else:
    /// each io_uring_enter that could consume a write is preceded by a look at the lease.
    fn flush(&mut self, min: u32, timeout_ms: f64) -> i32 {
        let deadline_ns =
            if min > 0 && timeout_ms >= 0.0 { boottime_ns() + (timeout_ms * 1e6) as i64 } else { i64::MAX };
        let mut left_ms = timeout_ms;
        let mut tries = 0;
        loop {
            if self.holds_writes && fence::is_shut(self.lease) {
                self.refuse_writes();
            }
            let pending = self.uring.pending();
            // Silent entries complete at once and are counted by the kernel, so they come on top. Nobody waits for more than can come.
            let still = min.saturating_sub(self.refused.len() as u32);
            let most = self.in_flight.min(self.uring.cq_entries);
            let wanted = if still == 0 { 0 } else { (still + self.silent).min(most) };
            let wait = wanted > self.uring.ready() && left_ms != 0.0;
            if pending == 0 && !wait {
                return 0;
            }
            let r = self.uring.enter(pending, if wait { wanted } else { 0 }, left_ms);
            let all_taken = self.uring.pending() == 0;
            if all_taken {
                self.holds_writes = false;
            }
            match -r {
                // A call that submitted anything says so, and not that a signal or the time cut its wait short.
                ..=0 | libc::EINTR | libc::ETIME => {}
                libc::EAGAIN | libc::EBUSY | libc::ENOMEM if !all_taken && tries < SUBMIT_TRIES => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                _ => return r,
            }
            if deadline_ns != i64::MAX {
                left_ms = (deadline_ns - boottime_ns()).max(0) as f64 / 1e6;
            }
        }
    }

    /// Turns the writes that the kernel has not consumed into no-operations and completes them with -ESHUTDOWN.
    #[cold]
    fn refuse_writes(&mut self) {
        let (head, tail) = self.uring.unconsumed();
        let mut position = head;
        while position != tail {
            let sqe = self.uring.entry(position);
            if is_write(sqe.opcode) {
                self.refused.push_back(sqe.user_data as u32);
                self.in_arena -= (sqe.user_data & IN_ARENA != 0) as u32;
                *sqe = Sqe { opcode: OP_NOP, fd: -1, user_data: SILENT, ..Default::default() };
                self.silent += 1;
            }
            position = position.wrapping_add(1);
        }
        self.holds_writes = false;
    }

    /// Moves completions into the table, as many as fit.
    fn reap(&mut self) -> u32 {
        if self.uring.has_hidden() {
            self.uring.enter(0, 0, -1.0);
        }
        let out = self.completions.base as *mut i32;
        let room = self.completions.len / 8;
        let mut n = 0;
        let mut put = |user_data: u32, res: i32| {
            unsafe {
                out.add(2 * n).write(user_data as i32);
                out.add(2 * n + 1).write(res);
            }
            n += 1;
            n < room
        };
        while let Some(user_data) = self.refused.pop_front() {
            if !put(user_data, -libc::ESHUTDOWN) {
                return room as u32;
            }
        }
        while let Some(cqe) = self.pop() {
            if cqe.user_data & SILENT == 0 && !put(cqe.user_data as u32, cqe.res) {
                break;
            }
        }
        n as u32
    }

    /// Cancels what can be cancelled and waits for the rest, because the kernel may still write to the arena. What has no memory of it ends with
    /// the ring where not all can be cancelled at once (before Linux 5.19).
    /// The number of operations that are still in flight after `CLOSE_WAIT_MS`.
    fn drain(&mut self, cancel_flags: u32) -> u32 {
        let deadline = boottime_ns() + (CLOSE_WAIT_MS * 1e6) as i64;
        let mut asked = false;
        let mut may_cancel = true;
        loop {
            let left = if may_cancel { self.in_flight } else { self.in_arena };
            if left == 0 || boottime_ns() >= deadline {
                return left;
            }
            if !asked && self.uring.next_slot().is_some() {
                self.uring.push(&Sqe {
                    opcode: OP_ASYNC_CANCEL,
                    fd: -1,
                    op_flags: cancel_flags,
                    user_data: SILENT,
                    ..Default::default()
                });
                self.in_flight += 1;
                self.silent += 1;
                asked = true;
            }
            // Nobody takes them any more, and while there are some nothing is waited for.
            self.refused.clear();
            self.flush(1, 100.0);
            while let Some(cqe) = self.pop() {
                may_cancel &= cqe.user_data & SILENT == 0 || cqe.res != -libc::EINVAL;
            }
        }
    }
}

const CANCEL_ALL: u32 = ASYNC_CANCEL_ANY | ASYNC_CANCEL_ALL;

/// Operations that change the device. A flush (fsync) does not: what it makes durable was written before.
#[inline]
fn is_write(opcode: u8) -> bool {
    matches!(opcode, OP_WRITE | OP_WRITEV | OP_FALLOCATE)
}

thread_local! {
    static RINGS: RefCell<Vec<Option<Box<Ring>>>> = const { RefCell::new(Vec::new()) };
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

fn with_ring<T>(id: u32, f: impl FnOnce(&mut Ring) -> Result<T>) -> Result<T> {
    RINGS.with_borrow_mut(|rings| match rings.get_mut(id as usize) {
        Some(Some(ring)) => f(ring),
        _ => wrong(format!("no ring {id} on this thread")),
    })
}

/// A ring of `entries` (rounded up to a power of two) over an arena, with its two tables and the lease that its writes are
/// under (0: none). A handle of this thread, or -errno (-ENOSYS: the kernel has no usable io_uring; -EPERM: it is forbidden).
#[napi]
pub fn ring_create(
    env: Env,
    entries: u32,
    arena_id: u32,
    records: Bytes,
    completions: Bytes,
    lease: u32,
) -> Result<i32> {
    if !fence::lease_exists(lease) {
        return wrong(format!("no lease {lease}"));
    }
    if records.len < RECORD_LEN
        || completions.len < 8
        || !(records.base as usize).is_multiple_of(8)
        || !(completions.base as usize).is_multiple_of(4)
    {
        return wrong("the tables of a ring hold at least one record".into());
    }
    let arena = arena(arena_id)?;
    let uring = match Uring::new(entries) {
        Ok(uring) => uring,
        Err(e) => return Ok(e),
    };
    let ring = Box::new(Ring::new(uring, arena, lease, records, completions));
    if !HOOKED.replace(true) {
        // A worker that is terminated would otherwise free an arena into which the kernel still writes.
        env.add_env_cleanup_hook((), |()| {
            RINGS.with_borrow_mut(|rings| {
                for mut ring in rings.drain(..).flatten() {
                    ring.drain(CANCEL_ALL);
                }
            })
        })?;
    }
    RINGS.with_borrow_mut(|rings| {
        let free = rings.iter().position(Option::is_none);
        let id = free.unwrap_or(rings.len());
        match free {
            Some(i) => rings[i] = Some(ring),
            None => rings.push(Some(ring)),
        }
        Ok(id as i32)
    })
}

/// Hands the first `count` records to the kernel, then waits for `min` completions, at most `timeout_ms` (negative: for good).
/// The number of records taken, fewer than `count` only when the kernel has no memory; or -errno.
pub fn ring_enter(id: u32, count: u32, min: u32, timeout_ms: f64) -> Result<i32> {
    with_ring(id, |ring| {
        let count = count as usize;
        if count > ring.records.len / RECORD_LEN {
            return wrong(format!("ring {id}: {count} records"));
        }
        if min > 0 && count == 0 && ring.in_flight == 0 && ring.refused.is_empty() {
            return wrong(format!("ring {id}: a wait with nothing in flight would never end"));
        }
        let mut taken = 0;
        while taken < count {
            if ring.stage(taken)? {
                taken += 1;
            } else {
                let r = ring.flush(0, -1.0);
                if r < 0 {
                    return Ok(if taken > 0 { taken as i32 } else { r });
                }
            }
        }
        let r = ring.flush(min, timeout_ms);
        Ok(if r < 0 && taken == 0 { r } else { taken as i32 })
    })
}

/// Fills the completion table; the number of completions in it. Call again when it comes back full.
pub fn ring_reap(id: u32) -> Result<u32> {
    with_ring(id, |ring| Ok(ring.reap()))
}

/// Operations handed to the kernel whose completions have not been reaped.
pub fn ring_in_flight(id: u32) -> Result<u32> {
    with_ring(id, |ring| Ok(ring.in_flight))
}

/// Cancels and waits for what is in flight, then closes. The number of operations that did not end within 5 s.
#[napi]
pub fn ring_close(id: u32) -> Result<u32> {
    let ring = RINGS.with_borrow_mut(|rings| rings.get_mut(id as usize).and_then(Option::take));
    let Some(mut ring) = ring else { return wrong(format!("no ring {id} on this thread")) };
    let left = ring.drain(CANCEL_ALL);
    ring.records.release();
    ring.completions.release();
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn closes_at_once_where_the_kernel_cannot_cancel_all() {
        let [mut memory, mut records, mut completions] = [[0u64; 4]; 3];
        let event = crate::file::eventfd_create();
        let arena = Bytes::of(&mut memory).view();
        let uring = Uring::new(8).unwrap();
        let mut ring = Ring::new(uring, arena, 0, Bytes::of(&mut records), Bytes::of(&mut completions));
        let op_flags = libc::POLLIN as u32;
        ring.uring.push(&Sqe { opcode: OP_POLL_ADD, fd: event, op_flags, user_data: 1, ..Default::default() });
        ring.in_flight = 1;
        assert_eq!(ring.flush(0, -1.0), 0);
        // A flag that the kernel does not know, as it does not know these before 5.19.
        let begin = Instant::now();
        assert_eq!(ring.drain(1 << 30), 0);
        assert!(begin.elapsed() < Duration::from_secs(2));
        unsafe { libc::close(event) };
    }
}
