/**
 * A LockDomain for tests: another node that wants every lock. Each granted lock is asked for at a random moment, at PR or EX,
 * and when it was given up the other node keeps it for a while before it is granted here again. Under it every cache is
 * dropped over and over, and every rule of docs/LOCKING.md that a lone node never needs is exercised.
 *
 * Locks of this node that have one name (flock's, one an open file) stand against each other as those of two nodes do.
 */
import type { Clock, Random } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import {
  type ConvertOptions,
  type DomainLock,
  EX,
  type LockCallbacks,
  type LockDomain,
  type LockLevel,
  NL,
  PR,
} from "./lock_domain.ts";

interface Held extends DomainLock {
  readonly callbacks: LockCallbacks;
  level: LockLevel;
  /** The other node has asked and was not answered yet. */
  asked: LockLevel;
}

export interface RandomBastOptions {
  readonly random: Random;
  /** With a clock, every grant is asked for within `within_ms`, and regranted after up to `keep_ms`. Without, by `poke` alone. */
  readonly clock?: Clock;
  readonly within_ms?: number;
  readonly keep_ms?: number;
  /** Tells the thread's loop that something became ready. */
  readonly wake?: () => void;
}

export class RandomBastDomain implements LockDomain {
  readonly name = "random-bast";
  readonly clustered = true;
  readonly node_num = 0;
  onNodeDown = (): void => {};
  readonly #o: RandomBastOptions;
  readonly #locks = new Set<Held>();
  readonly #named = new Map<string, Set<Held>>();
  /** By name: who waits until another lock of this node gives way. */
  readonly #behind = new Map<string, (() => void)[]>();
  /** Grants that wait for `poke` or the clock. */
  readonly #pending: (() => void)[] = [];
  basts = 0;
  grants = 0;

  constructor(options: RandomBastOptions) {
    this.#o = options;
  }

  #below(n: number): number {
    return this.#o.random.u32() % n;
  }

  newLock(name: string, callbacks: LockCallbacks): DomainLock {
    const lock: Held = { name, lvb: new Uint8Array(64), lvb_valid: false, callbacks, level: NL, asked: NL };
    this.#locks.add(lock);
    const named = this.#named.get(name);
    if (named === undefined) this.#named.set(name, new Set([lock]));
    else named.add(lock);
    return lock;
  }

  #inTheWay(lock: Held, level: LockLevel): boolean {
    const named = this.#named.get(lock.name)!;
    if (named.size === 1) return false;
    return [...named].some((o) => o !== lock && o.level !== NL && (o.level === EX || level === EX));
  }

  #gaveWay(name: string): void {
    const waiting = this.#behind.get(name);
    this.#behind.delete(name);
    for (const again of waiting ?? []) again();
  }

  convert(l: DomainLock, level: LockLevel, options: ConvertOptions = {}): void {
    const lock = l as Held;
    assert(this.#locks.has(lock), `${lock.name} is converted after it was unlocked`);
    const grant = (): void => {
      const down = level < lock.level;
      if (!down && this.#inTheWay(lock, level)) {
        if (options.trylock === true) lock.callbacks.ast(-Errno.EAGAIN);
        else this.#behind.set(lock.name, [...(this.#behind.get(lock.name) ?? []), grant]);
        return;
      }
      lock.level = level;
      if (down) {
        lock.asked = NL;
        this.#gaveWay(lock.name);
      } else {
        this.grants++;
        if (this.#o.clock !== undefined) this.#askLater(lock);
      }
      lock.callbacks.ast(0);
    };
    if (level < lock.level) grant();
    else if (this.#o.clock !== undefined) this.#after(this.#below(this.#o.keep_ms ?? 3), grant);
    else this.#pending.push(grant);
  }

  #after(ms: number, cb: () => void): void {
    this.#o.clock!.after(ms, () => {
      cb();
      this.#o.wake?.();
    });
  }

  #askLater(lock: Held): void {
    this.#after(this.#below(this.#o.within_ms ?? 30), () => this.#ask(lock));
  }

  #ask(lock: Held): void {
    if (lock.level === NL || lock.asked !== NL || !this.#locks.has(lock)) return;
    const wants: LockLevel = lock.level === EX && this.#below(2) === 0 ? PR : EX;
    lock.asked = wants;
    this.basts++;
    lock.callbacks.bast(wants);
  }

  /** One random event: a grant that waits, or a BAST for a lock that is held. False when nothing can happen. */
  poke(): boolean {
    if (this.#pending.length > 0 && this.#below(3) > 0) {
      this.#pending.splice(this.#below(this.#pending.length), 1)[0]!();
      return true;
    }
    const held = [...this.#locks].filter((l) => l.level !== NL && l.asked === NL);
    if (held.length > 0 && (this.#pending.length === 0 || this.#below(2) === 0)) {
      this.#ask(held[this.#below(held.length)]!);
      return true;
    }
    if (this.#pending.length === 0) return false;
    this.#pending.shift()!();
    return true;
  }

  /** Grants all that waits: for the end of a test. */
  settle(): boolean {
    const grant = this.#pending.shift();
    grant?.();
    return grant !== undefined;
  }

  /** Too late, always: the grant comes. */
  cancel(_lock: DomainLock): void {}

  unlock(l: DomainLock, done: (status: number) => void): void {
    const lock = l as Held;
    assert(this.#locks.delete(lock), `${lock.name} is unlocked twice`);
    const named = this.#named.get(lock.name)!;
    named.delete(lock);
    if (named.size === 0) this.#named.delete(lock.name);
    this.#gaveWay(lock.name);
    done(0);
  }

  leave(done: (status: number) => void): void {
    done(0);
  }
}
