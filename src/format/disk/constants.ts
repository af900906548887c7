/**
 * Every constant of the OCFS2 disk format. Single values have ocfs2_fs.h's names, OCFS2_ prefix included; the
 * tables (I_FLAGS, DYN_FEATURES...) give the same values short names for printing and choosing.
 *
 * Mirrors fs/ocfs2/ocfs2_fs.h; the dirent types mirror include/linux/fs_types.h, the xattr prefix numbers xattr.h.
 */

export const OCFS2_MAJOR_REV_LEVEL = 0;
export const OCFS2_MINOR_REV_LEVEL = 90;

/** The super block's inode, in blocks. Sectors 0 and 1 hold OCFS1 headers that make an OCFS1 driver refuse. */
export const OCFS2_SUPER_BLOCK_BLKNO = 2;

export const OCFS2_MIN_CLUSTERSIZE = 4096;
export const OCFS2_MAX_CLUSTERSIZE = 1048576;
export const OCFS2_MIN_BLOCKSIZE = 512;
export const OCFS2_MAX_BLOCKSIZE = 4096;
export const MIN_CLUSTERSIZE_BITS = 12;
export const MAX_CLUSTERSIZE_BITS = 20;
export const MIN_BLOCKSIZE_BITS = 9;
export const MAX_BLOCKSIZE_BITS = 12;

export const OCFS2_SUPER_BLOCK_SIGNATURE = "OCFSV2";
export const OCFS2_INODE_SIGNATURE = "INODE01";
export const OCFS2_EXTENT_BLOCK_SIGNATURE = "EXBLK01";
export const OCFS2_GROUP_DESC_SIGNATURE = "GROUP01";
export const OCFS2_XATTR_BLOCK_SIGNATURE = "XATTR01";
export const OCFS2_DIR_TRAILER_SIGNATURE = "DIRTRL1";
export const OCFS2_DX_ROOT_SIGNATURE = "DXDIR01";
export const OCFS2_DX_LEAF_SIGNATURE = "DXLEAF1";
export const OCFS2_REFCOUNT_BLOCK_SIGNATURE = "REFCNT1";

// ---- feature bits; tool names, classes and the supported masks are in ../features.ts ----

