/**
 * What the lock manager and the file system need of the cluster below them: messages to other nodes and news of who lives. o2net and
 * o2hb implement it on the node thread; a proxy carries it to a volume thread; the simulator has its own.
 */

/** A node's number in cluster.conf, 0 to 254. */
export type NodeNum = number;

export const O2NM_MAX_NODES = 255;

/**
 * Handles one message (o2net_msg_handler_func). `payload` is valid during the call. The returned number goes back as the status;
 * negative ones are -errno. `after` in the answer runs once the status has been sent (o2net_post_msg_handler_func). A function is
 * handed a callback, and the status goes back when that is called: the handler runs on another thread.
 */
export type MsgHandler = (
  payload: Uint8Array,
  from: NodeNum,
) => number | { status: number; after: () => void } | ((answer: (status: number) => void) => void);

export interface O2net {
  readonly node_num: NodeNum;
  /**
   * Sends a message (o2net_send_message). `done(err, status)`: `err` 0 and what the handler there returned (signed 32 bits), or a negative
   * errno: -ENOTCONN, -EHOSTDOWN for a node that died before it answered, -ENOPROTOOPT for a message type without handler.
   * Messages to one node arrive in the order of the calls.
   */
  send(
    msg_type: number,
    key: number,
    payload: Uint8Array,
    to: NodeNum,
    done: (err: number, status: number) => void,
  ): void;
  /** Longer payloads than `max_len` are refused as the kernel refuses them. Returns the end of the registration. */
  register(msg_type: number, key: number, max_len: number, handler: MsgHandler): () => void;
  /** Calls `done` once every message that comes in finds what has been registered up to now, on whichever thread it comes in; at once where that is this one. */
  whenRegistered(done: () => void): void;
}

/** What the heartbeat wants to know of its o2net. */
export interface HeartbeatNet extends O2net {
  /** When the connection that stands was made, by the clock of both; undefined: there is none. */
  connectedSince_ms(node: NodeNum): number | undefined;
}

export interface NodeListener {
  /** Lower runs first on up, as in o2hb_register_callback: o2net 0x1, dlm 0x10 and so on. */
  readonly priority: number;
  up(node: NodeNum): void;
  down(node: NodeNum): void;
}

/** News of the heartbeat (o2hb_register_callback, o2hb_fill_node_map). */
export interface O2hb {
  /** Nodes whose heartbeat is live now, this one included. */
  liveNodes(): ReadonlySet<NodeNum>;
  /** It may have died and be back: what died is recovered first, and until then nothing is said to it. */
  isInDoubt?(node: NodeNum): boolean;
  onNodes(listener: NodeListener): () => void;
}
