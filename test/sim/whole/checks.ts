/**
 * What is looked at after every step, by somebody who sees all nodes at once: locks that exclude each other, masters, LVBs, dirty blocks,
 * journals of the dead, and who writes to the disk. The rest, what programs read, is compared by the histories (history.ts, model.ts).
 */

import { NO_TID } from "../../../src/block/buffer_cache.ts";
import { RES_BUSY, RES_DROPPING_REF } from "../../../src/dlm/lockres.ts";
import type { LockRes } from "../../../src/dlmglue/lock_res.ts";
import type { LockSet } from "../../../src/dlmglue/lock_set.ts";
import { Dinode, JOURNAL_FLAGS, SYSTEM_INODE } from "../../../src/format/disk/index.ts";
import {
  type ConvertOptions,
  type DomainLock,
  EX,
  type LockCallbacks,
  type LockDomain,
  type LockLevel,
  NL,
} from "../../../src/stackglue/lock_domain.ts";
import type { O2cbDomain } from "../../../src/stackglue/o2cb.ts";
import type { Inode } from "../../../src/volume/inode.ts";
import { SLOT_BYTES } from "./heartbeat_thread.ts";
import type { SimNode } from "./node.ts";
import type { SimProcess } from "./threads.ts";
import type { World } from "./world.ts";

/** One lock name, as the whole cluster has it. */
interface Shared {
  readonly levels: Map<SimNode, LockLevel>;
  /** What the last holder at EX wrote, null while that is not known. */
  lvb: Uint8Array | null;
  /** The value may have been lost since: it is zero then. */
  may_be_lost: boolean;
  /** Whose it was last at EX. */
  last_ex: SimNode | null;
}

interface Watched {
  readonly name: string;
  level: LockLevel;
  asked: LockLevel | null;
  lvb_asked: boolean;
}

interface DeadJournal {
  readonly num: number;
  readonly slot: number;
  /** Moves when its journal is replayed. */
  readonly generation: number;
  /** Meta locks that it held at EX. */
  readonly names: ReadonlySet<string>;
}

/** The inode of a meta lock's name. */
const inoOf = (name: string): number => Number.parseInt(name.slice(7, 23), 16);
const isZero = (bytes: Uint8Array): boolean => bytes.every((b) => b === 0);
const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((x, i) => x === b[i]);

export class Checks {
  readonly #world: World;
  readonly #shared = new Map<string, Shared>();
  /** Journals of the dead that nobody has replayed yet. */
  readonly #unreplayed = new Set<DeadJournal>();
  /** Processes that others have declared dead. */
  readonly #outcast = new WeakMap<SimProcess, SimNode>();
  grants = 0;
  lvbs_read = 0;
  lvbs_lost = 0;
  replays = 0;

  constructor(world: World) {
    this.#world = world;
    world.disk.onWrite = (process, offset) => this.#wrote(process, offset);
  }

