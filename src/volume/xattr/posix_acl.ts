/**
 * POSIX access control lists, without any disk (fs/posix_acl.c): their two encodings, what makes one valid, and how they
 * go together with mode bits.
 *
 * An ACL says what the mode's nine bits say, and more: the owner's entry is the user bits, OTHER the other bits, and the
 * mask, where there is one, the group bits. Where an ACL has no more than that it is not stored: the mode is the ACL.
 */
import { Errno } from "../../lib/errno.ts";
import { Corruption, einval, FsError } from "../../lib/fs_error.ts";

export const ACL_USER_OBJ = 0x01;
export const ACL_USER = 0x02;
export const ACL_GROUP_OBJ = 0x04;
export const ACL_GROUP = 0x08;
export const ACL_MASK = 0x10;
export const ACL_OTHER = 0x20;
/** e_id of entries that name nobody. */
export const ACL_UNDEFINED_ID = 0xffffffff;

export interface AclEntry {
  readonly tag: number;
  readonly perm: number;
  readonly id: number;
}
export type Acl = readonly AclEntry[];

/** POSIX_ACL_XATTR_VERSION; a u32 in front of the entries of the attribute that user space sees. */
const XATTR_VERSION = 2;
const XATTR_HEADER_BYTES = 4;
/** u16 tag, u16 permissions, u32 id; in both encodings. */
const ENTRY_BYTES = 8;

const named = (tag: number): boolean => tag === ACL_USER || tag === ACL_GROUP;

function decodeEntries(bytes: Uint8Array, from: number): AclEntry[] {
  const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const acl: AclEntry[] = [];
  for (let at = from; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    const tag = dv.getUint16(at, true);
    acl.push({ tag, perm: dv.getUint16(at + 2, true), id: named(tag) ? dv.getUint32(at + 4, true) : ACL_UNDEFINED_ID });
  }
  return acl;
}

function encodeEntries(acl: Acl, header: number): Uint8Array {
  const bytes = new Uint8Array(header + acl.length * ENTRY_BYTES);
  const dv = new DataView(bytes.buffer);
  acl.forEach((e, i) => {
    const at = header + i * ENTRY_BYTES;
    dv.setUint16(at, e.tag, true);
    dv.setUint16(at + 2, e.perm, true);
    dv.setUint32(at + 4, named(e.tag) ? e.id : ACL_UNDEFINED_ID, true);
  });
  return bytes;
}

/** The ACL of a system.posix_acl_* value; null for one without entries. EINVAL, EOPNOTSUPP (posix_acl_from_xattr). */
export function aclFromXattr(bytes: Uint8Array): Acl | null {
  if (bytes.length < XATTR_HEADER_BYTES) throw einval("acl.decode", { len: bytes.length });
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (version !== XATTR_VERSION) throw new FsError(Errno.EOPNOTSUPP, "acl.decode", { version });
  if ((bytes.length - XATTR_HEADER_BYTES) % ENTRY_BYTES !== 0) throw einval("acl.decode", { len: bytes.length });
  const acl = decodeEntries(bytes, XATTR_HEADER_BYTES);
  return acl.length === 0 ? null : acl;
}

/** The value of a system.posix_acl_* attribute (posix_acl_to_xattr). */
export function aclToXattr(acl: Acl): Uint8Array {
  const bytes = encodeEntries(acl, XATTR_HEADER_BYTES);
  new DataView(bytes.buffer).setUint32(0, XATTR_VERSION, true);
  return bytes;
}

/** The ACL of an attribute on the disk: entries only (ocfs2_acl_from_xattr). */
export function aclFromDisk(bytes: Uint8Array, ino: number): Acl | null {
  if (bytes.length === 0) return null;
  const acl = decodeEntries(bytes, 0);
  if (acl.length === 0 || bytes.length % ENTRY_BYTES !== 0)
    throw new Corruption("acl.decode", { ino, len: bytes.length });
  return acl;
}

