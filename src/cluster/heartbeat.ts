/**
 * Who lives (o2hb, cluster/heartbeat.c): every node writes its block of the heartbeat file every 2 s; a block that changed twice is a
 * node that lives, one that has not changed for the threshold is a node that is dead, one with a new generation died and came back in
 * between. Everything else stands on this: a death that is seen too early gives the locks of a living node away.
 *
 * Pure: samples of the disk come in (native/heartbeat.ts, or the simulator), nodes' coming and going goes out, in the order of the
 * listeners' priorities. The same node may be seen in several regions; it lives while one of them sees it.
 */
import { crc32 } from "node:zlib";
import { O2HB_NEGO_APPROVE_MSG, O2HB_NEGO_TIMEOUT_MSG, O2hbNegoMsg } from "../format/wire/o2net.ts";
import type { Clock } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { assert, FsError } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import type { BeatSample, SlotSample } from "../native/heartbeat.ts";
import { type HeartbeatNet, type NodeListener, type NodeNum, type O2hb, O2NM_MAX_NODES, type O2net } from "./node.ts";
import {
  deadMs,
  maxWriteTimeoutMs,
  type NodeManager,
  O2HB_LIVE_THRESHOLD,
  O2HB_REGION_TIMEOUT_MS,
  O2NM_MAX_REGIONS,
} from "./nodemanager.ts";

/** A slot of a region (o2hb_disk_slot). */
interface Slot {
  /** It has been read: what is in it from then on is news. */
  has_seen: boolean;
  last_time: number;
  last_generation: bigint;
  equal_samples: number;
  changed_samples: number;
  is_live: boolean;
  last_change_ms: number;
  /** When the block of a live node was another one's all of a sudden: it had died, and was back. */
  reborn_ms: number;
}

/** News of a block may be so much younger than the block: it is read every two seconds, by a thread that may be late. */
const LOOK_LAG_MS = 2 * O2HB_REGION_TIMEOUT_MS;

/** A write of ours came when others may have declared us dead. */
interface Doubt {
  readonly since_ms: number;
  /** When the write before it was submitted. */
  readonly before_ms: number;
  asked: boolean;
}

/** What a region asks of its disk part. */
export interface RegionDisk {
  setSlots(first: number, last: number): void;
  /** Deadlines begin; false when it is too early. */
  arm(): boolean;
  /** All nodes' writes hang: the end is put off (o2hb_arm_timeout after an approval). Too late already, the process ends. */
  extend(): void;
  /** A write came so late that writes by others stayed refused; nobody has declared us dead meanwhile, so they may go on. */
  prove(): void;
  /** Writes of others are refused from now on, the heartbeat goes on. */
  shut(): void;
  /** `leave`: the others are told by a generation of 0. The end is reported by HbRegion.ended. */
  stop(leave: boolean): void;
}

export interface RegionStatus {
  name: string;
  state: "starting" | "steady" | "stopping";
  is_quorum: boolean;
  live: NodeNum[];
  /** Ms since our last completed write, and the longest there was between two; how long writes take, lately and at most. */
  age_ms: number;
  worst_gap_ms: number;
  write_ms: number;
  worst_write_ms: number;
}

/** crc32_le(seed, name): the kernel's raw form, without inversions. */
const crc32Le = (seed: number, text: string): number => ~crc32(text, ~seed >>> 0) >>> 0;

export class HbRegion {
  readonly name: string;
  /** In global mode 0 to 31; 0 for all in local mode. */
  readonly num: number;
  /** Key of its negotiation messages (hr_key). */
  readonly key: number;
  readonly #hb: Heartbeat;
  readonly #slots: Slot[] = [];
  #disk: RegionDisk | null = null;
  #started: ((failure: string) => void) | null = null;
  #stopped: (() => void) | null = null;
  #steady: number;
  #unsteady: number;
  /** Beats left in which somebody may come or go: twice for each node, from the last generation's end to the new one. */
  #restless: number;
  #state: RegionStatus["state"] = "starting";
  #has_seen = false;
  #is_armed = false;
  /** This node's last start ended here without a farewell: others may not have noticed yet. */
  was_cut = false;
  /** Set when all live nodes see each other here (global heartbeat). */
  is_quorum = false;
  readonly #nego = new Set<NodeNum>();
  #last_ok = false;
  #cancel_nego: () => void = () => {};
  #cancel_slow: () => void = () => {};
  /** Monotonic ms of our clock when the last good beat was seen, and what the disk's clock said of the one before. */
  #last_beat_ms: number;
  #last_submit_ms = 0;
  #worst_gap_ms = 0;
  #write_ms = 0;
  #worst_write_ms = 0;

