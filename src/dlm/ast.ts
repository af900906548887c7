/**
 * ASTs and BASTs (dlmast.c): a lock was granted; a lock stands in somebody's way. The master queues them and sends them when the event
 * ends. Unlike the kernel's thread, nobody waits for the answer of one before the next is sent: one connection keeps the order. But for
 * this: who converts downwards hears of it before anybody else hears of a lock on that resource (`mustWait`).
 */

import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmProxyAst } from "../format/wire/dlm.ts";
import {
  DLM_AST,
  DLM_BAST,
  DLM_LOCKID_NAME_MAX,
  DLM_LVB_LEN,
  DLM_STATUS,
  dlmStatusName,
  LKM_EXMODE,
  LKM_GET_LVB,
  LKM_IVMODE,
  LKM_NLMODE,
  LKM_PUT_LVB,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Dlm, nameAt, putName } from "./dlm.ts";
import {
  type DlmLock,
  type DlmLockRes,
  LIST_BLOCKED,
  LIST_CONVERTING,
  LIST_GRANTED,
  LIST_NONE,
  LOCK_AST_DOWN,
  LOCK_AST_FIRST,
  LOCK_AST_LISTED,
  LOCK_BAST_LISTED,
  LOCK_BUSY,
  LOCK_CANCELLING,
  LOCK_CONVERT_PENDING,
  LOCK_GET_LVB,
  LOCK_LOCK_PENDING,
  LOCK_PUT_LVB,
  LOCK_UNLOCK_PENDING,
  RES_DROPPING_REF,
  RES_MIGRATING,
  RES_MIGRATION_PENDING,
  RES_RECOVERING,
} from "./lockres.ts";
import { lvbCopy, lvbOf } from "./lvb.ts";

/** __dlm_lockres_reserve_ast: keeps the resource from being migrated until it is released. */
export function reserveAst(res: DlmLockRes): void {
  assert(!(res.state & RES_MIGRATING), `${res.name}: an AST while it migrates`);
  res.asts_reserved++;
}

/** dlm_lockres_release_ast: the last one out lets a migration that waits begin. */
export function releaseAst(dlm: Dlm, res: DlmLockRes): void {
  assert(res.asts_reserved > 0, `${res.name}: no AST is reserved`);
  if (--res.asts_reserved > 0 || !(res.state & RES_MIGRATION_PENDING)) return;
  res.state = (res.state & ~RES_MIGRATION_PENDING) | RES_MIGRATING;
  dlm.wakeRes(res);
  dlm.wake(dlm.migration_wq);
}

/** dlm_should_cancel_bast: the level that is granted now blocks nobody that the BAST was for. */
function bastIsObsolete(lock: DlmLock): boolean {
  if (lock.highest_blocked === LKM_IVMODE || !(lock.flags & LOCK_BAST_LISTED)) return false;
  if (lock.type === LKM_EXMODE) return false;
  return lock.type === LKM_NLMODE || lock.highest_blocked !== LKM_EXMODE;
}

/** dlm_queue_ast; the caller has reserved one. */
export function queueAst(dlm: Dlm, lock: DlmLock): void {
  assert(!(lock.flags & LOCK_AST_LISTED), `${lock.name}: two ASTs at a time`);
  if (bastIsObsolete(lock)) {
    lock.flags &= ~LOCK_BAST_LISTED;
    lock.highest_blocked = LKM_IVMODE;
    releaseAst(dlm, lock.res!);
  }
  lock.flags |= LOCK_AST_LISTED;
  dlm.pending_asts.push(lock);
}

/** __dlm_queue_bast; the caller has reserved one. */
export function queueBast(dlm: Dlm, lock: DlmLock): void {
  assert(!(lock.flags & LOCK_BAST_LISTED), `${lock.name}: two BASTs at a time`);
  lock.flags |= LOCK_BAST_LISTED;
  dlm.pending_basts.push(lock);
}

/**
 * If the master dies, who has not heard that its conversion downwards was granted takes it back and says so to the next master. A node that
 * has been told meanwhile what that conversion made room for says otherwise: two holders that exclude each other, or two LVBs, and a kernel
 * node stops. So the one waits for the answer of the other. A lock of our own dies with us.
 */
