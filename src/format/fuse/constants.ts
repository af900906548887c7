/**
 * Constants of the FUSE protocol. Mirrors include/uapi/linux/fuse.h, up to 7.45; what is newer than 7.38 is marked by
 * the structure tables' FUSE_SINCE.
 */
import type { FlagTable } from "../struct.ts";

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor version these tables know; what is spoken is the smaller of this and the kernel's. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** The node id of the root directory. */
export const FUSE_ROOT_ID = 1;
/** Bytes; a smaller buffer gets EINVAL from read. */
export const FUSE_MIN_READ_BUFFER = 8192;

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_SETATTR = 4;
export const FUSE_READLINK = 5;
export const FUSE_SYMLINK = 6;
export const FUSE_MKNOD = 8;
export const FUSE_MKDIR = 9;
export const FUSE_UNLINK = 10;
export const FUSE_RMDIR = 11;
export const FUSE_RENAME = 12;
export const FUSE_LINK = 13;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_SETXATTR = 21;
export const FUSE_GETXATTR = 22;
export const FUSE_LISTXATTR = 23;
export const FUSE_REMOVEXATTR = 24;
export const FUSE_FLUSH = 25;
export const FUSE_INIT = 26;
export const FUSE_OPENDIR = 27;
export const FUSE_READDIR = 28;
export const FUSE_RELEASEDIR = 29;
export const FUSE_FSYNCDIR = 30;
export const FUSE_GETLK = 31;
export const FUSE_SETLK = 32;
export const FUSE_SETLKW = 33;
export const FUSE_ACCESS = 34;
export const FUSE_CREATE = 35;
export const FUSE_INTERRUPT = 36;
export const FUSE_BMAP = 37;
export const FUSE_DESTROY = 38;
export const FUSE_IOCTL = 39;
export const FUSE_POLL = 40;
export const FUSE_NOTIFY_REPLY = 41;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;
export const FUSE_READDIRPLUS = 44;
export const FUSE_RENAME2 = 45;
export const FUSE_LSEEK = 46;
export const FUSE_COPY_FILE_RANGE = 47;
export const FUSE_SETUPMAPPING = 48;
export const FUSE_REMOVEMAPPING = 49;
export const FUSE_SYNCFS = 50;
export const FUSE_TMPFILE = 51;
export const FUSE_STATX = 52;
export const FUSE_COPY_FILE_RANGE_64 = 53;
/** Operations: in_header.opcode. */
export const FUSE_OPCODE = {
  LOOKUP: FUSE_LOOKUP,
  FORGET: FUSE_FORGET,
  GETATTR: FUSE_GETATTR,
  SETATTR: FUSE_SETATTR,
  READLINK: FUSE_READLINK,
  SYMLINK: FUSE_SYMLINK,
  MKNOD: FUSE_MKNOD,
  MKDIR: FUSE_MKDIR,
  UNLINK: FUSE_UNLINK,
  RMDIR: FUSE_RMDIR,
  RENAME: FUSE_RENAME,
  LINK: FUSE_LINK,
  OPEN: FUSE_OPEN,
  READ: FUSE_READ,
  WRITE: FUSE_WRITE,
  STATFS: FUSE_STATFS,
  RELEASE: FUSE_RELEASE,
  FSYNC: FUSE_FSYNC,
  SETXATTR: FUSE_SETXATTR,
  GETXATTR: FUSE_GETXATTR,
  LISTXATTR: FUSE_LISTXATTR,
  REMOVEXATTR: FUSE_REMOVEXATTR,
  FLUSH: FUSE_FLUSH,
  INIT: FUSE_INIT,
  OPENDIR: FUSE_OPENDIR,
  READDIR: FUSE_READDIR,
  RELEASEDIR: FUSE_RELEASEDIR,
  FSYNCDIR: FUSE_FSYNCDIR,
  GETLK: FUSE_GETLK,
  SETLK: FUSE_SETLK,
  SETLKW: FUSE_SETLKW,
  ACCESS: FUSE_ACCESS,
  CREATE: FUSE_CREATE,
  INTERRUPT: FUSE_INTERRUPT,
  BMAP: FUSE_BMAP,
  DESTROY: FUSE_DESTROY,
  IOCTL: FUSE_IOCTL,
  POLL: FUSE_POLL,
  NOTIFY_REPLY: FUSE_NOTIFY_REPLY,
  BATCH_FORGET: FUSE_BATCH_FORGET,
  FALLOCATE: FUSE_FALLOCATE,
  READDIRPLUS: FUSE_READDIRPLUS,
  RENAME2: FUSE_RENAME2,
  LSEEK: FUSE_LSEEK,
  COPY_FILE_RANGE: FUSE_COPY_FILE_RANGE,
  SETUPMAPPING: FUSE_SETUPMAPPING,
  REMOVEMAPPING: FUSE_REMOVEMAPPING,
  SYNCFS: FUSE_SYNCFS,
  TMPFILE: FUSE_TMPFILE,
  STATX: FUSE_STATX,
  COPY_FILE_RANGE_64: FUSE_COPY_FILE_RANGE_64,
} as const;

