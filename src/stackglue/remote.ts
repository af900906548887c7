/**
 * A LockDomain at the other end of a pipe: a program that is no cluster node has its locks through the process that is one. `RemoteDomain` is the
 * program's end, `DomainHost` the node's; what they say are plain objects, which arrive whole and in order, or not at all any more. When the
 * pipe ends the host gives back what the program held, and the program's locks are void.
 */
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

/** From the program. `lvb`: 64 bytes, one character each. */
export type ToHost =
  | { readonly t: "new"; readonly id: number; readonly name: string }
  | {
      readonly t: "convert";
      readonly id: number;
      readonly level: LockLevel;
      readonly o: ConvertOptions;
      readonly lvb?: string;
    }
  | { readonly t: "cancel"; readonly id: number }
  | { readonly t: "unlock"; readonly id: number; readonly lvb?: string }
  | { readonly t: "leave" };

/** From the node. */
export type FromHost =
  | { readonly t: "ast"; readonly id: number; readonly status: number; readonly lvb?: string }
  | { readonly t: "bast"; readonly id: number; readonly level: LockLevel }
  | { readonly t: "unlocked"; readonly id: number; readonly status: number }
  | { readonly t: "down"; readonly node: number }
  | { readonly t: "left"; readonly status: number };

const LVB_BYTES = 64;
const textOf = (lvb: Uint8Array): string => String.fromCharCode(...lvb);
function setLvb(lvb: Uint8Array, text: string): void {
  for (let i = 0; i < LVB_BYTES; i++) lvb[i] = text.charCodeAt(i);
}

// The program's end -------------------------------------------------------------------------------------------------------

interface RemoteLock extends DomainLock {
  readonly id: number;
  readonly callbacks: LockCallbacks;
  level: LockLevel;
  /** What is asked for; null when nothing is. */
  requested: LockLevel | null;
  unlocked: ((status: number) => void) | null;
}

export class RemoteDomain implements LockDomain {
  readonly name: string;
  readonly clustered = true;
  readonly node_num: number;
  onNodeDown: (node_num: number) => void = () => {};
  readonly #send: (m: ToHost) => void;
  readonly #locks = new Map<number, RemoteLock>();
  #next = 0;
  #is_broken = false;
  #left: ((status: number) => void) | null = null;

  constructor(name: string, node_num: number, send: (m: ToHost) => void) {
    this.name = name;
    this.node_num = node_num;
    this.#send = send;
  }