export const OCFS2_FEATURE_COMPAT_BACKUP_SB = 0x0001;
export const OCFS2_FEATURE_COMPAT_JBD2_SB = 0x0002;
export const FEATURE_COMPAT = {
  BACKUP_SB: OCFS2_FEATURE_COMPAT_BACKUP_SB,
  JBD2_SB: OCFS2_FEATURE_COMPAT_JBD2_SB,
} as const;
export const OCFS2_FEATURE_INCOMPAT_HEARTBEAT_DEV = 0x0002;
export const OCFS2_FEATURE_INCOMPAT_RESIZE_INPROG = 0x0004;
export const OCFS2_FEATURE_INCOMPAT_LOCAL_MOUNT = 0x0008;
export const OCFS2_FEATURE_INCOMPAT_SPARSE_ALLOC = 0x0010;
export const OCFS2_FEATURE_INCOMPAT_TUNEFS_INPROG = 0x0020;
export const OCFS2_FEATURE_INCOMPAT_INLINE_DATA = 0x0040;
export const OCFS2_FEATURE_INCOMPAT_USERSPACE_STACK = 0x0080;
export const OCFS2_FEATURE_INCOMPAT_EXTENDED_SLOT_MAP = 0x0100;
export const OCFS2_FEATURE_INCOMPAT_XATTR = 0x0200;
export const OCFS2_FEATURE_INCOMPAT_INDEXED_DIRS = 0x0400;
export const OCFS2_FEATURE_INCOMPAT_META_ECC = 0x0800;
export const OCFS2_FEATURE_INCOMPAT_REFCOUNT_TREE = 0x1000;
export const OCFS2_FEATURE_INCOMPAT_DISCONTIG_BG = 0x2000;
export const OCFS2_FEATURE_INCOMPAT_CLUSTERINFO = 0x4000;
export const OCFS2_FEATURE_INCOMPAT_APPEND_DIO = 0x8000;
export const FEATURE_INCOMPAT = {
  HEARTBEAT_DEV: OCFS2_FEATURE_INCOMPAT_HEARTBEAT_DEV,
  RESIZE_INPROG: OCFS2_FEATURE_INCOMPAT_RESIZE_INPROG,
  LOCAL_MOUNT: OCFS2_FEATURE_INCOMPAT_LOCAL_MOUNT,
  SPARSE_ALLOC: OCFS2_FEATURE_INCOMPAT_SPARSE_ALLOC,
  TUNEFS_INPROG: OCFS2_FEATURE_INCOMPAT_TUNEFS_INPROG,
  INLINE_DATA: OCFS2_FEATURE_INCOMPAT_INLINE_DATA,
  USERSPACE_STACK: OCFS2_FEATURE_INCOMPAT_USERSPACE_STACK,
  EXTENDED_SLOT_MAP: OCFS2_FEATURE_INCOMPAT_EXTENDED_SLOT_MAP,
  XATTR: OCFS2_FEATURE_INCOMPAT_XATTR,
  INDEXED_DIRS: OCFS2_FEATURE_INCOMPAT_INDEXED_DIRS,
  META_ECC: OCFS2_FEATURE_INCOMPAT_META_ECC,
  REFCOUNT_TREE: OCFS2_FEATURE_INCOMPAT_REFCOUNT_TREE,
  DISCONTIG_BG: OCFS2_FEATURE_INCOMPAT_DISCONTIG_BG,
  CLUSTERINFO: OCFS2_FEATURE_INCOMPAT_CLUSTERINFO,
  APPEND_DIO: OCFS2_FEATURE_INCOMPAT_APPEND_DIO,
} as const;
export const OCFS2_FEATURE_RO_COMPAT_UNWRITTEN = 0x0001;
export const OCFS2_FEATURE_RO_COMPAT_USRQUOTA = 0x0002;
export const OCFS2_FEATURE_RO_COMPAT_GRPQUOTA = 0x0004;
export const FEATURE_RO_COMPAT = {
  UNWRITTEN: OCFS2_FEATURE_RO_COMPAT_UNWRITTEN,
  USRQUOTA: OCFS2_FEATURE_RO_COMPAT_USRQUOTA,
  GRPQUOTA: OCFS2_FEATURE_RO_COMPAT_GRPQUOTA,
} as const;

/** Byte offset of the first backup super block; each of the following is four times as far. */
export const OCFS2_BACKUP_SB_START = 2 ** 30;
export const OCFS2_MAX_BACKUP_SUPERBLOCKS = 6;

export const OCFS2_TUNEFS_INPROG_REMOVE_SLOT = 0x0001;
/** ocfs2_super_block.s_tunefs_flag */
export const TUNEFS_FLAGS = {
  REMOVE_SLOT: OCFS2_TUNEFS_INPROG_REMOVE_SLOT,
} as const;
/** ocfs2_super_block.s_state */
export const OCFS2_ERROR_FS = 0x0001;
export const S_STATE = { ERROR_FS: OCFS2_ERROR_FS } as const;

