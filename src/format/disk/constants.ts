/**
 * Every constant of the OCFS2 disk format. Names are ocfs2_fs.h's without the OCFS2_ prefix where they stand alone,
 * and the kernel's spelling where they are part of a table.
 *
 * Mirrors fs/ocfs2/ocfs2_fs.h; the dirent types mirror include/linux/fs_types.h, the xattr prefix numbers xattr.h.
 */

export const MAJOR_REV_LEVEL = 0;
export const MINOR_REV_LEVEL = 90;

/** The super block's inode, in blocks. Sectors 0 and 1 hold OCFS1 headers that make an OCFS1 driver refuse. */
export const SUPER_BLOCK_BLKNO = 2;

export const MIN_CLUSTERSIZE = 4096;
export const MAX_CLUSTERSIZE = 1048576;
export const MIN_BLOCKSIZE = 512;
export const MAX_BLOCKSIZE = 4096;
export const MIN_CLUSTERSIZE_BITS = 12;
export const MAX_CLUSTERSIZE_BITS = 20;
export const MIN_BLOCKSIZE_BITS = 9;
export const MAX_BLOCKSIZE_BITS = 12;

export const SUPER_BLOCK_SIGNATURE = "OCFSV2";
export const INODE_SIGNATURE = "INODE01";
export const EXTENT_BLOCK_SIGNATURE = "EXBLK01";
export const GROUP_DESC_SIGNATURE = "GROUP01";
export const XATTR_BLOCK_SIGNATURE = "XATTR01";
export const DIR_TRAILER_SIGNATURE = "DIRTRL1";
export const DX_ROOT_SIGNATURE = "DXDIR01";
export const DX_LEAF_SIGNATURE = "DXLEAF1";
export const REFCOUNT_BLOCK_SIGNATURE = "REFCNT1";

// ---- feature bits; tool names, classes and the supported masks are in ../features.ts ----

export const FEATURE_COMPAT = { BACKUP_SB: 0x0001, JBD2_SB: 0x0002 } as const;
export const FEATURE_INCOMPAT = {
  HEARTBEAT_DEV: 0x0002,
  RESIZE_INPROG: 0x0004,
  LOCAL_MOUNT: 0x0008,
  SPARSE_ALLOC: 0x0010,
  TUNEFS_INPROG: 0x0020,
  INLINE_DATA: 0x0040,
  USERSPACE_STACK: 0x0080,
  EXTENDED_SLOT_MAP: 0x0100,
  XATTR: 0x0200,
  INDEXED_DIRS: 0x0400,
  META_ECC: 0x0800,
  REFCOUNT_TREE: 0x1000,
  DISCONTIG_BG: 0x2000,
  CLUSTERINFO: 0x4000,
  APPEND_DIO: 0x8000,
} as const;
export const FEATURE_RO_COMPAT = { UNWRITTEN: 0x0001, USRQUOTA: 0x0002, GRPQUOTA: 0x0004 } as const;

/** Byte offset of the first backup super block; each of the following is four times as far. */
export const BACKUP_SB_START = 2 ** 30;
export const MAX_BACKUP_SUPERBLOCKS = 6;

/** ocfs2_super_block.s_tunefs_flag */
export const TUNEFS_FLAGS = { REMOVE_SLOT: 0x0001 } as const;
/** ocfs2_super_block.s_state */
export const S_STATE = { ERROR_FS: 0x0001 } as const;
/** ocfs2_super_block.s_errors: what to do when corruption is found. */
export const S_ERRORS = { CONT: 1, RO: 2, PANIC: 3 } as const;
/** ocfs2_super_block.s_creator_os */
export const CREATOR_OS = { LINUX: 0, HURD: 1, MASIX: 2, FREEBSD: 3, LITES: 4 } as const;

