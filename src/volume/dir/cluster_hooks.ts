/** What other nodes know of an inode and its names, as wiping and unlinking ask for it (inode_hooks.ts). */
import { EX } from "../../dlmglue/lock_res.ts";
import type { Inode } from "../inode.ts";
import type { Op } from "../op.ts";

/** True when no other node has the inode open (ocfs2_try_open_lock). */
export function tryOpenLock(op: Op, inode: Inode): boolean {
  const { glue, sabotage } = op.osb;
  if (!glue.domain.clustered || sabotage.has("open_lock")) return true;
  return glue.tryLock(op.locks, glue.openLock(inode), EX);
}
