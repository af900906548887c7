/**
 * dlmglue: lock resources and their cache between the file system and the cluster (dlmglue.c).
 *
 * A lock that was granted stays with the node until another node asks for it (a BAST). Then: holders that stand in its
 * way finish, new ones that would stand in its way wait, the lock type's `downconvert` makes the disk true and drops the
 * caches, and the lock is converted. Each lock resource has its own downconvert task; none waits behind another.
 */
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { spawn, type Task, wait } from "../lib/task.ts";
import { WaitQueue, waitOn } from "../lib/wait.ts";
import type { LockDomain } from "../stackglue/lock_domain.ts";
import type { Inode } from "../volume/inode.ts";
import { EX, type LockLevel, LockRes, type LockResOps, lockName, NL, PR } from "./lock_res.ts";
import type { LockSet } from "./lock_set.ts";

/** One record a lock type, handed in by the layers above (inode, file, dir). */
export interface GlueOps {
  readonly meta: LockResOps;
  readonly rw: LockResOps;
  readonly open: LockResOps;
  readonly rename: LockResOps;
  readonly super: LockResOps;
}

export class DlmGlue {
  readonly domain: LockDomain;
  readonly #ops: GlueOps;
  readonly #failed: (err: unknown) => void;
  /** Downconverts that run now. */
  active = 0;
  readonly quiet = new WaitQueue();
  readonly rename_lockres: LockRes;
  readonly super_lockres: LockRes;
  bast_count = 0;

  /** `failed` hears of a downconvert that could not be done: the node cannot keep its promise to the cluster. */
  constructor(domain: LockDomain, ops: GlueOps, failed: (err: unknown) => void) {
    this.domain = domain;
    this.#ops = ops;
    this.#failed = failed;
    this.rename_lockres = this.newLockRes(lockName("R", 0, 0), ops.rename, null);
    this.super_lockres = this.newLockRes(lockName("S", 2, 0), ops.super, null);
  }

  newLockRes(name: string, ops: LockResOps, data: unknown): LockRes {
    const res = new LockRes(name, ops, data);
    res.onIdle = (r) => void this.#startDownconvert(r);
    // Without other nodes every lock is ours from the start, and the domain never hears of it.
    if (!this.domain.clustered) res.level = EX;
    return res;
  }

