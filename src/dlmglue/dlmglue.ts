/**
 * dlmglue: lock resources and their cache between the file system and the cluster (dlmglue.c).
 *
 * A lock that was granted stays with the node until another node asks for it (a BAST). Then: holders that stand in its
 * way finish, new ones that would stand in its way wait, the lock type's `downconvert` makes the disk true and drops the
 * caches, and the lock is converted. Each lock resource has its own downconvert task; none waits behind another.
 *
 * Two nodes that both hold PR and both ask for EX would wait for each other for ever. As in the kernel, whoever gets a BAST
 * while its own conversion is under way calls that off, gives the lock up, and asks anew (ocfs2_unblock_lock).
 */
import type { Clock } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { assert, FsError, unreachable } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { all, asThunk, spawn, type Task, type Thunk, wait } from "../lib/task.ts";
import { WaitQueue, waitOn } from "../lib/wait.ts";
import type { ConvertOptions, DomainLock, LockDomain } from "../stackglue/lock_domain.ts";
import type { Inode } from "../volume/inode.ts";
import {
  EX,
  LOCK_TYPES,
  type LockLevel,
  LockRes,
  type LockResOps,
  type LockResOwner,
  lockName,
  NL,
  PR,
  type Want,
} from "./lock_res.ts";
import type { LockSet } from "./lock_set.ts";
import { LockStats, NO_STATS } from "./lock_stats.ts";
import type { LockType } from "./lock_types.ts";

/** One record a lock type, handed in by the layers above (inode, file, dir). */
export interface GlueOps {
  readonly meta: LockResOps;
  readonly rw: LockResOps;
  readonly open: LockResOps;
}

const SUPER_BLOCK_BLKNO = 2;
const DROPS_AT_A_TIME = 1000;

