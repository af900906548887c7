/** One block per node in the heartbeat file. Mirrors cluster/ocfs2_heartbeat.h. */
import { hex64, reserved, struct, u8, u32, u64, type ViewOf } from "../struct.ts";

export const HeartbeatBlock = struct("o2hb_disk_heartbeat_block", 0x20, "le", {
  hb_seq: u64(0x00, "time of the write, in seconds; a change means that the node lives"),
  hb_node: u8(0x08, "own node number"),
  hb_pad1: reserved(0x09, 3),
  hb_cksum: u32(0x0c, "CRC32 of the block with this field zeroed"),
  hb_generation: hex64(0x10, "random, new at each start of the region; 0: the node has left"),
  hb_dead_ms: u32(0x18, "ms without a change after which others declare the node dead"),
  _pad2: reserved(0x1c, 4, "the compiler's"),
});
export type HeartbeatBlock = ViewOf<typeof HeartbeatBlock>;