export const OCFS2_VALID_FL = 0x00000001;
export const OCFS2_UNUSED2_FL = 0x00000002;
export const OCFS2_ORPHANED_FL = 0x00000004;
export const OCFS2_UNUSED3_FL = 0x00000008;
export const OCFS2_SYSTEM_FL = 0x00000010;
export const OCFS2_SUPER_BLOCK_FL = 0x00000020;
export const OCFS2_LOCAL_ALLOC_FL = 0x00000040;
export const OCFS2_BITMAP_FL = 0x00000080;
export const OCFS2_JOURNAL_FL = 0x00000100;
export const OCFS2_HEARTBEAT_FL = 0x00000200;
export const OCFS2_CHAIN_FL = 0x00000400;
export const OCFS2_DEALLOC_FL = 0x00000800;
export const OCFS2_QUOTA_FL = 0x00001000;
export const OCFS2_DIO_ORPHANED_FL = 0x00002000;
/** ocfs2_dinode.i_flags */
export const I_FLAGS = {
  VALID: OCFS2_VALID_FL,
  UNUSED2: OCFS2_UNUSED2_FL,
  ORPHANED: OCFS2_ORPHANED_FL,
  UNUSED3: OCFS2_UNUSED3_FL,
  SYSTEM: OCFS2_SYSTEM_FL,
  SUPER_BLOCK: OCFS2_SUPER_BLOCK_FL,
  LOCAL_ALLOC: OCFS2_LOCAL_ALLOC_FL,
  BITMAP: OCFS2_BITMAP_FL,
  JOURNAL: OCFS2_JOURNAL_FL,
  HEARTBEAT: OCFS2_HEARTBEAT_FL,
  CHAIN: OCFS2_CHAIN_FL,
  DEALLOC: OCFS2_DEALLOC_FL,
  QUOTA: OCFS2_QUOTA_FL,
  DIO_ORPHANED: OCFS2_DIO_ORPHANED_FL,
} as const;

export const OCFS2_INLINE_DATA_FL = 0x0001;
export const OCFS2_HAS_XATTR_FL = 0x0002;
export const OCFS2_INLINE_XATTR_FL = 0x0004;
export const OCFS2_INDEXED_DIR_FL = 0x0008;
export const OCFS2_HAS_REFCOUNT_FL = 0x0010;
/** ocfs2_dinode.i_dyn_features, 16 bits */
export const DYN_FEATURES = {
  INLINE_DATA: OCFS2_INLINE_DATA_FL,
  HAS_XATTR: OCFS2_HAS_XATTR_FL,
  INLINE_XATTR: OCFS2_INLINE_XATTR_FL,
  INDEXED_DIR: OCFS2_INDEXED_DIR_FL,
  HAS_REFCOUNT: OCFS2_HAS_REFCOUNT_FL,
} as const;

export const OCFS2_SECRM_FL = 0x00000001;
export const OCFS2_UNRM_FL = 0x00000002;
export const OCFS2_COMPR_FL = 0x00000004;
export const OCFS2_SYNC_FL = 0x00000008;
export const OCFS2_IMMUTABLE_FL = 0x00000010;
export const OCFS2_APPEND_FL = 0x00000020;
export const OCFS2_NODUMP_FL = 0x00000040;
export const OCFS2_NOATIME_FL = 0x00000080;
export const OCFS2_DIRTY_FL = 0x00000100;
export const OCFS2_COMPRBLK_FL = 0x00000200;
export const OCFS2_NOCOMP_FL = 0x00000400;
export const OCFS2_ECOMPR_FL = 0x00000800;
export const OCFS2_INDEX_FL = 0x00001000;
export const OCFS2_IMAGIC_FL = 0x00002000;
export const OCFS2_JOURNAL_DATA_FL = 0x00004000;
export const OCFS2_NOTAIL_FL = 0x00008000;
export const OCFS2_DIRSYNC_FL = 0x00010000;
export const OCFS2_TOPDIR_FL = 0x00020000;
export const OCFS2_RESERVED_FL = 0x80000000;
/** ocfs2_dinode.i_attr: what chattr sets; the values are the FS_*_FL of uapi/linux/fs.h. */
export const I_ATTR = {
  SECRM: OCFS2_SECRM_FL,
  UNRM: OCFS2_UNRM_FL,
  COMPR: OCFS2_COMPR_FL,
  SYNC: OCFS2_SYNC_FL,
  IMMUTABLE: OCFS2_IMMUTABLE_FL,
  APPEND: OCFS2_APPEND_FL,
  NODUMP: OCFS2_NODUMP_FL,
  NOATIME: OCFS2_NOATIME_FL,
  DIRTY: OCFS2_DIRTY_FL,
  COMPRBLK: OCFS2_COMPRBLK_FL,
  NOCOMP: OCFS2_NOCOMP_FL,
  ECOMPR: OCFS2_ECOMPR_FL,
  INDEX: OCFS2_INDEX_FL,
  IMAGIC: OCFS2_IMAGIC_FL,
  JOURNAL_DATA: OCFS2_JOURNAL_DATA_FL,
  NOTAIL: OCFS2_NOTAIL_FL,
  DIRSYNC: OCFS2_DIRSYNC_FL,
  TOPDIR: OCFS2_TOPDIR_FL,
  RESERVED: OCFS2_RESERVED_FL,
} as const;
export const OCFS2_FL_VISIBLE = 0x0003dfff;
export const OCFS2_FL_MODIFIABLE = 0x000380ff;

