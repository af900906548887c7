/** The inode: one block. What is in its two unions depends on i_flags, i_dyn_features and i_mode. */
import {
  cstr,
  hex64,
  type Peek,
  reserved,
  s64,
  struct,
  sub,
  tail,
  u16,
  u32,
  u64,
  union,
  type ViewOf,
} from "../struct.ts";
import { ChainList, LocalAlloc, TruncateLog } from "./alloc.ts";
import { BlockCheck } from "./blockcheck.ts";
import { DYN_FEATURES, I_ATTR, I_FLAGS, JOURNAL_FLAGS, S_IFBLK, S_IFCHR, S_IFLNK, S_IFMT } from "./constants.ts";
import { ExtentList } from "./extent.ts";
import { SuperBlock } from "./super.ts";

export const InlineData = struct("ocfs2_inline_data", 0x08, "le", {
  id_count: u16(0x00, "bytes there is room for"),
  id_reserved0: reserved(0x02, 2),
  id_reserved1: reserved(0x04, 4),
  id_data: tail(0x08, "u8", "the file's data, or the directory's entries", { cap: "id_count" }),
});
export type InlineData = ViewOf<typeof InlineData>;

function pickId1(di: Peek): string | undefined {
  const fmt = di["i_mode"]! & S_IFMT;
  if (di["i_flags"]! & I_FLAGS.BITMAP) return "bitmap1";
  if (di["i_flags"]! & I_FLAGS.JOURNAL) return "journal1";
  return fmt === S_IFCHR || fmt === S_IFBLK ? "dev1" : "pad1";
}

function pickId2(di: Peek): string | undefined {
  const flags = di["i_flags"]!;
  if (flags & I_FLAGS.SUPER_BLOCK) return "i_super";
  if (flags & I_FLAGS.LOCAL_ALLOC) return "i_lab";
  if (flags & I_FLAGS.CHAIN) return "i_chain";
  if (flags & I_FLAGS.DEALLOC) return "i_dealloc";
  if (di["i_dyn_features"]! & DYN_FEATURES.INLINE_DATA) return "i_data";
  if ((di["i_mode"]! & S_IFMT) === S_IFLNK && di["i_clusters"] === 0) return "i_symlink";
  return "i_list";
}

export const Dinode = struct("ocfs2_dinode", 0x200, "le", {
  i_signature: cstr(0x00, 8, "INODE01, or OCFSV2 in the super block"),
  i_generation: u32(0x08, "changes each time the block becomes a new inode"),
  i_suballoc_slot: u16(0x0c, "slot whose inode_alloc this inode belongs to; 0xffff: the global one"),
  i_suballoc_bit: u16(0x0e, "bit offset in the suballocator's group"),
  i_links_count_hi: u16(0x10, "high 16 bits of the link count, with the indexed-dirs feature"),
  i_xattr_inline_size: u16(0x12, "bytes of inline attributes at the end of the block"),
  i_clusters: u32(0x14, "clusters allocated"),
  i_uid: u32(0x18, "owner"),
  i_gid: u32(0x1c, "owning group"),
  i_size: u64(0x20, "size in bytes"),
  i_mode: u16(0x28, "type and permissions"),
  i_links_count: u16(0x2a, "low 16 bits of the link count"),
  i_flags: u32(0x2c, "what this inode is", { flags: I_FLAGS }),
  i_atime: s64(0x30, "access time, seconds"),
  i_ctime: s64(0x38, "change time, seconds"),
  i_mtime: s64(0x40, "modification time, seconds"),
  i_dtime: u64(0x48, "deletion time, seconds"),
  i_blkno: u64(0x50, "own block number"),
  i_last_eb_blk: u64(0x58, "block number of the last leaf extent block"),
  i_fs_generation: u32(0x60, "must match the super block's"),
  i_atime_nsec: u32(0x64, "nanoseconds"),
  i_ctime_nsec: u32(0x68, "nanoseconds"),
  i_mtime_nsec: u32(0x6c, "nanoseconds"),
  i_attr: u32(0x70, "chattr's flags", { flags: I_ATTR }),
  i_orphaned_slot: u16(0x74, "slot whose orphan_dir holds it; only valid with ORPHANED in i_flags"),
  i_dyn_features: u16(0x76, "where data and attributes are", { flags: DYN_FEATURES }),
  i_xattr_loc: u64(0x78, "block number of the attribute block, 0 if none"),
  i_check: sub(0x80, BlockCheck, "checksum of the block"),
  i_dx_root: u64(0x88, "block number of the directory index root"),
  i_refcount_loc: u64(0x90, "block number of the refcount tree's root"),
  i_suballoc_loc: u64(0x98, "suballocator group this inode belongs to; only valid if that is discontiguous"),
  i_dio_orphaned_slot: u16(0xa0, "slot whose orphan_dir holds it during an appending direct write"),
  i_reserved1: reserved(0xa2, 6),
  i_reserved2: reserved(0xa8, 16),
  ...union(
    "id1",
    {
      pad1: { i_pad1: hex64(0xb8, "all of the union") },
      dev1: { i_rdev: u64(0xb8, "device number") },
      bitmap1: {
        i_used: u32(0xb8, "bits used"),
        i_total: u32(0xbc, "bits in all"),
      },
      journal1: {
        ij_flags: u32(0xb8, "journal state", { flags: JOURNAL_FLAGS }),
        ij_recovery_generation: u32(0xbc, "goes up each time the journal is recovered"),
      },
    },
    pickId1,
  ),
  ...union(
    "id2",
    {
      i_super: { i_super: sub(0xc0, SuperBlock, "super block") },
      i_lab: { i_lab: sub(0xc0, LocalAlloc, "local allocation window") },
      i_chain: { i_chain: sub(0xc0, ChainList, "allocator's chains") },
      i_list: { i_list: sub(0xc0, ExtentList, "extents") },
      i_dealloc: { i_dealloc: sub(0xc0, TruncateLog, "truncate log") },
      i_data: { i_data: sub(0xc0, InlineData, "data in the inode") },
      i_symlink: { i_symlink: tail(0xc0, "u8", "target of a fast symlink, NUL-terminated", { used: "i_size" }) },
    },
    pickId2,
  ),
});
export type Dinode = ViewOf<typeof Dinode>;

/** Where the type-dependent part starts. */
export const ID1_OFF = Dinode.fields.i_rdev.off;
export const ID2_OFF = Dinode.fields.i_list.off;
