/**
 * Lock resources and the locks on them (struct dlm_lock_resource, struct dlm_lock). There may be a million of each, so they are flat
 * objects of small integers: queues are chains through the locks, what is rare hangs in `extra`, LVBs lie in slabs.
 */
import type { NodeNum } from "../cluster/node.ts";
import { LKM_EXMODE, LKM_IVMODE, LKM_NLMODE, LKM_PRMODE } from "../format/wire/dlm_constants.ts";
import { assert } from "../lib/fs_error.ts";
import { lvbOf, NO_SLOT } from "./lvb.ts";
import { NodeMap } from "./node_map.ts";
import type { Waiters } from "./waiters.ts";

/** No master is known. */
export const OWNER_UNKNOWN = 255;

export const RES_RECOVERING = 0x0002;
/** On the list of those whose queues are to be looked at. */
export const RES_DIRTY = 0x0008;
/** A request is being answered by the master, or the master is being found. */
export const RES_IN_PROGRESS = 0x0010;
export const RES_MIGRATING = 0x0020;
/** The master has been told that we need the resource no more, and has not answered. */
export const RES_DROPPING_REF = 0x0040;
export const RES_BLOCK_DIRTY = 0x1000;
/** An assertion of ours is under way: its answers will set bits of the refmap. */
export const RES_SETREF_INPROG = 0x2000;
/** A dead node had locks here: nothing is granted until its journal may be trusted to be replayed. */
export const RES_RECOVERY_WAITING = 0x4000;
/** Ours: to be made dirty when it is no longer busy. */
export const RES_REDIRTY = 0x10000;
export const RES_ON_PURGE = 0x20000;
export const RES_HASHED = 0x40000;
export const RES_MIGRATION_PENDING = 0x80000;

/** What requests wait for (__dlm_wait_on_lockres). */
export const RES_BUSY = RES_IN_PROGRESS | RES_RECOVERING | RES_RECOVERY_WAITING | RES_MIGRATING;

export const LIST_NONE = -1;
export const LIST_GRANTED = 0;
export const LIST_CONVERTING = 1;
export const LIST_BLOCKED = 2;

export const LOCK_PUT_LVB = 0x02;
export const LOCK_GET_LVB = 0x04;
export const LOCK_AST_LISTED = 0x10;
export const LOCK_BAST_LISTED = 0x20;
/** A request of the program is in flight: its AST has not come. */
export const LOCK_BUSY = 0x40;
/** The request was not taken or refused yet. */
export const LOCK_SENDING = 0x80;
export const LOCK_CONVERT_PENDING = 0x100;
export const LOCK_LOCK_PENDING = 0x200;
export const LOCK_UNLOCK_PENDING = 0x400;
export const LOCK_CANCEL_PENDING = 0x800;
/** Called off while it was being sent. */
export const LOCK_CANCEL_WANTED = 0x1000;
/** The AST came before the answer to the request, and is as good. */
export const LOCK_AST_FIRST = 0x4000;
/** The AST that is listed tells of a conversion downwards. */
export const LOCK_AST_DOWN = 0x8000;
/** A cancel is under way. */
export const LOCK_CANCELLING = 0x2000;

export interface DlmCallbacks {
  ast(status: number): void;
  bast(level: number): void;
}

export class DlmLock {
  /** Of the resource; known before the resource is. */
  name: string;
  res: DlmLockRes | null = null;
  next: DlmLock | null = null;
  node: NodeNum;
  type: number;
  convert_type = LKM_IVMODE;
  highest_blocked = LKM_IVMODE;
  list = LIST_NONE;
  flags = 0;
  /** Halves of the cookie, as signed 32 bits. */
  cookie_hi: number;
  cookie_lo: number;
  lvb_slot = NO_SLOT;
  /** Null for the lock of another node. */
  callbacks: DlmCallbacks | null;

  constructor(
    name: string,
    node: NodeNum,
    type: number,
    cookie_hi: number,
    cookie_lo: number,
    callbacks: DlmCallbacks | null,
  ) {
    this.name = name;
    this.node = node;
    this.type = type;
    this.cookie_hi = cookie_hi | 0;
    this.cookie_lo = cookie_lo | 0;
    this.callbacks = callbacks;
  }

  get lvb(): Uint8Array {
    return lvbOf(this);
  }

  /** o2cb cannot tell whether an LVB was lost; a lost one is all zero (o2cb_dlm_lvb_valid). */
  get lvb_valid(): boolean {
    return true;
  }

  set lvb_valid(_valid: boolean) {}

  hasCookie(hi: number, lo: number): boolean {
    return this.cookie_hi === (hi | 0) && this.cookie_lo === (lo | 0);
  }

  /** "2:17", as the kernel prints it. */
  get cookieText(): string {
    return `${this.cookie_hi >>> 24}:${(this.cookie_hi & 0xffffff) * 2 ** 32 + (this.cookie_lo >>> 0)}`;
  }
}

/** What few lock resources have. */
class Extra {
  wq: Waiters | null = null;
  inflight_assert_workers = 0;
  /** Assertions under way. */
  setrefs = 0;
  /** Nodes from 31 on that hold a reference. */
  refs: NodeMap | null = null;
}

export class DlmLockRes {
  readonly name: string;
  owner: NodeNum = OWNER_UNKNOWN;
  state: number;
  granted: DlmLock | null = null;
  converting: DlmLock | null = null;
  blocked: DlmLock | null = null;
  lvb_slot = NO_SLOT;
  /** Nodes 0 to 30 that hold a reference: the lower half of the refmap. */
  refs_low = 0;
  /** Requests between finding the resource and queueing a lock. */
  inflight_locks = 0;
  asts_reserved = 0;
  /** In units of 100 ms. */
  last_used = 0;
  purge_prev: DlmLockRes | null = null;
  purge_next: DlmLockRes | null = null;
  #extra: Extra | null = null;