function mustWait(dlm: Dlm, res: DlmLockRes, lock: DlmLock): boolean {
  if (dlm.unheard.size === 0 || lock.node === dlm.node_num || lock.flags & LOCK_AST_DOWN) return false;
  return dlm.unheard.get(res)?.some((l) => l.node !== lock.node) ?? false;
}

function forgetUnheard(dlm: Dlm, res: DlmLockRes, left: DlmLock[]): void {
  if (left.length > 0) dlm.unheard.set(res, left);
  else dlm.unheard.delete(res);
  for (const lock of res.locks()) {
    if (lock.flags & LOCK_AST_LISTED) dlm.pending_asts.push(lock);
    if (lock.flags & LOCK_BAST_LISTED) dlm.pending_basts.push(lock);
  }
}

/** A member is gone: nobody waits any more for what it has heard. */
export function hearsNoMore(dlm: Dlm, node: NodeNum): void {
  for (const [res, locks] of [...dlm.unheard])
    if (locks.some((l) => l.node === node))
      forgetUnheard(
        dlm,
        res,
        locks.filter((l) => l.node !== node),
      );
}

/** dlm_flush_asts. What callbacks queue on the way is appended and goes too. */
export function flushAsts(dlm: Dlm): void {
  for (let i = 0; i < dlm.pending_asts.length && !dlm.gone; i++) {
    const lock = dlm.pending_asts[i]!;
    // Listed again after it was flushed: the earlier entry took it along.
    if (!(lock.flags & LOCK_AST_LISTED)) continue;
    const res = lock.res!;
    // It stays listed.
    if (mustWait(dlm, res, lock)) continue;
    const down = (lock.flags & LOCK_AST_DOWN) !== 0;
    lock.flags &= ~(LOCK_AST_LISTED | LOCK_AST_DOWN);
    const get_lvb = (lock.flags & LOCK_GET_LVB) !== 0;
    updateLvb(dlm, res, lock);
    if (lock.node === dlm.node_num) {
      lock.flags &= ~(LOCK_BUSY | LOCK_CANCELLING);
      lock.callbacks!.ast(0);
      releaseAst(dlm, res);
    } else {
      if (down) dlm.unheard.set(res, [...(dlm.unheard.get(res) ?? []), lock]);
      sendProxyAst(dlm, res, lock, DLM_AST, 0, get_lvb, down);
    }
  }
  dlm.pending_asts.length = 0;
  for (let i = 0; i < dlm.pending_basts.length && !dlm.gone; i++) {
    const lock = dlm.pending_basts[i]!;
    if (!(lock.flags & LOCK_BAST_LISTED)) continue;
    const res = lock.res!;
    // Not before its AST.
    if (lock.flags & LOCK_AST_LISTED && mustWait(dlm, res, lock)) continue;
    lock.flags &= ~LOCK_BAST_LISTED;
    const blocked = lock.highest_blocked;
    lock.highest_blocked = LKM_IVMODE;
    if (lock.list === LIST_NONE) releaseAst(dlm, res);
    else if (lock.node === dlm.node_num) {
      lock.callbacks!.bast(blocked);
      releaseAst(dlm, res);
    } else sendProxyAst(dlm, res, lock, DLM_BAST, blocked, false, false);
  }
  dlm.pending_basts.length = 0;
  dlm.wake(dlm.ast_wq);
}

/** dlm_update_lvb: at the master, the LVB that was asked for. Puts were done when the lock was converted. */
function updateLvb(dlm: Dlm, res: DlmLockRes, lock: DlmLock): void {
  if (res.owner === dlm.node_num && lock.flags & LOCK_GET_LVB) lvbCopy(res, lock);
  lock.flags &= ~(LOCK_GET_LVB | LOCK_PUT_LVB);
}