export const OCFS2_EXT_UNWRITTEN = 0x01;
export const OCFS2_EXT_REFCOUNTED = 0x02;
/** ocfs2_extent_rec.e_flags, leaf records only */
export const EXT_FLAGS = {
  UNWRITTEN: OCFS2_EXT_UNWRITTEN,
  REFCOUNTED: OCFS2_EXT_REFCOUNTED,
} as const;
export const OCFS2_JOURNAL_DIRTY_FL = 0x00000001;
/** ocfs2_dinode.ij_flags */
export const JOURNAL_FLAGS = {
  DIRTY: OCFS2_JOURNAL_DIRTY_FL,
} as const;
export const OCFS2_DX_FLAG_INLINE = 0x01;
/** ocfs2_dx_root_block.dr_flags */
export const DX_FLAGS = {
  INLINE: OCFS2_DX_FLAG_INLINE,
} as const;
export const OCFS2_REFCOUNT_LEAF_FL = 0x00000001;
export const OCFS2_REFCOUNT_TREE_FL = 0x00000002;
/** ocfs2_refcount_block.rf_flags */
export const REFCOUNT_FLAGS = {
  LEAF: OCFS2_REFCOUNT_LEAF_FL,
  TREE: OCFS2_REFCOUNT_TREE_FL,
} as const;
export const OCFS2_XATTR_INDEXED = 0x1;
/** ocfs2_xattr_block.xb_flags */
export const XATTR_BLOCK_FLAGS = {
  INDEXED: OCFS2_XATTR_INDEXED,
} as const;
export const OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT = 0x01;
/** ocfs2_cluster_info.ci_stackflags */
export const CLUSTER_STACKFLAGS = {
  O2CB_GLOBAL_HEARTBEAT: OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT,
} as const;
export const OLQF_CLEAN = 0x0001;
/** ocfs2_local_disk_dqinfo.dqi_flags */
export const OLQF_FLAGS = {
  CLEAN: OLQF_CLEAN,
} as const;

export const OCFS2_MAX_FILENAME_LEN = 255;
export const OCFS2_MAX_SLOTS = 255;
export const OCFS2_INVALID_SLOT = 0xffff;
export const OCFS2_VOL_UUID_LEN = 16;
export const OCFS2_MAX_VOL_LABEL_LEN = 64;
export const OCFS2_STACK_LABEL_LEN = 4;
export const OCFS2_CLUSTER_NAME_LEN = 16;
export const OCFS2_CLASSIC_CLUSTER_STACK = "o2cb";
/** Bytes. */
export const OCFS2_MIN_JOURNAL_SIZE = 4 * 1024 * 1024;
export const OCFS2_MIN_XATTR_INLINE_SIZE = 256;
/** Largest bitmap, in bytes, of a suballocator's group; a cluster group's runs to the end of its block. */
export const OCFS2_MAX_BG_BITMAP_SIZE = 256;

export const OCFS2_LINK_MAX = 32000;
export const OCFS2_DX_LINK_MAX = 0x7fffffff;
export const OCFS2_LINKS_HI_SHIFT = 16;
export const OCFS2_DX_ENTRIES_MAX = 0xffffffff;

