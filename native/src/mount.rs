//! Mounting: mount(2) and umount2(2) where the caller may, fusermount3 where he may not.

use napi::Result;
use napi_derive::napi;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{mem, ptr};

use crate::{c_path, neg_errno, rc};

/// mount(2): 0 or -errno. For fuse, `data` begins "fd=N,rootmode=40000,user_id=0,group_id=0".
#[napi]
pub fn mount2(source: String, target: String, fstype: String, flags: f64, data: String) -> Result<i32> {
    let (source, target) = (c_path(&source)?, c_path(&target)?);
    let (fstype, data) = (c_path(&fstype)?, c_path(&data)?);
    let r = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags as libc::c_ulong, data.as_ptr().cast())
    };
    Ok(rc(r))
}

/// umount2(2): 0 or -errno. Flags: MNT_FORCE 1, MNT_DETACH 2, UMOUNT_NOFOLLOW 8.
#[napi]
pub fn umount2(target: String, flags: i32) -> Result<i32> {
    let target = c_path(&target)?;
    Ok(rc(unsafe { libc::umount2(target.as_ptr(), flags) }))
}

/// Lets `fd` live through the exec of `command`'s child.
fn inherit(command: &mut Command, fd: i32) {
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(fd, libc::F_SETFD, 0) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// The one descriptor that fusermount3 sends, or a negative errno.
fn receive_fd(socket: i32) -> i32 {
    unsafe {
        let mut byte = 0u8;
        let mut iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // Aligned as struct cmsghdr wants, and large enough for one descriptor.
        let mut control = [0usize; 8];
        let mut msg: libc::msghdr = mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.as_mut_ptr().cast();
        msg.msg_controllen = mem::size_of_val(&control) as _;
        loop {
            let n = libc::recvmsg(socket, &mut msg, libc::MSG_CMSG_CLOEXEC);
            if n < 0 && neg_errno() == -libc::EINTR {
                continue;
            }
            if n < 0 {
                return neg_errno();
            }
            // The socket was closed without a message: fusermount3 has said why on stderr.
            if n == 0 {
                return -libc::EPERM;
            }
            break;
        }
        let head = libc::CMSG_FIRSTHDR(&msg);
        if head.is_null() || (*head).cmsg_level != libc::SOL_SOCKET || (*head).cmsg_type != libc::SCM_RIGHTS {
            return -libc::EPROTO;
        }
        ptr::read_unaligned(libc::CMSG_DATA(head).cast::<i32>())
    }
}

/// With our stderr, which node keeps from programs that are started: what fusermount3 says of a refusal would be lost.
fn fusermount() -> Command {
    let mut command = Command::new("fusermount3");
    command.stderr(std::io::stderr());
    command
}

/// Mounts through fusermount3 (for users who may not call mount(2)): the /dev/fuse descriptor, nonblocking, or -errno; -ENOENT when
/// there is no fusermount3, -EPERM when it refused (its reason goes to stderr). `options` as for -o, without auto_unmount.
#[napi]
pub fn fusermount_mount(mountpoint: String, options: String) -> i32 {
    let mut pair = [-1; 2];
    if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) } < 0 {
        return neg_errno();
    }
    let [theirs, ours] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let mut command = fusermount();
    if !options.is_empty() {
        command.args(["-o", &options]);
    }
    command.args(["--", &mountpoint]).env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    inherit(&mut command, theirs.as_raw_fd());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return -e.raw_os_error().unwrap_or(libc::EIO),
    };
    // Our copy of the child's end would keep recvmsg from seeing its death.
    drop(theirs);
    let fd = receive_fd(ours.as_raw_fd());
    let _ = child.wait();
    if fd >= 0 {
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) };
    }
    fd
}

/// Unmounts through fusermount3: 0, -ENOENT when there is none, -EBUSY or another reason as -EPERM when it refused (see stderr).
#[napi]
pub fn fusermount_umount(mountpoint: String, lazy: bool) -> i32 {
    let mut command = fusermount();
    command.args(if lazy { &["-u", "-z", "--"][..] } else { &["-u", "--"][..] }).arg(&mountpoint);
    match command.status() {
        Ok(status) if status.success() => 0,
        Ok(_) => -libc::EPERM,
        Err(e) => -e.raw_os_error().unwrap_or(libc::EIO),
    }
}
