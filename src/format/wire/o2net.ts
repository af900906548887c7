/** What goes over a connection of o2net, all big-endian. Mirrors cluster/tcp.h and cluster/tcp_internal.h. */
import { hex64, reserved, struct, u8, u16, u32, u64, type ViewOf } from "../struct.ts";

export const O2NET_PROTOCOL_VERSION = 11;

export const O2NET_MSG_MAGIC = 0xfa55;
export const O2NET_MSG_STATUS_MAGIC = 0xfa56;
export const O2NET_MSG_KEEP_REQ_MAGIC = 0xfa57;
export const O2NET_MSG_KEEP_RESP_MAGIC = 0xfa58;

/** `sys_status` of a status message: whether the other side's handler was reached at all. */
export const O2NET_ERR_NONE = 0;
export const O2NET_ERR_NO_HNDLR = 1;
export const O2NET_ERR_OVERFLOW = 2;
/** Never on the wire: what a waiting send gets when its node dies. */
export const O2NET_ERR_DIED = 3;

/** Both sides send one when the connection stands; only the connector and the reconnect delay may differ. */
export const O2netHandshake = struct("o2net_handshake", 0x20, "be", {
  protocol_version: u64(0x00, "O2NET_PROTOCOL_VERSION"),
  connector_id: hex64(0x08, "not looked at; the kernel sends 1"),
  o2hb_heartbeat_timeout_ms: u32(0x10, "(dead threshold - 1) * 2000"),
  o2net_idle_timeout_ms: u32(0x14, "silence after which a connection counts as lost"),
  o2net_keepalive_delay_ms: u32(0x18, "silence after which a keepalive is sent"),
  o2net_reconnect_delay_ms: u32(0x1c, "least time between attempts to connect"),
});
export type O2netHandshake = ViewOf<typeof O2netHandshake>;

/** Heads every message after the handshake. A status repeats the type, key and number of the message it answers. */
export const O2netMsg = struct("o2net_msg", 0x18, "be", {
  magic: u16(0x00, "message, status, keepalive request or response"),
  data_len: u16(0x02, "bytes behind this header; 0 for a status"),
  msg_type: u16(0x04, "which handler"),
  pad1: reserved(0x06, 2),
  sys_status: u32(0x08, "of a status: O2NET_ERR_*"),
  status: u32(0x0c, "of a status: what the handler returned, signed"),
  key: u32(0x10, "which handler of that type"),
  msg_num: u32(0x14, "the sender's number of a message that waits for its status"),
});
export type O2netMsg = ViewOf<typeof O2netMsg>;

/** A header and its payload fit one page. */
export const O2NET_MAX_PAYLOAD_BYTES = 4096 - O2netMsg.size;

/** A node whose heartbeat writes hang asks the lowest live node for more time, and that one grants it (heartbeat.c). */
export const O2HB_NEGO_TIMEOUT_MSG = 1;
export const O2HB_NEGO_APPROVE_MSG = 2;
export const O2hbNegoMsg = struct("o2hb_nego_msg", 0x01, "be", {
  node_num: u8(0x00, "who asks, or grants"),
});
export type O2hbNegoMsg = ViewOf<typeof O2hbNegoMsg>;
