/**
 * What the kernel's dlm_thread does between events: looks at the queues of resources where something changed, grants what can be
 * granted, tells those who are in the way, and drops resources that nobody has needed for a while.
 */
import { DLM_DEREF_RESPONSE_INPROG, LKM_IVMODE } from "../format/wire/dlm_constants.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { flushAsts, queueAst, queueBast, reserveAst } from "./ast.ts";
import { dropLockresRef } from "./deref.ts";
import { DLM_CTXT_IN_SHUTDOWN, type Dlm, isHostDown } from "./dlm.ts";
import {
  compatible,
  type DlmLock,
  type DlmLockRes,
  LIST_GRANTED,
  RES_BLOCK_DIRTY,
  RES_BUSY,
  RES_DIRTY,
  RES_DROPPING_REF,
  RES_MIGRATING,
  RES_ON_PURGE,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
  RES_REDIRTY,
} from "./lockres.ts";
import { lvbDrop } from "./lvb.ts";

const PURGE_INTERVAL_MS = 8000;
/** How many masters may be told at a time that we need a resource no more: others wait behind them, unless the domain is left. */
const DEREF_WINDOW = 64;
const DEREF_WINDOW_LEAVING = 1024;
const PURGE_BATCH = 2000;
const PURGE_BATCH_LEAVING = 20_000;

export function threadHasWork(dlm: Dlm): boolean {
  return (
    dlm.dirty.length > 0 ||
    dlm.pending_asts.length > 0 ||
    dlm.pending_basts.length > 0 ||
    dlm.callbacks.length > 0 ||
    canPurge(dlm)
  );
}

export function runThread(dlm: Dlm): void {
  for (let i = 0; i < dlm.callbacks.length && !dlm.gone; i++) dlm.callbacks[i]!();
  dlm.callbacks.length = 0;
  if (canPurge(dlm)) runPurgeList(dlm);
  // What is dirtied on the way is appended and seen too.
  for (let i = 0; i < dlm.dirty.length; i++) {
    const res = dlm.dirty[i]!;
    res.state &= ~RES_DIRTY;
    if (res.owner !== dlm.node_num) continue;
    if (res.state & RES_BUSY) {
      res.state |= RES_REDIRTY;
      continue;
    }
    shuffleLists(dlm, res);
    calcUsage(dlm, res);
  }
  if (dlm.dirty.length > 0) {
    dlm.dirty.length = 0;
    dlm.wake(dlm.ast_wq);
  }
  flushAsts(dlm);
}

/** __dlm_dirty_lockres. Only queues at the master are looked at. */
export function dirtyLockres(dlm: Dlm, res: DlmLockRes): void {
  if (res.owner !== dlm.node_num) return;
  if (res.state & (RES_MIGRATING | RES_BLOCK_DIRTY | RES_DIRTY)) return;
  if (res.converting === null && res.blocked === null) return;
  res.state |= RES_DIRTY;
  dlm.dirty.push(res);
}

/** Tells the locks that stand in the way of `target` at `level`; true if there are none. */
function clearTheWay(dlm: Dlm, res: DlmLockRes, target: DlmLock, level: number): boolean {
  let free = true;
  for (const queue of [res.granted, res.converting]) {
    for (let lock = queue; lock !== null; lock = lock.next) {
      if (lock === target || compatible(lock.type, level)) continue;
      free = false;
      if (lock.highest_blocked === LKM_IVMODE) {
        reserveAst(res);
        queueBast(dlm, lock);
      }
      if (lock.highest_blocked < level) lock.highest_blocked = level;
    }
  }
  return free;
}

/** dlm_shuffle_lists: conversions first, then new locks, each queue from its head until one has to wait. */
function shuffleLists(dlm: Dlm, res: DlmLockRes): void {
  for (;;) {
    let blocked = false;
    const converting = res.converting;
    if (converting !== null) {
      assert(converting.convert_type !== LKM_IVMODE, `${res.name}: converting to no mode`);
      if (clearTheWay(dlm, res, converting, converting.convert_type)) {
        converting.type = converting.convert_type;
        converting.convert_type = LKM_IVMODE;
        grant(dlm, res, converting);
        continue;
      }
      blocked = true;
    }
    const target = res.blocked;
    if (target === null) return;
    // Also when a conversion waits: those in the way of the new lock are to hear of it.
    if (!clearTheWay(dlm, res, target, target.type) || blocked) return;
    grant(dlm, res, target);
  }
}

function grant(dlm: Dlm, res: DlmLockRes, lock: DlmLock): void {
  res.moveTail(lock, LIST_GRANTED);
  reserveAst(res);
  queueAst(dlm, lock);
}

// Resources that are not needed -----------------------------------------------------------------------------------------

/** __dlm_lockres_unused. */
export function isUnused(res: DlmLockRes): boolean {
  if (res.granted !== null || res.inflight_locks > 0 || res.converting !== null || res.blocked !== null) return false;
  if (res.state & (RES_DIRTY | RES_RECOVERING | RES_RECOVERY_WAITING)) return false;
  return !res.hasRefs;
}