export const aclToDisk = (acl: Acl): Uint8Array => encodeEntries(acl, 0);

/** Throws EINVAL unless the entries are those of an ACL, in their order (posix_acl_valid). */
export function checkAcl(acl: Acl): void {
  const ORDER = [ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER];
  let last = -1;
  let needs_mask = false;
  const seen = new Set<number>();
  for (const e of acl) {
    const rank = ORDER.indexOf(e.tag);
    const again = seen.has(e.tag) && !named(e.tag);
    if (rank < 0 || rank < last || again || (e.perm & ~7) !== 0)
      throw einval("acl", { tag: e.tag, perm: e.perm, found: "an entry that cannot be there" });
    if (named(e.tag)) {
      needs_mask = true;
      if (e.id === ACL_UNDEFINED_ID) throw einval("acl", { tag: e.tag, found: "no id" });
    }
    seen.add(e.tag);
    last = rank;
  }
  for (const tag of [ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_OTHER])
    if (!seen.has(tag)) throw einval("acl", { found: `no entry of tag ${tag}` });
  if (needs_mask && !seen.has(ACL_MASK)) throw einval("acl", { found: "no mask" });
}

/** The mode with the bits that the ACL gives, and whether those bits say all of it (posix_acl_equiv_mode). */
export function equivMode(acl: Acl, mode: number): { mode: number; whole: boolean } {
  let bits = 0;
  let mask: number | undefined;
  let whole = true;
  for (const e of acl) {
    if (e.tag === ACL_USER_OBJ) bits |= e.perm << 6;
    else if (e.tag === ACL_GROUP_OBJ) bits |= e.perm << 3;
    else if (e.tag === ACL_OTHER) bits |= e.perm;
    else {
      whole = false;
      if (e.tag === ACL_MASK) mask = e.perm;
    }
  }
  if (mask !== undefined) bits = (bits & ~0o070) | (mask << 3);
  return { mode: (mode & ~0o777) | (bits & 0o777), whole };
}

/** The entry that the mode's group bits stand for. */
const groupClassTag = (acl: Acl, where: string): number => {
  if (acl.some((e) => e.tag === ACL_MASK)) return ACL_MASK;
  if (acl.some((e) => e.tag === ACL_GROUP_OBJ)) return ACL_GROUP_OBJ;
  throw new Corruption(where, { found: "an ACL without a group entry" });
};

/** The ACL after chmod to `mode` (__posix_acl_chmod_masq). */
export function chmodAclEntries(acl: Acl, mode: number): Acl {
  const group_tag = groupClassTag(acl, "acl.chmod");
  return acl.map((e) => {
    if (e.tag === ACL_USER_OBJ) return { ...e, perm: (mode >> 6) & 7 };
    if (e.tag === group_tag) return { ...e, perm: (mode >> 3) & 7 };
    if (e.tag === ACL_OTHER) return { ...e, perm: mode & 7 };
    return e;
  });
}

/**
 * What a new inode that was asked for with `mode` gets from its directory's default ACL: the access ACL (null when the
 * mode says it all) and the mode. Neither grants more than the other (__posix_acl_create).
 */
export function inheritAcl(default_acl: Acl, mode: number): { acl: Acl | null; mode: number } {
  const group_tag = groupClassTag(default_acl, "acl.inherit");
  let bits = mode & 0o777;
  const acl = default_acl.map((e) => {
    const shift = e.tag === ACL_USER_OBJ ? 6 : e.tag === group_tag ? 3 : e.tag === ACL_OTHER ? 0 : -1;
    if (shift < 0) return e;
    const perm = e.perm & (bits >> shift) & 7;
    bits = (bits & ~(7 << shift)) | (perm << shift);
    return { ...e, perm };
  });
  const whole = acl.every((e) => !named(e.tag) && e.tag !== ACL_MASK);
  return { acl: whole ? null : acl, mode: (mode & ~0o777) | bits };
}
