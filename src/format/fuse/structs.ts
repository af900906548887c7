/**
 * The structures of the FUSE protocol, in host byte order: each request is a fuse_in_header and the operation's "in"
 * structure, each reply a fuse_out_header and its "out" structure. Mirrors include/uapi/linux/fuse.h up to 7.45.
 *
 * Values that the kernel fills with all 64 bits (owners of locks, addresses) are bigints; inode numbers, file handles
 * and offsets are numbers, since we choose them.
 */
import { bytes, hex64, reserved, s32, s64, struct, sub, tail, u16, u32, u64, type ViewOf } from "../struct.ts";
import {
  FATTR_FLAGS,
  FOPEN_FLAGS,
  FUSE_ATTR_FLAGS,
  FUSE_INIT_FLAGS,
  FUSE_INIT_FLAGS2,
  FUSE_IOCTL_FLAGS,
  FUSE_WRITE_FLAGS,
} from "./constants.ts";

/** Heads every request. */
export const FuseInHeader = struct("fuse_in_header", 0x28, "host", {
  len: u32(0x00, "bytes of the request, this header included"),
  opcode: u32(0x04, "FUSE_OPCODE"),
  unique: u64(0x08, "names the request in its reply; bit 63 is only set with FUSE_HAS_RESEND"),
  nodeid: u64(0x10, "the inode the request is about"),
  uid: u32(0x18, "caller"),
  gid: u32(0x1c, "caller"),
  pid: u32(0x20, "caller, 0 for the kernel itself"),
  total_extlen: u16(0x24, "extensions behind the arguments, in 8 bytes"),
  padding: reserved(0x26, 2),
});
export type FuseInHeader = ViewOf<typeof FuseInHeader>;

/** Heads every reply and notification. */
export const FuseOutHeader = struct("fuse_out_header", 0x10, "host", {
  len: u32(0x00, "bytes of the reply, this header included"),
  error: s32(0x04, "0, a negative errno, or in a notification (unique 0) its code"),
  unique: u64(0x08, "of the request; 0: notification"),
});
export type FuseOutHeader = ViewOf<typeof FuseOutHeader>;

/** What stat shows. */
export const FuseAttr = struct("fuse_attr", 0x58, "host", {
  ino: u64(0x00, "inode number"),
  size: u64(0x08, "bytes"),
  blocks: u64(0x10, "512-byte units"),
  atime: s64(0x18, "seconds"),
  mtime: s64(0x20, "seconds"),
  ctime: s64(0x28, "seconds"),
  atimensec: u32(0x30, "nanoseconds"),
  mtimensec: u32(0x34, "nanoseconds"),
  ctimensec: u32(0x38, "nanoseconds"),
  mode: u32(0x3c, "type and permissions"),
  nlink: u32(0x40, "links"),
  uid: u32(0x44, "owner"),
  gid: u32(0x48, "group"),
  rdev: u32(0x4c, "device number"),
  blksize: u32(0x50, "preferred I/O size"),
  flags: u32(0x54, "FUSE_ATTR_*", { flags: FUSE_ATTR_FLAGS }),
});
export type FuseAttr = ViewOf<typeof FuseAttr>;

/** A time of statx. */
export const FuseSxTime = struct("fuse_sx_time", 0x10, "host", {
  tv_sec: s64(0x00, "seconds"),
  tv_nsec: u32(0x08, "nanoseconds"),
  __reserved: reserved(0x0c, 4),
});
export type FuseSxTime = ViewOf<typeof FuseSxTime>;

/** What statx shows. */
export const FuseStatx = struct("fuse_statx", 0x100, "host", {
  mask: u32(0x00, "STATX_* fields that are filled in"),
  blksize: u32(0x04, "preferred I/O size"),
  attributes: u64(0x08, "STATX_ATTR_*"),
  nlink: u32(0x10, "links"),
  uid: u32(0x14, "owner"),
  gid: u32(0x18, "group"),
  mode: u16(0x1c, "type and permissions"),
  __spare0: reserved(0x1e, 2),
  ino: u64(0x20, "inode number"),
  size: u64(0x28, "bytes"),
  blocks: u64(0x30, "512-byte units"),
  attributes_mask: u64(0x38, "attributes that are supported"),
  atime: sub(0x40, FuseSxTime, "access"),
  btime: sub(0x50, FuseSxTime, "birth"),
  ctime: sub(0x60, FuseSxTime, "change"),
  mtime: sub(0x70, FuseSxTime, "modification"),
  rdev_major: u32(0x80, "device number"),
  rdev_minor: u32(0x84, "device number"),
  dev_major: u32(0x88, "of the file system"),
  dev_minor: u32(0x8c, "of the file system"),
  __spare2: reserved(0x90, 112),
});
export type FuseStatx = ViewOf<typeof FuseStatx>;

