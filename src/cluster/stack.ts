/**
 * The cluster stack of one node, put together: node manager, heartbeat, quorum, o2net. The node process builds it over TCP and real
 * disks, the simulator over simulated ones.
 *
 * Leaving and fencing differ in one thing: who leaves tells the others (generation 0), because nothing of it is left to do. Who fences itself
 * shuts the gate for writes first; what the device has already got may drain while the heartbeat goes on, and only then the process ends.
 */
import type { Clock } from "../lib/clock.ts";
import { ML, mlog } from "../lib/masklog.ts";
import type { Transport } from "../lib/transport.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { NodeManager } from "./nodemanager.ts";
import { Quorum } from "./quorum.ts";
import { O2netStack } from "./tcp.ts";

export interface ClusterDeps {
  readonly nodes: NodeManager;
  readonly clock: Clock;
  readonly transport: Transport;
  /**
   * This node must stop (o2quo_fence_self): the leases are shut already. Let what is in flight drain, then end the process (`exit`) or
   * the machine (`reset`). Called once.
   */
  readonly fence: (why: string) => void;
}

export class ClusterStack {
  readonly nodes: NodeManager;
  readonly hb: Heartbeat;
  readonly quorum: Quorum;
  readonly net: O2netStack;
  readonly #fence: (why: string) => void;
  #fenced = "";

  constructor(deps: ClusterDeps) {
    const { nodes, clock, transport } = deps;
    this.nodes = nodes;
    this.#fence = deps.fence;
    this.hb = new Heartbeat(nodes, clock);
    this.hb.fence = (why) => this.fence(why);
    this.quorum = new Quorum(nodes.this_node!, (why) => this.fence(why));
    this.net = new O2netStack({ nodes, hb: this.hb, quorum: this.quorum, transport, clock });
    this.hb.connect(this.net);
  }

  /** Why this node had to stop; "" while it may go on. */
  get fenced(): string {
    return this.#fenced;
  }

  /** Listens on this node's address; `done` gets "" or what failed, with the remedy. */
  start(done: (failure: string) => void): void {
    this.net.startListening(done);
  }

  fence(why: string): void {
    if (this.#fenced !== "") return;
    this.#fenced = why;
    mlog(ML.ERROR, `*** ocfs2 is very sorry to be fencing this node: ${why} ***`);
    for (const region of this.hb.regions()) region.shut();
    this.#fence(why);
  }

  /** Leaves all regions, the others told, then the network. */
  stop(done: () => void): void {
    const regions = this.hb.regions();
    let left = regions.length;
    const finish = (): void => {
      this.net.stopListening();
      done();
    };
    if (left === 0) finish();
    for (const region of regions) region.stop(true, () => --left === 0 && finish());
  }
}
