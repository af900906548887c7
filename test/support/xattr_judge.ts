/**
 * fsck.ocfs2 on volumes with attributes, without two errors of its own, both of which the kernel's volumes get as well:
 * it does not forget the depth of one value's tree before it looks at the next one's (xattr.c, check_xattr_value: one
 * extent_info for all), and it takes the length of a value for 16 bits, so that 65536 is 0 to it.
 */
import { expect } from "vitest";
import { fsck } from "./volume.ts";

const ITS_OWN = [
  /^\[EXTENT_LIST_DEPTH\] .* at depth 1 but we expect it to be at depth 0\./,
  /^\[XATTR_VALUE_LEN_INVALID\] /,
];

/** What fsck.ocfs2 has to say that is neither `known` nor its own error. `max_value`: a value of 65536 bytes is there. */
export function findings(image: Uint8Array, known: readonly string[], max_value = false): string[] {
  const own = max_value ? ITS_OWN : ITS_OWN.slice(0, 1);
  return fsck(image, known).findings.filter((f) => !known.includes(f) && !own.some((o) => o.test(f)));
}

/** Fails with what fsck.ocfs2 said. */
export function expectSound(image: Uint8Array, known: readonly string[], where = ""): void {
  expect(findings(image, known), `fsck.ocfs2 ${where}`).toEqual([]);
}