  constructor(name: string, state: number) {
    this.name = name;
    this.state = state;
  }

  get extra(): Extra {
    return (this.#extra ??= new Extra());
  }

  get wq(): Waiters | null {
    return this.#extra === null ? null : this.#extra.wq;
  }

  get inflight_assert_workers(): number {
    return this.#extra === null ? 0 : this.#extra.inflight_assert_workers;
  }

  get setrefs(): number {
    return this.#extra === null ? 0 : this.#extra.setrefs;
  }

  hasRef(node: NodeNum): boolean {
    return node < 31 ? (this.refs_low & (1 << node)) !== 0 : (this.#extra?.refs?.has(node) ?? false);
  }

  setRef(node: NodeNum): void {
    if (node < 31) this.refs_low |= 1 << node;
    else (this.extra.refs ??= new NodeMap()).set(node);
  }

  clearRef(node: NodeNum): void {
    if (node < 31) this.refs_low &= ~(1 << node);
    else this.#extra?.refs?.clear(node);
  }

  get hasRefs(): boolean {
    return this.refs_low !== 0 || !(this.#extra?.refs?.empty ?? true);
  }

  /** Nodes that hold a reference. */
  refNodes(): NodeNum[] {
    const nodes: NodeNum[] = [];
    for (let n = 0; n < 31; n++) if (this.refs_low & (1 << n)) nodes.push(n);
    return [...nodes, ...(this.#extra?.refs ?? [])];
  }

  get hasLocks(): boolean {
    return this.granted !== null || this.converting !== null || this.blocked !== null;
  }

  head(list: number): DlmLock | null {
    return list === LIST_GRANTED ? this.granted : list === LIST_CONVERTING ? this.converting : this.blocked;
  }

  #setHead(list: number, lock: DlmLock | null): void {
    if (list === LIST_GRANTED) this.granted = lock;
    else if (list === LIST_CONVERTING) this.converting = lock;
    else this.blocked = lock;
  }

  addTail(lock: DlmLock, list: number): void {
    assert(lock.list === LIST_NONE, `${this.name}: a lock is queued twice`);
    lock.list = list;
    lock.next = null;
    let last = this.head(list);
    if (last === null) {
      this.#setHead(list, lock);
      return;
    }
    while (last.next !== null) last = last.next;
    last.next = lock;
  }

  addHead(lock: DlmLock, list: number): void {
    assert(lock.list === LIST_NONE, `${this.name}: a lock is queued twice`);
    lock.list = list;
    lock.next = this.head(list);
    this.#setHead(list, lock);
  }

  /** Takes a lock off its queue, if it is on one. */
  remove(lock: DlmLock): void {
    if (lock.list === LIST_NONE) return;
    let at = this.head(lock.list);
    if (at === lock) this.#setHead(lock.list, lock.next);
    else {
      while (at !== null && at.next !== lock) at = at.next;
      assert(at !== null, `${this.name}: a lock is not on its queue`);
      at.next = lock.next;
    }
    lock.next = null;
    lock.list = LIST_NONE;
  }

  moveTail(lock: DlmLock, list: number): void {
    if (lock.list === list && lock.next === null) return;
    this.remove(lock);
    this.addTail(lock, list);
  }

  find(list: number, cookie_hi: number, cookie_lo: number): DlmLock | null {
    for (let l = this.head(list); l !== null; l = l.next) if (l.hasCookie(cookie_hi, cookie_lo)) return l;
    return null;
  }

  /** All locks: granted, converting, blocked. A copy: the queues may change under it. */
  locks(): DlmLock[] {
    const all: DlmLock[] = [];
    for (const list of [this.granted, this.converting, this.blocked])
      for (let l = list; l !== null; l = l.next) all.push(l);
    return all;
  }
}

/** dlm_lock_compatible. */
export function compatible(existing: number, request: number): boolean {
  if (request === LKM_NLMODE || existing === LKM_NLMODE) return true;
  if (request === LKM_EXMODE) return false;
  return existing === LKM_PRMODE;
}

/**
 * Resources by name. A thousand small maps in place of one: a map that doubles at a million entries stops the thread for as long as a
 * heartbeat may be late.
 */
export class LockresHash {
  readonly #shards: Map<string, DlmLockRes>[] = Array.from({ length: 1024 }, () => new Map());
  size = 0;

  /** Names differ in the digits of the block, at 7 to 22, and dentry locks behind them. */
  #shard(name: string): Map<string, DlmLockRes> {
    let h = name.charCodeAt(0);
    for (let i = Math.max(1, name.length - 18); i < name.length; i++) h = (Math.imul(h, 31) + name.charCodeAt(i)) | 0;
    return this.#shards[(h ^ (h >>> 10)) & 1023]!;
  }

  get(name: string): DlmLockRes | undefined {
    return this.#shard(name).get(name);
  }

  insert(res: DlmLockRes): void {
    assert(!(res.state & RES_HASHED), `${res.name} is hashed twice`);
    res.state |= RES_HASHED;
    this.#shard(res.name).set(res.name, res);
    this.size++;
  }

  remove(res: DlmLockRes): void {
    if (!(res.state & RES_HASHED)) return;
    res.state &= ~RES_HASHED;
    this.#shard(res.name).delete(res.name);
    this.size--;
  }

  *[Symbol.iterator](): Generator<DlmLockRes> {
    for (const shard of this.#shards) yield* shard.values();
  }
}