export class DlmGlue {
  readonly domain: LockDomain;
  readonly #ops: GlueOps;
  readonly #failed: (err: unknown) => void;
  readonly #clock: Clock;
  readonly stats = new LockStats();
  readonly #owner: LockResOwner = {
    ast: (res, status) => this.#ast(res, status),
    bast: (res, blocking) => this.#bast(res, blocking),
    idled: (res) => this.#idled(res),
  };
  readonly #sabotage: ReadonlySet<string>;
  /** Downconverts that run now. */
  active = 0;
  readonly quiet = new WaitQueue();
  readonly rename_lockres: LockRes;
  readonly super_lockres: LockRes;
  readonly nfs_sync_lockres: LockRes;
  readonly orphan_scan_lockres: LockRes;
  readonly trim_fs_lockres: LockRes;
  /** Every lock resource that the domain knows of. */
  readonly #attached = new Set<LockRes>();
  bast_count = 0;
  /** Nodes that died and whose journals are not replayed yet, by number (osb->recovery_map). */
  readonly recovery_map = new Set<number>();
  /** Woken when the recovery map became empty, or is given up. */
  readonly recovery_done = new WaitQueue();
  /** We unmount, and cannot recover them: who waits for that is told EIO. */
  recovery_given_up = false;

  /** `failed` hears of a downconvert that could not be done: the node cannot keep its promise to the cluster. */
  constructor(
    domain: LockDomain,
    ops: GlueOps,
    failed: (err: unknown) => void,
    clock: Clock,
    sabotage: ReadonlySet<string> = new Set(),
  ) {
    this.domain = domain;
    this.#sabotage = sabotage;
    this.#ops = ops;
    this.#failed = failed;
    this.#clock = clock;
    const volumeLock = (type: LockType, blkno = 0): LockRes =>
      this.newLockRes(lockName(type.letter, blkno, 0), type, null);
    this.rename_lockres = volumeLock(LOCK_TYPES.rename);
    this.super_lockres = volumeLock(LOCK_TYPES.super, SUPER_BLOCK_BLKNO);
    this.nfs_sync_lockres = volumeLock(LOCK_TYPES.nfs_sync);
    this.orphan_scan_lockres = volumeLock(LOCK_TYPES.orphan_scan);
    this.trim_fs_lockres = volumeLock(LOCK_TYPES.trim_fs);
  }

  newLockRes(name: string, ops: LockResOps, data: unknown): LockRes {
    const res = new LockRes(name, ops, data, this.#owner);
    // Without other nodes every lock is ours from the start, and the domain never hears of it.
    if (!this.domain.clustered) res.level = EX;
    return res;
  }

  /** Generations in lock names as ocfs2_populate_inode has them: of the inode for rw, of the volume for system files, else 0. */
  #generation(inode: Inode): number {
    const { geo } = inode.osb;
    return inode.is_system || inode.ino === geo.root_blkno || inode.ino === geo.system_dir_blkno
      ? geo.fs_generation
      : 0;
  }

  metaLock(inode: Inode): LockRes {
    return (inode.meta_lockres ??= this.#lockOf(inode, "M", this.#generation(inode), this.#ops.meta));
  }

  rwLock(inode: Inode): LockRes {
    return (inode.rw_lockres ??= this.#lockOf(inode, "W", inode.generation, this.#ops.rw));
  }

  openLock(inode: Inode): LockRes {
    return (inode.open_lockres ??= this.#lockOf(inode, "O", 0, this.#ops.open));
  }

  #lockOf(inode: Inode, letter: string, generation: number, ops: LockResOps): LockRes {
    const res = this.newLockRes(lockName(letter, inode.ino, generation), ops, inode);
    if (inode.cover !== null) this.own(res);
    return res;
  }

  // Unshared ----------------------------------------------------------------------------------------------------------
  /** A new lock resource is ours as long as no other node can know its name. */
  own(res: LockRes): void {
    res.unshared = true;
    res.level = EX;
  }

  /**
   * Others are about to learn the name of an unshared lock: it is asked for, at the level that is in use or at `keep`, or not at all. Nobody here
   * notices: what is held stays held.
   */
  *shareTask(res: LockRes | null, keep: LockLevel): Task<void> {
    if (res === null || !res.unshared) return;
    const held = DlmGlue.heldLevel(res);
    const level = held > keep ? held : keep;
    res.unshared = false;
    res.level = level;
    if (level !== NL) {
      const dl = this.#attach(res);
      res.requested = level;
      yield* wait<void>((cb) => {
        this.#settling.set(res, cb);
        this.domain.convert(dl, level, options(res, false));
      });
    }
    if (res.blocking !== NL) this.#startDownconvert(res);
    else this.#request(res);
    if (res.isFree) this.#idled(res);
    res.wakeChanged();
  }

  // Taking ------------------------------------------------------------------------------------------------------------
  /**
   * Makes `locks` a holder of `res` at `level`; throws Wait until the cluster grants it (ocfs2_cluster_lock).
   * A lock held at PR cannot be taken at EX by the same set: two nodes doing so would wait for each other for ever.
   */
  lock(locks: LockSet, res: LockRes, level: LockLevel): void {
    this.#awaitRecovery(locks, res);
    const held = locks.level(res);
    if (held !== undefined) {
      if (held < level) unreachable(`${res.name}: PR to EX inside one operation`);
      return;
    }
    if (this.#mayHold(locks, res, level)) {
      this.stats.got(res.stats, level);
      res.hold(locks, level);
      return;
    }
    // What it covers went; who finds it again all the same asks for it anew.
    if (res.freeing) waitOn(res.changed);
    this.#want(locks, res, level, false);
    this.#request(res);
    if (locks.level(res) !== undefined) return;
    waitOn(res.waiters);
  }

  /**
   * As `lock`, but false when another node stands against it (DLM_LKF_NOQUEUE): nobody is waited for. A level that the node
   * has stays with it when that fails.
   */
  tryLock(locks: LockSet, res: LockRes, level: LockLevel): boolean {
    this.#awaitRecovery(locks, res);
    const held = locks.level(res);
    if (held !== undefined) {
      if (held < level) unreachable(`${res.name}: PR to EX inside one operation`);
      return true;
    }
    if (res.wasRefused(locks)) return false;
    if (this.#mayHold(locks, res, level)) {
      this.stats.got(res.stats, level);
      res.hold(locks, level);
      return true;
    }
    // What it covers went; who finds it again all the same asks for it anew.
    if (res.freeing) waitOn(res.changed);
    this.#want(locks, res, level, true);
    this.#request(res);
    if (locks.level(res) !== undefined) return true;
    if (res.wasRefused(locks)) return false;
    waitOn(res.waiters);
  }

  /** What a dead node's journal may still change, nobody reads. */
  #awaitRecovery(locks: LockSet, res: LockRes): void {
    if (res.ops.waits_for_recovery !== true || this.recovery_map.size === 0 || locks.for_recovery) return;
    this.#checkRecoverable();
    waitOn(this.recovery_done);
  }

  #checkRecoverable(): void {
    if (this.recovery_given_up)
      throw new FsError(Errno.EIO, "lock", { not_recovered: [...this.recovery_map].join(", ") });
  }

  /** Every node that has died is recovered: for what is read under no lock of its own. */
  *recovered(): Task<void> {
    while (this.recovery_map.size > 0) {
      this.#checkRecoverable();
      yield* wait<void>((cb) => this.recovery_done.add(() => cb(null)));
    }
  }

  /** `locks` waits for this and nothing else: not for a level that it asked for in an earlier run, which it may never give back. */
  #want(locks: LockSet, res: LockRes, level: LockLevel, trylock: boolean): void {
    locks.want(res);
    const before = res.wants.find((w) => w.locks === locks);
    res.want({ locks, level, trylock, since_ms: before?.since_ms ?? this.#clock.monotonic_ms() });
  }

  #mayHold(locks: LockSet, res: LockRes, level: LockLevel): boolean {
    if (res.level < level || res.freeing) return false;
    if (res.serves(locks)) return true;
    // What is not given up now is not worth waiting for.
    return !res.gate_shut && (level <= res.compatibleLevel || level <= res.keptLevel);
  }

  /** Asks the domain for the highest level wanted, if nothing is under way. Who only tries comes after those who wait. */
  #request(res: LockRes): void {
    if (res.requested !== null || res.downconverting || res.freeing || res.wants.length === 0) return;
    if (res.blocking !== NL) {
      this.#startDownconvert(res);
      return;
    }
    let level: LockLevel = NL;
    for (const w of res.wants) if (!w.trylock && w.level > level) level = w.level;
    const trylock = level === NL;
    for (const w of res.wants) if (w.trylock === trylock && w.level > level) level = w.level;
    if (res.level >= level) {
      this.#grantWants(res);
      if (res.wants.length > 0) this.#request(res);
      return;
    }
    const dl = this.#attach(res);
    res.requested = level;
    res.trying = trylock;
    this.domain.convert(dl, level, options(res, trylock));
  }

  /** The domain knows of the lock from here on. */
  #attach(res: LockRes): DomainLock {
    if (res.dl !== null) return res.dl;
    res.dl = this.domain.newLock(res.name, res);
    this.#attached.add(res);
    if (res.stats === NO_STATS) res.stats = this.stats.alloc();
    return res.dl;
  }

  #ast(res: LockRes, status: number): void {
    const { requested } = res;
    if (mlogOn(ML.DLM_GLUE)) mlog(ML.DLM_GLUE, `${res.name}: level ${res.level} to ${requested}, status ${status}`);
    assert(requested !== null, `${res.name}: AST with status ${status} for no request`);
    res.requested = null;
    res.cancelling = false;
    const settled = this.#settling.get(res);
    if (settled !== undefined) {
      assert(status === 0, `${res.name}: AST with status ${status} for a lock that is given up or was ours`);
      this.#settling.delete(res);
      res.level = requested;
      settled(null);
      return;
    }
    if (status === 0) {
      const from = res.level;
      res.level = requested;
      if (from === NL) res.ops.granted?.(res);
      this.#grantWants(res);
    } else if (status === -Errno.EAGAIN && res.trying) this.#refuse(res);
    else if (status !== -Errno.ECANCELED) {
      this.#failed(new Error(`${res.name}: the lock manager answers ${status}`));
      return;
    }
    res.trying = false;
    if (res.blocking !== NL) this.#startDownconvert(res);
    else this.#request(res);
    if (res.isFree) this.#idled(res);
    res.wakeChanged();
  }

  /** Those who only tried hear that another node holds it. */
  #refuse(res: LockRes): void {
    const stays = (w: Want): boolean => !w.trylock || w.level <= res.level;
    for (const w of res.wants) {
      if (stays(w)) continue;
      res.refuse(w.locks);
      this.stats.failed(res.stats, w.level);
    }
    res.keepWants(stays);
    res.wakeWaiters();
  }

  #grantWants(res: LockRes): void {
    if (res.gate_shut) return;
    const granted = res.wants.filter((w) => w.level <= res.level);
    if (granted.length === 0) return;
    res.keepWants((w) => w.level > res.level);
    const now_ms = this.#clock.monotonic_ms();
    for (const w of granted) {
      this.stats.waited(res.stats, w.level, now_ms - w.since_ms, this.nowUs());
      res.hold(w.locks, w.level);
    }
    res.wakeWaiters();
  }

  // Giving up -----------------------------------------------------------------------------------------------------------
  #bast(res: LockRes, blocking: LockLevel): void {
    this.bast_count++;
    if (mlogOn(ML.BASTS)) mlog(ML.BASTS, `BAST ${res.name} level ${res.level} blocking ${blocking}`);
    if (blocking > res.blocking) res.blocking = blocking;
    if (res.requested !== null && res.requested > res.level && res.level > res.compatibleLevel && !res.cancelling) {
      if (this.#sabotage.has("cancel_convert")) return;
      // Somebody else's conversion came first, and waits for what we hold: ours would wait for theirs.
      res.cancelling = true;
      this.domain.cancel(res.dl!);
    }
    this.#startDownconvert(res);
  }

  /** Calls a request off that nobody here waits for any more, and answers when it is over. */
  *cancelTask(res: LockRes): Task<void> {
    if (res.requested !== null && res.requested > res.level && !res.cancelling) {
      res.cancelling = true;
      this.domain.cancel(res.dl!);
    }
    while (res.requested !== null) yield* wait<void>((cb) => res.changed.add(() => cb(null)));
  }

  /** Gives the lock up though nobody has asked for it, unless it is held or wanted here (ocfs2_open_unlock's fake BAST). */
  *giveUpTask(res: LockRes | null): Task<void> {
    while (res?.freeing === true) yield* wait<void>((cb) => res.changed.add(() => cb(null)));
    if (res === null || res.dl === null || !res.isFree) return;
    // What is kept stays. If it were called back all the same, whoever here tries for more, to delete it, would wait for that for ever.
    const kept = res.keptLevel;
    if (res.level <= kept) return;
    const wanted = kept === NL ? EX : PR;
    if (wanted > res.blocking) res.blocking = wanted;
    this.#startDownconvert(res);
    while (res.requested !== null || res.downconverting) yield* wait<void>((cb) => res.changed.add(() => cb(null)));
  }

  #idled(res: LockRes): void {
    if (res.isFree) res.ops.idle?.(res);
    if (res.ops.nocache === true && res.level > NL && res.isFree && !res.freeing && res.dl !== null) res.blocking = EX;
    if (res.blocking !== NL) this.#startDownconvert(res);
  }

  /** Gives `res` up as far as others want it, as soon as nobody here holds it in conflict; where nothing need be given up it asks on. */
  #startDownconvert(res: LockRes): void {
    if (res.downconverting || res.requested !== null || res.blocking === NL || res.freeing) return;
    if (res.level <= res.compatibleLevel) {
      res.blocking = NL;
      this.#request(res);
      return;
    }
    const to = Math.max(res.compatibleLevel, res.keptLevel) as LockLevel;
    if (res.level <= to || !res.idleFor(to)) return;
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
      res.wakeChanged();
      if (res.blocking !== NL) this.#startDownconvert(res);
      else this.#request(res);
      if (res.isFree) res.ops.idle?.(res);
      if (this.active === 0) this.quiet.wakeAll();
    });
  }

  *#downconvert(res: LockRes, to: LockLevel): Task<void> {
    // The gate shuts at once here: holders are gone. The fuse layer's rule 4 (serve until the last notification
    // returned) opens it again inside `downconvert` for as long as notifications are under way.
    res.gate_shut = true;
    if (res.ops.downconvert !== undefined) yield* res.ops.downconvert(res, to);
    res.gate_shut = true;
    assert(res.idleFor(to), `${res.name} is held while it is given up`);
    // What another node asked for meanwhile may be more than `to` allows: that is the next round's.
    if (res.compatibleLevel >= to) res.blocking = NL;
    const hand_on = res.ops.uses_lvb === true && res.level === EX;
    res.requested = to;
    const dl = res.dl!;
    yield* wait<void>((cb) => {
      this.#settling.set(res, cb);
      this.domain.convert(dl, to, hand_on ? { lvb: true } : {});
    });
  }
  /** Downconverts, and unshared locks that are asked for, whose AST is still to come. */
  readonly #settling = new Map<LockRes, (err: unknown) => void>();

  // The end -------------------------------------------------------------------------------------------------------------
  /**
   * The lock goes with what it covers: given up as if another node wanted it at EX, then unlocked in the domain
   * (ocfs2_mark_lockres_freeing, ocfs2_drop_lock). Nobody may hold it or ask for it any more.
   */
  *dropTask(res: LockRes | null): Task<void> {
    if (res?.unshared === true) {
      assert(res.isFree, `${res.name} is dropped while held or wanted`);
      res.unshared = false;
      res.level = NL;
    }
    if (res === null || res.dl === null || res.freeing) return;
    res.freeing = true;
    while (res.requested !== null || res.downconverting) yield* wait<void>((cb) => res.changed.add(() => cb(null)));
    assert(res.isFree, `${res.name} is dropped while held or wanted`);
    if (res.level > NL && res.ops.downconvert !== undefined) {
      res.downconverting = true;
      this.active++;
      try {
        yield* res.ops.downconvert(res, NL);
      } finally {
        res.downconverting = false;
        if (--this.active === 0) this.quiet.wakeAll();
      }
    }
    const hand_on = res.ops.uses_lvb === true && res.level === EX;
    const { dl } = res;
    yield* wait<void>((cb) => this.domain.unlock(dl, () => cb(null), hand_on ? { lvb: true } : {}));
    this.#attached.delete(res);
    this.stats.free(res.stats);
    res.stats = NO_STATS;
    res.dl = null;
    res.level = NL;
    res.blocking = NL;
    res.gate_shut = false;
    res.freeing = false;
    res.wakeChanged();
  }

  /**
   * As dropTask for a lock that somebody may still hold or ask for: what it covers is gone, which they will find out. One that
   * stayed would be in the way of whatever gets the same name next.
   */
  *dropWhenFree(res: LockRes): Task<void> {
    while (!res.isFree) yield* wait<void>((cb) => res.changed.add(() => cb(null)));
    yield* this.dropTask(res);
  }

  /**
   * Every lock that the domain knows of is dropped, at the end of the mount (ocfs2_drop_osb_locks and all inodes'). Open locks first: who deletes
   * takes the meta lock before it tries for them, and would be refused by one who looks no more.
   */
  *dropAll(): Task<void> {
    yield* this.#dropEach((res) => res.ops === this.#ops.open);
    yield* this.#dropEach(() => true);
  }

  *#dropEach(which: (res: LockRes) => boolean): Task<void> {
    for (let found = true; found; ) {
      found = false;
      // One walk: each new one would begin among all that the walks before have taken out.
      let some: Thunk<void>[] = [];
      for (const res of this.#attached) {
        if (!which(res)) continue;
        found = true;
        if (some.push(asThunk(() => this.#dropOrWait(res))) < DROPS_AT_A_TIME) continue;
        yield* all(some);
        some = [];
      }
      yield* all(some);
    }
  }

  *#dropOrWait(res: LockRes): Task<void> {
    if (res.freeing) yield* wait<void>((cb) => res.changed.add(() => cb(null)));
    else yield* this.dropTask(res);
  }

  /** µs since 1970. */
  nowUs(): number {
    const { sec, nsec } = this.#clock.realtime();
    return sec * 1e6 + Math.floor(nsec / 1000);
  }

  /** Since when somebody waits for `res`, µs since 1970; 0 for nobody. */
  waitsSinceUs(res: LockRes): number {
    if (res.wants.length === 0) return 0;
    const since_ms = Math.min(...res.wants.map((w) => w.since_ms));
    return this.nowUs() - Math.round((this.#clock.monotonic_ms() - since_ms) * 1000);
  }

  /** For reports and tests. */
  get attached(): ReadonlySet<LockRes> {
    return this.#attached;
  }

  /** True while nothing is being given up. */
  get idle(): boolean {
    return this.active === 0;
  }

  /** For tests: highest level held on `res` by anybody. */
  static heldLevel(res: LockRes): LockLevel {
    return res.ex_holders > 0 ? EX : res.pr_holders > 0 ? PR : NL;
  }
}

const options = (res: LockRes, trylock: boolean): ConvertOptions =>
  res.ops.uses_lvb === true ? { trylock, lvb: true } : { trylock };
