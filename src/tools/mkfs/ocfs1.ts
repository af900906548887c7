/**
 * The two sectors in front of an OCFS2 volume are dressed up as an OCFS1 header that no driver accepts, so that old software which
 * looks there says what the volume is instead of making an OCFS1 volume of it. Mirrors ocfs1_fs_compat.h.
 */
import { bytes, struct } from "../../format/struct.ts";

const TEXT = Buffer.from("this is an ocfs2 volume\0");
/** Everything that is not text. */
const FILLER = 2;
const SECTOR = 512;

const Ocfs1VolDiskHdr = struct("ocfs1_vol_disk_hdr", 0x108, "le", {
  version: bytes(0x00, 8, "minor and major version"),
  signature: bytes(0x08, 128, "where OCFS1 says OracleCFS"),
  mount_point: bytes(0x88, 128, "where the volume was mounted last"),
});

const Ocfs1VolLabel = struct("ocfs1_vol_label", 0xc4, "le", {
  disk_lock: bytes(0x00, 0x30, "lock"),
  label: bytes(0x30, 64, "volume label"),
  ids: bytes(0x70, 0x14, "volume id"),
  cluster_name: bytes(0x84, 64, "cluster name"),
});

/** Fills the blocks in front of the super block, at least two sectors. */
export function fillLeadingSpace(dv: DataView, off: number, len_bytes: number): void {
  new Uint8Array(dv.buffer, dv.byteOffset + off, len_bytes).fill(FILLER);
  const hdr = Ocfs1VolDiskHdr.at(dv, off);
  const label = Ocfs1VolLabel.at(dv, off + SECTOR);
  for (const field of [hdr.signature, hdr.mount_point, label.label, label.cluster_name]) field.set(TEXT);
}
