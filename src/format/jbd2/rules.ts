/** Sizes that depend on the journal's features. Mirrors journal_tag_bytes and its neighbours in fs/jbd2. */
import {
  JBD2_FEATURE_INCOMPAT_64BIT,
  JBD2_FEATURE_INCOMPAT_CSUM_V2,
  JBD2_FEATURE_INCOMPAT_CSUM_V3,
} from "./constants.ts";
import { JournalBlockTag, JournalBlockTag3, JournalBlockTail, JournalHeader } from "./structs.ts";

/** Bytes of one tag in a descriptor block, without the uuid that follows a tag that lacks SAME_UUID. */
export function tagBytes(featureIncompat: number): number {
  if (featureIncompat & JBD2_FEATURE_INCOMPAT_CSUM_V3) return JournalBlockTag3.size;
  // csum v2 made the tag two bytes longer than the structure, although the checksum sits inside it.
  const size = JournalBlockTag.size + (featureIncompat & JBD2_FEATURE_INCOMPAT_CSUM_V2 ? 2 : 0);
  return featureIncompat & JBD2_FEATURE_INCOMPAT_64BIT ? size : size - 4;
}

/** Bytes of the uuid after a tag without SAME_UUID. */
export const TAG_UUID_BYTES = 16;

export const hasCsumV2or3 = (featureIncompat: number): boolean =>
  (featureIncompat & (JBD2_FEATURE_INCOMPAT_CSUM_V2 | JBD2_FEATURE_INCOMPAT_CSUM_V3)) !== 0;

/** Bytes that the checksum takes at the end of a descriptor or revoke block. */
export const blockTailBytes = (featureIncompat: number): number =>
  hasCsumV2or3(featureIncompat) ? JournalBlockTail.size : 0;

/** Bytes of one entry in a revoke block. */
export const revokeRecordBytes = (featureIncompat: number): number =>
  featureIncompat & JBD2_FEATURE_INCOMPAT_64BIT ? 8 : 4;

/** Tags that fit one descriptor block, the first with its uuid. */
export function tagsPerDescriptor(blocksize: number, featureIncompat: number): number {
  const room = blocksize - JournalHeader.size - TAG_UUID_BYTES - blockTailBytes(featureIncompat);
  return Math.floor(room / tagBytes(featureIncompat));
}
