/**
 * Where a volume's heartbeat file lies, found before anything of the volume is mounted or locked: the heartbeat comes first, then the
 * locks, then the mount (ocfs2_fill_heartbeat_desc of libocfs2). The file is one extent and never moves.
 */
import { statSync } from "node:fs";
import { OCFS2_MAX_BLOCKSIZE } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { openReader } from "../native/disk_reader.ts";
import { blkLogicalSize } from "../native/index.ts";
import { DebugVolume } from "./debugfs/image.ts";

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

/** Throws FsError (the device), Corruption or DebugfsError (no volume, no usable heartbeat file). */
export function findHeartbeatArea(path: string): HeartbeatArea {
  const reader = openReader(path);
  try {
    const volume = new DebugVolume(reader.readAt);
    const slot_bytes = statSync(path).isBlockDevice() ? blkLogicalSize(reader.fd) : FILE_SLOT_BYTES;
    const di = volume.inode(volume.systemFile("heartbeat"));
    const extents = [...volume.extents(di.i_list)];
    const refuse = (what: string): never => {
      throw new FsError(Errno.EINVAL, "heartbeat area", { what });
    };
    if (extents.length !== 1 || di.i_list.l_tree_depth !== 0) refuse("the heartbeat file is not one extent");
    if (slot_bytes <= 0 || slot_bytes > Math.min(volume.blocksize, OCFS2_MAX_BLOCKSIZE))
      refuse(`blocks of ${volume.blocksize} bytes on a device with sectors of ${slot_bytes}`);
    if (extents[0]!.clusters * volume.clustersize < SLOTS * slot_bytes) refuse("the heartbeat file is too short");
    return {
      uuid: Buffer.from(volume.sb.s_uuid).toString("hex").toUpperCase(),
      offset_bytes: extents[0]!.blkno * volume.blocksize,
      slot_bytes,
    };
  } finally {
    reader.close();
  }
}
