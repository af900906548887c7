//! Files and block devices: opening, sizes, locks, and the blocking calls that tools use. The volume thread never calls
//! what blocks here; and these writes are not behind the gate (`fence.rs`), so a mounted volume never uses them either.

use napi::Result;
use napi_derive::napi;

use crate::arena::arena;
use crate::{c_path, neg_errno, rc, rc_size, whole};

const BLKROGET: libc::Ioctl = libc::_IO(0x12, 94);
const BLKGETSIZE64: libc::Ioctl = libc::_IOR::<usize>(0x12, 114);
const BLKDISCARD: libc::Ioctl = libc::_IO(0x12, 119);
const BLKZEROOUT: libc::Ioctl = libc::_IO(0x12, 127);

/// open(2) with O_CLOEXEC: a descriptor or -errno. -EINVAL for O_DIRECT where the file system has none; O_EXCL on a block
/// device answers -EBUSY when it is in use.
#[napi]
pub fn open_file(path: String, flags: i32, mode: u32) -> Result<i32> {
    let path = c_path(&path)?;
    Ok(rc_size(|| unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) as isize }))
}

/// close(2): 0 or -errno.
#[napi]
pub fn close_fd(fd: i32) -> i32 {
    rc(unsafe { libc::close(fd) })
}

/// pread(2) into the arena, again until `len` bytes or the end of the file: the bytes read, or -errno.
#[napi]
pub fn pread_sync(arena_id: u32, fd: i32, addr: f64, len: f64, offset: f64) -> Result<f64> {
    let (p, len) = arena(arena_id)?.at_f64(addr, len)?;
    let offset = whole(offset, "offset")?;
    let mut done = 0;
    while done < len {
        let n = rc_size(|| unsafe {
            libc::pread(fd, p.add(done).cast(), (len - done).min(1 << 30), (offset + done as u64) as i64)
        });
        if n < 0 {
            return Ok(n as f64);
        }
        if n == 0 {
            break;
        }
        done += n as usize;
    }
    Ok(done as f64)
}

/// pwrite(2) from the arena, again until all is written: the bytes written, or -errno. Not behind the write gate.
#[napi]
pub fn pwrite_sync(arena_id: u32, fd: i32, addr: f64, len: f64, offset: f64) -> Result<f64> {
    let (p, len) = arena(arena_id)?.at_f64(addr, len)?;
    let offset = whole(offset, "offset")?;
    let mut done = 0;
    while done < len {
        let n = rc_size(|| unsafe {
            libc::pwrite(fd, p.add(done).cast(), (len - done).min(1 << 30), (offset + done as u64) as i64)
        });
        if n <= 0 {
            return Ok(if n == 0 { -libc::EIO as f64 } else { n as f64 });
        }
        done += n as usize;
    }
    Ok(done as f64)
}

/// fdatasync(2), blocking: 0 or -errno.
#[napi]
pub fn fdatasync_sync(fd: i32) -> i32 {
    rc(unsafe { libc::fdatasync(fd) })
}

/// ftruncate(2): 0 or -errno.
#[napi]
pub fn ftruncate_sync(fd: i32, len: f64) -> Result<i32> {
    let len = whole(len, "length")?;
    Ok(rc(unsafe { libc::ftruncate(fd, len as i64) }))
}

/// fallocate(2), blocking: 0 or -errno.
#[napi]
pub fn fallocate_sync(fd: i32, mode: i32, offset: f64, len: f64) -> Result<i32> {
    let (offset, len) = (whole(offset, "offset")?, whole(len, "length")?);
    Ok(rc(unsafe { libc::fallocate(fd, mode, offset as i64, len as i64) }))
}

/// BLKDISCARD over a range of a block device: 0 or -errno (-EOPNOTSUPP).
#[napi]
pub fn blk_discard(fd: i32, offset: f64, len: f64) -> Result<i32> {
    let range = [whole(offset, "offset")?, whole(len, "length")?];
    Ok(rc(unsafe { libc::ioctl(fd, BLKDISCARD, range.as_ptr()) }))
}