export const OCFS2_32BIT_POS_MASK = 0xffffffff;

// ---- directories ----

export const OCFS2_DIR_PAD = 4;
export const OCFS2_DIR_ROUND = OCFS2_DIR_PAD - 1;
/** Bytes of a directory entry in front of the name. */
export const OCFS2_DIR_MEMBER_LEN = 12;
/** Bytes a directory entry with a name of `nameLen` bytes needs. */
export const dirRecLen = (nameLen: number): number =>
  (nameLen + OCFS2_DIR_MEMBER_LEN + OCFS2_DIR_ROUND) & ~OCFS2_DIR_ROUND;
export const OCFS2_DIR_MIN_REC_LEN = dirRecLen(1);

/** ocfs2_dir_entry.file_type */
export const FT = {
  UNKNOWN: 0,
  REG_FILE: 1,
  DIR: 2,
  CHRDEV: 3,
  BLKDEV: 4,
  FIFO: 5,
  SOCK: 6,
  SYMLINK: 7,
} as const;
export const OCFS2_FT_UNKNOWN = 0;
export const OCFS2_FT_REG_FILE = 1;
export const OCFS2_FT_DIR = 2;
export const OCFS2_FT_CHRDEV = 3;
export const OCFS2_FT_BLKDEV = 4;
export const OCFS2_FT_FIFO = 5;
export const OCFS2_FT_SOCK = 6;
export const OCFS2_FT_SYMLINK = 7;
export const OCFS2_FT_MAX = 8;

/** Mode bits of i_mode. */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;
export const S_IXGRP = 0o010;

export const isReg = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const isDir = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const isLnk = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;
export const isChr = (mode: number): boolean => (mode & S_IFMT) === S_IFCHR;
export const isBlk = (mode: number): boolean => (mode & S_IFMT) === S_IFBLK;
export const isFifo = (mode: number): boolean => (mode & S_IFMT) === S_IFIFO;
export const isSock = (mode: number): boolean => (mode & S_IFMT) === S_IFSOCK;

/** d_type as readdir reports it, which is the mode's type nibble. */
export const DT = { UNKNOWN: 0, FIFO: 1, CHR: 2, DIR: 4, BLK: 6, REG: 8, LNK: 10, SOCK: 12, WHT: 14 } as const;

const FT_BY_DT: readonly number[] = [
  FT.UNKNOWN,
  FT.FIFO,
  FT.CHRDEV,
  FT.UNKNOWN,
  FT.DIR,
  FT.UNKNOWN,
  FT.BLKDEV,
  FT.UNKNOWN,
  FT.REG_FILE,
  FT.UNKNOWN,
  FT.SYMLINK,
  FT.UNKNOWN,
  FT.SOCK,
  FT.UNKNOWN,
  FT.UNKNOWN,
  FT.UNKNOWN,
];
const DT_BY_FT: readonly number[] = [DT.UNKNOWN, DT.REG, DT.DIR, DT.CHR, DT.BLK, DT.FIFO, DT.SOCK, DT.LNK];

/** The dirent file_type of an inode mode; mirrors fs_umode_to_ftype. */
export const modeToFileType = (mode: number): number => FT_BY_DT[(mode & S_IFMT) >> 12]!;
/** readdir's d_type of a dirent file_type, DT.UNKNOWN for one out of range; mirrors fs_ftype_to_dtype. */
export const fileTypeToDt = (fileType: number): number => DT_BY_FT[fileType] ?? DT.UNKNOWN;
export const modeToDt = (mode: number): number => (mode & S_IFMT) >> 12;

// ---- extended attributes ----