  constructor(hb: Heartbeat, name: string, num: number, live_threshold: number, now_ms: number) {
    this.#hb = hb;
    this.name = name;
    this.num = num;
    this.key = crc32Le(num + O2NM_MAX_REGIONS, name);
    // Others get their chance after our first look, and three times as long before we give up (o2hb_region_dev_store).
    this.#steady = live_threshold + 1;
    this.#unsteady = this.#steady * 3;
    // The kernel counts beats with comings and goings as well, and fails the mount when all nodes boot at the same time.
    this.#restless = hb.nodes.nodes().length * 2;
    this.#last_beat_ms = now_ms;
    for (let i = 0; i < O2NM_MAX_NODES; i++) {
      this.#slots.push({
        has_seen: false,
        last_time: 0,
        last_generation: 0n,
        equal_samples: 0,
        changed_samples: 0,
        is_live: false,
        last_change_ms: now_ms,
        reborn_ms: Number.NEGATIVE_INFINITY,
      });
    }
  }

  /** Beats may come in from now on; `started` is called once: "" when steady, else why it never became so. */
  start(disk: RegionDisk, started: (failure: string) => void): void {
    this.#disk = disk;
    this.#started = started;
    this.#watchSlow();
  }

  get isSteady(): boolean {
    return this.#state === "steady";
  }

  liveNodes(): Set<NodeNum> {
    return new Set([...this.#slots.keys()].filter((num) => this.#slots[num]!.is_live));
  }

  status(): RegionStatus {
    return {
      name: this.name,
      state: this.#state,
      is_quorum: this.is_quorum,
      live: [...this.liveNodes()],
      age_ms: this.#hb.clock.monotonic_ms() - this.#last_beat_ms,
      worst_gap_ms: this.#worst_gap_ms,
      write_ms: this.#write_ms,
      worst_write_ms: this.#worst_write_ms,
    };
  }

  /** Ms since the block of a node that is live here was seen to change. */
  sinceChange_ms(node: NodeNum): number {
    return this.#hb.clock.monotonic_ms() - this.#slots[node]!.last_change_ms;
  }

  // ---- who is there already -------------------------------------------------------------------------------------------

  #unknown: { nodes: NodeNum[]; cb: () => void }[] = [];

  /**
   * Calls once each of `nodes` is seen to live, has left, or has not changed its block since we began to look for as long as a node is
   * given. A steady region is not enough to take a node for dead: one whose writes are late for a few beats only would come back and
   * find its journal replayed.
   */
  whenKnown(nodes: readonly NodeNum[], cb: () => void): void {
    this.#unknown.push({ nodes: [...nodes], cb });
    this.#lookForUnknown(true);
  }

  #isKnown(num: NodeNum): boolean {
    const slot = this.#slots[num];
    if (slot === undefined || num === this.#hb.nodes.this_node || this.#hb.liveNodes().has(num)) return true;
    // A node that is not configured here does not heartbeat as far as we can tell.
    if (this.#hb.nodes.node(num) === undefined) return true;
    if (!slot.has_seen) return false;
    if (slot.last_generation === 0n) return true;
    return this.#hb.clock.monotonic_ms() - slot.last_change_ms > deadMs(this.#hb.nodes.timeouts);
  }

  #lookForUnknown(tell = false): void {
    const known = this.#unknown.filter((u) => {
      u.nodes = u.nodes.filter((num) => !this.#isKnown(num));
      if (tell && u.nodes.length > 0)
        mlog(
          ML.NOTICE,
          `o2hb: node ${u.nodes.join(", ")} has the volume mounted, but its heartbeat is not seen: waiting until it must be dead`,
        );
      return u.nodes.length === 0;
    });
    if (known.length === 0) return;
    this.#unknown = this.#unknown.filter((u) => u.nodes.length > 0);
    for (const u of known) u.cb();
  }

  // ---- one beat (o2hb_do_disk_heartbeat) ------------------------------------------------------------------------------

  beat(beat: BeatSample): void {
    if (this.#state === "stopping") return;
    if (!this.#has_seen) {
      this.#populate(beat);
      return;
    }
    const me = this.#hb.nodes.this_node!;
    let changed = false;
    if (beat.read_rc === 0) {
      this.#tellOwnSlot(beat, me);
      if (this.#is_armed) this.#lookForStrangers(beat);
      beat.slots.forEach((seen, i) => {
        const num = beat.first + i;
        if (!this.#slots[num]!.has_seen) this.#populateSlot(num, seen);
        else if (this.#hb.nodes.node(num) !== undefined || this.#hb.liveNodes().has(num))
          changed = this.#checkSlot(num, seen) || changed;
      });
    }
    const failed = beat.read_rc !== 0 ? beat.read_rc : beat.write_rc;
    if (mlogOn(ML.HB_BIO))
      mlog(ML.HB_BIO, `region ${this.name}: read ${beat.read_rc}, write ${beat.write_rc}, own block ${beat.own}`);
    this.#last_ok = failed === 0;
    if (failed !== 0) {
      const [what, why] =
        beat.read_rc !== 0
          ? ["read", "the heartbeat area cannot be read"]
          : ["write", "its device does not take the block"];
      mlog(ML.ERROR, `o2hb: ${what} error ${failed} in region ${this.name}`);
      this.#last_failure = `${why}: errno ${-failed}`;
    }
    if (failed === 0 && beat.own === "ok") this.#goodBeat(beat);
    this.#settle(failed === 0 && beat.own === "ok", changed);
    if (this.#unknown.length > 0) this.#lookForUnknown();
    this.#disk?.setSlots(...this.#hb.slotRange());
  }

  #populate(beat: BeatSample): void {
    if (beat.read_rc !== 0) return this.#abort(`the heartbeat area cannot be read: errno ${-beat.read_rc}`);
    this.#has_seen = true;
    const own = beat.slots[this.#hb.nodes.this_node! - beat.first];
    this.was_cut = own?.crc_ok === true && own.generation !== 0n;
    for (const [i, seen] of beat.slots.entries()) this.#populateSlot(beat.first + i, seen);
  }

  /** What stands there at the first look may be old. A node that is added later has its first look then. */
  #populateSlot(num: NodeNum, seen: SlotSample): void {
    const slot = this.#slots[num]!;
    slot.has_seen = true;
    slot.last_time = seen.seq;
    slot.last_generation = seen.generation;
    slot.last_change_ms = this.#hb.clock.monotonic_ms();
  }

  /**
   * We were away for longer than a node is given. Who came meanwhile need not have asked us for anything; who is gone may have declared us dead before it went, as may
   * one that beats on and is not connected as before.
   */
  #lookForStrangers(beat: BeatSample): void {
    if (beat.submit_ms - this.#last_submit_ms < maxWriteTimeoutMs(this.#hb.nodes.timeouts)) return;
    beat.slots.forEach((seen, i) => {
      const num = beat.first + i;
      const slot = this.#slots[num]!;
      if (!seen.crc_ok || num === this.#hb.nodes.this_node) return;
      if (slot.last_time === seen.seq && slot.last_generation === seen.generation) return;
      if (!slot.is_live || slot.last_generation !== seen.generation)
        this.#hb.fence(`its heartbeat was too late, and node ${num} has gone or come meanwhile`);
      else this.#isConnectedAsBefore(num, this.#beforeGap_ms(beat));
    });
  }

  /** When our write before this one was submitted, by our clock: others had not missed us then. */
  #beforeGap_ms(beat: BeatSample): number {
    return this.#hb.clock.monotonic_ms() - (beat.complete_ms - this.#last_submit_ms);
  }

  /** Who declares a node dead cuts its connection, and makes another when it sees it again. */
  #isConnectedAsBefore(node: NodeNum, before_ms: number): boolean {
    const since_ms = this.#hb.net?.connectedSince_ms(node);
    if (since_ms !== undefined && since_ms <= before_ms) return true;
    this.#hb.fence(`its heartbeat was too late, and its connection with node ${node} is not the one that it had`);
    return false;
  }

  /** o2hb_check_own_slot */
  #tellOwnSlot(beat: BeatSample, me: NodeNum): void {
    if (beat.own === "ok" || beat.own === "unknown") return;
    const what = {
      node: "Another node is heartbeating in our slot",
      generation: "Heartbeat generation mismatch in our slot (is another machine running as this node?)",
      sequence: "Heartbeat sequence mismatch in our slot (does the device lose writes?)",
    }[beat.own];
    mlog(ML.ERROR, `o2hb: ${what}: region ${this.name}, node ${me}`);
    this.#last_failure = what;
  }

  #last_failure = "";

  #goodBeat(beat: BeatSample): void {
    const now_ms = this.#hb.clock.monotonic_ms();
    const gap_ms = beat.submit_ms - this.#last_submit_ms;
    if (this.#is_armed && this.#last_submit_ms > 0 && gap_ms >= maxWriteTimeoutMs(this.#hb.nodes.timeouts))
      this.#doubtful = {
        since_ms: now_ms,
        before_ms: this.#doubtful?.before_ms ?? this.#beforeGap_ms(beat),
        asked: false,
      };
    if (this.#doubtful !== null) this.#prove(this.#doubtful);
    if (this.#last_submit_ms > 0)
      this.#worst_gap_ms = Math.max(this.#worst_gap_ms, beat.submit_ms - this.#last_submit_ms);
    this.#last_submit_ms = beat.submit_ms;
    this.#last_beat_ms = now_ms;
    this.#write_ms = beat.complete_ms - beat.submit_ms;
    this.#worst_write_ms = Math.max(this.#worst_write_ms, this.#write_ms);
    if (this.isSteady) this.#setQuorumDevice();
    if (this.#is_armed) this.#armNego();
  }

  #settle(good: boolean, changed: boolean): void {
    if (this.#state !== "starting") return;
    if (good && changed && --this.#restless >= 0) return;
    if (good && !changed && --this.#steady === 0) {
      this.#state = "steady";
      this.#setQuorumDevice();
      this.#tellStarted("");
      return;
    }
    if (--this.#unsteady === 0) this.#abort(this.#last_failure || "the nodes kept coming and going");
  }

  #abort(why: string): void {
    mlog(ML.NOTICE, `o2hb: Unable to stabilize heartbeat on region ${this.name}: ${why}`);
    this.#tellStarted(why);
    this.stop(false, () => {});
  }

  #tellStarted(failure: string): void {
    const started = this.#started;
    this.#started = null;
    started?.(failure);
  }

  /** In local mode a steady region counts; in global mode one in which all live nodes are seen (o2hb_set_quorum_device). */
  #setQuorumDevice(): void {
    if (this.#is_armed && this.is_quorum) return;
    if (this.#hb.nodes.heartbeat_mode === "global") {
      const here = this.liveNodes();
      const all = this.#hb.liveNodes();
      if (here.size !== all.size || [...all].some((n) => !here.has(n))) return;
      if (!this.is_quorum) mlog(ML.NOTICE, `o2hb: Region ${this.name} is now a quorum device`);
    }
    this.is_quorum = true;
    this.#is_armed = this.#disk?.arm() ?? false;
    if (this.#is_armed) this.#armNego();
  }

  // ---- one slot (o2hb_check_slot) -------------------------------------------------------------------------------------

  #checkSlot(num: NodeNum, seen: SlotSample): boolean {
    const slot = this.#slots[num]!;
    const before_ms = slot.last_change_ms;
    // A read or a write that went astray says nothing of the node (the kernel takes it for a new generation, so for a death).
    const is_its = seen.crc_ok && seen.node === num;
    const is_farewell = is_its && seen.generation === 0n;
    let new_generation = false;
    if (!is_its) {
      // An area that was never written has no checksums.
      if (!slot.is_live) return false;
      const what = seen.crc_ok ? `a block of node ${seen.node}` : "a bad crc";
      mlog(ML.ERROR, `o2hb: Node ${num} has written ${what} to region ${this.name}`);
      slot.equal_samples++;
    } else {
      if (slot.last_time !== seen.seq) {
        slot.changed_samples++;
        slot.last_change_ms = this.#hb.clock.monotonic_ms();
      } else slot.equal_samples++;
      slot.last_time = seen.seq;
      if (slot.last_generation !== seen.generation) {
        // It left and came back between two looks: dead for now, and what it has changed counts for its coming back.
        new_generation = true;
        slot.equal_samples = 0;
        if (slot.is_live && !is_farewell) slot.reborn_ms = this.#hb.clock.monotonic_ms();
        if (mlogOn(ML.HEARTBEAT)) mlog(ML.HEARTBEAT, `node ${num} changed generation`);
      }
      slot.last_generation = seen.generation;
    }

    if (!slot.is_live) {
      if (slot.changed_samples < O2HB_LIVE_THRESHOLD || this.#hb.nodes.node(num) === undefined) return false;
      slot.is_live = true;
      slot.equal_samples = 0;
      const dead_ms = deadMs(this.#hb.nodes.timeouts);
      if (seen.dead_ms !== 0 && seen.dead_ms !== dead_ms) {
        mlog(
          ML.ERROR,
          `o2hb: Node ${num} in region ${this.name} has a dead count of ${seen.dead_ms} ms, but our count is ${dead_ms} ms. ` +
            "Set O2CB_HEARTBEAT_THRESHOLD to the same on all nodes.",
        );
      }
      return this.#hb.seen(this, num);
    }
    if (slot.equal_samples >= this.#hb.nodes.timeouts.dead_threshold || new_generation) {
      slot.is_live = false;
      if (!new_generation) slot.changed_samples = 0;
      return this.#hb.lost(this, num, is_farewell ? undefined : before_ms);
    }
    if (slot.changed_samples > 0) {
      slot.changed_samples = 0;
      slot.equal_samples = 0;
    }
    return false;
  }

  /** What heartbeats as this node here began to after `since_ms`, and not by leaving and coming back. */
  isReborn(node: NodeNum, since_ms: number): boolean {
    return this.#slots[node]!.reborn_ms >= since_ms - LOOK_LAG_MS;
  }

  /** When its block was seen to change last. */
  lastChange_ms(node: NodeNum): number {
    return this.#slots[node]!.last_change_ms;
  }

  /** The node has died: what beats in its name here has to show that it lives. */
  forget(node: NodeNum): void {
    const slot = this.#slots[node]!;
    slot.is_live = false;
    slot.changed_samples = 0;
  }

  /** All know that it has died. */
  forgetBirth(node: NodeNum): void {
    this.#slots[node]!.reborn_ms = Number.NEGATIVE_INFINITY;
  }

  // ---- late writes ----------------------------------------------------------------------------------------------------

  /** Long before a deadline: the disk is slow. */
  #watchSlow(): void {
    let told = 0;
    const look = (): void => {
      const limit_ms = maxWriteTimeoutMs(this.#hb.nodes.timeouts);
      const age_ms = this.#hb.clock.monotonic_ms() - this.#last_beat_ms;
      // Two beats are no delay yet, however short the deadline.
      const quarter = age_ms > 2 * O2HB_REGION_TIMEOUT_MS ? Math.min(3, Math.floor((age_ms * 4) / limit_ms)) : 0;
      if (quarter > told) {
        const s = (n: number): string => (n / 1000).toFixed(1);
        mlog(
          ML.ERROR,
          `o2hb: no heartbeat write to region ${this.name} has completed for ${s(age_ms)} s; ` +
            `writes stop after ${s(deadMs(this.#hb.nodes.timeouts) / 2)} s, this node ends itself after ${s(limit_ms)} s`,
        );
      }
      told = quarter;
      this.#cancel_slow = this.#hb.clock.after(O2HB_REGION_TIMEOUT_MS / 2, look);
    };
    this.#cancel_slow = this.#hb.clock.after(O2HB_REGION_TIMEOUT_MS, look);
  }

  /** Half of the time has passed without a write: ask whether it is only us (o2hb_nego_timeout). */
  #armNego(): void {
    this.#nego.clear();
    this.#queueNego(maxWriteTimeoutMs(this.#hb.nodes.timeouts) / 2);
  }

  #queueNego(ms: number): void {
    this.#cancel_nego();
    this.#cancel_nego = this.#hb.clock.after(ms, () => this.#negotiate());
  }

  #negotiate(): void {
    const net = this.#hb.net;
    const me = this.#hb.nodes.this_node!;
    // What failed is not slow: the deadline is the answer.
    if (!this.#last_ok || net === null || this.#state === "stopping") return;
    const live = this.#hb.liveNodes();
    const master = Math.min(...live);
    const s = maxWriteTimeoutMs(this.#hb.nodes.timeouts) / 2000;
    if (master !== me) {
      mlog(
        ML.NOTICE,
        `o2hb: node ${me} hb write hung for ${s}s on region ${this.name}, negotiate timeout with node ${master}.`,
      );
      net.send(O2HB_NEGO_TIMEOUT_MSG, this.key, this.#negoMsg(me), master, (err) => {
        if (err !== 0) mlog(ML.ERROR, `o2hb: send NEGO_TIMEOUT msg to node ${master} fail ${err}`);
      });
      return;
    }
    if (!this.#nego.has(me)) mlog(ML.NOTICE, `o2hb: node ${me} hb write hung for ${s}s on region ${this.name}.`);
    this.#nego.add(me);
    if ([...live].some((n) => !this.#nego.has(n))) {
      this.#queueNego(1000);
      return;
    }
    mlog(ML.NOTICE, `o2hb: all nodes hb write hung, maybe region ${this.name} is down.`);
    this.#approved();
    for (const node of live) {
      if (node === me) continue;
      net.send(O2HB_NEGO_APPROVE_MSG, this.key, this.#negoMsg(me), node, (err) => {
        if (err !== 0) mlog(ML.ERROR, `o2hb: send NEGO_APPROVE msg to node ${node} fail ${err}`);
      });
    }
  }

  #negoMsg(node: NodeNum): Uint8Array {
    const msg = O2hbNegoMsg.alloc();
    msg.node_num = node;
    return msg.bytes();
  }

  #approved(): void {
    if (!this.#is_armed) return;
    this.#disk?.extend();
    this.#armNego();
  }

  /** Registers the handlers of the negotiation; the end of them. */
  listen(net: O2net): () => void {
    const ends = [
      net.register(O2HB_NEGO_TIMEOUT_MSG, this.key, O2hbNegoMsg.size, (payload, from) => {
        mlog(ML.NOTICE, `o2hb: receive negotiate timeout message from node ${from} on region ${this.name}.`);
        if (payload[0] === from) this.#nego.add(from);
        else mlog(ML.ERROR, "o2hb: got nego timeout message from bad node.");
        return 0;
      }),
      net.register(O2HB_NEGO_APPROVE_MSG, this.key, O2hbNegoMsg.size, () => {
        mlog(ML.NOTICE, `o2hb: negotiate timeout approved by master node on region ${this.name}.`);
        this.#approved();
        return 0;
      }),
    ];
    return () => {
      for (const end of ends) end();
    };
  }

  // ---- a write that was too late --------------------------------------------------------------------------------------

  #doubtful: Doubt | null = null;

  /**
   * The end had been put off because all nodes' writes hung, and ours came later than a node is given. Whoever has declared us dead has cut
   * our connection, so an answer of each live node says that it has not, on a connection from before our write was late: it may have seen us again since,
   and be connected anew. Asked for once all their looks from before our write must be over.
   */
  #prove(doubt: Doubt): void {
    const { nodes, net, clock } = this.#hb;
    const settled_ms = deadMs(nodes.timeouts) / 2 + O2HB_REGION_TIMEOUT_MS;
    if (doubt.asked || clock.monotonic_ms() - doubt.since_ms < settled_ms) return;
    doubt.asked = true;
    const others = new Set(this.#hb.liveNodes());
    others.delete(nodes.this_node!);
    const done = (): void => {
      if (others.size > 0 || this.#doubtful !== doubt) return;
      this.#doubtful = null;
      mlog(ML.NOTICE, `o2hb: region ${this.name}: nobody has declared this node dead, writes go on`);
      this.#disk?.prove();
    };
    for (const node of others) if (!this.#isConnectedAsBefore(node, doubt.before_ms)) return;
    // Nobody listens to this key: that is said, too, by a node that still talks to us.
    for (const node of others)
      net?.send(O2HB_NEGO_TIMEOUT_MSG, ~this.key >>> 0, this.#negoMsg(nodes.this_node!), node, (err) => {
        const gave_up = err !== 0 && err !== -Errno.ENOPROTOOPT && this.#hb.liveNodes().has(node);
        if (!gave_up) others.delete(node);
        if (gave_up)
          this.#hb.fence(`its heartbeat was too late, and node ${node} does not talk to it any more (errno ${-err})`);
        else done();
      });
    done();
  }

  // ---- the end --------------------------------------------------------------------------------------------------------

  /** No more writes by others; the heartbeat goes on while they drain. */
  shut(): void {
    this.#disk?.shut();
  }

  /** Ends the region. Nodes that are seen nowhere else go down for us; with `leave` we do for them, at once. */
  stop(leave: boolean, stopped: () => void): void {
    const before = this.#stopped;
    this.#stopped = () => {
      before?.();
      stopped();
    };
    if (this.#state === "stopping") return;
    this.#state = "stopping";
    this.#cancel_nego();
    this.#cancel_slow();
    this.#tellStarted("it was stopped");
    if (this.#disk === null) this.ended();
    else this.#disk.stop(leave);
  }

  /** The disk part has ended. */
  ended(): void {
    this.#state = "stopping";
    this.#cancel_nego();
    this.#cancel_slow();
    this.#slots.forEach((slot, num) => {
      if (!slot.is_live) return;
      slot.is_live = false;
      this.#hb.lost(this, num);
    });
    this.#hb.remove(this);
    // With global heartbeat one region is as good as another; with local a mount goes with its own.
    const other = this.#hb.regions().find((r) => r.isSteady && this.#hb.nodes.heartbeat_mode === "global");
    for (const u of this.#unknown.splice(0)) other?.whenKnown(u.nodes, u.cb);
    const stopped = this.#stopped;
    this.#stopped = null;
    stopped?.();
  }
}

/** o2hb of one node: all its regions, who lives, and who wants to know. */
export class Heartbeat implements O2hb {
  readonly nodes: NodeManager;
  readonly clock: Clock;
  net: HeartbeatNet | null = null;
  /** This node must stop. Set by the stack. */
  fence: (why: string) => void = () => {};
  /** A region has come or gone. */
  onRegions: () => void = () => {};
  readonly #regions = new Map<string, HbRegion>();
  readonly #ends = new Map<HbRegion, () => void>();
  /** Regions in which a node is seen (o2hb_live_slots). */
  readonly #seen_in = new Map<NodeNum, Set<HbRegion>>();
  readonly #live = new Set<NodeNum>();
  #listeners: NodeListener[] = [];

  constructor(nodes: NodeManager, clock: Clock) {
    this.nodes = nodes;
    this.clock = clock;
    nodes.active_regions = () => this.#regions.size;
  }

  liveNodes(): ReadonlySet<NodeNum> {
    return this.#live;
  }

  /** Listeners of the same priority run in the order in which they came. */
  onNodes(listener: NodeListener): () => void {
    const at = this.#listeners.findIndex((l) => l.priority > listener.priority);
    this.#listeners = this.#listeners.toSpliced(at < 0 ? this.#listeners.length : at, 0, listener);
    return () => {
      this.#listeners = this.#listeners.filter((l) => l !== listener);
    };
  }

  /** O2net starts after the heartbeat is built; the negotiation of late writes needs it. */
  connect(net: HeartbeatNet): void {
    assert(this.net === null, "o2hb has its o2net already");
    this.net = net;
    for (const region of this.#regions.values()) this.#ends.set(region, region.listen(net));
  }

  regions(): HbRegion[] {
    return [...this.#regions.values()];
  }

  region(name: string): HbRegion | undefined {
    return this.#regions.get(name);
  }

  /** A new region, by its volume's UUID. Throws FsError: EEXIST, EFBIG (32 in global mode), EINVAL while we are no node. */
  addRegion(name: string): HbRegion {
    if (this.nodes.this_node === undefined) throw new FsError(Errno.EINVAL, "o2hb", { what: "no local node is set" });
    if (this.#regions.has(name)) throw new FsError(Errno.EEXIST, "o2hb", { region: name });
    let num = 0;
    let live_threshold = O2HB_LIVE_THRESHOLD;
    if (this.nodes.heartbeat_mode === "global") {
      const taken = new Set([...this.#regions.values()].map((r) => r.num));
      while (taken.has(num)) num++;
      if (num >= O2NM_MAX_REGIONS) throw new FsError(Errno.EFBIG, "o2hb", { region: name, most: O2NM_MAX_REGIONS });
      if (taken.size === 0) live_threshold *= 2;
    }
    const region = new HbRegion(this, name, num, live_threshold, this.clock.monotonic_ms());
    this.#regions.set(name, region);
    if (this.net !== null) this.#ends.set(region, region.listen(this.net));
    this.onRegions();
    return region;
  }

  remove(region: HbRegion): void {
    this.#ends.get(region)?.();
    this.#ends.delete(region);
    this.#regions.delete(region.name);
    this.onRegions();
  }

  /** Ms since the node's block was last seen to change, in whichever region; undefined when it is not live. */
  sinceChange_ms(node: NodeNum): number | undefined {
    const ages = [...(this.#seen_in.get(node) ?? [])].map((region) => region.sinceChange_ms(node));
    return ages.length === 0 ? undefined : Math.min(...ages);
  }

  /** The lowest and the highest slot that may hold a node. */
  slotRange(): [number, number] {
    const nums = [...this.nodes.nodes().map((n) => n.num), ...this.#live];
    return [Math.min(...nums), Math.max(...nums)];
  }

  /** A new start of the node was seen in one region, and in another that sees it nothing since then: either may be what lives. */
  isInDoubt(node: NodeNum): boolean {
    const all = this.regions();
    return [...(this.#seen_in.get(node) ?? [])].some((r) =>
      all.some((other) => other !== r && other.isReborn(node, r.lastChange_ms(node))),
    );
  }

  /** A region sees a node; true when it is the first that does. */
  seen(region: HbRegion, node: NodeNum): boolean {
    let where = this.#seen_in.get(node);
    if (where === undefined) this.#seen_in.set(node, (where = new Set()));
    where.add(region);
    if (where.size > 1) return false;
    this.#live.add(node);
    mlog(ML.HEARTBEAT, `node ${node} up`);
    for (const l of this.#listeners) l.up(node);
    return true;
  }

  /**
   * A region sees it no more; true when it was the last, or the node has died. `since_ms`: when its block had changed last, unless it took leave. A
   * node that dies and is back before its time is over comes back to one region after the other, and would never be seen by none (in the kernel
   * it is not, and its locks are never recovered): where one still had the dead one's block when another got the new one's, it was dead.
   */
  lost(region: HbRegion, node: NodeNum, since_ms?: number): boolean {
    const where = this.#seen_in.get(node);
    where?.delete(region);
    if (where === undefined) return false;
    const others = [...where];
    if (others.length > 0) {
      if (since_ms === undefined || !others.some((r) => r.isReborn(node, since_ms))) return false;
      for (const r of others) r.forget(node);
      where.clear();
    }
    this.#live.delete(node);
    for (const r of this.#regions.values()) r.forgetBirth(node);
    mlog(ML.HEARTBEAT, `node ${node} down`);
    for (const l of this.#listeners) l.down(node);
    return true;
  }
}
