//! Clocks and what a thread or process asks the kernel for once.

use napi_derive::napi;

use crate::rc;

/// include/uapi/linux/prctl.h; not in the libc crate.
const PR_SET_IO_FLUSHER: i32 = 57;

/// The lease clock in ms (with fractions): CLOCK_BOOTTIME, and what that did not count while the machine stood still.
pub fn lease_clock_ms() -> f64 {
    crate::lease_clock::lease_now_ns() as f64 / 1e6
}

/// CLOCK_MONOTONIC in ns; exact below 2^53 ns (104 days of uptime), then to the nearest 2 ns.
pub fn monotonic_ns() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// PR_SET_IO_FLUSHER: memory that this process waits for is not reclaimed by writing to it. 0 or -errno (-EPERM without CAP_SYS_RESOURCE).
/// Per thread in the kernel (task flags), inherited by threads made afterwards.
#[napi]
pub fn set_io_flusher(on: bool) -> i32 {
    rc(unsafe { libc::prctl(PR_SET_IO_FLUSHER, on as libc::c_ulong, 0, 0, 0) })
}
