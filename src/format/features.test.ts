import { expect, test } from "vitest";
import {
  FEATURES,
  featureNames,
  mountBlockers,
  OCFS2_FEATURE_COMPAT_SUPP,
  OCFS2_FEATURE_INCOMPAT_SUPP,
  OCFS2_FEATURE_RO_COMPAT_SUPP,
  unsupportedFeatures,
} from "./features.ts";

const words = (c: number, i: number, r: number) => ({
  s_feature_compat: c,
  s_feature_incompat: i,
  s_feature_ro_compat: r,
});

test("the supported masks are the kernel's", () => {
  expect(OCFS2_FEATURE_COMPAT_SUPP).toBe(0x3);
  expect(OCFS2_FEATURE_INCOMPAT_SUPP).toBe(0xffd8);
  expect(OCFS2_FEATURE_RO_COMPAT_SUPP).toBe(0x7);
});

test("no two features share a bit or a name", () => {
  expect(new Set(FEATURES.map((f) => f.name)).size).toBe(FEATURES.length);
  expect(new Set(FEATURES.map((f) => `${f.class} ${f.bit}`)).size).toBe(FEATURES.length);
});

test("an aborted tunefs and an unknown bit are reported by name", () => {
  expect(unsupportedFeatures(words(0x3, 0x10030, 0x80000007))).toEqual([
    { class: "incompat", bits: 0x10020, names: ["aborted-tunefs", "0x10000"] },
    { class: "ro_compat", bits: 0x80000000, names: ["0x80000000"] },
  ]);
});

test("an unknown compat bit never stops a mount, an unknown ro_compat bit only one that writes", () => {
  const sb = words(0x100, 0x10, 0x8);
  expect(mountBlockers(sb, true)).toEqual([]);
  expect(mountBlockers(sb, false).map((b) => b.class)).toEqual(["ro_compat"]);
});

test("names come in the order of the bits", () => {
  expect(featureNames("incompat", 0x50)).toEqual(["sparse", "inline-data"]);
});