function purgeRemove(dlm: Dlm, res: DlmLockRes): void {
  if (!(res.state & RES_ON_PURGE)) return;
  res.state &= ~RES_ON_PURGE;
  if (res.purge_prev === null) dlm.purge_head = res.purge_next;
  else res.purge_prev.purge_next = res.purge_next;
  if (res.purge_next === null) dlm.purge_tail = res.purge_prev;
  else res.purge_next.purge_prev = res.purge_prev;
  res.purge_prev = res.purge_next = null;
  dlm.purge_count--;
}

function purgeAdd(dlm: Dlm, res: DlmLockRes): void {
  res.state |= RES_ON_PURGE;
  res.purge_prev = dlm.purge_tail;
  if (dlm.purge_tail === null) dlm.purge_head = res;
  else dlm.purge_tail.purge_next = res;
  dlm.purge_tail = res;
  dlm.purge_count++;
}

/** __dlm_lockres_calc_usage: to be called whenever a lock or a reference came or went. */
export function calcUsage(dlm: Dlm, res: DlmLockRes): void {
  if (!isUnused(res)) {
    if (res.state & RES_ON_PURGE) purgeRemove(dlm, res);
  } else if (!(res.state & RES_ON_PURGE)) {
    res.last_used = dlm.now();
    purgeAdd(dlm, res);
    if (dlm.state === DLM_CTXT_IN_SHUTDOWN) dlm.purge_due = true;
    else armPurge(dlm);
  }
}

/** Looks at the list when its head is old enough, or after `delay_ms`. */
function armPurge(dlm: Dlm, delay_ms?: number): void {
  if (dlm.purge_timer !== null || dlm.purge_head === null) return;
  const left_ms = (dlm.purge_head.last_used - dlm.now()) * 100 + PURGE_INTERVAL_MS;
  dlm.purge_timer = dlm.after(delay_ms ?? Math.max(left_ms, 100), () => {
    dlm.purge_timer = null;
    dlm.purge_due = true;
  });
}

const derefWindowFull = (dlm: Dlm): boolean =>
  dlm.derefs_in_flight >= (dlm.state === DLM_CTXT_IN_SHUTDOWN ? DEREF_WINDOW_LEAVING : DEREF_WINDOW);
const canPurge = (dlm: Dlm): boolean => dlm.purge_due && dlm.purge_head !== null && !derefWindowFull(dlm);

/** dlm_run_purge_list. A million inodes may have been dropped at once: a bounded number goes in one event. */
function runPurgeList(dlm: Dlm): void {
  dlm.purge_due = false;
  const purge_now = dlm.state === DLM_CTXT_IN_SHUTDOWN;
  const limit = dlm.now() - PURGE_INTERVAL_MS / 100;
  let left = Math.min(dlm.purge_count, purge_now ? PURGE_BATCH_LEAVING : PURGE_BATCH);
  for (; left > 0 && dlm.purge_head !== null; left--) {
    if (derefWindowFull(dlm)) return;
    const res = dlm.purge_head;
    if (!purge_now && res.last_used > limit) break;
    purgeRemove(dlm, res);
    if (!isUnused(res)) continue;
    if (res.state & RES_MIGRATING || res.inflight_assert_workers > 0) purgeAdd(dlm, res);
    else purgeLockres(dlm, res);
  }
  // What could not be dropped, or was left for the next batch.
  armPurge(dlm, left === 0 ? 1 : purge_now ? 20 : undefined);
}

/** dlm_purge_lockres: forgets a resource of ours; of another master's, that is told first. */
function purgeLockres(dlm: Dlm, res: DlmLockRes): void {
  if (mlogOn(ML.DLM_THREAD)) mlog(ML.DLM_THREAD, `${dlm.name}: purging ${res.name}, master ${res.owner}`);
  if (res.owner === dlm.node_num) {
    doPurgeLockres(dlm, res);
    return;
  }
  if (res.state & RES_DROPPING_REF) return;
  res.state |= RES_DROPPING_REF;
  dlm.derefs_in_flight++;
  dropLockresRef(dlm, res, (ret) => {
    dlm.derefs_in_flight--;
    dlm.purge_due = true;
    // The death of the master purged it meanwhile.
    if (!(res.state & RES_DROPPING_REF)) return;
    if (ret === DLM_DEREF_RESPONSE_INPROG) return;
    if (ret < 0 && !isHostDown(ret)) {
      dlm.die(`${res.name}: DEREF_LOCKRES to node ${res.owner} failed with ${ret}`);
      return;
    }
    doPurgeLockres(dlm, res);
  });
}

/** __dlm_do_purge_lockres. */
export function doPurgeLockres(dlm: Dlm, res: DlmLockRes): void {
  purgeRemove(dlm, res);
  assert(isUnused(res), `${res.name} is in use after the drop of its reference`);
  dlm.lockres.remove(res);
  lvbDrop(res);
  res.state &= ~RES_DROPPING_REF;
  dlm.wakeRes(res);
  dlm.wake(dlm.purge_wq);
}