function sendProxyAst(
  dlm: Dlm,
  res: DlmLockRes,
  lock: DlmLock,
  type: number,
  blocked_type: number,
  get_lvb: boolean,
  down: boolean,
): void {
  const past = DlmProxyAst.alloc(get_lvb ? DLM_LVB_LEN : 0);
  past.cookie_hi = lock.cookie_hi;
  past.cookie_lo = lock.cookie_lo;
  past.node_idx = dlm.node_num;
  past.type = type;
  past.blocked_type = blocked_type;
  past.namelen = res.name.length;
  putName(past.name, res.name);
  if (get_lvb) {
    past.flags = LKM_GET_LVB;
    past.lvb.bytes(DLM_LVB_LEN).set(lvbOf(lock));
  }
  const to = lock.node;
  dlm.send(DLM_MSG.PROXY_AST, new Uint8Array(past.dv.buffer), to, (err, status) => {
    if (err < 0) mlog(ML.DLM, `${res.name}: PROXY_AST to node ${to}: error ${err}`);
    else if (status === DLM_STATUS.RECOVERING || status === DLM_STATUS.MIGRATING) {
      dlm.die(`${res.name}: node ${to} answers an AST with ${dlmStatusName(status)}: it takes this node for dead`);
      return;
    } else if (status !== DLM_STATUS.NORMAL && status !== DLM_STATUS.IVLOCKID)
      mlog(ML.ERROR, `${res.name}: node ${to} answers an AST with ${dlmStatusName(status)}`);
    // With the connection one of the two goes, it or we; and we do if it takes us for dead, and knows nothing of the resource.
    if (down && ((err >= 0 && status === DLM_STATUS.NORMAL) || !dlm.domain_map.has(to))) {
      const locks = dlm.unheard.get(res) ?? [];
      const at = locks.indexOf(lock);
      if (at >= 0)
        forgetUnheard(
          dlm,
          res,
          locks.filter((_l, i) => i !== at),
        );
    }
    releaseAst(dlm, res);
  });
}

/** dlm_proxy_ast_handler. */
export function proxyAstHandler(dlm: Dlm, past: ViewOf<typeof DlmProxyAst>, payload: Uint8Array): number {
  if (!dlm.fully_joined) return DLM_STATUS.REJECTED;
  if (past.namelen > DLM_LOCKID_NAME_MAX) return DLM_STATUS.IVBUFLEN;
  const { flags, type, blocked_type } = past;
  if (flags & LKM_PUT_LVB && flags & LKM_GET_LVB) return DLM_STATUS.BADARGS;
  if (type !== DLM_AST && type !== DLM_BAST) return DLM_STATUS.IVLOCKID;
  const res = dlm.lockres.get(nameAt(payload, DlmProxyAst.fields.name.off, past.namelen));
  if (res === undefined || res.state & RES_DROPPING_REF) return DLM_STATUS.IVLOCKID;
  // An AST from one who is not the master: the kernel stops here.
  if (res.owner === dlm.node_num) return DLM_STATUS.IVLOCKID;
  if (res.state & RES_RECOVERING) return DLM_STATUS.RECOVERING;
  if (res.state & RES_MIGRATING) return DLM_STATUS.MIGRATING;

  const { cookie_hi, cookie_lo } = past;
  let lock = res.find(LIST_CONVERTING, cookie_hi, cookie_lo);
  if (lock === null) {
    lock = res.find(type === DLM_AST ? LIST_BLOCKED : LIST_GRANTED, cookie_hi, cookie_lo);
    // A BAST for what is being unlocked comes too late.
    if (lock !== null && lock.flags & LOCK_UNLOCK_PENDING) lock = null;
  }
  if (lock === null || lock.callbacks === null) return DLM_STATUS.NORMAL;
  const { callbacks } = lock;
  if (type === DLM_BAST) {
    const own = lock;
    dlm.callbacks.push(() => {
      if (own.list !== LIST_NONE) callbacks.bast(blocked_type);
    });
    return DLM_STATUS.NORMAL;
  }
  if (lock.flags & (LOCK_LOCK_PENDING | LOCK_CONVERT_PENDING))
    lock.flags = (lock.flags & ~(LOCK_LOCK_PENDING | LOCK_CONVERT_PENDING)) | LOCK_AST_FIRST;
  res.moveTail(lock, LIST_GRANTED);
  if (lock.convert_type !== LKM_IVMODE) {
    lock.type = lock.convert_type;
    lock.convert_type = LKM_IVMODE;
  }
  if (flags & LKM_GET_LVB && lock.flags & LOCK_GET_LVB && payload.length >= DlmProxyAst.size + DLM_LVB_LEN)
    lvbOf(lock).set(past.lvb.bytes(DLM_LVB_LEN));
  lock.flags &= ~(LOCK_GET_LVB | LOCK_PUT_LVB);
  const granted = lock;
  dlm.callbacks.push(() => {
    granted.flags &= ~(LOCK_BUSY | LOCK_CANCELLING);
    callbacks.ast(0);
  });
  return DLM_STATUS.NORMAL;
}