  /** Generations in lock names as ocfs2_populate_inode has them: of the inode for rw, of the volume for system files, else 0. */
  #generation(inode: Inode): number {
    return inode.is_system ? inode.osb.geo.fs_generation : 0;
  }

  metaLock(inode: Inode): LockRes {
    return (inode.meta_lockres ??= this.newLockRes(
      lockName("M", inode.ino, this.#generation(inode)),
      this.#ops.meta,
      inode,
    ));
  }

  rwLock(inode: Inode): LockRes {
    return (inode.rw_lockres ??= this.newLockRes(lockName("W", inode.ino, inode.generation), this.#ops.rw, inode));
  }

  openLock(inode: Inode): LockRes {
    return (inode.open_lockres ??= this.newLockRes(
      lockName("O", inode.ino, this.#generation(inode)),
      this.#ops.open,
      inode,
    ));
  }

  /**
   * Makes `locks` a holder of `res` at `level`; throws Wait until the cluster grants it (ocfs2_cluster_lock).
   * A lock held at PR cannot be taken at EX by the same set: two nodes doing so would wait for each other for ever.
   */
  lock(locks: LockSet, res: LockRes, level: LockLevel): void {
    const held = locks.level(res);
    if (held !== undefined) {
      assert(held >= level, `${res.name}: PR to EX inside one operation`);
      return;
    }
    const let_in = res.serving && locks.exempt;
    if (res.level >= level && (let_in || (!res.gate_shut && level <= res.compatibleLevel))) {
      const waits = res.wants.findIndex((w) => w.locks === locks);
      if (waits >= 0) res.wants.splice(waits, 1);
      res.hold(locks, level);
      return;
    }
    if (!res.wants.some((w) => w.locks === locks)) res.wants.push({ locks, level });
    this.#request(res);
    if (locks.level(res) !== undefined) return;
    waitOn(res.waiters);
  }

  /** Asks the domain for the highest level wanted, if nothing is under way. */
  #request(res: LockRes): void {
    if (res.requested !== null || res.downconverting || res.wants.length === 0) return;
    if (res.blocking !== NL && !this.#startDownconvert(res)) return;
    let level: LockLevel = NL;
    for (const w of res.wants) if (w.level > level) level = w.level;
    if (res.level >= level) {
      this.#grantWants(res);
      return;
    }
    res.dl ??= this.domain.newLock(res.name, {
      ast: (status) => this.#ast(res, status),
      bast: (blocking) => this.#bast(res, blocking),
    });
    res.requested = level;
    this.domain.convert(res.dl, level);
  }

  #ast(res: LockRes, status: number): void {
    assert(status === 0 && res.requested !== null, `${res.name}: AST with status ${status}`);
    const up = res.requested > res.level;
    res.level = res.requested;
    res.requested = null;
    if (!up) {
      const settled = this.#settling.get(res);
      this.#settling.delete(res);
      settled?.(null);
      return;
    }
    this.#grantWants(res);
    if (res.blocking !== NL) this.#startDownconvert(res);
  }

  #grantWants(res: LockRes): void {
    const granted = res.wants.filter((w) => w.level <= res.level);
    if (granted.length === 0) return;
    const left = res.wants.filter((w) => w.level > res.level);
    res.wants.length = 0;
    res.wants.push(...left);
    for (const w of granted) res.hold(w.locks, w.level);
    res.waiters.wakeAll();
  }

  #bast(res: LockRes, blocking: LockLevel): void {
    this.bast_count++;
    if (mlogOn(ML.BASTS)) mlog(ML.BASTS, `BAST ${res.name} level ${res.level} blocking ${blocking}`);
    if (blocking > res.blocking) res.blocking = blocking;
    this.#startDownconvert(res);
  }

  /** Gives `res` up as far as others want it, as soon as nobody here holds it in conflict. True: nothing need be given up. */
  #startDownconvert(res: LockRes): boolean {
    if (res.downconverting || res.requested !== null || res.blocking === NL) return false;
    const to = res.compatibleLevel;
    if (res.level <= to) {
      res.blocking = NL;
      this.#request(res);
      return true;
    }
    if (res.ex_holders > 0 || (to !== PR && res.pr_holders > 0)) return false;
    res.downconverting = true;
    this.active++;
    spawn(this.#downconvert(res, to), (err) => {
      res.downconverting = false;
      res.gate_shut = false;
      this.active--;
      if (err) {
        this.#failed(err);
        return;
      }
      this.#request(res);
      if (res.blocking !== NL) this.#startDownconvert(res);
      if (this.active === 0) this.quiet.wakeAll();
    });
    return false;
  }

  *#downconvert(res: LockRes, to: LockLevel): Task<void> {
    // The gate shuts at once here: holders are gone. The fuse layer's rule 4 (serve until the last notification
    // returned) opens it again inside `downconvert` for as long as notifications are under way.
    res.gate_shut = true;
    if (res.ops.downconvert !== undefined) yield* res.ops.downconvert(res, to);
    res.gate_shut = true;
    assert(res.ex_holders === 0 && (to !== NL || res.pr_holders === 0), `${res.name} is held while it is given up`);
    res.blocking = NL;
    res.requested = to;
    const dl = res.dl!;
    yield* wait<void>((cb) => {
      this.#settling.set(res, cb);
      this.domain.convert(dl, to);
    });
  }
  /** Downconverts whose AST is still to come. */
  readonly #settling = new Map<LockRes, (err: unknown) => void>();

  /** The lock goes with its inode: unlocked in the domain if it ever was known there. */
  drop(res: LockRes | null, done: () => void): void {
    if (res === null || res.dl === null) {
      done();
      return;
    }
    assert(res.ex_holders + res.pr_holders === 0, `${res.name} is dropped while held`);
    this.domain.unlock(res.dl, () => done());
  }

  /** True while nothing is being given up. */
  get idle(): boolean {
    return this.active === 0;
  }

  /** For tests: highest level held on `res` by anybody. */
  static heldLevel(res: LockRes): LockLevel {
    return res.ex_holders > 0 ? EX : res.pr_holders > 0 ? 3 : NL;
  }
}
