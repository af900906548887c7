/**
 * Recovery of a dead member (dlmrecovery.c), one at a time for the whole domain. Whoever gets the lock `$RECOVERY` becomes the recovery
 * master: it tells all (BEGIN_RECO), asks each for what it knows of the dead node's resources (LOCK_REQUEST, answered with MIG_LOCKRES for
 * each, then RECO_DATA_DONE), takes them all over, and says so (FINALIZE_RECO, twice: after the first all have the new master's
 * name, after the second the next recovery may begin). If it dies itself, the next one starts over.
 */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmBeginReco, DlmFinalizeReco, DlmLockRequest, DlmRecoDataDone } from "../format/wire/dlm.ts";
import {
  DLM_FINALIZE_STAGE2,
  DLM_MRES_RECOVERY,
  DLM_STATUS,
  dlmStatusName,
  LKM_CANCEL,
  LKM_EXMODE,
  LKM_NLMODE,
  LKM_NOQUEUE,
  LKM_RECOVERY,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { all, asThunk, inBatches, type Task, type Thunk, wait } from "../lib/task.ts";
import {
  cleanRecoveryLock,
  commitPending,
  heardNewMaster,
  nodeDown,
  resetRecovery,
  takeOffRecoveryList,
} from "./cleanup.ts";
import { type Dlm, isHostDown, NO_NODE, RECO_ACTIVE, RECO_FINALIZE } from "./dlm.ts";
import { dlmlock, isRecoveryLock, newLock, RECOVERY_LOCK_NAME } from "./lock.ts";
import {
  type DlmLock,
  type DlmLockRes,
  LIST_BLOCKED,
  LOCK_CANCELLING,
  OWNER_UNKNOWN,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
} from "./lockres.ts";
import { lvbCopy, lvbIsEmpty } from "./lvb.ts";
import { isMaster } from "./master.ts";
import { findRealMaster, sendOneLockres } from "./mig_lockres.ts";
import { endBlock } from "./mle.ts";
import { NodeMap } from "./node_map.ts";
import { isNodeDead, kickRecovery, waitForNodeDeath } from "./recovery_wait.ts";
import { calcUsage, dirtyLockres } from "./thread.ts";
import { dlmunlock } from "./unlock.ts";

const THREAD_TIMEOUT_MS = 5000;
/** MIG_LOCKRES messages under way at a time. */
const WINDOW = 64;

/** dlm_recovery_thread: runs as long as the domain does. */
export function* recoveryThread(dlm: Dlm): Task<void> {
  for (;;) {
    if (dlm.fully_joined && (yield* doRecovery(dlm))) continue;
    const idle = dlm.reco.dead_node === NO_NODE && dlm.recovery_map.empty;
    yield* dlm.sleepOn(dlm.reco_thread_wq, idle ? undefined : THREAD_TIMEOUT_MS);
  }
}

/** dlm_do_recovery. True: look again at once. */
function* doRecovery(dlm: Dlm): Task<boolean> {
  const { reco } = dlm;
  if (dlm.migrate_done) return false;
  if (reco.new_master !== NO_NODE && dlm.recovery_map.has(reco.new_master)) {
    mlog(ML.NOTICE, `${dlm.name}: recovery master ${reco.new_master} died while recovering node ${reco.dead_node}`);
    reco.new_master = NO_NODE;
  }
  if (reco.dead_node === NO_NODE || !dlm.recovery_map.has(reco.dead_node)) reco.dead_node = dlm.recovery_map.first;
  if (reco.dead_node === NO_NODE) return false;

  reco.state |= RECO_ACTIVE;
  if (reco.new_master === NO_NODE && (yield* pickMaster(dlm))) reco.new_master = dlm.node_num;
  if (reco.new_master !== dlm.node_num) {
    // All that the dead mastered has been marked: requests may go on.
    endRecovery(dlm);
    return false;
  }
  mlog(
    ML.NOTICE,
    `${dlm.name}: this node, ${dlm.node_num}, is the recovery master for the dead node ${reco.dead_node}`,
  );
  yield* remasterLocks(dlm, reco.dead_node);
  resetRecovery(dlm);
  reco.state &= ~RECO_FINALIZE;
  endRecovery(dlm);
  return true;
}

function endRecovery(dlm: Dlm): void {
  dlm.reco.state &= ~RECO_ACTIVE;
  dlm.wake(dlm.reco.event);
}

// Who masters the recovery ---------------------------------------------------------------------------------------------

/** dlm_pick_recovery_master: true if this node is to do it; false when another has said that it will. */
function* pickMaster(dlm: Dlm): Task<boolean> {
  const { reco } = dlm;
  for (;;) {
    const lock = newLock(dlm, RECOVERY_LOCK_NAME, { ast() {}, bast() {} });
    const status = yield* wait(thunkOf((done) => dlmlock(dlm, lock, LKM_EXMODE, LKM_NOQUEUE | LKM_RECOVERY, done)));
    if (status === DLM_STATUS.NORMAL) {
      const mine = reco.new_master === NO_NODE && reco.dead_node !== NO_NODE;
      if (mine) {
        yield* sendBeginReco(dlm, reco.dead_node);
        reco.new_master = dlm.node_num;
      }
      yield* dropRecoveryLock(dlm, lock);
      return mine;
    }
    if (status === DLM_STATUS.NOTQUEUED) {
      yield* dlm.sleepOn(dlm.reco_thread_wq, 1000);
      if (reco.new_master !== NO_NODE || reco.dead_node === NO_NODE) return false;
    } else if (status !== DLM_STATUS.RECOVERING) {
      dlm.die(`the recovery lock is refused with ${dlmStatusName(status)}`);
    }
  }
}

function thunkOf(start: (done: (status: number) => void) => void): Thunk<number> {
  return (cb) => start((status) => cb(null, status));
}

function* dropRecoveryLock(dlm: Dlm, lock: ReturnType<typeof newLock>): Task<void> {
  if (lock.res === null) return;
  const status = yield* wait(thunkOf((done) => dlmunlock(dlm, lock, 0, done)));
  if (status !== DLM_STATUS.DENIED) return;
  lock.flags |= LOCK_CANCELLING;
  yield* wait(thunkOf((done) => dlmunlock(dlm, lock, LKM_CANCEL, done)));
}

/** dlm_send_begin_reco_message. */
function* sendBeginReco(dlm: Dlm, dead: NodeNum): Task<void> {
  const m = DlmBeginReco.alloc();
  m.node_idx = dlm.node_num;
  m.dead_node = dead;
  for (const node of dlm.domain_map.copy()) {
    if (node === dlm.node_num || node === dead) continue;
    for (;;) {
      const { err, status } = yield* wait(dlm.call(DLM_MSG.BEGIN_RECO, m.bytes(), node));
      const ret = err < 0 ? err : status;
      // Older kernels answer with EAGAIN and not -EAGAIN. Anything else that is negative is asked again, too.
      if (isHostDown(ret) || (ret >= 0 && ret !== Errno.EAGAIN)) break;
      yield* dlm.sleep(100);
    }
  }
}

/** dlm_begin_reco_handler. */
export function beginRecoHandler(dlm: Dlm, m: ViewOf<typeof DlmBeginReco>): number {
  const { reco } = dlm;
  // The last recovery is not quite over.
  if (reco.state & RECO_FINALIZE) return -Errno.EAGAIN;
  const { node_idx, dead_node: dead } = m;
  // The kernel takes these, and forgets itself.
  if (dead === dlm.node_num || dead >= NO_NODE || node_idx >= NO_NODE || node_idx === dlm.node_num)
    return -Errno.EINVAL;
  // Who has seen it die has been told.
  if (!dlm.recovery_map.has(dead)) dlm.onEviction(dead);
  if (reco.dead_node !== NO_NODE && reco.dead_node !== dead)
    mlog(ML.NOTICE, `${dlm.name}: node ${node_idx} recovers node ${dead} before node ${reco.dead_node}`);
  reco.new_master = node_idx;
  reco.dead_node = dead;
  if (!dlm.recovery_map.has(dead)) {
    // Our heartbeat has not noticed yet.
    dlm.domain_map.set(dead);
    dlm.live_nodes_map.set(dead);
    nodeDown(dlm, dead);
  }
  kickRecovery(dlm);
  return 0;
}

// At the recovery master -----------------------------------------------------------------------------------------------

/**
 * dlm_remaster_locks. All are to know of the same deaths when they send what they have: of a resource with two masters that are dead, in a migration, some have heard
 * of the one, some of the other, and it is this recovery's for all or for none. So who dies meanwhile is made known, and all is asked for again.
 */
function* remasterLocks(dlm: Dlm, dead: NodeNum): Task<void> {
  const { reco } = dlm;
  const known = NodeMap.of([dead]);
  do {
    if (!known.equals(dlm.recovery_map)) {
      known.copyFrom(dlm.recovery_map);
      for (const node of known) if (node !== dead) yield* sendBeginReco(dlm, node);
      yield* sendBeginReco(dlm, dead);
    }
    yield* gatherLocks(dlm, dead);
  } while (!known.equals(dlm.recovery_map));
  reco.state |= RECO_FINALIZE;
  yield* sendFinalize(dlm, dead);
  finishLocalRecovery(dlm, dead, dlm.node_num);
  reco.node_data.clear();
}

/** All that the members have of what `dead` had. */
function* gatherLocks(dlm: Dlm, dead: NodeNum): Task<void> {
  const { reco } = dlm;
  yield* askOldMasters(dlm, dead);
  yield* askForMasters(dlm, dead);
  reco.node_data.clear();
  for (const node of dlm.domain_map) reco.node_data.set(node, "init");
  for (const node of [...reco.node_data.keys()]) {
    if (node === dlm.node_num) {
      reco.node_data.set(node, "done");
      continue;
    }
    reco.node_data.set(node, "requesting");
    yield* requestAllLocks(dlm, node, dead);
    if (reco.node_data.get(node) === "requesting") reco.node_data.set(node, "requested");
  }
  for (;;) {
    let done = true;
    for (const [node, state] of reco.node_data) {
      // Whoever died meanwhile sends nothing more.
      if (state !== "dead" && state !== "done" && isNodeDead(dlm, node)) reco.node_data.set(node, "dead");
      else if (state === "requested" || state === "receiving") done = false;
    }
    if (done) break;
    yield* dlm.sleepOn(dlm.reco_thread_wq, THREAD_TIMEOUT_MS);
  }
  // What came is to be worked in before it is opened. Assertions wait until then.
  yield* dlm.flushQueue();
}

/**
 * A node that was being given resources has died, perhaps before the old master heard of it, which then has them still: all that it gave to the dead node it is
 * asked for. (The kernel recovers them, and there are two masters.)
 */
function* askOldMasters(dlm: Dlm, dead: NodeNum): Task<void> {
  const { reco } = dlm;
  const asked = [...reco.given].filter(([res]) => res.owner === dead && res.state & RES_RECOVERING);
  yield* inBatches(asked, WINDOW, function* ([res, old]): Task<void> {
    const has = yield* isMaster(dlm, res, old);
    if (res.owner !== dead || !(res.state & RES_RECOVERING)) return;
    if (has) {
      takeOffRecoveryList(dlm, res, old);
      dlm.wakeRes(res);
    } else if (dlm.domain_map.has(old)) reco.given.delete(res);
  });
}

/** Of what `dead` was giving away, and this node does not know who has it now, as of what others send and do not know. (The kernel leaves it to the new master.) */
function* askForMasters(dlm: Dlm, dead: NodeNum): Task<void> {
  const { unknown } = dlm.reco;
  const open = (res: DlmLockRes): boolean => res.owner === OWNER_UNKNOWN && unknown.get(res) === dead;
  const asked = [...unknown.keys()].filter(open);
  yield* inBatches(asked, WINDOW, function* (res): Task<void> {
    const real = yield* findRealMaster(dlm, res);
    if (real === OWNER_UNKNOWN || !open(res)) return;
    heardNewMaster(dlm, res, real);
    dlm.wakeRes(res);
  });
}

/** dlm_request_all_locks, until the node has taken the request or is gone. (The kernel goes on without one that it cannot reach for a second, and holds locks still.) */
function* requestAllLocks(dlm: Dlm, node: NodeNum, dead: NodeNum): Task<void> {
  const m = DlmLockRequest.alloc();
  m.node_idx = dlm.node_num;
  m.dead_node = dead;
  for (;;) {
    const { err, status } = yield* wait(dlm.call(DLM_MSG.LOCK_REQUEST, m.bytes(), node));
    const ret = err < 0 ? err : status;
    if (ret >= 0) return;
    if (isHostDown(ret)) yield* waitForNodeDeath(dlm, node, 1000);
    if (isNodeDead(dlm, node)) return;
    yield* dlm.sleep(100);
  }
}

/** dlm_reco_data_done_handler. */
export function recoDataDoneHandler(dlm: Dlm, m: ViewOf<typeof DlmRecoDataDone>): number {
  const { reco } = dlm;
  const state = reco.node_data.get(m.node_idx);
  // Another recovery than ours: the kernel stops.
  if (m.dead_node !== reco.dead_node || state === undefined) {
    mlog(ML.ERROR, `${dlm.name}: node ${m.node_idx} has sent all of node ${m.dead_node}, which nobody asked for`);
    return -Errno.EINVAL;
  }
  if (state !== "dead" && state !== "init") reco.node_data.set(m.node_idx, "done");
  kickRecovery(dlm);
  return 0;
}

/** dlm_send_finalize_reco_message. */
function* sendFinalize(dlm: Dlm, dead: NodeNum): Task<void> {
  const nodes = dlm.domain_map.copy();
  const m = DlmFinalizeReco.alloc();
  m.node_idx = dlm.node_num;
  m.dead_node = dead;
  for (const flags of [0, DLM_FINALIZE_STAGE2]) {
    m.flags = flags;
    for (const node of nodes) {
      if (node === dlm.node_num) continue;
      const { err, status } = yield* wait(dlm.call(DLM_MSG.FINALIZE_RECO, m.bytes(), node));
      if (err < 0 || status < 0)
        mlog(ML.DLM_RECOVERY, `${dlm.name}: FINALIZE_RECO to node ${node}: error ${err}, status ${status}`);
    }
  }
}

// At the others --------------------------------------------------------------------------------------------------------

/** dlm_request_all_locks_handler. */
export function lockRequestHandler(dlm: Dlm, m: ViewOf<typeof DlmLockRequest>): number {
  const { node_idx: master, dead_node: dead } = m;
  // "This is a hack": it will ask again.
  if (dead !== dlm.reco.dead_node) return -Errno.ENOMEM;
  if (master >= NO_NODE || master === dlm.node_num) return -Errno.EINVAL;
  dlm.queueWork(() => sendAllLocks(dlm, master, dead));
  return 0;
}

/** dlm_request_all_locks_worker. */
function* sendAllLocks(dlm: Dlm, master: NodeNum, dead: NodeNum): Task<void> {
  const { reco } = dlm;
  if (dead !== reco.dead_node || master !== reco.new_master) return;
  yield* askOldMasters(dlm, dead);
  const send: DlmLockRes[] = [];
  for (const res of reco.resources) {
    if (isRecoveryLock(res.name)) cleanRecoveryLock(dlm, res, dead);
    else if (isOf(dlm, res, dead) || reco.origin.get(res) === dead) {
      commitPending(res);
      send.push(res);
    }
  }
  for (let i = 0; i < send.length; i += WINDOW) {
    const answers = yield* all(
      send.slice(i, i + WINDOW).map((res) => asThunk(() => sendForRecovery(dlm, res, master, dead))),
    );
    // The recovery master is dead: the next one will ask.
    if (answers.some((ret) => ret < 0)) return;
  }
  const m = DlmRecoDataDone.alloc();
  m.node_idx = dlm.node_num;
  m.dead_node = dead;
  const { err, status } = yield* wait(dlm.call(DLM_MSG.RECO_DATA_DONE, m.bytes(), master));
  if (err < 0 || status < 0)
    mlog(ML.DLM_RECOVERY, `${dlm.name}: RECO_DATA_DONE to node ${master}: error ${err}, status ${status}`);
}

/** The recovery master refuses what it is just forgetting, as another has it, and that will tell us so. (A kernel node stops sending, and the recovery never ends.) */
function* sendForRecovery(dlm: Dlm, res: DlmLockRes, master: NodeNum, dead: NodeNum): Task<number> {
  const { reco } = dlm;
  while (res.state & RES_RECOVERING) {
    const ret = yield* sendOneLockres(dlm, res, master, DLM_MRES_RECOVERY);
    const over = isNodeDead(dlm, master) || reco.new_master !== master || reco.dead_node !== dead;
    if (ret !== -Errno.EINVAL || over) return ret;
    yield* dlm.sleep(100);
  }
  return 0;
}

/**
 * Whether the recovery of `dead` gives `res` a master. Not that of another node, which ends when an old master has just died in the middle of a migration:
 * its recovery master has not heard of it. If both masters of a migration are dead, it is that of the old one, for all: some have not heard of the new one.
 */
function isOf(dlm: Dlm, res: DlmLockRes, dead: NodeNum): boolean {
  const { unknown, given } = dlm.reco;
  if (res.owner === OWNER_UNKNOWN) return unknown.get(res) === dead;
  const old = given.get(res);
  return dead === (old !== undefined && dlm.recovery_map.has(old) ? old : res.owner);
}

/** dlm_finalize_reco_handler. What the kernel stops for is refused. */
export function finalizeRecoHandler(dlm: Dlm, m: ViewOf<typeof DlmFinalizeReco>): number {
  const { reco } = dlm;
  const { node_idx: master, dead_node: dead } = m;
  const second = (m.flags & DLM_FINALIZE_STAGE2) !== 0;
  if (reco.new_master !== master || reco.dead_node !== dead || second !== ((reco.state & RECO_FINALIZE) !== 0)) {
    mlog(
      ML.ERROR,
      `${dlm.name}: node ${master} has recovered node ${dead}, but here node ${reco.new_master} recovers node ${reco.dead_node}`,
    );
    return -Errno.EINVAL;
  }
  if (!second) {
    finishLocalRecovery(dlm, dead, master);
    reco.state |= RECO_FINALIZE;
  } else {
    reco.state &= ~RECO_FINALIZE;
    resetRecovery(dlm);
  }
  return 0;
}

/** dlm_finish_local_lockres_recovery: the resources have a master again. */
function finishLocalRecovery(dlm: Dlm, dead: NodeNum, new_master: NodeNum): void {
  mlog(ML.DLM_RECOVERY, `${dlm.name}: node ${new_master} has recovered node ${dead}`);
  const { origin } = dlm.reco;
  const was = new Map(origin);
  origin.clear();
  // What waits for another node that is dead goes on waiting. (The kernel opens it.)
  const last = [...dlm.recovery_map].every((node) => node === dead);
  for (const res of dlm.lockres) {
    let changed = false;
    if (last && res.state & RES_RECOVERY_WAITING) {
      res.state &= ~RES_RECOVERY_WAITING;
      changed = true;
    }
    const recovered = isOf(dlm, res, dead) || res.owner === dlm.node_num || was.get(res) === dead;
    if (res.state & RES_RECOVERING && recovered) {
      commitPending(res);
      if (new_master !== dlm.node_num) origin.set(res, dead);
      else {
        endBlock(dlm, res.name);
        keepLvb(dlm, res);
      }
      takeOffRecoveryList(dlm, res, new_master);
      changed = true;
    }
    if (!changed) continue;
    dirtyLockres(dlm, res);
    calcUsage(dlm, res);
    dlm.wakeRes(res);
  }
}

/** What this node knows at PR or EX is true, though nobody has sent it. */
function keepLvb(dlm: Dlm, res: DlmLockRes): void {
  if (!lvbIsEmpty(res)) return;
  const knows = (l: DlmLock): boolean =>
    l.node === dlm.node_num && l.list !== LIST_BLOCKED && l.type !== LKM_NLMODE && !lvbIsEmpty(l);
  const lock = res.locks().find(knows);
  if (lock !== undefined) lvbCopy(lock, res);
}