/** What statfs shows. */
export const FuseKstatfs = struct("fuse_kstatfs", 0x50, "host", {
  blocks: u64(0x00, "of frsize"),
  bfree: u64(0x08, "free"),
  bavail: u64(0x10, "free for everybody"),
  files: u64(0x18, "inodes"),
  ffree: u64(0x20, "free inodes"),
  bsize: u32(0x28, "preferred I/O size"),
  namelen: u32(0x2c, "longest name"),
  frsize: u32(0x30, "unit of blocks, in bytes"),
  padding: reserved(0x34, 4),
  spare: reserved(0x38, 24),
});
export type FuseKstatfs = ViewOf<typeof FuseKstatfs>;

/** A range lock. end is 2^63-1 for "to the end", so both are bigints. */
export const FuseFileLock = struct("fuse_file_lock", 0x18, "host", {
  start: hex64(0x00, "first byte"),
  end: hex64(0x08, "last byte"),
  type: u32(0x10, "F_RDLCK, F_WRLCK or F_UNLCK"),
  pid: u32(0x14, "holder"),
});
export type FuseFileLock = ViewOf<typeof FuseFileLock>;

/** Reply to lookup, mknod, mkdir, symlink, link. */
export const FuseEntryOut = struct("fuse_entry_out", 0x80, "host", {
  nodeid: u64(0x00, "inode; 0: negative entry that may be cached"),
  generation: u64(0x08, "nodeid and generation are unique for ever"),
  entry_valid: u64(0x10, "seconds that the name may be cached"),
  attr_valid: u64(0x18, "seconds that the attributes may be cached"),
  entry_valid_nsec: u32(0x20, "nanoseconds"),
  attr_valid_nsec: u32(0x24, "nanoseconds"),
  attr: sub(0x28, FuseAttr, "attributes"),
});
export type FuseEntryOut = ViewOf<typeof FuseEntryOut>;

export const FuseForgetIn = struct("fuse_forget_in", 0x08, "host", {
  nlookup: u64(0x00, "lookups to forget"),
});
export type FuseForgetIn = ViewOf<typeof FuseForgetIn>;

export const FuseForgetOne = struct("fuse_forget_one", 0x10, "host", {
  nodeid: u64(0x00, "inode"),
  nlookup: u64(0x08, "lookups to forget"),
});
export type FuseForgetOne = ViewOf<typeof FuseForgetOne>;

/** Followed by count fuse_forget_one. */
export const FuseBatchForgetIn = struct("fuse_batch_forget_in", 0x08, "host", {
  count: u32(0x00, "entries that follow"),
  dummy: reserved(0x04, 4),
});
export type FuseBatchForgetIn = ViewOf<typeof FuseBatchForgetIn>;

export const FuseGetattrIn = struct("fuse_getattr_in", 0x10, "host", {
  getattr_flags: u32(0x00, "FUSE_GETATTR_*"),
  dummy: reserved(0x04, 4),
  fh: u64(0x08, "file handle, if the flags say so"),
});
export type FuseGetattrIn = ViewOf<typeof FuseGetattrIn>;

export const FuseAttrOut = struct("fuse_attr_out", 0x68, "host", {
  attr_valid: u64(0x00, "seconds that the attributes may be cached"),
  attr_valid_nsec: u32(0x08, "nanoseconds"),
  dummy: reserved(0x0c, 4),
  attr: sub(0x10, FuseAttr, "attributes"),
});
export type FuseAttrOut = ViewOf<typeof FuseAttrOut>;

export const FuseStatxIn = struct("fuse_statx_in", 0x18, "host", {
  getattr_flags: u32(0x00, "FUSE_GETATTR_*"),
  reserved: reserved(0x04, 4),
  fh: u64(0x08, "file handle, if the flags say so"),
  sx_flags: u32(0x10, "AT_STATX_*"),
  sx_mask: u32(0x14, "STATX_* wanted"),
});
export type FuseStatxIn = ViewOf<typeof FuseStatxIn>;