/** ocfs2_dinode.i_flags */
export const I_FLAGS = {
  VALID: 0x00000001,
  UNUSED2: 0x00000002,
  ORPHANED: 0x00000004,
  UNUSED3: 0x00000008,
  SYSTEM: 0x00000010,
  SUPER_BLOCK: 0x00000020,
  LOCAL_ALLOC: 0x00000040,
  BITMAP: 0x00000080,
  JOURNAL: 0x00000100,
  HEARTBEAT: 0x00000200,
  CHAIN: 0x00000400,
  DEALLOC: 0x00000800,
  QUOTA: 0x00001000,
  DIO_ORPHANED: 0x00002000,
} as const;

/** ocfs2_dinode.i_dyn_features, 16 bits */
export const DYN_FEATURES = {
  INLINE_DATA: 0x0001,
  HAS_XATTR: 0x0002,
  INLINE_XATTR: 0x0004,
  INDEXED_DIR: 0x0008,
  HAS_REFCOUNT: 0x0010,
} as const;

/** ocfs2_dinode.i_attr: what chattr sets; the values are the FS_*_FL of uapi/linux/fs.h. */
export const I_ATTR = {
  SECRM: 0x00000001,
  UNRM: 0x00000002,
  COMPR: 0x00000004,
  SYNC: 0x00000008,
  IMMUTABLE: 0x00000010,
  APPEND: 0x00000020,
  NODUMP: 0x00000040,
  NOATIME: 0x00000080,
  DIRTY: 0x00000100,
  COMPRBLK: 0x00000200,
  NOCOMP: 0x00000400,
  ECOMPR: 0x00000800,
  INDEX: 0x00001000,
  IMAGIC: 0x00002000,
  JOURNAL_DATA: 0x00004000,
  NOTAIL: 0x00008000,
  DIRSYNC: 0x00010000,
  TOPDIR: 0x00020000,
  RESERVED: 0x80000000,
} as const;
export const FL_VISIBLE = 0x0003dfff;
export const FL_MODIFIABLE = 0x000380ff;

/** ocfs2_extent_rec.e_flags, leaf records only */
export const EXT_FLAGS = { UNWRITTEN: 0x01, REFCOUNTED: 0x02 } as const;
/** ocfs2_dinode.ij_flags */
export const JOURNAL_FLAGS = { DIRTY: 0x00000001 } as const;
/** ocfs2_dx_root_block.dr_flags */
export const DX_FLAGS = { INLINE: 0x01 } as const;
/** ocfs2_refcount_block.rf_flags */
export const REFCOUNT_FLAGS = { LEAF: 0x00000001, TREE: 0x00000002 } as const;
/** ocfs2_xattr_block.xb_flags */
export const XATTR_BLOCK_FLAGS = { INDEXED: 0x1 } as const;
/** ocfs2_cluster_info.ci_stackflags */
export const CLUSTER_STACKFLAGS = { O2CB_GLOBAL_HEARTBEAT: 0x01 } as const;
/** ocfs2_local_disk_dqinfo.dqi_flags */
export const OLQF_FLAGS = { CLEAN: 0x0001 } as const;

export const MAX_FILENAME_LEN = 255;
export const MAX_SLOTS = 255;
export const INVALID_SLOT = 0xffff;
export const VOL_UUID_LEN = 16;
export const MAX_VOL_LABEL_LEN = 64;
export const STACK_LABEL_LEN = 4;
export const CLUSTER_NAME_LEN = 16;
export const CLASSIC_CLUSTER_STACK = "o2cb";
/** Bytes. */
export const MIN_JOURNAL_SIZE = 4 * 1024 * 1024;
export const MIN_XATTR_INLINE_SIZE = 256;
/** Largest bitmap, in bytes, of a suballocator's group; a cluster group's runs to the end of its block. */
export const MAX_BG_BITMAP_SIZE = 256;

export const LINK_MAX = 32000;
export const DX_LINK_MAX = 0x7fffffff;
export const LINKS_HI_SHIFT = 16;
export const DX_ENTRIES_MAX = 0xffffffff;

