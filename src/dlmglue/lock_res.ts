/**
 * A lock resource of this node: the level that is cached, who holds it now, and what other nodes want
 * (dlmglue.h, struct ocfs2_lock_res). The level stays until another node asks for it.
 */
import { unreachable } from "../lib/fs_error.ts";
import type { Task } from "../lib/task.ts";
import { WaitQueue } from "../lib/wait.ts";
import { type DomainLock, EX, type LockCallbacks, type LockLevel, NL, PR } from "../stackglue/lock_domain.ts";
import type { LockSet } from "./lock_set.ts";
import { NO_STATS } from "./lock_stats.ts";
import type { LockType } from "./lock_types.ts";

export { LOCK_TYPES, lockName } from "./lock_types.ts";
export { EX, type LockLevel, NL, PR };

/** What a lock type does beyond the generic engine (struct ocfs2_lock_res_ops). */
export interface LockResOps extends LockType {
  /** What is not given up now, though nobody holds the lock, whatever others ask for. */
  keeps?(res: LockRes): LockLevel;
  /**
   * Makes it safe to give the lock up to `to`: kernel caches dropped, data written, log emptied, `res.lvb` filled for the next
   * holder, caches dropped, in that order. Runs while nobody holds the lock in conflict. Its end is the moment after which nothing may use the old level.
   */
  downconvert?(res: LockRes, to: LockLevel): Task<void>;
  /** The lock came up from NL: what was known under it before is old (OCFS2_LOCK_NEEDS_REFRESH). */
  granted?(res: LockRes): void;
  /** Nobody here holds it or asks for it any more. */
  idle?(res: LockRes): void;
}

/** Somebody here who waits for a level. */
export interface Want {
  readonly locks: LockSet;
  readonly level: LockLevel;
  /** -EAGAIN rather than waiting for another node. */
  readonly trylock: boolean;
  /** Of the monotonic clock: when it began to wait. */
  readonly since_ms: number;
}

/** The glue, as its lock resources know it. */
export interface LockResOwner {
  ast(res: LockRes, status: number): void;
  bast(res: LockRes, blocking: LockLevel): void;
  /** A holder left, and another node waits. */
  idled(res: LockRes): void;
}

/** Of what no domain knows: a lock within this node. */
const NO_OWNER: LockResOwner = { ast() {}, bast() {}, idled() {} };
const NO_WANTS: readonly Want[] = [];
const NO_IDLE_WAITS: readonly { to: LockLevel; cb: () => void }[] = [];

/** A million inodes have two or three million of these: what is rare takes no room until it is there. */
export class LockRes implements LockCallbacks {
  readonly name: string;
  readonly ops: LockResOps;
  /** What the lock covers, for the ops: an Inode, a dentry, the volume. */
  readonly data: unknown;
  dl: DomainLock | null = null;
  /** Row in the glue's LockStats. */
  stats = NO_STATS;
  /** Level granted by the domain. */
  level: LockLevel = NL;
  /** Level asked for and not yet answered. */
  requested: LockLevel | null = null;
  /** No other node can know its name, and the domain has not heard of it: ours at EX until `shareTask`. */
  unshared = false;
  /** The request in flight is a trylock. */
  trying = false;
  /** The conversion in flight was called off; its AST is still to come. */
  cancelling = false;
  /** Strongest level that another node waits for; NL: nobody does. */
  blocking: LockLevel = NL;
  pr_holders = 0;
  ex_holders = 0;
  /** The downconvert task runs. */
  downconverting = false;
  /** From here to the convert nobody may take the lock, whatever its level says. */
  gate_shut = false;
  /** A notification is under way: exempt lock sets are let in up to `level`, whatever the gate and other nodes say. */
  serving = false;
  /** While serving: READs that fill pages are let in, too; the pages are called back once more afterwards. */
  serving_reads = false;
  /** The lock is about to be unlocked for good (OCFS2_LOCK_FREEING). */
  freeing = false;
  /** Lock sets that wait; each becomes a holder in the moment the level is granted, so that a BAST cannot starve it. */
  wants: readonly Want[] = NO_WANTS;
  /** Lock sets whose trylock was refused, until they have heard of it. */
  #refused: Set<LockSet> | null = null;
  #waiters: WaitQueue | null = null;
  #changed: WaitQueue | null = null;
  readonly #owner: LockResOwner;

  constructor(name: string, ops: LockResOps, data: unknown, owner = NO_OWNER) {
    this.name = name;
    this.ops = ops;
    this.data = data;
    this.#owner = owner;
  }