export const CUSE_INIT = 4096;

/** "LOOKUP" of 1. */
export const FUSE_OPCODE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(FUSE_OPCODE).map(([name, op]) => [op, name]),
);

export const FUSE_NOTIFY_POLL = 1;
export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;
export const FUSE_NOTIFY_STORE = 4;
export const FUSE_NOTIFY_RETRIEVE = 5;
export const FUSE_NOTIFY_DELETE = 6;
export const FUSE_NOTIFY_RESEND = 7;
export const FUSE_NOTIFY_INC_EPOCH = 8;
export const FUSE_NOTIFY_PRUNE = 9;
/** Notifications: out_header.error with unique 0. */
export const FUSE_NOTIFY = {
  POLL: FUSE_NOTIFY_POLL,
  INVAL_INODE: FUSE_NOTIFY_INVAL_INODE,
  INVAL_ENTRY: FUSE_NOTIFY_INVAL_ENTRY,
  STORE: FUSE_NOTIFY_STORE,
  RETRIEVE: FUSE_NOTIFY_RETRIEVE,
  DELETE: FUSE_NOTIFY_DELETE,
  RESEND: FUSE_NOTIFY_RESEND,
  INC_EPOCH: FUSE_NOTIFY_INC_EPOCH,
  PRUNE: FUSE_NOTIFY_PRUNE,
} as const;