export const MASK_32BIT_POS = 0xffffffff;

// ---- directories ----

export const DIR_PAD = 4;
export const DIR_ROUND = DIR_PAD - 1;
/** Bytes of a directory entry in front of the name. */
export const DIR_MEMBER_LEN = 12;
/** Bytes a directory entry with a name of `nameLen` bytes needs. */
export const dirRecLen = (nameLen: number): number => (nameLen + DIR_MEMBER_LEN + DIR_ROUND) & ~DIR_ROUND;
export const DIR_MIN_REC_LEN = dirRecLen(1);

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
export const FT_MAX = 8;

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

export const HASH_SHIFT = 5;
export const XATTR_ROUND = 3;
/** Bytes a name or value takes in the heap of a bucket. */
export const xattrSize = (len: number): number => (len + XATTR_ROUND) & ~XATTR_ROUND;
export const XATTR_BUCKET_SIZE = 4096;
export const XATTR_MAX_BLOCKS_PER_BUCKET = XATTR_BUCKET_SIZE / MIN_BLOCKSIZE;
/** Bit of xe_type: the value is in the bucket; else an xattr value root is there. */
export const XATTR_ENTRY_LOCAL = 0x80;
export const XATTR_TYPE_MASK = 0x7f;
/** Values up to this many bytes stay in the bucket. */
export const XATTR_INLINE_SIZE = 80;
/** Name prefix numbers in xe_type. */
export const XATTR_INDEX = {
  USER: 1,
  POSIX_ACL_ACCESS: 2,
  POSIX_ACL_DEFAULT: 3,
  TRUSTED: 4,
  SECURITY: 5,
} as const;
export const XATTR_INDEX_MAX = 6;
export const XATTR_PREFIX: Readonly<Record<number, string>> = {
  1: "user.",
  2: "system.posix_acl_access",
  3: "system.posix_acl_default",
  4: "trusted.",
  5: "security.",
};

// ---- quota ----

export const QBLK_RESERVED_SPACE = 8;
export const GLOBAL_QMAGICS = [0x0cf52470, 0x0cf52471] as const;
export const GLOBAL_QVERSIONS = [0, 0] as const;
export const LOCAL_QMAGICS = [0x0cf524c0, 0x0cf524c1] as const;
export const LOCAL_QVERSIONS = [0, 0] as const;
export const USRQUOTA = 0;
export const GRPQUOTA = 1;
/** Offset of the info header behind the generic one, in both kinds of quota file. */
export const GLOBAL_INFO_OFF = 8;
export const LOCAL_INFO_OFF = 8;

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
export type SystemInode = (typeof SYSTEM_INODE)[keyof typeof SYSTEM_INODE];
export const FIRST_ONLINE_SYSTEM_INODE = SYSTEM_INODE.GLOBAL_INODE_ALLOC;
export const LAST_GLOBAL_SYSTEM_INODE = SYSTEM_INODE.GROUP_QUOTA;
export const FIRST_LOCAL_SYSTEM_INODE = SYSTEM_INODE.ORPHAN_DIR;
export const LAST_LOCAL_SYSTEM_INODE = SYSTEM_INODE.LOCAL_GROUP_QUOTA;
export const NUM_SYSTEM_INODES = 15;
export const NUM_GLOBAL_SYSTEM_INODES = FIRST_LOCAL_SYSTEM_INODE;
export const NUM_LOCAL_SYSTEM_INODES = NUM_SYSTEM_INODES - FIRST_LOCAL_SYSTEM_INODE;

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

export const systemInodeIsGlobal = (type: number): boolean => type >= 0 && type <= LAST_GLOBAL_SYSTEM_INODE;

/** The system file's name for a slot; the slot is ignored for global files. Mirrors ocfs2_sprintf_system_inode_name. */
export function systemInodeName(type: SystemInode, slot = 0): string {
  return SYSTEM_INODES[type]!.name.replace("%04d", String(slot).padStart(4, "0"));
}