export const FuseStatxOut = struct("fuse_statx_out", 0x120, "host", {
  attr_valid: u64(0x00, "seconds that the attributes may be cached"),
  attr_valid_nsec: u32(0x08, "nanoseconds"),
  flags: u32(0x0c, "0"),
  spare: reserved(0x10, 16),
  stat: sub(0x20, FuseStatx, "attributes"),
});
export type FuseStatxOut = ViewOf<typeof FuseStatxOut>;

/** Followed by the name. */
export const FuseMknodIn = struct("fuse_mknod_in", 0x10, "host", {
  mode: u32(0x00, "type and permissions"),
  rdev: u32(0x04, "device number"),
  umask: u32(0x08, "caller's umask"),
  padding: reserved(0x0c, 4),
});
export type FuseMknodIn = ViewOf<typeof FuseMknodIn>;

/** Followed by the name. */
export const FuseMkdirIn = struct("fuse_mkdir_in", 0x08, "host", {
  mode: u32(0x00, "permissions"),
  umask: u32(0x04, "caller's umask"),
});
export type FuseMkdirIn = ViewOf<typeof FuseMkdirIn>;

/** Followed by the old and the new name. */
export const FuseRenameIn = struct("fuse_rename_in", 0x08, "host", {
  newdir: u64(0x00, "target directory"),
});
export type FuseRenameIn = ViewOf<typeof FuseRenameIn>;

/** Followed by the old and the new name. */
export const FuseRename2In = struct("fuse_rename2_in", 0x10, "host", {
  newdir: u64(0x00, "target directory"),
  flags: u32(0x08, "RENAME_*"),
  padding: reserved(0x0c, 4),
});
export type FuseRename2In = ViewOf<typeof FuseRename2In>;

/** Followed by the new name. */
export const FuseLinkIn = struct("fuse_link_in", 0x08, "host", {
  oldnodeid: u64(0x00, "inode to link"),
});
export type FuseLinkIn = ViewOf<typeof FuseLinkIn>;

export const FuseSetattrIn = struct("fuse_setattr_in", 0x58, "host", {
  valid: u32(0x00, "which fields count", { flags: FATTR_FLAGS }),
  padding: reserved(0x04, 4),
  fh: u64(0x08, "file handle"),
  size: u64(0x10, "bytes"),
  lock_owner: hex64(0x18, "owner of locks"),
  atime: s64(0x20, "seconds"),
  mtime: s64(0x28, "seconds"),
  ctime: s64(0x30, "seconds"),
  atimensec: u32(0x38, "nanoseconds"),
  mtimensec: u32(0x3c, "nanoseconds"),
  ctimensec: u32(0x40, "nanoseconds"),
  mode: u32(0x44, "permissions"),
  unused4: reserved(0x48, 4),
  uid: u32(0x4c, "owner"),
  gid: u32(0x50, "group"),
  unused5: reserved(0x54, 4),
});
export type FuseSetattrIn = ViewOf<typeof FuseSetattrIn>;

export const FuseOpenIn = struct("fuse_open_in", 0x08, "host", {
  flags: u32(0x00, "O_*"),
  open_flags: u32(0x04, "FUSE_OPEN_*"),
});
export type FuseOpenIn = ViewOf<typeof FuseOpenIn>;

/** Followed by the name. */
export const FuseCreateIn = struct("fuse_create_in", 0x10, "host", {
  flags: u32(0x00, "O_*"),
  mode: u32(0x04, "permissions"),
  umask: u32(0x08, "caller's umask"),
  open_flags: u32(0x0c, "FUSE_OPEN_*"),
});
export type FuseCreateIn = ViewOf<typeof FuseCreateIn>;

export const FuseOpenOut = struct("fuse_open_out", 0x10, "host", {
  fh: u64(0x00, "file handle"),
  open_flags: u32(0x08, "what the kernel may do", { flags: FOPEN_FLAGS }),
  backing_id: s32(0x0c, "of the backing file, with FOPEN_PASSTHROUGH; padding before 7.40"),
});
export type FuseOpenOut = ViewOf<typeof FuseOpenOut>;

