/** Unlocks and cancels (dlmunlock.c). A lock that converts must be cancelled before it can be unlocked. */

import type { ViewOf } from "../format/struct.ts";
import { DlmUnlockLock } from "../format/wire/dlm.ts";
import {
  DLM_LOCKID_NAME_MAX,
  DLM_LVB_LEN,
  DLM_STATUS,
  dlmStatusName,
  LKM_CANCEL,
  LKM_EXMODE,
  LKM_GET_LVB,
  LKM_IVMODE,
  LKM_PUT_LVB,
  LKM_VALBLK,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { type Dlm, errToStatus, isHostDown, nameAt, putName } from "./dlm.ts";
import { isRecoveryLock, isRetry, RETRY_MS, settleUsage } from "./lock.ts";
import {
  type DlmLock,
  type DlmLockRes,
  LIST_BLOCKED,
  LIST_CONVERTING,
  LIST_GRANTED,
  LIST_NONE,
  LOCK_AST_LISTED,
  LOCK_CANCEL_PENDING,
  LOCK_CANCELLING,
  LOCK_GET_LVB,
  LOCK_PUT_LVB,
  LOCK_UNLOCK_PENDING,
  RES_BUSY,
  RES_DROPPING_REF,
  RES_IN_PROGRESS,
  RES_MIGRATING,
  RES_RECOVERING,
} from "./lockres.ts";
import { lvbCopy, lvbDrop, lvbOf } from "./lvb.ts";
import { waitOnLockres } from "./master.ts";
import { isNodeDead, waitForNodeDeath } from "./recovery_wait.ts";
import { calcUsage, dirtyLockres } from "./thread.ts";

const REMOVE_LOCK = 1;
const REGRANT_LOCK = 2;
const CLEAR_CONVERT_TYPE = 4;

/**
 * dlmunlock. `flags`: LKM_VALBLK hands the LVB of a lock at EX to the others, LKM_CANCEL calls a request off (the caller sets
 * LOCK_CANCELLING, the AST clears it). `done` gets NORMAL; CANCELGRANT when the grant was faster than the cancel.
 */
export function dlmunlock(dlm: Dlm, lock: DlmLock, flags: number, done: (status: number) => void): void {
  dlm.enter();
  const res = lock.res!;
  if (lock.type !== LKM_EXMODE) flags &= ~LKM_VALBLK;
  if (res.owner === dlm.node_num && !(res.state & RES_BUSY))
    done(finish(dlm, res, lock, flags, unlockMaster(dlm, res, lock, flags)));
  else dlm.spawn(unlockTask(dlm, res, lock, flags), done);
  dlm.exit();
}

function* unlockTask(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number): Task<number> {
  for (let lost = false; ; ) {
    // The kernel does not wait here for a resource that recovers or migrates, but asks again and again.
    yield* waitOnLockres(dlm, res, RES_BUSY);
    // What was to be called off has been granted meanwhile, and another request may be under way.
    if (flags & LKM_CANCEL && !(lock.flags & LOCK_CANCELLING))
      return finish(dlm, res, lock, flags, DLM_STATUS.CANCELGRANT);
    const status: number =
      res.owner === dlm.node_num
        ? unlockMaster(dlm, res, lock, flags)
        : yield* unlockRemote(dlm, res, lock, flags, lost);
    if (!isRetry(status) && status !== DLM_STATUS.NOLOCKMGR) return finish(dlm, res, lock, flags, status);
    lost ||= status === DLM_STATUS.NOLOCKMGR;
    yield* dlm.sleep(RETRY_MS);
  }
}

function finish(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number, status: number): number {
  if (status === DLM_STATUS.NORMAL) {
    lock.flags &= ~(LOCK_PUT_LVB | LOCK_GET_LVB);
    dirtyLockres(dlm, res);
  } else if (status !== DLM_STATUS.CANCELGRANT) mlog(ML.ERROR, `${res.name}: dlmunlock ${dlmStatusName(status)}`);
  if (status === DLM_STATUS.NORMAL && lock.list === LIST_NONE) {
    lock.res = null;
    if (!(flags & LKM_CANCEL)) lvbDrop(lock);
  }
  settleUsage(dlm, res);
  return status;
}

interface Plan {
  readonly status: number;
  readonly actions: number;
}

/** dlm_get_cancel_actions, dlm_get_unlock_actions: what becomes of the lock when the master agrees. */
function plan(lock: DlmLock, flags: number): Plan {
  if (!(flags & LKM_CANCEL)) {
    if (lock.list !== LIST_GRANTED) return { status: DLM_STATUS.DENIED, actions: 0 };
    return { status: DLM_STATUS.NORMAL, actions: REMOVE_LOCK };
  }
  switch (lock.list) {
    case LIST_BLOCKED:
      return { status: DLM_STATUS.NORMAL, actions: REMOVE_LOCK };
    case LIST_CONVERTING:
      return { status: DLM_STATUS.NORMAL, actions: REMOVE_LOCK | REGRANT_LOCK | CLEAR_CONVERT_TYPE };
    case LIST_GRANTED:
      return { status: DLM_STATUS.CANCELGRANT, actions: 0 };
    default:
      return { status: DLM_STATUS.IVLOCKID, actions: 0 };
  }
}

function carryOut(res: DlmLockRes, lock: DlmLock, actions: number): void {
  if (actions & REMOVE_LOCK) res.remove(lock);
  if (actions & REGRANT_LOCK) res.addTail(lock, LIST_GRANTED);
  if (actions & CLEAR_CONVERT_TYPE) lock.convert_type = LKM_IVMODE;
}

/** dlmunlock_common at the master, for a lock of any node. */
function unlockMaster(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number): number {
  assert(res.owner === dlm.node_num, `${res.name} is not ours`);
  if (lock.flags & LOCK_AST_LISTED && !(flags & LKM_CANCEL)) return DLM_STATUS.BADPARAM;
  const { status, actions } = plan(lock, flags);
  if (status !== DLM_STATUS.NORMAL) return status;
  if (flags & LKM_VALBLK) lvbCopy(lock, res);
  carryOut(res, lock, actions);
  lock.flags &= ~(LOCK_PUT_LVB | LOCK_GET_LVB);
  return status;
}

/**
 * dlmunlock_common elsewhere. If the answer is lost with the connection, the master may have heard it, and another have the lock: it stays pending until it is answered,
 * or the death of the master has carried it out. (The kernel's does not, and the next master is told that we have the lock.) `lost`: an answer was lost before.
 */
function* unlockRemote(dlm: Dlm, res: DlmLockRes, lock: DlmLock, flags: number, lost: boolean): Task<number> {
  const { status: planned, actions } = plan(lock, flags);
  const { list } = lock;
  // The death of the master has done it for us, as if the master had still answered.
  if (planned === DLM_STATUS.DENIED && lock.list === LIST_NONE) return DLM_STATUS.NORMAL;
  if (planned !== DLM_STATUS.NORMAL) return planned;
  const put = (flags & LKM_VALBLK) !== 0;
  const m = DlmUnlockLock.alloc(put ? DLM_LVB_LEN : 0);
  m.cookie_hi = lock.cookie_hi;
  m.cookie_lo = lock.cookie_lo;
  m.flags = put ? flags | LKM_PUT_LVB : flags;
  m.node_idx = dlm.node_num;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  if (put) m.lvb.bytes(DLM_LVB_LEN).set(lvbOf(lock));
  const pending = flags & LKM_CANCEL ? LOCK_CANCEL_PENDING : LOCK_UNLOCK_PENDING;
  lock.flags |= pending;
  const owner = res.owner;
  let { err, status } = yield* wait(dlm.call(DLM_MSG.UNLOCK_LOCK, new Uint8Array(m.dv.buffer), owner));
  while (err < 0 && isHostDown(err) && !(flags & LKM_CANCEL)) {
    yield* waitForNodeDeath(dlm, owner, RETRY_MS);
    if (!(lock.flags & pending) || res.owner !== owner || isNodeDead(dlm, owner)) break;
    lost = true;
    ({ err, status } = yield* wait(dlm.call(DLM_MSG.UNLOCK_LOCK, new Uint8Array(m.dv.buffer), owner)));
  }
  if (lost && status === DLM_STATUS.IVLOCKID && !(flags & LKM_CANCEL)) status = DLM_STATUS.NORMAL;
  // Asked again, of the next master if this one has left; if it has died, see below. (The kernel takes one that has left for dead, and its successor keeps the lock.)
  if (err < 0) status = isHostDown(err) ? DLM_STATUS.NOLOCKMGR : errToStatus(err);
  // The recovery lock is not recovered: it is gone with the dead.
  if (err < 0 && isRecoveryLock(res.name) && res.owner === owner && isNodeDead(dlm, owner)) status = DLM_STATUS.NORMAL;
  // Whether the dead one's successor has heard of it shows by then.
  if (lock.flags & pending) yield* waitOnLockres(dlm, res, RES_RECOVERING);
  const recovered = !(lock.flags & pending);
  lock.flags &= ~pending;
  if (recovered) {
    // Committed when the master died, whatever has become of the message. The next master is to hear of our reference first.
    status = flags & LKM_CANCEL && !(lock.flags & LOCK_CANCELLING) ? DLM_STATUS.CANCELGRANT : DLM_STATUS.NORMAL;
    if (!(flags & LKM_CANCEL)) yield* waitOnLockres(dlm, res, RES_RECOVERING);
  } else if (status === DLM_STATUS.NORMAL) {
    // A grant that came while the cancel was under way has moved the lock, and more may have happened to it since.
    if (flags & LKM_CANCEL && (lock.list !== list || !(lock.flags & LOCK_CANCELLING))) status = DLM_STATUS.CANCELGRANT;
    else carryOut(res, lock, actions);
  }
  dlm.wakeRes(res);
  return status;
}

/** dlm_commit_pending_unlock: the master died, its successor is not told of the lock any more. */
export function commitPendingUnlock(res: DlmLockRes, lock: DlmLock): void {
  res.remove(lock);
}

/** dlm_commit_pending_cancel. */
export function commitPendingCancel(res: DlmLockRes, lock: DlmLock): void {
  res.moveTail(lock, LIST_GRANTED);
  lock.convert_type = LKM_IVMODE;
}

/** dlm_unlock_lock_handler. */
export function unlockLockHandler(dlm: Dlm, m: ViewOf<typeof DlmUnlockLock>, payload: Uint8Array): number {
  let { flags } = m;
  if (flags & LKM_GET_LVB) return DLM_STATUS.BADARGS;
  if (flags & LKM_PUT_LVB && flags & LKM_CANCEL) return DLM_STATUS.BADARGS;
  if (m.namelen > DLM_LOCKID_NAME_MAX) return DLM_STATUS.IVBUFLEN;
  if (!dlm.fully_joined) return DLM_STATUS.FORWARD;
  const res = dlm.lockres.get(nameAt(payload, DlmUnlockLock.fields.name.off, m.namelen));
  // It has been migrated away and was forgotten here before the sender heard of it.
  if (res === undefined || res.state & RES_DROPPING_REF) return DLM_STATUS.FORWARD;
  if (res.state & RES_RECOVERING) return DLM_STATUS.RECOVERING;
  if (res.state & RES_MIGRATING) return DLM_STATUS.MIGRATING;
  if (res.owner !== dlm.node_num) return DLM_STATUS.FORWARD;
  const { cookie_hi, cookie_lo, node_idx } = m;
  const lock = res.locks().find((l) => l.hasCookie(cookie_hi, cookie_lo) && l.node === node_idx);
  if (lock === undefined || lock.node === dlm.node_num) {
    mlog(ML.ERROR, `${res.name}: node ${node_idx} unlocks a lock that is not there`);
    return DLM_STATUS.IVLOCKID;
  }
  if (lock.type !== LKM_EXMODE) flags &= ~(LKM_VALBLK | LKM_PUT_LVB);
  if (flags & LKM_PUT_LVB) {
    const lvb = lvbOf(lock);
    lvb.fill(0);
    lvb.set(payload.subarray(DlmUnlockLock.size, DlmUnlockLock.size + DLM_LVB_LEN));
  }
  if (res.state & RES_IN_PROGRESS && !(flags & LKM_CANCEL)) return DLM_STATUS.FORWARD;
  const status = unlockMaster(dlm, res, lock, flags);
  if (status === DLM_STATUS.NORMAL && lock.list === LIST_NONE) lvbDrop(lock);
  calcUsage(dlm, res);
  dirtyLockres(dlm, res);
  return status;
}
