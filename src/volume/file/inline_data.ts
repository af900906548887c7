/** Moving a file's data out of its dinode (ocfs2_convert_inline_data_to_extents in alloc.c). */
import type { Bh } from "../../block/buffer_cache.ts";
import { PAGE_BYTES } from "../../block/data_cache.ts";
import { DYN_FEATURES, extentRecsPerInodeWithXattr } from "../../format/disk/index.ts";
import { claimClusters } from "../alloc/suballoc.ts";
import { voidExtentMap } from "../extents/extent_map.ts";
import { dinodeExtentTree, insertExtent } from "../extents/extent_tree.ts";
import { dinodeOf, type Inode } from "../inode.ts";
import type { Op } from "../op.ts";
import { clusterOffset, inlineRoom, pnoOf } from "./file_io.ts";

/**
 * Turns an inline file into one with extents, its data in the first cluster. `bh` is joined to the operation already.
 * The pages become dirty when the operation succeeds.
 */
export function convertInlineToExtents(op: Op, inode: Inode, bh: Bh): void {
  const { osb } = op;
  const { u8 } = osb.cache;
  const di = dinodeOf(op, bh);
  const size = di.i_size;
  const { addr, bytes } = inlineRoom(osb, di);
  const contents = u8.slice(addr, addr + size);
  u8.fill(0, di.i_data.off, addr + bytes);
  di.i_dyn_features &= ~DYN_FEATURES.INLINE_DATA;
  const el = di.i_list;
  el.l_tree_depth = 0;
  el.l_next_free_rec = 0;
  el.l_count = extentRecsPerInodeWithXattr(osb.geo.blocksize, di);
  voidExtentMap(op, inode);
  if (size === 0) return;
  const { p_cluster } = claimClusters(op, 1, 1, 0, inode);
  insertExtent(op, dinodeExtentTree(op, inode, bh), 0, osb.clustersToBlocks(p_cluster), 1, 0);
  // Inline data is less than a block: one page holds it. Its contents are there at once, for the write that made this necessary
  // reads it in this run: read from the disk it would make the run wait, be undone, claim another cluster, and so on for ever.
  const page = osb.data.stage(inode, pnoOf(clusterOffset(osb, p_cluster)));
  op.onUndo(() => osb.data.unstage(page));
  u8.set(contents, page.addr);
  u8.fill(0, page.addr + contents.length, page.addr + PAGE_BYTES);
  op.orderData(inode);
  op.onSuccess(() => osb.data.filled(page));
}
