/**
 * fsck.ocfs2 on volumes with attributes, without two errors of its own, both of which the kernel's volumes get as well:
 * the depth of another value's tree (judges.ts), and that it takes the length of a value for 16 bits, so that 65536 is 0 to it.
 */
import { expect } from "vitest";
import { DEPTH_OF_ANOTHER } from "./judges.ts";
import { fsck } from "./volume.ts";

const ITS_OWN = [DEPTH_OF_ANOTHER, /^\[XATTR_VALUE_LEN_INVALID\] /];

/** What fsck.ocfs2 has to say that is neither `known` nor its own error. `max_value`: a value of 65536 bytes is there. */
export function findings(image: Uint8Array, known: readonly string[], max_value = false): string[] {
  const own = max_value ? ITS_OWN : ITS_OWN.slice(0, 1);
  return fsck(image, known).findings.filter((f) => !known.includes(f) && !own.some((o) => o.test(f)));
}

/** Fails with what fsck.ocfs2 said. */
export function expectSound(image: Uint8Array, known: readonly string[], where = ""): void {
  expect(findings(image, known), `fsck.ocfs2 ${where}`).toEqual([]);
}
