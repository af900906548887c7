/** Conversions (dlmconvert.c): up they may wait in the converting queue, down they are granted where they stand. */

import type { ViewOf } from "../format/struct.ts";
import { DlmConvertLock } from "../format/wire/dlm.ts";
import {
  DLM_LOCKID_NAME_MAX,
  DLM_LVB_LEN,
  DLM_STATUS,
  dlmStatusName,
  LKM_EXMODE,
  LKM_GET_LVB,
  LKM_IVMODE,
  LKM_NLMODE,
  LKM_NOQUEUE,
  LKM_PRMODE,
  LKM_PUT_LVB,
  LKM_VALBLK,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { queueAst, releaseAst, reserveAst } from "./ast.ts";
import { type Dlm, errToStatus, isHostDown, nameAt, putName, RECO_ACTIVE } from "./dlm.ts";
import { isRetry, isStale, NODE_DEATH_WAIT_MS, RETRY_MS, stateToStatus } from "./lock.ts";
import {
  compatible,
  type DlmLock,
  type DlmLockRes,
  LIST_CONVERTING,
  LIST_GRANTED,
  LIST_NONE,
  LOCK_AST_DOWN,
  LOCK_AST_FIRST,
  LOCK_CONVERT_PENDING,
  LOCK_GET_LVB,
  LOCK_PUT_LVB,
  RES_BUSY,
  RES_DROPPING_REF,
  RES_IN_PROGRESS,
  RES_RECOVERING,
} from "./lockres.ts";
import { lvbCopy, lvbOf } from "./lvb.ts";
import { waitOnLockres } from "./master.ts";
import { waitForNodeDeath, waitForRecovery } from "./recovery_wait.ts";
import { dirtyLockres } from "./thread.ts";

/** Converts a lock that this node has (dlmlock with LKM_CONVERT). `done` hears whether the request was taken; the AST comes by itself. */
export function dlmconvert(dlm: Dlm, lock: DlmLock, type: number, flags: number, done: (status: number) => void): void {
  dlm.enter();
  const res = lock.res!;
  if (res.owner === dlm.node_num && !(res.state & RES_BUSY) && !(dlm.reco.state & RECO_ACTIVE))
    done(convertMaster(dlm, res, lock, flags, type));
  else dlm.spawn(convertTask(dlm, lock, flags, type), done);
  dlm.exit();
}

function* convertTask(dlm: Dlm, lock: DlmLock, flags: number, type: number): Task<number> {
  const res = lock.res!;
  for (;;) {
    yield* waitForRecovery(dlm);
    let status: number;
    if (res.owner === dlm.node_num) {
      yield* waitOnLockres(dlm, res, RES_BUSY);
      status = res.owner === dlm.node_num ? convertMaster(dlm, res, lock, flags, type) : DLM_STATUS.FORWARD;
    } else status = yield* convertRemote(dlm, res, lock, flags, type);
    if (!isRetry(status)) return status;
    yield* dlm.sleep(RETRY_MS);
  }
}

/** dlmconvert_master: on a resource of ours that is not busy, for a lock of any node. */
function convertMaster(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number, type: number): number {
  if (lock.convert_type !== LKM_IVMODE || lock.list !== LIST_GRANTED) {
    mlog(ML.ERROR, `${res.name}: a conversion of a lock (${lock.cookieText}) that is not granted`);
    return DLM_STATUS.DENIED;
  }
  if (flags & LKM_VALBLK) {
    if (lock.type === LKM_EXMODE) lock.flags |= LOCK_PUT_LVB;
    else if (type > LKM_NLMODE) lock.flags |= LOCK_GET_LVB;
  }
  reserveAst(res);
  if (type <= lock.type || canConvertUp(res, lock, type)) {
    if (type < lock.type && lock.node !== dlm.node_num) lock.flags |= LOCK_AST_DOWN;
    lock.type = type;
    if (lock.flags & LOCK_PUT_LVB) lvbCopy(lock, res);
    // To the tail: it may be the only one whose LVB is not valid.
    res.moveTail(lock, LIST_GRANTED);
    queueAst(dlm, lock);
    dirtyLockres(dlm, res);
    return DLM_STATUS.NORMAL;
  }
  if (flags & LKM_NOQUEUE) {
    releaseAst(dlm, res);
    lock.flags &= ~(LOCK_PUT_LVB | LOCK_GET_LVB);
    return DLM_STATUS.NOTQUEUED;
  }
  lock.convert_type = type;
  res.moveTail(lock, LIST_CONVERTING);
  releaseAst(dlm, res);
  dirtyLockres(dlm, res);
  return DLM_STATUS.NORMAL;
}

function canConvertUp(res: DlmLockRes, lock: DlmLock, type: number): boolean {
  for (let l = res.granted; l !== null; l = l.next) if (l !== lock && !compatible(l.type, type)) return false;
  for (let l = res.converting; l !== null; l = l.next)
    if (!compatible(l.type, type) || !compatible(l.convert_type, type)) return false;
  return true;
}

/** dlm_revert_pending_convert. */
export function revertPendingConvert(res: DlmLockRes, lock: DlmLock): void {
  res.moveTail(lock, LIST_GRANTED);
  lock.convert_type = LKM_IVMODE;
  lock.flags &= ~(LOCK_GET_LVB | LOCK_PUT_LVB);
}

/** dlmconvert_remote. */
function* convertRemote(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number, type: number): Task<number> {
  if (res.state & RES_RECOVERING) return DLM_STATUS.RECOVERING;
  yield* waitOnLockres(dlm, res, RES_BUSY);
  if (res.owner === dlm.node_num) return DLM_STATUS.FORWARD;
  if (lock.convert_type !== LKM_IVMODE || lock.list !== LIST_GRANTED) {
    mlog(ML.ERROR, `${res.name}: a conversion of a lock (${lock.cookieText}) that is not granted`);
    return DLM_STATUS.DENIED;
  }
  // The last attempt was answered with RECOVERING, and yet the AST has come.
  if (lock.type === type) return DLM_STATUS.NORMAL;
  res.state |= RES_IN_PROGRESS;
  res.moveTail(lock, LIST_CONVERTING);
  lock.flags |= LOCK_CONVERT_PENDING;
  lock.convert_type = type;
  if (flags & LKM_VALBLK) {
    if (lock.type === LKM_EXMODE) {
      flags |= LKM_PUT_LVB;
      lock.flags |= LOCK_PUT_LVB;
    } else if (type === LKM_NLMODE) flags &= ~LKM_VALBLK;
    else {
      flags |= LKM_GET_LVB;
      lock.flags |= LOCK_GET_LVB;
    }
  }
  let status = yield* sendConvert(dlm, res, lock, flags, type);
  res.state &= ~RES_IN_PROGRESS;
  if (lock.flags & LOCK_AST_FIRST) {
    lock.flags &= ~LOCK_AST_FIRST;
    status = DLM_STATUS.NORMAL;
  } else if (status !== DLM_STATUS.NORMAL) {
    if ((lock.list as number) !== LIST_NONE) revertPendingConvert(res, lock);
  } else if (!(lock.flags & LOCK_CONVERT_PENDING)) status = DLM_STATUS.RECOVERING;
  lock.flags &= ~LOCK_CONVERT_PENDING;
  dlm.wakeRes(res);
  return status;
}

function* sendConvert(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number, type: number): Task<number> {
  const put = (flags & LKM_PUT_LVB) !== 0;
  const m = DlmConvertLock.alloc(put ? DLM_LVB_LEN : 0);
  m.cookie_hi = lock.cookie_hi;
  m.cookie_lo = lock.cookie_lo;
  m.flags = flags;
  m.node_idx = dlm.node_num;
  m.requested_type = type;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  if (put) m.lvb.bytes(DLM_LVB_LEN).set(lvbOf(lock));
  const owner = res.owner;
  const { err, status } = yield* wait(dlm.call(DLM_MSG.CONVERT_LOCK, new Uint8Array(m.dv.buffer), owner));
  if (err >= 0) {
    if (isStale(res, owner, status)) return DLM_STATUS.FORWARD;
    if (status !== DLM_STATUS.NORMAL && status !== DLM_STATUS.NOTQUEUED && !isRetry(status))
      mlog(ML.ERROR, `${res.name}: node ${owner} answers CONVERT_LOCK with ${dlmStatusName(status)}`);
    return status;
  }
  if (!isHostDown(err)) return errToStatus(err);
  yield* waitForNodeDeath(dlm, owner, NODE_DEATH_WAIT_MS);
  return DLM_STATUS.RECOVERING;
}

/** dlm_convert_lock_handler. */
export function convertLockHandler(dlm: Dlm, m: ViewOf<typeof DlmConvertLock>, payload: Uint8Array): number {
  if (!dlm.fully_joined) return DLM_STATUS.REJECTED;
  if (m.namelen > DLM_LOCKID_NAME_MAX) return DLM_STATUS.IVBUFLEN;
  const { flags, requested_type: type } = m;
  if (flags & LKM_PUT_LVB && flags & LKM_GET_LVB) return DLM_STATUS.BADARGS;
  const res = dlm.lockres.get(nameAt(payload, DlmConvertLock.fields.name.off, m.namelen));
  // As for a new lock: given away while the request was under way.
  if (res === undefined || res.state & RES_DROPPING_REF) return DLM_STATUS.FORWARD;
  const busy = stateToStatus(res);
  if (busy !== DLM_STATUS.NORMAL) return busy;
  if (res.owner !== dlm.node_num) return DLM_STATUS.FORWARD;
  const lock = res.find(LIST_GRANTED, m.cookie_hi, m.cookie_lo);
  if (lock === null || lock.node !== m.node_idx) {
    mlog(ML.ERROR, `${res.name}: node ${m.node_idx} converts a lock that is not granted`);
    return DLM_STATUS.IVLOCKID;
  }
  // The kernel takes these: a mode of no meaning, a lock of its own.
  if (type !== LKM_NLMODE && type !== LKM_PRMODE && type !== LKM_EXMODE) return DLM_STATUS.BADPARAM;
  if (lock.node === dlm.node_num) return DLM_STATUS.IVLOCKID;
  if (flags & LKM_PUT_LVB) {
    lock.flags |= LOCK_PUT_LVB;
    const lvb = lvbOf(lock);
    lvb.fill(0);
    lvb.set(payload.subarray(DlmConvertLock.size, DlmConvertLock.size + DLM_LVB_LEN));
  } else if (flags & LKM_GET_LVB) lock.flags |= LOCK_GET_LVB;
  const status = convertMaster(dlm, res, lock, flags, type);
  if (status !== DLM_STATUS.NORMAL) lock.flags &= ~(LOCK_GET_LVB | LOCK_PUT_LVB);
  return status;
}