/// BLKZEROOUT over a range of a block device: 0 or -errno.
#[napi]
pub fn blk_zeroout(fd: i32, offset: f64, len: f64) -> Result<i32> {
    let range = [whole(offset, "offset")?, whole(len, "length")?];
    Ok(rc(unsafe { libc::ioctl(fd, BLKZEROOUT, range.as_ptr()) }))
}

fn stat(fd: i32) -> std::result::Result<libc::stat, i32> {
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    if unsafe { libc::fstat(fd, &mut st) } < 0 { Err(neg_errno()) } else { Ok(st) }
}

/// st_mode of a descriptor (S_IFBLK 0o060000, S_IFREG 0o100000), or -errno.
#[napi]
pub fn fd_mode(fd: i32) -> i32 {
    stat(fd).map_or_else(|e| e, |st| st.st_mode as i32)
}

/// Bytes of a block device (BLKGETSIZE64) or of a file (st_size), or -errno.
#[napi]
pub fn fd_size(fd: i32) -> f64 {
    match stat(fd) {
        Err(e) => e as f64,
        Ok(st) if st.st_mode & libc::S_IFMT == libc::S_IFBLK => {
            let mut bytes = 0u64;
            let r = rc(unsafe { libc::ioctl(fd, BLKGETSIZE64, &mut bytes) });
            if r < 0 { r as f64 } else { bytes as f64 }
        }
        Ok(st) => st.st_size as f64,
    }
}

/// Bytes of a logical block of a block device (BLKSSZGET), or -errno (-ENOTTY for a file).
#[napi]
pub fn blk_logical_size(fd: i32) -> i32 {
    let mut bytes = 0i32;
    let r = rc(unsafe { libc::ioctl(fd, libc::BLKSSZGET as libc::Ioctl, &mut bytes) });
    if r < 0 { r } else { bytes }
}

/// 1 when a block device is read-only (BLKROGET), 0 when not, or -errno (-ENOTTY for a file).
#[napi]
pub fn blk_readonly(fd: i32) -> i32 {
    let mut readonly = 0i32;
    let r = rc(unsafe { libc::ioctl(fd, BLKROGET, &mut readonly) });
    if r < 0 { r } else { (readonly != 0) as i32 }
}

/// What O_DIRECT on this file needs of offsets and lengths, in bytes (STATX_DIOALIGN, Linux 6.1); 0: no O_DIRECT here; -EOPNOTSUPP: the kernel
/// does not say.
#[napi]
pub fn dio_offset_align(fd: i32) -> i32 {
    let mut stx: libc::statx = unsafe { std::mem::zeroed() };
    let r = unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &mut stx) };
    if r < 0 {
        return neg_errno();
    }
    if stx.stx_mask & libc::STATX_DIOALIGN == 0 { -libc::EOPNOTSUPP } else { stx.stx_dio_offset_align as i32 }
}

fn ofd_lock(fd: i32, kind: i32) -> i32 {
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    rc(unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &lock) })
}

/// Tries for an open-file-description lock on the whole file: 0, -EAGAIN when another holds it, or -errno.
#[napi]
pub fn ofd_try_lock(fd: i32, exclusive: bool) -> i32 {
    ofd_lock(fd, if exclusive { libc::F_WRLCK } else { libc::F_RDLCK })
}

/// Gives the open-file-description lock up: 0 or -errno.
#[napi]
pub fn ofd_unlock(fd: i32) -> i32 {
    ofd_lock(fd, libc::F_UNLCK)
}

/// An eventfd (nonblocking, close-on-exec) for waking a thread that waits in its ring, or -errno.
#[napi]
pub fn eventfd_create() -> i32 {
    rc(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Wakes: adds one to the eventfd. 0 or -errno. From any thread.
pub fn eventfd_wake(fd: i32) -> i32 {
    let one = 1u64;
    rc_size(|| unsafe { libc::write(fd, (&raw const one).cast(), 8) }).min(0)
}

/// Takes the wake-ups that have come: how many, 0 when there were none, or -errno.
pub fn eventfd_drain(fd: i32) -> f64 {
    let mut count = 0u64;
    let n = rc_size(|| unsafe { libc::read(fd, (&raw mut count).cast(), 8) });
    if n == -libc::EAGAIN {
        return 0.0;
    }
    if n < 0 { n as f64 } else { count as f64 }
}