export const FuseReleaseIn = struct("fuse_release_in", 0x18, "host", {
  fh: u64(0x00, "file handle"),
  flags: u32(0x08, "O_*"),
  release_flags: u32(0x0c, "FUSE_RELEASE_*"),
  lock_owner: hex64(0x10, "owner of locks"),
});
export type FuseReleaseIn = ViewOf<typeof FuseReleaseIn>;

export const FuseFlushIn = struct("fuse_flush_in", 0x18, "host", {
  fh: u64(0x00, "file handle"),
  unused: reserved(0x08, 4),
  padding: reserved(0x0c, 4),
  lock_owner: hex64(0x10, "owner of locks"),
});
export type FuseFlushIn = ViewOf<typeof FuseFlushIn>;

/** Also readdir and readdirplus. */
export const FuseReadIn = struct("fuse_read_in", 0x28, "host", {
  fh: u64(0x00, "file handle"),
  offset: u64(0x08, "bytes, or where a directory goes on"),
  size: u32(0x10, "bytes"),
  read_flags: u32(0x14, "FUSE_READ_*"),
  lock_owner: hex64(0x18, "owner of locks"),
  flags: u32(0x20, "O_*"),
  padding: reserved(0x24, 4),
});
export type FuseReadIn = ViewOf<typeof FuseReadIn>;

/** Followed by the data. */
export const FuseWriteIn = struct("fuse_write_in", 0x28, "host", {
  fh: u64(0x00, "file handle"),
  offset: u64(0x08, "bytes"),
  size: u32(0x10, "bytes"),
  write_flags: u32(0x14, "how it came about", { flags: FUSE_WRITE_FLAGS }),
  lock_owner: hex64(0x18, "owner of locks"),
  flags: u32(0x20, "O_*"),
  padding: reserved(0x24, 4),
});
export type FuseWriteIn = ViewOf<typeof FuseWriteIn>;

export const FuseWriteOut = struct("fuse_write_out", 0x08, "host", {
  size: u32(0x00, "bytes written"),
  padding: reserved(0x04, 4),
});
export type FuseWriteOut = ViewOf<typeof FuseWriteOut>;

export const FuseStatfsOut = struct("fuse_statfs_out", 0x50, "host", {
  st: sub(0x00, FuseKstatfs, "numbers"),
});
export type FuseStatfsOut = ViewOf<typeof FuseStatfsOut>;

export const FuseFsyncIn = struct("fuse_fsync_in", 0x10, "host", {
  fh: u64(0x00, "file handle"),
  fsync_flags: u32(0x08, "FUSE_FSYNC_*"),
  padding: reserved(0x0c, 4),
});
export type FuseFsyncIn = ViewOf<typeof FuseFsyncIn>;

/** Followed by name and value. Without FUSE_SETXATTR_EXT only the first 8 bytes are sent. */
export const FuseSetxattrIn = struct("fuse_setxattr_in", 0x10, "host", {
  size: u32(0x00, "bytes of the value"),
  flags: u32(0x04, "XATTR_CREATE, XATTR_REPLACE"),
  setxattr_flags: u32(0x08, "FUSE_SETXATTR_*"),
  padding: reserved(0x0c, 4),
});
export type FuseSetxattrIn = ViewOf<typeof FuseSetxattrIn>;

/** Also listxattr. Followed by the name. */
export const FuseGetxattrIn = struct("fuse_getxattr_in", 0x08, "host", {
  size: u32(0x00, "room, 0: tell the size"),
  padding: reserved(0x04, 4),
});
export type FuseGetxattrIn = ViewOf<typeof FuseGetxattrIn>;

export const FuseGetxattrOut = struct("fuse_getxattr_out", 0x08, "host", {
  size: u32(0x00, "bytes of the value"),
  padding: reserved(0x04, 4),
});
export type FuseGetxattrOut = ViewOf<typeof FuseGetxattrOut>;

export const FuseLkIn = struct("fuse_lk_in", 0x30, "host", {
  fh: u64(0x00, "file handle"),
  owner: hex64(0x08, "owner of the lock"),
  lk: sub(0x10, FuseFileLock, "the lock"),
  lk_flags: u32(0x28, "FUSE_LK_*"),
  padding: reserved(0x2c, 4),
});
export type FuseLkIn = ViewOf<typeof FuseLkIn>;

