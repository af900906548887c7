//! Clocks and what a thread or process asks the kernel for once.

use napi_derive::napi;
use std::mem;

use crate::rc;

/// include/uapi/linux/prctl.h; not in the libc crate.
const PR_SET_IO_FLUSHER: i32 = 57;

/// CLOCK_BOOTTIME in ms (with fractions): goes on through a suspend. What leases are counted in.
pub fn boottime_ms() -> f64 {
    crate::fence::boottime_ns() as f64 / 1e6
}

/// CLOCK_MONOTONIC in ns; exact below 2^53 ns (104 days of uptime), then to the nearest 2 ns.
pub fn monotonic_ns() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// Keeps the calling thread on one CPU: 0 or -errno (-EINVAL: no such CPU).
#[napi]
pub fn set_affinity(cpu: u32) -> i32 {
    if cpu >= libc::CPU_SETSIZE as u32 {
        return -libc::EINVAL;
    }
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu as usize, &mut set);
        rc(libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &set))
    }
}

/// Lets the calling thread use the CPUs below `count` again: 0 or -errno.
#[napi]
pub fn clear_affinity(count: u32) -> i32 {
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        for cpu in 0..count.min(libc::CPU_SETSIZE as u32) {
            libc::CPU_SET(cpu as usize, &mut set);
        }
        rc(libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &set))
    }
}

/// PR_SET_IO_FLUSHER: memory that this process waits for is not reclaimed by writing to it. 0 or -errno (-EPERM without CAP_SYS_RESOURCE).
/// Per thread in the kernel (task flags), inherited by threads made afterwards.
#[napi]
pub fn set_io_flusher(on: bool) -> i32 {
    rc(unsafe { libc::prctl(PR_SET_IO_FLUSHER, on as libc::c_ulong, 0, 0, 0) })
}