  ast(status: number): void {
    this.#owner.ast(this, status);
  }

  bast(level: LockLevel): void {
    this.#owner.bast(this, level);
  }

  get waiters(): WaitQueue {
    return (this.#waiters ??= new WaitQueue());
  }

  /** Woken whenever a request was answered, a downconvert ended, a holder left, or somebody waits no more. */
  get changed(): WaitQueue {
    return (this.#changed ??= new WaitQueue());
  }

  wakeWaiters(): void {
    this.#waiters?.wakeAll();
  }

  wakeChanged(): void {
    this.#changed?.wakeAll();
  }

  /** `locks` waits for it, in the place of what it wanted before. */
  want(w: Want): void {
    const there = this.wants.some((other) => other.locks === w.locks);
    this.wants = there ? this.wants.map((other) => (other.locks === w.locks ? w : other)) : [...this.wants, w];
  }

  /** Those of the wants that `stay` says stay. */
  keepWants(stay: (w: Want) => boolean): void {
    const left = this.wants.filter(stay);
    this.wants = left.length === 0 ? NO_WANTS : left;
  }

  refuse(locks: LockSet): void {
    (this.#refused ??= new Set()).add(locks);
  }

  /** True, once, when the trylock of `locks` was refused. */
  wasRefused(locks: LockSet): boolean {
    return this.#refused?.delete(locks) === true;
  }

  /** The value that came with the last grant, and that goes with the lock when it leaves EX. */
  get lvb(): Uint8Array {
    return this.dl!.lvb;
  }

  /** A notification waits for what `locks` is held for, and the gate is no hindrance. */
  serves(locks: LockSet): boolean {
    return this.serving && (locks.exempt || (this.serving_reads && locks.fills_pages));
  }

  /** Counts `locks` as a holder. The caller has checked that the level is held. */
  hold(locks: LockSet, level: LockLevel): void {
    if (this.level < level || (this.gate_shut && !this.serves(locks)))
      unreachable(`${this.name} held at ${level}, level ${this.level}`);
    if (level === EX) this.ex_holders++;
    else this.pr_holders++;
    locks.add(this, level);
  }

  /** Called by LockSet only. */
  unhold(level: LockLevel): void {
    if (level === EX) this.ex_holders--;
    else this.pr_holders--;
    if (this.ex_holders < 0 || this.pr_holders < 0) unreachable(`${this.name} released too often`);
    if (this.blocking !== NL || this.ops.nocache === true || this.ops.idle !== undefined) this.#owner.idled(this);
    this.wakeChanged();
    if (this.#idle_waits.length > 0) {
      const run = this.#idle_waits.filter((w) => this.idleFor(w.to));
      const left = this.#idle_waits.filter((w) => !run.includes(w));
      this.#idle_waits = left.length === 0 ? NO_IDLE_WAITS : left;
      for (const w of run) w.cb();
    }
  }
  #idle_waits = NO_IDLE_WAITS;

  /** True when no holder stands against a downconvert to `to`. */
  idleFor(to: LockLevel): boolean {
    return this.ex_holders === 0 && (to === PR || this.pr_holders === 0);
  }

  /** Calls when no holder stands against a downconvert to `to`; at once if so already. */
  whenIdle(to: LockLevel, cb: () => void): void {
    if (this.idleFor(to)) cb();
    else this.#idle_waits = [...this.#idle_waits, { to, cb }];
  }

  /** Called by LockSet: it does not wait for this any more. */
  withdraw(locks: LockSet): void {
    this.#refused?.delete(locks);
    if (!this.wants.some((w) => w.locks === locks)) return;
    this.keepWants((w) => w.locks !== locks);
    if (this.ops.idle !== undefined) this.#owner.idled(this);
    this.wakeChanged();
  }

  /** Nobody holds it, waits for it, or is about to change its level. */
  get isFree(): boolean {
    return (
      this.ex_holders === 0 &&
      this.pr_holders === 0 &&
      this.wants.length === 0 &&
      this.requested === null &&
      !this.downconverting
    );
  }

  /** Below this it does not go now. */
  get keptLevel(): LockLevel {
    return this.ops.keeps?.(this) ?? NL;
  }

  /** Highest level that is compatible with what the others want (ocfs2_highest_compat_lock_level). */
  get compatibleLevel(): LockLevel {
    return this.blocking === EX ? NL : this.blocking === PR ? PR : EX;
  }
}