export const FuseLkOut = struct("fuse_lk_out", 0x18, "host", {
  lk: sub(0x00, FuseFileLock, "the lock in the way"),
});
export type FuseLkOut = ViewOf<typeof FuseLkOut>;

export const FuseAccessIn = struct("fuse_access_in", 0x08, "host", {
  mask: u32(0x00, "R_OK, W_OK, X_OK"),
  padding: reserved(0x04, 4),
});
export type FuseAccessIn = ViewOf<typeof FuseAccessIn>;

/** Before 7.36 it ends before flags2. */
export const FuseInitIn = struct("fuse_init_in", 0x40, "host", {
  major: u32(0x00, "7"),
  minor: u32(0x04, "the kernel's"),
  max_readahead: u32(0x08, "bytes"),
  flags: u32(0x0c, "offered, low word", { flags: FUSE_INIT_FLAGS }),
  flags2: u32(0x10, "offered, high word, with FUSE_INIT_EXT", { flags: FUSE_INIT_FLAGS2 }),
  unused: reserved(0x14, 44),
});
export type FuseInitIn = ViewOf<typeof FuseInitIn>;

export const FuseInitOut = struct("fuse_init_out", 0x40, "host", {
  major: u32(0x00, "7"),
  minor: u32(0x04, "ours"),
  max_readahead: u32(0x08, "bytes"),
  flags: u32(0x0c, "wanted, low word", { flags: FUSE_INIT_FLAGS }),
  max_background: u16(0x10, "background requests in flight"),
  congestion_threshold: u16(0x12, "background requests that count as congestion"),
  max_write: u32(0x14, "bytes"),
  time_gran: u32(0x18, "nanoseconds"),
  max_pages: u16(0x1c, "pages of one request, with FUSE_MAX_PAGES"),
  map_alignment: u16(0x1e, "log2, with FUSE_MAP_ALIGNMENT"),
  flags2: u32(0x20, "wanted, high word, with FUSE_INIT_EXT", { flags: FUSE_INIT_FLAGS2 }),
  max_stack_depth: u32(0x24, "with FUSE_PASSTHROUGH"),
  request_timeout: u16(0x28, "seconds, with FUSE_REQUEST_TIMEOUT"),
  unused: reserved(0x2a, 22),
});
export type FuseInitOut = ViewOf<typeof FuseInitOut>;

export const FuseInterruptIn = struct("fuse_interrupt_in", 0x08, "host", {
  unique: u64(0x00, "request to interrupt"),
});
export type FuseInterruptIn = ViewOf<typeof FuseInterruptIn>;

export const FuseBmapIn = struct("fuse_bmap_in", 0x10, "host", {
  block: u64(0x00, "logical block"),
  blocksize: u32(0x08, "its size"),
  padding: reserved(0x0c, 4),
});
export type FuseBmapIn = ViewOf<typeof FuseBmapIn>;

export const FuseBmapOut = struct("fuse_bmap_out", 0x08, "host", {
  block: u64(0x00, "physical block"),
});
export type FuseBmapOut = ViewOf<typeof FuseBmapOut>;

/** Followed by in_size bytes. */
export const FuseIoctlIn = struct("fuse_ioctl_in", 0x20, "host", {
  fh: u64(0x00, "file handle"),
  flags: u32(0x08, "FUSE_IOCTL_*", { flags: FUSE_IOCTL_FLAGS }),
  cmd: u32(0x0c, "ioctl number"),
  arg: hex64(0x10, "caller's argument, often an address"),
  in_size: u32(0x18, "bytes"),
  out_size: u32(0x1c, "bytes of room"),
});
export type FuseIoctlIn = ViewOf<typeof FuseIoctlIn>;

export const FuseIoctlIovec = struct("fuse_ioctl_iovec", 0x10, "host", {
  base: hex64(0x00, "address in the caller's memory"),
  len: u64(0x08, "bytes"),
});
export type FuseIoctlIovec = ViewOf<typeof FuseIoctlIovec>;

export const FuseIoctlOut = struct("fuse_ioctl_out", 0x10, "host", {
  result: s32(0x00, "what ioctl returns"),
  flags: u32(0x04, "FUSE_IOCTL_RETRY"),
  in_iovs: u32(0x08, "to fetch"),
  out_iovs: u32(0x0c, "to fill"),
});
export type FuseIoctlOut = ViewOf<typeof FuseIoctlOut>;

