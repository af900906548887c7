/**
 * Master list entries (struct dlm_master_list_entry): who is asking for the mastery of a name, before there is a master. MASTER: this
 * node asks. BLOCK: others do, and this one waits for their assertion. MIGRATION: the resource goes from one master to the next.
 */
import type { NodeNum } from "../cluster/node.ts";
import { assert } from "../lib/fs_error.ts";
import { type Dlm, NO_NODE } from "./dlm.ts";
import { NodeMap } from "./node_map.ts";
import { Waiters } from "./waiters.ts";

export type MleType = "block" | "master" | "migration";

export class Mle {
  readonly name: string;
  type: MleType;
  master: NodeNum = NO_NODE;
  new_master: NodeNum = NO_NODE;
  /** Those that may become the master: the lowest will. */
  readonly maybe_map = new NodeMap();
  /** Those that are to be asked. */
  readonly vote_map: NodeMap;
  /** Those that have answered. */
  readonly response_map = new NodeMap();
  /** Members of the domain, as it changes. */
  readonly node_map: NodeMap;
  refs = 1;
  /** A BLOCK and a MIGRATION have one reference that the assertion takes away, or the death of the one who was to assert. */
  owed: boolean;
  inuse = 0;
  woken = false;
  /** A member has died or left, and may be back by now: all are to be asked anew. */
  died = false;
  readonly wq = new Waiters();
  /** Its answer was YES: it knows of us, and its assertion comes after all our requests. */
  said_yes: NodeNum = NO_NODE;

  constructor(dlm: Dlm, type: MleType, name: string) {
    this.type = type;
    this.owed = type !== "master";
    this.name = name;
    this.node_map = dlm.domain_map.copy();
    this.node_map.clear(dlm.node_num);
    this.vote_map = this.node_map.copy();
    dlm.mle_hb_events.add(this);
  }
}

export function insertMle(dlm: Dlm, mle: Mle): void {
  assert(!dlm.mles.has(mle.name), `${mle.name}: two master list entries`);
  dlm.mles.set(mle.name, mle);
}

export function unlinkMle(dlm: Dlm, mle: Mle): void {
  if (dlm.mles.get(mle.name) === mle) dlm.mles.delete(mle.name);
}

export function detachMle(dlm: Dlm, mle: Mle): void {
  dlm.mle_hb_events.delete(mle);
}

/** __dlm_put_mle: the last one out takes it off the list. */
export function putMle(dlm: Dlm, mle: Mle): void {
  assert(mle.refs > 0, `${mle.name}: master list entry put too often`);
  if (--mle.refs > 0) return;
  unlinkMle(dlm, mle);
  detachMle(dlm, mle);
}

/** Takes away the reference that an assertion is owed, once. */
export function putOwed(dlm: Dlm, mle: Mle): void {
  if (!mle.owed) return;
  mle.owed = false;
  putMle(dlm, mle);
}

/**
 * The resource came to this node, by recovery or migration, while others' requests for its mastery stood here: nobody asserts to a master, so the wait
 * for an assertion ends here. The kernel leaves the entry, and whoever needs the name once the resource has gone waits for ever.
 */
export function endBlock(dlm: Dlm, name: string): void {
  const mle = dlm.mles.get(name);
  if (mle?.type !== "block") return;
  mle.master = dlm.node_num;
  wakeMle(dlm, mle);
  unlinkMle(dlm, mle);
  detachMle(dlm, mle);
  putOwed(dlm, mle);
}

export function wakeMle(dlm: Dlm, mle: Mle): void {
  mle.woken = true;
  dlm.wake(mle.wq);
}

/**
 * dlm_hb_event_notify_attached. Waiting tasks look at once, where the kernel's find out after up to 5 s. That the dead said YES counts no more:
 * there is no resource with its name yet, so no recovery would find it (the kernel keeps it, and asks the dead for the lock for ever).
 */
export function notifyMles(dlm: Dlm, node: NodeNum, up: boolean): void {
  for (const mle of dlm.mle_hb_events) {
    if (up) mle.node_map.set(node);
    else {
      mle.node_map.clear(node);
      mle.maybe_map.clear(node);
      mle.died = true;
      if (mle.type === "master" && mle.master === node) mle.master = mle.said_yes = NO_NODE;
    }
    wakeMle(dlm, mle);
  }
}
