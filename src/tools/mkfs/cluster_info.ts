/**
 * Which cluster a new volume is for: the one that the user names, else the one that runs here, else that of the volume which is
 * overwritten; none of it for the classic o2cb stack with local heartbeat, whose volumes name no cluster. Mirrors
 * ocfs2_fill_cluster_information of mkfs.ocfs2's check.c.
 */
import fs from "node:fs";
import { OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT } from "../../format/disk/constants.ts";
import { FEATURE_INCOMPAT, OCFS2_CLASSIC_CLUSTER_STACK } from "../../format/disk/index.ts";
import type { ClusterWish } from "./options.ts";
import { type ClusterDesc, MkfsError, type MkfsParams } from "./params.ts";

const text = (c: ClusterDesc): string => `${c.stack},${c.name},${c.flags}`;

function mustMatch(
  active: ClusterDesc | undefined,
  other: ClusterDesc | undefined,
  what: string,
  force: boolean,
): void {
  if (force || !active || !other || text(active) === text(other)) return;
  throw new MkfsError(
    `${what} cluster (${text(other)}) does not match the active cluster (${text(active)}), so nobody can tell whether this is safe; -F skips this check`,
  );
}

export interface ClusterSources {
  readonly active: ClusterDesc | undefined;
  readonly on_disk: ClusterDesc | undefined;
  /** Go on when they contradict each other. */
  readonly force: boolean;
}

/** The cluster for the super block, or undefined for none. Throws MkfsError when the sources contradict each other. */
export function resolveCluster(p: MkfsParams, wish: ClusterWish, from: ClusterSources): ClusterDesc | undefined {
  if (p.local) return undefined;
  const flags = wish.global_heartbeat ? OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT : 0;
  const user = wish.stack && wish.name ? { stack: wish.stack, name: wish.name, flags } : undefined;
  mustMatch(from.active, from.on_disk, "on disk", from.force);
  mustMatch(from.active, user, "user requested", from.force);
  if (user) return user;
  const found = from.active ?? from.on_disk;
  const clusterinfo = (p.features.incompat & FEATURE_INCOMPAT.CLUSTERINFO) !== 0;
  if (!found && clusterinfo) {
    throw new MkfsError(
      "the clusterinfo feature needs a cluster: add --cluster-stack and --cluster-name, or start the cluster first",
    );
  }
  const classic = found?.stack === OCFS2_CLASSIC_CLUSTER_STACK && found.flags === 0;
  return classic && !clusterinfo ? undefined : found;
}

const CONFIGFS = "/sys/kernel/config/cluster";

/** The o2cb cluster that the kernel of this machine is configured for. */
export function kernelCluster(): ClusterDesc | undefined {
  const read = (path: string): string | undefined => {
    try {
      return fs.readFileSync(path, "utf8").trim();
    } catch {
      return undefined;
    }
  };
  try {
    const stack = read("/sys/fs/ocfs2/cluster_stack") ?? OCFS2_CLASSIC_CLUSTER_STACK;
    const name = fs.readdirSync(CONFIGFS)[0];
    if (stack !== OCFS2_CLASSIC_CLUSTER_STACK || name === undefined) return undefined;
    const global = read(`${CONFIGFS}/${name}/heartbeat/mode`) === "global";
    return { stack, name, flags: global ? OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT : 0 };
  } catch {
    return undefined;
  }
}
