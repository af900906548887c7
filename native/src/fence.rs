//! The write gate: what keeps a node that its peers have declared dead from writing to the shared disk.
//!
//! A node that stalls (a stopped process, a suspended machine, a long collection) does not notice that its heartbeat
//! lapsed; when it goes on, its queued writes would land on blocks that the survivors have recovered and given to others.
//! So every submission of writes looks at the clock right before io_uring_enter (`ring.rs`, `flush`, is the only caller
//! of `is_shut`), and the lease says until when that is allowed, by a clock that goes on while this machine does not
//! (`lease_clock.rs`). The heartbeat's thread moves the lease after each write that completed (o2hb; coherence 23 to 25).
//!
//! The window that remains: the time between the look at the clock and the device's receiving the request, in the
//! block layer's queues or in the kernel's worker for requests that could not be issued at once. Nothing in user space can
//! close it; the lease's distance from the peers' dead time has to cover it.
//!
//! Leases are words of the process, so that any thread may move one by its number. Lease 0 is always open (local mounts).

use napi::Result;
use napi_derive::napi;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::time::Duration;

use crate::lease_clock::lease_now_ns;
use crate::wrong;

const LEASES: usize = 256;
/// The value of a lease that does not restrict.
const OPEN: i64 = i64::MAX;

static DEADLINE_NS: [AtomicI64; LEASES] = [const { AtomicI64::new(OPEN) }; LEASES];
static TAKEN: [AtomicBool; LEASES] = [const { AtomicBool::new(false) }; LEASES];

/// Whether writes under this lease must no longer reach the device.
#[inline]
pub fn is_shut(lease: u32) -> bool {
    let deadline = DEADLINE_NS[lease as usize].load(Ordering::Acquire);
    deadline != OPEN && lease_now_ns() >= deadline
}

/// Whether the number names a lease that can be used: 0, or one that was allocated.
pub fn lease_exists(lease: u32) -> bool {
    lease == 0 || TAKEN.get(lease as usize).is_some_and(|t| t.load(Ordering::Acquire))
}

fn known(lease: u32) -> Result<usize> {
    if lease != 0 && lease_exists(lease) {
        return Ok(lease as usize);
    }
    wrong(format!("no lease {lease}"))
}

/// Takes a lease of the process; it starts shut, so that a forgotten first renewal writes nothing. -ENOSPC when all are taken.
#[napi]
pub fn lease_alloc() -> i32 {
    for i in 1..LEASES {
        if TAKEN[i].compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            DEADLINE_NS[i].store(0, Ordering::Release);
            return i as i32;
        }
    }
    -libc::ENOSPC
}

/// Gives a lease back, shut. The caller has closed the rings that use it.
#[napi]
pub fn lease_free(lease: u32) -> Result<()> {
    let i = known(lease)?;
    DEADLINE_NS[i].store(0, Ordering::Release);
    TAKEN[i].store(false, Ordering::Release);
    Ok(())
}

/// Allows writes until `deadline_ms` of the lease clock; Infinity for always, 0 for never.
pub fn lease_set(lease: u32, deadline_ms: f64) -> Result<()> {
    let i = known(lease)?;
    if deadline_ms.is_nan() || deadline_ms < 0.0 {
        return wrong(format!("lease {lease}: {deadline_ms} ms is no time"));
    }
    // A float that is too large saturates, so that Infinity becomes OPEN.
    DEADLINE_NS[i].store((deadline_ms * 1e6) as i64, Ordering::Release);
    Ok(())
}

/// Moves a lease that exists; of the heartbeat's thread.
pub fn renew(lease: u32, deadline_ns: i64) {
    DEADLINE_NS[lease as usize].store(deadline_ns, Ordering::Release);
}

/// The lease's deadline in milliseconds of the lease clock, Infinity when it is always open.
pub fn lease_get(lease: u32) -> Result<f64> {
    if lease == 0 {
        return Ok(f64::INFINITY);
    }
    let ns = DEADLINE_NS[known(lease)?].load(Ordering::Acquire);
    Ok(if ns == OPEN { f64::INFINITY } else { ns as f64 / 1e6 })
}

/// What takes more than this process down: a descriptor and the byte to write to it. -1: nothing does.
static TRIGGER: AtomicI32 = AtomicI32::new(-1);
static TRIGGER_BYTE: AtomicI32 = AtomicI32::new(0);

/// From now on `fence_now` writes `byte` to `path` (/proc/sysrq-trigger: b resets the machine, c panics) before it ends the process. A byte
/// of 0: the process only. 0 or -errno.
#[napi]
pub fn fence_trigger(path: String, byte: u32) -> Result<i32> {
    let mut fd = -1;
    if byte != 0 {
        let path = crate::c_path(&path)?;
        fd = crate::rc(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) });
        if fd < 0 {
            return Ok(fd);
        }
    }
    TRIGGER_BYTE.store(byte as i32, Ordering::Release);
    let before = TRIGGER.swap(fd, Ordering::AcqRel);
    if before >= 0 {
        unsafe { libc::close(before) };
    }
    Ok(0)
}

/// This node must not go on: ends the machine if that was asked for, and the process.
#[napi]
pub fn fence_now() {
    let fd = TRIGGER.load(Ordering::Acquire);
    if fd >= 0 {
        let byte = TRIGGER_BYTE.load(Ordering::Acquire) as u8;
        unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
    }
    kill_self();
}

/// Ends the process `after_ms` from now, from a thread that nothing else of the process can hold up: what is in flight drains meanwhile. Whoever
/// waits for its mounts is answered at once. 0 or -errno.
#[napi]
pub fn kill_self_in(after_ms: f64) -> i32 {
    crate::abort::abort_all();
    let pause = Duration::from_millis(after_ms.max(0.0) as u64);
    let started = std::thread::Builder::new().name("ocfs2-fence".into()).stack_size(64 << 10).spawn(move || {
        std::thread::sleep(pause);
        kill_self();
    });
    started.map_or_else(|e| -e.raw_os_error().unwrap_or(libc::EAGAIN), |_| 0)
}

/// Ends the process at once: no handlers, no flushing. What the block layer has already been given still completes. Threads that wait for a
/// disk end when it answers; the mounts do not wait for them.
pub fn kill_self() {
    crate::abort::abort_all();
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}