export const FUSE_ASYNC_READ = 0x1;
export const FUSE_POSIX_LOCKS = 0x2;
export const FUSE_FILE_OPS = 0x4;
export const FUSE_ATOMIC_O_TRUNC = 0x8;
export const FUSE_EXPORT_SUPPORT = 0x10;
export const FUSE_BIG_WRITES = 0x20;
export const FUSE_DONT_MASK = 0x40;
export const FUSE_SPLICE_WRITE = 0x80;
export const FUSE_SPLICE_MOVE = 0x100;
export const FUSE_SPLICE_READ = 0x200;
export const FUSE_FLOCK_LOCKS = 0x400;
export const FUSE_HAS_IOCTL_DIR = 0x800;
export const FUSE_AUTO_INVAL_DATA = 0x1000;
export const FUSE_DO_READDIRPLUS = 0x2000;
export const FUSE_READDIRPLUS_AUTO = 0x4000;
export const FUSE_ASYNC_DIO = 0x8000;
export const FUSE_WRITEBACK_CACHE = 0x10000;
export const FUSE_NO_OPEN_SUPPORT = 0x20000;
export const FUSE_PARALLEL_DIROPS = 0x40000;
export const FUSE_HANDLE_KILLPRIV = 0x80000;
export const FUSE_POSIX_ACL = 0x100000;
export const FUSE_ABORT_ERROR = 0x200000;
export const FUSE_MAX_PAGES = 0x400000;
export const FUSE_CACHE_SYMLINKS = 0x800000;
export const FUSE_NO_OPENDIR_SUPPORT = 0x1000000;
export const FUSE_EXPLICIT_INVAL_DATA = 0x2000000;
export const FUSE_MAP_ALIGNMENT = 0x4000000;
export const FUSE_SUBMOUNTS = 0x8000000;
export const FUSE_HANDLE_KILLPRIV_V2 = 0x10000000;
export const FUSE_SETXATTR_EXT = 0x20000000;
export const FUSE_INIT_EXT = 0x40000000;
export const FUSE_INIT_RESERVED = 0x80000000;
/** INIT flags, low word. */
export const FUSE_INIT_FLAGS = {
  ASYNC_READ: FUSE_ASYNC_READ,
  POSIX_LOCKS: FUSE_POSIX_LOCKS,
  FILE_OPS: FUSE_FILE_OPS,
  ATOMIC_O_TRUNC: FUSE_ATOMIC_O_TRUNC,
  EXPORT_SUPPORT: FUSE_EXPORT_SUPPORT,
  BIG_WRITES: FUSE_BIG_WRITES,
  DONT_MASK: FUSE_DONT_MASK,
  SPLICE_WRITE: FUSE_SPLICE_WRITE,
  SPLICE_MOVE: FUSE_SPLICE_MOVE,
  SPLICE_READ: FUSE_SPLICE_READ,
  FLOCK_LOCKS: FUSE_FLOCK_LOCKS,
  HAS_IOCTL_DIR: FUSE_HAS_IOCTL_DIR,
  AUTO_INVAL_DATA: FUSE_AUTO_INVAL_DATA,
  DO_READDIRPLUS: FUSE_DO_READDIRPLUS,
  READDIRPLUS_AUTO: FUSE_READDIRPLUS_AUTO,
  ASYNC_DIO: FUSE_ASYNC_DIO,
  WRITEBACK_CACHE: FUSE_WRITEBACK_CACHE,
  NO_OPEN_SUPPORT: FUSE_NO_OPEN_SUPPORT,
  PARALLEL_DIROPS: FUSE_PARALLEL_DIROPS,
  HANDLE_KILLPRIV: FUSE_HANDLE_KILLPRIV,
  POSIX_ACL: FUSE_POSIX_ACL,
  ABORT_ERROR: FUSE_ABORT_ERROR,
  MAX_PAGES: FUSE_MAX_PAGES,
  CACHE_SYMLINKS: FUSE_CACHE_SYMLINKS,
  NO_OPENDIR_SUPPORT: FUSE_NO_OPENDIR_SUPPORT,
  EXPLICIT_INVAL_DATA: FUSE_EXPLICIT_INVAL_DATA,
  MAP_ALIGNMENT: FUSE_MAP_ALIGNMENT,
  SUBMOUNTS: FUSE_SUBMOUNTS,
  HANDLE_KILLPRIV_V2: FUSE_HANDLE_KILLPRIV_V2,
  SETXATTR_EXT: FUSE_SETXATTR_EXT,
  INIT_EXT: FUSE_INIT_EXT,
  INIT_RESERVED: FUSE_INIT_RESERVED,
} as const;

export const FUSE_SECURITY_CTX = 2 ** 32;
export const FUSE_HAS_INODE_DAX = 2 ** 33;
export const FUSE_CREATE_SUPP_GROUP = 2 ** 34;
export const FUSE_HAS_EXPIRE_ONLY = 2 ** 35;
export const FUSE_DIRECT_IO_ALLOW_MMAP = 2 ** 36;
export const FUSE_PASSTHROUGH = 2 ** 37;
export const FUSE_NO_EXPORT_SUPPORT = 2 ** 38;
export const FUSE_HAS_RESEND = 2 ** 39;
export const FUSE_ALLOW_IDMAP = 2 ** 40;
export const FUSE_OVER_IO_URING = 2 ** 41;
export const FUSE_REQUEST_TIMEOUT = 2 ** 42;
/** INIT flags, high word: shifted down, as they are in flags2. */
export const FUSE_INIT_FLAGS2 = {
  SECURITY_CTX: 0x1,
  HAS_INODE_DAX: 0x2,
  CREATE_SUPP_GROUP: 0x4,
  HAS_EXPIRE_ONLY: 0x8,
  DIRECT_IO_ALLOW_MMAP: 0x10,
  PASSTHROUGH: 0x20,
  NO_EXPORT_SUPPORT: 0x40,
  HAS_RESEND: 0x80,
  ALLOW_IDMAP: 0x100,
  OVER_IO_URING: 0x200,
  REQUEST_TIMEOUT: 0x400,
} as const;