export const FusePollIn = struct("fuse_poll_in", 0x18, "host", {
  fh: u64(0x00, "file handle"),
  kh: u64(0x08, "names the poll in the wakeup"),
  flags: u32(0x10, "FUSE_POLL_*"),
  events: u32(0x14, "POLL*"),
});
export type FusePollIn = ViewOf<typeof FusePollIn>;

export const FusePollOut = struct("fuse_poll_out", 0x08, "host", {
  revents: u32(0x00, "POLL*"),
  padding: reserved(0x04, 4),
});
export type FusePollOut = ViewOf<typeof FusePollOut>;

export const FuseNotifyPollWakeupOut = struct("fuse_notify_poll_wakeup_out", 0x08, "host", {
  kh: u64(0x00, "of the poll"),
});
export type FuseNotifyPollWakeupOut = ViewOf<typeof FuseNotifyPollWakeupOut>;

export const FuseFallocateIn = struct("fuse_fallocate_in", 0x20, "host", {
  fh: u64(0x00, "file handle"),
  offset: u64(0x08, "bytes"),
  length: u64(0x10, "bytes"),
  mode: u32(0x18, "FALLOC_FL_*"),
  padding: reserved(0x1c, 4),
});
export type FuseFallocateIn = ViewOf<typeof FuseFallocateIn>;

/** One name of readdir; padded to 8 bytes. */
export const FuseDirent = struct("fuse_dirent", 0x18, "host", {
  ino: u64(0x00, "inode number"),
  off_: u64(0x08, "offset where the next readdir goes on"),
  namelen: u32(0x10, "bytes of the name"),
  type: u32(0x14, "DT"),
  name: tail(0x18, "u8", "the name, not terminated", { used: "namelen" }),
});
export type FuseDirent = ViewOf<typeof FuseDirent>;

/** One name of readdirplus; padded to 8 bytes. */
export const FuseDirentplus = struct("fuse_direntplus", 0x98, "host", {
  entry_out: sub(0x00, FuseEntryOut, "as from a lookup"),
  dirent: sub(0x80, FuseDirent, "the name"),
});
export type FuseDirentplus = ViewOf<typeof FuseDirentplus>;

export const FuseNotifyInvalInodeOut = struct("fuse_notify_inval_inode_out", 0x18, "host", {
  ino: u64(0x00, "inode"),
  off_: s64(0x08, "first byte; negative: attributes only"),
  len: s64(0x10, "bytes; 0 or less: to the end"),
});
export type FuseNotifyInvalInodeOut = ViewOf<typeof FuseNotifyInvalInodeOut>;

/** Followed by the name and a NUL. */
export const FuseNotifyInvalEntryOut = struct("fuse_notify_inval_entry_out", 0x10, "host", {
  parent: u64(0x00, "directory"),
  namelen: u32(0x08, "bytes of the name"),
  flags: u32(0x0c, "FUSE_EXPIRE_ONLY"),
});
export type FuseNotifyInvalEntryOut = ViewOf<typeof FuseNotifyInvalEntryOut>;

/** Followed by the name and a NUL. */
export const FuseNotifyDeleteOut = struct("fuse_notify_delete_out", 0x18, "host", {
  parent: u64(0x00, "directory"),
  child: u64(0x08, "inode"),
  namelen: u32(0x10, "bytes of the name"),
  padding: reserved(0x14, 4),
});
export type FuseNotifyDeleteOut = ViewOf<typeof FuseNotifyDeleteOut>;

/** Followed by the data. */
export const FuseNotifyStoreOut = struct("fuse_notify_store_out", 0x18, "host", {
  nodeid: u64(0x00, "inode"),
  offset: u64(0x08, "bytes"),
  size: u32(0x10, "bytes"),
  padding: reserved(0x14, 4),
});
export type FuseNotifyStoreOut = ViewOf<typeof FuseNotifyStoreOut>;

export const FuseNotifyRetrieveOut = struct("fuse_notify_retrieve_out", 0x20, "host", {
  notify_unique: u64(0x00, "names the answer"),
  nodeid: u64(0x08, "inode"),
  offset: u64(0x10, "bytes"),
  size: u32(0x18, "bytes"),
  padding: reserved(0x1c, 4),
});
export type FuseNotifyRetrieveOut = ViewOf<typeof FuseNotifyRetrieveOut>;

