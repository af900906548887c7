/** The generic quota radix tree inside a global quota file. Mirrors fs/quota/quotaio_v2.h and quota_tree.h. */
import { reserved, struct, u16, u32, type ViewOf } from "../struct.ts";

/** Heads each block that holds entries; the entries follow. */
export const QtDiskDqdbheader = struct("qt_disk_dqdbheader", 0x10, "le", {
  dqdh_next_free: u32(0x00, "next block with a free entry"),
  dqdh_prev_free: u32(0x04, "previous block with a free entry"),
  dqdh_entries: u16(0x08, "entries in use"),
  dqdh_pad1: reserved(0x0a, 2),
  dqdh_pad2: reserved(0x0c, 4),
});
export type QtDiskDqdbheader = ViewOf<typeof QtDiskDqdbheader>;