/** Whether an INIT flag is set in the two words; the flag may be one above 2^32. */
export function hasInitFlag(flags: number, flags2: number, flag: number): boolean {
  return flag >= 2 ** 32 ? (flags2 & (flag / 2 ** 32)) !== 0 : (flags & flag) !== 0;
}

/** INIT flags as the two words of the reply. */
export function initFlagWords(...flags: readonly number[]): { flags: number; flags2: number } {
  let lo = 0;
  let hi = 0;
  for (const f of flags) {
    if (f >= 2 ** 32) hi |= f / 2 ** 32;
    else lo |= f;
  }
  return { flags: lo >>> 0, flags2: hi >>> 0 };
}

export const FATTR_MODE = 0x1;
export const FATTR_UID = 0x2;
export const FATTR_GID = 0x4;
export const FATTR_SIZE = 0x8;
export const FATTR_ATIME = 0x10;
export const FATTR_MTIME = 0x20;
export const FATTR_FH = 0x40;
export const FATTR_ATIME_NOW = 0x80;
export const FATTR_MTIME_NOW = 0x100;
export const FATTR_LOCKOWNER = 0x200;
export const FATTR_CTIME = 0x400;
export const FATTR_KILL_SUIDGID = 0x800;
/** fuse_setattr_in.valid */
export const FATTR_FLAGS = {
  MODE: FATTR_MODE,
  UID: FATTR_UID,
  GID: FATTR_GID,
  SIZE: FATTR_SIZE,
  ATIME: FATTR_ATIME,
  MTIME: FATTR_MTIME,
  FH: FATTR_FH,
  ATIME_NOW: FATTR_ATIME_NOW,
  MTIME_NOW: FATTR_MTIME_NOW,
  LOCKOWNER: FATTR_LOCKOWNER,
  CTIME: FATTR_CTIME,
  KILL_SUIDGID: FATTR_KILL_SUIDGID,
} as const;

export const FOPEN_DIRECT_IO = 0x1;
export const FOPEN_KEEP_CACHE = 0x2;
export const FOPEN_NONSEEKABLE = 0x4;
export const FOPEN_CACHE_DIR = 0x8;
export const FOPEN_STREAM = 0x10;
export const FOPEN_NOFLUSH = 0x20;
export const FOPEN_PARALLEL_DIRECT_WRITES = 0x40;
export const FOPEN_PASSTHROUGH = 0x80;
/** fuse_open_out.open_flags */
export const FOPEN_FLAGS = {
  DIRECT_IO: FOPEN_DIRECT_IO,
  KEEP_CACHE: FOPEN_KEEP_CACHE,
  NONSEEKABLE: FOPEN_NONSEEKABLE,
  CACHE_DIR: FOPEN_CACHE_DIR,
  STREAM: FOPEN_STREAM,
  NOFLUSH: FOPEN_NOFLUSH,
  PARALLEL_DIRECT_WRITES: FOPEN_PARALLEL_DIRECT_WRITES,
  PASSTHROUGH: FOPEN_PASSTHROUGH,
} as const;

export const FUSE_WRITE_CACHE = 0x1;
export const FUSE_WRITE_LOCKOWNER = 0x2;
export const FUSE_WRITE_KILL_SUIDGID = 0x4;
/** fuse_write_in.write_flags; CACHE: written back later, so the file handle is a guess. */
export const FUSE_WRITE_FLAGS = {
  CACHE: FUSE_WRITE_CACHE,
  LOCKOWNER: FUSE_WRITE_LOCKOWNER,
  KILL_SUIDGID: FUSE_WRITE_KILL_SUIDGID,
} as const;

