/** New locks (dlmlock.c): at the master in one step, elsewhere with CREATE_LOCK. */

import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmCreateLock } from "../format/wire/dlm.ts";
import {
  DLM_LOCKID_NAME_MAX,
  DLM_STATUS,
  dlmStatusName,
  LKM_EXMODE,
  LKM_GET_LVB,
  LKM_NLMODE,
  LKM_NOQUEUE,
  LKM_PRMODE,
  LKM_RECOVERY,
  LKM_VALBLK,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { queueAst, releaseAst, reserveAst } from "./ast.ts";
import { type Dlm, errToStatus, isHostDown, nameAt, putName, RECO_ACTIVE } from "./dlm.ts";
import {
  compatible,
  type DlmCallbacks,
  DlmLock,
  type DlmLockRes,
  LIST_BLOCKED,
  LIST_GRANTED,
  LOCK_AST_FIRST,
  LOCK_GET_LVB,
  LOCK_LOCK_PENDING,
  RES_BUSY,
  RES_DROPPING_REF,
  RES_IN_PROGRESS,
  RES_MIGRATING,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
} from "./lockres.ts";
import { dropInflightRef, getLockResource, tryGetLockResource, waitOnLockres } from "./master.ts";
import { isNodeDead, waitForNodeDeath, waitForRecovery } from "./recovery_wait.ts";
import { calcUsage, dirtyLockres, doPurgeLockres, isUnused } from "./thread.ts";

export const RECOVERY_LOCK_NAME = "$RECOVERY";
export const isRecoveryLock = (name: string): boolean => name === RECOVERY_LOCK_NAME;
/** The kernel waits 100 ms before it asks again; a resource is seldom busy that long. */
export const RETRY_MS = 20;
export const NODE_DEATH_WAIT_MS = 5000;

export const isRetry = (status: number): boolean =>
  status === DLM_STATUS.RECOVERING || status === DLM_STATUS.MIGRATING || status === DLM_STATUS.FORWARD;

/** A lock of this node, on no resource yet. The cookie is given when it is first asked for. */
export function newLock(dlm: Dlm, name: string, callbacks: DlmCallbacks): DlmLock {
  return new DlmLock(name, dlm.node_num, LKM_NLMODE, 0, 0, callbacks);
}

/** dlm_get_next_cookie. */
function nextCookie(dlm: Dlm, lock: DlmLock): void {
  const seq = dlm.cookie_seq;
  dlm.cookie_seq = seq < 2 ** 53 - 1 ? seq + 1 : 1;
  lock.cookie_hi = (dlm.node_num << 24) | Math.floor(seq / 2 ** 32);
  lock.cookie_lo = seq | 0;
}

/** __dlm_lockres_state_to_status. */
export function stateToStatus(res: DlmLockRes): number {
  if (res.state & (RES_RECOVERING | RES_RECOVERY_WAITING)) return DLM_STATUS.RECOVERING;
  if (res.state & RES_MIGRATING) return DLM_STATUS.MIGRATING;
  if (res.state & RES_IN_PROGRESS) return DLM_STATUS.FORWARD;
  return DLM_STATUS.NORMAL;
}

/**
 * Asks for a lock that this node does not have yet (dlmlock without LKM_CONVERT). `done` hears whether the request was taken:
 * NORMAL, and then the AST comes, possibly before; or NOTQUEUED and the like, and then the lock is on no resource.
 */
export function dlmlock(dlm: Dlm, lock: DlmLock, mode: number, flags: number, done: (status: number) => void): void {
  dlm.enter();
  nextCookie(dlm, lock);
  lock.type = mode;
  if (!(dlm.reco.state & RECO_ACTIVE)) {
    const res = tryGetLockResource(dlm, lock.name, flags);
    if (res !== null) {
      if (res.owner === dlm.node_num && !(res.state & RES_BUSY)) {
        lock.res = res;
        if (flags & LKM_VALBLK && mode >= LKM_PRMODE) lock.flags |= LOCK_GET_LVB;
        done(finish(dlm, res, lock, lockMaster(dlm, res, lock, flags)));
        dlm.exit();
        return;
      }
      // Found and pinned, but not to be had in one step: the task finds it again.
      dropInflightRef(dlm, res);
    }
  }
  dlm.spawn(lockTask(dlm, lock, flags), done);
  dlm.exit();
}

function* lockTask(dlm: Dlm, lock: DlmLock, flags: number): Task<number> {
  const recovery = (flags & LKM_RECOVERY) !== 0;
  if (!recovery) yield* waitForRecovery(dlm);
  const res = yield* getLockResource(dlm, lock.name, flags);
  lock.res = res;
  for (;;) {
    if (flags & LKM_VALBLK) {
      if (lock.type < LKM_PRMODE) flags &= ~LKM_VALBLK;
      else {
        flags |= LKM_GET_LVB;
        lock.flags |= LOCK_GET_LVB;
      }
    }
    let status: number;
    if (res.owner === dlm.node_num) {
      yield* waitOnLockres(dlm, res, RES_BUSY);
      status = res.owner === dlm.node_num ? lockMaster(dlm, res, lock, flags) : DLM_STATUS.FORWARD;
    } else status = yield* lockRemote(dlm, res, lock, flags);
    if (isRetry(status)) {
      yield* dlm.sleep(RETRY_MS);
      if (!recovery) {
        yield* waitForRecovery(dlm);
        continue;
      }
      if (status !== DLM_STATUS.RECOVERING) continue;
      // The recovery lock's master is dead: let the resource be cleaned up, and have it mastered anew.
      yield* waitForNodeDeath(dlm, res.owner, NODE_DEATH_WAIT_MS);
    }
    return finish(dlm, res, lock, status);
  }
}

/** When a request is over. The recovery lock is not recovered like others: if its master is dead, it is to be mastered anew, at once. */
export function settleUsage(dlm: Dlm, res: DlmLockRes): void {
  if (isRecoveryLock(res.name) && isNodeDead(dlm, res.owner) && isUnused(res) && !(res.state & RES_DROPPING_REF))
    doPurgeLockres(dlm, res);
  else calcUsage(dlm, res);
}

function finish(dlm: Dlm, res: DlmLockRes, lock: DlmLock, status: number): number {
  dropInflightRef(dlm, res);
  settleUsage(dlm, res);
  dirtyLockres(dlm, res);
  if (status !== DLM_STATUS.NORMAL) {
    lock.flags &= ~LOCK_GET_LVB;
    lock.res = null;
    if (status !== DLM_STATUS.NOTQUEUED && mlogOn(ML.DLM))
      mlog(ML.DLM, `${lock.name}: dlmlock ${dlmStatusName(status)}`);
  }
  return status;
}

/** dlm_can_grant_new_lock. */
function canGrantNew(res: DlmLockRes, lock: DlmLock): boolean {
  for (let l = res.granted; l !== null; l = l.next) if (!compatible(l.type, lock.type)) return false;
  for (let l = res.converting; l !== null; l = l.next)
    if (!compatible(l.type, lock.type) || !compatible(l.convert_type, lock.type)) return false;
  return true;
}

/** dlmlock_master: on a resource of ours that is not busy. */
function lockMaster(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number): number {
  reserveAst(res);
  if (canGrantNew(res, lock)) {
    res.addTail(lock, LIST_GRANTED);
    // Nobody waits for the AST of the recovery lock.
    if (isRecoveryLock(res.name)) releaseAst(dlm, res);
    else queueAst(dlm, lock);
    return DLM_STATUS.NORMAL;
  }
  let status: number = DLM_STATUS.NOTQUEUED;
  if (!(flags & LKM_NOQUEUE)) {
    status = DLM_STATUS.NORMAL;
    res.addTail(lock, LIST_BLOCKED);
  }
  releaseAst(dlm, res);
  calcUsage(dlm, res);
  dirtyLockres(dlm, res);
  return status;
}

/** dlmlock_remote: queued here first, so that an AST that is faster than the answer finds it. */
function* lockRemote(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number): Task<number> {
  yield* waitOnLockres(dlm, res, RES_BUSY);
  if (res.owner === dlm.node_num) return DLM_STATUS.RECOVERING;
  res.state |= RES_IN_PROGRESS;
  res.addTail(lock, LIST_BLOCKED);
  lock.flags |= LOCK_LOCK_PENDING;
  const owner = res.owner;
  const m = DlmCreateLock.alloc();
  m.cookie_hi = lock.cookie_hi;
  m.cookie_lo = lock.cookie_lo;
  m.flags = flags;
  m.node_idx = dlm.node_num;
  m.requested_type = lock.type;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  const { err, status: answer } = yield* wait(dlm.call(DLM_MSG.CREATE_LOCK, m.bytes(), owner));
  let status = answer;
  if (lock.flags & LOCK_AST_FIRST) {
    lock.flags &= ~LOCK_AST_FIRST;
    status = DLM_STATUS.NORMAL;
  } else if (err < 0) status = isHostDown(err) ? DLM_STATUS.RECOVERING : errToStatus(err);
  else if (isStale(res, owner, status)) status = DLM_STATUS.FORWARD;
  else if (status === DLM_STATUS.REJECTED) dlm.die(`${res.name}: node ${owner} is its master, but joins only now`);
  // The master died between its answer and now: the recovery took the lock off its queue.
  else if (status === DLM_STATUS.NORMAL && !(lock.flags & LOCK_LOCK_PENDING)) status = DLM_STATUS.RECOVERING;

  res.state &= ~RES_IN_PROGRESS;
  lock.flags &= ~LOCK_LOCK_PENDING;
  let changed = true;
  if (status !== DLM_STATUS.NORMAL) {
    // Otherwise the resource would be forgotten before the request is made again.
    if (!(status === DLM_STATUS.RECOVERING && isRecoveryLock(res.name))) changed = status === DLM_STATUS.NOTQUEUED;
    revertPendingLock(res, lock);
  } else if (isRecoveryLock(res.name)) res.moveTail(lock, LIST_GRANTED);
  if (changed) calcUsage(dlm, res);
  dlm.wakeRes(res);
  return status;
}

/** The request reached a master that has given the resource away meanwhile, and forgotten it; we have heard of the new one. */
export function isStale(res: DlmLockRes, asked: NodeNum, status: number): boolean {
  return res.owner !== asked && (status === DLM_STATUS.IVLOCKID || status === DLM_STATUS.REJECTED);
}

/** dlm_revert_pending_lock. */
export function revertPendingLock(res: DlmLockRes, lock: DlmLock): void {
  res.remove(lock);
  lock.flags &= ~LOCK_GET_LVB;
}

const isMode = (type: number): boolean => type === LKM_NLMODE || type === LKM_PRMODE || type === LKM_EXMODE;

/** dlm_create_lock_handler. */
export function createLockHandler(dlm: Dlm, m: ViewOf<typeof DlmCreateLock>, payload: Uint8Array): number {
  if (!dlm.fully_joined) {
    mlog(ML.ERROR, `${dlm.name}: node ${m.node_idx} sends CREATE_LOCK, but this node has not joined`);
    return DLM_STATUS.REJECTED;
  }
  if (m.namelen > DLM_LOCKID_NAME_MAX) return DLM_STATUS.IVBUFLEN;
  const res = dlm.lockres.get(nameAt(payload, DlmCreateLock.fields.name.off, m.namelen));
  // It has been given away while the request was under way: the sender knows the new master, or will soon. The kernel says IVLOCKID,
  // which is final.
  if (res === undefined || res.state & RES_DROPPING_REF) return DLM_STATUS.FORWARD;
  const status = stateToStatus(res);
  if (status !== DLM_STATUS.NORMAL) return status;
  if (res.owner !== dlm.node_num) return DLM_STATUS.FORWARD;
  // The kernel takes these: a mode of no meaning, a lock in its own name. They come from no node.
  if (!isMode(m.requested_type)) return DLM_STATUS.BADPARAM;
  if (m.node_idx === dlm.node_num) return DLM_STATUS.IVLOCKID;
  const lock = new DlmLock(res.name, m.node_idx, m.requested_type, m.cookie_hi, m.cookie_lo, null);
  if (m.flags & LKM_GET_LVB) lock.flags |= LOCK_GET_LVB;
  lock.res = res;
  return lockMaster(dlm, res, lock, m.flags);
}
