//! The io_uring of the kernel's uapi (include/uapi/linux/io_uring.h): set-up, the two rings, io_uring_enter.
//!
//! Written out here, and not taken from a crate, for one reason: the write gate must be able to take back submission
//! entries that the kernel has not consumed, and that needs the entries between head and tail in hand. No SQPOLL: with it the
//! kernel would take entries by itself and there would be no moment at which to look at the lease.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::neg_errno;

pub const OP_NOP: u8 = 0;
pub const OP_READV: u8 = 1;
pub const OP_WRITEV: u8 = 2;
pub const OP_FSYNC: u8 = 3;
pub const OP_POLL_ADD: u8 = 6;
pub const OP_TIMEOUT: u8 = 11;
pub const OP_TIMEOUT_REMOVE: u8 = 12;
pub const OP_ASYNC_CANCEL: u8 = 14;
pub const OP_FALLOCATE: u8 = 17;
pub const OP_READ: u8 = 22;
pub const OP_WRITE: u8 = 23;

pub const ASYNC_CANCEL_ALL: u32 = 1 << 0;
pub const ASYNC_CANCEL_ANY: u32 = 1 << 2;
pub const FSYNC_DATASYNC: u32 = 1 << 0;

const SETUP_CQSIZE: u32 = 1 << 3;
const SETUP_CLAMP: u32 = 1 << 4;
const SETUP_SUBMIT_ALL: u32 = 1 << 7;
const SETUP_TASKRUN_FLAG: u32 = 1 << 9;
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;

const FEAT_SINGLE_MMAP: u32 = 1 << 0;
const FEAT_NODROP: u32 = 1 << 1;
const FEAT_SUBMIT_STABLE: u32 = 1 << 2;
const FEAT_EXT_ARG: u32 = 1 << 8;

const SQ_CQ_OVERFLOW: u32 = 1 << 1;
const SQ_TASKRUN: u32 = 1 << 2;

const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;

const OFF_SQ_RING: i64 = 0;
const OFF_SQES: i64 = 0x1000_0000;

/// struct io_uring_sqe.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub fd: i32,
    pub off: u64,
    pub addr: u64,
    pub len: u32,
    pub op_flags: u32,
    pub user_data: u64,
    pub buf_index: u16,
    pub personality: u16,
    pub splice_fd: i32,
    pub addr3: u64,
    pub pad: u64,
}

/// struct io_uring_cqe.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cqe {
    pub user_data: u64,
    pub res: i32,
    pub flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    resv1: u32,
    user_addr: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    resv1: u32,
    user_addr: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq_off: SqOffsets,
    cq_off: CqOffsets,
}

#[repr(C)]
struct Timespec {
    sec: i64,
    nsec: i64,
}

#[repr(C)]
struct GeteventsArg {
    sigmask: u64,
    sigmask_sz: u32,
    pad: u32,
    ts: u64,
}

/// A ring with its mappings. All of it belongs to one thread.
pub struct Uring {
    fd: i32,
    rings: *mut u8,
    rings_len: usize,
    sqes: *mut Sqe,
    sqes_len: usize,
    sq_head: *const AtomicU32,
    sq_tail: *const AtomicU32,
    sq_flags: *const AtomicU32,
    sq_mask: u32,
    cq_head: *const AtomicU32,
    cq_tail: *const AtomicU32,
    cq_mask: u32,
    cqes: *const Cqe,
    pub sq_entries: u32,
    pub cq_entries: u32,
}

unsafe fn map(fd: i32, len: usize, offset: i64) -> Result<*mut u8, i32> {
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let p = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset) };
    if p == libc::MAP_FAILED { Err(neg_errno()) } else { Ok(p.cast()) }
}

