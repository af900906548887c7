/**
 * Recovery of nodes that died (journal.c: ocfs2_recovery_thread, ocfs2_recover_node, ocfs2_replay_journal,
 * ocfs2_mark_dead_nodes). Whoever comes first under the super lock replays the dead node's journal; until that is done,
 * nobody in the cluster may read a block that it could change: locks that cover blocks wait (DlmGlue.recovery_map).
 *
 * A slot's journal inode is held at EX by its owner for the whole mount: who gets that lock knows that the owner is dead.
 * The one who recovers keeps it until the slot's local alloc and truncate log are returned to the bitmap, and only after that
 * marks the journal clean and gives the slot free. The kernel stamps both clean at once and loses what was in them if it dies in between; here the
 * next one finds them, and a kernel node that has the slot next knows that it must look. Returning them takes the bitmap's lock, whose holders may wait for another recovery: so it happens after the
 * locks go on.
 */
import { EX, NL } from "../dlmglue/lock_res.ts";
import { LockSet } from "../dlmglue/lock_set.ts";
import { I_FLAGS, JOURNAL_FLAGS, SYSTEM_INODE } from "../format/disk/index.ts";
import { assert, Corruption } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn, type Task, wait } from "../lib/task.ts";
import { WaitQueue } from "../lib/wait.ts";
import { allocRecoverSlot } from "./alloc/suballoc.ts";
import { recoverOrphans } from "./dir/wipe.ts";
import { dinodeOf, readDinode } from "./inode.ts";
import { isLogEmpty, replaySlot } from "./mount_journal.ts";
import type { Osb } from "./osb.ts";
import { freeSlots, nodeSlot, refreshSlotMap, slotNode, writeSlot } from "./slot_map.ts";
import { waitForWriteInPlace, writeBlockInPlace } from "./write_in_place.ts";

/** A slot whose journal was replayed, with the lock on its journal: what is left to do before it is free. */
export interface ReplayedSlot {
  readonly slot: number;
  readonly node: number;
  readonly locks: LockSet;
}

/** Takes the volume's super lock at EX: slots, mounts and recoveries one at a time in the cluster (ocfs2_super_lock). */
export function* superLock(osb: Osb, locks: LockSet): Task<void> {
  yield* wait(osb.step((op) => osb.glue.lock(op.locks, osb.glue.super_lockres, EX), locks));
  refreshSlotMap(osb);
}

/** Tries the lock on a slot's journal (ocfs2_trylock_journal). False: its owner, or who recovers it, lives. */
export function* tryLockJournal(osb: Osb, slot: number, locks: LockSet): Task<boolean> {
  const inode = osb.sysfile(SYSTEM_INODE.JOURNAL, slot);
  const got = yield* wait(osb.step((op) => osb.glue.tryLock(op.locks, osb.glue.metaLock(inode), EX), locks));
  if (got) inode.forget();
  return got;
}

/**
 * Makes whoever has a slot's journal lock give it up: a node of the kernel's that recovered the slot keeps the lock cached, and a
 * trylock calls nobody. Without the super lock, since a recovery that is under way holds both. Not for ever: another mount may have
 * been faster, and keeps the slot.
 */
export function* callJournalLock(osb: Osb, slot: number): Task<void> {
  const locks = new LockSet({ for_recovery: true });
  const res = osb.glue.metaLock(osb.sysfile(SYSTEM_INODE.JOURNAL, slot));
  let over = false;
  const cancelTimer = osb.clock.after(CALL_MS, () => {
    over = true;
    locks.withdraw();
    res.wakeWaiters();
    osb.wakeLoop();
  });
  try {
    yield* wait(osb.step((op) => void (over || osb.glue.lock(op.locks, res, EX)), locks));
  } finally {
    cancelTimer();
    locks.releaseAll();
    yield* osb.glue.cancelTask(res);
  }
}

/** Releases a journal's lock and leaves nothing of it in the domain: others try for it to see who lives. */
export function* dropJournalLock(osb: Osb, slot: number, locks: LockSet): Task<void> {
  const res = osb.glue.metaLock(osb.sysfile(SYSTEM_INODE.JOURNAL, slot));
  if (locks.level(res) !== undefined) locks.release(res);
  if (res.isFree && res.level !== NL) yield* osb.glue.giveUpTask(res);
}

export function* isJournalDirty(osb: Osb, slot: number): Task<boolean> {
  return yield* wait(
    osb.step((op) => {
      const di = dinodeOf(op, readDinode(op, osb.sysfile(SYSTEM_INODE.JOURNAL, slot)));
      if ((di.i_flags & I_FLAGS.JOURNAL) === 0) throw new Corruption("journal", { slot, found: "not a journal inode" });
      return (di.ij_flags & JOURNAL_FLAGS.DIRTY) !== 0;
    }),
  );
}

