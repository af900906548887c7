/**
 * Locks for programs (dlmfs/userdlm.c): a lock of a domain, held at PR or EX by any number of callers on this node, kept when nobody
 * holds it until another node asks, with 64 bytes that travel with it. Without the cancel in `bast`, two nodes that both go
 * from PR to EX would wait for each other for ever.
 */
import { isByteName } from "../lib/byte_name.ts";
import { Errno } from "../lib/errno.ts";
import { assert, FsError } from "../lib/fs_error.ts";
import { type DomainLock, EX, type LockDomain, type LockLevel, NL, PR } from "./lock_domain.ts";

export const LVB_LEN = 64;
const NAME_MAX = 31;

export type HeldLevel = typeof PR | typeof EX;

interface Waiter {
  readonly level: HeldLevel;
  readonly trylock: boolean;
  readonly done: (err: number) => void;
}

/** user_dlm_lock_res. */
export class UserLock {
  readonly name: string;
  readonly #domain: LockDomain;
  readonly #lock: DomainLock;
  level: LockLevel = NL;
  /** What is asked for in the domain, up or down. */
  #requested: LockLevel | null = null;
  /** What another node wants; NL for nothing. */
  #blocking: LockLevel = NL;
  readonly #holders: { [level in HeldLevel]: number } = { [PR]: 0, [EX]: 0 };
  #waiting: Waiter[] = [];
  #destroyed: ((err: number) => void) | null = null;
  /** Who wants to know when another node wants the lock. */
  #watching: ((err: number) => void)[] = [];
  /** The domain has gone. */
  #lost = false;

  constructor(domain: LockDomain, name: string) {
    assert(name.length > 0 && name.length <= NAME_MAX && isByteName(name), `a lock's name has 1 to ${NAME_MAX} bytes`);
    this.name = name;
    this.#domain = domain;
    this.#lock = domain.newLock(name, { ast: (status) => this.#ast(status), bast: (level) => this.#bast(level) });
  }

  get idle(): boolean {
    return this.#holders[PR] + this.#holders[EX] === 0 && this.#waiting.length === 0;
  }

  /** Another node waits for a level that what is held here stands against (USER_LOCK_BLOCKED). */
  get isWanted(): boolean {
    return this.#blocking !== NL;
  }

  /** `done` hears 0 when another node wants the lock, at once if it does already; -ENOENT when the lock goes before. */
  whenWanted(done: (err: number) => void): void {
    if (this.isWanted) done(0);
    else if (this.#destroyed !== null) done(-Errno.ENOENT);
    else if (this.#lost) done(-Errno.ENOTCONN);
    else this.#watching.push(done);
  }

  #tellWatchers(err: number): void {
    for (const done of this.#watching.splice(0)) done(err);
  }

  /** user_dlm_cluster_lock. `done` hears 0 when the lock is held, -EAGAIN for a trylock that would have to wait. */
  lock(level: HeldLevel, trylock: boolean, done: (err: number) => void): void {
    if (this.#destroyed !== null) return done(-Errno.ENOENT);
    if (this.#lost) return done(-Errno.ENOTCONN);
    this.#waiting.push({ level, trylock, done });
    this.#work();
  }

  /** user_dlm_cluster_unlock. */
  unlock(level: HeldLevel): void {
    assert(this.#holders[level] > 0, `${this.name} is not held`);
    this.#holders[level]--;
    this.#work();
  }

  /** user_dlm_read_lvb: valid while the lock is held. */
  readLvb(): Uint8Array {
    this.#checkLost();
    assert(this.level >= PR, `${this.name} is not held`);
    return this.#lock.lvb.slice();
  }

  /** user_dlm_write_lvb: the others see it when the lock leaves EX. */
  writeLvb(bytes: Uint8Array): void {
    this.#checkLost();
    assert(this.#holders[EX] > 0, `${this.name} is not held at EX`);
    assert(bytes.length <= LVB_LEN, `an LVB has ${LVB_LEN} bytes`);
    this.#lock.lvb.fill(0);
    this.#lock.lvb.set(bytes);
  }

  #checkLost(): void {
    if (this.#lost) throw new FsError(Errno.ENOTCONN, "userdlm", { name: this.name });
  }

  /** The domain has gone, and with it what was held: others may have it. Who waits, and who asks from now on, hears -ENOTCONN. */
  lose(): void {
    this.#lost = true;
    this.level = NL;
    this.#requested = null;
    this.#blocking = NL;
    this.#tellWatchers(-Errno.ENOTCONN);
    for (const w of this.#waiting.splice(0)) w.done(-Errno.ENOTCONN);
    this.#work();
  }

  /** user_dlm_destroy_lock. -EBUSY while somebody holds it. */
  destroy(done: (err: number) => void): void {
    if (!this.idle || this.#destroyed !== null) return done(-Errno.EBUSY);
    this.#destroyed = done;
    this.#tellWatchers(-Errno.ENOENT);
    this.#work();
  }

  /** The level that what others want allows us. */
  get #allowed(): LockLevel {
    return this.#blocking === EX ? NL : this.#blocking === PR ? PR : EX;
  }

  /** Grants what can be granted, gives up what must be given up, asks for what is missing: one request at a time. */
  #work(): void {
    if (this.#requested !== null) return;
    const give_up = this.level > this.#allowed;
    const held = this.#holders[EX] > 0 ? EX : this.#holders[PR] > 0 ? PR : NL;
    if (give_up && held <= this.#allowed) {
      this.#request(this.#allowed, false);
      return;
    }
    const granted: Waiter[] = [];
    const refused: Waiter[] = [];
    const left: Waiter[] = [];
    for (const w of this.#waiting) {
      // New holders that stand in another node's way wait until it has had its turn.
      if (w.level <= this.level && w.level <= this.#allowed) {
        this.#holders[w.level]++;
        granted.push(w);
      } else if (w.trylock && give_up) refused.push(w);
      else left.push(w);
    }
    this.#waiting = left;
    if (!give_up && left.length > 0) {
      const level = left.some((w) => w.level === EX) ? EX : PR;
      this.#request(
        level,
        left.every((w) => w.trylock),
      );
    } else if (!give_up && this.#destroyed !== null && this.idle) {
      this.#requested = NL;
      this.#domain.unlock(this.#lock, this.#destroyed, { lvb: this.level === EX });
    }
    for (const w of granted) w.done(0);
    for (const w of refused) w.done(-Errno.EAGAIN);
  }

  #request(level: LockLevel, trylock: boolean): void {
    this.#requested = level;
    this.#domain.convert(this.#lock, level, { trylock, lvb: true });
  }

  #ast(status: number): void {
    const level = this.#requested;
    if (level === null) return;
    this.#requested = null;
    if (status === 0) {
      if (level < this.level) this.#blocking = NL;
      this.level = level;
    } else if (status !== -Errno.ECANCELED) {
      // Refused: those that would not wait hear it; others ask again.
      const all = status !== -Errno.EAGAIN;
      const failed = this.#waiting.filter((w) => all || w.trylock);
      this.#waiting = all ? [] : this.#waiting.filter((w) => !w.trylock);
      for (const w of failed) w.done(status);
    }
    this.#work();
  }

  #bast(level: LockLevel): void {
    if (level > this.#blocking) this.#blocking = level;
    this.#tellWatchers(0);
    if (this.#requested !== null && this.#requested > this.level && this.level > NL) this.#domain.cancel(this.#lock);
    this.#work();
  }
}
