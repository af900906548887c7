/** Labels that a security module gives a new inode (ocfs2_init_security_set); FUSE hands them over when it creates. */
import { XATTR_INDEX } from "../../format/disk/index.ts";
import { type Inode, readDinode } from "../inode.ts";
import type { Op } from "../op.ts";
import { setNolock } from "./change.ts";
import { parseName, type XattrName } from "./name.ts";

export interface SecurityLabel {
  /** With its namespace: "security.selinux". */
  readonly name: XattrName;
  readonly value: Uint8Array;
}

/** Gives a new inode, whose dinode is in this operation and locked, its labels. Names of other namespaces are left out. */
export function initSecurity(op: Op, inode: Inode, labels: readonly SecurityLabel[]): void {
  for (const { name, value } of labels) {
    const key = parseName(op.osb, name);
    if (key.index === XATTR_INDEX.SECURITY) setNolock(op, inode, readDinode(op, inode), key, value);
  }
}
