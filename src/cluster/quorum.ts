/**
 * When a node has to give up (quorum.c). Two nodes that both heartbeat but cannot talk must not both go on: each would grant locks without
 * the other. Who cannot reach the majority of those that heartbeat fences itself; of two equal halves, the one without the lowest
 * node. The decision waits until the fate of every node in question is known ("holds"): one that died must not count as unreachable.
 *
 * State in, decision out: this object has no time of its own. o2net says when a connection came, was lost, and has been lost for so long
 * that the node's heartbeat would have stopped; o2hb says who heartbeats.
 */
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import type { NodeNum } from "./node.ts";

export interface QuorumEvents {
  hbUp(node: NodeNum): void;
  hbDown(node: NodeNum): void;
  hbStillUp(node: NodeNum): void;
  connLost(node: NodeNum): void;
  connUp(node: NodeNum): void;
  connErr(node: NodeNum): void;
}

export type Decision = { readonly fence: false } | { readonly fence: true; readonly why: string };

/** The rule itself, of the sets alone (o2quo_make_decision). */
export function decide(
  this_node: NodeNum,
  heartbeating: ReadonlySet<NodeNum>,
  connected: ReadonlySet<NodeNum>,
): Decision {
  const hb = heartbeating.size;
  if (!heartbeating.has(this_node) || hb === 1) return { fence: false };
  const needed = hb % 2 === 1 ? (hb + 1) / 2 : hb / 2;
  if (connected.size < needed) {
    return {
      fence: true,
      why: `only connected to ${connected.size} nodes and ${needed} is needed to make a quorum out of ${hb} heartbeating nodes`,
    };
  }
  const lowest = Math.min(...heartbeating);
  if (hb % 2 === 0 && connected.size === needed && !connected.has(lowest)) {
    return {
      fence: true,
      why: `connected to a half-quorum of ${needed} out of ${hb} nodes which doesn't include the lowest active node ${lowest}`,
    };
  }
  return { fence: false };
}

export class Quorum implements QuorumEvents {
  readonly #this_node: NodeNum;
  readonly #fence: (why: string) => void;
  readonly #hb = new Set<NodeNum>();
  readonly #conn = new Set<NodeNum>();
  /** Nodes whose fate is open: heartbeat without connection, or the other way about. */
  readonly #holds = new Set<NodeNum>();
  #pending = false;
  #fenced = false;

  /** `fence` is called once, when this node has to stop (o2quo_fence_self); `conn` counts this node itself from listening on, as the kernel. */
  constructor(this_node: NodeNum, fence: (why: string) => void) {
    this.#this_node = this_node;
    this.#fence = fence;
  }

  get state(): { heartbeating: NodeNum[]; connected: NodeNum[]; holds: NodeNum[]; pending: boolean } {
    return { heartbeating: [...this.#hb], connected: [...this.#conn], holds: [...this.#holds], pending: this.#pending };
  }

  /** o2quo_hb_up */
  hbUp(node: NodeNum): void {
    assert(!this.#hb.has(node), `quorum: heartbeat of node ${node} came up twice`);
    this.#hb.add(node);
    this.#log(node, "heartbeats");
    if (this.#conn.has(node)) this.#clearHold(node);
    else this.#holds.add(node);
  }

  /** o2quo_hb_down */
  hbDown(node: NodeNum): void {
    assert(this.#hb.has(node), `quorum: heartbeat of node ${node} went down, but was not up`);
    this.#hb.delete(node);
    this.#log(node, "heartbeats no more");
    this.#clearHold(node);
  }

  /** o2quo_conn_up */
  connUp(node: NodeNum): void {
    assert(!this.#conn.has(node), `quorum: connection to node ${node} came up twice`);
    this.#conn.add(node);
    this.#log(node, "is connected");
    if (this.#hb.has(node)) this.#clearHold(node);
    else this.#holds.add(node);
  }

  /** o2quo_conn_err */
  connErr(node: NodeNum): void {
    if (!this.#conn.delete(node)) return;
    this.#log(node, "is connected no more");
    if (this.#hb.has(node)) this.#holds.add(node);
  }

  /** o2quo_hb_still_up: the connection is lost for good, and the node still heartbeats. */
  hbStillUp(node: NodeNum): void {
    this.#pending = true;
    this.#log(node, "still heartbeats");
    this.#clearHold(node);
  }

  /** The connection to a node that heartbeats cannot be had again, and the other will not go: this node has to. */
  connLost(node: NodeNum): void {
    this.#end(`without a connection to node ${node}, which heartbeats, and messages between the two may be lost`);
  }

  #log(node: NodeNum, what: string): void {
    if (mlogOn(ML.QUORUM))
      mlog(ML.QUORUM, `node ${node} ${what}: ${this.#hb.size} heartbeat, ${this.#conn.size} connected`);
  }

  #end(why: string): void {
    if (this.#fenced) return;
    this.#fenced = true;
    mlog(ML.ERROR, `fencing this node because it is ${why}`);
    this.#fence(why);
  }

  #clearHold(node: NodeNum): void {
    if (!this.#holds.delete(node)) return;
    if (this.#holds.size > 0 || !this.#pending) return;
    this.#pending = false;
    const decision = decide(this.#this_node, this.#hb, this.#conn);
    if (decision.fence) {
      this.#end(decision.why);
      return;
    }
    mlog(ML.NOTICE, `not fencing this node, heartbeating: ${this.#hb.size}, connected: ${this.#conn.size}`);
  }
}
