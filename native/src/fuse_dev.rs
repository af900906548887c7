//! /dev/fuse: requests into the arena, replies out of it, without an event loop in between (a loop of "reply, then read" from a
//! worker is as fast as C; handing each request to an event loop costs three times as much). fs/fuse/dev.c is the other end.

use napi::Result;
use napi_derive::napi;

use crate::arena::{Bytes, arena};
use crate::{rc, rc_size};

/// Added to the errno of a reply that failed, so that it differs from that of the read.
const REPLY_FAILED: i32 = -0x10000;

/// Opens /dev/fuse, nonblocking: a descriptor or -errno.
#[napi]
pub fn fuse_open() -> i32 {
    rc(unsafe { libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) })
}

/// Reads one request: its bytes, or -errno (-EAGAIN: none; -ENODEV: unmounted; -ECONNABORTED: aborted; -ENOENT: the request was
/// taken back, read again).
pub fn fuse_read(arena_id: u32, fd: i32, addr: f64, len: f64) -> Result<i32> {
    let (p, len) = arena(arena_id)?.at_f64(addr, len)?;
    Ok(rc_size(|| unsafe { libc::read(fd, p.cast(), len) }))
}

/// Writes one reply or notification: its bytes, or -errno (-ENOENT: the request was interrupted and nobody waits). A notification may block.
pub fn fuse_write(arena_id: u32, fd: i32, addr: f64, len: f64) -> Result<i32> {
    let (p, len) = arena(arena_id)?.at_f64(addr, len)?;
    Ok(rc_size(|| unsafe { libc::write(fd, p.cast(), len) }))
}

/// As fuseWrite, for a reply in two pieces: header and payload.
pub fn fuse_writev(arena_id: u32, fd: i32, addr1: f64, len1: f64, addr2: f64, len2: f64) -> Result<i32> {
    let a = arena(arena_id)?;
    let ((p1, len1), (p2, len2)) = (a.at_f64(addr1, len1)?, a.at_f64(addr2, len2)?);
    let iov = [libc::iovec { iov_base: p1.cast(), iov_len: len1 }, libc::iovec { iov_base: p2.cast(), iov_len: len2 }];
    Ok(rc_size(|| unsafe { libc::writev(fd, iov.as_ptr(), 2) }))
}

/// Writes a reply and reads the next request in one call: the bytes of the request, or -errno of the read. When the reply
/// fails nothing is read and the result is -0x10000 - errno.
pub fn fuse_reply_and_read(
    arena_id: u32,
    fd: i32,
    reply_addr: f64,
    reply_len: f64,
    buf_addr: f64,
    buf_len: f64,
) -> Result<i32> {
    let a = arena(arena_id)?;
    let ((reply, reply_len), (buf, buf_len)) = (a.at_f64(reply_addr, reply_len)?, a.at_f64(buf_addr, buf_len)?);
    let written = rc_size(|| unsafe { libc::write(fd, reply.cast(), reply_len) });
    if written < 0 {
        return Ok(REPLY_FAILED + written);
    }
    Ok(rc_size(|| unsafe { libc::read(fd, buf.cast(), buf_len) }))
}

/// Writes a notification from ordinary memory; blocks until the kernel has done it, so only the notifier thread calls it. Its bytes, or
/// -errno (-ENOENT: the inode or name is not cached).
#[napi]
pub fn fuse_notify(fd: i32, message: Bytes) -> i32 {
    let n = rc_size(|| unsafe { libc::write(fd, message.base.cast(), message.len) });
    message.release();
    n
}
