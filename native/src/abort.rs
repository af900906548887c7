//! FUSE connections are aborted before a fenced process ends (coherence 25): whoever waits for its mounts is answered, and not left to wait until the
//! process has ended, which takes as long as one of its threads waits for a dead disk, or for a notification that the kernel does not finish.
//!
//! fusectl's "abort" file of each connection is opened when its mount is made: at the end it takes one write that never waits
//! (fuse_conn_abort_write), no path, no memory and no JavaScript. fusectl need not be mounted anywhere: a mount that no folder has serves.

use napi::Result;
use napi_derive::napi;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::{c_path, rc};

const MOST: usize = 256;

/// Descriptors of "abort" files; -1: free.
static ABORT_FILES: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];

/// fusectl without a place in the tree (fsmount(2)): a descriptor or -errno; -EPERM for users.
fn control_dir() -> i32 {
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const CLOEXEC: u32 = 1;
    let null = std::ptr::null::<libc::c_void>();
    let context = rc(unsafe { libc::syscall(libc::SYS_fsopen, c"fusectl".as_ptr(), CLOEXEC) } as i32);
    if context < 0 {
        return context;
    }
    let created = rc(unsafe { libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, null, null, 0) } as i32);
    let dir = match created {
        0 => rc(unsafe { libc::syscall(libc::SYS_fsmount, context, CLOEXEC, 0) } as i32),
        e => e,
    };
    unsafe { libc::close(context) };
    dir
}

fn open_abort(connection: u32) -> Result<i32> {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let dir = control_dir();
    if dir < 0 {
        let path = c_path(&format!("/sys/fs/fuse/connections/{connection}/abort"))?;
        return Ok(rc(unsafe { libc::open(path.as_ptr(), flags) }));
    }
    let path = c_path(&format!("{connection}/abort"))?;
    let fd = rc(unsafe { libc::openat(dir, path.as_ptr(), flags) });
    unsafe { libc::close(dir) };
    Ok(fd)
}

/// From now on the process's end by `kill_self` or `abort_all` aborts this FUSE connection (the minor number of its mount's device). A number for
/// `abort_forget`, or -errno.
#[napi]
pub fn abort_register(connection: u32) -> Result<i32> {
    let fd = open_abort(connection)?;
    if fd < 0 {
        return Ok(fd);
    }
    for (i, file) in ABORT_FILES.iter().enumerate() {
        if file.compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Ok(i as i32);
        }
    }
    unsafe { libc::close(fd) };
    Ok(-libc::ENOSPC)
}

/// The mount is gone.
#[napi]
pub fn abort_forget(number: u32) {
    let fd = ABORT_FILES.get(number as usize).map_or(-1, |f| f.swap(-1, Ordering::AcqRel));
    if fd >= 0 {
        unsafe { libc::close(fd) };
    }
}

/// Whoever waits for a mount of this process gets an error now (ECONNABORTED, later ENOTCONN).
#[napi]
pub fn abort_all() {
    for file in &ABORT_FILES {
        let fd = file.load(Ordering::Acquire);
        if fd >= 0 {
            unsafe { libc::write(fd, c"1".as_ptr().cast(), 1) };
        }
    }
}
