/**
 * A lock domain on a thread with a ring: its lock manager runs here, its messages go from here to the connections that the main thread has
 * made (cluster/lane.ts), and the main thread says who lives and who can be reached. For a volume, and for the locks of programs.
 */
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { Lane } from "../cluster/lane.ts";
import { ClusterClient, type FromNode, type Members } from "../cluster/proxy.ts";
import { DlmNode } from "../dlm/node.ts";
import { systemRandom } from "../lib/clock.ts";
import { NativeLane } from "../native/lane.ts";
import type { Loop } from "../native/loop.ts";
import type { ClusterOfDomain } from "./worker_messages.ts";

/** How often the main thread hears what was sent and answered. */
const STATS_MS = 1000;

export interface DomainThread {
  readonly node: DlmNode;
  /** Ends it; the domain has been left. */
  close(): void;
}

/** `port` speaks cluster/proxy.ts with the main thread. */
export function attachDomain(
  loop: Loop,
  of: ClusterOfDomain,
  port: MessagePort,
  fatal: (err: Error) => void,
): DomainThread {
  const wire = new NativeLane(loop, of.hub);
  const wake = (): void => loop.wake();
  const lane = new Lane(of.node_num, wire, wake);
  wire.received = (conn, message) => lane.received(conn, message);
  wire.isFull = () => lane.isFull;
  const client = new ClusterClient(of.node_num, of.live, (batch) => port.postMessage(batch), wake, lane);
  let members: Members = of;
  client.onMembers = (now) => {
    members = now;
  };
  let wakes = -1;
  const take = loop.addWork(() => {
    if (wakes !== loop.wakes) {
      wakes = loop.wakes;
      for (let m = receiveMessageOnPort(port); m !== undefined; m = receiveMessageOnPort(port))
        client.heard(m.message as readonly FromNode[]);
    }
    wire.turn();
    return false;
  });
  // Behind all other work: what a turn has to say leaves in that turn.
  const flush = loop.addLast(() => client.flush());
  let cancel_stats = loop.after(STATS_MS, function tell() {
    client.postStats();
    cancel_stats = loop.after(STATS_MS, tell);
  });
  const node = new DlmNode({
    net: client,
    hb: client,
    clock: loop.clock,
    random: systemRandom,
    nodes: () => members.nodes,
    regions: () => members.regions,
    fatal,
  });
  return {
    node,
    close() {
      node.close();
      client.flush();
      cancel_stats();
      take();
      flush();
      lane.close();
      wire.close();
      port.close();
    },
  };
}
