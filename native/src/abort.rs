//! FUSE connections are aborted before a fenced process ends (coherence 25): whoever waits for its mounts is answered, and not left to wait until the
//! process has ended, which takes as long as one of its threads waits for a dead disk, or for a notification that the kernel does not finish.
//!
//! fusectl's "abort" file of each connection is opened when its mount is made: at the end it takes one write that never waits
//! (fuse_conn_abort_write), no path, no memory and no JavaScript. fusectl need not be mounted anywhere: a mount that no folder has serves.
//!
//! Who is killed from outside (kill -9, out of memory) writes nothing. For that each connection has a guard, a process of its own that does it when this
//! one's main thread is gone (PR_SET_PDEATHSIG), whatever its other threads wait for.

use napi::Result;
use napi_derive::napi;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::{c_path, rc};

const MOST: usize = 256;

/// Descriptors of "abort" files; -1: free.
static ABORT_FILES: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];

/// By the number of their connection.
static GUARDS: Mutex<Vec<(u32, Child)>> = Mutex::new(Vec::new());

/// Its standard output is the connection's abort file, its standard input a pipe from here: a line says that the mount is gone, an end without one that we
/// are. What ends services and sessions does not end it first.
const GUARD: &str = "trap '' TERM INT HUP; trap 'echo 1; exit' USR1; read -r gone || echo 1";

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

/// The connection with this number is aborted when the calling thread ends before `abort_forget`, however it does. 0 or -errno.
#[napi]
pub fn abort_guard(number: u32) -> i32 {
    let fd = ABORT_FILES.get(number as usize).map_or(-1, |f| f.load(Ordering::Acquire));
    if fd < 0 {
        return -libc::EBADF;
    }
    match start_guard(fd) {
        Ok(guard) => {
            GUARDS.lock().unwrap().push((number, guard));
            0
        }
        Err(e) => -e.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn start_guard(abort_file: i32) -> std::io::Result<Child> {
    let out: OwnedFd = unsafe { BorrowedFd::borrow_raw(abort_file) }.try_clone_to_owned()?;
    let parent = unsafe { libc::getpid() };
    let mut command = Command::new("/bin/sh");
    command.arg0("ocfs2-abort").args(["-c", GUARD]).stdin(Stdio::piped()).stdout(out).stderr(Stdio::null());
    unsafe {
        command.pre_exec(move || {
            // Before the shell has its trap the signal just ends it; that is as long as a mount is young.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1);
            // Whatever Node has left open for its children is not for this one.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if libc::getppid() == parent { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) }
        });
    }
    command.spawn()
}

/// The mount is gone.
#[napi]
pub fn abort_forget(number: u32) {
    let mut guards = GUARDS.lock().unwrap();
    if let Some(at) = guards.iter().position(|(n, _)| *n == number) {
        let (_, mut guard) = guards.swap_remove(at);
        // It may have been killed.
        let _ = guard.stdin.take().map(|mut pipe| pipe.write_all(b"\n"));
        let _ = guard.wait();
    }
    drop(guards);
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