export const OCFS2_HASH_SHIFT = 5;
export const OCFS2_XATTR_ROUND = 3;
/** Bytes a name or value takes in the heap of a bucket. */
export const xattrSize = (len: number): number => (len + OCFS2_XATTR_ROUND) & ~OCFS2_XATTR_ROUND;
export const OCFS2_XATTR_BUCKET_SIZE = 4096;
export const OCFS2_XATTR_MAX_BLOCKS_PER_BUCKET = OCFS2_XATTR_BUCKET_SIZE / OCFS2_MIN_BLOCKSIZE;
/** Bit of xe_type: the value is in the bucket; else an xattr value root is there. */
export const OCFS2_XATTR_ENTRY_LOCAL = 0x80;
export const OCFS2_XATTR_TYPE_MASK = 0x7f;
/** Values up to this many bytes stay in the bucket. */
export const OCFS2_XATTR_INLINE_SIZE = 80;
/** Name prefix numbers in xe_type. */
export const XATTR_INDEX = {
  USER: 1,
  POSIX_ACL_ACCESS: 2,
  POSIX_ACL_DEFAULT: 3,
  TRUSTED: 4,
  SECURITY: 5,
} as const;
export const OCFS2_XATTR_INDEX_USER = 1;
export const OCFS2_XATTR_INDEX_POSIX_ACL_ACCESS = 2;
export const OCFS2_XATTR_INDEX_POSIX_ACL_DEFAULT = 3;
export const OCFS2_XATTR_INDEX_TRUSTED = 4;
export const OCFS2_XATTR_INDEX_SECURITY = 5;
export const OCFS2_XATTR_MAX = 6;
export const XATTR_PREFIX: Readonly<Record<number, string>> = {
  1: "user.",
  2: "system.posix_acl_access",
  3: "system.posix_acl_default",
  4: "trusted.",
  5: "security.",
};

// ---- quota ----

export const OCFS2_QBLK_RESERVED_SPACE = 8;
export const OCFS2_GLOBAL_QMAGICS = [0x0cf52470, 0x0cf52471] as const;
export const OCFS2_GLOBAL_QVERSIONS = [0, 0] as const;
export const OCFS2_LOCAL_QMAGICS = [0x0cf524c0, 0x0cf524c1] as const;
export const OCFS2_LOCAL_QVERSIONS = [0, 0] as const;
export const USRQUOTA = 0;
export const GRPQUOTA = 1;
/** Offset of the info header behind the generic one, in both kinds of quota file. */
export const OCFS2_GLOBAL_INFO_OFF = 8;
export const OCFS2_LOCAL_INFO_OFF = 8;

// ---- system files ----

export interface SystemInodeInfo {
  /** The file's name in the system directory; %04d stands for the slot. */
  readonly name: string;
  readonly iflags: number;
  readonly mode: number;
}

