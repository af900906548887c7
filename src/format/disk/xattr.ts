/** Extended attributes: in the inode, in one block, or in a tree of buckets; large values have trees of their own. */
import { cstr, reserved, struct, sub, tail, u8, u16, u32, u64, union, type ViewOf } from "../struct.ts";
import { BlockCheck } from "./blockcheck.ts";
import { XATTR_BLOCK_FLAGS } from "./constants.ts";
import { ExtentList } from "./extent.ts";

export const XattrEntry = struct("ocfs2_xattr_entry", 0x10, "le", {
  xe_name_hash: u32(0x00, "hash of prefix and name"),
  xe_name_offset: u16(0x04, "byte offset of name and value, from the header"),
  xe_name_len: u8(0x06, "bytes of the name, without the prefix"),
  xe_type: u8(0x07, "prefix number; 0x80: the value is here and not in a tree"),
  xe_value_size: u64(0x08, "bytes of the value"),
});
export type XattrEntry = ViewOf<typeof XattrEntry>;

export const XattrHeader = struct("ocfs2_xattr_header", 0x10, "le", {
  xh_count: u16(0x00, "entries in use"),
  xh_free_start: u16(0x02, "offset where the names and values start; they grow down"),
  xh_name_value_len: u16(0x04, "bytes of names and values in this bucket"),
  xh_num_buckets: u16(0x06, "buckets in this extent record; only valid in its first bucket"),
  xh_check: sub(0x08, BlockCheck, "checksum of a bucket; zero elsewhere"),
  xh_entries: tail(0x10, XattrEntry, "entries, in the order of their hash", { used: "xh_count" }),
});
export type XattrHeader = ViewOf<typeof XattrHeader>;

export const XattrValueRoot = struct("ocfs2_xattr_value_root", 0x20, "le", {
  xr_clusters: u32(0x00, "clusters of the value"),
  xr_reserved0: reserved(0x04, 4),
  xr_last_eb_blk: u64(0x08, "block number of the last leaf extent block"),
  xr_list: sub(0x10, ExtentList, "extents of the value"),
});
export type XattrValueRoot = ViewOf<typeof XattrValueRoot>;

export const XattrTreeRoot = struct("ocfs2_xattr_tree_root", 0x20, "le", {
  xt_clusters: u32(0x00, "clusters of the buckets"),
  xt_reserved0: reserved(0x04, 4),
  xt_last_eb_blk: u64(0x08, "block number of the last leaf extent block"),
  xt_list: sub(0x10, ExtentList, "extents of the buckets, by hash"),
});
export type XattrTreeRoot = ViewOf<typeof XattrTreeRoot>;

export const XattrBlock = struct("ocfs2_xattr_block", 0x50, "le", {
  xb_signature: cstr(0x00, 8, "XATTR01"),
  xb_suballoc_slot: u16(0x08, "slot whose extent_alloc this block belongs to"),
  xb_suballoc_bit: u16(0x0a, "bit offset in the suballocator's group"),
  xb_fs_generation: u32(0x0c, "must match the super block's"),
  xb_blkno: u64(0x10, "own block number"),
  xb_check: sub(0x18, BlockCheck, "checksum of the block"),
  xb_flags: u16(0x20, "holds entries, or the root of a tree of buckets", { flags: XATTR_BLOCK_FLAGS }),
  xb_reserved0: reserved(0x22, 2),
  xb_reserved1: reserved(0x24, 4),
  xb_suballoc_loc: u64(0x28, "suballocator group this block belongs to; only valid if that is discontiguous"),
  ...union(
    "xb_attrs",
    {
      header: { xb_header: sub(0x30, XattrHeader, "entries in this block") },
      root: { xb_root: sub(0x30, XattrTreeRoot, "tree of buckets") },
    },
    (xb) => (xb["xb_flags"]! & XATTR_BLOCK_FLAGS.INDEXED ? "root" : "header"),
  ),
});
export type XattrBlock = ViewOf<typeof XattrBlock>;
