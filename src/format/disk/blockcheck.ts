/** The checksum that metaecc keeps in every metadata block. Mirrors struct ocfs2_block_check. */
import { reserved, struct, u16, u32, type ViewOf } from "../struct.ts";

export const BlockCheck = struct("ocfs2_block_check", 0x08, "le", {
  bc_crc32e: u32(0x00, "CRC32 (802.3) of the block with this structure zeroed"),
  bc_ecc: u16(0x04, "Hamming parity of the block, mends one flipped bit"),
  bc_reserved1: reserved(0x06, 2),
});
export type BlockCheck = ViewOf<typeof BlockCheck>;
