/** What mkfs tells about the volume that it makes: lines for people as mkfs.ocfs2 prints them, or one object for programs. */
import { featureText } from "./features.ts";
import type { Geometry } from "./geometry.ts";
import type { MkfsParams } from "./params.ts";
import type { Identity, Stage } from "./piece.ts";
import type { VolumePlan } from "./plan.ts";
import { diskFeatures } from "./superblock.ts";

export const STAGE_TEXT: Readonly<Record<Stage, string>> = {
  bitmaps: "Creating bitmaps",
  files: "Writing system files",
  journals: "Formatting Journals",
  backups: "Writing backup superblock",
  superblock: "Writing superblock",
};

const uuidText = (uuid: Uint8Array): string => Buffer.from(uuid).toString("hex").toUpperCase();

export function describe(p: MkfsParams, g: Geometry): string[] {
  const groups = g.extent_alloc_clusters / g.suballoc_cpg;
  return [
    ...(p.local || p.heartbeat_device ? [] : clusterLines(p)),
    ...(p.fs_type === "default" ? [] : [`Filesystem Type of ${p.fs_type}`]),
    `Label: ${p.label}`,
    `Features: ${featureText(diskFeatures(p))}`,
    `Block size: ${g.block_size} (${g.block_bits} bits)`,
    `Cluster size: ${g.cluster_size} (${g.cluster_bits} bits)`,
    `Volume size: ${g.volume_bytes} (${g.clusters} clusters) (${g.blocks} blocks)`,
    `Cluster groups: ${g.cluster_groups} (tail covers ${g.tail_group_bits} clusters, rest cover ${g.global_cpg} clusters)`,
    `Extent allocator size: ${g.extent_alloc_clusters * g.cluster_size} (${groups} groups)`,
    p.heartbeat_device ? "Heartbeat device" : `Journal size: ${g.journal_bytes}`,
    `Node slots: ${g.slots}`,
  ];
}

function clusterLines({ cluster }: MkfsParams): string[] {
  if (!cluster) return ["Cluster stack: classic o2cb"];
  return [
    `Cluster stack: ${cluster.stack}`,
    `Cluster name: ${cluster.name}`,
    `Stack Flags: 0x${cluster.flags.toString(16)}`,
    "NOTE: Feature extended slot map may be enabled",
  ];
}

/** The object of --json. Field names are those of the super block where it has them. */
export function toJson(device: string, p: MkfsParams, plan: VolumePlan, id: Identity, dry_run: boolean): object {
  const g = plan.geometry;
  return {
    device,
    dry_run,
    label: p.label,
    uuid: uuidText(id.uuid),
    features: featureText(plan.features).split(" "),
    cluster: p.cluster ?? null,
    block_size: g.block_size,
    cluster_size: g.cluster_size,
    volume_bytes: g.volume_bytes,
    blocks: g.blocks,
    clusters: g.clusters,
    cluster_groups: g.cluster_groups,
    clusters_per_group: g.global_cpg,
    tail_group_clusters: g.tail_group_bits,
    extent_alloc_bytes: g.extent_alloc_clusters * g.cluster_size,
    journal_bytes: g.journal_bytes,
    max_slots: g.slots,
    backup_supers: plan.backups,
  };
}
