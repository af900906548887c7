/**
 * The allocators' front: blocks for metadata, inodes, and clusters for data (suballoc.c). What goes wrong without care
 * here is the worst that a file system knows: one block owned twice. chain.ts has the bitmaps, the other files what
 * stands before them.
 */
export { type ClaimedClusters, claimClusters, type VolumeStat, volumeStat } from "./clusters.ts";
export { allocRecoverSlot, allocStart, allocStop, slotHasRemains } from "./lifecycle.ts";
export { giveBackReservation } from "./localalloc.ts";
export {
  claimInode,
  claimMetadata,
  freeInodeBit,
  freeMetadataBlock,
  freeSuballocBits,
  type SuballocOrigin,
  type SuballocResult,
} from "./metadata.ts";
export { type TrimRange, trimTask } from "./trim.ts";
export { freeClusters, truncateLogFlush } from "./truncate_log.ts";
