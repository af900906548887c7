/**
 * Feature bits: their names as the tools print them, their class, and what this implementation supports.
 *
 * A bit nobody knows may mean that every structure on the volume reads differently, so a mount must stop at an unknown
 * incompat bit and must not write at an unknown ro_compat bit. Masks mirror OCFS2_FEATURE_*_SUPP in ocfs2_fs.h, names
 * and dependencies libocfs2's feature_string.c; refusing mirrors ocfs2_check_feature in fs/ocfs2/super.c.
 */
import * as C from "./disk/constants.ts";

export type FeatureClass = "compat" | "incompat" | "ro_compat";

export interface Feature {
  /** The name that mkfs, tunefs and debugfs use. */
  readonly name: string;
  readonly class: FeatureClass;
  readonly bit: number;
  /** Whether a mount understands it. */
  readonly supported: boolean;
  /** Whether `--fs-features` can set it. */
  readonly settable: boolean;
  /** Features that come with it, by name. */
  readonly needs: readonly string[];
}

const f = (
  name: string,
  cls: FeatureClass,
  bit: number,
  o: { supported?: false; settable?: false; needs?: readonly string[] } = {},
): Feature => ({
  name,
  class: cls,
  bit,
  supported: o.supported ?? true,
  settable: o.settable ?? true,
  needs: o.needs ?? [],
});

const INTERNAL = { supported: false, settable: false } as const;

export const FEATURES: readonly Feature[] = [
  f("backup-super", "compat", C.OCFS2_FEATURE_COMPAT_BACKUP_SB),
  f("strict-journal-super", "compat", C.OCFS2_FEATURE_COMPAT_JBD2_SB, { settable: false }),
  f("heartbeat-device", "incompat", C.OCFS2_FEATURE_INCOMPAT_HEARTBEAT_DEV, INTERNAL),
  f("aborted-resize", "incompat", C.OCFS2_FEATURE_INCOMPAT_RESIZE_INPROG, INTERNAL),
  f("local", "incompat", C.OCFS2_FEATURE_INCOMPAT_LOCAL_MOUNT),
  f("sparse", "incompat", C.OCFS2_FEATURE_INCOMPAT_SPARSE_ALLOC),
  f("aborted-tunefs", "incompat", C.OCFS2_FEATURE_INCOMPAT_TUNEFS_INPROG, INTERNAL),
  f("inline-data", "incompat", C.OCFS2_FEATURE_INCOMPAT_INLINE_DATA),
  f("userspace-stack", "incompat", C.OCFS2_FEATURE_INCOMPAT_USERSPACE_STACK, { settable: false }),
  f("extended-slotmap", "incompat", C.OCFS2_FEATURE_INCOMPAT_EXTENDED_SLOT_MAP),
  f("xattr", "incompat", C.OCFS2_FEATURE_INCOMPAT_XATTR),
  f("indexed-dirs", "incompat", C.OCFS2_FEATURE_INCOMPAT_INDEXED_DIRS),
  f("metaecc", "incompat", C.OCFS2_FEATURE_INCOMPAT_META_ECC),
  f("refcount", "incompat", C.OCFS2_FEATURE_INCOMPAT_REFCOUNT_TREE),
  f("discontig-bg", "incompat", C.OCFS2_FEATURE_INCOMPAT_DISCONTIG_BG),
  f("clusterinfo", "incompat", C.OCFS2_FEATURE_INCOMPAT_CLUSTERINFO),
  f("append-dio", "incompat", C.OCFS2_FEATURE_INCOMPAT_APPEND_DIO),
  f("unwritten", "ro_compat", C.OCFS2_FEATURE_RO_COMPAT_UNWRITTEN, { needs: ["sparse"] }),
  f("usrquota", "ro_compat", C.OCFS2_FEATURE_RO_COMPAT_USRQUOTA),
  f("grpquota", "ro_compat", C.OCFS2_FEATURE_RO_COMPAT_GRPQUOTA),
];

const mask = (cls: FeatureClass): number =>
  FEATURES.filter((x) => x.class === cls && x.supported).reduce((m, x) => m | x.bit, 0);

export const OCFS2_FEATURE_COMPAT_SUPP = mask("compat");
export const OCFS2_FEATURE_INCOMPAT_SUPP = mask("incompat");
export const OCFS2_FEATURE_RO_COMPAT_SUPP = mask("ro_compat");

const SUPP: Readonly<Record<FeatureClass, number>> = {
  compat: OCFS2_FEATURE_COMPAT_SUPP,
  incompat: OCFS2_FEATURE_INCOMPAT_SUPP,
  ro_compat: OCFS2_FEATURE_RO_COMPAT_SUPP,
};

export interface FeatureWords {
  readonly s_feature_compat: number;
  readonly s_feature_incompat: number;
  readonly s_feature_ro_compat: number;
}

/** Names of all set bits of one class, in the order of the bits; "0x10000" for one without a name. */
export function featureNames(cls: FeatureClass, value: number): string[] {
  const names: string[] = [];
  for (let i = 0; i < 32; i++) {
    const bit = (1 << i) >>> 0;
    if ((value & bit) === 0) continue;
    names.push(FEATURES.find((x) => x.class === cls && x.bit === bit)?.name ?? `0x${bit.toString(16)}`);
  }
  return names;
}

export interface UnsupportedFeatures {
  readonly class: FeatureClass;
  readonly bits: number;
  readonly names: readonly string[];
}

/** The set bits that a mount does not understand, per class; empty if all is well. */
export function unsupportedFeatures(sb: FeatureWords): UnsupportedFeatures[] {
  const words = [
    ["compat", sb.s_feature_compat],
    ["incompat", sb.s_feature_incompat],
    ["ro_compat", sb.s_feature_ro_compat],
  ] as const;
  return words.flatMap(([cls, value]) => {
    const bits = (value & ~SUPP[cls]) >>> 0;
    return bits === 0 ? [] : [{ class: cls, bits, names: featureNames(cls, bits) }];
  });
}

/** What stops a mount: unknown incompat bits always, unknown ro_compat bits when it wants to write. */
export function mountBlockers(sb: FeatureWords, readonly: boolean): UnsupportedFeatures[] {
  return unsupportedFeatures(sb).filter((u) => u.class === "incompat" || (u.class === "ro_compat" && !readonly));
}

export function featureByName(name: string): Feature | undefined {
  return FEATURES.find((x) => x.name === name);
}