/** Indexes of SYSTEM_INODES. */
export const SYSTEM_INODE = {
  BAD_BLOCK: 0,
  GLOBAL_INODE_ALLOC: 1,
  SLOT_MAP: 2,
  HEARTBEAT: 3,
  GLOBAL_BITMAP: 4,
  USER_QUOTA: 5,
  GROUP_QUOTA: 6,
  ORPHAN_DIR: 7,
  EXTENT_ALLOC: 8,
  INODE_ALLOC: 9,
  JOURNAL: 10,
  LOCAL_ALLOC: 11,
  TRUNCATE_LOG: 12,
  LOCAL_USER_QUOTA: 13,
  LOCAL_GROUP_QUOTA: 14,
} as const;
export const BAD_BLOCK_SYSTEM_INODE = 0;
export const GLOBAL_INODE_ALLOC_SYSTEM_INODE = 1;
export const SLOT_MAP_SYSTEM_INODE = 2;
export const HEARTBEAT_SYSTEM_INODE = 3;
export const GLOBAL_BITMAP_SYSTEM_INODE = 4;
export const USER_QUOTA_SYSTEM_INODE = 5;
export const GROUP_QUOTA_SYSTEM_INODE = 6;
export const ORPHAN_DIR_SYSTEM_INODE = 7;
export const EXTENT_ALLOC_SYSTEM_INODE = 8;
export const INODE_ALLOC_SYSTEM_INODE = 9;
export const JOURNAL_SYSTEM_INODE = 10;
export const LOCAL_ALLOC_SYSTEM_INODE = 11;
export const TRUNCATE_LOG_SYSTEM_INODE = 12;
export const LOCAL_USER_QUOTA_SYSTEM_INODE = 13;
export const LOCAL_GROUP_QUOTA_SYSTEM_INODE = 14;
export type SystemInode = (typeof SYSTEM_INODE)[keyof typeof SYSTEM_INODE];
export const OCFS2_FIRST_ONLINE_SYSTEM_INODE = SYSTEM_INODE.GLOBAL_INODE_ALLOC;
export const OCFS2_LAST_GLOBAL_SYSTEM_INODE = SYSTEM_INODE.GROUP_QUOTA;
export const OCFS2_FIRST_LOCAL_SYSTEM_INODE = SYSTEM_INODE.ORPHAN_DIR;
export const OCFS2_LAST_LOCAL_SYSTEM_INODE = SYSTEM_INODE.LOCAL_GROUP_QUOTA;
export const NUM_SYSTEM_INODES = 15;
export const NUM_GLOBAL_SYSTEM_INODES = OCFS2_FIRST_LOCAL_SYSTEM_INODE;
export const NUM_LOCAL_SYSTEM_INODES = NUM_SYSTEM_INODES - OCFS2_FIRST_LOCAL_SYSTEM_INODE;

const REG = S_IFREG | 0o644;
const ALLOC = I_FLAGS.BITMAP | I_FLAGS.CHAIN;

/**
 * System files in the order of SYSTEM_INODE. The flags are added to VALID and SYSTEM. global_bitmap's are the
 * kernel's 0 although mkfs gives the file BITMAP and CHAIN.
 */
export const SYSTEM_INODES: readonly SystemInodeInfo[] = [
  { name: "bad_blocks", iflags: 0, mode: REG },
  { name: "global_inode_alloc", iflags: ALLOC, mode: REG },
  { name: "slot_map", iflags: 0, mode: REG },
  { name: "heartbeat", iflags: I_FLAGS.HEARTBEAT, mode: REG },
  { name: "global_bitmap", iflags: 0, mode: REG },
  { name: "aquota.user", iflags: I_FLAGS.QUOTA, mode: REG },
  { name: "aquota.group", iflags: I_FLAGS.QUOTA, mode: REG },
  { name: "orphan_dir:%04d", iflags: 0, mode: S_IFDIR | 0o755 },
  { name: "extent_alloc:%04d", iflags: ALLOC, mode: REG },
  { name: "inode_alloc:%04d", iflags: ALLOC, mode: REG },
  { name: "journal:%04d", iflags: I_FLAGS.JOURNAL, mode: REG },
  { name: "local_alloc:%04d", iflags: I_FLAGS.BITMAP | I_FLAGS.LOCAL_ALLOC, mode: REG },
  { name: "truncate_log:%04d", iflags: I_FLAGS.DEALLOC, mode: REG },
  { name: "aquota.user:%04d", iflags: I_FLAGS.QUOTA, mode: REG },
  { name: "aquota.group:%04d", iflags: I_FLAGS.QUOTA, mode: REG },
];

export const systemInodeIsGlobal = (type: number): boolean => type >= 0 && type <= OCFS2_LAST_GLOBAL_SYSTEM_INODE;

const system_names = new Map<number, string>();

/** The system file's name for a slot; the slot is ignored for global files. Mirrors ocfs2_sprintf_system_inode_name. */
export function systemInodeName(type: SystemInode, slot = 0): string {
  const key = slot * SYSTEM_INODES.length + type;
  let name = system_names.get(key);
  if (name === undefined) {
    name = SYSTEM_INODES[type]!.name.replace("%04d", String(slot).padStart(4, "0"));
    system_names.set(key, name);
  }
  return name;
}
