/**
 * The end of the volume. What a block says of clusters behind it is damage, and must lead neither a read nor a write there. But
 * a kernel node may move the end while others have the volume mounted (tunefs.ocfs2 -S; resize.c): only the global bitmap knows where it is.
 */

import { PR } from "../../dlmglue/lock_res.ts";
import { SYSTEM_INODE } from "../../format/disk/index.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { dinodeOf, inodeLock } from "../inode.ts";
import type { Op } from "../op.ts";

/** True when the volume has these clusters. Throws Wait while the global bitmap must be asked. */
export function inVolume(op: Op, p_cluster: number, clusters: number): boolean {
  const { osb } = op;
  const end = p_cluster + clusters;
  if (!(p_cluster > 0 && clusters > 0)) return false;
  if (end > osb.geo.clusters && osb.glue.domain.clustered) lookForEnd(op);
  return end <= osb.geo.clusters;
}

/** Asks the global bitmap how long the volume is. */
export function lookForEnd(op: Op): void {
  const { osb } = op;
  const bitmap = osb.sysfile(SYSTEM_INODE.GLOBAL_BITMAP);
  const { i_clusters } = dinodeOf(op, inodeLock(op, bitmap));
  const res = osb.glue.metaLock(bitmap);
  if (op.locks.level(res) === PR) op.locks.release(res);
  if (i_clusters <= osb.geo.clusters) return;
  osb.dev.measure?.();
  const clusters = Math.min(i_clusters, Math.floor(osb.dev.size_bytes / osb.geo.clustersize));
  if (clusters <= osb.geo.clusters) return;
  mlog(ML.NOTICE, `${osb.dev.name}: the volume has grown from ${osb.geo.clusters} to ${clusters} clusters`);
  osb.geo.clusters = clusters;
}
