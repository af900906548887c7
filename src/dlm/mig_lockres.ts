/**
 * The state of a lock resource on the wire (MIG_LOCKRES): from the old master to the next when it migrates, from every node to the
 * recovery master when the master has died (dlmrecovery.c).
 */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmMigratableLock, DlmMigratableLockres } from "../format/wire/dlm.ts";
import {
  DLM_LOCKID_NAME_MAX,
  DLM_LVB_LEN,
  DLM_MAX_MIGRATABLE_LOCKS,
  DLM_MRES_ALL_DONE,
  DLM_MRES_MIGRATION,
  DLM_MRES_RECOVERY,
  LKM_EXMODE,
  LKM_IVMODE,
  LKM_NLMODE,
  LKM_PRMODE,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { heardNewMaster } from "./cleanup.ts";
import { DLM_CTXT_JOINED, type Dlm, EFAULT, isHostDown, nameAt, putName } from "./dlm.ts";
import {
  DlmLock,
  DlmLockRes,
  LIST_BLOCKED,
  LIST_CONVERTING,
  LOCK_GET_LVB,
  LOCK_PUT_LVB,
  OWNER_UNKNOWN,
  RES_DROPPING_REF,
  RES_MIGRATING,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
} from "./lockres.ts";
import { lvbIsEmpty, lvbOf } from "./lvb.ts";
import { dropInflightRef, isMaster, masterRequery } from "./master.ts";
import { finishMigration } from "./migrate.ts";
import { awaitsRecovery } from "./recovery_wait.ts";
import { calcUsage } from "./thread.ts";

type Mres = ViewOf<typeof DlmMigratableLockres>;

/**
 * dlm_send_one_lockres: all locks of a resource, or a dummy that says that there are none but a reference. The answer is that to the
 * last message, or the first negative one. A message is lost with the node it goes to, so nothing is repeated.
 */
export function* sendOneLockres(dlm: Dlm, res: DlmLockRes, to: NodeNum, flags: number): Task<number> {
  let ret = 0;
  for (const payload of encodeLockres(dlm, res, flags)) {
    const { err, status } = yield* wait(dlm.call(DLM_MSG.MIG_LOCKRES, payload, to));
    ret = err < 0 ? err : status;
    if (ret >= 0) continue;
    mlog(ML.DLM_RECOVERY, `${res.name}: MIG_LOCKRES to node ${to}: ${ret}`);
    // "Told to kill myself."
    if (err === 0 && status === -EFAULT) dlm.die(`${res.name}: node ${to} recovers what this node migrates`);
    else if (!isHostDown(ret)) dlm.die(`${res.name}: MIG_LOCKRES failed with ${ret}`);
    return ret;
  }
  return ret;
}

export function encodeLockres(dlm: Dlm, res: DlmLockRes, flags: number): Uint8Array[] {
  const locks = res.locks();
  const total = locks.length;
  // Below 2^32, whatever runs: a cookie is only compared.
  const cookie = total > DLM_MAX_MIGRATABLE_LOCKS ? dlm.mig_cookie++ : 0;
  const messages: Uint8Array[] = [];
  for (let from = 0; from === 0 || from < total; from += DLM_MAX_MIGRATABLE_LOCKS) {
    const part = locks.slice(from, from + DLM_MAX_MIGRATABLE_LOCKS);
    const last = from + part.length === total;
    const m = DlmMigratableLockres.alloc(Math.max(part.length, 1) * DlmMigratableLock.size);
    m.master = res.owner;
    m.lockname_len = res.name.length;
    putName(m.lockname, res.name);
    m.num_locks = Math.max(part.length, 1);
    m.flags = last ? flags | DLM_MRES_ALL_DONE : flags;
    m.total_locks = total;
    m.mig_cookie_lo = cookie;
    part.forEach((lock, i) => {
      const ml = m.ml.at(i);
      ml.cookie_hi = lock.cookie_hi;
      ml.cookie_lo = lock.cookie_lo;
      ml.list = lock.list;
      ml.flags = lock.flags & (LOCK_PUT_LVB | LOCK_GET_LVB);
      ml.type = lock.type;
      ml.convert_type = lock.convert_type;
      ml.highest_blocked = lock.highest_blocked;
      ml.node = lock.node;
      prepareLvb(dlm, lock, m);
    });
    if (total === 0) {
      const ml = m.ml.at(0);
      ml.list = LIST_BLOCKED;
      ml.type = ml.convert_type = ml.highest_blocked = LKM_IVMODE;
      ml.node = dlm.node_num;
    }
    messages.push(new Uint8Array(m.dv.buffer));
  }
  return messages;
}

/** dlm_prepare_lvb_for_migration: what the locks at PR and EX know; they agree. */
function prepareLvb(dlm: Dlm, lock: DlmLock, m: Mres): void {
  if (lock.list === LIST_BLOCKED || (lock.type !== LKM_EXMODE && lock.type !== LKM_PRMODE) || lvbIsEmpty(lock)) return;
  const lvb = lvbOf(lock);
  if (m.lvb.every((b) => b === 0)) m.lvb = lvb;
  else if (!m.lvb.every((b, i) => b === lvb[i])) dlm.die(`${lock.name}: LVBs differ, lock ${lock.cookieText}`);
}

/** dlm_mig_lockres_handler. */
export function migLockresHandler(dlm: Dlm, m: Mres, payload: Uint8Array, from: NodeNum): number {
  const { flags, master } = m;
  if (
    m.lockname_len > DLM_LOCKID_NAME_MAX ||
    m.num_locks > DLM_MAX_MIGRATABLE_LOCKS ||
    payload.length < DlmMigratableLockres.size + m.num_locks * DlmMigratableLock.size
  )
    return -Errno.EINVAL;
  const name = nameAt(payload, DlmMigratableLockres.fields.lockname.off, m.lockname_len);
  let res = dlm.lockres.get(name);
  // Who leaves takes over nothing more, but a dead node's locks it must, and what it has a part of: it would be busy here for ever. (The kernel leaves it so.)
  const must = flags & DLM_MRES_RECOVERY || (res !== undefined && dlm.incoming.get(res) === master);
  if (dlm.state !== DLM_CTXT_JOINED && !(dlm.fully_joined && must)) return -Errno.EINVAL;
  // Neither, or a migration by nobody: the kernel stops.
  if (!(flags & (DLM_MRES_RECOVERY | DLM_MRES_MIGRATION))) return -Errno.EINVAL;
  if (master === OWNER_UNKNOWN && !(flags & DLM_MRES_RECOVERY)) return -Errno.EINVAL;
  // From another than the master, or for a recovery that is not ours: it comes from no node.
  if (flags & DLM_MRES_MIGRATION && master !== from) return -Errno.EINVAL;
  if (flags & DLM_MRES_RECOVERY && dlm.reco.new_master !== dlm.node_num) return -Errno.EINVAL;
  if (badLock(dlm, m)) {
    mlog(ML.ERROR, `${name}: node ${master} sends locks that cannot be`);
    return -Errno.EINVAL;
  }
  if (res !== undefined) {
    if (res.state & RES_DROPPING_REF) return -Errno.EINVAL;
    if (flags & DLM_MRES_RECOVERY) res.state |= RES_RECOVERING;
    else {
      if (!(res.state & RES_MIGRATING) && res.state & RES_RECOVERING) return -EFAULT;
      res.state |= RES_MIGRATING;
    }
  } else {
    res = new DlmLockRes(name, flags & DLM_MRES_RECOVERY ? RES_RECOVERING : RES_MIGRATING);
    dlm.lockres.insert(res);
  }
  if (flags & DLM_MRES_MIGRATION) dlm.incoming.set(res, master);
  // Until its locks are there.
  res.inflight_locks++;
  if (master !== OWNER_UNKNOWN) res.owner = dlm.node_num;
  calcUsage(dlm, res);
  const own = res;
  const copy = payload.slice();
  const work = (): Task<void> => migWorker(dlm, own, DlmMigratableLockres.from(copy), master);
  // One that is whole need not wait for others; parts of one come in order.
  if (flags & DLM_MRES_MIGRATION && m.total_locks <= DLM_MAX_MIGRATABLE_LOCKS) dlm.background(work);
  else dlm.queueWork(work);
  return 0;
}

/** What would make the kernel stop, or would make us: locks of no list, no mode, or of ours without being known. */
function badLock(dlm: Dlm, m: Mres): boolean {
  const mode = (t: number): boolean => t === LKM_NLMODE || t === LKM_PRMODE || t === LKM_EXMODE;
  for (let i = 0; i < m.num_locks; i++) {
    const ml = m.ml.at(i);
    if (isDummy(ml)) {
      if (m.num_locks !== 1) return true;
      continue;
    }
    if (ml.list > LIST_BLOCKED || ml.highest_blocked !== LKM_IVMODE || !mode(ml.type) || ml.node >= 255) return true;
    if (ml.list === LIST_CONVERTING ? !mode(ml.convert_type) : ml.convert_type !== LKM_IVMODE) return true;
    if (ml.node === dlm.node_num && !(m.flags & DLM_MRES_MIGRATION)) return true;
  }
  return false;
}

const isDummy = (ml: DlmMigratableLock): boolean =>
  ml.cookie_hi === 0 &&
  ml.cookie_lo === 0 &&
  ml.type === LKM_IVMODE &&
  ml.convert_type === LKM_IVMODE &&
  ml.highest_blocked === LKM_IVMODE &&
  ml.list === LIST_BLOCKED;

/** dlm_mig_lockres_worker. */
function* migWorker(dlm: Dlm, res: DlmLockRes, m: Mres, master: NodeNum): Task<void> {
  // Its old master died meanwhile.
  if (m.flags & DLM_MRES_MIGRATION && dlm.incoming.get(res) !== master) {
    dropInflightRef(dlm, res);
    return;
  }
  if (master === OWNER_UNKNOWN) {
    const real = yield* findRealMaster(dlm, res);
    if (real !== OWNER_UNKNOWN) {
      heardNewMaster(dlm, res, real);
      dropInflightRef(dlm, res);
      calcUsage(dlm, res);
      return;
    }
    res.owner = dlm.node_num;
  }
  processLocks(dlm, res, m);
  dropInflightRef(dlm, res);
  const last = DLM_MRES_MIGRATION | DLM_MRES_ALL_DONE;
  if ((m.flags & last) === last) yield* finishMigration(dlm, res, m.master);
}

/**
 * dlm_lockres_master_requery. A node died in the middle of a migration: somebody may have heard the new master assert itself. What is said of one that
 * is dead, too, says nothing: who was not told of the migration still names the old master. Nor is what a third node has heard enough, as others may not have heard it.
 */
export function* findRealMaster(dlm: Dlm, res: DlmLockRes): Task<NodeNum> {
  if (res.owner === dlm.node_num && res.state & RES_MIGRATING) return dlm.node_num;
  for (const node of dlm.domain_map.copy()) {
    if (node === dlm.node_num) continue;
    const real = yield* masterRequery(dlm, res, node);
    if (real === null || real === OWNER_UNKNOWN) continue;
    if (real === node || real === dlm.node_num || (yield* isMaster(dlm, res, real))) return real;
  }
  return OWNER_UNKNOWN;
}

/** dlm_process_recovery_data. Locks of our own are known better here than there; they are only put in order. */
function processLocks(dlm: Dlm, res: DlmLockRes, m: Mres): void {
  for (let i = 0; i < m.num_locks; i++) {
    const ml = m.ml.at(i);
    if (isDummy(ml)) {
      if (dlm.domain_map.has(ml.node)) res.setRef(ml.node);
      return;
    }
    const { cookie_hi, cookie_lo, list } = ml;
    if (ml.node === dlm.node_num) {
      const lock = res.locks().find((l) => l.hasCookie(cookie_hi, cookie_lo));
      if (lock === undefined) dlm.die(`${res.name}: the old master sends a lock of ours that we do not know`);
      else if (lock.list === list) res.moveTail(lock, list);
      continue;
    }
    // It has died since the locks were sent, or its death is not known yet where they came from: what it had here was freed already.
    if (!dlm.domain_map.has(ml.node)) {
      if (awaitsRecovery(dlm, ml.node)) res.state |= RES_RECOVERY_WAITING;
      continue;
    }
    // The recovery master asked twice. Nothing has changed since: it recovers there, too.
    if (res.find(list, cookie_hi, cookie_lo) !== null) continue;
    const lock = new DlmLock(res.name, ml.node, ml.type, cookie_hi, cookie_lo, null);
    lock.res = res;
    lock.convert_type = ml.convert_type;
    lock.flags = ml.flags & (LOCK_PUT_LVB | LOCK_GET_LVB);
    if (ml.type !== LKM_NLMODE && list !== LIST_BLOCKED && !takeLvb(res, lock, m.lvb)) {
      dlm.die(`${res.name}: node ${ml.node} sends another LVB than is known`);
      return;
    }
    // A conversion downwards goes first: it waits for nothing.
    if (m.flags & DLM_MRES_RECOVERY && list === LIST_CONVERTING && lock.type > lock.convert_type)
      res.addHead(lock, LIST_CONVERTING);
    else res.addTail(lock, list);
    res.setRef(ml.node);
  }
}

function takeLvb(res: DlmLockRes, lock: DlmLock, lvb: Uint8Array): boolean {
  if (lvb.every((b) => b === 0)) return true;
  if (lock.flags & LOCK_PUT_LVB) lvbOf(lock).set(lvb);
  else if (!lvbIsEmpty(res)) {
    // Without a wish to put one, the sender tells what it has read.
    const known = lvbOf(res);
    if (lock.type === LKM_EXMODE || !known.every((b, i) => b === lvb[i])) return false;
  }
  lvbOf(res).set(lvb.subarray(0, DLM_LVB_LEN));
  return true;
}