impl Uring {
    /// io_uring_setup and the mappings; a negative errno when the kernel has no io_uring, forbids it, or is too old (-ENOSYS).
    pub fn new(entries: u32) -> Result<Uring, i32> {
        // Completions are run when this thread asks for them (6.1), which saves an interruption for each; older kernels refuse.
        let modes =
            [SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_TASKRUN_FLAG, SETUP_SUBMIT_ALL, 0];
        let mut last = -libc::EINVAL;
        for mode in modes {
            let mut p =
                Params { flags: mode | SETUP_CLAMP | SETUP_CQSIZE, cq_entries: entries * 4, ..Default::default() };
            let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &mut p as *mut Params) } as i32;
            if fd >= 0 {
                return Self::from_fd(fd, &p);
            }
            last = neg_errno();
            if last != -libc::EINVAL {
                break;
            }
        }
        Err(last)
    }

    fn from_fd(fd: i32, p: &Params) -> Result<Uring, i32> {
        let needed = FEAT_SINGLE_MMAP | FEAT_NODROP | FEAT_SUBMIT_STABLE | FEAT_EXT_ARG;
        if p.features & needed != needed {
            unsafe { libc::close(fd) };
            return Err(-libc::ENOSYS);
        }
        let sq_end = p.sq_off.array as usize + p.sq_entries as usize * 4;
        let cq_end = p.cq_off.cqes as usize + p.cq_entries as usize * size_of::<Cqe>();
        let rings_len = sq_end.max(cq_end);
        let sqes_len = p.sq_entries as usize * size_of::<Sqe>();
        unsafe {
            let rings = map(fd, rings_len, OFF_SQ_RING).inspect_err(|_| {
                libc::close(fd);
            })?;
            let sqes = map(fd, sqes_len, OFF_SQES).inspect_err(|_| {
                libc::munmap(rings.cast(), rings_len);
                libc::close(fd);
            })?;
            // Entry i of the ring is always entry i of the table, so the indirection is filled in once.
            let array = rings.add(p.sq_off.array as usize).cast::<u32>();
            for i in 0..p.sq_entries {
                array.add(i as usize).write(i);
            }
            let word = |off: u32| rings.add(off as usize).cast::<AtomicU32>() as *const AtomicU32;
            Ok(Uring {
                fd,
                rings,
                rings_len,
                sqes: sqes.cast(),
                sqes_len,
                sq_head: word(p.sq_off.head),
                sq_tail: word(p.sq_off.tail),
                sq_flags: word(p.sq_off.flags),
                sq_mask: p.sq_entries - 1,
                cq_head: word(p.cq_off.head),
                cq_tail: word(p.cq_off.tail),
                cq_mask: p.cq_entries - 1,
                cqes: rings.add(p.cq_off.cqes as usize).cast(),
                sq_entries: p.sq_entries,
                cq_entries: p.cq_entries,
            })
        }
    }

    /// Entries queued and not consumed by the kernel yet, as positions [head, tail).
    #[inline]
    pub fn unconsumed(&self) -> (u32, u32) {
        unsafe { ((*self.sq_head).load(Ordering::Acquire), (*self.sq_tail).load(Ordering::Relaxed)) }
    }

    #[inline]
    pub fn pending(&self) -> u32 {
        let (head, tail) = self.unconsumed();
        tail.wrapping_sub(head)
    }

    /// The slot (index into per-entry tables of the caller's) that the next `push` fills, or nothing when the ring is full.
    #[inline]
    pub fn next_slot(&self) -> Option<usize> {
        let (head, tail) = self.unconsumed();
        (tail.wrapping_sub(head) < self.sq_entries).then_some((tail & self.sq_mask) as usize)
    }

    /// Queues an entry in the slot that `next_slot` named.
    #[inline]
    pub fn push(&mut self, sqe: &Sqe) {
        let (_, tail) = self.unconsumed();
        unsafe {
            self.sqes.add((tail & self.sq_mask) as usize).write(*sqe);
            (*self.sq_tail).store(tail.wrapping_add(1), Ordering::Release);
        }
    }

    /// An entry that the kernel has not consumed.
    #[inline]
    pub fn entry(&mut self, position: u32) -> &mut Sqe {
        unsafe { &mut *self.sqes.add((position & self.sq_mask) as usize) }
    }

    /// io_uring_enter once: submits `submit` entries, waits for `min` completions, at most `timeout_ms` when that is not
    /// negative. The number submitted or a negative errno (-ETIME for a timeout, -EINTR).
    pub fn enter(&self, submit: u32, min: u32, timeout_ms: f64) -> i32 {
        let ts = Timespec { sec: (timeout_ms / 1e3) as i64, nsec: ((timeout_ms % 1e3) * 1e6) as i64 };
        let arg = GeteventsArg { sigmask: 0, sigmask_sz: 8, pad: 0, ts: &ts as *const Timespec as u64 };
        let timed = min > 0 && timeout_ms >= 0.0;
        let (flags, ptr, size) = if timed {
            (ENTER_GETEVENTS | ENTER_EXT_ARG, &arg as *const GeteventsArg, size_of::<GeteventsArg>())
        } else {
            (ENTER_GETEVENTS, ptr::null(), 0)
        };
        let r = unsafe { libc::syscall(libc::SYS_io_uring_enter, self.fd, submit, min, flags, ptr, size) };
        if r < 0 { neg_errno() } else { r as i32 }
    }

    /// Whether completions wait inside the kernel that only io_uring_enter brings out.
    #[inline]
    pub fn has_hidden(&self) -> bool {
        unsafe { (*self.sq_flags).load(Ordering::Acquire) & (SQ_CQ_OVERFLOW | SQ_TASKRUN) != 0 }
    }

    /// Completions ready to be taken.
    #[inline]
    pub fn ready(&self) -> u32 {
        unsafe { (*self.cq_tail).load(Ordering::Acquire).wrapping_sub((*self.cq_head).load(Ordering::Relaxed)) }
    }

    /// Takes the oldest completion.
    #[inline]
    pub fn pop(&mut self) -> Option<Cqe> {
        unsafe {
            let head = (*self.cq_head).load(Ordering::Relaxed);
            if head == (*self.cq_tail).load(Ordering::Acquire) {
                return None;
            }
            let cqe = self.cqes.add((head & self.cq_mask) as usize).read();
            (*self.cq_head).store(head.wrapping_add(1), Ordering::Release);
            Some(cqe)
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        unsafe {
            libc::munmap(self.sqes.cast(), self.sqes_len);
            libc::munmap(self.rings.cast(), self.rings_len);
            libc::close(self.fd);
        }
    }
}