export const FUSE_IOCTL_COMPAT = 0x1;
export const FUSE_IOCTL_UNRESTRICTED = 0x2;
export const FUSE_IOCTL_RETRY = 0x4;
export const FUSE_IOCTL_32BIT = 0x8;
export const FUSE_IOCTL_DIR = 0x10;
export const FUSE_IOCTL_COMPAT_X32 = 0x20;
/** fuse_ioctl_in.flags */
export const FUSE_IOCTL_FLAGS = {
  COMPAT: FUSE_IOCTL_COMPAT,
  UNRESTRICTED: FUSE_IOCTL_UNRESTRICTED,
  RETRY: FUSE_IOCTL_RETRY,
  "32BIT": FUSE_IOCTL_32BIT,
  DIR: FUSE_IOCTL_DIR,
  COMPAT_X32: FUSE_IOCTL_COMPAT_X32,
} as const;

export const FUSE_IOCTL_MAX_IOV = 256;
export const FUSE_ATTR_SUBMOUNT = 0x1;
export const FUSE_ATTR_DAX = 0x2;
/** fuse_attr.flags */
export const FUSE_ATTR_FLAGS = {
  SUBMOUNT: FUSE_ATTR_SUBMOUNT,
  DAX: FUSE_ATTR_DAX,
} as const;

export const CUSE_UNRESTRICTED_IOCTL = 0x1;
export const CUSE_INIT_INFO_MAX = 4096;
export const FUSE_RELEASE_FLUSH = 0x1;
export const FUSE_RELEASE_FLOCK_UNLOCK = 0x2;
export const FUSE_GETATTR_FH = 0x1;
export const FUSE_LK_FLOCK = 0x1;
export const FUSE_READ_LOCKOWNER = 0x2;
export const FUSE_POLL_SCHEDULE_NOTIFY = 0x1;
export const FUSE_FSYNC_FDATASYNC = 0x1;
export const FUSE_OPEN_KILL_SUIDGID = 0x1;
export const FUSE_SETXATTR_ACL_KILL_SGID = 0x1;
export const FUSE_EXPIRE_ONLY = 0x1;
export const FUSE_SETUPMAPPING_FLAG_WRITE = 0x1;
export const FUSE_SETUPMAPPING_FLAG_READ = 0x2;

/** Extension types; up to 31 the number is one of security contexts. */
export const FUSE_MAX_NR_SECCTX = 31;
export const FUSE_EXT_GROUPS = 32;

/** Sizes of structures as older kernels know them. */
export const FUSE_COMPAT_ENTRY_OUT_SIZE = 120;
export const FUSE_COMPAT_ATTR_OUT_SIZE = 96;
export const FUSE_COMPAT_MKNOD_IN_SIZE = 8;
export const FUSE_COMPAT_WRITE_IN_SIZE = 24;
export const FUSE_COMPAT_STATFS_SIZE = 48;
export const FUSE_COMPAT_SETXATTR_IN_SIZE = 8;
export const FUSE_COMPAT_INIT_OUT_SIZE = 8;
export const FUSE_COMPAT_22_INIT_OUT_SIZE = 24;

/** ioctls of /dev/fuse: a second device for the same connection, and backing files. */
export const FUSE_DEV_IOC_MAGIC = 229;
export const FUSE_DEV_IOC_CLONE = 0x8004e500;
export const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
export const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

export const FUSE_URING_IN_OUT_HEADER_SZ = 128;
export const FUSE_URING_OP_IN_OUT_SZ = 128;
export const FUSE_IO_URING_CMD_INVALID = 0;
export const FUSE_IO_URING_CMD_REGISTER = 1;
export const FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2;

/** statx's field bits and attributes, for fuse_statx. */
export const STATX_FLAGS = {
  TYPE: 0x1,
  MODE: 0x2,
  NLINK: 0x4,
  UID: 0x8,
  GID: 0x10,
  ATIME: 0x20,
  MTIME: 0x40,
  CTIME: 0x80,
  INO: 0x100,
  SIZE: 0x200,
  BLOCKS: 0x400,
  BTIME: 0x800,
} as const;
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_ATTR_FLAGS: FlagTable = { COMPRESSED: 0x4, IMMUTABLE: 0x10, APPEND: 0x20, NODUMP: 0x40 };

/** Directory records and extensions are padded to 8 bytes. */
export const fuseRecAlign = (n: number): number => (n + 7) & ~7;
