/**
 * An OCFS2 volume that is on the device already, and whether other nodes have it mounted. mkfs.ocfs2 asks the cluster's lock manager,
 * which must run for that; here the volume's own slot map is asked, which a node is in from mount to unmount (and, after a crash,
 * until another node recovers it).
 */
import {
  Dinode,
  DirEntry,
  DYN_FEATURES,
  ExtendedSlot,
  FEATURE_INCOMPAT,
  OCFS2_INVALID_SLOT,
  SYSTEM_INODE,
  systemInodeName,
} from "../../format/disk/index.ts";
import { findSuper, type ReadAt } from "../read_super.ts";
import type { ClusterDesc } from "./params.ts";

type DinodeView = ReturnType<typeof Dinode.at>;

export interface ExistingVolume {
  readonly label: string;
  /** 32 hex digits: the name of its heartbeat region and of its lock domain. */
  readonly uuid: string;
  readonly block_size: number;
  readonly local: boolean;
  readonly cluster: ClusterDesc | undefined;
  /** Nodes that the slot map names; undefined when it could not be read. */
  readonly nodes: readonly number[] | undefined;
}

/** Reads what is stored under an inode, if the inode itself says where; at most `max_bytes`. */
function contents(
  di: DinodeView,
  readAt: ReadAt,
  block_size: number,
  cluster_size: number,
  max_bytes: number,
): Uint8Array {
  if (di.i_dyn_features & DYN_FEATURES.INLINE_DATA)
    return di.i_data.id_data.bytes(Math.min(di.i_data.id_count, max_bytes));
  if (di.i_list.l_tree_depth !== 0) throw new Error("extents are not in the inode");
  const parts: Uint8Array[] = [];
  let left = Math.min(di.i_size, max_bytes);
  for (let i = 0; i < di.i_list.l_next_free_rec && left > 0; i++) {
    const rec = di.i_list.l_recs.at(i);
    const part = readAt(rec.e_blkno * block_size, Math.min(left, rec.e_leaf_clusters * cluster_size));
    parts.push(part);
    left -= part.length;
  }
  return Buffer.concat(parts);
}

function findEntry(bytes: Uint8Array, name: string): number | undefined {
  for (let off = 0; off + DirEntry.size <= bytes.length; ) {
    const de = DirEntry.from(bytes, off);
    if (de.rec_len < DirEntry.size) return undefined;
    const room = Math.min(de.name_len, bytes.length - off - DirEntry.size);
    if (de.inode !== 0 && Buffer.from(de.name.bytes(room)).toString("latin1") === name) return de.inode;
    off += de.rec_len;
  }
  return undefined;
}

const DIR_BYTES_MAX = 1 << 20;

/** Reads the beginning of the slot map. Throws when the system directory is no such thing. */
function readSlotMap(sb: DinodeView, readAt: ReadAt, bytes: number): Uint8Array {
  const { s_blocksize_bits, s_clustersize_bits, s_system_dir_blkno } = sb.i_super;
  const block_size = 2 ** s_blocksize_bits;
  const read = (blkno: number, max: number): Uint8Array => {
    const di = Dinode.from(readAt(blkno * block_size, block_size).slice());
    return contents(di, readAt, block_size, 2 ** s_clustersize_bits, max);
  };
  const name = systemInodeName(SYSTEM_INODE.SLOT_MAP);
  const blkno = findEntry(read(s_system_dir_blkno, DIR_BYTES_MAX), name);
  if (blkno === undefined) throw new Error(`there is no ${name} in the system directory`);
  return read(blkno, bytes);
}

function readNodes(sb: DinodeView, readAt: ReadAt): number[] | undefined {
  const { s_max_slots, s_feature_incompat } = sb.i_super;
  try {
    const extended = (s_feature_incompat & FEATURE_INCOMPAT.EXTENDED_SLOT_MAP) !== 0;
    const map = readSlotMap(sb, readAt, s_max_slots * (extended ? ExtendedSlot.size : 2));
    return extended ? extendedNodes(map) : classicNodes(map);
  } catch {
    return undefined;
  }
}

function extendedNodes(map: Uint8Array): number[] {
  const slots = Array.from({ length: Math.floor(map.length / ExtendedSlot.size) }, (_, i) =>
    ExtendedSlot.from(map, i * ExtendedSlot.size),
  );
  return slots.filter((s) => s.es_valid !== 0).map((s) => s.es_node_num);
}

function classicNodes(map: Uint8Array): number[] {
  const dv = new DataView(map.buffer, map.byteOffset, map.byteLength);
  const nodes = Array.from({ length: map.length >> 1 }, (_, i) => dv.getUint16(2 * i, true));
  return nodes.filter((n) => n !== OCFS2_INVALID_SLOT);
}

/** The volume on a device, or undefined when there is none. */
export function findExisting(readAt: ReadAt): ExistingVolume | undefined {
  const sb = findSuper(readAt);
  if (!sb) return undefined;
  const { s_feature_incompat: incompat, s_cluster_info: info, s_label } = sb.i_super;
  const local = (incompat & FEATURE_INCOMPAT.LOCAL_MOUNT) !== 0;
  const named = (incompat & (FEATURE_INCOMPAT.CLUSTERINFO | FEATURE_INCOMPAT.USERSPACE_STACK)) !== 0;
  return {
    label: s_label,
    uuid: Buffer.from(sb.i_super.s_uuid).toString("hex").toUpperCase(),
    block_size: 2 ** sb.i_super.s_blocksize_bits,
    local,
    cluster: named ? { stack: info.ci_stack, name: info.ci_cluster, flags: info.ci_stackflags } : undefined,
    nodes: local ? [] : readNodes(sb, readAt),
  };
}
