/** Signature checks: what kind of block this claims to be, without making a string. */
import * as C from "./constants.ts";

export interface Signature {
  readonly text: string;
  /** The eight bytes, NUL-filled, as two little-endian words. */
  readonly lo: number;
  readonly hi: number;
}

function signature(text: string): Signature {
  const dv = new DataView(new ArrayBuffer(8));
  for (let i = 0; i < text.length; i++) dv.setUint8(i, text.charCodeAt(i));
  return { text, lo: dv.getUint32(0, true), hi: dv.getUint32(4, true) };
}

export const SIG_SUPER_BLOCK = signature(C.OCFS2_SUPER_BLOCK_SIGNATURE);
export const SIG_INODE = signature(C.OCFS2_INODE_SIGNATURE);
export const SIG_EXTENT_BLOCK = signature(C.OCFS2_EXTENT_BLOCK_SIGNATURE);
export const SIG_GROUP_DESC = signature(C.OCFS2_GROUP_DESC_SIGNATURE);
export const SIG_XATTR_BLOCK = signature(C.OCFS2_XATTR_BLOCK_SIGNATURE);
export const SIG_DX_ROOT = signature(C.OCFS2_DX_ROOT_SIGNATURE);
export const SIG_DX_LEAF = signature(C.OCFS2_DX_LEAF_SIGNATURE);
export const SIG_REFCOUNT_BLOCK = signature(C.OCFS2_REFCOUNT_BLOCK_SIGNATURE);
/** In the directory trailer, which is at the block's end and has its signature at 0x10. */
export const SIG_DIR_TRAILER = signature(C.OCFS2_DIR_TRAILER_SIGNATURE);

const BLOCK_SIGNATURES = [
  SIG_SUPER_BLOCK,
  SIG_INODE,
  SIG_EXTENT_BLOCK,
  SIG_GROUP_DESC,
  SIG_XATTR_BLOCK,
  SIG_DX_ROOT,
  SIG_DX_LEAF,
  SIG_REFCOUNT_BLOCK,
] as const;

/** Whether the eight bytes at `off` are the signature and its NULs. */
export function hasSignature(dv: DataView, off: number, sig: Signature): boolean {
  return dv.getUint32(off, true) === sig.lo && dv.getUint32(off + 4, true) === sig.hi;
}

/** Which known signature a block starts with. */
export function signatureOf(dv: DataView, off: number): Signature | undefined {
  return BLOCK_SIGNATURES.find((s) => hasSignature(dv, off, s));
}