  newLock(name: string, callbacks: LockCallbacks): DomainLock {
    const lvb = new Uint8Array(LVB_BYTES);
    const id = this.#next++;
    const lock: RemoteLock = { name, lvb, lvb_valid: true, id, callbacks, level: NL, requested: null, unlocked: null };
    this.#locks.set(id, lock);
    if (!this.#is_broken) this.#send({ t: "new", id, name });
    return lock;
  }

  convert(l: DomainLock, level: LockLevel, o: ConvertOptions = {}): void {
    const lock = l as RemoteLock;
    assert(lock.requested === null, `${lock.name}: two requests at a time`);
    if (this.#is_broken) {
      // What is held is void; nobody need hear that it was given up.
      if (level > lock.level) lock.callbacks.ast(-Errno.ENOTCONN);
      return;
    }
    lock.requested = level;
    const { id } = lock;
    const hands_on = o.lvb === true && lock.level === EX && level < EX;
    this.#send({ t: "convert", id, level, o, ...(hands_on ? { lvb: textOf(lock.lvb) } : {}) });
  }

  cancel(l: DomainLock): void {
    const lock = l as RemoteLock;
    if (lock.requested !== null && !this.#is_broken) this.#send({ t: "cancel", id: lock.id });
  }

  unlock(l: DomainLock, done: (status: number) => void, o: { lvb?: boolean } = {}): void {
    const lock = l as RemoteLock;
    assert(lock.requested === null, `${lock.name} is unlocked while a request is in flight`);
    if (this.#is_broken) {
      this.#locks.delete(lock.id);
      done(0);
      return;
    }
    lock.unlocked = done;
    const { id } = lock;
    const hands_on = o.lvb === true && lock.level === EX;
    this.#send({ t: "unlock", id, ...(hands_on ? { lvb: textOf(lock.lvb) } : {}) });
  }

  leave(done: (status: number) => void): void {
    if (this.#is_broken) return done(0);
    this.#left = done;
    this.#send({ t: "leave" });
  }

  heard(m: FromHost): void {
    if (m.t === "down") return this.onNodeDown(m.node);
    if (m.t === "left") return this.#left?.(m.status);
    const lock = this.#locks.get(m.id);
    if (lock === undefined) return;
    switch (m.t) {
      case "ast":
        if (m.status === 0 && lock.requested !== null) lock.level = lock.requested;
        lock.requested = null;
        if (m.lvb !== undefined) setLvb(lock.lvb, m.lvb);
        lock.callbacks.ast(m.status);
        break;
      case "bast":
        lock.callbacks.bast(m.level);
        break;
      case "unlocked":
        this.#locks.delete(m.id);
        lock.unlocked?.(m.status);
        break;
    }
  }

  /** The pipe has ended: who waits hears it. */
  broken(): void {
    if (this.#is_broken) return;
    this.#is_broken = true;
    for (const lock of [...this.#locks.values()]) {
      const { requested, unlocked } = lock;
      lock.requested = null;
      lock.unlocked = null;
      if (requested !== null && requested > lock.level) lock.callbacks.ast(-Errno.ENOTCONN);
      unlocked?.(0);
    }
    this.#left?.(0);
  }
}

// The node's end ----------------------------------------------------------------------------------------------------------

interface HostedLock {
  readonly lock: DomainLock;
  level: LockLevel;
  requested: LockLevel | null;
  wants_lvb: boolean;
  /** The program has gone, or given it up. */
  ending: boolean;
}

/** Whether a message of a program is one: another level, say, would go on to the lock's master, which a kernel node may be. */
function isWhole(m: ToHost): boolean {
  if (typeof m !== "object" || m === null) return false;
  if ("lvb" in m && m.lvb !== undefined && !(typeof m.lvb === "string" && /^[\0-\xff]{64}$/.test(m.lvb))) return false;
  if (m.t === "new") return typeof m.name === "string";
  if (m.t !== "convert") return true;
  return (m.level === NL || m.level === PR || m.level === EX) && typeof m.o === "object" && m.o !== null;
}

/** One program's locks in a domain that was joined for it. */
export class DomainHost {
  readonly #domain: LockDomain;
  readonly #send: (m: FromHost) => void;
  readonly #locks = new Map<number, HostedLock>();
  #closed: (() => void) | null = null;

  constructor(domain: LockDomain, send: (m: FromHost) => void) {
    this.#domain = domain;
    this.#send = send;
    domain.onNodeDown = (node) => this.#say({ t: "down", node });
  }

  #say(m: FromHost): void {
    if (this.#closed === null) this.#send(m);
  }

  /** What a program may say wrong ends the pipe: false. */
  heard(m: ToHost): boolean {
    if (!isWhole(m)) return false;
    if (m.t === "leave") {
      if (this.#locks.size > 0) return false;
      this.#domain.leave((status) => this.#say({ t: "left", status }));
      return true;
    }
    if (m.t === "new") return this.#newLock(m.id, m.name);
    const hosted = this.#locks.get(m.id);
    if (hosted === undefined || hosted.ending) return false;
    if (m.t === "cancel") {
      // An answer may be on its way already.
      if (hosted.requested !== null) this.#domain.cancel(hosted.lock);
      return true;
    }
    if (hosted.requested !== null) return false;
    if (m.lvb !== undefined) setLvb(hosted.lock.lvb, m.lvb);
    if (m.t === "unlock") this.#unlock(m.id, hosted, m.lvb !== undefined);
    else if (m.t !== "convert") return false;
    else {
      hosted.requested = m.level;
      hosted.wants_lvb = m.o.lvb === true;
      this.#domain.convert(hosted.lock, m.level, m.o);
    }
    return true;
  }

  #newLock(id: number, name: string): boolean {
    if (this.#locks.has(id) || !/^[\0-\xff]{1,31}$/.test(name)) return false;
    const lock = this.#domain.newLock(name, {
      ast: (status) => this.#ast(id, status),
      bast: (level) => this.#say({ t: "bast", id, level }),
    });
    this.#locks.set(id, { lock, level: NL, requested: null, wants_lvb: false, ending: false });
    return true;
  }

  #ast(id: number, status: number): void {
    const hosted = this.#locks.get(id);
    if (hosted === undefined || hosted.requested === null) return;
    if (status === 0) hosted.level = hosted.requested;
    hosted.requested = null;
    if (this.#closed !== null) this.#unlock(id, hosted, false);
    else {
      const lvb = status === 0 && hosted.wants_lvb ? { lvb: textOf(hosted.lock.lvb) } : {};
      this.#say({ t: "ast", id, status, ...lvb });
    }
  }

  #unlock(id: number, hosted: HostedLock, lvb: boolean): void {
    hosted.ending = true;
    const done = (status: number): void => {
      this.#locks.delete(id);
      this.#say({ t: "unlocked", id, status });
      this.#maybeLeave();
    };
    this.#domain.unlock(hosted.lock, done, { lvb: lvb && hosted.level === EX });
  }

  #maybeLeave(): void {
    const closed = this.#closed;
    if (closed === null || this.#locks.size > 0 || this.#is_leaving) return;
    this.#is_leaving = true;
    this.#domain.leave(closed);
  }
  #is_leaving = false;

  /** The program has gone: its locks go, their values as the program last handed them on; `done` when the domain is left. */
  close(done: () => void): void {
    this.#closed = done;
    for (const [id, hosted] of [...this.#locks]) {
      if (hosted.ending) continue;
      if (hosted.requested === null) this.#unlock(id, hosted, false);
      else this.#domain.cancel(hosted.lock);
    }
    this.#maybeLeave();
  }
}
