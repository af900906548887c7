import { join } from "node:path";
import { tempDir } from "../support/cleanup.ts";
import { CLUSTER } from "../support/cluster_rig.ts";
import { sh } from "../support/sh.ts";

/** A clustered volume of the rig's cluster in a file below `base`, made by mkfs.ocfs2. */
export function clusterImage(
  mib: number,
  args: readonly string[] = ["-N", "4", "-b", "4K", "-C", "4K"],
  base?: string,
): string {
  const image = join(tempDir("ocfs2-cluster-image", base === undefined ? {} : { base }), "image");
  sh(["truncate", "-s", `${mib}M`, image]);
  sh(["mkfs.ocfs2", "-q", "-F", "--cluster-stack=o2cb", `--cluster-name=${CLUSTER}`, ...args, image]);
  return image;
}
