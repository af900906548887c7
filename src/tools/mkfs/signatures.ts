/**
 * What a device carries already: file systems, swap, containers and partition tables by their magic numbers, so that one typing error
 * does not cost a disk. OCFS2 itself is not in here; see existing.ts.
 */
import type { ReadAt } from "../read_super.ts";

interface Magic {
  readonly what: string;
  readonly at: number;
  readonly bytes: string | readonly number[];
}

const KB = 1024;

/** In the order in which they are told: what lies inside something else comes after it. */
const MAGICS: readonly Magic[] = [
  { what: "a LUKS container", at: 0, bytes: "LUKS\xba\xbe" },
  { what: "an XFS file system", at: 0, bytes: "XFSB" },
  { what: "a squashfs file system", at: 0, bytes: "hsqs" },
  { what: "a BitLocker volume", at: 3, bytes: "-FVE-FS-" },
  { what: "an NTFS file system", at: 3, bytes: "NTFS    " },
  { what: "an exFAT file system", at: 3, bytes: "EXFAT   " },
  { what: "a FAT file system", at: 54, bytes: "FAT1" },
  { what: "a FAT file system", at: 82, bytes: "FAT32" },
  { what: "an F2FS file system", at: KB, bytes: [0x10, 0x20, 0xf5, 0xf2] },
  { what: "an EROFS file system", at: KB, bytes: [0xe2, 0xe1, 0xf5, 0xe0] },
  { what: "an HFS+ file system", at: KB, bytes: "H+" },
  { what: "an APFS container", at: 32, bytes: "NXSB" },
  { what: "an ext2, ext3 or ext4 file system", at: KB + 0x38, bytes: [0x53, 0xef] },
  { what: "a NILFS2 file system", at: KB + 6, bytes: [0x34, 0x34] },
  { what: "a Linux RAID member", at: 0, bytes: [0xfc, 0x4e, 0x2b, 0xa9] },
  { what: "a Linux RAID member", at: 4 * KB, bytes: [0xfc, 0x4e, 0x2b, 0xa9] },
  { what: "a bcache device", at: 4 * KB + 24, bytes: [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca] },
  { what: "a bcachefs file system", at: 4 * KB + 24, bytes: [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9] },
  { what: "a JFS file system", at: 32 * KB, bytes: "JFS1" },
  { what: "an ISO 9660 file system", at: 32 * KB + 1, bytes: "CD001" },
  { what: "a ReiserFS file system", at: 64 * KB + 0x34, bytes: "ReIsEr" },
  { what: "a GFS2 file system", at: 64 * KB, bytes: [0x01, 0x16, 0x19, 0x70] },
  { what: "a btrfs file system", at: 64 * KB + 0x40, bytes: "_BHRfS_M" },
  { what: "a partition table (GPT)", at: 512, bytes: "EFI PART" },
  { what: "a partition table (GPT)", at: 4 * KB, bytes: "EFI PART" },
];

const HEAD_BYTES = 68 * KB;

function matches(head: Uint8Array, at: number, magic: string | readonly number[]): boolean {
  const bytes = typeof magic === "string" ? Buffer.from(magic, "latin1") : magic;
  return bytes.length > 0 && Array.from(bytes).every((b, i) => head[at + i] === b);
}

/** The signature is at the end of the first page, and pages differ. */
const isSwap = (head: Uint8Array): boolean =>
  [4, 8, 16, 32, 64].some((k) => matches(head, k * KB - 10, "SWAPSPACE2") || matches(head, k * KB - 10, "SWAP-SPACE"));

/** A physical volume's label is in one of the first four sectors. */
const isLvm = (head: Uint8Array): boolean =>
  [0, 1, 2, 3].some((s) => matches(head, s * 512, "LABELONE") && matches(head, s * 512 + 24, "LVM2 001"));

/** A boot sector whose four entries look like partitions, and at least one is. */
function isMbr(head: Uint8Array): boolean {
  if (!matches(head, 510, [0x55, 0xaa])) return false;
  const entries = [0, 1, 2, 3].map((i) => head.subarray(446 + 16 * i, 462 + 16 * i));
  return entries.every((e) => e[0] === 0 || e[0] === 0x80) && entries.some((e) => e[4] !== 0);
}

/** Says what the device carries, or undefined if nothing is known there. */
export function whatIsOn(readAt: ReadAt): string | undefined {
  const head = readAt(0, HEAD_BYTES);
  if (isLvm(head)) return "an LVM physical volume";
  if (isSwap(head)) return "swap space";
  return (
    MAGICS.find((m) => matches(head, m.at, m.bytes))?.what ?? (isMbr(head) ? "a partition table (MBR)" : undefined)
  );
}
