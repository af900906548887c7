/**
 * Finds the super block of a volume on a device that may hold anything: the first thing that mkfs, mounted, info and image want to
 * know. Mirrors ocfs2_open's search over the block sizes in libocfs2's openfs.c.
 */
import {
  Dinode,
  hasSignature,
  OCFS2_MAX_BLOCKSIZE,
  OCFS2_MIN_BLOCKSIZE,
  OCFS2_SUPER_BLOCK_BLKNO,
  SIG_SUPER_BLOCK,
} from "../format/disk/index.ts";

/** Bytes from an offset on; fewer at the end of the device. */
export type ReadAt = (off_bytes: number, len_bytes: number) => Uint8Array;

/** The super block's inode in memory of its own, or undefined when there is none. Checks the signature and the block size, not the checksum. */
export function findSuper(readAt: ReadAt): ReturnType<typeof Dinode.at> | undefined {
  for (let size = OCFS2_MIN_BLOCKSIZE; size <= OCFS2_MAX_BLOCKSIZE; size *= 2) {
    const block = readAt(OCFS2_SUPER_BLOCK_BLKNO * size, size).slice();
    if (block.length < size) return undefined;
    const di = Dinode.from(block);
    if (hasSignature(di.dv, 0, SIG_SUPER_BLOCK) && 2 ** di.i_super.s_blocksize_bits === size) return di;
  }
  return undefined;
}
