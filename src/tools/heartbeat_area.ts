/**
 * Where a volume's heartbeat file lies, found before anything of the volume is mounted or locked: the heartbeat comes first, then the
 * locks, then the mount (ocfs2_fill_heartbeat_desc of libocfs2). The file is one extent and never moves.
 */
import { statSync } from "node:fs";
import { OCFS2_MAX_BLOCKSIZE } from "../format/disk/index.ts";
import { openReader } from "../native/disk_reader.ts";
import { blkLogicalSize } from "../native/index.ts";
import { DebugVolume } from "./debugfs/image.ts";
import type { ReadAt } from "./read_super.ts";

/** O2NM_MAX_NODES blocks, one a node number. */
const SLOTS = 255;
const FILE_SLOT_BYTES = 512;

export interface HeartbeatArea {
  /** The region's name and the domain's: the UUID as 32 upper-case hex digits. */
  readonly uuid: string;
  readonly offset_bytes: number;
  /** The device's logical block size, as o2cb's block_bytes: every node of the cluster must find the same. */
  readonly slot_bytes: number;
}

/** Throws Error when the volume has no heartbeat file that slots of `slot_bytes` fit into; Corruption or DebugfsError when there is no volume. */
export function heartbeatAreaOn(readAt: ReadAt, slot_bytes: number): HeartbeatArea {
  const volume = new DebugVolume(readAt);
  const di = volume.inode(volume.systemFile("heartbeat"));
  const extents = [...volume.extents(di.i_list)];
  if (extents.length !== 1 || di.i_list.l_tree_depth !== 0) throw new Error("the heartbeat file is not one extent");
  // A slot beyond the file would be written over what is behind it.
  if (slot_bytes <= 0 || slot_bytes > Math.min(volume.blocksize, OCFS2_MAX_BLOCKSIZE))
    throw new Error(
      `blocks of ${volume.blocksize} bytes on a device with sectors of ${slot_bytes}: copy the volume to a device with smaller sectors, or make a new one with larger blocks`,
    );
  if (extents[0]!.clusters * volume.clustersize < SLOTS * slot_bytes)
    throw new Error("the heartbeat file is too short");
  return {
    uuid: Buffer.from(volume.sb.s_uuid).toString("hex").toUpperCase(),
    offset_bytes: extents[0]!.blkno * volume.blocksize,
    slot_bytes,
  };
}

const slotBytes = (path: string, fd: number): number =>
  statSync(path).isBlockDevice() ? blkLogicalSize(fd) : FILE_SLOT_BYTES;

/** The size of a slot on a device, or in a file. FsError when that cannot be opened. */
export function slotBytesOf(path: string): number {
  const reader = openReader(path);
  try {
    return slotBytes(path, reader.fd);
  } finally {
    reader.close();
  }
}

/** As heartbeatAreaOn, of the volume on a device or in a file; and FsError when that cannot be opened. */
export function findHeartbeatArea(path: string): HeartbeatArea {
  const reader = openReader(path);
  try {
    return heartbeatAreaOn(reader.readAt, slotBytes(path, reader.fd));
  } finally {
    reader.close();
  }
}
