/**
 * Which features a new volume gets: a level's set, plus what --fs-features adds, less what it takes away together with
 * all that depends on it. Mirrors libocfs2's feature_string.c (ocfs2_parse_feature, ocfs2_merge_feature_flags_with_level).
 */
import { FEATURES, type Feature } from "../../format/features.ts";
import { type FeatureLevel, type FeatureSet, MkfsError } from "./params.ts";

const MAX_COMPAT = ["backup-super", "strict-journal-super"];
const DEFAULT = [
  ...MAX_COMPAT,
  "sparse",
  "unwritten",
  "extended-slotmap",
  "inline-data",
  "xattr",
  "refcount",
  "indexed-dirs",
  "discontig-bg",
  "append-dio",
];
/** Every -T has the default's features too. */
const LEVELS: Readonly<Record<FeatureLevel, readonly string[]>> = {
  "max-compat": MAX_COMPAT,
  default: DEFAULT,
  "max-features": [...DEFAULT, "metaecc", "usrquota", "grpquota"],
};

/** The order in which the classic tools list features. */
const PRINT_ORDER = [
  "heartbeat-device",
  "aborted-resize",
  "local",
  "sparse",
  "extended-slotmap",
  "aborted-tunefs",
  "userspace-stack",
  "backup-super",
  "unwritten",
  "inline-data",
  "strict-journal-super",
  "metaecc",
  "xattr",
  "indexed-dirs",
  "usrquota",
  "grpquota",
  "refcount",
  "discontig-bg",
  "clusterinfo",
  "append-dio",
];

const SETTABLE = FEATURES.filter((f) => f.settable);

export const NO_FEATURES: FeatureSet = { compat: 0, incompat: 0, ro_compat: 0 };

export const has = (set: FeatureSet, f: Feature): boolean => (set[f.class] & f.bit) !== 0;
const withFeature = (set: FeatureSet, f: Feature): FeatureSet => ({ ...set, [f.class]: set[f.class] | f.bit });
const without = (set: FeatureSet, f: Feature): FeatureSet => ({ ...set, [f.class]: set[f.class] & ~f.bit });

function named(name: string): Feature {
  const f = FEATURES.find((x) => x.name === name);
  if (!f) throw new Error(`no feature ${name}`);
  return f;
}

/** Adds features by name to a set. */
export const addFeatures = (set: FeatureSet, names: readonly string[]): FeatureSet =>
  names.reduce((s, n) => withFeature(s, named(n)), set);
/** Takes features by name out of a set. */
export const removeFeatures = (set: FeatureSet, names: readonly string[]): FeatureSet =>
  names.reduce((s, n) => without(s, named(n)), set);

export function isFeatureLevel(s: string): s is FeatureLevel {
  return Object.hasOwn(LEVELS, s);
}

interface Wishes {
  readonly on: ReadonlySet<string>;
  readonly off: ReadonlySet<string>;
}

/** Reads "sparse,noxattr,...". Throws MkfsError for an unknown name and for a feature that is both wanted and not. */
function parseWishes(list: string): Wishes {
  const on = new Set<string>();
  const off = new Set<string>();
  for (const token of list.split(",").filter((t) => t !== "")) {
    const no = token.startsWith("no");
    const f = SETTABLE.find((x) => x.name === (no ? token.slice(2) : token));
    if (!f) {
      const names = SETTABLE.map((x) => x.name).join(", ");
      throw new MkfsError(
        `unknown feature "${token}" in --fs-features; known, each also with a leading "no": ${names}`,
      );
    }
    if (no) off.add(f.name);
    else for (const name of [f.name, ...f.needs]) on.add(name);
  }
  for (const f of SETTABLE) if (f.needs.some((n) => off.has(n))) off.add(f.name);
  for (const name of on) {
    if (off.has(name)) throw new MkfsError(`--fs-features asks for ${name} and against it; leave one of the two out`);
  }
  return { on, off };
}

/** The features of a level with the wishes of --fs-features put through. */
export function chooseFeatures(level: FeatureLevel, list: string): FeatureSet {
  const { on, off } = parseWishes(list);
  return removeFeatures(addFeatures(addFeatures(NO_FEATURES, LEVELS[level]), [...on]), [...off]);
}

/** Names in the order of the classic tools, separated by blanks. */
export function featureText(set: FeatureSet): string {
  return PRINT_ORDER.filter((name) => has(set, named(name))).join(" ");
}