/**
 * Sets or clears the journal inode's dirty flag, durably (ocfs2_journal_toggle_dirty). After a replay the recovery generation moves: a
 * kernel node that was about to replay the same journal sees that it was done.
 */
export function* journalToggleDirty(osb: Osb, slot: number, dirty: boolean, replayed: boolean): Task<void> {
  const bh = yield* wait(
    osb.step((op) => {
      const bh = readDinode(op, osb.sysfile(SYSTEM_INODE.JOURNAL, slot));
      waitForWriteInPlace(bh);
      const di = dinodeOf(op, bh);
      di.ij_flags = dirty ? di.ij_flags | JOURNAL_FLAGS.DIRTY : di.ij_flags & ~JOURNAL_FLAGS.DIRTY;
      if (replayed) di.ij_recovery_generation = (di.ij_recovery_generation + 1) >>> 0;
      return bh;
    }),
  );
  yield* writeBlockInPlace(osb, bh);
}

/** The recovery generation of a slot as it is on the disk now: who has replayed its journal has moved it. */
function* readGeneration(osb: Osb, slot: number): Task<number> {
  const inode = osb.sysfile(SYSTEM_INODE.JOURNAL, slot);
  inode.forget();
  return yield* wait(osb.step((op) => dinodeOf(op, readDinode(op, inode)).ij_recovery_generation));
}

/**
 * The part that others wait for, under the super lock: the journal of a slot whose owner is dead is replayed. Undefined when
 * the owner lives after all, or another node is at it (ocfs2_recover_node, ocfs2_replay_journal). The generation moves even
 * when there was nothing to replay: it says to the other nodes that this slot is taken care of.
 */
export function* replayDead(osb: Osb, slot: number, node: number): Task<ReplayedSlot | undefined> {
  const locks = new LockSet({ for_recovery: true });
  if (!(yield* tryLockJournal(osb, slot, locks))) return undefined;
  try {
    const dirty = yield* isJournalDirty(osb, slot);
    if (dirty) {
      mlog(ML.NOTICE, `replaying the journal of node ${node}, slot ${slot}`);
      yield* replaySlot(osb, slot);
    }
    yield* journalToggleDirty(osb, slot, dirty, true);
  } catch (err) {
    yield* dropJournalLock(osb, slot, locks);
    throw err;
  }
  return { slot, node, locks };
}

/**
 * The slot of a dead node is free, if it did not come back to it meanwhile, and then died again perhaps. The super lock comes first and the journal's is only tried: a kernel node
 * that mounts holds the super lock while it waits for its journal.
 */
function* freeSlot(osb: Osb, slot: number, node: number): Task<void> {
  const locks = new LockSet({ for_recovery: true });
  try {
    yield* superLock(osb, locks);
    if ((yield* wait(osb.step((op) => slotNode(op, slot)))) !== node) return;
    if (!(yield* tryLockJournal(osb, slot, locks))) return;
    if (!(yield* isJournalDirty(osb, slot))) yield* writeSlot(osb, slot, undefined);
    yield* dropJournalLock(osb, slot, locks);
  } finally {
    locks.releaseAll();
  }
}

/**
 * Lets a journal's lock go when another node waits for it while we wait for a recovery: a kernel node that is back has the super lock then, which
 * that recovery needs. What is left to do it sees by the dirty journal. Call the result when there is nothing to let go of any more.
 */
function letGoIfWanted(osb: Osb, { slot, locks }: ReplayedSlot): () => void {
  const res = osb.glue.metaLock(osb.sysfile(SYSTEM_INODE.JOURNAL, slot));
  let cancel = (): void => {};
  const look = (): void => {
    if (res.blocking === NL || osb.glue.recovery_map.size === 0) cancel = osb.clock.after(WANTED_MS, look);
    else if (locks.level(res) !== undefined) locks.release(res);
  };
  look();
  return () => cancel();
}

/**
 * The rest, beside normal work: what the dead node had set aside returns to the bitmap, its slot is free, its orphans go; where this node may not write
 * the journal stays dirty, for one that may. False when another node wanted it first.
 */
export function* finishSlot(osb: Osb, dead: ReplayedSlot): Task<boolean> {
  const { slot, node, locks } = dead;
  if (osb.readonly_reason !== null) {
    yield* dropJournalLock(osb, slot, locks);
    mlog(ML.NOTICE, `slot ${slot} of node ${node} is freed by a node that may write (here: ${osb.readonly_reason})`);
    return true;
  }
  const isOurs = (): boolean => locks.size > 0;
  const cancel = letGoIfWanted(osb, dead);
  try {
    yield* allocRecoverSlot(osb, slot, isOurs);
    yield* wait(osb.journal.flush);
    cancel();
    if (!isOurs()) return false;
    yield* journalToggleDirty(osb, slot, false, false);
  } finally {
    cancel();
    yield* dropJournalLock(osb, slot, locks);
  }
  yield* freeSlot(osb, slot, node);
  yield* deleteOrphans(osb, [slot]);
  return true;
}

