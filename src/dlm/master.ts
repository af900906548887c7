/**
 * Who masters a lock resource (dlmmaster.c): the first node that needs one asks every other member; without an objection it asserts
 * itself. Of several that ask at the same time the lowest number wins, the others hear its assertion.
 */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmMasterRequery, DlmMasterRequest } from "../format/wire/dlm.ts";
import {
  DLM_ASSERT_MASTER_MLE_CLEANUP,
  DLM_ASSERT_MASTER_REQUERY,
  DLM_LOCKID_NAME_MAX,
  DLM_MASTER_RESP_ERROR,
  DLM_MASTER_RESP_MAYBE,
  DLM_MASTER_RESP_NO,
  DLM_MASTER_RESP_YES,
  DLM_STATUS,
  LKM_LOCAL,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { assertFirst, assertMaster, dispatchAssertMaster } from "./assert_master.ts";
import { type Dlm, isHostDown, NO_NODE, nameAt, putName } from "./dlm.ts";
import { isRecoveryLock, NODE_DEATH_WAIT_MS } from "./lock.ts";
import {
  DlmLockRes,
  OWNER_UNKNOWN,
  RES_BUSY,
  RES_DROPPING_REF,
  RES_IN_PROGRESS,
  RES_MIGRATING,
  RES_RECOVERING,
} from "./lockres.ts";
import { detachMle, insertMle, Mle, putMle, putOwed } from "./mle.ts";
import { isNodeDead, kickRecovery, waitForNodeDeath, waitForNodeRecovery, waitForRecovery } from "./recovery_wait.ts";
import { Waiters } from "./waiters.ts";

const MASTERY_TIMEOUT_MS = 5000;

/** __dlm_wait_on_lockres_flags. */
export function* waitOnLockres(dlm: Dlm, res: DlmLockRes, flags: number): Task<void> {
  while (res.state & flags) yield* dlm.sleepOn((res.extra.wq ??= new Waiters()));
}

export function dropInflightRef(dlm: Dlm, res: DlmLockRes): void {
  assert(res.inflight_locks > 0, `${res.name}: no request is in flight`);
  res.inflight_locks--;
  dlm.wakeRes(res);
}

/**
 * The resource of a name, pinned, if no other node has to be heard: it is known here and its master too, or there are no others.
 * Null: getLockResource.
 */
export function tryGetLockResource(dlm: Dlm, name: string, flags: number): DlmLockRes | null {
  const found = dlm.lockres.get(name);
  if (found !== undefined) {
    if (found.owner === OWNER_UNKNOWN || found.state & RES_DROPPING_REF) return null;
    found.inflight_locks++;
    return found;
  }
  if (!(flags & LKM_LOCAL ? dlm.mles.size === 0 || !dlm.mles.has(name) : dlm.alone)) return null;
  const res = new DlmLockRes(name, 0);
  res.owner = dlm.node_num;
  res.inflight_locks = 1;
  dlm.lockres.insert(res);
  return res;
}

/** dlm_get_lock_resource: the resource of a name, pinned; its master is known. */
export function* getLockResource(dlm: Dlm, name: string, flags: number): Task<DlmLockRes> {
  for (;;) {
    const ready = tryGetLockResource(dlm, name, flags);
    if (ready !== null) return ready;
    const found = dlm.lockres.get(name);
    if (found !== undefined) {
      // Somebody finds its master, or drops it.
      assert(found.state & (RES_BUSY | RES_DROPPING_REF), `${name}: no master, and nobody looks for one`);
      yield* waitOnLockres(dlm, found, found.owner === OWNER_UNKNOWN ? RES_BUSY : RES_DROPPING_REF);
      continue;
    }
    const block = dlm.mles.get(name);
    if (block !== undefined) {
      assert(block.type !== "master", `${name}: mastery is asked for, but there is no resource`);
      if (block.type === "migration" || block.master !== NO_NODE) {
        // Too late: that master has no reference for us. It will be gone from the list in a moment.
        yield* dlm.sleep(10);
        continue;
      }
      block.refs++;
    }
    const res = yield* findMaster(dlm, name, block);
    if (res !== null) return res;
  }
}

function* findMaster(dlm: Dlm, name: string, block: Mle | undefined): Task<DlmLockRes | null> {
  const mle = block ?? new Mle(dlm, "master", name);
  let wait_on_recovery = false;
  if (block === undefined) {
    mle.maybe_map.set(dlm.node_num);
    insertMle(dlm, mle);
    // The dead are not asked, but one of them might be the master.
    wait_on_recovery = !dlm.recovery_map.empty;
  }
  const res = new DlmLockRes(name, RES_IN_PROGRESS);
  res.inflight_locks = 1;
  dlm.lockres.insert(res);
  mle.refs++;
  mle.inuse++;
  let blocked = block !== undefined;
  for (;;) {
    if (wait_on_recovery) yield* waitForTheDead(dlm, res);
    wait_on_recovery = true;
    if (!blocked) yield* askAll(dlm, res, mle);
    const outcome = yield* waitForMastery(dlm, res, mle, blocked);
    if (outcome === "done") break;
    if (outcome === "dead") {
      putMle(dlm, mle);
      mle.inuse--;
      putMle(dlm, mle);
      res.inflight_locks--;
      res.state &= ~RES_IN_PROGRESS;
      dlm.lockres.remove(res);
      dlm.wakeRes(res);
      return null;
    }
    blocked = outcome === "blocked";
  }
  assert(res.owner !== OWNER_UNKNOWN, `${name}: mastery without a master`);
  detachMle(dlm, mle);
  // One that began as a BLOCK, and was taken over: no assertion comes to take it away, and whoever asks later would wait for ours.
  putOwed(dlm, mle);
  putMle(dlm, mle);
  mle.inuse--;
  putMle(dlm, mle);
  res.state &= ~RES_IN_PROGRESS;
  dlm.wakeRes(res);
  return res;
}

/** Until no node awaits recovery; the recovery lock itself need only be free of the dead. */
function* waitForTheDead(dlm: Dlm, res: DlmLockRes): Task<void> {
  if (isRecoveryLock(res.name)) {
    while (!(yield* preMasterReco(dlm, res))) yield* dlm.sleep(500);
    return;
  }
  while (!dlm.recovery_map.empty) {
    kickRecovery(dlm);
    yield* dlm.sleep(50);
    yield* waitForRecovery(dlm);
    const dead = dlm.recovery_map.first;
    if (dead !== NO_NODE) yield* waitForNodeRecovery(dlm, dead, 1000);
  }
}

/** One after the other, from the lowest: so all that are blocked by us are, before the master hears of us and clears them. */
function* askAll(dlm: Dlm, res: DlmLockRes, mle: Mle): Task<void> {
  for (const node of mle.vote_map.copy()) {
    yield* askOne(dlm, res, mle, node);
    if (mle.master !== NO_NODE && mle.master <= node) return;
  }
}

/** dlm_do_master_request. False: the node is gone. */
function* askOne(dlm: Dlm, res: DlmLockRes, mle: Mle, node: NodeNum): Task<boolean> {
  const m = DlmMasterRequest.alloc();
  m.node_idx = dlm.node_num;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  for (;;) {
    const { err, status } = yield* wait(dlm.call(DLM_MSG.MASTER_REQUEST, m.bytes(), node));
    if (err < 0) {
      mlog(ML.DLM_MASTER, `${res.name}: MASTER_REQUEST to node ${node}: error ${err}`);
      if (!isHostDown(err)) dlm.die(`${res.name}: MASTER_REQUEST failed with ${err}`);
      return false;
    }
    switch (status) {
      case DLM_MASTER_RESP_YES:
        mle.response_map.set(node);
        mle.master = node;
        mle.said_yes = node;
        return true;
      case DLM_MASTER_RESP_MAYBE:
        mle.maybe_map.set(node);
        mle.response_map.set(node);
        return true;
      case DLM_MASTER_RESP_NO:
        mle.response_map.set(node);
        return true;
      case DLM_MASTER_RESP_ERROR:
        yield* dlm.sleep(50);
        break;
      default:
        dlm.die(`${res.name}: node ${node} answers MASTER_REQUEST with ${status}`);
    }
  }
}

/** "dead": the recovery lock was mastered by a node that died since; nobody recovers it, so all begins again. */
type Outcome = "done" | "blocked" | "again" | "dead";

/** dlm_wait_for_lock_mastery. */
function* waitForMastery(dlm: Dlm, res: DlmLockRes, mle: Mle, blocked: boolean): Task<Outcome> {
  for (;;) {
    if (res.owner !== OWNER_UNKNOWN) {
      if (isRecoveryLock(res.name) && res.owner !== dlm.node_num && isNodeDead(dlm, res.owner)) return "dead";
      // Its assertion came first: ask it, so that it asserts again to those that our requests have blocked.
      if (res.owner !== dlm.node_num && mle.said_yes !== res.owner && !(yield* askOne(dlm, res, mle, res.owner))) {
        yield* dlm.sleep(500);
        continue;
      }
      // It came to us by recovery. Those that our requests have blocked would wait for ever (as they do for a kernel node).
      if (res.owner === dlm.node_num) dispatchAssertMaster(dlm, res, DLM_ASSERT_MASTER_MLE_CLEANUP);
      return "done";
    }
    if (mle.died || !mle.vote_map.equals(mle.node_map)) {
      restartMastery(dlm, mle);
      return mle.type === "block" ? "blocked" : "again";
    }
    if (mle.master === NO_NODE && !blocked && mle.vote_map.equals(mle.response_map)) {
      if (dlm.node_num <= mle.maybe_map.first) {
        mle.master = dlm.node_num;
        // Whoever dies on the way needs no assertion. Nobody objects any more, so what was asked for here does not wait for the others'
        // answers, as it does in the kernel; who of them wants it too waits for the assertion.
        if (isRecoveryLock(res.name)) yield* assertMaster(dlm, res, mle.vote_map, 0);
        else assertFirst(dlm, res, mle.vote_map.copy());
        res.owner = dlm.node_num;
        return "done";
      }
    } else if (mle.master !== NO_NODE) {
      res.owner = mle.master;
      return "done";
    }
    mle.woken = false;
    yield* dlm.sleepOn(mle.wq, MASTERY_TIMEOUT_MS);
    if (blocked && !mle.woken && !(yield* askWhoBlocks(dlm, res, mle))) {
      takeOver(dlm, mle);
      return "again";
    }
  }
}

/**
 * Somebody asked for the mastery before us, and no assertion has come for long. The master may not have reached us and died since, and who has
 * the resource from it knows nothing of us (a kernel node would wait for ever). A master that is asked asserts again. False: who asked does not
 * know of one, nor does anybody else.
 */
function* askWhoBlocks(dlm: Dlm, res: DlmLockRes, mle: Mle): Task<boolean> {
  const others = [...dlm.domain_map].filter((node) => !mle.maybe_map.has(node));
  for (const node of [...mle.maybe_map, ...others]) {
    if (mle.woken || res.owner !== OWNER_UNKNOWN) return true;
    if (node === dlm.node_num || !dlm.domain_map.has(node)) continue;
    const master = yield* masterRequery(dlm, res, node);
    if (master === node) return true;
    if (master === null || master === dlm.node_num || !dlm.domain_map.has(master)) continue;
    if ((yield* masterRequery(dlm, res, master)) === master) return true;
  }
  return mle.woken || res.owner !== OWNER_UNKNOWN || isRecoveryLock(res.name);
}

/** Nobody is left who will assert. Should somebody still be asking, we are two who ask at the same time. */
function takeOver(dlm: Dlm, mle: Mle): void {
  mle.type = "master";
  mle.response_map.zero();
  mle.maybe_map.zero();
  mle.maybe_map.set(dlm.node_num);
}

/** dlm_restart_lock_mastery: members came or went. */
function restartMastery(dlm: Dlm, mle: Mle): void {
  for (const node of mle.node_map) {
    if (mle.vote_map.has(node)) continue;
    mle.response_map.clear(node);
    mle.vote_map.set(node);
  }
  if (!mle.died) return;
  mle.died = false;
  mle.response_map.zero();
  mle.vote_map.copyFrom(mle.node_map);
  if (mle.type === "block") {
    // Somebody is left who will assert. The kernel forgets who, and after the next death waits for ever.
    if (!mle.maybe_map.empty) return;
  }
  takeOver(dlm, mle);
}

/** dlm_pre_master_reco_lockres: true when nobody takes a dead node for the master of the recovery lock any more. */
function* preMasterReco(dlm: Dlm, res: DlmLockRes): Task<boolean> {
  for (const node of dlm.domain_map.copy()) {
    if (node === dlm.node_num) continue;
    const master = yield* masterRequery(dlm, res, node);
    if (master === null || master === OWNER_UNKNOWN) continue;
    if (dlm.recovery_map.has(master)) return false;
    return true;
  }
  return true;
}

/** dlm_do_master_requery: who masters `res`, as `node` knows it; null if it cannot be reached. */
export function* masterRequery(dlm: Dlm, res: DlmLockRes, node: NodeNum): Task<NodeNum | null> {
  const m = DlmMasterRequery.alloc();
  m.node_idx = dlm.node_num;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  for (;;) {
    const { err, status } = yield* wait(dlm.call(DLM_MSG.MASTER_REQUERY, m.bytes(), node));
    if (err < 0) {
      if (!isHostDown(err)) dlm.die(`${res.name}: MASTER_REQUERY failed with ${err}`);
      return null;
    }
    if (status >= 0 && status <= OWNER_UNKNOWN) return status;
    yield* dlm.sleep(50);
  }
}

/**
 * Whether `node` masters `res`. It says so when all have heard it, if it is being given the resource; and it may be dead, which is waited for if it cannot be
 * reached: then it does not.
 */
export function* isMaster(dlm: Dlm, res: DlmLockRes, node: NodeNum): Task<boolean> {
  while (dlm.domain_map.has(node)) {
    const master = yield* masterRequery(dlm, res, node);
    if (master !== null) return master === node;
    yield* waitForNodeDeath(dlm, node, NODE_DEATH_WAIT_MS);
  }
  return false;
}

/** dlm_master_requery_handler. */
export function masterRequeryHandler(dlm: Dlm, m: ViewOf<typeof DlmMasterRequery>, payload: Uint8Array): number {
  if (m.namelen > DLM_LOCKID_NAME_MAX) return OWNER_UNKNOWN;
  const res = dlm.lockres.get(nameAt(payload, DlmMasterRequery.fields.name.off, m.namelen));
  if (res === undefined || res.state & RES_DROPPING_REF) return OWNER_UNKNOWN;
  if (res.owner === dlm.node_num) {
    // Whose it is to be shows when all have heard it, or one of the two has died: ask again.
    if (res.state & RES_MIGRATING) return -Errno.ENOMEM;
    // It is just coming here: who asks has sent nothing of it yet. (The kernel says that it has it, which stops one or the other.)
    if (res.state & RES_RECOVERING) return OWNER_UNKNOWN;
    dispatchAssertMaster(dlm, res, DLM_ASSERT_MASTER_REQUERY);
  }
  return res.owner;
}

/** dlm_master_request_handler. */
export function masterRequestHandler(dlm: Dlm, m: ViewOf<typeof DlmMasterRequest>, payload: Uint8Array): number {
  if (!dlm.fully_joined) return DLM_MASTER_RESP_NO;
  if (m.namelen > DLM_LOCKID_NAME_MAX) return DLM_STATUS.IVBUFLEN;
  const name = nameAt(payload, DlmMasterRequest.fields.name.off, m.namelen);
  const from = m.node_idx;
  const res = dlm.lockres.get(name);
  if (res !== undefined && !(res.state & RES_DROPPING_REF)) return answerForResource(dlm, res, from);
  const mle = dlm.mles.get(name);
  if (mle === undefined) {
    const block = new Mle(dlm, "block", name);
    block.maybe_map.set(from);
    insertMle(dlm, block);
    return DLM_MASTER_RESP_NO;
  }
  mle.maybe_map.set(from);
  return mle.type === "master" ? DLM_MASTER_RESP_MAYBE : DLM_MASTER_RESP_NO;
}

function answerForResource(dlm: Dlm, res: DlmLockRes, from: NodeNum): number {
  if (res.state & (RES_RECOVERING | RES_MIGRATING)) return DLM_MASTER_RESP_ERROR;
  if (res.owner === dlm.node_num) return answerYes(dlm, res, from);
  if (res.owner !== OWNER_UNKNOWN) return DLM_MASTER_RESP_NO;
  const mle = dlm.mles.get(res.name);
  if (mle === undefined) {
    mlog(ML.ERROR, `${res.name}: no master, and nobody looks for one`);
    return DLM_MASTER_RESP_ERROR;
  }
  if (mle.type !== "master") {
    mle.maybe_map.set(from);
    return DLM_MASTER_RESP_NO;
  }
  if (mle.master === NO_NODE) {
    mle.maybe_map.set(from);
    return DLM_MASTER_RESP_MAYBE;
  }
  return mle.master === dlm.node_num ? answerYes(dlm, res, from) : DLM_MASTER_RESP_NO;
}

/** The one who asked has blocked every node below us on its way here: they hear from us. */
function answerYes(dlm: Dlm, res: DlmLockRes, from: NodeNum): number {
  if (mlogOn(ML.DLM_MASTER)) mlog(ML.DLM_MASTER, `${res.name}: node ${from} has a reference`);
  res.setRef(from);
  dispatchAssertMaster(dlm, res, DLM_ASSERT_MASTER_MLE_CLEANUP, from);
  return DLM_MASTER_RESP_YES;
}