  #fault(text: string): void {
    this.#world.fault(text);
  }

  #of(name: string): Shared {
    let s = this.#shared.get(name);
    if (s === undefined)
      this.#shared.set(name, (s = { levels: new Map(), lvb: null, may_be_lost: true, last_ex: null }));
    return s;
  }

  // Locks ---------------------------------------------------------------------------------------------------------------
  /** The domain of a node, with somebody who listens. */
  watchDomain(node: SimNode, inner: O2cbDomain): LockDomain {
    const locks = new Map<DomainLock, Watched>();
    const { grantedTo, lowered } = this.#watcher(node);
    const domain: LockDomain = {
      name: inner.name,
      clustered: true,
      node_num: inner.node_num,
      newLock: (name: string, callbacks: LockCallbacks): DomainLock => {
        const w: Watched = { name, level: NL, asked: null, lvb_asked: false };
        const lock = inner.newLock(name, {
          ast: (status) => {
            if (status === 0 && w.asked !== null) grantedTo(w, lock);
            w.asked = null;
            callbacks.ast(status);
          },
          bast: (level) => callbacks.bast(level),
        });
        locks.set(lock, w);
        return lock;
      },
      convert: (lock: DomainLock, level: LockLevel, options?: ConvertOptions): void => {
        const w = locks.get(lock)!;
        if (level < w.level) lowered(w, lock, level, options?.lvb === true);
        w.asked = level;
        w.lvb_asked = options?.lvb === true;
        inner.convert(lock, level, options);
      },
      cancel: (lock) => inner.cancel(lock),
      unlock: (lock, done, options): void => {
        const w = locks.get(lock)!;
        lowered(w, lock, NL, options?.lvb === true);
        locks.delete(lock);
        inner.unlock(lock, done, options);
      },
      get onNodeDown() {
        return inner.onNodeDown;
      },
      set onNodeDown(hear) {
        inner.onNodeDown = hear;
      },
      leave: (done) => {
        this.lvbsMayBeLost();
        inner.leave(done);
      },
    };
    return domain;
  }

  #watcher(node: SimNode) {
    const lowered = (w: Watched, lock: DomainLock, level: LockLevel, lvb: boolean): void => {
      const s = this.#of(w.name);
      if (this.#outcast.has(node.process)) return;
      if (w.level === EX && lvb) {
        s.lvb = lock.lvb.slice();
        s.may_be_lost = this.#world.unsettled;
      }
      w.level = level;
      s.levels.set(node, level);
      this.#checkIdle(s);
    };
    const grantedTo = (w: Watched, lock: DomainLock): void => {
      const level = w.asked!;
      if (level <= w.level || this.#outcast.has(node.process)) return;
      const from = w.level;
      w.level = level;
      this.grants++;
      const s = this.#of(w.name);
      this.#world.event("grant", node.num, level);
      for (const [other, held] of s.levels)
        if (other !== node && held !== NL && (held === EX || level === EX))
          this.#fault(`${text(w.name)}: node ${node.num} is granted ${level} while node ${other.num} holds ${held}`);
      s.levels.set(node, level);
      this.#checkMaster(w.name);
      if (w.lvb_asked && from === NL) this.#readLvb(node, w.name, s, lock.lvb);
      this.#checkClean(node, w.name, s);
      if (level === EX) s.last_ex = node;
    };
    return { lowered, grantedTo };
  }

  /** When nobody has the lock any more its resource may be purged, and the value with it. */
  #checkIdle(s: Shared): void {
    for (const level of s.levels.values()) if (level !== NL) return;
    s.may_be_lost = true;
  }

  #readLvb(node: SimNode, name: string, s: Shared, found: Uint8Array): void {
    this.lvbs_read++;
    if (s.lvb === null) return;
    if (same(found, s.lvb)) return;
    // Lost to one: who has it still may bring it back when the next master asks.
    if (s.may_be_lost && isZero(found)) {
      this.lvbs_lost++;
      return;
    }
    const hex = (b: Uint8Array): string => Buffer.from(b).toString("hex");
    this.#fault(`${text(name)}: node ${node.num} reads the LVB ${hex(found)}, written last was ${hex(s.lvb)}`);
  }

  /** After a death, or while somebody leaves, a value may be lost; never an old one found. */
  lvbsMayBeLost(): void {
    for (const s of this.#shared.values()) s.may_be_lost = true;
  }

  /** One master for each resource, of those that are not in the middle of something. */
  #checkMaster(name: string): void {
    let master: SimNode | null = null;
    for (const node of this.#world.nodes.values()) {
      if (!node.alive || this.#outcast.has(node.process)) continue;
      const res = node.domain?.dlm.lockres.get(name);
      if (res === undefined || res.owner !== node.num || (res.state & (RES_BUSY | RES_DROPPING_REF)) !== 0) continue;
      if (master !== null) this.#fault(`${text(name)} is mastered by nodes ${master.num} and ${node.num}`);
      master = node;
    }
  }

  /** What one node has dirty, in memory or in a log that would be replayed, no other may read or write. */
  #checkClean(node: SimNode, name: string, s: Shared): void {
    const before = s.last_ex;
    if (before === null || before === node || !before.mounted || this.#outcast.has(before.process)) return;
    if (name[0] !== "M") return;
    const ino = inoOf(name);
    const { osb } = before;
    const inode = osb.inodes.peek(ino);
    // Who used the file that was there before looks whether it is gone (unusedInode), and is told so; nobody has told it of the new one, which may
    // be deleted again by now.
    const former = node.osb.inodes.peek(ino)?.generation ?? 0;
    if (former !== 0 && (inode === undefined || osb.unshared.has(inode)) && former !== this.#generationOn(before, ino))
      return;
    for (const bh of osb.cache.blocks())
      if (bh.ci?.ci_blkno === ino && (bh.in_running || bh.in_committing || bh.checkpoint_tid !== NO_TID))
        this.#fault(
          `${text(name)} is granted to node ${node.num}, but block ${bh.blkno} of it is ${bh.checkpoint_tid === NO_TID ? "dirty" : "in the log"} on node ${before.num}`,
        );
    if (inode !== undefined && (inode.dirty_pages > 0 || inode.pages_in_flight > 0))
      this.#fault(`${text(name)} is granted to node ${node.num}, but node ${before.num} has dirty pages of it`);
  }

  /** Of the file whose block it is as `node` has it in memory. */
  #generationOn({ osb }: SimNode, ino: number): number | undefined {
    const inode = osb.inodes.peek(ino);
    if (inode !== undefined) return inode.generation;
    for (const bh of osb.cache.blocks()) if (bh.blkno === ino) return Dinode.at(osb.arena.dv, bh.addr).i_generation;
    return undefined;
  }

  // The dead ------------------------------------------------------------------------------------------------------------
  /** Its process has ended, or the others have recovered it: nothing of it counts any more. */
  dropNode(node: SimNode, died: boolean): void {
    const names = new Set<string>();
    for (const [name, s] of this.#shared) {
      if (s.levels.get(node) === EX && name[0] === "M") names.add(name);
      s.levels.delete(node);
      if (s.last_ex === node) s.last_ex = null;
    }
    this.lvbsMayBeLost();
    const slot = node.osb?.slot_num ?? -1;
    if (!died || slot < 0) return;
    const { dirty, generation } = this.#journal(slot);
    if (dirty) this.#unreplayed.add({ num: node.num, slot, generation, names });
  }

  /** The others have declared it dead, whether or not it runs. */
  castOut(node: SimNode): void {
    this.#outcast.set(node.process, node);
  }

  isOutcast(node: SimNode): boolean {
    return this.#outcast.has(node.process);
  }

  #journal(slot: number): { dirty: boolean; generation: number } {
    const { blocksize, disk, journal_blknos } = this.#world;
    const at = journal_blknos[slot]! * blocksize;
    const di = Dinode.from(disk.bytes.subarray(at, at + blocksize));
    return { dirty: (di.ij_flags & JOURNAL_FLAGS.DIRTY) !== 0, generation: di.ij_recovery_generation };
  }

  #wrote(process: SimProcess, offset: number): void {
    const outcast = this.#outcast.get(process);
    // One who is alone extends the time in which its heartbeat may hang (o2hb_nego_timeout), and does not see who comes meanwhile before it has beaten
    // again: of the lease, which all else goes by, nothing is extended.
    if (outcast !== undefined && offset !== this.#world.heartbeat_offset + outcast.num * SLOT_BYTES)
      this.#fault(`node ${outcast.num}, which was declared dead, has written to the disk at ${offset}`);
    const blkno = Math.floor(offset / this.#world.blocksize);
    if (this.#unreplayed.size === 0) return;
    for (const dead of this.#unreplayed) {
      if (this.#world.journal_blknos[dead.slot] !== blkno) continue;
      const { dirty, generation } = this.#journal(dead.slot);
      if (dirty && generation === dead.generation) continue;
      this.#unreplayed.delete(dead);
      this.replays++;
    }
  }

  /** An operation goes on with a lock. (To be granted one means little: who was granted a dead node's lock waits for the replay all the same.) */
  #used(node: SimNode, res: LockRes, locks: LockSet): void {
    if (this.#unreplayed.size === 0 || locks.for_recovery || this.#outcast.has(node.process)) return;
    for (const dead of this.#unreplayed)
      if (dead.names.has(res.name))
        this.#fault(
          `${text(res.name)} is used by node ${node.num}; node ${dead.num} held it when it died, and its journal (slot ${dead.slot}) is not replayed`,
        );
  }

  watchVolume(node: SimNode): void {
    const { glue } = node.osb;
    const [lock, tryLock] = [glue.lock.bind(glue), glue.tryLock.bind(glue)];
    glue.lock = (locks, res, level) => {
      lock(locks, res, level);
      this.#used(node, res, locks);
    };
    glue.tryLock = (locks, res, level) => {
      const got = tryLock(locks, res, level);
      if (got) this.#used(node, res, locks);
      return got;
    };
    for (let slot = 0; slot < node.osb.geo.max_slots; slot++)
      this.#world.journal_blknos[slot] = (node.osb.sysfile(SYSTEM_INODE.JOURNAL, slot) as Inode).ino;
  }

  /** All is quiet: nobody waits, and every journal of a dead node was replayed. */
  checkEnd(): void {
    for (const dead of this.#unreplayed) this.#fault(`nobody has replayed the journal of node ${dead.num}`);
  }
}

const text = (name: string): string => (name[0] === "N" ? JSON.stringify(name) : name);