function* deleteOrphans(osb: Osb, slots: readonly number[]): Task<void> {
  if (osb.readonly_reason !== null) return;
  for (const slot of slots) {
    const gone = yield* recoverOrphans(osb, slot);
    if (gone > 0) mlog(ML.NOTICE, `${gone} orphans of slot ${slot} deleted`);
  }
}

/** Between two looks whether another node waits for the lock of a journal. */
const WANTED_MS = 500;
/** So long a mount calls for the lock of the slot that it wants before it looks at the slots again. */
const CALL_MS = 2000;
/** Between two tries for the journal's lock of a node that just died, and how many: two minutes. */
const RETRY_MS = 50;
const MAX_TRIES = 2400;
/** After a recovery that failed, and at most. */
const AGAIN_MS = 1000;
const AGAIN_MOST_MS = 60_000;
/** Between two looks at a slot that another node recovers, and how many. */
const LOOK_AGAIN_MS = 5000;
const MAX_LOOKS = 24;

/** The recovery of one mount: what is to be done, and what is under way. */
export class Recovery {
  readonly #osb: Osb;
  #enabled = false;
  #running = false;
  #stopped = false;
  /** We unmount: what fails now is not tried again. */
  #last_try = false;
  /** How long the next attempt is put off, as the last one has failed; 0: it has not. */
  #again_ms = 0;
  #cancel_again: (() => void) | null = null;
  /** Slots that are being finished. */
  #finishing = 0;
  readonly #idle = new WaitQueue();
  /** Nodes whose slots somebody else was recovering when we looked, and how often: looked at again, for that one may die. */
  readonly #others = new Map<number, number>();
  #cancel_look: (() => void) | null = null;
  /** Recovery generations of all slots as we last saw them. */
  #generations: number[] = [];
  recovered = 0;

  constructor(osb: Osb) {
    this.#osb = osb;
  }

