/**
 * Extent records, lists and blocks: the nodes of every OCFS2 tree (file data, directories' index, xattr values and
 * buckets, refcount trees, discontiguous groups).
 */
import { cstr, reserved, struct, sub, tail, u8, u16, u32, u64, union, type ViewOf } from "../struct.ts";
import { BlockCheck } from "./blockcheck.ts";
import { EXT_FLAGS } from "./constants.ts";

export const ExtentRec = struct("ocfs2_extent_rec", 0x10, "le", {
  e_cpos: u32(0x00, "offset into the file, in clusters"),
  ...union(
    "e_node",
    {
      interior: { e_int_clusters: u32(0x04, "clusters covered by all children") },
      leaf: {
        e_leaf_clusters: u16(0x04, "clusters covered by this extent"),
        e_reserved1: reserved(0x06, 1),
        e_flags: u8(0x07, "extent flags", { flags: EXT_FLAGS }),
      },
    },
    // Only the list that holds the record knows its depth.
    (_rec, list) => (list?.l_tree_depth === undefined ? undefined : list.l_tree_depth > 0 ? "interior" : "leaf"),
  ),
  e_blkno: u64(0x08, "physical disk offset, in blocks: of the data, or of the child extent block"),
});
export type ExtentRec = ViewOf<typeof ExtentRec>;

export const ExtentList = struct("ocfs2_extent_list", 0x10, "le", {
  l_tree_depth: u16(0x00, "levels below this one; 0 means that the records are data extents"),
  l_count: u16(0x02, "records there is room for"),
  l_next_free_rec: u16(0x04, "records in use, which is the index of the next unused one"),
  l_reserved1: reserved(0x06, 2),
  l_reserved2: reserved(0x08, 8, "pads the header to the size of a record"),
  l_recs: tail(0x10, ExtentRec, "extent records", { used: "l_next_free_rec", cap: "l_count" }),
});
export type ExtentList = ViewOf<typeof ExtentList>;

export const ExtentBlock = struct("ocfs2_extent_block", 0x40, "le", {
  h_signature: cstr(0x00, 8, "EXBLK01"),
  h_check: sub(0x08, BlockCheck, "checksum of the block"),
  h_suballoc_slot: u16(0x10, "slot whose extent_alloc this block belongs to"),
  h_suballoc_bit: u16(0x12, "bit offset in the suballocator's group"),
  h_fs_generation: u32(0x14, "must match the super block's"),
  h_blkno: u64(0x18, "own block number"),
  h_suballoc_loc: u64(0x20, "suballocator group this block belongs to; only valid if that is discontiguous"),
  h_next_leaf_blk: u64(0x28, "block number of the next leaf, 0 at the last one"),
  h_list: sub(0x30, ExtentList, "extent records up to the end of the block"),
});
export type ExtentBlock = ViewOf<typeof ExtentBlock>;
