/** What the allocators keep on disk: chains and their groups, the local allocation window, the truncate log. */
import { bytes, cstr, reserved, struct, sub, tail, u16, u32, u64, union, type ViewOf } from "../struct.ts";
import { BlockCheck } from "./blockcheck.ts";
import { OCFS2_MAX_BG_BITMAP_SIZE } from "./constants.ts";
import { ExtentList } from "./extent.ts";

export const ChainRec = struct("ocfs2_chain_rec", 0x10, "le", {
  c_free: u32(0x00, "free bits in this chain"),
  c_total: u32(0x04, "all bits in this chain"),
  c_blkno: u64(0x08, "block number of the first group"),
});
export type ChainRec = ViewOf<typeof ChainRec>;

export const ChainList = struct("ocfs2_chain_list", 0x10, "le", {
  cl_cpg: u16(0x00, "clusters per group"),
  cl_bpc: u16(0x02, "bits per cluster"),
  cl_count: u16(0x04, "chains there is room for"),
  cl_next_free_rec: u16(0x06, "chains in use"),
  cl_reserved1: reserved(0x08, 8),
  cl_recs: tail(0x10, ChainRec, "chain records", { used: "cl_next_free_rec", cap: "cl_count" }),
});
export type ChainList = ViewOf<typeof ChainList>;

export const TruncateRec = struct("ocfs2_truncate_rec", 0x08, "le", {
  t_start: u32(0x00, "first cluster to free"),
  t_clusters: u32(0x04, "number of clusters"),
});
export type TruncateRec = ViewOf<typeof TruncateRec>;

export const TruncateLog = struct("ocfs2_truncate_log", 0x08, "le", {
  tl_count: u16(0x00, "records there is room for"),
  tl_used: u16(0x02, "records in use"),
  tl_reserved1: reserved(0x04, 4),
  tl_recs: tail(0x08, TruncateRec, "clusters that wait for being freed", { used: "tl_used", cap: "tl_count" }),
});
export type TruncateLog = ViewOf<typeof TruncateLog>;

export const LocalAlloc = struct("ocfs2_local_alloc", 0x10, "le", {
  la_bm_off: u32(0x00, "first bit of the window in the global bitmap"),
  la_size: u16(0x04, "size of the bitmap, in bytes"),
  la_reserved1: reserved(0x06, 2),
  la_reserved2: reserved(0x08, 8),
  la_bitmap: tail(0x10, "u8", "the window's bits; set means used or not ours", { cap: "la_size" }),
});
export type LocalAlloc = ViewOf<typeof LocalAlloc>;

/** C's offsetof(bg_bitmap) + bg_size, which tells whether there is room for bg_list behind the bitmap. */
const isDiscontig = (g: { readonly [f: string]: number }): boolean => g["bg_size"] === OCFS2_MAX_BG_BITMAP_SIZE;

/** An allocation group: the bitmap of a stretch of clusters or of a suballocator's blocks. */
export const GroupDesc = struct("ocfs2_group_desc", 0x150, "le", {
  bg_signature: cstr(0x00, 8, "GROUP01"),
  bg_size: u16(0x08, "size of the bitmap, in bytes"),
  bg_bits: u16(0x0a, "bits of this group"),
  bg_free_bits_count: u16(0x0c, "free bits"),
  bg_chain: u16(0x0e, "index of the chain this group is in"),
  bg_generation: u32(0x10, "must match the super block's"),
  bg_contig_free_bits: u16(0x14, "longest run of free bits, newer than Linux 6.1; 0 where nobody kept it"),
  bg_reserved1: reserved(0x16, 2),
  bg_next_group: u64(0x18, "block number of the chain's next group, 0 at the end"),
  bg_parent_dinode: u64(0x20, "block number of the inode that owns this group"),
  bg_blkno: u64(0x28, "own block number"),
  bg_check: sub(0x30, BlockCheck, "checksum of the block"),
  bg_reserved2: reserved(0x38, 8),
  ...union(
    "bg_body",
    {
      bitmap: { bg_bitmap: tail(0x40, "u8", "bits; set means used", { cap: "bg_size" }) },
      discontig: {
        bg_bitmap_filler: bytes(0x40, OCFS2_MAX_BG_BITMAP_SIZE, "the bitmap of a discontiguous group"),
        bg_list: sub(0x140, ExtentList, "extents of a discontiguous group; flat"),
      },
    },
    (g) => (isDiscontig(g) ? "discontig" : "bitmap"),
  ),
});
export type GroupDesc = ViewOf<typeof GroupDesc>;