  /** A member of the domain died. Called before any of its locks is granted anew. */
  nodeDown(node: number): void {
    if (this.#stopped) return;
    const { glue } = this.#osb;
    mlog(ML.NOTICE, `node ${node} died`);
    if (!this.#osb.sabotage.has("recovery_wait")) glue.recovery_map.add(node);
    else this.#others.set(node, 0);
    this.#start();
  }

  /** What the disk says of all slots: at mount and after each recovery, under the super lock (ocfs2_check_journals_nolocks). */
  *refreshGenerations(): Task<void> {
    const osb = this.#osb;
    const all: number[] = [];
    for (let slot = 0; slot < osb.geo.max_slots; slot++)
      all.push(slot === osb.slot_num ? 0 : yield* readGeneration(osb, slot));
    this.#generations = all;
  }

  /** From now on recoveries run: the journal is there. Those that were asked for before begin. */
  enable(): void {
    this.#enabled = true;
    if (this.#osb.glue.recovery_map.size > 0) this.#start();
  }

  get busy(): boolean {
    return this.#running || this.#finishing > 0;
  }

  /**
   * The unmount begins. What has failed so far is tried once more; then it is for who mounts next, and who waits for it here hears EIO: they, and
   * the unmount, would wait for ever.
   */
  lastTry(): void {
    this.#last_try = true;
    if (this.#again_ms > 0) this.#start();
  }

  /** Nothing is under way, nor about to be: what has failed is tried again later. */
  get settled(): boolean {
    return !this.busy && (!this.#enabled || this.#again_ms > 0 || this.#osb.glue.recovery_map.size === 0);
  }

  *settle(): Task<void> {
    while (!this.settled) yield* wait<void>((cb) => this.#idle.add(() => cb(null)));
  }

  /** No new recovery begins (ocfs2_recovery_exit). From here on a death holds nothing up: no block may be read under a lock that comes now. */
  stop(): void {
    assert(this.settled, "a recovery is under way");
    this.#stopped = true;
    this.#enabled = false;
    this.#cancel_look?.();
    this.#cancel_look = null;
    this.#cancel_again?.();
  }

  #start(): void {
    if (!this.#enabled || this.#running || this.#osb.glue.recovery_given_up) return;
    this.#running = true;
    spawn(this.#thread(), (err) => {
      this.#running = false;
      if (err) this.#failed(err);
      else {
        this.#again_ms = 0;
        if (this.#osb.glue.recovery_map.size > 0) this.#start();
      }
      this.#idle.wakeAll();
    });
  }

  /**
   * Tried again, as a path to the disk may come back: until then all that waits for the dead waits here, and what it holds others wait for. The kernel's
   * thread tries without a pause.
   */
  #failed(err: unknown): void {
    this.#again_ms = Math.min(this.#again_ms === 0 ? AGAIN_MS : 2 * this.#again_ms, AGAIN_MOST_MS);
    const { glue } = this.#osb;
    const dead = [...glue.recovery_map].join(", ");
    const what = err instanceof Error ? err.message : String(err);
    this.#cancel_again?.();
    this.#cancel_again = null;
    if (this.#last_try) {
      mlog(ML.ERROR, `recovery of node ${dead}: ${what}; left to who mounts next`);
      glue.recovery_given_up = true;
      glue.recovery_done.wakeAll();
      return;
    }
    mlog(
      ML.ERROR,
      `recovery of node ${dead}: ${what}; tried again in ${this.#again_ms / 1000} s. If it goes on, unmount`,
    );
    this.#cancel_again = this.#osb.clock.after(this.#again_ms, () => {
      this.#cancel_again = null;
      this.#start();
      this.#osb.wakeLoop();
    });
  }

  *#thread(): Task<void> {
    const osb = this.#osb;
    const { recovery_map, recovery_done } = osb.glue;
    const locks = new LockSet({ for_recovery: true });
    try {
      yield* superLock(osb, locks);
      do {
        for (const node of [...recovery_map]) {
          yield* this.#recoverNode(node, true);
          recovery_map.delete(node);
        }
        for (const node of [...this.#others.keys()]) yield* this.#recoverNode(node, false);
      } while (recovery_map.size > 0);
      yield* this.refreshGenerations();
      this.#lookAgain();
      recovery_done.wakeAll();
      this.deleteOrphans([osb.slot_num, ...(yield* wait(osb.step(freeSlots)))]);
    } finally {
      locks.releaseAll();
    }
  }

  /**
   * `just_died`: the lock manager may not yet have taken the dead node's locks away, so that a refusal says nothing. Only a generation
   * that has moved says that another node was faster, or a log with nothing in it: had it moved before we mounted we would not know.
   */
  *#recoverNode(node: number, just_died: boolean): Task<void> {
    const osb = this.#osb;
    const slot = yield* wait(osb.step((op) => nodeSlot(op, node)));
    if (slot === undefined || slot === osb.slot_num) {
      this.#others.delete(node);
      return;
    }
    for (let tries = 0; ; tries++) {
      const dead = yield* replayDead(osb, slot, node);
      if (dead !== undefined) {
        this.#others.delete(node);
        this.recovered++;
        this.finish(dead);
        return;
      }
      const moved = (yield* readGeneration(osb, slot)) !== this.#generations[slot];
      if (moved || !just_died || tries >= MAX_TRIES || (yield* isLogEmpty(osb, slot))) break;
      yield* wait<void>((cb) => osb.clock.after(RETRY_MS, () => cb(null)));
    }
    this.#others.set(node, (this.#others.get(node) ?? 0) + 1);
  }

  /** Who was faster than we may die before it has given the slot free. */
  #lookAgain(): void {
    const osb = this.#osb;
    for (const [node, looks] of this.#others) if (looks > MAX_LOOKS) this.#others.delete(node);
    if (this.#others.size === 0 || this.#cancel_look !== null || !this.#enabled) return;
    this.#cancel_look = osb.clock.after(LOOK_AGAIN_MS, () => {
      this.#cancel_look = null;
      this.#start();
      osb.wakeLoop();
    });
  }

  /** Starts the second part of a slot's recovery. */
  finish(dead: ReplayedSlot): void {
    this.#background(`recovery of slot ${dead.slot}`, () => this.#finish(dead));
  }

  *#finish(dead: ReplayedSlot): Task<void> {
    if (yield* finishSlot(this.#osb, dead)) return;
    // Who wanted it may die, too.
    this.#others.set(dead.node, 0);
    this.#lookAgain();
  }

  /**
   * At mount and after a death: our own slot and those that nobody holds. What a node had open and others, or somebody who has left since, could
   * not delete for that, has no other to delete it (ocfs2_complete_mount_recovery, ocfs2_queue_replay_slots).
   */
  deleteOrphans(slots: readonly number[]): void {
    this.#background("orphans", () => deleteOrphans(this.#osb, slots));
  }

  #background(what: string, make: () => Task<unknown>): void {
    this.#finishing++;
    this.#osb.ready(() =>
      spawn(make(), (err) => {
        if (err) mlog(ML.ERROR, `${what}:`, err instanceof Error ? err.message : String(err));
        this.#finishing--;
        this.#idle.wakeAll();
      }),
    );
  }
}