/** The answer to retrieve; as long as fuse_write_in. */
export const FuseNotifyRetrieveIn = struct("fuse_notify_retrieve_in", 0x28, "host", {
  dummy1: reserved(0x00, 8),
  offset: u64(0x08, "bytes"),
  size: u32(0x10, "bytes"),
  dummy2: reserved(0x14, 4),
  dummy3: reserved(0x18, 8),
  dummy4: reserved(0x20, 8),
});
export type FuseNotifyRetrieveIn = ViewOf<typeof FuseNotifyRetrieveIn>;

/** Followed by count node ids, 8 bytes each. */
export const FuseNotifyPruneOut = struct("fuse_notify_prune_out", 0x10, "host", {
  count: u32(0x00, "node ids that follow"),
  padding: reserved(0x04, 4),
  spare: reserved(0x08, 8),
});
export type FuseNotifyPruneOut = ViewOf<typeof FuseNotifyPruneOut>;

/** Argument of FUSE_DEV_IOC_BACKING_OPEN. */
export const FuseBackingMap = struct("fuse_backing_map", 0x10, "host", {
  fd: s32(0x00, "file to read and write instead"),
  flags: u32(0x04, "0"),
  padding: reserved(0x08, 8),
});
export type FuseBackingMap = ViewOf<typeof FuseBackingMap>;

export const FuseLseekIn = struct("fuse_lseek_in", 0x18, "host", {
  fh: u64(0x00, "file handle"),
  offset: u64(0x08, "bytes"),
  whence: u32(0x10, "SEEK_DATA or SEEK_HOLE"),
  padding: reserved(0x14, 4),
});
export type FuseLseekIn = ViewOf<typeof FuseLseekIn>;

export const FuseLseekOut = struct("fuse_lseek_out", 0x08, "host", {
  offset: u64(0x00, "bytes"),
});
export type FuseLseekOut = ViewOf<typeof FuseLseekOut>;

export const FuseCopyFileRangeIn = struct("fuse_copy_file_range_in", 0x38, "host", {
  fh_in: u64(0x00, "file handle"),
  off_in: u64(0x08, "bytes"),
  nodeid_out: u64(0x10, "inode"),
  fh_out: u64(0x18, "file handle"),
  off_out: u64(0x20, "bytes"),
  len: u64(0x28, "bytes"),
  flags: u64(0x30, "0"),
});
export type FuseCopyFileRangeIn = ViewOf<typeof FuseCopyFileRangeIn>;

/** Reply to FUSE_COPY_FILE_RANGE_64; the older opcode answers with fuse_write_out. */
export const FuseCopyFileRangeOut = struct("fuse_copy_file_range_out", 0x08, "host", {
  bytes_copied: u64(0x00, "bytes"),
});
export type FuseCopyFileRangeOut = ViewOf<typeof FuseCopyFileRangeOut>;

export const FuseSetupmappingIn = struct("fuse_setupmapping_in", 0x28, "host", {
  fh: u64(0x00, "file handle"),
  foffset: u64(0x08, "bytes"),
  len: u64(0x10, "bytes"),
  flags: u64(0x18, "FUSE_SETUPMAPPING_FLAG_*"),
  moffset: u64(0x20, "bytes into the window"),
});
export type FuseSetupmappingIn = ViewOf<typeof FuseSetupmappingIn>;

/** Followed by count fuse_removemapping_one. */
export const FuseRemovemappingIn = struct("fuse_removemapping_in", 0x04, "host", {
  count: u32(0x00, "mappings that follow"),
});
export type FuseRemovemappingIn = ViewOf<typeof FuseRemovemappingIn>;

export const FuseRemovemappingOne = struct("fuse_removemapping_one", 0x10, "host", {
  moffset: u64(0x00, "bytes into the window"),
  len: u64(0x08, "bytes"),
});
export type FuseRemovemappingOne = ViewOf<typeof FuseRemovemappingOne>;

export const FuseSyncfsIn = struct("fuse_syncfs_in", 0x08, "host", {
  padding: reserved(0x00, 8),
});
export type FuseSyncfsIn = ViewOf<typeof FuseSyncfsIn>;

