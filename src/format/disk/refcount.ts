/** Refcount trees: how many files share each cluster of reflinked data. */
import { cstr, reserved, struct, sub, tail, u16, u32, u64, union, type ViewOf } from "../struct.ts";
import { BlockCheck } from "./blockcheck.ts";
import { REFCOUNT_FLAGS } from "./constants.ts";
import { ExtentList } from "./extent.ts";

export const RefcountRec = struct("ocfs2_refcount_rec", 0x10, "le", {
  r_cpos: u64(0x00, "physical offset, in clusters"),
  r_clusters: u32(0x08, "clusters covered"),
  r_refcount: u32(0x0c, "files that refer to them"),
});
export type RefcountRec = ViewOf<typeof RefcountRec>;

export const RefcountList = struct("ocfs2_refcount_list", 0x10, "le", {
  rl_count: u16(0x00, "records there is room for"),
  rl_used: u16(0x02, "records in use"),
  rl_reserved2: reserved(0x04, 4),
  rl_reserved1: reserved(0x08, 8, "pads the header to the size of a record"),
  rl_recs: tail(0x10, RefcountRec, "refcount records", { used: "rl_used", cap: "rl_count" }),
});
export type RefcountList = ViewOf<typeof RefcountList>;

export const RefcountBlock = struct("ocfs2_refcount_block", 0x90, "le", {
  rf_signature: cstr(0x00, 8, "REFCNT1"),
  rf_suballoc_slot: u16(0x08, "slot whose extent_alloc this block belongs to"),
  rf_suballoc_bit: u16(0x0a, "bit offset in the suballocator's group"),
  rf_fs_generation: u32(0x0c, "must match the super block's"),
  rf_blkno: u64(0x10, "own block number"),
  rf_parent: u64(0x18, "block number of the root; only valid with LEAF in rf_flags"),
  rf_check: sub(0x20, BlockCheck, "checksum of the block"),
  rf_last_eb_blk: u64(0x28, "block number of the last leaf extent block"),
  rf_count: u32(0x30, "inodes that share this tree"),
  rf_flags: u32(0x34, "root with records, root with extents, or leaf", { flags: REFCOUNT_FLAGS }),
  rf_clusters: u32(0x38, "clusters of the tree itself"),
  rf_cpos: u32(0x3c, "offset of this leaf in the tree, in clusters"),
  rf_generation: u32(0x40, "the same in all blocks of a tree"),
  rf_reserved0: reserved(0x44, 4),
  rf_suballoc_loc: u64(0x48, "suballocator group this block belongs to; only valid if that is discontiguous"),
  rf_reserved1: reserved(0x50, 48),
  ...union(
    "rf_body",
    {
      records: { rf_records: sub(0x80, RefcountList, "refcount records") },
      extents: { rf_list: sub(0x80, ExtentList, "extents of the leaves") },
    },
    (rf) => (rf["rf_flags"]! & REFCOUNT_FLAGS.TREE ? "extents" : "records"),
  ),
});
export type RefcountBlock = ViewOf<typeof RefcountBlock>;
