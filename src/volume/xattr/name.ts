/**
 * Names of extended attributes: a namespace, kept on the disk as a number, and bytes (xattr.c: ocfs2_xattr_handlers,
 * ocfs2_xattr_name_hash).
 *
 * The tree of buckets is ordered by a hash of the name without its namespace, which mixes bytes as `char`. Whether 0x80
 * and above count as negative depends on how the node that wrote the entry was built: x86 kernels before 6.2 and the x86
 * tools do so, later kernels do not. We write what the tools check and find both, as for file names.
 */
import { FEATURE_INCOMPAT, OCFS2_HASH_SHIFT, XATTR_INDEX, XATTR_PREFIX } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { einval, FsError } from "../../lib/fs_error.ts";
import type { Osb } from "../osb.ts";

/** Bytes of a name with its namespace, and of a value (XATTR_NAME_MAX, XATTR_SIZE_MAX). */
export const XATTR_NAME_MAX = 255;
export const XATTR_SIZE_MAX = 65536;

/** setxattr(2)'s flags. */
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

/** A name as text (UTF-8), or its bytes. */
export type XattrName = string | Uint8Array;

/** A name as the disk has it. */
export interface XattrKey {
  /** XATTR_INDEX. */
  readonly index: number;
  /** The bytes behind the namespace; none for the ACLs. */
  readonly name: Uint8Array;
}

interface Namespace {
  readonly index: number;
  readonly prefix: Uint8Array;
  /** The prefix is the whole name. */
  readonly exact: boolean;
}

const NAMESPACES: readonly Namespace[] = Object.entries(XATTR_PREFIX).map(([index, text]) => ({
  index: Number(index),
  prefix: Buffer.from(text),
  exact: !text.endsWith("."),
}));

export const isAclIndex = (index: number): boolean =>
  index === XATTR_INDEX.POSIX_ACL_ACCESS || index === XATTR_INDEX.POSIX_ACL_DEFAULT;

/** The prefix of a namespace, undefined for a number that is none. */
export const prefixOf = (index: number): Uint8Array | undefined => NAMESPACES.find((n) => n.index === index)?.prefix;

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  if (bytes.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[i] !== prefix[i]) return false;
  return true;
}

/** Whether the mount's options let a namespace be seen (ocfs2_xattr_list_entry). */
export function namespaceEnabled(osb: Osb, index: number): boolean {
  if (index === XATTR_INDEX.USER) return osb.options.user_xattr;
  return !isAclIndex(index) || osb.options.acl;
}

/**
 * Splits a name. ERANGE: empty or too long; EINVAL: a namespace and nothing else; EOPNOTSUPP: no such namespace, or the
 * volume or the mount has it switched off (xattr_resolve_name, ocfs2_supports_xattr).
 */
export function parseName(osb: Osb, full: XattrName): XattrKey {
  const bytes = typeof full === "string" ? Buffer.from(full, "utf8") : full;
  if (bytes.length === 0 || bytes.length > XATTR_NAME_MAX)
    throw new FsError(Errno.ERANGE, "xattr.name", { len: bytes.length });
  if (bytes.includes(0)) throw einval("xattr.name", { found: "NUL in a name" });
  requireXattr(osb);
  for (const ns of NAMESPACES) {
    if (!startsWith(bytes, ns.prefix)) continue;
    const name = bytes.subarray(ns.prefix.length);
    if (ns.exact && name.length > 0) continue;
    if (!ns.exact && name.length === 0) throw einval("xattr.name", { found: "a namespace only" });
    if (!namespaceEnabled(osb, ns.index)) break;
    return { index: ns.index, name };
  }
  throw new FsError(Errno.EOPNOTSUPP, "xattr.name", { name: nameText(bytes) });
}

/** Whether the volume has the feature (ocfs2_supports_xattr). */
export const hasXattr = (osb: Osb): boolean => osb.incompat(FEATURE_INCOMPAT.XATTR);

/** Throws EOPNOTSUPP on a volume without the feature. */
export function requireXattr(osb: Osb): void {
  if (!hasXattr(osb)) throw new FsError(Errno.EOPNOTSUPP, "xattr", { found: "no xattr feature" });
}

export const nameText = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");

/** For messages. */
export const keyText = (key: XattrKey): string =>
  nameText(prefixOf(key.index) ?? new Uint8Array()) + nameText(key.name);

/** Hash of the bytes behind the namespace; `seed` is the volume's uuid_hash (ocfs2_xattr_name_hash). */
export function nameHash(seed: number, name: Uint8Array, signed_char = true): number {
  let hash = seed | 0;
  for (let i = 0; i < name.length; i++) {
    const c = signed_char ? (name[i]! << 24) >> 24 : name[i]!;
    hash = (hash << OCFS2_HASH_SHIFT) ^ (hash >>> (32 - OCFS2_HASH_SHIFT)) ^ c;
  }
  return hash >>> 0;
}

/** The hash that we write, and behind it the one that the other reading of `char` gives, if it differs. */
export function nameHashes(osb: Osb, name: Uint8Array): number[] {
  const ours = nameHash(osb.geo.uuid_hash, name);
  const other = nameHash(osb.geo.uuid_hash, name, false);
  return other === ours ? [ours] : [ours, other];
}
