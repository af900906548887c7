//! The addon: system calls that Node has no face for. It marshals and checks bounds; every decision is TypeScript's.
//!
//! Conventions. Memory crosses once, as an arena (`arena.rs`); afterwards only offsets into it do. What the kernel
//! answers comes back as a number, negative errno for a failure. Only a wrong call of our own (an offset outside of the
//! arena, an unknown handle) throws. Handles belong to the thread that made them, descriptors and leases to the process.

mod abort;
mod arena;
mod checksum;
mod fence;
mod file;
mod fuse_dev;
mod heartbeat;
mod hot;
mod lease_clock;
mod misc;
mod mount;
mod net;
mod net_conn;
mod ring;
mod uring_sys;

use napi::{Error, Result, Status};

/// The error of a wrong call: the caller's bug, so it throws.
pub fn wrong<T>(what: String) -> Result<T> {
    Err(Error::new(Status::InvalidArg, what))
}

/// `errno` of this thread, negated.
pub fn neg_errno() -> i32 {
    -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A system call's int result, or its negative errno.
pub fn rc(result: i32) -> i32 {
    if result < 0 { neg_errno() } else { result }
}

/// A system call's ssize_t result, or its negative errno; a signal restarts the call.
pub fn rc_size(mut call: impl FnMut() -> isize) -> i32 {
    loop {
        let n = call();
        if n >= 0 {
            return n as i32;
        }
        let e = neg_errno();
        if e != -libc::EINTR {
            return e;
        }
    }
}

/// A byte offset or length that came as a JavaScript number: a whole number from 0 to 2^53.
pub fn whole(value: f64, what: &str) -> Result<u64> {
    if (0.0..=9007199254740992.0).contains(&value) && value.fract() == 0.0 {
        return Ok(value as u64);
    }
    wrong(format!("{what} {value} is not a whole number of bytes"))
}

/// A path for a system call.
pub fn c_path(path: &str) -> Result<std::ffi::CString> {
    std::ffi::CString::new(path).or_else(|_| wrong(format!("a NUL byte in {path:?}")))
}