/** Followed by name and context. */
export const FuseSecctx = struct("fuse_secctx", 0x08, "host", {
  size: u32(0x00, "bytes of the context"),
  padding: reserved(0x04, 4),
});
export type FuseSecctx = ViewOf<typeof FuseSecctx>;

export const FuseSecctxHeader = struct("fuse_secctx_header", 0x08, "host", {
  size: u32(0x00, "bytes of all, this included"),
  nr_secctx: u32(0x04, "contexts that follow"),
});
export type FuseSecctxHeader = ViewOf<typeof FuseSecctxHeader>;

export const FuseExtHeader = struct("fuse_ext_header", 0x08, "host", {
  size: u32(0x00, "bytes of the extension, this included"),
  type: u32(0x04, "FUSE_EXT_*, or a number of secctx up to 31"),
});
export type FuseExtHeader = ViewOf<typeof FuseExtHeader>;

/** The extension FUSE_EXT_GROUPS. */
export const FuseSuppGroups = struct("fuse_supp_groups", 0x04, "host", {
  nr_groups: u32(0x00, "groups that follow"),
  groups: tail(0x04, "u32", "gids", { used: "nr_groups" }),
});
export type FuseSuppGroups = ViewOf<typeof FuseSuppGroups>;

export const CuseInitIn = struct("cuse_init_in", 0x10, "host", {
  major: u32(0x00, ""),
  minor: u32(0x04, ""),
  unused: reserved(0x08, 4),
  flags: u32(0x0c, "CUSE_UNRESTRICTED_IOCTL"),
});
export type CuseInitIn = ViewOf<typeof CuseInitIn>;

export const CuseInitOut = struct("cuse_init_out", 0x48, "host", {
  major: u32(0x00, ""),
  minor: u32(0x04, ""),
  unused: reserved(0x08, 4),
  flags: u32(0x0c, "CUSE_UNRESTRICTED_IOCTL"),
  max_read: u32(0x10, "bytes"),
  max_write: u32(0x14, "bytes"),
  dev_major: u32(0x18, "device number"),
  dev_minor: u32(0x1c, "device number"),
  spare: reserved(0x20, 40),
});
export type CuseInitOut = ViewOf<typeof CuseInitOut>;

/** State of one ring entry. */
export const FuseUringEntInOut = struct("fuse_uring_ent_in_out", 0x20, "host", {
  flags: u64(0x00, "0"),
  commit_id: u64(0x08, "to hand back with the result"),
  payload_sz: u32(0x10, "bytes of the payload buffer in use"),
  padding: reserved(0x14, 4),
  reserved: reserved(0x18, 8),
});
export type FuseUringEntInOut = ViewOf<typeof FuseUringEntInOut>;

/** Heads one ring entry. */
export const FuseUringReqHeader = struct("fuse_uring_req_header", 0x120, "host", {
  in_out: bytes(0x00, 128, "fuse_in_header or fuse_out_header"),
  op_in: bytes(0x80, 128, "the arguments of the operation"),
  ring_ent_in_out: sub(0x100, FuseUringEntInOut, "state of the entry"),
});
export type FuseUringReqHeader = ViewOf<typeof FuseUringReqHeader>;

/** In the command area of an SQE. */
export const FuseUringCmdReq = struct("fuse_uring_cmd_req", 0x18, "host", {
  flags: u64(0x00, "0"),
  commit_id: u64(0x08, "of the request whose result this is"),
  qid: u16(0x10, "queue"),
  padding: reserved(0x12, 6),
});
export type FuseUringCmdReq = ViewOf<typeof FuseUringCmdReq>;

/**
 * The minor version that brought a structure or a field, where that is newer than 7.38. A kernel that negotiates less
 * neither sends nor reads them.
 */
export const FUSE_SINCE: Readonly<Record<string, number>> = {
  fuse_sx_time: 39,
  fuse_statx: 39,
  fuse_statx_in: 39,
  fuse_statx_out: 39,
  fuse_supp_groups: 38,
  "fuse_open_out.backing_id": 40,
  "fuse_init_out.max_stack_depth": 40,
  fuse_backing_map: 40,
  fuse_uring_ent_in_out: 42,
  fuse_uring_req_header: 42,
  fuse_uring_cmd_req: 42,
  "fuse_init_out.request_timeout": 43,
  fuse_copy_file_range_out: 45,
  fuse_notify_prune_out: 45,
};
